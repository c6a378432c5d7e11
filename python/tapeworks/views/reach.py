"""Up to which instant a source was received, and up to which something was derived from it."""

from tapeworks._core import TapeReader
from tapeworks.views.stream import earliest
from tapeworks.views.tail import SourceTail

RECORDS = "market-data.normalized"


def newest_receipt(tail: SourceTail, topic: str = RECORDS) -> int | None:
    """Returns the newest receive time of a source's topic."""
    reader = tail.tape(topic)
    if reader is not None and reader.end > reader.first:
        return _time_at(reader, reader.end - 1)
    return tail.context(topic).get("ts")


def first_receipt(tail: SourceTail) -> int | None:
    """Returns the receive time of a source's first record, if no tape of before it was removed."""
    reader = tail.tape(RECORDS)
    return None if reader is None or reader.first > 0 else _time_at(reader, 0)


def derived_until(tail: SourceTail, topic: str) -> int | None:
    """Returns the receive time up to which `topic` was derived from all that was received."""
    derived, source = tail.tape(topic), tail.tape(RECORDS)
    if source is None or derived is None:
        return None
    covered = derived.covered
    if covered is None or covered < source.first:
        return None
    if covered >= source.end:
        newest = newest_receipt(tail)
        return None if newest is None else newest + 1
    return _time_at(source, covered)


def _time_at(reader: TapeReader, offset: int) -> int | None:
    reader.seek(offset)
    batch = reader.read(1)
    if batch is None or not len(batch):
        return None
    return earliest(batch)
