"""The lake: Parquet files of zstd-packed columns, each row exactly once.

A flush sorts the rows of each table by symbol and time, writes one file a day aside, syncs them,
replaces the commit in one atomic step, and renames the files into place (see `lake.py`). Killed
at any instant, the next `open` finishes the last commit, drops what no commit covers, and goes on
from the committed offset: no row is lost or doubled.
"""

import contextlib
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from tapeworks import lake
from tapeworks._core import KIND_DEFINITION, Blob, Records, Rows, Snapshots, Symbols
from tapeworks.errors import SinkUnavailable
from tapeworks.lake import Table
from tapeworks.letters import Letters
from tapeworks.sinks.base import UNKNOWN, FlushPolicy, Sink, received
from tapeworks.sinks.compaction import Compaction
from tapeworks.sinks.writer import (
    AbsentValues,
    FileWriter,
    columns_with_absent,
    with_required,
)

SYMBOLS_FILE = "symbols.records"


@dataclass(frozen=True)
class ParquetConfig:
    """Settings of the Parquet lake. It lies in the folder `lake` of the data folder."""

    enabled: bool = True
    flush_seconds: float = 10.0
    """Rows are in files after so long at most; queries see them before that on the tape."""
    flush_rows: int = 500_000
    """Records of one tape after which its rows are written."""
    flush_bytes: int = 96 << 20
    """Memory of one tape's rows after which they are written; sorting takes as much again."""
    row_group_rows: int = 131_072
    """Rows that share statistics: what a query skips or reads at once."""
    compression_level: int = 1

    def __post_init__(self) -> None:
        if self.flush_seconds <= 0:
            raise ValueError(f"flush_seconds: wanted more than 0; found {self.flush_seconds}")
        for name in ("flush_rows", "flush_bytes", "row_group_rows"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: wanted 1 or more; found {getattr(self, name)}")
        if not 1 <= self.compression_level <= 22:
            raise ValueError(f"compression_level: wanted 1 to 22; found {self.compression_level}")

    @property
    def policy(self) -> FlushPolicy:
        """When rows are written to files."""
        return FlushPolicy(self.flush_rows, self.flush_bytes, self.flush_seconds)


class ParquetSink(Sink):
    """Writes the tables of one topic into the lake, each row exactly once."""

    @staticmethod
    def topics(config: Any) -> tuple[str, ...]:
        """Returns the topics of all tables: the one with the definitions comes first."""
        return lake.TOPICS

    def __init__(self, config: ParquetConfig, data: Path, source: str, topic: str) -> None:
        self._config = config
        self._lake = data / "lake"
        self._source = source
        self._topic = topic
        self._symbols = Symbols()
        self._symbols_saved = True
        self._rows: dict[str, Rows | Snapshots | Letters] = {}
        self._commit = lake.Commit()
        self._next = 0
        self._ts = UNKNOWN
        self._records = 0
        self._settled = True
        self._split_from = 0
        self._compaction = Compaction(
            self._lake, source, topic, config.row_group_rows, config.compression_level
        )

    def open(self) -> int:
        """Recovers the lake's part of this topic; returns the offset to be read next."""
        self._commit = lake.recover(self._lake, self._source, self._topic)
        self._compaction.recover()
        self._load_symbols()
        self._rows = {table.name: lake.gatherer(table) for table in lake.tables_of(self._topic)}
        self._next, self._records = self._commit.offset, 0
        self._ts = self._commit.context.get("ts", UNKNOWN)
        # Files of before held nanoseconds in one column: readers look into those alone.
        self._split_from = self._commit.context.get(lake.SPLIT_FROM, self._commit.offset)
        return self.committed[0]

    @property
    def committed(self) -> tuple[int, int]:
        """The offset to be read after a restart, and a receive time before which all is stored."""
        context = self._commit.context
        return context.get("resume", self._commit.offset), context.get("ts", UNKNOWN)

    def skip(self, offset: int) -> None:
        """Commits that nothing is to come before `offset`, as it is gone.

        Raises:
            SinkUnavailable: the disk refuses.
        """
        # What was composed of the records before stays in pieces.
        self._rows = {table.name: lake.gatherer(table) for table in lake.tables_of(self._topic)}
        self._records, self._next = 0, max(offset, self._commit.offset)
        try:
            self._publish(lake.Commit(self._next, context=self._context(None)))
            self._settle()
        except OSError as error:
            raise SinkUnavailable(f"cannot write the lake: {error}") from error

    def write(self, batch: Records) -> None:
        """Takes the rows of `batch`; records before the committed offset only give context."""
        kinds = {kind for kind, _ in batch.counts()}
        if KIND_DEFINITION in kinds:
            self._symbols.load(batch)
            self._symbols_saved = False
            # Sinks of derived tapes and views wait for these; what fails here, `flush` does again.
            with contextlib.suppress(OSError):
                self._save_symbols()
        for table in lake.tables_of(self._topic):
            # The end of a snapshot can come in a batch without levels.
            if lake.kind_of(table) in kinds or table.kind == "snapshot":
                rows = self._rows[table.name]
                if not isinstance(rows, Letters):
                    rows.extend(batch, self._commit.offset)
        self._next = batch.next_offset
        if len(batch):
            self._ts = max(self._ts, received(batch))
        self._records += len(batch)

    def write_blobs(self, blobs: list[Blob]) -> None:
        """Takes dead letters, with their bytes."""
        for rows in self._rows.values():
            if isinstance(rows, Letters):
                rows.extend(blobs, self._commit.offset)
        self._next = blobs[-1].offset + 1
        self._ts = max(self._ts, blobs[0].ts_recv)
        self._records += len(blobs)

    @property
    def pending(self) -> tuple[int, int]:
        """Records and bytes that are not yet in files."""
        return self._records, sum(rows.nbytes for rows in self._rows.values())

    def flush(self) -> None:
        """Writes all rows into files and commits them together.

        Raises:
            SinkUnavailable: the disk refuses, or an instrument has no definition yet.
        """
        try:
            if not self._settled:
                self._settle()
            if self._next > self._commit.offset:
                self._save_symbols()
                self._publish(self._build())
                self._settle()
        except OSError as error:
            raise SinkUnavailable(f"cannot write the lake: {error}") from error

    def _build(self) -> lake.Commit:
        tables = lake.tables_of(self._topic)
        files = [file for table in tables for file in self._files(table)]
        places = [rows.resume for rows in self._rows.values()]
        resume = min((place for place in places if place is not None), default=None)
        return lake.Commit(self._next, tuple(files), context=self._context(resume))

    def _context(self, resume: int | None) -> dict[str, int]:
        known = {
            "resume": resume,
            "ts": None if self._ts == UNKNOWN else self._ts,
            lake.SPLIT_FROM: self._split_from,
        }
        return {name: value for name, value in known.items() if value is not None}

    def _publish(self, commit: lake.Commit) -> None:
        try:
            lake.publish(self._lake, self._source, self._topic, commit)
        except OSError:
            # Only what stands on disk says whether the rows are final: writing them once more
            # would double them.
            if lake.read_commit(self._lake, self._source, self._topic) != commit:
                raise
        self._commit, self._records, self._settled = commit, 0, False
        for rows in self._rows.values():
            rows.clear()

    def _settle(self) -> None:
        lake.settle(self._lake, self._source, self._topic, self._commit)
        self._settled = True

    def tidy(self) -> bool:
        """Merges small files of one day; returns whether there was something to merge."""
        return self._compaction.step(datetime.now(UTC).date().isoformat()) > 0

    def close(self) -> None:
        """Drops what was not flushed."""
        self._rows.clear()

    def _files(self, table: Table) -> list[str]:
        rows = self._rows[table.name]
        if not len(rows):
            return []
        parts = self._sort(rows)
        first, last = self._commit.offset, self._next - 1
        files = []
        for day, start, end in parts:
            name = lake.file_path(table.name, self._source, lake.day_text(day), first, last)
            self._write(table, rows, start, end, name)
            files.append(name)
        return files

    def _sort(self, rows: Rows | Snapshots | Letters) -> list[tuple[int, int, int]]:
        # The sink of the tape that defines the instruments stores their symbols for all others.
        with contextlib.suppress(ValueError):
            return rows.sort(self._symbols)
        self._load_symbols()
        try:
            return rows.sort(self._symbols)
        except ValueError as error:
            # A derived tape can be ahead of that sink.
            raise SinkUnavailable(f"{self._topic}: {error}", retry_after_ms=200) from error

    def _write(
        self, table: Table, rows: Rows | Snapshots | Letters, start: int, end: int, name: str
    ) -> None:
        path = lake.staging_path(self._lake, self._source, self._topic, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        nullable: set[str] = set()
        while True:
            try:
                self._write_file(path, self._batches(table, rows, start, end), table, nullable)
                return
            except AbsentValues as error:
                # A column lacks its first value after a whole row group: the file begins anew.
                nullable |= error.columns

    def _batches(
        self, table: Table, rows: Rows | Snapshots | Letters, start: int, end: int
    ) -> Iterator[pa.RecordBatch]:
        step = self._config.row_group_rows
        for at in range(start, end, step):
            columns = rows.arrow(self._symbols, at, min(at + step, end))
            yield lake.shape(pa.record_batch(columns), table)

    def _write_file(
        self, path: Path, batches: Iterator[pa.RecordBatch], table: Table, nullable: set[str]
    ) -> None:
        first = next(batches)
        schema = with_required(first.schema, nullable | columns_with_absent(first))
        with path.open("wb") as file:
            writer = FileWriter(file, schema, table, self._config.compression_level)
            for batch in itertools.chain([first], batches):
                writer.write(batch)
            writer.close()
            file.flush()
            os.fsync(file.fileno())

    def _symbols_path(self) -> Path:
        return self._lake / lake.COMMITS / self._source / SYMBOLS_FILE

    def _load_symbols(self) -> None:
        path = self._symbols_path()
        if path.exists():
            self._symbols.load(Records.from_bytes(path.read_bytes()))

    def _save_symbols(self) -> None:
        # Definitions ahead of the commit do no harm: the tape gives the same ones again.
        if not self._symbols_saved:
            path = self._symbols_path()
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                known = Symbols()
                known.load(Records.from_bytes(path.read_bytes()))
                known.load(self._symbols.records())
                self._symbols = known
            lake.write_file(path, bytes(self._symbols.records()))
            self._symbols_saved = True
