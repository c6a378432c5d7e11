"""The tables of PostgreSQL: what makes their rows, and migrations.

A migration is a numbered file of SQL in `postgres_schema/`, applied once, in order, each in a
transaction that also notes its number and hash. Files are never changed once released: one that
differs from what was applied is refused, as is a database that a newer version has migrated. A
table that is cut by day ends with `{by_day}`: with TimescaleDB it becomes a hypertable instead.
"""

import hashlib
import re
from functools import cache
from pathlib import Path
from typing import Any

from psycopg import Connection, sql

from tapeworks._core import CopyTable
from tapeworks.errors import SinkError
from tapeworks.sinks.store_tables import StoreTable

FOLDER = Path(__file__).with_name("postgres_schema")
BY_DAY = "partition by range (ts)"
CREATED = re.compile(r"^create table (\w+) \($.*?^\) ?([^;\n]*);$", re.MULTILINE | re.DOTALL)
MIGRATIONS = """
create table if not exists migrations (
    number integer primary key,
    name text not null,
    sha256 text not null,
    applied_at timestamptz not null default now()
)
"""


@cache
def encoder_of(table: StoreTable) -> CopyTable:
    """Returns what makes rows of records."""
    fields = [table.field_of(column) for column in table.columns]
    return CopyTable(table.kind, fields, "ts_event" if table.by_day else None)


def migrate(connection: "Connection[Any]", schema: str, *, may_change: bool) -> None:
    """Brings the tables in `schema` to those of this version, each step in one transaction.

    With `may_change` false it only checks that they are.

    Raises:
        SinkError: they are not, and may not be changed; or another version made them.
    """
    known = {int(path.name[:3]): path for path in sorted(FOLDER.glob("[0-9]*.sql"))}
    applied = _applied(connection, schema)
    for number, (name, digest) in applied.items():
        if number not in known:
            raise SinkError(
                f"schema {schema}: migration {number} ({name}) is of a newer version of Tapeworks"
            )
        if _digest(known[number]) != digest:
            raise SinkError(
                f"schema {schema}: migration {number} ({name}) was applied with another content"
            )
    missing = [number for number in known if number not in applied]
    if missing and not may_change:
        raise SinkError(
            f"schema {schema} lacks migrations {missing}, and `migrate` is false: let a role that "
            "owns it run once with `migrate = true`"
        )
    for number in missing:
        with connection.transaction():
            _apply(connection, schema, number, known[number])


def _applied(connection: "Connection[Any]", schema: str) -> dict[int, tuple[str, str]]:
    table = sql.Identifier(schema, "migrations")
    found = connection.execute("select to_regclass(%s)", [table.as_string(None)]).fetchone()
    if found is None or found[0] is None:
        return {}
    rows = connection.execute(
        sql.SQL("select number, name, sha256 from {} order by number").format(table)
    )
    return {number: (name, digest) for number, name, digest in rows}


def _apply(connection: "Connection[Any]", schema: str, number: int, path: Path) -> None:
    place = sql.Identifier(schema)
    # Two that start at once must not both make the tables.
    lock = f"tapeworks migrate {schema}"
    connection.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", [lock])
    if number in _applied(connection, schema):
        return
    present = connection.execute("select to_regnamespace(%s)", [place.as_string(None)]).fetchone()
    if present is None or present[0] is None:
        connection.execute(sql.SQL("create schema {}").format(place))
    connection.execute(sql.SQL("set local search_path to {}, public, pg_temp").format(place))
    connection.execute(MIGRATIONS)
    chunks = has_timescale(connection)
    text = path.read_text()
    connection.execute(text.replace("{by_day}", "" if chunks else BY_DAY).encode())
    for name in tables_by_day(text) if chunks else ():
        query = "select create_hypertable(%s, 'ts', chunk_time_interval => interval '1 day')"
        connection.execute(query, [name])
    connection.execute(
        "insert into migrations (number, name, sha256) values (%s, %s, %s)",
        [number, path.name, _digest(path)],
    )


def has_timescale(connection: "Connection[Any]") -> bool:
    """Whether TimescaleDB is installed in the database: it then cuts the tables, not we."""
    query = "select 1 from pg_extension where extname = 'timescaledb'"
    return connection.execute(query).fetchone() is not None


def tables_by_day(text: str) -> list[str]:
    """Returns the tables that the SQL of a migration cuts by day."""
    return [name for name, end in CREATED.findall(text) if end == "{by_day}"]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
