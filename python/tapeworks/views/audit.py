"""Whether what is derived and stored is exactly what its tape holds: nothing lost, nothing twice.

Every row of the lake carries the offset of its record, so a table is right when its offsets are
exactly those of the records of its kind, from the first that the tape keeps on. Reads only; costs
one pass over the tapes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from tapeworks import lake
from tapeworks._core import Records, Rows, TapeReader
from tapeworks.lake import Table
from tapeworks.views.lake import Lake

BATCH_RECORDS = 262_144
# Rows of this table are made from many records each: they have no one offset to compare.
COMPOSED = {"book_snapshots"}


@dataclass(frozen=True)
class TableAudit:
    """One table of one source against its tape."""

    source: str
    table: str
    recorded: int
    stored: int
    lost: int
    duplicated: int

    @property
    def exact(self) -> bool:
        """Whether the table holds each record exactly once."""
        return self.lost == 0 and self.duplicated == 0 and self.stored == self.recorded


def audit(data: Path) -> Iterator[TableAudit]:
    """Yields one finding for each source and table that holds anything."""
    for source in Lake(data).sources():
        for topic in lake.TOPICS:
            tape = data / "tape" / source / topic
            if not tape.is_dir():
                continue
            committed = lake.read_commit(data / "lake", source, topic).offset
            first = TapeReader(tape).first
            offsets = _tape_offsets(tape, committed)
            for table in lake.tables_of(topic):
                if table.name in COMPOSED:
                    continue
                found = _audit_table(data, source, table, first, offsets[table.name])
                if found.recorded or found.stored:
                    yield found


def _tape_offsets(tape: Path, end: int) -> dict[str, int]:
    """Counts the records of `tape` before offset `end` that each of its tables is made of."""
    reader = TapeReader(tape)
    tables = [table for table in lake.tables_of(tape.name) if table.name not in COMPOSED]
    counts = {table.name: 0 for table in tables}
    if reader.kind == "blobs":
        # Each item of such a tape is a row.
        return dict.fromkeys(counts, max(0, min(end, reader.end) - reader.position))
    while reader.position < end:
        batch = reader.read(min(BATCH_RECORDS, end - reader.position))
        if batch is None:
            break
        for table in tables:
            counts[table.name] += _rows_of(batch, table)
    return counts


def _rows_of(batch: Records, table: Table) -> int:
    rows = Rows(table.kind)
    rows.extend(batch)
    return len(rows)


def _audit_table(data: Path, source: str, table: Table, first: int, recorded: int) -> TableAudit:
    every = _stored_offsets(data, source, table)
    # What retention took from the tape is in the lake alone: it may be there once.
    stored = every[every >= first]
    distinct = len(np.unique(stored))
    return TableAudit(
        source=source,
        table=table.name,
        recorded=recorded,
        stored=len(stored),
        lost=max(0, recorded - distinct),
        duplicated=len(every) - len(np.unique(every)),
    )


def _stored_offsets(data: Path, source: str, table: Table) -> npt.NDArray[np.int64]:
    # The files themselves, not a query: a query would fill up from the tape what they lack.
    root = data / "lake"
    parts = [np.empty(0, dtype=np.int64)]
    for day in lake.days(root, table.name, source):
        for file in lake.files_of_day(root, table.name, source, day):
            column = pq.read_table(file.path, columns=["tape_offset"]).column(0)
            parts.append(column.to_numpy().astype(np.int64))
    return np.concatenate(parts)
