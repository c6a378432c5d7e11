"""The past as it came: records of several tapes merged by receive time, at any speed.

What a tape holds no more comes from the lake. Memory is bounded, whatever the range. Records keep
the order of their tape; between tapes the earlier `ts_recv` comes first, and ties go to the order
of the flow.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tapeworks.errors import ArgumentError, QueryError
from tapeworks.lake import TABLES, TOPICS
from tapeworks.views.batches import KINDS, Batch, Origin, TracedMerge, check_kind
from tapeworks.views.query import Engine
from tapeworks.views.stream import Selected, Stream, open_stream, times_of
from tapeworks.views.symbols import Chosen

SLEEP_S_MAX = 0.5


def tapes_of(
    chosen: Chosen, kinds: Sequence[str], start: int | None, end: int | None
) -> list[tuple[str, str, Selected]]:
    """Returns source and topic of each tape that has some of `kinds`, and what is wanted of it.

    Raises:
        ArgumentError: a kind is not known.
    """
    wanted: dict[str, list[str]] = {}
    if not kinds:
        raise ArgumentError(f"expected kinds of {', '.join(KINDS)}, got none")
    for kind in kinds:
        check_kind(kind)
        wanted.setdefault(KINDS[kind].topic, []).append(kind)
    return [
        (
            source,
            topic,
            Selected(
                tuple(wanted[topic]),
                tuple(KINDS[kind].number for kind in wanted[topic]),
                tuple(TABLES[name] for kind in wanted[topic] if (name := KINDS[kind].table)),
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

    def __iter__(self) -> Iterator[Batch]:
        _check_number("speed", self.speed)
        _check_number("batch_records", self.batch_records)
        origins, streams = [], []
        for source, topic, selected in tapes_of(self.chosen, self.kinds, self.start, self.end):
            tail = self.engine.tail(source)
            stream = open_stream(tail, source, topic, selected)
            if stream is not None:
                streams.append(stream)
                origins.append(Origin(source, topic, tail))
        if not streams:
            raise QueryError(
                f"neither the tapes nor the lake under {self.data} hold {', '.join(self.kinds)}: "
                "record first; depth and markers are on tapes only"
            )
        single = len(streams) == 1
        return self._paced(
            self._single(streams[0], origins) if single else self._merged(streams, origins)
        )

    def _single(self, stream: Stream, origins: list[Origin]) -> Iterator[Batch]:
        while (records := stream.read(self.batch_records)) is not None:
            yield Batch(records, origins)

    def _merged(self, streams: list[Stream], origins: list[Origin]) -> Iterator[Batch]:
        merge = TracedMerge(len(streams))
        while True:
            while (dry := merge.wanting()) is not None:
                merge.push(dry, streams[dry].read(self.batch_records))
            records, which = merge.take(self.batch_records)
            if not len(records) and merge.wanting() is None:
                return
            if len(records):
                yield Batch(records, origins, which)

    def _paced(self, batches: Iterator[Batch]) -> Iterator[Batch]:
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
        raise ArgumentError(f"expected {name} to be a number above 0, got {value!r}")


def _slices(batch: Batch, speed: float) -> Iterator[tuple[Batch, int]]:
    """Cuts a batch wherever 10 ms of the listener's time have passed."""
    times = times_of(batch.records)
    step = int(10_000_000 * speed)
    first = 0
    while first < len(times):
        later = np.flatnonzero(times[first:] >= times[first] + step)
        last = first + int(later[0]) if len(later) else len(times)
        yield batch.slice(first, last), int(times[first])
        first = last
