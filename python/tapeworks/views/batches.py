"""Batches of a replay: records as they came, each with the source and the symbol that it is of.

Kinds of records are named as in `replay(kinds=...)` everywhere. Columns are those of the lake's
tables, but for the place on the tape; `source` stands first.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tapeworks import _core
from tapeworks._core import NONE, Merge, Records, Symbols
from tapeworks.errors import ArgumentError
from tapeworks.lake import TABLES, kind_of, to_table_columns
from tapeworks.nearest import nearest
from tapeworks.topics import NORMALIZED
from tapeworks.views.result import Result
from tapeworks.views.stream import NOTHING, newest_id, starts_of, times_of
from tapeworks.views.tail import SourceTail

TIME_MIN = -(2**63)
# Rows that are dictionaries at one time.
ROWS_AT_ONCE = 4_096


class Kind(NamedTuple):
    """What a kind of record is called elsewhere."""

    topic: str
    """The tape that holds it."""
    number: int
    """Of its records."""
    table: str
    """The lake has it there when the tape has it no more; empty where it is on the tape only."""
    layout: str


KINDS = {
    "depth": Kind(NORMALIZED, _core.kind_of("level"), "", "level"),
    "markers": Kind(NORMALIZED, _core.kind_of("marker"), "", "marker"),
} | {
    table.replayed_as: Kind(table.topic, kind_of(table), table.name, table.kind)
    for table in TABLES.values()
    if table.replayed_as
}
DEFAULT_KINDS = ("trades", "quotes")


def check_kind(kind: object) -> None:
    """Refuses what is no kind of record.

    Raises:
        ArgumentError: says which there are.
    """
    if kind in KINDS:
        return
    near = nearest(str(kind), KINDS)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ArgumentError(f"expected kinds of {', '.join(KINDS)}, got {kind!r}{hint}")


class Origin:
    """A tape that records are of. Keeps the symbols until an instrument comes that is newer."""

    def __init__(self, source: str, topic: str, tail: SourceTail) -> None:
        self.source = source
        self.topic = topic
        self._tail = tail
        self._symbols = Symbols()
        self._newest_id = 0

    def columns(self, records: Records, kind: Kind) -> pa.Table:
        """Returns the records of one kind as columns, with source and symbol first."""
        if newest_id(records) > self._newest_id:
            self._symbols = self._tail.symbols()
            self._newest_id = max((number for _, number in self._symbols.ids()), default=0)
        found = pa.record_batch(records.arrow(kind.layout, self._symbols))
        names = [name for name in found.schema.names if name not in ("feed", "instrument")]
        found = found.select(names)
        if kind.table:
            found = to_table_columns(found, TABLES[kind.table])
        columns = {"source": _repeated(self.source, found.num_rows), "symbol": found["symbol"]}
        columns |= dict(zip(found.schema.names, found.columns, strict=True))
        return pa.Table.from_arrays([_plain(one) for one in columns.values()], names=list(columns))


class Batch:
    """Records in the order of a replay.

    `batch["trades"]` has those of one kind as a `Result`: `.to_numpy()` is a structured array,
    `.to_arrow()`, `.to_polars()` and `.to_pandas()` are tables. Iteration gives one dictionary a
    record, of all kinds in order, with `kind`, `source` and `symbol`; `bytes(batch)` the records as
    they are on the tape, back to back.
    """

    def __init__(
        self,
        records: Records,
        origins: Sequence[Origin],
        which: npt.NDArray[np.intp] | None = None,
    ) -> None:
        self.records = records
        """The records as the core has them, whose memory can be read."""
        self._origins = origins
        self._given = which

    @cached_property
    def _which(self) -> npt.NDArray[np.intp]:
        """Of which of the origins each record is."""
        return np.zeros(len(self), np.intp) if self._given is None else self._given

    @cached_property
    def _starts(self) -> npt.NDArray[np.int64]:
        return starts_of(self.records)

    @cached_property
    def _numbers(self) -> npt.NDArray[np.uint8]:
        """The number of the kind of each record."""
        found: npt.NDArray[np.uint8] = self._words()[self._starts, 1]
        return found

    def _words(self) -> npt.NDArray[np.uint8]:
        return np.frombuffer(memoryview(self.records), np.uint8).reshape(-1, 64)

    def __len__(self) -> int:
        return len(self.records)

    def __bytes__(self) -> bytes:
        return bytes(memoryview(self.records))

    def __repr__(self) -> str:
        counts = ", ".join(f"{count:,} {kind}" for kind, count in self.counts().items())
        return f"Batch({counts or 'no records'})"

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yields one dictionary a record: kind, source, symbol, then the columns of its kind.

        Times are datetimes in UTC, of microseconds, and `<name>_ns` holds the rest of 0 to 999 ns.
        """
        for first in range(0, len(self), ROWS_AT_ONCE):
            yield from self.slice(first, first + ROWS_AT_ONCE)._rows(list)

    def to_pylist(self) -> list[dict[str, Any]]:
        """Returns one dictionary a record, in order. Times are text, exact to the ns, in UTC."""
        return self._rows(Result.to_pylist)

    def _rows(self, read: Callable[[Result], list[dict[str, Any]]]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = [{}] * len(self)
        for kind in self.counts():
            places = np.sort(np.concatenate([at for _, at in self._places(kind)]))
            for place, row in zip(places.tolist(), read(self[kind]), strict=True):
                rows[place] = {"kind": kind, **row}
        return rows

    def __getitem__(self, kind: str) -> Result:
        """Returns the records of one kind in order; no rows where the batch has none.

        Raises:
            QueryError: there is no such kind.
        """
        check_kind(kind)
        places = self._places(kind)
        if not places:
            return Result(self._origins[0].columns(NOTHING, KINDS[kind]), kind)
        if len(places) == 1 and len(places[0][1]) == self._count(kind):
            # All records of this number are of one tape: the core finds them.
            return Result(places[0][0].columns(self.records, KINDS[kind]), kind)
        tables = [origin.columns(self._gather(at), KINDS[kind]) for origin, at in places]
        order = np.argsort(np.concatenate([at for _, at in places]))
        return Result(pa.concat_tables(tables).take(pa.array(order, pa.int64())), kind)

    def counts(self) -> dict[str, int]:
        """Returns how many records of each kind there are, of those that it has."""
        counts = {kind: sum(len(at) for _, at in self._places(kind)) for kind in KINDS}
        return {kind: count for kind, count in counts.items() if count}

    def slice(self, first: int, last: int) -> "Batch":
        """Returns the records `first` to `last`, without the last one."""
        data = memoryview(self.records)
        stops = np.append(self._starts, len(data) // 64)
        low, high, _ = slice(first, last).indices(len(self))
        part = Records.from_bytes(data[int(stops[low]) * 64 : int(stops[max(low, high)]) * 64])
        return Batch(
            part, self._origins, self._given if self._given is None else self._given[low:high]
        )

    def _count(self, kind: str) -> int:
        return int(np.count_nonzero(self._numbers == KINDS[kind].number))

    def _places(self, kind: str) -> list[tuple[Origin, npt.NDArray[np.intp]]]:
        """Returns where the records of a kind are, by the tape that they are of."""
        is_wanted = self._numbers == KINDS[kind].number
        found = [
            (origin, np.flatnonzero(is_wanted & (self._which == number)))
            for number, origin in enumerate(self._origins)
            if origin.topic == KINDS[kind].topic and is_wanted.any()
        ]
        return [(origin, at) for origin, at in found if len(at)]

    def _gather(self, at: npt.NDArray[np.intp]) -> Records:
        """Returns records of one kind by their places."""
        words = self._words()
        starts = self._starts[at]
        width = int(words[starts[0], 0]) // 8
        return Records.from_bytes(words[starts[:, None] + np.arange(width)].tobytes())


class TracedMerge:
    """A merge of streams by the time of receipt that tells which stream each record is of."""

    def __init__(self, count: int) -> None:
        self._merge = Merge(count)
        self._times = [np.empty(0, np.int64) for _ in range(count)]
        self._latest = [TIME_MIN] * count

    def wanting(self) -> int | None:
        """Returns the stream that must be pushed to before more can be taken."""
        return self._merge.wanting()

    def push(self, stream: int, records: Records | None) -> None:
        """Adds the next records of a stream; none says that it has ended."""
        self._merge.push(stream, records)
        if records is None or not len(records):
            return
        times = times_of(records)
        times = np.where(times == NONE, TIME_MIN, times)
        # Time never runs back within a stream.
        times[0] = max(int(times[0]), self._latest[stream])
        times = np.maximum.accumulate(times)
        self._latest[stream] = int(times[-1])
        self._times[stream] = np.concatenate([self._times[stream], times])

    def take(self, records: int) -> tuple[Records, npt.NDArray[np.intp]]:
        """Returns the next records in order, up to so many, and the stream of each."""
        taken = self._merge.take(records)
        # The core takes the earliest of all that was pushed, and of those the stream named first.
        heads = [times[: len(taken)] for times in self._times]
        streams = np.repeat(np.arange(len(heads)), [len(times) for times in heads])
        order = np.argsort(np.concatenate(heads), kind="stable")[: len(taken)]
        which = streams[order]
        for stream, count in enumerate(np.bincount(which, minlength=len(heads))):
            self._times[stream] = self._times[stream][count:]
        return taken, which


def _repeated(text: str, count: int) -> pa.Array:
    """Returns a column of one text. Arrow's own way to make one loads pandas."""
    content = text.encode()
    ends = np.arange(count + 1, dtype=np.int32) * len(content)
    buffers = [None, pa.py_buffer(ends.tobytes()), pa.py_buffer(content * count)]
    return pa.Array.from_buffers(pa.string(), count, buffers)


def _plain(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
