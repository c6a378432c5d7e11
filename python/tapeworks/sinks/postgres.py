"""PostgreSQL: rows in tables cut by day, each exactly once, and what comes again amends its row.

The core encodes rows for binary COPY; the offset that they reach up to is written by the same
transaction, on the condition that nobody else moved it. A session lock for each source keeps a
second instance waiting; the condition keeps it from storing twice even if that lock is lost.
"""

import itertools
import logging
import re
import time
import uuid
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, ClassVar, TypeVar

import psycopg
from psycopg import sql
from psycopg.abc import PQGen

from tapeworks._core import Blob, CopyTable, Records
from tapeworks.config import redact
from tapeworks.errors import ConfigError, SinkError, SinkRejected, SinkUnavailable
from tapeworks.sinks import postgres_news
from tapeworks.sinks.base import SinkConfig, SinkContext
from tapeworks.sinks.instances import check_sink
from tapeworks.sinks.postgres_tables import encoder_of, has_timescale, migrate
from tapeworks.sinks.store import Items, StorePartition, StoreSink
from tapeworks.sinks.store_tables import TABLES, TOPICS, StoreTable, check_choice, tables_of
from tapeworks.tape import Place
from tapeworks.topics import NEWS

log = logging.getLogger("tapeworks.sinks")

EPOCH = date(1970, 1, 1)
CONNECT_S_MIN = 2
# "Failing row contains (17, BTCUSDT, ...": the first column of each table is the offset.
ROW_SHOWN = re.compile(r"\((\d{1,18}), ")
LOCK_TRIES, LOCK_PAUSE_S = 5, 0.02
# What an operator has to change is asked for seldom.
REFUSED_RETRY_MS = 3_000
PLACE = """
select tape_offset, tape, fingerprint, sink from places where source = %s and topic = %s
"""
ATTACHED = """
select exists (
    select from pg_inherits where inhrelid = to_regclass(%s) and inhparent = %s::regclass
)
"""
BEGIN = """
insert into places (source, topic, tape_offset, tape, fingerprint, sink)
values (%(source)s, %(topic)s, %(offset)s, %(tape)s, %(fingerprint)s, %(sink)s)
on conflict do nothing
"""
ADVANCE = """
update places set tape_offset = %(offset)s, tape = %(tape)s, fingerprint = %(fingerprint)s,
    sink = %(sink)s, stored_at = clock_timestamp()
where source = %(source)s and topic = %(topic)s and tape_offset = %(expected)s
"""
HOLDER = """
select held.pid, found.application_name, found.client_addr::text
from pg_locks held left join pg_stat_activity found using (pid)
where held.locktype = 'advisory' and held.granted
    and held.database = (select oid from pg_database where datname = current_database())
    and (held.classid::bigint << 32 | held.objid::bigint) = %s
"""

T = TypeVar("T")


@dataclass(frozen=True)
class PostgresConfig(SinkConfig):
    """Where the database is, and how rows are kept there."""

    STORE_KEY: ClassVar[tuple[str, ...]] = ("url", "schema")
    url: str = ""
    """`postgresql://user@host/database`, or `host=... dbname=...`; none: what PGHOST, PGSERVICE and
    the like say. A password comes from the environment or from ~/.pgpass."""
    schema: str = "tapeworks"
    """The schema of the tables."""
    migrate: bool = True
    """Make the tables, and change them as a new version needs; false: only check them."""
    index: bool = True
    """Keep an index by symbol and time; without it rows are stored faster."""
    days_ahead: int = 2
    """Partitions that are made before their day begins."""
    timeout_seconds: float = 10.0
    """A server that does not answer for so long counts as gone."""
    flush_seconds: float = 1.0
    flush_rows: int = 200_000

    def __post_init__(self) -> None:
        check_choice(self.kinds, self.topics, (postgres_news.KIND,), (NEWS,))
        super().__post_init__()
        if not self.schema:
            raise ConfigError("schema: expected the name of a schema, got none")
        if not 0 <= self.days_ahead <= 366:
            raise ConfigError(f"days_ahead: expected 0 to 366, got {self.days_ahead}")
        if not 0.1 <= self.timeout_seconds <= 3_600:
            raise ConfigError(f"timeout_seconds: expected 0.1 to 3600, got {self.timeout_seconds}")


class BoundedConnection(psycopg.Connection[Any]):
    """A connection on which nothing waits for longer than `timeout_s`."""

    timeout_s: float = 10.0

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """Waits as the base does, up to `timeout_s`; a server that is silent is asked no more.

        Raises:
            psycopg.OperationalError: nothing came in time; the connection is closed.
        """
        began = time.monotonic()
        try:
            return super().wait(gen, interval, self.timeout_s if timeout is None else timeout)
        except psycopg.OperationalError:
            if time.monotonic() - began >= self.timeout_s:
                # Else the end of the transaction would wait as long again.
                self.close()
            raise


class PostgresSink(StoreSink):
    """Stores trades, quotes, ticks, bars, news, gaps and instruments in tables of PostgreSQL."""

    TOPICS = (*TOPICS, NEWS)
    config: PostgresConfig

    def __init__(self, config: PostgresConfig, context: SinkContext) -> None:
        super().__init__(config, context)
        # Tells the sessions of this instance from those of another.
        self._name = f"tapeworks {context.name} {uuid.uuid4().hex[:8]}"
        self._connection: BoundedConnection | None = None
        self._locked: set[tuple[str, str]] = set()
        self._days: set[tuple[str, int]] = set()
        self._chunks = False

    def connect(self) -> None:
        """Connects, and brings the tables to this version.

        Raises:
            SinkUnavailable: the server does not answer, or refuses the role.
            SinkError: the tables are of another version.
        """
        timeout_s = self.config.timeout_seconds
        seconds = max(CONNECT_S_MIN, round(timeout_s))
        try:
            self._connection = BoundedConnection.connect(
                self.config.url,
                application_name=self._name,
                connect_timeout=seconds,
                keepalives_idle=5,
                keepalives_interval=5,
                keepalives_count=3,
                tcp_user_timeout=round(timeout_s * 1_000),
                autocommit=True,
            )
            self._connection.timeout_s = timeout_s
            self._prepare(self._connection)
        except psycopg.Error as error:
            raise self._unavailable(error) from error

    def _prepare(self, connection: BoundedConnection) -> None:
        # The server, too, must notice a client that is gone, or its locks would stay.
        for name, value in (
            ("tcp_keepalives_idle", "5"),
            ("tcp_keepalives_interval", "5"),
            ("tcp_keepalives_count", "3"),
            ("lock_timeout", f"{round(self.config.timeout_seconds * 900)}ms"),
            ("idle_in_transaction_session_timeout", "60s"),
            ("timezone", "UTC"),
        ):
            connection.execute("select set_config(%s, %s, false)", [name, value])
        schema = sql.Identifier(self.config.schema)
        migrate(connection, self.config.schema, may_change=self.config.migrate)
        connection.execute(sql.SQL("set search_path to {}, pg_temp").format(schema))
        self._chunks = has_timescale(connection)
        if self.config.index and self.config.migrate:
            for table in TABLES:
                if table.by_day and not table.key:
                    index = sql.Identifier(f"{table.name}_symbol_ts")
                    made = sql.SQL("create index if not exists {} on {} (symbol, ts)")
                    connection.execute(made.format(index, sql.Identifier(table.name)))

    def disconnect(self) -> None:
        """Closes the connection; the server ends what it was doing."""
        connection, self._connection = self._connection, None
        self._locked.clear()
        self._days.clear()
        if connection is not None:
            connection.close()

    def load_place(self, partition: StorePartition) -> Place | None:
        """Takes the lock of the tape, and reads the place.

        Raises:
            SinkUnavailable: another instance holds the lock, or the server does not answer.
            SinkError: the place is of another sink.
        """
        connection = self._open_connection()
        try:
            self._lock(connection, partition)
            found = connection.execute(PLACE, [partition.source, partition.topic]).fetchone()
        except psycopg.Error as error:
            raise self._unavailable(error) from error
        if found is None:
            return None
        *place, owner = found
        tape, where = (partition.source, partition.topic), f"schema {self.config.schema}"
        check_sink(tape, self.context.name, owner or "", where)
        return Place(*place)

    def store(self, partition: StorePartition, items: Items, place: Place) -> None:
        """Copies rows and moves the place in one transaction.

        Raises:
            SinkUnavailable: the server does not answer; what became of the transaction is unknown.
            SinkRejected: a row breaks a rule of its table.
            SinkError: somebody else moved the place.
        """
        batches = [item for item in items if isinstance(item, Records)]
        blobs = [item for item in items if isinstance(item, Blob)]
        is_news = partition.topic == NEWS and (
            not partition.kinds or postgres_news.KIND in partition.kinds
        )
        connection, known = self._open_connection(), set(self._days)
        try:
            self._lock(connection, partition)
            with connection.transaction():
                for table in tables_of(partition.topic, partition.kinds, batches):
                    self._fill(connection, partition, table, batches)
                if blobs and is_news:
                    source, symbols = partition.source, self.config.symbols
                    postgres_news.copy_news(connection, source, blobs, symbols)
                self._advance(connection, partition, place)
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            raise SinkRejected(_told(error), offset=_refused_offset(error)) from error
        except psycopg.Error as error:
            raise self._unavailable(error) from error
        else:
            known = self._days
        finally:
            # Partitions of a transaction that was undone are not there.
            self._days = known

    def _open_connection(self) -> BoundedConnection:
        if self._connection is None:
            raise SinkUnavailable("not connected")
        return self._connection

    def _lock(self, connection: BoundedConnection, partition: StorePartition) -> None:
        """Takes the lock of a tape for this session, unless it has it.

        Raises:
            SinkUnavailable: another session has it.
        """
        source, topic = tape = partition.source, partition.topic
        if tape in self._locked:
            return
        name = f"tapeworks {self.config.schema} {source} {topic}"
        query = "select hashtextextended(%s, 0), pg_try_advisory_lock(hashtextextended(%s, 0))"
        for _ in range(LOCK_TRIES):
            found = connection.execute(query, [name, name]).fetchone()
            assert found is not None, "a select without from has one row"
            number, is_taken = found
            if is_taken:
                self._locked.add(tape)
                return
            # The session of a process that was just killed is gone in a moment.
            time.sleep(LOCK_PAUSE_S)
        holder = connection.execute(HOLDER, [number]).fetchone()
        pid, application, address = holder or (None, "", None)
        if application == self._name:
            # A session of ours, cut off and not yet noticed by the server.
            connection.execute("select pg_terminate_backend(%s)", [pid])
        raise SinkUnavailable(
            f"{source}: {topic}: session {pid} ({application or 'unknown'}, from "
            f"{address or 'a socket'}) stores it already; this one waits until that one is gone",
            retry_after_ms=500,
        )

    def _fill(
        self,
        connection: BoundedConnection,
        partition: StorePartition,
        table: StoreTable,
        batches: list[Records],
    ) -> None:
        """Copies all rows of one table; while the server takes some, the next are encoded."""
        parts = itertools.chain.from_iterable(
            partition.encode(encoder_of(table), [batch]) for batch in batches
        )
        for day, found in itertools.groupby(parts, lambda part: part[0]):
            target = self._target(connection, table, day)
            columns = sql.SQL(", ").join(map(sql.Identifier, table.columns))
            query = sql.SQL("copy {} ({}) from stdin (format binary)")
            with connection.cursor() as cursor:
                with cursor.copy(query.format(sql.Identifier(target), columns)) as copy:
                    copy.write(CopyTable.HEAD)
                    for _, _, rows in found:
                        copy.write(rows)
                    copy.write(CopyTable.END)
        if table.key:
            connection.execute(_amend(table))

    def _target(self, connection: BoundedConnection, table: StoreTable, day: int) -> str:
        """Returns the table that rows of `day` are copied into; makes its partitions."""
        is_cut = table.by_day and not self._chunks
        if is_cut and (table.name, day) in self._days:
            part = f"{table.name}_{_date_of(day):%Y%m%d}"
            if connection.execute(ATTACHED, [part, table.name]).fetchone() == (False,):
                # Somebody took it away meanwhile.
                self._days.discard((table.name, day))
        # Those of the days that follow are made as well: a day begins without a wait.
        for ahead in range(self.config.days_ahead + 1 if is_cut else 0):
            if (table.name, day + ahead) not in self._days:
                made = [table.name, _date_of(day + ahead)]
                connection.execute("select make_partition(%s, %s)", made)
                self._days.add((table.name, day + ahead))
        if table.key:
            staged = f"staged_{table.name}"
            query = sql.SQL("create temp table if not exists {} (like {}) on commit delete rows")
            names = sql.Identifier(staged), sql.Identifier(self.config.schema, table.name)
            connection.execute(query.format(*names))
            return staged
        # Straight into the partition: no row has to be routed.
        return f"{table.name}_{_date_of(day):%Y%m%d}" if is_cut else table.name

    def _advance(
        self, connection: BoundedConnection, partition: StorePartition, place: Place
    ) -> None:
        expected = partition.committed
        values = {
            "source": partition.source,
            "topic": partition.topic,
            "offset": place.offset,
            "tape": place.tape,
            "fingerprint": place.fingerprint,
            "sink": self.context.name,
            "expected": None if expected is None else expected.offset,
        }
        moved = connection.execute(BEGIN if expected is None else ADVANCE, values)
        if moved.rowcount != 1:
            raise SinkError(
                f"{partition.source}: {partition.topic}: expected the table places to be at offset "
                f"{values['expected']}; somebody else moved it, or the server forgot what it had "
                "confirmed, and nothing was stored"
            )

    def _unavailable(self, error: psycopg.Error) -> SinkUnavailable:
        """Says what the server refused, or that it does not answer."""
        is_refusal = error.sqlstate is not None and not error.sqlstate.startswith(
            ("08", "57", "40")
        )
        retry_ms = REFUSED_RETRY_MS if is_refusal else 500
        return SinkUnavailable(f"postgres: {_told(error)}", retry_after_ms=retry_ms)


def _date_of(day: int) -> date:
    return EPOCH + timedelta(days=day)


def _amend(table: StoreTable) -> sql.Composed:
    """Returns what puts the newest staged row of each key into its table."""
    key = sql.SQL(", ").join(map(sql.Identifier, table.key))
    columns = sql.SQL(", ").join(map(sql.Identifier, table.columns))
    others = [column for column in table.columns if column not in table.key]
    values = sql.SQL(", ").join(
        sql.SQL("{0} = excluded.{0}").format(sql.Identifier(column)) for column in others
    )
    return sql.SQL(
        "insert into {table} ({columns}) select distinct on ({key}) {columns} from {staged} "
        "order by {key}, id desc on conflict ({key}) do update set {values} "
        "where {table}.id < excluded.id"
    ).format(
        table=sql.Identifier(table.name),
        staged=sql.Identifier(f"staged_{table.name}"),
        columns=columns,
        key=key,
        values=values,
    )


def _refused_offset(error: psycopg.Error) -> int | None:
    """Returns the offset of the row that broke a rule, if the server shows the row.

    It is a hint: the row is then tried alone.
    """
    shown = ROW_SHOWN.search(error.diag.message_detail or "")
    return None if shown is None else int(shown[1])


def _told(error: psycopg.Error) -> str:
    """Returns one line without secrets."""
    told = " ".join(str(error).split()) or type(error).__name__
    return redact(told)
