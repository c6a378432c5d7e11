"""The tables of PostgreSQL: which records fill them, how their columns are called, and migrations.

A migration is a numbered file of SQL in `postgres_schema/`, applied once, in order, each in a
transaction that also notes its number and hash. Files are never changed once released: one that
differs from what was applied is refused, as is a database that a newer version has migrated.
"""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from psycopg import Connection, sql

from tapeworks._core import CopyTable, kind_of
from tapeworks.errors import SinkError
from tapeworks.topics import BARS, GAPS, METRICS, NORMALIZED, TICKS

FOLDER = Path(__file__).with_name("postgres_schema")
BY_DAY = "partition by range (ts)"
MIGRATIONS = """
create table if not exists migrations (
    number integer primary key,
    name text not null,
    sha256 text not null,
    applied_at timestamptz not null default now()
)
"""
# What a column is called that has another name than the field that it holds.
RENAMED = {"id": "tape_offset", "ts": "ts_event", "ts_ns": "ts_event_ns"}


@dataclass(frozen=True, eq=False)
class StoreTable:
    """One table: the records of one kind on one topic."""

    name: str
    topic: str
    kind: str
    columns: tuple[str, ...]
    renamed: dict[str, str] = field(default_factory=dict)
    """Column -> field, beyond `RENAMED`."""
    by_day: bool = False
    """Whether it has a partition for each day of `ts`."""
    key: tuple[str, ...] = ()
    """What names a row that may come again: the later one amends it. None: rows only come once."""

    @cached_property
    def encoder(self) -> CopyTable:
        """What makes rows of records."""
        names = {**RENAMED, **self.renamed}
        fields = [names.get(column, column) for column in self.columns]
        return CopyTable(self.kind, fields, "ts_event" if self.by_day else None)

    def occurs(self, kinds: set[int]) -> bool:
        """Whether records of these kinds may be of it."""
        return kind_of(self.kind) in kinds


TABLES = (
    StoreTable(
        "instruments",
        NORMALIZED,
        "definition",
        (
            *("id", "instrument", "symbol", "canonical", "asset_class", "currency"),
            *("tick_size", "lot_size", "contract_size", "valid_from", "valid_to"),
            *("status", "provider"),
        ),
        key=("provider", "instrument"),
    ),
    StoreTable(
        "trades",
        NORMALIZED,
        "trade",
        (
            *("id", "symbol", "ts", "price", "size", "side", "trade_id", "sequence", "channel"),
            *("conditions", "flags", "provider", "ts_recv", "ts_ns", "ts_recv_ns"),
        ),
        by_day=True,
    ),
    StoreTable(
        "quotes",
        NORMALIZED,
        "quote",
        (
            *("id", "symbol", "ts", "bid_price", "bid_size", "ask_price", "ask_size"),
            *("sequence", "flags", "provider", "ts_recv", "ts_ns", "ts_recv_ns"),
        ),
        by_day=True,
    ),
    StoreTable(
        "corrections",
        NORMALIZED,
        "correction",
        (
            *("id", "symbol", "ts", "trade_id", "action", "price", "size", "sequence", "provider"),
            "ts_ns",
        ),
    ),
    StoreTable(
        "ticks",
        TICKS,
        "tick",
        ("id", "symbol", "ts", "bid", "ask", "last", "volume", "provider", "ts_ns"),
        by_day=True,
    ),
    StoreTable(
        "bars",
        BARS,
        "bar",
        (
            *("id", "symbol", "ts", "interval_ms", "open", "high", "low", "close", "volume"),
            *("buy_volume", "turnover", "buy_turnover", "trades", "closed", "channel", "flags"),
            "provider",
        ),
        renamed={"trades": "count"},
        by_day=True,
        key=("symbol", "ts", "interval_ms", "provider", "channel"),
    ),
    StoreTable(
        "metrics",
        METRICS,
        "metric",
        (
            *("id", "symbol", "ts", "metric", "value", "count", "window_ns", "state"),
            *("provider", "ts_ns"),
        ),
        renamed={"window_ns": "window"},
        by_day=True,
    ),
    StoreTable(
        "gaps",
        GAPS,
        "gap",
        (
            *("id", "symbol", "channel", "cause", "state", "missing", "first_missing"),
            *("last_missing", "ts_from", "ts_to", "ts_detected", "flags", "provider"),
        ),
        renamed={
            "missing": "count",
            "first_missing": "first",
            "last_missing": "last",
            "ts_from": "ts_start",
            "ts_to": "ts_event",
            "ts_detected": "ts_recv",
        },
    ),
)
"""All tables, in the order in which they are filled."""

TOPICS = tuple(dict.fromkeys(table.topic for table in TABLES))
"""The topics that fill a table, the one that defines the instruments first."""
KINDS = tuple(table.kind for table in TABLES)


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
    text = path.read_text().replace("{by_day}", "" if chunks else BY_DAY)
    connection.execute(text.encode())
    if chunks:
        _make_hypertables(connection, number)
    connection.execute(
        "insert into migrations (number, name, sha256) values (%s, %s, %s)",
        [number, path.name, _digest(path)],
    )


def has_timescale(connection: "Connection[Any]") -> bool:
    """Whether TimescaleDB is installed in the database: it then cuts the tables, not we."""
    query = "select 1 from pg_extension where extname = 'timescaledb'"
    return connection.execute(query).fetchone() is not None


def _make_hypertables(connection: "Connection[Any]", number: int) -> None:
    if number != 1:
        return
    for table in TABLES:
        if table.by_day:
            query = "select create_hypertable(%s, 'ts', chunk_time_interval => interval '1 day')"
            connection.execute(query, [table.name])


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
