"""Files of the lake by the hour: which hours one has rows of, and its rows of some of them.

A file whose rows are all of one hour is published as it is. Another is cut: each part is a file of
the lake as well, with the columns, the types and the order of the one it is of. An hour is written
with two digits; rows whose time is not known are of none, which is the empty text.
"""

import io
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from tapeworks import lake
from tapeworks.errors import LakeError
from tapeworks.lake import Table, column_of
from tapeworks.sinks.writer import FileWriter

NONE = ""
HOURS = 24
HOUR_S = 3_600
UNITS = {"us": 1_000_000, "ns": 1_000_000_000}
GROUP_ROWS = 131_072
BATCH_ROWS = 65_536
LEVEL = 3
UNKNOWN = -1
OFFSET_MAX = 2**63 - 1


def hours_in(path: Path, table: Table) -> list[str]:
    """Returns the hours of which a file has rows, ascending.

    Raises:
        LakeError: it cannot be read.
        FileNotFoundError: it was merged away.
    """
    column = column_of(table, "ts_event")
    try:
        with pq.ParquetFile(path) as opened:
            found = _told(opened, column)
            if found is None:
                numbers = (
                    np.unique(hours_of(batch.column(0)))
                    for batch in opened.iter_batches(BATCH_ROWS, columns=[column])
                )
                found = {int(one) for part in numbers for one in part}
    except FileNotFoundError:
        raise
    except lake.PARQUET_ERRORS as error:
        raise LakeError(f"{path} is damaged: {error}: see `tape lake verify`") from error
    return sorted(map(_text, found))


def _told(opened: pq.ParquetFile, column: str) -> set[int] | None:
    """Returns the one hour that the statistics tell of; none if they tell of several, or not."""
    ends: set[int] = set()
    metadata = opened.metadata
    kind = opened.schema_arrow.field(column).type
    names = [metadata.schema.column(at).path for at in range(metadata.num_columns)]
    at = names.index(column)
    for number in range(metadata.num_row_groups):
        found = metadata.row_group(number).column(at).statistics
        if found is None or not found.has_min_max or found.null_count != 0:
            return None
        ends.update(map(int, hours_of(pa.array([found.min, found.max], kind))))
    return ends if len(ends) == 1 else None


def hours_of(times: pa.Array) -> npt.NDArray[np.int64]:
    """Returns the hour of each time."""
    unit = UNITS[times.type.unit] * HOUR_S
    values = times.cast(pa.int64())
    hours: npt.NDArray[np.int64] = (
        values.fill_null(0).to_numpy(zero_copy_only=False) // unit % HOURS
    )
    hours[values.is_null().to_numpy(zero_copy_only=False)] = UNKNOWN
    return hours


def _text(hour: int) -> str:
    return NONE if hour == UNKNOWN else f"{hour:02d}"


@dataclass(frozen=True)
class Part:
    """The rows of one hour of a file, as a file of its own."""

    hour: str
    first: int
    """The least offset of its rows."""
    last: int
    content: memoryview


@dataclass
class _Growing:
    """A part that is written: its rows wait until they are a row group."""

    schema: pa.Schema
    table: Table
    target: io.BytesIO = field(default_factory=io.BytesIO)
    waiting: list[pa.RecordBatch] = field(default_factory=list)
    rows: int = 0
    first: int = OFFSET_MAX
    last: int = -1
    writer: Any = None

    def add(self, batch: pa.RecordBatch) -> None:
        offsets = batch.column("tape_offset").to_numpy()
        self.first = min(self.first, int(offsets.min()))
        self.last = max(self.last, int(offsets.max()))
        self.waiting.append(batch)
        self.rows += batch.num_rows
        if self.rows >= GROUP_ROWS:
            self.flush()

    def flush(self) -> None:
        if not self.waiting:
            return
        if self.writer is None:
            self.writer = FileWriter(self.target, self.schema, self.table, LEVEL, ())
        rows = pa.Table.from_batches(self.waiting).unify_dictionaries().combine_chunks()
        for batch in rows.to_batches():
            self.writer.write(batch)
        self.waiting, self.rows = [], 0

    def close(self) -> memoryview:
        self.flush()
        self.writer.close()
        return self.target.getbuffer()


def cut(content: memoryview, table: Table, hours: Collection[str]) -> Iterator[Part]:
    """Yields the rows of each of `hours` of a file of the lake, in the order of the hours.

    Memory is bounded by what the parts take compressed, and a row group of each.
    """
    column = column_of(table, "ts_event")
    wanted = {UNKNOWN if one == NONE else int(one) for one in hours}
    with pq.ParquetFile(pa.BufferReader(pa.py_buffer(content))) as opened:
        schema = opened.schema_arrow
        parts: dict[int, _Growing] = {}
        for batch in opened.iter_batches(BATCH_ROWS, use_threads=False):
            found = hours_of(batch.column(column))
            for hour in sorted(wanted & {*map(int, np.unique(found))}):
                part = parts.setdefault(hour, _Growing(schema, table))
                part.add(batch.filter(pa.array(found == hour)))
    for hour in sorted(parts):
        part = parts.pop(hour)
        yield Part(_text(hour), part.first, part.last, part.close())
