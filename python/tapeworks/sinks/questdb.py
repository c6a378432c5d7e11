"""QuestDB: rows by the line protocol over HTTP, each exactly once by the keys of its table.

The server has no transaction over tables. So rows come first, and their place on the tape follows
once all are committed; what a sink that died in between sends again, the server drops by its keys.
A place notes the row that each table ended with. One whose rows are gone, as a server that does not
sync lost them with the power, is passed over for an earlier one.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar

from tapeworks._core import Records
from tapeworks.config import check_url
from tapeworks.errors import ConfigError, SinkError, SinkRejected, SinkUnavailable
from tapeworks.heartbeat import beat
from tapeworks.sinks.base import SinkConfig, SinkContext
from tapeworks.sinks.instances import InstanceWatch, Left
from tapeworks.sinks.questdb_client import QuestClient, RowsRefused
from tapeworks.sinks.questdb_requests import Request, RequestFailed, Requests
from tapeworks.sinks.questdb_tables import (
    PLACES,
    QuestTable,
    StoredPlace,
    check_version,
    make_places,
)
from tapeworks.sinks.store import Items, StorePartition, StoreSink
from tapeworks.sinks.store_tables import TABLES, TOPICS, check_choice, tables_of
from tapeworks.tape import Place

REQUEST_BYTES = 4 << 20
POLL_S = 0.02
# Places that are kept of a tape: the latest, the last ones of ten minutes, and of a day's hours.
MINUTES, HOURS = 10, 24


@dataclass(frozen=True)
class QuestDBConfig(SinkConfig):
    """Where the server is, and how rows are kept there."""

    STORE_KEY: ClassVar[tuple[str, ...]] = ("url", "table_prefix")
    url: str = "http://localhost:9000"
    """`http://` or `https://`, host and port of the server's HTTP. One with a password comes from
    the environment."""
    table_prefix: str = ""
    """What the names of all tables begin with."""
    create_tables: bool = True
    """Make the tables, and add the columns that a new version needs; false: take them as they
    are."""
    ttl_days: int = 0
    """The server drops days that are older; 0: none."""
    timeout_seconds: float = 15.0
    """A server that does not answer for so long counts as gone."""
    flush_seconds: float = 1.0
    flush_rows: int = 200_000

    def __post_init__(self) -> None:
        check_choice(self.kinds, self.topics)
        super().__post_init__()
        check_url("url", self.url, ("http", "https"))
        if not (self.table_prefix + "x").isidentifier():
            raise ConfigError(
                f"table_prefix: expected letters, digits and _, got {self.table_prefix!r}"
            )
        if not 0 <= self.ttl_days <= 36_500:
            raise ConfigError(f"ttl_days: expected 0 to 36500, got {self.ttl_days}")
        if not 0.1 <= self.timeout_seconds <= 3_600:
            raise ConfigError(f"timeout_seconds: expected 0.1 to 3600, got {self.timeout_seconds}")


class QuestDBSink(StoreSink):
    """Stores records in tables of QuestDB: all of `store_tables.TABLES`."""

    Config = QuestDBConfig
    TOPICS = TOPICS
    config: QuestDBConfig

    def __init__(self, config: QuestDBConfig, context: SinkContext) -> None:
        super().__init__(config, context)
        self._watch = InstanceWatch(config.flush_seconds, context.name)
        self._client: QuestClient | None = None
        self._requests: Requests | None = None
        topics = config.topics or TOPICS
        self._tables = {
            table.name: QuestTable(table, config.table_prefix)
            for table in TABLES
            if table.topic in topics
        }
        self._last_rows: dict[tuple[str, str], dict[str, tuple[str, int]]] = {}
        # How far a place reached that was met at the start, whether or not its rows were there.
        self._met: dict[tuple[str, str], int] = {}
        self._are_made = False

    def connect(self) -> None:
        """Connects, brings the tables to this version, and waits until what is committed shows.

        Raises:
            SinkUnavailable: the server does not answer, or does not get on.
            SinkError: it is too old, or a table is not as it has to be.
        """
        self._client = client = QuestClient(self.config.url, self.config.timeout_seconds)
        self._requests = Requests(self.config.url, self.config.timeout_seconds)
        if not self._are_made:
            check_version(client)
            if self.config.create_tables:
                make_places(client, self.config.table_prefix)
                for table in self._tables.values():
                    table.make(client, self.config.ttl_days)
            self._are_made = True
        self._await_applied()
        self._watch.watch(self._latest)

    def disconnect(self) -> None:
        """Closes the connections."""
        client, self._client = self._client, None
        requests, self._requests = self._requests, None
        if client is not None:
            client.close()
        if requests is not None:
            requests.close()

    def load_place(self, partition: StorePartition) -> Place | None:
        """Returns the newest place whose rows are there.

        Raises:
            SinkUnavailable: another instance stores this tape, or the server does not answer.
        """
        self._await_applied()
        client, source = self._open_client(), partition.source
        tape, places = (source, partition.topic), self._places(source, partition.topic)
        self._met[tape] = max((found.place.offset for found in places), default=0)
        for found in places:
            where = f"the tables of prefix '{self.config.table_prefix}'"
            self._watch.check_sink(tape, found.owner, where)
            if self._watch.has_moved(tape, found.owner, found.place.offset):
                raise SinkUnavailable(
                    f"{source}: {partition.topic}: another instance stores it already, up to "
                    f"offset {found.place.offset}; this one waits until that one is gone",
                    retry_after_ms=1_000,
                )
            rows = found.last_rows.items()
            if all(self._tables[name].holds(client, source, *row) for name, row in rows):
                self._last_rows[tape] = dict(found.last_rows)
                return found.place
        self._last_rows.pop(tape, None)
        return None

    def store(self, partition: StorePartition, items: Items, place: Place) -> None:
        """Commits rows, table by table, and then the place.

        Raises:
            SinkUnavailable: the server does not answer; what it took is unknown, and harmless.
            SinkRejected: the server refuses a row.
            SinkError: another instance stores this tape.
        """
        batches = [item for item in items if isinstance(item, Records)]
        self._check_owner(partition, place)
        key = partition.source, partition.topic
        last_rows = dict(self._last_rows.get(key, {}))
        for table in tables_of(partition.topic, partition.kinds, batches):
            target = self._tables[table.name]
            newest = None
            for request, last in self._encode(partition, target, batches):
                if newest is not None:
                    self._send(partition, newest)
                newest = request
                last_rows[table.name] = _text_of(last[0]), last[1]
            if newest is not None:
                # The row that the place names is committed behind all others of its table: where
                # it survived a loss of power, they did.
                self._send(partition, None)
                self._send(partition, newest)
        self._send(partition, None)
        self._write_place(partition, place, last_rows)
        self._last_rows[key] = last_rows

    def _send(self, partition: StorePartition, request: Request | None) -> None:
        """Sends a request beside those that are under way; none: waits for all of them."""
        if self._requests is None:
            raise SinkUnavailable("not connected")
        try:
            if request is None:
                self._requests.finish()
            else:
                self._requests.send(request)
        except RequestFailed as failed:
            cause = failed.__cause__
            if not isinstance(cause, RowsRefused):
                raise (cause or failed) from None
            found = failed.request
            offset = self._refused_offset(partition, found.target, found.made_of, cause.line)
            raise SinkRejected(str(cause), offset=offset) from cause

    def _encode(
        self, partition: StorePartition, target: QuestTable, batches: list[Records]
    ) -> Iterator[tuple[Request, tuple[int, int]]]:
        """Yields requests, each with time and offset of its last row."""
        parts: list[bytes] = []
        made_of: list[Records] = []
        last = None
        for at, batch in enumerate(batches):
            lines, count, ended = partition.encode(target.encoder, [batch])
            if count:
                parts.append(lines)
                made_of.append(batch)
                last = ended
            is_full = sum(map(len, parts)) >= REQUEST_BYTES
            if last is not None and parts and (is_full or at == len(batches) - 1):
                yield Request(b"".join(parts), target, made_of), last
                parts, made_of = [], []

    def _refused_offset(
        self,
        partition: StorePartition,
        target: QuestTable,
        batches: list[Records],
        line: int | None,
    ) -> int | None:
        """Returns the offset of the record that a line was made of: a hint, it is tried alone."""
        before = 0
        for batch in batches if line is not None else ():
            _, count, _ = partition.encode(target.encoder, [batch])
            if line is not None and before + count >= line:
                return self._nth_offset(partition, target, batch, line - before)
            before += count
        return None

    def _nth_offset(
        self, partition: StorePartition, target: QuestTable, batch: Records, number: int
    ) -> int | None:
        """Returns the offset of the row of this number, counted from 1, by halving."""
        low, high, wanted = 0, len(batch), number
        while high - low > 1:
            middle = (low + high) // 2
            _, count, _ = partition.encode(target.encoder, [batch.slice(low, middle)])
            if count >= wanted:
                high = middle
            else:
                low, wanted = middle, wanted - count
        return batch.first_offset + low

    def _places(self, source: str, topic: str) -> list[StoredPlace]:
        """Returns all places of a tape, the newest first."""
        rows = self._open_client().ask(
            "select tape_offset, tape, fingerprint, last_rows, owner from "
            f"{self.config.table_prefix}{PLACES} where source = '{source}' and topic = '{topic}' "
            "order by tape_offset desc, stored_at desc"
        )
        found = []
        for offset, tape, fingerprint, last_rows, owner in rows:
            last = {name: (ts, number) for name, (ts, number) in json.loads(last_rows).items()}
            found.append(StoredPlace(Place(offset, tape, fingerprint), owner, last))
        return found

    def _check_owner(self, partition: StorePartition, place: Place) -> None:
        """Refuses to go on where somebody else does.

        Two that stored at once would do no harm, as both store the same rows; they would only do
        all work twice.

        Raises:
            SinkError: another instance moved the place, or stores another tape of this name.
        """
        found = next(iter(self._places(partition.source, partition.topic)), None)
        if found is None or found.owner == self._watch.owner:
            return
        committed = partition.committed
        is_other_tape = None not in (found.place.tape, place.tape) and (
            found.place.tape != place.tape
        )
        met = self._met.get((partition.source, partition.topic), 0)
        known = max(met, 0 if committed is None else committed.offset)
        if is_other_tape or found.place.offset > known:
            raise SinkError(
                f"{partition.source}: {partition.topic}: expected {committed} in the table of "
                f"places, got {found.place} of another instance: does it still run?"
            )

    def _write_place(
        self, partition: StorePartition, place: Place, last_rows: dict[str, tuple[str, int]]
    ) -> None:
        now = datetime.now(UTC)
        slots = "latest", f"minute-{now.minute % MINUTES}", f"hour-{now.hour % HOURS}"
        values = [f"tape_offset={place.offset}i"]
        for name, text in (
            ("tape", place.tape),
            ("fingerprint", place.fingerprint),
            ("last_rows", json.dumps(last_rows)),
            ("owner", self._watch.owner),
        ):
            if text is not None:
                escaped = text.replace("\\", "\\\\").replace('"', '\\"')
                values.append(f'{name}="{escaped}"')
        values.append(f"stored_at={round(now.timestamp() * 1e6)}t")
        lines = [
            f"{self.config.table_prefix}{PLACES},source={partition.source},topic={partition.topic},"
            f"slot={slot} {','.join(values)} 0\n"
            for slot in slots
        ]
        try:
            self._open_client().write("".join(lines).encode())
        except RowsRefused as error:
            raise SinkError(f"QuestDB: the table of places refuses a row: {error}") from error

    def _await_applied(self) -> None:
        """Waits until readers see all that is committed: until then a place may be hidden.

        Raises:
            SinkUnavailable: it takes longer than a server may take to answer, or the server gave
                a table up.
        """
        client = self._open_client()
        ours = {table.name for table in self._tables.values()}
        ours.add(self.config.table_prefix + PLACES)
        deadline = time.monotonic() + self.config.timeout_seconds
        while True:
            query = "select name, suspended, writerTxn, sequencerTxn from wal_tables()"
            found = [row for row in client.ask(query) if row[0] in ours]
            if suspended := [name for name, is_suspended, _, _ in found if is_suspended]:
                raise SinkUnavailable(
                    f"QuestDB suspended {', '.join(suspended)} after an error, see its log: mend "
                    f"that, then `alter table {suspended[0]} resume wal`; nothing is lost",
                    retry_after_ms=3_000,
                )
            behind = [name for name, _, done, committed in found if done < committed]
            if not behind:
                return
            if time.monotonic() > deadline:
                raise SinkUnavailable(
                    f"QuestDB has not applied all that is committed to {', '.join(behind)}",
                    retry_after_ms=1_000,
                )
            beat()
            time.sleep(POLL_S)

    def _latest(self) -> dict[tuple[str, str], Left]:
        """Returns what was left last of each tape."""
        found = self._open_client().ask(
            "select source, topic, tape_offset, owner, stored_at from "
            f"{self.config.table_prefix}{PLACES} where slot = 'latest'"
        )
        return {
            (source, topic): Left(offset, owner, datetime.fromisoformat(stored_at))
            for source, topic, offset, owner, stored_at in found
        }

    def _open_client(self) -> QuestClient:
        if self._client is None:
            raise SinkUnavailable("not connected")
        return self._client


def _text_of(ts: int) -> str:
    """Returns a time in nanoseconds as SQL reads it."""
    seconds, rest = divmod(ts, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"
