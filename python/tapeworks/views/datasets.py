"""Tables as datasets of PyArrow, and a DuckDB connection that has all of them.

A dataset is the files that the commits list and the rows of the tape behind them, as of when it is
made. DuckDB reads it through PyArrow, so that a connection needs no access to any file.
"""

import importlib
from collections.abc import Iterable
from datetime import date

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as fs

from tapeworks import commits
from tapeworks.lake import TABLES, Table, column_of, empty_rows
from tapeworks.time_columns import REST, split_times
from tapeworks.views.corrections import AMENDED, FOUND, ORIGINALS
from tapeworks.views.options import MACRO
from tapeworks.views.query import (
    BARS_OF_LENGTH,
    Engine,
    Scope,
    confine,
    table_of,
)
from tapeworks.views.symbols import Chosen
from tapeworks.views.tail import Part
from tapeworks.views.times import parse_interval
from tapeworks.views.view_sql import (
    REVISED,
    TABLE_OF,
    finished_bars,
    newest_revisions,
    with_columns,
)

# Loaded for files of an earlier version alone.
PARQUET = "pyarrow.parquet"
US = pa.timestamp("us", "UTC")


def dataset_of(engine: Engine, table: Table, scope: Scope) -> ds.Dataset:
    """Returns all rows of `table` within the days of `scope`, with `venue` and `date`."""
    schema = _schema(table)
    paths, places, held = [], [], [schema.empty_table()]
    for part in engine.parts(table, scope):
        for file in part.files:
            if file.version < commits.TABLE_VERSION:
                rows = split_times(importlib.import_module(PARQUET).read_table(file.path))
                held.append(_placed(rows, part, pa.scalar(date.fromisoformat(file.day)), schema))
                continue
            paths.append(str(file.path))
            places.append(
                (ds.field("venue") == part.source)
                & (ds.field("date") == date.fromisoformat(file.day))
            )
        if part.tail is not None:
            days = part.tail[column_of(table, "ts_event")].cast(pa.date32())
            held.append(_placed(part.tail, part, days, schema))
    tail = ds.dataset(pa.concat_tables(held))
    if not paths:
        return tail
    files = ds.FileSystemDataset.from_paths(
        paths,
        schema=schema,
        format=ds.ParquetFileFormat(),
        filesystem=fs.LocalFileSystem(),
        partitions=places,
    )
    return ds.dataset([files, tail])


def is_wanted(table: Table, chosen: Chosen, scope: Scope) -> ds.Expression:
    """Returns what must hold of a row, so that files and row groups are skipped."""
    wanted = ds.scalar(True)
    if chosen.symbols is not None:
        found = ds.scalar(False)
        for source, names in chosen.symbols.items():
            found |= (ds.field("venue") == source) & ds.field("symbol").isin(names)
        wanted &= found
    elif scope.sources is not None:
        wanted &= ds.field("venue").isin(list(scope.sources))
    time = column_of(table, "ts_event")
    if scope.start is not None:
        wanted &= ~_before(time, scope.start)
    if scope.end is not None:
        wanted &= _before(time, scope.end)
    return wanted


def connection_of(engine: Engine, names: Iterable[str]) -> duckdb.DuckDBPyConnection:
    """Returns a connection in which each table or view of `names` can be asked.

    It reads no file, unless all is allowed, and changes nothing but tables of its own.
    """
    connection = duckdb.connect()
    connection.execute(MACRO)
    confine(connection, engine.external_access)
    made: set[str] = set()

    def make(name: str, body: str) -> None:
        if name not in made:
            made.add(name)
            connection.execute(f"create view {name} as {body}")

    for name in names:
        table = table_of(name)
        is_revised = table.name in REVISED
        is_made = is_revised or table.name in ("instruments", "trades")
        held = f"_{table.name}" if is_made else table.name
        if held not in made:
            made.add(held)
            # Unlike what is registered, a view is there for each `cursor` of the connection, too.
            connection.from_arrow(dataset_of(engine, table, Scope())).create_view(held)
        if table.name == "instruments":
            make(table.name, with_columns(table.name, f"from {held}"))
        if table.name == "trades":
            make(ORIGINALS, f"from {held}")
            if engine.has_corrections(Scope()):
                if "trades" not in made:
                    found = dataset_of(engine, TABLES["corrections"], Scope())
                    connection.from_arrow(found).create_view(FOUND)
                make(table.name, AMENDED)
            make(table.name, f"from {held}")
        if is_revised:
            every = REVISED[table.name]
            make(every, with_columns(table.name, f"from {held}"))
            make(table.name, newest_revisions(every))
        if match := BARS_OF_LENGTH.fullmatch(name):
            make(name, finished_bars(parse_interval(match[1])))
    return connection


def every_name(engine: Engine) -> list[str]:
    """Returns the names of all tables and views that can be asked."""
    return [*TABLES, *TABLE_OF, *engine.bars_of_length()]


def _schema(table: Table) -> pa.Schema:
    """Returns the columns of `table` and its place; texts are texts, whatever a file makes them."""
    fields = [
        field.with_type(pa.string()) if pa.types.is_dictionary(field.type) else field
        for field in empty_rows(table).schema
    ]
    return pa.schema([*fields, pa.field("venue", pa.string()), pa.field("date", pa.date32())])


def _placed(
    rows: pa.Table, part: Part, days: pa.Scalar | pa.ChunkedArray, schema: pa.Schema
) -> pa.Table:
    venue = pa.repeat(pa.scalar(part.source), rows.num_rows)
    day = pa.repeat(days, rows.num_rows) if isinstance(days, pa.Scalar) else days
    placed = rows.append_column("venue", venue).append_column("date", day)
    return placed.select(schema.names).cast(schema)


def _before(column: str, ts: int) -> ds.Expression:
    """Returns the condition that a time is before `ts` ns."""
    whole, rest = pa.scalar(ts // 1_000, pa.int64()).cast(US), ts % 1_000
    is_before = ds.field(column) < whole
    if not rest:
        return is_before
    # The first part alone lets files and row groups be skipped.
    return is_before | ((ds.field(column) == whole) & (ds.field(column + REST) < rest))
