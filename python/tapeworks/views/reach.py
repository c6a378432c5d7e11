"""Up to which instant a source was received, and up to which something was derived from it."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from tapeworks._core import Records, TapeReader, dtype_descr, tells_news
from tapeworks.errors import TapeError, TapeRangeError
from tapeworks.topics import GAPS, NORMALIZED, RAW
from tapeworks.views.stream import earliest
from tapeworks.views.tail import SourceTail

NS_PER_S = 1_000_000_000
FEED_AT = np.dtype(dtype_descr("marker")).fields["feed"][1]  # type: ignore[index]
RUNS_S = 60.0
"""A derivation notes each second how far it is; one that did not for so long runs no more."""


@dataclass(frozen=True)
class Waiting:
    """Raw frames that were received and are in no table yet."""

    frames: int
    ts_from: int | None
    """When the first of them was received; none if it cannot be read."""
    ts_last: int | None


@dataclass(frozen=True)
class Unknown:
    """What of a recording is not known yet."""

    after: int | None
    """The receive time up to which gaps are known; none means that nothing is."""
    until: int | None
    """The newest receive time."""
    frames: int
    """Raw frames that are in no table yet."""


def waiting_frames(raw: TapeReader | None, records: TapeReader | None) -> Waiting | None:
    """Returns what the raw tape holds behind all that the normalized tape was made of."""
    if raw is None:
        return None
    # The end first: what is covered meanwhile may only make less of it.
    end = raw.end
    covered = 0
    if records is not None and records.end:
        if records.covered is None:
            return None
        covered = records.covered
    first = max(covered, raw.first)
    if first >= end:
        return None
    return Waiting(end - first, _raw_time_at(raw, first), _raw_time_at(raw, end - 1))


def unknown_part(
    raw: TapeReader | None, records: TapeReader | None, ledger: TapeReader | None
) -> Unknown | None:
    """Returns from when on gaps are not known; none if all that was received is in the ledger."""
    waiting = waiting_frames(raw, records)
    frames, until = (0, None) if waiting is None else (waiting.frames, waiting.ts_last)
    if records is None or records.end <= records.first:
        return None if waiting is None else Unknown(None, until, frames)
    covered = (ledger and ledger.covered) or 0
    end = records.end
    if waiting is None and covered >= end:
        return None
    after = _time_at(records, min(max(covered, records.first), end - 1)) if covered else None
    return Unknown(after, _time_at(records, end - 1) if until is None else until, frames)


def unknown_at(tail: SourceTail, at: int) -> Unknown | None:
    """Returns from when on gaps are not known yet, where that is not after `at` in ns."""
    unknown = unknown_part(tail.tape(RAW), tail.tape(NORMALIZED), tail.tape(GAPS))
    if unknown is None or (unknown.after is not None and unknown.after > at):
        return None
    return unknown


def newest_receipt(tail: SourceTail, topic: str = NORMALIZED) -> int | None:
    """Returns the newest receive time of a source's topic."""
    reader = tail.tape(topic)
    if reader is not None and reader.end > reader.first:
        return _time_at(reader, reader.end - 1)
    return tail.context(topic).get("ts")


def first_receipt(tail: SourceTail) -> int | None:
    """Returns the receive time of a source's first record, if no tape of before it was removed."""
    reader = tail.tape(NORMALIZED)
    return None if reader is None or reader.first > 0 else _time_at(reader, 0)


def new_records(reader: TapeReader | None, most: int) -> Iterator[Records]:
    """Yields what is on a tape of records behind what was read of it; none: there is no tape.

    What retention took before it was looked at is passed over.
    """
    while reader is not None:
        try:
            records = reader.read(most)
        except TapeRangeError as error:
            reader.seek(error.first)
            continue
        if records is None:
            return
        yield records


def may_tell_news(tail: SourceTail) -> bool:
    """Returns whether the venue of a source tells news, or it is not known which one that is."""
    try:
        return all(tells_news(feed) for feed in (_first_feed(tail, RAW), _first_feed(tail)) if feed)
    except (TapeError, OSError):
        return True


def _first_feed(tail: SourceTail, topic: str = NORMALIZED) -> int:
    """Returns the number of the feed of the first thing on a tape; 0: there is none."""
    reader = tail.tape(topic)
    if reader is None or reader.end <= reader.first:
        return 0
    reader.seek(reader.first)
    if topic == RAW:
        blobs = reader.read_blobs(1)
        return blobs[0].feed if blobs else 0
    batch = reader.read(1)
    return memoryview(batch)[FEED_AT] if batch is not None and len(batch) else 0


def derived_until(tail: SourceTail, topic: str) -> int | None:
    """Returns the receive time up to which `topic` was derived from all that was received."""
    derived, source = tail.tape(topic), tail.tape(NORMALIZED)
    if source is None or derived is None:
        return tail.known_until(topic)
    covered = derived.covered
    if covered is None or covered < source.first:
        return None
    if covered >= source.end:
        newest = newest_receipt(tail)
        return None if newest is None else newest + 1
    return _time_at(source, covered)


def is_yet_derived(tail: SourceTail, topic: str, end: int) -> bool:
    """Returns whether a derivation that runs has still to take what was received before `end`.

    A tape without news does not say how far it is, so it goes by what the derivation notes.
    """
    source = tail.tape(NORMALIZED)
    noted, lags = tail.lags()
    if topic in (RAW, NORMALIZED) or source is None or time.time() - noted > RUNS_S:
        return False
    if noted * NS_PER_S <= end:
        return True
    first = max(source.end - lags.get(topic, 0), source.first)
    at = _time_at(source, first) if first < source.end else None
    return at is not None and at < end


def _raw_time_at(reader: TapeReader, offset: int) -> int | None:
    try:
        reader.seek(offset)
        blobs = reader.read_blobs(1)
    except (TapeError, OSError):
        # Damaged, or taken by retention just now: it counts all the same.
        return None
    return blobs[0].ts_recv if blobs else None


def _time_at(reader: TapeReader, offset: int) -> int | None:
    reader.seek(offset)
    batch = reader.read(1)
    if batch is None or not len(batch):
        return None
    return earliest(batch)


def first_mentions(tail: SourceTail) -> dict[str, int]:
    """Returns when each symbol was mentioned first; one that was given anew has several ids."""
    found: dict[str, int] = {}
    definitions = pa.record_batch(tail.symbols().records().arrow("definition"))
    names = definitions.column("symbol").to_pylist()
    starts = definitions.column("valid_from").view(pa.int64()).to_pylist()
    for name, start in zip(names, starts, strict=True):
        ts = 0 if start is None else start * 1_000
        found[name] = min(ts, found.get(name, ts))
    return found
