"""Gap markers of what was lost between a topic and a tape, as the core lays them out."""

from tapeworks._core import numbers
from tapeworks.processors.base import MARKER, MARKER_FIELDS

DEPTH = numbers("channel")["depth"]


def depth_gap(gap: bytes, instrument: int) -> bytes:
    """Returns the gap of one instrument's updates: its book is given up there."""
    values = dict(zip(MARKER_FIELDS, MARKER.unpack(gap), strict=True))
    values |= {"instrument": instrument, "channel": DEPTH}
    return MARKER.pack(*values.values())
