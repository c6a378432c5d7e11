"""Whether what is derived and stored is exactly what its tape holds: nothing lost, added, changed.

Every row of the lake carries the offset of its record. A table is right when its offsets are
exactly those of the records of its kind, from the first that the tape keeps on, and each of its
rows has the same values in every column as the row that its record gives. Both sides are reduced
to pairs of an offset and a hash over all columns; what differs is counted by what is wrong with it.
Reads only; costs one pass over the tapes and the files, and 16 bytes of memory a row.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from tapeworks import commits, lake
from tapeworks._core import TapeReader
from tapeworks.commits import TopicReader
from tapeworks.lake import Table
from tapeworks.tape import check_place, open_tape
from tapeworks.views.lake import Lake
from tapeworks.views.tail import SourceTail

BATCH_RECORDS = 262_144

Offsets = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class TableAudit:
    """One table of one source against its tape."""

    source: str
    table: str
    recorded: int
    stored: int
    lost: int
    duplicated: int
    foreign: int = 0
    """Rows of offsets at which the tape holds no record of this table."""
    changed: int = 0
    """Rows that have another value in some column than their record."""

    @property
    def exact(self) -> bool:
        """Whether the table holds each record exactly once, as it was recorded."""
        wrong = self.lost, self.duplicated, self.foreign, self.changed
        return not any(wrong) and self.stored == self.recorded


@dataclass(frozen=True)
class Rows:
    """Rows of a table as pairs: the offset, and a hash over all columns."""

    offsets: Offsets
    hashes: Offsets

    def __len__(self) -> int:
        return len(self.offsets)

    def without(self, ranges: list[tuple[int, int]]) -> "Rows":
        """Returns the rows whose offsets lie in none of `ranges`."""
        kept = np.ones(len(self), bool)
        for first, last in ranges:
            kept &= (self.offsets < first) | (self.offsets > last)
        return Rows(self.offsets[kept], self.hashes[kept])

    @staticmethod
    def join(parts: list["Rows"]) -> "Rows":
        """Puts parts together, by offset."""
        none = np.empty(0, np.uint64)
        offsets = np.concatenate([none, *(part.offsets for part in parts)])
        hashes = np.concatenate([none, *(part.hashes for part in parts)])
        order = np.lexsort((hashes, offsets))
        return Rows(offsets[order], hashes[order])


def audit(data: Path) -> Iterator[TableAudit]:
    """Yields one finding for each source and table that holds anything.

    Raises:
        LakeError: commits and files do not agree, so that nothing can be compared.
        TapeReplacedError: the tape is not the one of which the lake was made.
    """
    for source in Lake(data).sources():
        for topic in lake.TOPICS:
            tape = data / "tape" / source / topic
            if open_tape(tape) is not None:
                yield from _audit_topic(data, source, topic, tape)


def _audit_topic(data: Path, source: str, topic: str, tape: Path) -> Iterator[TableAudit]:
    state = TopicReader(data / "lake", source, topic).read()
    commit = state.commit or commits.Commit()
    reader = TapeReader(tape)
    check_place(reader, commit.place)
    first, damaged = reader.first, reader.lost_ranges()
    tail = SourceTail(data, source)
    with duckdb.connect() as engine:
        engine.execute("set timezone = 'UTC'; set threads = 1")
        for table in lake.tables_of(topic):
            if table.kind == "snapshot" and (first > 0 or damaged):
                # Composed of many records each: what began before the tape's front, or lies at
                # a range that is lost, is not known.
                continue
            recorded = _recorded_rows(engine, tail, tape, table, commit.offset)
            stored = _stored_rows(engine, data, source, table)
            # What a repair took from the tape is in the lake alone.
            stored = stored.without(damaged)
            found = compare(source, table.name, recorded, stored, first)
            if found.recorded or found.stored:
                yield found


def compare(source: str, table: str, recorded: Rows, stored: Rows, first: int) -> TableAudit:
    """Compares what the tape gives from offset `first` on with all that is stored."""
    repeated = np.zeros(len(stored), bool)
    repeated[1:] = stored.offsets[1:] == stored.offsets[:-1]
    # What retention took from the tape is in the lake alone: it may be there once.
    chosen = ~repeated & (stored.offsets >= first)
    offsets, hashes = stored.offsets[chosen], stored.hashes[chosen]
    known = np.isin(offsets, recorded.offsets, assume_unique=True)
    at = np.searchsorted(recorded.offsets, offsets[known])
    return TableAudit(
        source=source,
        table=table,
        recorded=len(recorded),
        stored=int((stored.offsets >= first).sum()),
        lost=len(recorded) - int(known.sum()),
        duplicated=int(repeated.sum()),
        foreign=int((~known).sum()),
        changed=int((recorded.hashes[at] != hashes[known]).sum()),
    )


def _recorded_rows(
    engine: duckdb.DuckDBPyConnection, tail: SourceTail, tape: Path, table: Table, end: int
) -> Rows:
    """Makes the rows of `table` from its tape, up to offset `end`, as the sink makes them."""
    reader, rows, parts = TapeReader(tape), lake.row_buffer(table), []
    more = True
    while more and reader.position < end:
        more = lake.read_rows(rows, reader, min(BATCH_RECORDS, end - reader.position))
        if len(rows):
            symbols = tail.symbols()
            for _, start, stop in rows.sort(symbols):
                batch = lake.to_table_columns(
                    pa.record_batch(rows.arrow(symbols, start, stop)), table
                )
                parts.append(_hashed(engine, pa.Table.from_batches([batch])))
            rows.clear()
    return Rows.join(parts)


def _stored_rows(engine: duckdb.DuckDBPyConnection, data: Path, source: str, table: Table) -> Rows:
    # The files themselves, not a query: a query would fill up from the tape what they lack.
    files, _ = SourceTail(data, source).files(table)
    parts = []
    for file in files:
        with pq.ParquetFile(file.path, page_checksum_verification=True) as opened:
            for at in range(opened.metadata.num_row_groups):
                parts.append(_hashed(engine, opened.read_row_group(at, use_threads=False)))
    return Rows.join(parts)


def _hashed(engine: duckdb.DuckDBPyConnection, rows: pa.Table) -> Rows:
    """Reduces rows to offsets and hashes. How values are packed is no matter."""
    plain = pa.schema([(field.name, lake.plain_type(field.type)) for field in rows.schema])
    rows = rows.cast(plain)
    quoted = [(name, f'"{name}"') for name in plain.names]
    # An absent value hashes like a column that is not there: a file may have more than the tape.
    terms = [f"if({name} is null, 0::ubigint, hash('{field}', {name}))" for field, name in quoted]
    combined = functools.reduce(lambda one, other: f"xor({one}, {other})", terms)
    columns = f"tape_offset::ubigint as o, {combined} as h"
    found = engine.from_arrow(rows).project(columns).to_arrow_table()
    return Rows(found["o"].to_numpy(), found["h"].to_numpy())
