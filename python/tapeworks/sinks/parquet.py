"""The lake: Parquet files of zstd-packed columns, each row exactly once.

A flush orders the rows of each table by symbol and time, writes one file a day aside, syncs them,
replaces the commit in one atomic step, and renames the files into place (see `commits.py`). Killed
at any instant, the next `open` finishes the last commit, drops what no commit covers, and goes on
from the committed offset: no row is lost or doubled. Rows stay in memory until their files are in
place. Who writes the lake of a source holds the lock of its commits.
"""

import contextlib
import itertools
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from tapeworks import commits, lake
from tapeworks._core import Blob, Records, Rows, Snapshots, Symbols, kind_of
from tapeworks.blob_rows import BlobRows
from tapeworks.commits import StoredFile
from tapeworks.errors import LakeError, SinkUnavailable
from tapeworks.lake import Table
from tapeworks.sinks.base import FlushPolicy, Sink, SinkContext, SinkPartition, WriterLock
from tapeworks.sinks.commit_log import Changes, CommitLog, GivenUp
from tapeworks.sinks.compaction import Compaction
from tapeworks.sinks.writer import (
    UnexpectedNulls,
    columns_with_absent,
    with_required,
    write_table_file,
)
from tapeworks.source_symbols import kept_symbols
from tapeworks.tape import UNKNOWN, Place, received

log = logging.getLogger("tapeworks.sinks")

# A day that is over becomes one file when nothing was added to it for so long.
QUIET_S = 300.0
# Whole frames are large: so many bytes of them become one row group.
GROUP_BYTES_MAX = 32 << 20
DEFINITION = kind_of("definition")


@dataclass(frozen=True)
class ParquetConfig:
    """Settings of the Parquet lake. It lies in the folder `lake` of the data folder."""

    enabled: bool = True
    flush_seconds: float = 10.0
    """Rows are in files after so long at most; queries see them before that on the tape."""
    flush_rows: int = 500_000
    """Records of one tape after which its rows are written."""
    flush_bytes: int = 96 << 20
    """Memory of one tape's rows after which they are written; to put in order rows whose times run
    back takes half as much again."""
    row_group_rows: int = 131_072
    """Rows that share statistics: what a query skips or reads at once."""
    compression_level: int = 1

    def __post_init__(self) -> None:
        if self.flush_seconds <= 0:
            raise ValueError(f"flush_seconds: expected more than 0, got {self.flush_seconds}")
        for name in ("flush_rows", "flush_bytes", "row_group_rows"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected 1 or more, got {getattr(self, name)}")
        if not 1 <= self.compression_level <= 22:
            raise ValueError(f"compression_level: expected 1 to 22, got {self.compression_level}")

    @property
    def policy(self) -> FlushPolicy:
        """When rows are written to files."""
        return FlushPolicy(self.flush_rows, self.flush_bytes, self.flush_seconds)


class ParquetSink(Sink):
    """Writes all tables of the lake, each row exactly once."""

    def __init__(self, config: ParquetConfig, context: SinkContext) -> None:
        self._config = config
        self._data = context.data
        self._locks: dict[str, WriterLock] = {}

    @classmethod
    def topics(cls, config: Any) -> tuple[str, ...]:
        """Returns the topics of all tables: the one with the definitions comes first."""
        return lake.TOPICS

    def partition(self, source: str, topic: str) -> "ParquetPartition":
        """Makes what writes the tables of one topic; those of one source share their lock."""
        lock = self._locks.setdefault(source, writer_lock(self._data, source))
        return ParquetPartition(self._config, self._data, source, topic, lock)


def writer_lock(data: Path, source: str) -> WriterLock:
    """Returns the lock of who writes the lake of `source`: that of its commits."""
    return WriterLock(commits.commit_folder(data / "lake", source))


class ParquetPartition(SinkPartition):
    """Writes the tables of one topic into the lake, each row exactly once."""

    LOST_ADVICE = (
        "was its folder deleted, or is it not mounted? Put it back, or run `tape lake rebuild` to "
        "begin with what the tape still holds"
    )

    def __init__(
        self,
        config: ParquetConfig,
        data: Path,
        source: str,
        topic: str,
        lock: WriterLock | None = None,
    ) -> None:
        self._config = config
        self._lake = data / "lake"
        self._source = source
        self._topic = topic
        self._lock = lock or writer_lock(data, source)
        self._symbols = Symbols()
        self._symbols_saved = True
        self._rows: dict[str, Rows | Snapshots | BlobRows] = {}
        self._log = CommitLog(self._lake, source, topic, self._lock.check)
        self._next = 0
        self._offset = 0
        self._ts = UNKNOWN
        self._records = 0
        self._is_open = False
        self._compaction = Compaction(
            self._log, config.row_group_rows, config.compression_level, QUIET_S
        )

    def open(self) -> int:
        """Recovers the lake's part of this topic; returns the offset to be read next.

        Raises:
            LakeError: commits and files do not agree.
            SinkUnavailable: the disk refuses.
        """
        self._lock.acquire()
        self._is_open = True
        try:
            commit = self._log.recover() or commits.Commit()
            self._check_files(commit)
            self._load_symbols()
        except OSError as error:
            self.close()
            raise SinkUnavailable(f"cannot read the lake: {error}") from error
        except BaseException:
            self.close()
            raise
        self._rows = {table.name: lake.row_buffer(table) for table in lake.tables_of(self._topic)}
        self._offset = self._next = commit.offset
        self._records = 0
        self._ts = commit.context.get("ts", UNKNOWN)
        return self.resume

    def _check_files(self, commit: commits.Commit) -> None:
        """Refuses files that no commit knows where rows are still to be written; logs all else."""
        found = set(lake.files_on_disk(self._lake, self._source, self._topic))
        unknown = sorted(found - set(self._log.live))
        for name in unknown:
            try:
                last = commits.lake_file(self._lake, StoredFile(name, -1, -1, "", "")).last
            except LakeError:
                last = -1
            if last >= commit.offset:
                raise LakeError(
                    f"{self._lake / name} is in no commit, and holds rows from offset "
                    f"{commit.offset} on, which would be stored twice: was an older copy of the "
                    "commits restored? `tape lake rebuild` takes in what is there"
                )
        if unknown:
            told = _first_of(unknown, self._lake)
            log.warning("in no commit, so that no answer counts what they hold: %s", told)
        if missing := sorted(set(self._log.live) - found):
            log.error("missing: %s; see `tape lake verify`", _first_of(missing, self._lake))

    @property
    def committed(self) -> Place | None:
        """The place up to which everything is in the lake; none before the first commit."""
        return None if self._log.head is None else self._log.head.place

    @property
    def resume(self) -> int:
        """The offset to be read after a restart: what is still in pieces began there."""
        head = self._log.head
        return 0 if head is None else head.context.get("resume", head.offset)

    @property
    def received(self) -> int:
        """A receive time before which all is stored."""
        head = self._log.head
        return UNKNOWN if head is None else head.context.get("ts", UNKNOWN)

    def skip(self, place: Place) -> None:
        """Commits that nothing is to come before `place`, as it is gone.

        Raises:
            SinkUnavailable: the disk refuses.
        """
        # What was composed of the records before stays in pieces.
        self._rows = {table.name: lake.row_buffer(table) for table in lake.tables_of(self._topic)}
        self._records, self._next = 0, max(place.offset, self._offset)
        self._commit(Changes(), place, None)

    def write(self, batch: Records) -> None:
        """Takes the rows of `batch`; records before the committed offset only give context."""
        kinds = batch.kinds()
        if DEFINITION in kinds:
            self._symbols.load(batch)
            self._symbols_saved = False
            # Sinks of derived tapes and views wait for these; what fails here, `flush` does again.
            with contextlib.suppress(OSError):
                self._save_symbols()
        for table in lake.tables_of(self._topic):
            # The end of a snapshot can come in a batch without levels.
            if lake.kind_of(table) in kinds or table.kind == "snapshot":
                rows = self._rows[table.name]
                if not isinstance(rows, BlobRows):
                    rows.extend(batch, self._offset)
        self._next = batch.next_offset
        if len(batch):
            self._ts = max(self._ts, received(batch))
        self._records += len(batch)

    def write_blobs(self, blobs: list[Blob]) -> None:
        """Takes blobs, such as dead letters with their bytes."""
        for rows in self._rows.values():
            if isinstance(rows, BlobRows):
                rows.extend(blobs, self._offset)
        self._next = blobs[-1].offset + 1
        self._ts = max(self._ts, blobs[0].ts_recv)
        self._records += len(blobs)

    @property
    def pending(self) -> tuple[int, int]:
        """Records and bytes that are not yet in files."""
        return self._records, sum(rows.nbytes for rows in self._rows.values())

    def flush(self, place: Place | None = None) -> None:
        """Writes all rows into files and commits them together.

        Raises:
            SinkUnavailable: the disk refuses, or an instrument has no definition yet.
        """
        if self._next <= self._offset:
            return
        self._lock.check()
        place = place or Place(self._next)
        if place.offset != self._next:
            raise ValueError(f"flush: expected a place at offset {self._next}, got {place.offset}")
        try:
            self._save_symbols()
            attempt = self._log.new_attempt("flush")
            tables = lake.tables_of(self._topic)
            files = tuple(file for table in tables for file in self._files(table, attempt, place))
        except OSError as error:
            self._log.clear_attempts("flush")
            raise SinkUnavailable(f"cannot write the lake: {error}") from error
        except SinkUnavailable:
            self._log.clear_attempts("flush")
            raise
        places = [rows.resume for rows in self._rows.values()]
        resume = min((place for place in places if place is not None), default=None)
        self._commit(Changes(files, (), attempt if files else ""), place, resume)

    def _commit(self, changes: Changes, place: Place, resume: int | None) -> None:
        known = {"resume": resume, "ts": None if self._ts == UNKNOWN else self._ts}
        context = {name: value for name, value in known.items() if value is not None}
        try:
            self._log.commit(changes, place, context)
        except OSError as error:
            # The rows stay: a commit that is not finished is superseded by the next.
            raise SinkUnavailable(f"cannot write the lake: {error}") from error
        self._offset, self._records = place.offset, 0
        for rows in self._rows.values():
            rows.clear()

    def run_maintenance(self) -> bool:
        """Merges small files of one day; returns whether there was something to merge."""
        try:
            return self._compaction.step(datetime.now(UTC).date().isoformat()) > 0
        except GivenUp:
            # A stop does not wait for it. What is due stays due.
            return False

    def close(self) -> None:
        """Drops what was not flushed."""
        self._rows.clear()
        self._log.close()
        if self._is_open:
            self._lock.release()
            self._is_open = False

    def _files(self, table: Table, attempt: str, place: Place) -> Iterator[StoredFile]:
        rows = self._rows[table.name]
        if not len(rows):
            return
        first, last = self._offset, self._next - 1
        for day, start, end in self._sort(rows):
            name = lake.file_path(table.name, self._source, lake.day_text(day), first, last)
            yield self._write(table, rows, start, end, name, attempt, place.tape)

    def _sort(self, rows: Rows | Snapshots | BlobRows) -> list[tuple[int, int, int]]:
        # The sink of the tape that defines the instruments stores their symbols for all others.
        with contextlib.suppress(ValueError):
            return rows.sort(self._symbols)
        self._load_symbols()
        try:
            return rows.sort(self._symbols)
        except ValueError as error:
            # A derived tape can be ahead of that sink.
            told = f"{self._source}: {self._topic}: {error}; {lake.DEFINITIONS_ADVICE}"
            raise SinkUnavailable(told, retry_after_ms=200, lacks_input=True) from error

    def _write(
        self,
        table: Table,
        rows: Rows | Snapshots | BlobRows,
        start: int,
        end: int,
        name: str,
        attempt: str,
        tape: str | None,
    ) -> StoredFile:
        path = self._log.staged(attempt, name)
        nullable: set[str] = set()
        while True:
            batches = self._batches(table, rows, start, end)
            first = next(batches)
            schema = with_required(first.schema, nullable | columns_with_absent(first))
            try:
                return write_table_file(
                    path,
                    name,
                    itertools.chain([first], batches),
                    schema,
                    table,
                    level=self._config.compression_level,
                    tape=tape,
                )
            except UnexpectedNulls as error:
                # A column lacks its first value after a whole row group: the file begins anew.
                nullable |= error.columns

    def _batches(
        self, table: Table, rows: Rows | Snapshots | BlobRows, start: int, end: int
    ) -> Iterator[pa.RecordBatch]:
        step = self._config.row_group_rows
        if isinstance(rows, BlobRows):
            # A row group is in memory several times while it is written, and when it is read.
            step = max(1, min(step, GROUP_BYTES_MAX * len(rows) // max(1, rows.nbytes)))
        for at in range(start, end, step):
            columns = rows.arrow(self._symbols, at, min(at + step, end))
            yield lake.to_table_columns(pa.record_batch(columns), table)

    def _load_symbols(self) -> None:
        self._symbols.load(kept_symbols(self._lake.parent, self._source).records())

    def _save_symbols(self) -> None:
        # Definitions ahead of the commit do no harm: the tape gives the same ones again.
        if not self._symbols_saved:
            known = commits.load_symbols(self._lake, self._source)
            if known is not None:
                known.load(self._symbols.records())
                self._symbols = known
            commits.save_symbols(self._lake, self._source, self._symbols)
            self._symbols_saved = True


def _first_of(names: list[str], folder: Path) -> str:
    """Returns the first of the files in words, and how many there are more."""
    more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
    return f"{folder / names[0]}{more}"
