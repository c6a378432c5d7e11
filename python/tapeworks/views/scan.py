"""Tables as other libraries read them: piece by piece, larger than memory, with the tape's tail.

A lazy frame and a reader ask anew whenever they are collected or read. A dataset, a relation and a
connection hold files and tail as of when they are made: where a sink goes on, it merges files after
a while, and what names them is then to be made anew.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa

from tapeworks.errors import QueryError
from tapeworks.lake import TABLES
from tapeworks.views.conditions import parse_range, time_condition
from tapeworks.views.frames import with_floats
from tapeworks.views.opened import Opened, Symbols
from tapeworks.views.query import Engine, Scope, check_table, quote, time_of
from tapeworks.views.symbols import Chosen
from tapeworks.views.times import TimeLike
from tapeworks.views.view_sql import REVISED

if TYPE_CHECKING:
    import polars
    import pyarrow.dataset

BATCH_ROWS = 65_536
# It loads pandas where that is installed, which takes a second: only who needs it waits for it.
DATASETS = "tapeworks.views.datasets"


class Scan:
    """Rows of one table, of which nothing is read before a library asks for it.

    Whatever reads the Arrow C stream takes a scan as it is, such as `pyarrow.RecordBatchReader`.
    Rows come by source and file: who needs them by time sorts them.
    """

    def __init__(self, engine: Engine, table: str, chosen: Chosen, scope: Scope) -> None:
        self._engine = engine
        self._table = table
        self._chosen = chosen
        self._scope = scope
        where = [chosen.condition(), *time_condition(time_of(table), scope.start, scope.end)]
        self._condition = " and ".join(where)

    def __repr__(self) -> str:
        return f"Scan({self._table}: .lazy(), .relation(), .dataset(), .reader())"

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Gives the rows to any library that takes the Arrow C stream, batch by batch."""
        return self.reader().__arrow_c_stream__(requested_schema)

    def reader(self, rows: int = BATCH_ROWS) -> pa.RecordBatchReader:
        """Returns what reads batches of about so many rows, exact, as Arrow."""
        schema, batches = self._stream("*", rows)
        return pa.RecordBatchReader.from_batches(schema, batches)

    def lazy(self, *, decimals: bool = False) -> polars.LazyFrame:
        """Returns a lazy frame of Polars, which reads the columns that it needs when it collects.

        Prices and sizes are float64, or exact with `decimals`. Conditions are checked batch by
        batch; those on symbols and time let files be skipped if they are given to `scan`.

        Raises:
            QueryError: Polars is not installed.
        """
        try:
            library = importlib.import_module("polars")
        except ImportError:
            raise QueryError("polars is not installed: pip install 'tapeworks[polars]'") from None

        def frame_of(rows: pa.Table) -> polars.DataFrame:
            frame: polars.DataFrame = library.from_arrow(rows if decimals else with_floats(rows))
            return frame

        def read(
            columns: list[str] | None,
            predicate: polars.Expr | None,
            rows: int | None,
            batch_rows: int | None,
        ) -> Iterator[polars.DataFrame]:
            # Without a column, rows could not be counted.
            names = "*" if columns is None else ", ".join(f'"{name}"' for name in columns)
            limit = "" if rows is None else f" limit {rows}"
            _, batches = self._stream(names or "tape_offset", batch_rows or BATCH_ROWS, limit)
            for batch in batches:
                frame = frame_of(pa.Table.from_batches([batch]))
                yield frame if predicate is None else frame.filter(predicate)

        schema, _ = self._stream("*", 1, " limit 0")
        made: polars.LazyFrame = library.io.plugins.register_io_source(
            read, schema=frame_of(schema.empty_table()).schema
        )
        return made

    def relation(self) -> duckdb.DuckDBPyRelation:
        """Returns a relation of DuckDB, of a connection of its own, as of now."""
        connection = _connect(self._engine, [self._table])
        sources = ", ".join(map(quote, self._chosen.sources))
        condition = f"{self._condition} and venue in ({sources or 'null'})"
        return connection.sql(f"select * from {self._table} where {condition}")

    def dataset(self) -> pyarrow.dataset.Dataset:
        """Returns a dataset of PyArrow, as of now.

        Raises:
            QueryError: of a view of bars or news, which has the last revision of each, there is
                none, nor of trades of which some were corrected.
        """
        is_chosen = self._table not in TABLES or self._table in REVISED
        is_chosen |= self._table == "trades" and self._engine.has_corrections(self._scope)
        if is_chosen:
            raise QueryError(
                f"a dataset is of files, and {self._table} is made from them: expected .lazy(), "
                ".relation() or .reader(), or a table such as quotes"
            )
        table = TABLES[self._table]
        made = importlib.import_module(DATASETS)
        wanted = made.is_wanted(table, self._chosen, self._scope)
        found: pyarrow.dataset.Dataset = made.dataset_of(self._engine, table, self._scope)
        return found.filter(wanted)

    def _stream(
        self, columns: str, rows: int, limit: str = ""
    ) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        sql = f"select {columns} from {self._table} where {self._condition}{limit}"
        return self._engine.stream(sql, [self._table], self._scope, rows)


class Scans(Opened):
    """What `Lake` gives to other libraries."""

    def scan(
        self,
        table: str,
        symbols: Symbols | None = None,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        *,
        source: str | None = None,
        exchange: str | None = None,
        product: str | None = None,
    ) -> Scan:
        """Returns rows of a table for Polars, DuckDB or PyArrow to read, however many there are.

        `.lazy()` is a `polars.LazyFrame`, `.relation()` a relation of DuckDB, `.dataset()` a
        dataset and `.reader()` a reader of PyArrow. All have what is on the tape behind the files,
        and the columns `venue` and `date`. Range and symbols are as for `rows`; rows are unsorted.

        Raises:
            QueryError: there is no such table, or as for `trades`.
        """
        check_table(table)
        chosen = self._instruments.choose(symbols, source, exchange, product)
        return Scan(self._engine, table, chosen, Scope(chosen.sources, *parse_range(start, end)))

    def connect(self) -> duckdb.DuckDBPyConnection:
        """Returns a connection of DuckDB that has all tables and views, as of now.

        It is the caller's: it may make tables of its own, in memory. Like `sql` it reaches no file
        and no setting, unless the folder was opened with `external_access`.

        Raises:
            QueryError: so much is on the tape and not in the lake that it does not fit.
        """
        return _connect(self._engine, None)


def _connect(engine: Engine, names: list[str] | None) -> duckdb.DuckDBPyConnection:
    made = importlib.import_module(DATASETS)
    found: duckdb.DuckDBPyConnection
    found = made.connection_of(engine, made.every_name(engine) if names is None else names)
    return found
