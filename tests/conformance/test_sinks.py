"""What every sink of the table holds: write, crash, write again; nothing lost, nothing doubled."""

import contextlib
import json
import os
import re
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import clickhouse_connect
import duckdb
import psycopg
import pytest

from conftest import START, SpineFolder
from published import stream_messages, topic_messages, trades
from services import SERVICES
from tapeworks import _core
from tapeworks.config import Section, Value
from tapeworks.errors import ConfigError, SinkError, SinkRejected, SinkUnavailable
from tapeworks.processors.base import loss_gap
from tapeworks.registry import MEMBERS as TABLE
from tapeworks.registry import load_member, load_settings
from tapeworks.settings import Config, resolve_config
from tapeworks.sinks.base import FlushPolicy, Sink, SinkContext, SinkPartition
from tapeworks.sinks.feeder import Feeder
from tapeworks.sinks.parquet import ParquetConfig
from tapeworks.sinks.postgres import PostgresConfig
from tapeworks.sinks.questdb_client import QuestClient
from tapeworks.sinks.store import StorePartition
from tapeworks.sinks.worker import Member, feeders
from tapeworks.source_symbols import KeptDefinitions, SourceSymbols
from tapeworks.tape import RETENTION, Place, load_offset, noted_losses
from tapeworks.topics import GAPS

TOPIC = "market-data.normalized"
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
# A class that is named in the settings as one of a user's is.
OWN = "own_sink:Ledger"


@pytest.fixture(autouse=True)
def examples(monkeypatch):
    """Makes the programs of `examples` importable, as those in the folder of a user are."""
    monkeypatch.syspath_prepend(str(EXAMPLES))


def parquet_ids(data: Path) -> list[int]:
    files = str(data / "lake" / "trades" / "*" / "*" / "*.parquet")
    if not list((data / "lake").glob("trades/*/*/*.parquet")):
        return []
    found = duckdb.sql(f"select trade_id from '{files}' order by 1").fetchall()
    return [row[0] for row in found]


def own_ids(data: Path, table: str = "trades", column: str = "trade_id") -> list[int]:
    with contextlib.closing(sqlite3.connect(data / "trades.db")) as database:
        try:
            found = database.execute(f'select "{column}" from {table} order by rowid').fetchall()
        except sqlite3.OperationalError:
            return []
    return [int(row[0]) for row in found]


def own_settings(data: Path, **settings: object) -> Any:
    return load_member("sink", OWN).Config(OWN, path=data / "trades.db", **settings)


@pytest.fixture(autouse=True)
def store_of_its_own(request, monkeypatch) -> Iterator[None]:
    """Gives a test of a sink with a server an empty database; the environment says where."""
    if getattr(request.node, "callspec", None) is None:
        yield
    elif request.node.callspec.params.get("name") == "postgres":
        service, name = request.getfixturevalue("server")("postgres"), "conformance"
        with psycopg.connect(service.url(), autocommit=True) as connection:
            connection.execute(f"drop database if exists {name} with (force)")
            connection.execute(f"create database {name}")
        monkeypatch.setenv("STORE_OF_THE_TEST", service.url(name))
        yield
    else:
        yield


def postgres_settings(data: Path) -> PostgresConfig:
    return PostgresConfig(url=os.environ["STORE_OF_THE_TEST"])


def postgres_ids(data: Path) -> list[int]:
    with psycopg.connect(os.environ["STORE_OF_THE_TEST"]) as connection:
        if connection.execute("select to_regclass('tapeworks.trades')").fetchone() == (None,):
            return []
        found = connection.execute("select trade_id from tapeworks.trades order by id")
        return [int(row[0]) for row in found]


def redis_settings(data: Path) -> Any:
    url = f"redis://127.0.0.1:{PORTS['redis']}/0"
    return load_settings("sink", "redis")(url=url, prefix=f"{data.parent.name}.")


def redis_ids(data: Path) -> list[int]:
    stream = f"{data.parent.name}.{TOPIC}:binance-spot"
    entries = stream_messages(redis_settings(data).url, stream)
    return [number for _, number in trades([message for _, message in entries])]


def clickhouse_settings(data: Path) -> Any:
    database = re.sub(r"\W", "_", data.parent.name)
    url = f"http://127.0.0.1:{PORTS['clickhouse']}"
    # Each start watches a place that another one left for about as long as two flushes.
    own = {"topics": (TOPIC,), "flush_seconds": 0.1}
    return load_settings("sink", "clickhouse")(url=url, database=database, **own)


def clickhouse_ids(data: Path) -> list[int]:
    settings = clickhouse_settings(data)
    with clickhouse_connect.get_client(dsn=settings.url, compress=False) as client:
        table = f"`{settings.database}`.trades"
        if not client.command(f"exists table {table}"):
            return []
        rows = client.query(f"select trade_id from {table} order by id").result_rows
        return [number for (number,) in rows]


def questdb_settings(data: Path) -> Any:
    # The folder of a test has the name of the test: no table is shared.
    prefix = re.sub(r"\W", "_", data.parent.name) + "_"
    url = f"http://127.0.0.1:{PORTS['questdb']}"
    # Each start watches a place that another one left for about as long as two flushes.
    own = {"topics": (TOPIC,), "flush_seconds": 0.1}
    return load_settings("sink", "questdb")(url=url, table_prefix=prefix, **own)


def questdb_ids(data: Path) -> list[int]:
    settings = questdb_settings(data)
    client, table = QuestClient(settings.url, 10), f"{settings.table_prefix}trades"
    if not client.ask(f"select 1 from tables() where table_name = '{table}'"):
        return []
    query = f"select writerTxn = sequencerTxn from wal_tables() where name = '{table}'"
    while client.ask(query) != [[True]]:
        time.sleep(0.01)
    found = client.ask(f"select trade_id from {table} order by id")
    client.close()
    return [int(row[0]) for row in found]


def kafka_settings(data: Path) -> Any:
    servers = f"127.0.0.1:{PORTS['kafka']}"
    return load_settings("sink", "kafka")(servers=servers, topic_prefix=f"{data.parent.name}.")


def kafka_ids(data: Path) -> list[int]:
    messages = topic_messages(PORTS["kafka"], f"{data.parent.name}.{TOPIC}")
    return [number for _, number in sorted(trades([message for _, message in messages]))]


PORTS: dict[str, int] = {}
# Name of a sink -> its settings in a data folder, and what it has stored.
MEMBERS: dict[str, tuple[Callable[[Path], Any], Callable[[Path], list[int]]]] = {
    "parquet": (lambda data: ParquetConfig(), parquet_ids),
    "postgres": (postgres_settings, postgres_ids),
    "clickhouse": (clickhouse_settings, clickhouse_ids),
    "questdb": (questdb_settings, questdb_ids),
    "redis": (redis_settings, redis_ids),
    "kafka": (kafka_settings, kafka_ids),
    OWN: (own_settings, own_ids),
}
# A start of these, and each step with them, takes seconds.
SLOW = {"clickhouse", "kafka", "questdb"}


@pytest.fixture(
    params=[pytest.param(one, marks=pytest.mark.slow if one in SLOW else ()) for one in MEMBERS]
)
def name(request, server) -> str:
    """Each sink of the table, with its server."""
    if request.param in SERVICES:
        PORTS[request.param] = server(request.param).port
    return request.param


def make(name: str, data: Path) -> SinkPartition:
    sink: Sink = load_member("sink", name)(MEMBERS[name][0](data), SinkContext(name, data))
    return sink.partition("binance-spot", TOPIC)


def abandon(partition: SinkPartition) -> None:
    """Leaves a sink as its process does when it is killed: what it held open is gone."""
    if isinstance(partition, StorePartition):
        partition._sink.drop_connection()


def test_every_sink_of_the_table_is_tested_here():
    # A new line in the table fails until its sink is under this suite. What tells people of alerts
    # stores no rows: tests/sinks/test_notify.py is its suite.
    assert set(TABLE["sink"]) - {"notify"} < set(MEMBERS)


def test_unknown_sink_is_named():
    # The message lists what there is.
    with pytest.raises(ConfigError, match="parquet"):
        load_member("sink", "paper")


def test_rows_are_stored_once_across_crashes(name, spine, maker):
    # Abandon the sink (no close, no flush) after a different number of batches each time, some
    # after a flush. What is stored in the end is the tape, once.
    spine.append(maker.definitions())
    for first in range(0, 5_000, 500):
        spine.append(maker.trades(500, first))
    for batches, flushes in [(1, False), (3, True), (2, False), (0, True), (4, True), (50, True)]:
        sink = make(name, spine.path)
        reader = _core.TapeReader(spine.tape())
        reader.seek(sink.open())
        for _ in range(batches):
            batch = reader.read(333)
            if batch is not None:
                sink.write(batch)
        if flushes:
            sink.flush()
        abandon(sink)
    assert MEMBERS[name][1](spine.path) == list(range(5_000))


def test_nothing_beyond_durable_is_stored(name, spine, maker):
    # The feeder reads to the durable watermark only; a tape that is never synced gives nothing.
    folder = spine.tape()
    folder.mkdir(parents=True)
    with _core.TapeWriter(folder, durability="never") as writer:
        writer.append(maker.definitions().tobytes())
        writer.append(maker.trades(100).tobytes())
        feeder = Feeder(make(name, spine.path), folder, FlushPolicy())
        feeder.drain(seconds_max=5)
        durable = _core.TapeReader(folder).durable
        assert len(MEMBERS[name][1](spine.path)) <= max(0, durable - 3)
        writer.sync()
        feeder.drain(seconds_max=5)
    feeder.close()
    assert MEMBERS[name][1](spine.path) == list(range(100))


def test_what_retention_takes_before_anything_is_stored_is_told(name, spine, maker):
    # Killed with the whole tape in memory and nothing stored; then retention takes the front of it.
    folder = spine.tape()
    folder.mkdir(parents=True)
    limits = {"segment_bytes": 1 << 16, "retention_bytes": 1 << 17}
    policy = FlushPolicy(rows=10**6, seconds=3_600)
    with _core.TapeWriter(folder, **limits) as writer:
        writer.append(maker.definitions().tobytes())
        writer.append(maker.trades(500).tobytes())
        writer.sync()
        kept = KeptDefinitions(spine.path, spine.source)
        kept.keep(_core.Records.from_bytes(maker.definitions().tobytes()))
        feeder = Feeder(make(name, spine.path), folder, policy, name="sink-new")
        assert feeder.step() == 503
        abandon(feeder.partition)
        del feeder
        for first in range(500, 10_500, 500):
            writer.append(maker.trades(500, first).tobytes())
        deadline = time.monotonic() + 10
        while _core.TapeReader(folder).first <= 503 and time.monotonic() < deadline:
            time.sleep(0.01)
    feeder = Feeder(make(name, spine.path), folder, policy, name="sink-new")
    assert feeder.drain(30)
    feeder.close()
    [loss] = [loss for _, loss in noted_losses(spine.path, spine.source)]
    assert (loss.first, loss.reader, loss.cause) == (0, "sink-new", RETENTION)
    assert loss.last == _core.TapeReader(folder).first - 1 > 503
    stored = list(range(loss.last + 1 - 3, 10_500))
    deadline = time.monotonic() + 10
    while len(MEMBERS[name][1](spine.path)) < len(stored) and time.monotonic() < deadline:
        # Kafka marks a transaction as committed in each partition a moment after it says so.
        time.sleep(0.1)
    assert MEMBERS[name][1](spine.path) == stored


def test_flush_comes_at_rows_and_at_time(name, spine, maker):
    # With a limit of 1,000 records, 2,500 leave at most 1,000 in memory without any other call.
    spine.append(maker.definitions())
    spine.append(maker.trades(2_500))
    feeder = Feeder(make(name, spine.path), spine.tape(), FlushPolicy(rows=1_000, seconds=3_600))
    while feeder.step():
        assert feeder.partition.pending[0] <= 1_000
    assert len(MEMBERS[name][1](spine.path)) >= 1_500
    feeder.close()
    soon = Feeder(make(name, spine.path), spine.tape(), FlushPolicy(seconds=0.0))
    while soon.step():
        pass
    soon.close()
    assert MEMBERS[name][1](spine.path) == list(range(2_500))


def test_what_is_defined_after_a_sink_opened_is_stored(name, spine, maker):
    # Trades come before their definitions, as those of a derived tape can. Where symbols are
    # chosen, nobody knows yet whether theirs are: they wait until that is known, and none is left
    # out. The lake stores all symbols.
    is_lake = name == "parquet"
    settings = MEMBERS[name][0](spine.path)
    settings = settings if is_lake else replace(settings, symbols=("BTCUSDT", "ETHUSDT"))
    table = maker.trades(100)
    spine.append(table)
    sink = load_member("sink", name)(settings, SinkContext(name, spine.path))
    partition = sink.partition("binance-spot", TOPIC)
    feeder = Feeder(partition, spine.tape(), FlushPolicy(seconds=0.0))
    while feeder.step():
        pass
    assert "instrument" in feeder.refusal
    assert "definition" in feeder.refusal
    spine.append(maker.definitions())
    assert feeder.drain(20)
    feeder.close()
    chosen = [at for at, number in enumerate(table["instrument"]) if is_lake or number in (1, 2)]
    assert 0 < len(chosen) <= 100
    deadline = time.monotonic() + 10
    while len(MEMBERS[name][1](spine.path)) < len(chosen) and time.monotonic() < deadline:
        # Kafka marks a transaction as committed in each partition a moment after it says so.
        time.sleep(0.1)
    assert MEMBERS[name][1](spine.path) == chosen


def test_rows_that_concern_all_instruments_have_no_symbol(spine):
    # A gap of a whole source is a row of a sink of the user's own, whichever symbols it stores.
    gap = _core.Records.from_bytes(loss_gap(1, 5, START, RETENTION))
    for symbols in ((), ("ETHUSDT",)):
        settings = own_settings(spine.path, symbols=symbols)
        sink = load_member("sink", OWN)(settings, SinkContext("mine", spine.path))
        [row] = sink.partition("binance-spot", GAPS).rows(gap, "gap")
        assert (row["symbol"], row["instrument"], row["first"], row["last"]) == (None, 0, 1, 5)


def test_drain_tries_again_what_is_not_possible_yet(name, spine, maker, monkeypatch):
    # The first two flushes are refused, as when a derived tape is ahead of its instruments: the
    # drain of a worker that stops must not leave with rows that were only moved.
    spine.append(maker.definitions())
    spine.append(maker.trades(100))
    sink = make(name, spine.path)
    feeder = Feeder(sink, spine.tape(), FlushPolicy(seconds=3_600))
    flush, refused = sink.flush, []

    def flush_later(place: Place | None = None) -> None:
        if len(refused) < 2:
            refused.append(1)
            raise SinkUnavailable("not yet", retry_after_ms=10)
        flush(place)

    monkeypatch.setattr(sink, "flush", flush_later)
    feeder.drain(seconds_max=5)
    feeder.close()
    assert MEMBERS[name][1](spine.path) == list(range(100))


def test_settings_name_a_sink_of_the_users_own():
    # By `kind`, under any name; its own settings are checked as all are.
    text = {"kind": Value(OWN, "test"), "flush_rows": Value(7, "test")}
    config = resolve_config(Section("", {"sinks": Section("", {"mine": Section("m", text)})}))
    assert config.sinks["mine"].policy.rows == 7
    wrong = {"sinks": Section("", {"mine": Section("m", text | {"rows": Value(7, "test")})})}
    with pytest.raises(ConfigError, match=r"m\.rows is not a setting; did you mean m\.flush_rows"):
        resolve_config(Section("", wrong))


def test_what_instruments_are_called_is_known_behind_retention(spine, maker):
    # A sink is given numbers: their symbols are on the tape, or where retention took that, in the
    # lake; those that are defined later are known later.
    names = SourceSymbols(spine.path, "binance-spot")
    assert names.names() == {}
    spine.append(maker.definitions(("BTCUSDT", "ETHUSDT")))
    assert names.names() == {1: "BTCUSDT", 2: "ETHUSDT"}
    spine.append(maker.definitions())
    assert names.names() == {1: "BTCUSDT", 2: "ETHUSDT", 3: "SOLUSDT"}
    spine.append(maker.trades(100))
    spine.drain()
    spine.close()
    shutil.rmtree(spine.tape())
    assert SourceSymbols(spine.path, "binance-spot").names() == names.names()
    # Without a lake they are in the file that the recorder replaces, also where that comes later. A
    # damaged one is none.
    shutil.rmtree(spine.path / "lake")
    late, kept = (
        SourceSymbols(spine.path, "binance-spot"),
        KeptDefinitions(spine.path, spine.source),
    )
    assert late.names() == {}
    kept.keep(names.read().records())
    assert (late.names(), kept.count) == (names.names(), 3)
    kept.path.write_bytes(kept.path.read_bytes()[:-1])
    assert SourceSymbols(spine.path, "binance-spot").names() == {}


def test_a_worker_runs_a_sink_of_the_users_own(spine, maker):
    # The feeders that its worker builds store a whole tape; a second start stores nothing twice.
    spine.append(maker.definitions())
    spine.append(maker.trades(100))
    config = Config(spine.path, {"binance-spot": None}, sinks={"mine": own_settings(spine.path)})
    for _ in range(2):
        for feeder in feeders(config, "mine"):
            feeder.drain(5)
            feeder.close()
    assert own_ids(spine.path) == list(range(100))
    assert own_ids(spine.path, "places", "place") == [103]
    assert load_offset(spine.tape(), "sink-mine") == 103


def test_one_instance_serves_all_sources_and_topics(spine, maker):
    # Two sources, by one sink with one connection; the settings choose a topic and a symbol.
    other = SpineFolder(spine.path, "binance-futures")
    for folder in (spine, other):
        folder.append(maker.definitions())
        folder.append(maker.trades(100))
    settings = own_settings(spine.path, topics=(TOPIC,), symbols=("ETHUSDT",))
    feeds = {"binance-spot": None, "binance-futures": None}
    made = feeders(Config(spine.path, feeds, sinks={"mine": settings}), "mine")
    assert len({id(feeder.partition._sink) for feeder in made}) == 1
    for feeder in made:
        feeder.drain(5)
    connection = made[0].partition._sink.database
    made[0].close()
    connection.execute("select 1")
    made[1].close()
    with pytest.raises(sqlite3.ProgrammingError):
        connection.execute("select 1")
    with contextlib.closing(sqlite3.connect(spine.path / "trades.db")) as database:
        found = database.execute("select source, symbol, count(*) from trades group by 1, 2")
        counts = {row[:2]: row[2] for row in found}
    wanted = sum(1 for one in maker.trades(100)["instrument"] if one == 2)
    assert wanted > 0
    assert counts == {(source, "ETHUSDT"): wanted for source in feeds}
    assert own_ids(spine.path, "places", "place") == [103, 103]
    other.close()


@pytest.mark.parametrize("tells", [True, False])
def test_record_that_a_store_never_takes_is_kept_aside(spine, maker, tells):
    # Three trades of a thousand are refused, whether the store tells which or not. All others are
    # stored, each of the three is kept once with the reason, also when it is refused again.
    wrong = {17, 18, 900}

    class Picky(load_member("sink", OWN)):
        def store(self, partition, items, place):
            for batch in items:
                for row in partition.rows(batch, "trade"):
                    if row["trade_id"] in wrong:
                        offset = row["tape_offset"] if tells else None
                        raise SinkRejected(f"no {row['trade_id']}", offset=offset)
            super().store(partition, items, place)

    spine.append(maker.definitions())
    spine.append(maker.trades(1_000))
    sink = Picky(own_settings(spine.path), SinkContext("mine", spine.path))
    feeder = Feeder(sink.partition("binance-spot", TOPIC), spine.tape(), FlushPolicy())
    assert feeder.drain(30)
    feeder.close()
    assert own_ids(spine.path) == [one for one in range(1_000) if one not in wrong]
    [path] = (spine.path / "state/binance-spot/rejected").iterdir()
    kept = [json.loads(line) for line in path.read_text().splitlines()]
    assert [one["offset"] for one in kept] == [20, 21, 903]
    assert [one["reason"] for one in kept] == ["no 17", "no 18", "no 900"]
    assert bytes.fromhex(kept[0]["record"]) == maker.trades(1_000)[17].tobytes()
    assert kept[0]["fields"]["trade_id"] == 17
    [trouble] = feeder.partition.troubles
    assert "3 records rejected" in trouble
    # Killed between the note and the place: the record comes again, and is in the file already.
    with contextlib.closing(sqlite3.connect(spine.path / "trades.db")) as database, database:
        database.execute("update places set place = 903, fingerprint = null")
        database.execute("delete from trades where cast(trade_id as integer) > 900")
    path.write_bytes(path.read_bytes() + b'{"offset": 9')
    again = Feeder(sink.partition("binance-spot", TOPIC), spine.tape(), FlushPolicy())
    assert again.drain(30)
    again.close()
    assert own_ids(spine.path) == [one for one in range(1_000) if one not in wrong]
    assert len(path.read_text().splitlines()) == 3


def test_store_that_refuses_everything_is_an_error(spine, maker):
    # Beyond `rejected_max` not the records are wrong: the sink stops, and says what to compare.
    class Closed(load_member("sink", OWN)):
        def store(self, partition, items, place):
            if items:
                raise SinkRejected("no such column")
            super().store(partition, items, place)

    spine.append(maker.trades(20))
    settings = own_settings(spine.path, rejected_max=5)
    partition = Closed(settings, SinkContext("mine", spine.path)).partition("binance-spot", TOPIC)
    feeder = Feeder(partition, spine.tape(), FlushPolicy())
    with pytest.raises(SinkError, match="more than 5 records, the last because: no such column"):
        feeder.drain(30)
    feeder.close()
    assert own_ids(spine.path, "places", "place") == [5]


@pytest.mark.parametrize("arrived", [True, False])
def test_commit_without_an_answer_is_looked_up(spine, maker, arrived):
    # Each second commit fails, before or after the store made it final: rows are stored once.
    class Deaf(load_member("sink", OWN)):
        calls = 0

        def store(self, partition, items, place):
            self.calls += 1
            if self.calls % 2:
                if arrived:
                    super().store(partition, items, place)
                raise SinkUnavailable("no answer", retry_after_ms=1)
            super().store(partition, items, place)

    spine.append(maker.definitions())
    spine.append(maker.trades(500))
    sink = Deaf(own_settings(spine.path), SinkContext("mine", spine.path))
    policy = FlushPolicy(rows=100)
    feeder = Feeder(sink.partition("binance-spot", TOPIC), spine.tape(), policy)
    assert feeder.drain(30)
    feeder.close()
    assert own_ids(spine.path) == list(range(500))


def test_place_that_somebody_else_moved_is_refused(spine, maker):
    # Behind the back of the sink the place goes on, and then an attempt fails.
    spine.append(maker.definitions())
    partition = make(OWN, spine.path)
    feeder = Feeder(partition, spine.tape(), FlushPolicy())
    assert feeder.drain(5)
    partition._sink.database.execute("update places set place = 50")
    partition._sink.database.commit()
    spine.append(maker.trades(10))
    feeder.step()
    partition._in_doubt = True
    with pytest.raises(SinkError, match="expected the store to be at offset 3 to 13, got 50"):
        feeder.flush()
    feeder.close()


def test_store_that_forgets_what_it_confirmed_is_filled_again(spine, maker):
    # As after a loss of power without a sync: rows and place go back together, behind the back of
    # an open sink. It fails, says so, and goes on where the store is: each row is there once.
    spine.append(maker.definitions())
    spine.append(maker.trades(500))
    member = Member(Feeder(make(OWN, spine.path), spine.tape(), FlushPolicy(seconds=0.0)))
    while member.step():
        pass
    with contextlib.closing(sqlite3.connect(spine.path / "trades.db")) as database, database:
        database.execute("update places set place = 103, fingerprint = null")
        database.execute("delete from trades where cast(trade_id as integer) >= 100")
    spine.append(maker.trades(100, 500))
    member.feeder.partition._in_doubt = True
    assert member.step() == 0
    assert "did it forget" in str(member.failure)
    member.retry_at = 0.0
    while member.step():
        pass
    member.close()
    assert own_ids(spine.path) == list(range(600))
