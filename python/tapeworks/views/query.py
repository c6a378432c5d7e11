"""DuckDB over the lake and the tape's tail, as of one instant.

A question sees each row once: from the files up to the offset that the sink has committed, and
from the tape behind it. Only the tables that it names, and only the days that it can touch, are
opened.
"""

import importlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import duckdb
import pyarrow as pa

from tapeworks import commits, lake
from tapeworks.errors import ArgumentError, QueryError
from tapeworks.lake import TABLES, Table
from tapeworks.nearest import nearest
from tapeworks.tape import taped_sources
from tapeworks.time_columns import distinct_names, nanosecond_times, split_sql
from tapeworks.views.columns import described
from tapeworks.views.corrections import AMENDED, FOUND, ORIGINALS, known_at
from tapeworks.views.interruptible import run_interruptibly
from tapeworks.views.options import MACRO
from tapeworks.views.tail import Part, SourceTail, Tails
from tapeworks.views.times import format_interval, parse_interval
from tapeworks.views.view_sql import (
    REVISED,
    TABLE_OF,
    finished_bars,
    newest_revisions,
    with_columns,
)

Value = TypeVar("Value")
Params = Sequence[object] | Mapping[str, object]
"""What stands in a query for `?` or `$1`, or by name for `$name`."""
Batches = tuple[pa.Schema, Iterator[pa.RecordBatch]]
Runner = Callable[..., pa.Table]

ATTEMPTS = 5
# Loaded for files of an earlier version alone.
PARQUET = "pyarrow.parquet"
# Nothing but the lake can be read, and nothing be loaded, attached, written or set.
SANDBOX = (
    "autoload_known_extensions = false",
    "autoinstall_known_extensions = false",
    "enable_external_access = false",
    "lock_configuration = true",
)
READ_ONLY = (
    "SQL reads the lake and changes nothing: expected SELECT, FROM, WITH, DESCRIBE, SUMMARIZE, "
    "PIVOT or EXPLAIN of these, got {found}. `tape query --unsafe-external-access` and "
    "tapeworks.open(..., external_access=True) lift this"
)
LEADING_COMMENTS = re.compile(r"\A(?:\s+|--[^\n]*\n?|/\*.*?\*/)*", re.DOTALL)
EXPLAIN = re.compile(r"explain\s*(?:analyze\b)?\s*(?:\([^()]*\))?", re.IGNORECASE)
PIVOT = re.compile(r"(?:pivot|unpivot|from|with|select)\b", re.IGNORECASE)
VIEWS = (*TABLES, *TABLE_OF)
# Views of all lengths of bars; `bars_1m` and the like have the finished ones of one length.
BARS = ("bars", "bar_revisions")
BARS_OF_LENGTH = re.compile(r"bars_(\d+(?:ms|s|m|h|d|w))")
# Statements whose rows are the answer.
ANSWERED = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN, duckdb.StatementType.MULTI)
DESCRIBE = re.compile(r"\s*(?:describe|desc)\s+([a-z_0-9]+)\s*;?\s*", re.IGNORECASE)
WORD = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")


@dataclass(frozen=True)
class Scope:
    """Which part of a table is asked for. `end` is exclusive; none means unbounded."""

    sources: Sequence[str] | None = None
    start: int | None = None
    end: int | None = None
    as_of: int | None = None
    """Of trades and news: what was received by then, and corrected by then."""

    @property
    def days(self) -> tuple[str, str] | None:
        """First and last day of the files to be opened; none means all."""
        if self.start is None and self.end is None:
            return None
        first = "0000" if self.start is None else lake.day_of(self.start)
        last = "9999" if self.end is None else lake.day_of(max(self.end - 1, 0))
        return first, last


class Engine:
    """Answers SQL over one data folder; once it `is_closed`, every call is a QueryError."""

    def __init__(self, data: Path, external_access: bool = False, tails: Tails | None = None):
        self._data = data
        # DuckDB compares whole paths with the folder that it may read.
        self._lake = (data / "lake").resolve()
        # DuckDB would make columns of such folders above the lake, or another venue.
        self._has_equals = "=" in str(self._lake)
        self._external_access = external_access
        self.is_closed = False
        self._tails = Tails(data) if tails is None else tails
        # What to select from files of an earlier version.
        self._columns: dict[Path, str] = {}
        # Files never change once named, so that their footers are worth keeping. No other database
        # is attached; each question gets a connection of its own to this one.
        self._database = duckdb.connect()
        # Without `global`, a setting would be that of this one connection.
        self._database.execute("set global parquet_metadata_cache = true")
        self._database.execute(MACRO)
        # It compares the pattern that stands for a path, too.
        folders = {str(self._lake), lake.duckdb_path(self._lake)}
        confine(self._database, external_access, sorted(folders))

    def sources(self) -> list[str]:
        """Returns all sources that have a tape or a file."""
        self._check_open()
        names = set(taped_sources(self._data))
        for table in TABLES:
            names.update(lake.sources(self._lake, table))
        return sorted(names)

    def tail(self, source: str) -> SourceTail:
        """Returns the reader of what is behind the lake for `source`."""
        self._check_open()
        return self._tails[source]

    def close(self) -> None:
        """Lets go of all that is open; no question is answered any more."""
        self.is_closed = True
        self._database.close()
        self._tails.clear()

    def _check_open(self) -> None:
        if self.is_closed:
            raise QueryError("the data folder was closed: open it anew with tapeworks.open")

    @property
    def external_access(self) -> bool:
        """Whether SQL may do all that DuckDB can."""
        return self._external_access

    def parts(self, table: Table, scope: Scope) -> list[Part]:
        """Returns what holds `table`, by source: its files, and the rows of the tape behind them.

        Raises:
            QueryError: so many rows are on the tape that they do not fit, or as for `run`.
        """
        wanted = scope.sources if scope.sources is not None else self.sources()
        return self._attempt(
            lambda: [self.tail(source).part(table, scope.days) for source in wanted]
        )

    def run(
        self, sql: str, tables: Iterable[str], scope: Scope, params: Params | None = None
    ) -> pa.Table:
        """Runs `sql`, in which each of `tables` may be named, and returns all its rows.

        `params` stand for `?` or `$1` by place, for `$name` by name.

        Raises:
            QueryError: DuckDB refuses; the message is its own.
        """
        if isinstance(params, str | bytes):
            raise QueryError(f"expected a list or a dictionary of parameters, got {params!r}")
        return self._attempt(lambda: self._run(sql, tables, scope, params))

    def together(
        self, tables: Iterable[str], scope: Scope, work: Callable[[Runner], Value]
    ) -> Value:
        """Returns what `work` does with a function that runs SQL, all of it as of one instant.

        The function takes the SQL, and by name tables of Arrow that the SQL names.

        Raises:
            QueryError: DuckDB refuses; the message is its own.
        """

        def attempt() -> Value:
            with self._database.cursor() as connection:
                made: set[str] = set()
                for name in tables:
                    self._define(connection, name, scope, made)

                def run(sql: str, **given: pa.Table) -> pa.Table:
                    for name, table in given.items():
                        connection.register(name, table)
                    read = connection.sql(sql).to_arrow_table
                    return run_interruptibly(read, connection.interrupt)

                return work(run)

        return self._attempt(attempt)

    def stream(self, sql: str, tables: Iterable[str], scope: Scope, rows: int) -> Batches:
        """Runs `sql`, and yields schema and rows as they are read, in batches of about `rows`.

        Raises:
            QueryError: DuckDB refuses, now or later; or a file was merged away while it was read.
        """
        connection, reader = self._attempt(lambda: self._begin(sql, tables, scope, rows))
        return reader.schema, self._batches(connection, reader)

    def _attempt(self, work: Callable[[], Value]) -> Value:
        self._check_open()
        for attempt in range(ATTEMPTS):
            try:
                return work()
            except (duckdb.IOException, FileNotFoundError) as error:
                # Compaction removed a file between listing and reading it: list again.
                if attempt + 1 == ATTEMPTS:
                    raise QueryError(f"the lake cannot be read: {error}") from error
            except duckdb.Error as error:
                raise QueryError(_advise(str(error))) from error
        raise AssertionError("unreachable")

    def _begin(
        self, sql: str, tables: Iterable[str], scope: Scope, rows: int
    ) -> tuple[duckdb.DuckDBPyConnection, pa.RecordBatchReader]:
        connection = self._database.cursor()
        made: set[str] = set()
        for name in tables:
            self._define(connection, name, scope, made)
        begin = connection.sql(sql).to_arrow_reader
        return connection, run_interruptibly(lambda: begin(rows), connection.interrupt)

    def _batches(
        self, connection: duckdb.DuckDBPyConnection, reader: pa.RecordBatchReader
    ) -> Iterator[pa.RecordBatch]:
        with connection:
            try:
                read = reader.read_next_batch
                while True:
                    yield run_interruptibly(read, connection.interrupt)
            except StopIteration:
                return
            except (duckdb.Error, OSError, pa.ArrowException) as error:
                raise QueryError(f"the lake cannot be read on: {error}; ask again") from error

    def _run(
        self, sql: str, tables: Iterable[str], scope: Scope, params: Params | None
    ) -> pa.Table:
        if sql.strip().rstrip("; ").lower() == "show tables":
            # Views are made for the tables that a query names, so DuckDB itself knows of none here.
            return pa.table({"name": sorted({*VIEWS, *self.bars_of_length()})})
        self._check_statements(sql)
        with self._database.cursor() as connection:
            made: set[str] = set()
            for name in tables:
                self._define(connection, name, scope, made)

            def rows() -> pa.Table:
                relation = connection.sql(sql, params=params)
                # A statement that gives no rows is answered with none.
                table = pa.table({}) if relation is None else relation.to_arrow_table()
                # Of two columns of one name, rows and JSON would have one.
                return table.rename_columns(distinct_names(table.column_names))

            found = run_interruptibly(rows, connection.interrupt)
        match = DESCRIBE.fullmatch(sql)
        if match and (name := match[1].lower()) in tables:
            return described(table_of(name), found)
        return found

    def bars_of_length(self) -> list[str]:
        """Returns the views of bars of one length, for each length that is built."""
        sql = "select distinct interval_ms from bar_revisions order by 1"
        lengths = self.run(sql, ["bar_revisions"], Scope()).column(0).to_pylist()
        return [f"bars_{format_interval(length)}" for length in lengths]

    def finished_lengths(self, condition: str) -> list[int]:
        """Returns the lengths in ms of which there are finished bars that meet `condition`."""
        sql = (
            f"select distinct interval_ms from bar_revisions where closed = 1 and {condition} "
            "order by 1"
        )
        return list(self.run(sql, ["bar_revisions"], Scope()).column(0).to_pylist())

    def check_length(self, length: int) -> None:
        """Refuses bars of a length of which none are built, where others are.

        Raises:
            QueryError: says which are.
        """
        sql = f"select 1 from bar_revisions where interval_ms = {length} limit 1"
        if self.run(sql, ["bar_revisions"], Scope()).num_rows:
            return
        if built := self.bars_of_length():
            lengths = ", ".join(name.removeprefix("bars_") for name in built)
            raise QueryError(
                f"no bars of {format_interval(length)} are built; there are {lengths}: "
                f"lake.bars(interval={format_interval(length)!r}) makes them of the trades; to "
                "have them built, add it to bars_ms in [processors]"
            )

    def _check_statements(self, sql: str) -> None:
        statements = self._database.extract_statements(sql)
        if not self._external_access:
            _check_reads_only(self._database, sql)
        shown = [one for one in statements if one.type in ANSWERED]
        if len(shown) > 1 or (shown and shown[0] is not statements[-1]):
            raise QueryError(
                f"expected one statement, got {len(statements)}: the answer is that of the last "
                "alone; ask each by itself, or join them with `union all`"
            )

    def _define(
        self, connection: duckdb.DuckDBPyConnection, name: str, scope: Scope, made: set[str]
    ) -> None:
        """Makes the view `name`, and first what it selects from; `made` are those that are there.

        So no table is read twice for one question, and all its views are as of one instant.
        """
        if name in made:
            return
        made.add(name)
        scope = replace(scope, sources=self._sources(scope))
        if match := BARS_OF_LENGTH.fullmatch(name):
            length = parse_interval(match[1])
            self._define(connection, "bars", scope, made)
            sql = f"select 1 from bar_revisions where interval_ms = {length} limit 1"
            if not run_interruptibly(connection.sql(sql).fetchall, connection.interrupt):
                # There may be some out of the scope.
                self.check_length(length)
            body = finished_bars(length)
        elif name in REVISED:
            self._define(connection, REVISED[name], scope, made)
            body = newest_revisions(REVISED[name])
        elif name == "trades" and self.has_corrections(scope):
            self._define(connection, ORIGINALS, scope, made)
            self._define(connection, "corrections", Scope(scope.sources, scope.start), made)
            rows, known = "from corrections", scope.as_of
            rows = rows if known is None else known_at(rows, known)
            connection.execute(f"create or replace temp view {FOUND} as {rows}")
            body = AMENDED
        else:
            body = self._body(connection, table_of(name), scope)
            if scope.as_of is not None and table_of(name).name in ("trades", "news"):
                body = known_at(body, scope.as_of)
        connection.execute(f"create or replace temp view {name} as {body}")

    def has_corrections(self, scope: Scope) -> bool:
        """Whether some correction may be of a trade of `scope`: those of later days count."""
        days = scope.days and (scope.days[0], "9999")
        parts = (self.tail(one).part(TABLES["corrections"], days) for one in self._sources(scope))
        return any(part.files or part.tail is not None for part in parts)

    def _sources(self, scope: Scope) -> Sequence[str]:
        return scope.sources if scope.sources is not None else self.sources()

    def _body(self, connection: duckdb.DuckDBPyConnection, table: Table, scope: Scope) -> str:
        """Returns the SQL of all rows of a table: of its files, and of the tape behind them."""
        parts = [self.tail(source).part(table, scope.days) for source in self._sources(scope)]
        selects = [self._files_select(parts)] + [
            _tail_select(connection, table, part, number)
            for number, part in enumerate(parts)
            if part.tail is not None
        ]
        selects = [select for select in selects if select]
        if not selects:
            connection.register(f"_empty_{table.name}", empty(table))
            selects = [f"select *, '' as venue, null::date as date from _empty_{table.name}"]
        return with_columns(table.name, " union all by name ".join(selects))

    def _files_select(self, parts: list[Part]) -> str:
        # One scan a source: `venue` and `date` come from the folder, which a staged file has not.
        selects = []
        for part in parts:
            groups: dict[tuple[str, str, str], list[str]] = {}
            older = self._older(part)
            for file in part.files:
                is_placed = file.path.parent.name.startswith("date=") and not self._has_equals
                staged_day = "" if is_placed else file.day
                # Files of other columns are scanned apart, and joined by name.
                key = staged_day, older.get(file.path, "*"), file.schema
                groups.setdefault(key, []).append(quote(lake.duckdb_path(file.path)))
            for (day, columns, _), paths in groups.items():
                names = ", ".join(paths)
                if day:
                    place = f", {quote(part.source)} as venue, {quote(day)}::date as date"
                    hive = "hive_partitioning = false"
                else:
                    place = "" if columns == "*" else ", venue, date"
                    hive = "hive_types = {'venue': varchar, 'date': date}"
                selects.append(f"select {columns}{place} from read_parquet([{names}], {hive})")
        return " union all by name ".join(selects)

    def _older(self, part: Part) -> dict[Path, str]:
        """Returns what to select from files that may be of an earlier version."""
        files = [file.path for file in part.files if file.version < commits.TABLE_VERSION]
        for path in files:
            if path not in self._columns:
                schema = importlib.import_module(PARQUET).read_schema(path)
                times = nanosecond_times(schema)
                self._columns[path] = split_sql(schema.names, times) if times else "*"
        return {path: self._columns[path] for path in files}


def confine(
    database: duckdb.DuckDBPyConnection, external_access: bool, folders: Sequence[str] = ()
) -> None:
    """Lets a database read `folders` alone, unless it may do all; its times are UTC."""
    database.execute("set global timezone = 'UTC'")
    if external_access:
        return
    allowed = ", ".join(quote(f"{folder}/") for folder in folders)
    database.execute(f"set global allowed_directories = [{allowed}]")
    for setting in SANDBOX:
        database.execute(f"set global {setting}")


def _check_reads_only(database: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Refuses every statement that is no query; a file of the lake could be written over by it."""
    kinds = duckdb.StatementType
    for statement in database.extract_statements(sql):
        text = LEADING_COMMENTS.sub("", statement.query)
        if statement.type == kinds.EXPLAIN:
            # It runs what it explains, if told to analyze it.
            inner = EXPLAIN.sub("", text, count=1)
            if EXPLAIN.match(inner) or inner == text:
                raise QueryError(READ_ONLY.format(found="EXPLAIN of something else"))
            _check_reads_only(database, inner)
        elif statement.type == kinds.MULTI and PIVOT.match(text):
            continue
        elif statement.type != kinds.SELECT:
            raise QueryError(READ_ONLY.format(found=statement.type.name))


def tables_in(sql: str) -> list[str]:
    """Returns the tables of the lake that `sql` names, and maybe some that it only mentions."""
    words = {word.lower() for word in WORD.findall(sql)}
    of_length = sorted(word for word in words if BARS_OF_LENGTH.fullmatch(word))
    return [*(name for name in VIEWS if name in words), *of_length]


def table_of(name: str) -> Table:
    """Returns the table behind a table or view."""
    name = "bars" if BARS_OF_LENGTH.fullmatch(name) else name
    return TABLES[TABLE_OF.get(name, name)]


def has_column(name: str, column: str) -> bool:
    """Whether the rows of a table or view have a column of that name."""
    return column in lake.empty_rows(table_of(name)).schema.names


def check_table(name: str) -> None:
    """Refuses what is no table or view of the lake.

    Raises:
        QueryError: says which there are.
    """
    if name in VIEWS or BARS_OF_LENGTH.fullmatch(name):
        return
    near = nearest(name, VIEWS)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ArgumentError(
        f"expected a table of {', '.join(VIEWS)}, or bars of one length such as bars_1m, got "
        f"{name!r}{hint}"
    )


def time_of(name: str) -> str:
    """Returns the column by which the rows of a table or view are in order."""
    return lake.column_of(table_of(name), "ts_event")


def quote(text: str) -> str:
    """Writes a text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def empty(table: Table) -> pa.Table:
    """Returns `table` without rows, with the columns and types that it has."""
    rows = lake.empty_rows(table)
    return pa.Table.from_batches([rows])


def _tail_select(
    connection: duckdb.DuckDBPyConnection, table: Table, part: Part, number: int
) -> str:
    # By number: two names of sources may be one name of a table, as `my-feed` and `my.feed` are.
    name = f"_tail_{table.name}_{number}"
    connection.register(name, part.tail)
    column = lake.column_of(table, "ts_event")
    return f"select *, {quote(part.source)} as venue, {column}::date as date from {name}"


def _advise(message: str) -> str:
    text = message.strip()
    if "does not exist" in message and "Table with name" in message:
        # DuckDB goes on with tables of its own that are near.
        return f"{text.splitlines()[0]} Tables of the lake: {', '.join(VIEWS)}"
    if message.startswith("Permission Error"):
        return (
            f"{text.splitlines()[0]}\nSQL reads the lake alone: `tape query "
            "--unsafe-external-access` and tapeworks.open(..., external_access=True) lift this"
        )
    return text
