"""The past as it came: records of several tapes merged by receive time, at any speed.

What a tape holds no more comes from the lake. Memory is bounded, whatever the range. Records keep
the order of their tape; between tapes the earlier `ts_recv` comes first, and ties go to the order
of the flow.
"""

import difflib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tapeworks import _core
from tapeworks._core import Merge, Records
from tapeworks.errors import QueryError
from tapeworks.lake import TABLES, TOPICS, kind_of
from tapeworks.topics import NORMALIZED
from tapeworks.views.query import Engine
from tapeworks.views.stream import Selected, Stream, open_stream, starts_of, times_of
from tapeworks.views.symbols import Chosen

# What may be asked for -> the tape that holds it, the number of its kind, and the table of the lake
# that has it when the tape has it no more; empty where there is none.
KINDS = {
    "depth": (NORMALIZED, _core.kind_of("level"), ""),
    "markers": (NORMALIZED, _core.kind_of("marker"), ""),
} | {
    table.replayed_as: (table.topic, kind_of(table), table.name)
    for table in TABLES.values()
    if table.replayed_as
}
DEFAULT_KINDS = ("trades", "quotes")

SLEEP_S_MAX = 0.5


def tapes_of(
    chosen: Chosen, kinds: Sequence[str], start: int | None, end: int | None
) -> list[tuple[str, str, Selected]]:
    """Returns source and topic of each tape that has some of `kinds`, and what is wanted of it.

    Raises:
        QueryError: a kind is not known.
    """
    wanted: dict[str, list[str]] = {}
    for kind in kinds:
        if kind not in KINDS:
            near = difflib.get_close_matches(kind, KINDS, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise QueryError(f"expected kinds of {', '.join(KINDS)}, got {kind!r}{hint}")
        wanted.setdefault(KINDS[kind][0], []).append(kind)
    return [
        (
            source,
            topic,
            Selected(
                tuple(wanted[topic]),
                tuple(KINDS[kind][1] for kind in wanted[topic]),
                tuple(TABLES[name] for kind in wanted[topic] if (name := KINDS[kind][2])),
                None if chosen.symbols is None else chosen.symbols[source],
                start,
                end,
            ),
        )
        for source in chosen.sources
        for topic in TOPICS
        if topic in wanted
    ]


@dataclass(frozen=True)
class Replay:
    """A range of the past; iterating reads it once more."""

    data: Path
    engine: Engine
    chosen: Chosen
    kinds: tuple[str, ...]
    start: int | None
    end: int | None
    speed: float | None
    batch_records: int

    def __iter__(self) -> Iterator[Records]:
        _check_number("speed", self.speed)
        _check_number("batch_records", self.batch_records)
        streams = self._streams()
        batches = self._single(streams[0]) if len(streams) == 1 else self._merged(streams)
        return self._paced(batches)

    def _streams(self) -> list[Stream]:
        found = []
        for source, topic, selected in tapes_of(self.chosen, self.kinds, self.start, self.end):
            stream = open_stream(self.engine.tail(source), source, topic, selected)
            if stream is not None:
                found.append(stream)
        if not found:
            raise QueryError(
                f"neither the tapes nor the lake under {self.data} hold {', '.join(self.kinds)}: "
                "record first; depth and markers are on tapes only"
            )
        return found

    def _single(self, stream: Stream) -> Iterator[Records]:
        while (batch := stream.read(self.batch_records)) is not None:
            yield batch

    def _merged(self, streams: list[Stream]) -> Iterator[Records]:
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


def _check_number(name: str, value: object) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is not None and not (is_number and 0 < value < float("inf")):  # type: ignore[operator]
        raise QueryError(f"expected {name} to be a number above 0, got {value!r}")


def _slices(batch: Records, speed: float) -> Iterator[tuple[Records, int]]:
    """Cuts a batch wherever 10 ms of the listener's time have passed."""
    starts, times = starts_of(batch), times_of(batch)
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
