"""Merges small files of a day into few that are sorted by symbol, for readers that skip.

Files that follow each other on the tape become one whose range covers theirs: sixteen of a like
size while the day goes on, all of it once it is over. The new file is staged, committed and renamed
into place before the old ones are removed; a crash at any instant is finished by the next `open`.
Views leave out what is covered; other readers may see rows twice for the milliseconds between.
"""

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from tapeworks import lake
from tapeworks.lake import LakeFile, Table
from tapeworks.sinks.writer import FileWriter, with_required
from tapeworks.time_columns import REST, nanosecond_times, split_schema, split_sql

FAN_IN = 16
CHUNK_ROWS = 4_000_000
MEMORY_LIMIT = "1GB"


def commit_name(topic: str) -> str:
    """Returns the name under which compactions of a topic are committed."""
    return f"compact-{topic}"


def choose(files: list[LakeFile], rows: list[int], is_over: bool) -> list[LakeFile]:
    """Returns files of one day, in the order of the tape, that should become one; or none."""
    if is_over:
        return files if len(files) > 1 else []
    run: list[LakeFile] = []
    tier = -1
    for file, count in zip(files, rows, strict=True):
        this = max(count, 1).bit_length() // 4
        if this != tier:
            run, tier = [], this
        run.append(file)
        if len(run) == FAN_IN:
            return run
    return []


@dataclass(frozen=True)
class Compaction:
    """Compacts the tables of one topic of one source."""

    lake: Path
    source: str
    topic: str
    row_group_rows: int
    compression_level: int

    def recover(self) -> None:
        """Finishes what a crash left."""
        lake.recover(self.lake, self.source, commit_name(self.topic))

    def step(self, today: str) -> int:
        """Merges the files of one day of one table, if any is due; returns how many it merged."""
        for table in lake.tables_of(self.topic):
            for day in lake.days(self.lake, table.name, self.source):
                files = lake.files_of_day(self.lake, table.name, self.source, day)
                if len(files) < 2:
                    continue
                is_over = day < today
                rows = [] if is_over else [pq.read_metadata(f.path).num_rows for f in files]
                chosen = choose(files, rows, is_over)
                if chosen:
                    self._merge(table, day, chosen)
                    return len(chosen)
        return 0

    def _merge(self, table: Table, day: str, files: list[LakeFile]) -> None:
        first, last = files[0].first, max(file.last for file in files)
        name = lake.file_path(table.name, self.source, day, first, last)
        topic = commit_name(self.topic)
        staged = lake.staging_path(self.lake, self.source, topic, name)
        staged.parent.mkdir(parents=True, exist_ok=True)
        found = [pq.read_schema(file.path) for file in files]
        schemas = [split_schema(schema) for schema in found]
        nullable = {field.name for schema in schemas for field in schema if field.nullable}
        schema = with_required(schemas[0], nullable)
        source = _source(files, found)
        with staged.open("wb") as file:
            writer = FileWriter(file, schema, table, self.compression_level)
            for batch in self._sorted(table, source, schema):
                writer.write(batch)
            writer.close()
            file.flush()
            os.fsync(file.fileno())
        removes = tuple(file.path.relative_to(self.lake).as_posix() for file in files)
        commit = lake.Commit(0, (name,), removes)
        lake.publish(self.lake, self.source, topic, commit)
        lake.settle(self.lake, self.source, topic, commit)

    def _sorted(self, table: Table, source: str, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        time = lake.column_of(table, "ts_event")
        with duckdb.connect() as connection:
            connection.execute(
                f"set timezone = 'UTC'; set memory_limit = '{MEMORY_LIMIT}'; set threads = 1"
            )
            for condition in _chunks(connection, source, time):
                relation = connection.sql(
                    f"select * from {source} where {condition} "
                    f"order by symbol nulls first, {time}, {time}{REST}, tape_offset"
                )
                chunk = relation.to_arrow_table().cast(schema).combine_chunks()
                yield from chunk.to_batches(max_chunksize=self.row_group_rows)


def _source(files: list[LakeFile], schemas: list[pa.Schema]) -> str:
    """Returns the SQL that reads `files` together, those of an earlier version too."""
    groups: dict[str, list[str]] = {}
    for file, schema in zip(files, schemas, strict=True):
        nanoseconds = nanosecond_times(schema)
        columns = split_sql(schema.names, nanoseconds) if nanoseconds else "*"
        groups.setdefault(columns, []).append(_quote(str(file.path)))
    selects = [
        f"select {columns} from read_parquet([{', '.join(names)}], hive_partitioning = false)"
        for columns, names in groups.items()
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
        if symbol is None:
            yield "symbol is null"
        elif count > CHUNK_ROWS:
            yield from _slices(symbol, time, count, first, last)
        else:
            group.append(_quote(symbol))
            size += count
    if group:
        yield f"symbol in ({', '.join(group)})"


def _slices(symbol: str, time: str, count: int, first: int, last: int) -> Iterator[str]:
    # Bursts make pieces of equal time unequal in rows: cut twice as fine.
    pieces = 2 * (count // CHUNK_ROWS + 1)
    cuts = [first + (last - first) * piece // pieces for piece in range(1, pieces)]
    bounds: list[Any] = [None, *cuts, None]
    for low, high in itertools.pairwise(bounds):
        parts = [f"symbol = {_quote(symbol)}"]
        if low is not None:
            parts.append(f"epoch_us({time}) >= {low}")
        if high is not None:
            parts.append(f"epoch_us({time}) < {high}")
        yield " and ".join(parts)


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
