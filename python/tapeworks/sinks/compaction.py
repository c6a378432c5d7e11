"""Merges small files of a day into few that are sorted by symbol, for readers that skip.

Files that follow each other on the tape become one: those of a like size while the day goes on,
all of it once nothing is added any more. What is read is first compared with the hashes in the
manifest, so that damage is never copied into a file that looks whole. The new file is staged, read
again from the disk, and all values of all its rows are compared with those of the old ones, and
only then is it committed, under a name that no other file has; the old ones are deleted after
that. A crash at any instant is finished by the next `open`.

A merge may take long: it runs beside the sink, in a thread of its own, and blocks a flush no longer
than one commit takes. Views never see a row twice; other readers may for the milliseconds between
renaming and deleting.
"""

import itertools
import logging
import time as clock
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tapeworks import commits, lake
from tapeworks.errors import LakeError
from tapeworks.lake import LakeFile, Table
from tapeworks.sinks.commit_log import Changes, CommitLog, GivenUp
from tapeworks.sinks.contents import RowSum, batches_of, go_on, hash_of, sum_file
from tapeworks.sinks.writer import with_required, write_table_file
from tapeworks.time_columns import (
    REST,
    nanosecond_times,
    split_schema,
    split_sql,
    split_times,
)

log = logging.getLogger("tapeworks.sinks")

# So many files of one tier become one; each further tier may hold one less before all below it go.
FAN_IN = 8
# Rows grow by so many bits from tier to tier.
TIER_BITS = 3
CHUNK_ROWS = 1_000_000
# Rows that hold whole frames are sorted so many bytes at a time; each piece is a row group.
CHUNK_BYTES = 32 << 20
ROW_BYTES = 256
MEMORY_LIMIT = "1GB"
# A day that is over is written anew as a whole for rows that came late if these are an eighth of
# it, or if none came for so long: the rest waits in files of its own.
WHOLE_SHARE = 8
LATE_ROWS_S = 86_400.0


def files_max(rows: int) -> int:
    """Returns how many files of one day there are at most, whose largest has `rows` rows."""
    return FAN_IN + (FAN_IN - 1) * _tier(rows) - 1


def _tier(rows: int) -> int:
    return max(rows, 1).bit_length() // TIER_BITS


def choose(files: list[LakeFile], is_over: bool) -> list[LakeFile]:
    """Returns files of one day, in the order of the tape, that should become one; or none.

    Of the files at the end that are of a tier or below, fewer than `FAN_IN` and one less for each
    tier stay. So their number is bounded whatever their sizes are, and each row is merged about
    once a tier.
    """
    if is_over:
        return files if len(files) > 1 else []
    tiers = [_tier(file.rows) for file in files]
    for tier in sorted(set(tiers)):
        higher = [at for at, found in enumerate(tiers) if found > tier]
        run = files[higher[-1] + 1 if higher else 0 :]
        if len(run) >= FAN_IN + (FAN_IN - 1) * tier:
            return run
    return []


@dataclass
class Compaction:
    """Compacts the tables of one topic of one source."""

    log: CommitLog
    row_group_rows: int
    compression_level: int
    quiet_s: float = 0.0
    """A day that is over is merged as a whole when nothing was added to it for so long."""
    refused: set[str] = field(default_factory=set)
    """Files that were found damaged, or not to fit: they are left as they are."""

    def step(self, today: str) -> int:
        """Merges the files of one day of one table, if any is due; returns how many it merged."""
        for table, day, files in self._days():
            chosen = choose(files, day < today and self._is_due(files))
            if chosen and self._merge(table, day, chosen):
                return len(chosen)
        return 0

    def _days(self) -> Iterator[tuple[Table, str, list[LakeFile]]]:
        live = self.log.files()
        for table in lake.tables_of(self.log.topic):
            days: dict[str, list[LakeFile]] = {}
            for stored in live:
                if stored.table == table.name and stored.name not in self.refused:
                    file = commits.lake_file(self.log.root, stored)
                    days.setdefault(file.day, []).append(file)
            for day, files in sorted(days.items()):
                if len(files) > 1:
                    yield table, day, sorted(files, key=lambda file: (file.first, file.last))

    def _is_due(self, files: list[LakeFile]) -> bool:
        """Whether all files of a day that is over should become one."""
        try:
            newest = max(file.path.stat().st_mtime for file in files)
        except FileNotFoundError:
            return False
        if not self.quiet_s:
            return True
        quiet_s, rows = clock.time() - newest, [file.rows for file in files]
        is_worth_it = WHOLE_SHARE * (sum(rows) - max(rows)) >= sum(rows)
        return quiet_s >= (self.quiet_s if is_worth_it else max(self.quiet_s, LATE_ROWS_S))

    def _merge(self, table: Table, day: str, files: list[LakeFile]) -> bool:
        """Merges `files`; false if they cannot be, which is logged."""
        # Before anything is read: what a later `recover` finds is another lake.
        attempt = self.log.new_attempt("merge")
        hashes = self._hashes(files)
        if hashes is None:
            return False
        schemas = [pq.read_schema(file.path) for file in files]
        try:
            schema = _union([split_schema(schema) for schema in schemas])
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            self._refuse(files, f"their columns do not fit: {error}")
            return False
        first, last = min(f.first for f in files), max(file.last for file in files)
        name = self.log.free_name(lake.file_path(table.name, self.log.source, day, first, last))
        try:
            staged = self.log.staged(attempt, name)
            stored = write_table_file(
                staged,
                name,
                self._sorted(table, files, schemas, schema, staged.parent),
                schema,
                table,
                level=self.compression_level,
                tape=_tape_of(files[0].path),
            )
            compare(hashes, staged, stored.sha256, schema, self._check)
            removes = tuple(file.path.relative_to(self.log.root).as_posix() for file in files)
            self.log.commit(Changes((stored,), removes, attempt), None, {})
        finally:
            self.log.clear_attempts("merge")
        return True

    def _hashes(self, files: list[LakeFile]) -> dict[Path, str] | None:
        """Returns the hash of each file; none if one is not what it was written as."""
        live = {stored.name: stored for stored in self.log.files()}
        hashes, damaged = {}, []
        for file in files:
            stored = live.get(file.path.relative_to(self.log.root).as_posix())
            if stored is None or file_sha256(file.path, self._check) != stored.sha256:
                damaged.append(file)
            else:
                hashes[file.path] = stored.sha256
        if damaged:
            self._refuse(damaged, "missing or changed since they were written: `tape lake verify`")
            return None
        return hashes

    def _check(self) -> None:
        """Ends a merge whose sink was closed: a stop waits for it."""
        if self.log.closed:
            raise GivenUp("the sink was closed")

    def _refuse(self, files: list[LakeFile], why: str) -> None:
        self.refused.update(file.path.relative_to(self.log.root).as_posix() for file in files)
        log.error("not merged: %s: %s", ", ".join(str(file.path) for file in files), why)

    def _sorted(
        self,
        table: Table,
        files: list[LakeFile],
        schemas: list[pa.Schema],
        schema: pa.Schema,
        spill: Path,
    ) -> Iterator[pa.RecordBatch]:
        time, source = lake.column_of(table, "ts_event"), _source(files, schemas)
        with duckdb.connect() as connection:
            connection.execute(
                f"set timezone = 'UTC'; set memory_limit = '{MEMORY_LIMIT}'; set threads = 1; "
                f"set temp_directory = {_quote(str(spill / 'spill'))}"
            )
            large = [name for name in schema.names if pa.types.is_binary(schema.field(name).type)]
            if large:
                conditions = _slices_by_bytes(files, time, large[0], self._check)
            else:
                conditions = _chunks(connection, source, time)
            for condition in conditions:
                self._check()
                relation = connection.sql(
                    f"select * from {source} where {condition} "
                    f"order by symbol nulls first, {time}, {time}{REST}, tape_offset"
                )
                chunk = relation.to_arrow_table().select(schema.names).cast(schema)
                chunk = chunk.combine_chunks()
                yield from chunk.to_batches(max_chunksize=self.row_group_rows)


def _source(files: list[LakeFile], schemas: list[pa.Schema]) -> str:
    """Returns the SQL that reads `files` together, those of an earlier version too."""
    groups: dict[tuple[str, str], list[str]] = {}
    for file, schema in zip(files, schemas, strict=True):
        nanoseconds = nanosecond_times(schema)
        columns = split_sql(schema.names, nanoseconds) if nanoseconds else "*"
        key = columns, lake.schema_mark(schema)
        groups.setdefault(key, []).append(_quote(lake.duckdb_path(file.path)))
    selects = [
        f"select {columns} from read_parquet([{', '.join(names)}], hive_partitioning = false)"
        for (columns, _), names in groups.items()
    ]
    return f"({' union all by name '.join(selects)})"


def _chunks(connection: duckdb.DuckDBPyConnection, source: str, time: str) -> Iterator[str]:
    """Yields conditions, in the order of the file, that each select a bounded number of rows."""
    counted = connection.sql(
        f"select symbol, count(*), epoch_us(min({time})), epoch_us(max({time})) "
        f"from {source} group by 1 order by 1 nulls first"
    ).fetchall()
    if sum(row[1] for row in counted) <= CHUNK_ROWS:
        yield "true"
        return
    group: list[str] = []
    size = 0
    for symbol, count, first, last in counted:
        if group and size + count > CHUNK_ROWS:
            yield f"symbol in ({', '.join(group)})"
            group, size = [], 0
        if count > CHUNK_ROWS and first is not None:
            yield from _slices(symbol, time, count, first, last)
        elif symbol is None:
            yield "symbol is null"
        else:
            group.append(_quote(symbol))
            size += count
    if group:
        yield f"symbol in ({', '.join(group)})"


def _slices(symbol: str | None, time: str, count: int, first: int, last: int) -> Iterator[str]:
    # Bursts make pieces of equal time unequal in rows: cut twice as fine.
    pieces = 2 * (count // CHUNK_ROWS + 1)
    cuts = [first + (last - first) * piece // pieces for piece in range(1, pieces)]
    chosen = "symbol is null" if symbol is None else f"symbol = {_quote(symbol)}"
    for condition in _between(time, cuts):
        yield f"{chosen} and {condition}"


def _slices_by_bytes(
    files: list[LakeFile], time: str, large: str, check: Callable[[], None]
) -> Iterator[str]:
    """Yields conditions that each select rows of few enough bytes, in the order of time.

    Rows of one microsecond stay together. Few of them are large: frames come one after the other.
    """
    times, sizes = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for file in files:
        for batch in batches_of(file.path, check):
            rows = split_times(batch.select([time, large]))
            dated = rows.filter(pc.is_valid(rows[time]))
            times.append(dated[time].cast(pa.int64()).to_numpy())
            length = pc.fill_null(pc.binary_length(dated[large]), 0)
            sizes.append(length.to_numpy().astype(np.int64))
    at = np.argsort(joined := np.concatenate(times), kind="stable")
    ordered, total = joined[at], np.cumsum(np.concatenate(sizes)[at] + ROW_BYTES)
    cuts: list[int] = []
    while len(total):
        # The first row beyond the limit begins a new piece, unless it is the first of all.
        past = max(1, int(np.searchsorted(total, CHUNK_BYTES, side="right")))
        if past >= len(total):
            break
        past = int(np.searchsorted(ordered, ordered[past]))
        if past == 0:
            past = int(np.searchsorted(ordered, ordered[0], side="right"))
            if past >= len(total):
                break
        cuts.append(int(ordered[past]))
        ordered, total = ordered[past:], total[past:] - total[past - 1]
    yield from _between(time, cuts)


def _between(time: str, cuts: list[int]) -> Iterator[str]:
    """Yields a condition for each piece of time that `cuts` leave."""
    bounds: list[Any] = [None, *cuts, None]
    for low, high in itertools.pairwise(bounds):
        parts = ["true"]
        if low is not None:
            # Rows without a time come last.
            absent = f" or {time} is null" if high is None else ""
            parts.append(f"(epoch_us({time}) >= {low}{absent})")
        if high is not None:
            parts.append(f"epoch_us({time}) < {high}")
        yield " and ".join(parts)


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _union(schemas: list[pa.Schema]) -> pa.Schema:
    """Returns the schema that holds every column of `schemas`, each as wide as the widest.

    Raises:
        pa.ArrowInvalid, pa.ArrowTypeError: a column has types of which none is the wider.
    """
    plain = [pa.schema(list(schema)) for schema in schemas]
    widest = pa.unify_schemas(plain, promote_options="permissive")
    # A column that one file lacks is absent in its rows.
    everywhere = {name for name in widest.names if all(name in s.names for s in schemas)}
    nullable = {field.name for schema in schemas for field in schema if field.nullable}
    return with_required(widest, nullable | (set(widest.names) - everywhere))


def compare(
    hashes: dict[Path, str],
    merged: Path,
    sha256: str,
    schema: pa.Schema,
    check: Callable[[], None] = go_on,
) -> None:
    """Reads the files of `hashes` and `merged` from the disk, and compares all that they hold.

    Raises:
        LakeError: it does not hold the same rows, each as often, with the same values; or one of
            the files is not what it was written as.
    """
    before = RowSum()
    for path, expected in hashes.items():
        before += sum_file(path, expected, schema, check)
    after = sum_file(merged, sha256, schema, check)
    if before != after:
        raise LakeError(
            f"{merged}: expected {before.rows} rows of the files that it replaces, got "
            f"{after.rows}, or other values: nothing was replaced"
        )


def file_sha256(path: Path, check: Callable[[], None] = go_on) -> str | None:
    """Returns the hash of a file; none if there is no such file."""
    try:
        with path.open("rb") as file:
            return hash_of(file, check)
    except FileNotFoundError:
        return None


def _tape_of(path: Path) -> str | None:
    found = (pq.read_metadata(path).metadata or {}).get(commits.TAPE_KEY, b"")
    return found.decode() or None
