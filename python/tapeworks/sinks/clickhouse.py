"""ClickHouse: each record a row, exactly once, by inserts whose tokens are ranges of offsets.

The server drops an insert whose token it has seen. So a range must never be cut in another way once
a part of it was sent. Before its rows, it is claimed: a row of `claims`, whose own token is where
the range begins, so that one claim wins and all others are dropped. Whoever finds a claim that was
not finished, after a crash or a takeover, sends the same rows with the same tokens. Then the place
follows. Two instances at once thus agree on every range, and store no row twice. Of a range that
the tape lost in part, the rest goes under the same tokens.
"""

import contextlib
import ipaddress
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, ClassVar
from urllib.parse import urlsplit

import clickhouse_connect
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError

from tapeworks._core import Records
from tapeworks.config import check_url, redact
from tapeworks.errors import ConfigError, SinkError, SinkUnavailable
from tapeworks.heartbeat import beat
from tapeworks.sinks.base import SinkConfig, SinkContext
from tapeworks.sinks.clickhouse_tables import (
    CLAIMS,
    PLACES,
    Block,
    block_of,
    statements,
    ttl_statements,
)
from tapeworks.sinks.instances import InstanceWatch, Left
from tapeworks.sinks.source_state import SourceState
from tapeworks.sinks.store import Items, StorePartition, StoreSink
from tapeworks.sinks.store_tables import TOPICS, StoreTable, check_choice, tables_of
from tapeworks.tape import Place

# One block of the server: all of its rows are stored, or none.
RANGE_MAX = 500_000
# Beyond 2106 the server's clock of TTLs begins anew, and all rows would be old.
TTL_DAYS_MAX = 10_000
REFUSED_RETRY_MS = 3_000
# Codes of the server that say that a row is wrong: it breaks a constraint, or does not fit.
ROW_CODES = frozenset({6, 27, 53, 69, 70, 321, 349, 407, 469, 691})
# Those that an operator has to mend: no such user, no right, no such table or column, read only.
OPERATOR_CODES = frozenset({16, 47, 60, 81, 164, 192, 193, 194, 497, 516})
TIMEOUT_CODE = 159
SETTINGS = {"async_insert": 0, "insert_deduplicate": 1, "wait_end_of_query": 1}


@dataclass(frozen=True)
class ClickHouseConfig(SinkConfig):
    """Where the server is, and how rows are kept there."""

    STORE_KEY: ClassVar[tuple[str, ...]] = ("url", "database")
    url: str = "http://localhost:8123"
    """`http://` or `https://`, host and port of the server's HTTP. One with a password comes from
    the environment."""
    database: str = "tapeworks"
    """The database of the tables."""
    create_tables: bool = True
    """Make the tables, and add the columns that a new version needs; false: take them as they
    are."""
    ttl_days: int = 0
    """The server removes rows that are older; 0: none, and what was set before is taken away."""
    timeout_seconds: float = 15.0
    """A server that does not answer for so long counts as gone."""
    flush_seconds: float = 1.0
    flush_rows: int = 500_000

    def __post_init__(self) -> None:
        check_choice(self.kinds, self.topics)
        super().__post_init__()
        check_url("url", self.url, ("http", "https"))
        if not self.database.isidentifier():
            raise ConfigError(f"database: expected letters, digits and _, got {self.database!r}")
        if not 0 <= self.ttl_days <= TTL_DAYS_MAX:
            raise ConfigError(f"ttl_days: expected 0 to {TTL_DAYS_MAX}, got {self.ttl_days}")
        if not 0.1 <= self.timeout_seconds <= 3_600:
            raise ConfigError(f"timeout_seconds: expected 0.1 to 3600, got {self.timeout_seconds}")


@dataclass
class Claim:
    """A range of a tape that will be stored, cut in no other way."""

    first: int
    end: int
    owner: str
    tables: list[str] = field(default_factory=list)
    """The tables for which it has records; none: that was not noted."""
    splits: set[tuple[str, int, int]] = field(default_factory=set)
    """Table and range that were refused as a whole, and go in two halves."""


class ClickHousePartition(StorePartition):
    """One tape in ClickHouse, with the range that was claimed of it."""

    _sink: "ClickHouseSink"

    @property
    def begun(self) -> int:
        """The end of the claim that is not finished."""
        claim = self._sink.claim_of(self)
        return 0 if claim is None else claim.end

    def held(self) -> int:
        """Returns the end of the claim if it has rows in all of its tables; raises as `open`."""
        self._sink.ensure_connected()
        return self._sink.load_held(self)

    def skip(self, place: Place) -> None:
        """Goes on at `place`; raises as `open`."""
        if self.begun <= place.offset:
            super().skip(place)
        else:
            # The rest of the claim is stored together with what is pending of it.
            self._next = place.offset


class ClickHouseSink(StoreSink):
    """Stores records in the tables of ClickHouse: all of `store_tables.TABLES`."""

    Config = ClickHouseConfig
    TOPICS = TOPICS
    config: ClickHouseConfig

    def __init__(self, config: ClickHouseConfig, context: SinkContext) -> None:
        super().__init__(config, context)
        self._client: Any = None
        self._watch = InstanceWatch(config.flush_seconds, context.name)
        self._claims: dict[tuple[str, str], Claim] = {}
        self._are_made = False
        self._encoders = ThreadPoolExecutor(2, "clickhouse")
        self._compression = None if _is_this_machine(config.url) else "lz4"

    def partition_of(self, state: SourceState, topic: str) -> ClickHousePartition:
        """Makes the part of the sink that stores one tape of a source."""
        return ClickHousePartition(self, state, topic)

    def claim_of(self, partition: StorePartition) -> Claim | None:
        """Returns what was claimed and is not finished."""
        return self._claims.get((partition.source, partition.topic))

    def connect(self) -> None:
        """Connects, and brings the tables to this version.

        Raises:
            SinkUnavailable: the server does not answer, or refuses the user.
        """
        try:
            self._client = clickhouse_connect.get_client(
                dsn=self.config.url,
                connect_timeout=max(1, round(self.config.timeout_seconds)),
                send_receive_timeout=self.config.timeout_seconds,
                query_retries=0,
                # What is sent is packed already.
                compress=False,
                autogenerate_session_id=False,
                client_name="tapeworks",
            )
        except (ClickHouseError, OSError) as error:
            raise self._unavailable(error) from error
        if not self._are_made and self.config.create_tables:
            database, topics = self.config.database, self.config.topics or TOPICS
            for text in statements(database, topics):
                self._command(text)
            for text in ttl_statements(database, topics, self.config.ttl_days, self._engines()):
                self._command(text)
        self._are_made = True
        self._watch.watch(self._latest)

    def disconnect(self) -> None:
        """Closes all connections."""
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(ClickHouseError, OSError):
                client.close_connections()
                client.close()

    def load_place(self, partition: StorePartition) -> Place | None:
        """Returns the place, and learns which range behind it was claimed and not finished.

        Raises:
            SinkUnavailable: another instance stores this tape, or the server does not answer.
        """
        tape = partition.source, partition.topic
        rows = self._ask(
            f"select tape_offset, tape, fingerprint, owner from {self._name(PLACES)} "
            "where source = {source:String} and topic = {topic:String} "
            "order by tape_offset desc limit 1",
            partition,
        )
        place, owner = None, self._watch.owner
        if rows:
            offset, name, fingerprint, owner = rows[0]
            place = Place(offset, name, fingerprint)
        self._claims.pop(tape, None)
        claim = self._load_claim(partition, 0 if place is None else place.offset)
        if place is None and claim is not None:
            # Killed before anything was finished: what was claimed begins there.
            place = Place(claim.first)
        if claim is not None:
            self._claims[tape] = claim
            owner = claim.owner
        self._watch.check_sink(tape, owner, f"database {self.config.database}")
        reached = 0 if place is None else place.offset
        if self._watch.has_moved(tape, owner, reached):
            raise SinkUnavailable(
                f"{partition.source}: {partition.topic}: another instance stores it already, up to "
                f"offset {reached}; this one waits until that one is gone",
                retry_after_ms=1_000,
            )
        return place

    def store(self, partition: StorePartition, items: Items, place: Place) -> None:
        """Claims ranges, inserts their rows, and moves the place behind each.

        Raises:
            SinkUnavailable: the server does not answer, or a claimed range has not come yet.
            SinkError: another instance claimed what comes next.
        """
        batches = [item for item in items if isinstance(item, Records)]
        tables = tables_of(partition.topic, partition.kinds, batches)
        first = batches[0].first_offset if batches else place.offset
        if partition.committed is not None:
            first = partition.committed.offset
        while first < place.offset:
            claim = self.claim_of(partition)
            if claim is None or claim.first != first:
                if not partition.between(first, place.offset):
                    # The tape has nothing more of it.
                    break
                end = min(place.offset, first + RANGE_MAX)
                # What is to be sent is made while the server is asked for the claim.
                with self._encoding(partition, tables, first, end) as encoding:
                    claim = self._make_claim(partition, first, end)
                blocks = encoding.result() if claim.end == end else {}
            else:
                blocks = {}
            if claim.end > place.offset:
                raise SinkUnavailable(
                    f"{partition.source}: {partition.topic}: offsets {first} to {claim.end - 1} go "
                    f"together, up to {place.offset - 1} are here",
                    retry_after_ms=50,
                    lacks_input=True,
                )
            for table in tables:
                block = blocks.get(table.name)
                self._insert(partition, table, claim, claim.first, claim.end, block)
            first = claim.end
            if first < place.offset:
                self._finish(partition, Place(first, place.tape))
        self._finish(partition, place)

    @contextlib.contextmanager
    def _encoding(
        self, partition: StorePartition, tables: Sequence[StoreTable], first: int, end: int
    ) -> Iterator[Future[dict[str, Block]]]:
        """Makes the blocks of a range beside the block of code, at whose end they are made."""

        def encode() -> dict[str, Block]:
            return {table.name: self._block(partition, table, first, end) for table in tables}

        future = self._encoders.submit(encode)
        try:
            yield future
        finally:
            wait([future])

    def _block(self, partition: StorePartition, table: StoreTable, first: int, end: int) -> Block:
        part = [item for item in partition.between(first, end) if isinstance(item, Records)]
        encode = partial(block_of, table, compression=self._compression, pool=self._encoders)
        return partition.encode_by(encode, part)

    def _make_claim(self, partition: StorePartition, first: int, end: int) -> Claim:
        """Claims a range, unless somebody else has claimed what begins there.

        Raises:
            SinkError: somebody else has.
        """
        token = f"claim/{partition.source}/{partition.topic}/{first}"
        ahead = partition.between(first, end)
        tables = ",".join(one.name for one in tables_of(partition.topic, partition.kinds, ahead))
        self._add(CLAIMS, partition, token, first=first, end=end, split="", tables=tables)
        claim = self._load_claim(partition, first)
        if claim is None or claim.first != first:
            # The token is known, and the claim is gone: somebody emptied the table.
            raise SinkError(
                f"{partition.source}: {partition.topic}: expected a claim of offset {first} in "
                f"{self._name(CLAIMS)}, got none: was the table emptied? Give the sink another "
                "database, or remove the rows of this source from all tables"
            )
        if claim.owner != self._watch.owner:
            raise SinkError(
                f"{partition.source}: {partition.topic}: expected to store what comes from offset "
                f"{first} on, got a claim of another instance: does it still run?"
            )
        self._claims[partition.source, partition.topic] = claim
        return claim

    def _load_claim(self, partition: StorePartition, first: int) -> Claim | None:
        """Returns the first claim that begins at `first` or, of a new tape, behind it."""
        rows = self._ask(
            f"select first, end, split, owner, tables from {self._name(CLAIMS)} "
            "where source = {source:String} and topic = {topic:String} and first >= {first:UInt64} "
            "order by first, split, at",
            partition,
            first=first,
        )
        found = next((row for row in rows if not row[2]), None)
        if found is None or (first and found[0] != first):
            return None
        claim = Claim(found[0], found[1], found[3], found[4].split(",") if found[4] else [])
        claim.splits = {(name, start, end) for start, end, name, *_ in rows if name}
        return claim

    def load_held(self, partition: StorePartition) -> int:
        """Returns the end of the claim if it has rows in each of its tables, else 0.

        Of a table, the rows of a claim are there together or not at all. Where rows
        were refused, or the server has too many to look through, it is not known.

        Raises:
            SinkUnavailable: the server does not answer.
        """
        claim = self.claim_of(partition)
        if claim is None or claim.splits or not claim.tables:
            return 0
        seconds = max(1, round(self.config.timeout_seconds / 2))
        for table in claim.tables:
            try:
                found = self._ask(
                    f"select 1 from {self._name(table)} where provider = {{source:String}} "
                    "and id >= {first:UInt64} and id < {end:UInt64} limit 1 "
                    f"settings max_execution_time = {seconds}",
                    partition,
                    first=claim.first,
                    end=claim.end,
                )
            except SinkUnavailable as error:
                if getattr(error.__cause__, "code", None) != TIMEOUT_CODE:
                    raise
                return 0
            if not found:
                return 0
        return claim.end

    def _insert(
        self,
        partition: StorePartition,
        table: StoreTable,
        claim: Claim,
        first: int,
        end: int,
        block: Block | None = None,
    ) -> None:
        """Inserts the rows of one table and range; what is refused is halved until it is one."""
        if (table.name, first, end) not in claim.splits:
            block = block or self._block(partition, table, first, end)
            for offset in block.refused:
                partition.reject(offset, f"expected a time in {table.time[1]}, got none")
            if block.content is None:
                return
            token = f"{partition.source}/{partition.topic}/{first}-{end}"
            try:
                self._send(table.name, block.columns, block.content, token)
                return
            except DatabaseError as error:
                if error.code not in ROW_CODES:
                    raise self._unavailable(error) from error
                if end - first == 1:
                    partition.reject(first, _told(error))
                    return
            # Noted before a half is sent: whoever finishes this must halve it, too.
            token = f"split/{partition.source}/{partition.topic}/{table.name}/{first}-{end}"
            self._add(CLAIMS, partition, token, first=first, end=end, split=table.name)
            claim.splits.add((table.name, first, end))
        middle = (first + end) // 2
        self._insert(partition, table, claim, first, middle)
        self._insert(partition, table, claim, middle, end)

    def _finish(self, partition: StorePartition, place: Place) -> None:
        token = f"place/{partition.source}/{partition.topic}/{place.offset}"
        self._add(PLACES, partition, token, place, tape_offset=place.offset)
        self._claims.pop((partition.source, partition.topic), None)

    def _add(
        self,
        table: str,
        partition: StorePartition,
        token: str,
        place: Place | None = None,
        **values: object,
    ) -> None:
        """Adds one row to a table of places or claims."""
        row = {"source": partition.source, "topic": partition.topic, **values}
        row |= {"tape": place and place.tape, "fingerprint": place and place.fingerprint}
        now = datetime.now(UTC)
        row |= {"owner": self._watch.owner, "at": f"{now:%Y-%m-%d %H:%M:%S.%f}"}
        content = json.dumps(row).encode()
        try:
            self._send(table, list(row), content, token, "JSONEachRow")
        except DatabaseError as error:
            raise self._unavailable(error) from error

    def _send(
        self,
        table: str,
        columns: Sequence[str],
        content: Any,
        token: str,
        kind: str = "ArrowStream",
    ) -> None:
        """Inserts a block once, whatever becomes of the answer.

        Raises:
            DatabaseError: the server refuses it.
            SinkUnavailable: no answer.
        """
        beat()
        settings = {**SETTINGS, "insert_deduplication_token": token}
        try:
            self._open_client().raw_insert(
                self._name(table), columns, content, settings=settings, fmt=kind
            )
        except DatabaseError:
            raise
        except (ClickHouseError, OSError) as error:
            raise self._unavailable(error) from error

    def _engines(self) -> dict[str, str]:
        """Returns the engine of each table in full, with its TTL."""
        query = "select name, engine_full from system.tables where database = {database:String}"
        return dict(self._ask(query, database=self.config.database))

    def _latest(self) -> dict[tuple[str, str], Left]:
        """Returns what was left last of each tape."""
        rows = self._ask(
            "select source, topic, max(tape_offset), argMax(owner, tape_offset), "
            f"argMax(at, tape_offset) from {self._name(PLACES)} group by source, topic"
        )
        return {
            (source, topic): Left(offset, owner, at.replace(tzinfo=UTC))
            for source, topic, offset, owner, at in rows
        }

    def _ask(
        self, query: str, partition: StorePartition | None = None, **more: object
    ) -> Sequence[Any]:
        words = dict(more)
        if partition is not None:
            words |= {"source": partition.source, "topic": partition.topic}
        try:
            found: Sequence[Any] = self._open_client().query(query, parameters=words).result_rows
        except (ClickHouseError, OSError) as error:
            raise self._unavailable(error) from error
        return found

    def _command(self, text: str) -> None:
        try:
            self._open_client().command(text)
        except (ClickHouseError, OSError) as error:
            raise self._unavailable(error) from error

    def _open_client(self) -> Any:
        if self._client is None:
            raise SinkUnavailable("not connected")
        return self._client

    def _name(self, table: str) -> str:
        return f"`{self.config.database}`.{table}"

    def _unavailable(self, error: Exception) -> SinkUnavailable:
        """Says what the server refused, or that it does not answer."""
        is_refusal = getattr(error, "code", None) in OPERATOR_CODES
        retry_ms = REFUSED_RETRY_MS if is_refusal else 500
        place = redact(self.config.url)
        return SinkUnavailable(f"ClickHouse at {place}: {_told(error)}", retry_after_ms=retry_ms)


def _is_this_machine(url: str) -> bool:
    """Whether what is sent crosses no network: to pack it would take longer than to send it."""
    host = urlsplit(url).hostname or "localhost"
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _told(error: Exception) -> str:
    """Returns one line without secrets."""
    told = " ".join(str(error).split()) or type(error).__name__
    return redact(told)[:500]
