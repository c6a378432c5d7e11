"""Notes which metrics are made of the records of a source, and from where on."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tapeworks._core import NONE, Records, TapeReader, dtype_descr, kind_of
from tapeworks.errors import TapeError
from tapeworks.metric_stretches import note_settings
from tapeworks.processors.base import received_before
from tapeworks.topics import NORMALIZED

log = logging.getLogger("tapeworks.processors")

# The newest event is among so many records, if those of the venue's history are not all of them.
LOOKED_AT = 1_024
AGE_NS_MAX = 86_400_000_000_000
_FIELDS: Mapping[str, Any] = np.dtype(dtype_descr("marker")).fields or {}
_HEAD_FIELDS = ("length", "kind", "ts_event")
# What all records have in common.
HEAD = np.dtype(
    {
        "names": list(_HEAD_FIELDS),
        "formats": [_FIELDS[name][0] for name in _HEAD_FIELDS],
        "offsets": [_FIELDS[name][1] for name in _HEAD_FIELDS],
    }
)
# What is of the host's clock, or of no time.
TIMELESS = tuple(map(kind_of, ("marker", "definition")))


def note_measured(
    data: Path, source: str, settings: Mapping[str, int | str | Sequence[int]], covered: int
) -> None:
    """Notes that metrics are made with `settings` from the record at `covered` on."""
    try:
        tape = data / "tape" / source / NORMALIZED
        note_settings(data, source, settings, covered, _newest_before(tape, covered))
    except (OSError, TapeError) as error:
        log.error("%s: which metrics are made from now on cannot be noted: %s", source, error)


def _newest_before(tape: Path, offset: int) -> int | None:
    """Returns the time of the newest event before `offset`, or when it was received, in ns."""
    received = received_before(tape, offset)
    reader = TapeReader(tape)
    at = max(offset - LOOKED_AT, reader.first)
    times: list[int] = []
    reader.seek(min(at, reader.end))
    while reader.position < offset:
        batch = reader.read(offset - reader.position)
        if batch is None:
            break
        times += _event_times(batch)
    newest = max(times, default=None)
    if newest is None or (received is not None and abs(received - newest) > AGE_NS_MAX):
        return received
    return newest


def _event_times(batch: Records) -> list[int]:
    data = np.frombuffer(memoryview(batch), np.uint8)
    found, at = [], 0
    while at < len(data):
        head = data[at : at + HEAD.itemsize].view(HEAD)[0]
        if head["kind"] not in TIMELESS and head["ts_event"] != NONE:
            found.append(int(head["ts_event"]))
        at += int(head["length"]) * 8
    return found
