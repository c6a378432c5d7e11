"""The past as it came: records of several tapes merged by receive time, at any speed.

Memory is bounded by one batch a tape, whatever the range. Records keep the order of their tape;
between tapes the earlier `ts_recv` comes first, and ties go to the order of the flow.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tapeworks import _core
from tapeworks._core import Merge, Records, TapeReader
from tapeworks.errors import QueryError
from tapeworks.lake import TOPICS
from tapeworks.views.query import Engine
from tapeworks.views.times import format_time

# What may be asked for -> the tape that holds it, and the number of its kind.
KINDS = {
    "trades": ("market-data.normalized", _core.KIND_TRADE),
    "quotes": ("market-data.normalized", _core.KIND_QUOTE),
    "marks": ("market-data.normalized", _core.KIND_MARK),
    "depth": ("market-data.normalized", _core.KIND_LEVEL),
    "markers": ("market-data.normalized", _core.KIND_MARKER),
    "venue_bars": ("market-data.normalized", _core.KIND_BAR),
    "definitions": ("market-data.normalized", _core.KIND_DEFINITION),
    "book_levels": ("market-data.book", _core.KIND_LEVEL),
    "bars": ("market-data.bars", _core.KIND_BAR),
    "ticks": ("market-data.ticks", _core.KIND_TICK),
    "gaps": ("market-data.gaps", _core.KIND_MARKER),
}
DEFAULT_KINDS = ("trades", "quotes")

# The receive time of a tape may run back by so much where connections overlap.
DISORDER_NS = 5_000_000_000
SLEEP_S_MAX = 0.5
TIME_MIN, TIME_MAX = -(2**63), 2**63 - 1


@dataclass
class _Stream:
    """One tape of one source, and what is wanted of it."""

    reader: TapeReader
    kinds: list[int]
    instruments: list[int] | None
    start: int
    end: int
    ended: bool = False

    def read(self, records: int) -> Records | None:
        """Returns the next wanted records; none at the end of the range or of the tape."""
        while not self.ended:
            batch = self.reader.read(records)
            if batch is None:
                break
            self.ended = _earliest(batch) >= min(self.end, TIME_MAX - DISORDER_NS) + DISORDER_NS
            found = batch.select(self.kinds, self.instruments, self.start, self.end)
            if len(found):
                return found
        return None


@dataclass(frozen=True)
class Replay:
    """A range of the past; iterating reads it once more."""

    data: Path
    engine: Engine
    sources: list[str]
    symbols: list[str] | None
    kinds: tuple[str, ...]
    start: int | None
    end: int | None
    speed: float | None
    batch_records: int

    def __iter__(self) -> Iterator[Records]:
        if self.speed is not None and self.speed <= 0:
            raise QueryError(f"wanted a speed above 0, or none for flat out; found {self.speed}")
        streams = self._streams()
        batches = self._single(streams[0]) if len(streams) == 1 else self._merged(streams)
        return self._paced(batches)

    def _streams(self) -> list[_Stream]:
        wanted: dict[str, list[int]] = {}
        for kind in self.kinds:
            if kind not in KINDS:
                raise QueryError(f"wanted kinds of {', '.join(KINDS)}; found {kind!r}")
            topic, number = KINDS[kind]
            wanted.setdefault(topic, []).append(number)
        found = []
        for source in self.sources:
            for topic in TOPICS:
                if topic in wanted:
                    stream = self._stream(source, topic, wanted[topic])
                    if stream is not None:
                        found.append(stream)
        if not found:
            raise QueryError(
                f"no tape under {self.data / 'tape'} holds {', '.join(self.kinds)}: "
                "record first, or look into the lake with sql(...)"
            )
        return found

    def _stream(self, source: str, topic: str, kinds: list[int]) -> _Stream | None:
        tail = self.engine.tail(source)
        reader = tail.reader(topic, 0)
        if reader is None:
            return None
        instruments = None
        if self.symbols is not None:
            names = set(self.symbols)
            instruments = [id_ for symbol, id_ in tail.symbols().ids() if symbol in names]
        start = TIME_MIN if self.start is None else self.start
        end = TIME_MAX if self.end is None else self.end
        if self.start is not None:
            self._check_kept(source, topic, reader)
            reader.seek_time(self.start - DISORDER_NS)
        return _Stream(reader, kinds, instruments, start, end)

    def _check_kept(self, source: str, topic: str, reader: TapeReader) -> None:
        first = reader.first
        if first == 0 or self.start is None:
            return
        batch = reader.read(1)
        if batch is not None and _earliest(batch) > self.start:
            raise QueryError(
                f"{topic} of {source} is kept from {format_time(_earliest(batch))} on: replay from "
                "there, or ask the lake for what is older"
            )

    def _single(self, stream: _Stream) -> Iterator[Records]:
        while (batch := stream.read(self.batch_records)) is not None:
            yield batch

    def _merged(self, streams: list[_Stream]) -> Iterator[Records]:
        merge = Merge(len(streams))
        while True:
            while (dry := merge.wanting()) is not None:
                merge.push(dry, streams[dry].read(self.batch_records))
            batch = merge.take(self.batch_records)
            if not len(batch) and merge.wanting() is None:
                return
            if len(batch):
                yield batch

    def _paced(self, batches: Iterator[Records]) -> Iterator[Records]:
        if self.speed is None:
            yield from batches
            return
        began = time.monotonic()
        origin: int | None = None
        for batch in batches:
            for part, ts in _slices(batch, self.speed):
                origin = ts if origin is None else origin
                due = began + (ts - origin) / 1e9 / self.speed
                while (wait := due - time.monotonic()) > 0:
                    time.sleep(min(wait, SLEEP_S_MAX))
                yield part


def _earliest(batch: Records) -> int:
    times = _times(batch)
    return int(times.min()) if len(times) else TIME_MAX


def _times(batch: Records) -> "npt.NDArray[np.int64]":
    """Returns the receive time at the start of every 64 bytes that begin a record."""
    words = np.frombuffer(memoryview(batch), dtype="<i8").reshape(-1, 8)
    times: npt.NDArray[np.int64] = words[_starts(batch), 2]
    return times


def _starts(batch: Records) -> "npt.NDArray[np.int64]":
    # Most batches hold records of 64 bytes only; else walk the lengths.
    lengths = np.frombuffer(memoryview(batch), dtype="u1").reshape(-1, 64)[:, 0]
    if len(lengths) == len(batch):
        return np.arange(len(lengths))
    starts, at = np.empty(len(batch), dtype=np.int64), 0
    for index in range(len(batch)):
        starts[index] = at
        at += int(lengths[at]) // 8
    return starts


def _slices(batch: Records, speed: float) -> Iterator[tuple[Records, int]]:
    """Cuts a batch wherever 10 ms of the listener's time have passed."""
    starts, times = _starts(batch), _times(batch)
    step = int(10_000_000 * speed)
    data = memoryview(batch)
    first = 0
    while first < len(times):
        later = np.flatnonzero(times[first:] >= times[first] + step)
        last = first + int(later[0]) if len(later) else len(times)
        stop = int(starts[last]) * 64 if last < len(times) else len(data)
        part = data[int(starts[first]) * 64 : stop]
        yield Records.from_bytes(part), int(times[first])
        first = last
