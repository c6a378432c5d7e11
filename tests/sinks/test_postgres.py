"""The sink of PostgreSQL, with a real server: exact values, exactly once, amended, and refused."""

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import psycopg
import pyarrow as pa
import pytest

from conftest import START, SpineFolder
from tapeworks._core import (
    NONE,
    TapeReader,
    TapeWriter,
    dtype_descr,
    field_names,
    numbers,
)
from tapeworks.config import Section, Value
from tapeworks.errors import ConfigError, SinkError, SinkUnavailable, TapeReplacedError
from tapeworks.registry import load_settings
from tapeworks.settings import resolve_config
from tapeworks.sinks import postgres_tables
from tapeworks.sinks.base import FlushPolicy, SinkContext
from tapeworks.sinks.feeder import Feeder
from tapeworks.sinks.postgres import PostgresConfig, PostgresSink
from tapeworks.sinks.postgres_tables import FOLDER, tables_by_day
from tapeworks.sinks.store_tables import TABLES
from tapeworks.tape import Place
from tapeworks.topics import ALERTS, BARS, GAPS, METRICS, NEWS, NORMALIZED, TICKS

TEXT = numbers("blob_kind")["text"]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.fixture
def database(server, request) -> Iterator[str]:
    """The address of an empty database of its own."""
    name = f"test_{time.monotonic_ns()}"
    with psycopg.connect(server("postgres").url(), autocommit=True) as connection:
        connection.execute(f"create database {name}")
        yield server("postgres").url(name)
        connection.execute(f"drop database {name} with (force)")


MADE: list[Feeder] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    """Closes what a test that fails leaves open."""
    yield
    while MADE:
        MADE.pop().close()


def feeder_of(spine: SpineFolder, url: str, topic: str = NORMALIZED, **settings: object) -> Feeder:
    config = PostgresConfig(url=url, **settings)
    sink = PostgresSink(config, SinkContext("postgres", spine.path))
    partition = sink.partition(spine.source, topic)
    MADE.append(Feeder(partition, spine.tape(topic), FlushPolicy(), name="sink-postgres"))
    return MADE[-1]


def store(spine: SpineFolder, url: str, topic: str = NORMALIZED, **settings: object) -> Feeder:
    feeder = feeder_of(spine, url, topic, **settings)
    assert feeder.drain(30)
    feeder.close()
    return feeder


def rows(url: str, query: str) -> list[tuple]:
    with psycopg.connect(url, options="-c search_path=tapeworks -c timezone=UTC") as connection:
        return connection.execute(query).fetchall()


def test_every_value_is_that_of_the_tape(spine, maker, database):
    # Random records with absent values, negative prices and the largest numbers, of two days: each
    # column of each row is compared with what Arrow makes of the same record.
    random = np.random.default_rng(3)
    trades, quotes = maker.trades(20_000), maker.rows("quote", 5_000)
    trades["ts_event"] += random.integers(0, 1_000, len(trades))
    trades["price"] = random.integers(-(2**63), 2**63 - 1, len(trades))
    trades["size"] = 10 ** random.integers(0, 18, len(trades))
    trades["trade_id"] = random.integers(0, 2**64, len(trades), dtype=np.uint64)
    trades["conditions"] = random.integers(0, 2**16, len(trades))
    trades["side"] = random.integers(0, 3, len(trades))
    trades["price"][::7] = NONE
    quotes["instrument"], quotes["ts_event"] = 2, START
    quotes["ts_recv"] = START + np.arange(len(quotes))
    for name in ("bid_price", "bid_size", "ask_price", "ask_size"):
        quotes[name] = random.integers(0, 2 ** random.integers(1, 63, len(quotes)))
        quotes[name][::5] = NONE
    for one in (maker.definitions(), trades, quotes, maker.imbalances(3_000)):
        spine.append(one)
    store(spine, database)
    reader = TapeReader(spine.tape())
    batch = reader.read(30_000)
    for table in TABLES:
        if table.name not in ("trades", "quotes", "imbalances", "instruments"):
            continue
        found = rows(database, f"select {', '.join(table.columns)} from {table.name} order by id")
        expected = expected_rows(spine, batch, table)
        assert len(found) == len(expected) > 0
        for one, other in zip(found, expected, strict=True):
            assert one == other
    parts = rows(
        database, "select relid::text from pg_partition_tree('trades') where isleaf order by 1"
    )
    assert ("trades_20231117",) in parts
    assert ("trades_20231119",) in parts


def expected_rows(spine: SpineFolder, batch, table) -> list[tuple]:
    partition = PostgresSink(PostgresConfig(), SinkContext("expected", spine.path)).partition(
        spine.source, NORMALIZED
    )
    partition._state.read()
    columns = pa.record_batch(batch.arrow(table.kind, partition.symbols, offsets=True)).to_pylist()
    names = {"id": "tape_offset", "ts": "ts_event", "ts_ns": "ts_event_ns", **table.renamed}
    made = []
    for row in columns:
        values = []
        for column in table.columns:
            value = spine.source if column == "provider" else row[names.get(column, column)]
            values.append(Decimal(value) if column in ("trade_id", "sequence") else value)
        made.append(tuple(values))
    return made


def test_each_row_is_stored_once_and_the_place_with_it(spine, maker, database):
    # Sinks are abandoned after some batches, with and without a flush; a second day begins.
    spine.append(maker.definitions())
    for first in range(0, 50_000, 10_000):
        spine.append(maker.trades(10_000, first))
    for batches, flushes in [(1, False), (3, True), (2, False), (0, True), (200, True)]:
        feeder = feeder_of(spine, database)
        for _ in range(batches):
            feeder._move()
        if flushes:
            feeder.flush()
        feeder.close()
    assert rows(database, "select trade_id from trades order by id") == [
        (Decimal(number),) for number in range(50_000)
    ]
    [place] = rows(database, "select source, topic, tape_offset, tape from places")
    assert place == (spine.source, NORMALIZED, 50_003, TapeReader(spine.tape()).id)


def test_topics_symbols_and_kinds_are_chosen(spine, maker, database):
    # Of trades and quotes of three symbols, one kind of one symbol.
    quotes = maker.rows("quote", 300, instrument=2, ts_event=START, ts_recv=START)
    for one in (maker.definitions(), maker.trades(300), quotes):
        spine.append(one)
    store(spine, database, symbols=("ETHUSDT",), kinds=("trade",))
    [(symbol, count)] = rows(database, "select symbol, count(*) from trades group by 1")
    assert symbol == "ETHUSDT"
    assert count == sum(maker.trades(300)["instrument"] == 2)
    assert rows(database, "select count(*) from quotes") == [(0,)]
    assert rows(database, "select count(*) from instruments") == [(0,)]
    for wrong in ({"kinds": ("tick", "trades")}, {"topics": ("market-data.raw",)}):
        with pytest.raises(ConfigError, match="expected some of"):
            PostgresConfig(**wrong)


def test_what_comes_again_amends(spine, maker, database):
    # A bar comes with a late trade, an instrument is defined anew, a trade is cancelled and another
    # corrected; of two trades of one id that differ none is.
    bars = maker.rows("bar", 3, instrument=1, ts_event=START, ts_recv=START, interval_ms=1_000)
    bars["channel"], bars["close"], bars["volume"] = 1, [5, 6, 7], [1, 2, 3]
    bars["ts_event"][2] += 1_000_000_000
    spine.append(maker.definitions())
    spine.append(bars[:1], BARS)
    store(spine, database, BARS)
    spine.append(bars[1:], BARS)
    store(spine, database, BARS)
    found = rows(database, "select ts, close, volume from bars order by ts")
    at = EPOCH + timedelta(seconds=START // 10**9)
    assert found == [
        (at, Decimal("0.000000006"), Decimal("0.00000002")),
        (at + timedelta(seconds=1), Decimal("0.000000007"), Decimal("0.00000003")),
    ]
    # One is of the day before in New York, and one is cancelled by the id that it was corrected to.
    trades = maker.trades(8)
    trades["instrument"], trades["trade_id"] = 1, [1, 2, 3, 4, 4, 5, 2, 6]
    trades["ts_event"][6] -= 86_000 * 10**9
    wrong = maker.rows("correction", 5, instrument=1, ts_event=START + 10**10, ts_recv=START)
    wrong["trade_id"], wrong["action"] = [2, 3, 4, 6, 8], [1, 2, 1, 2, 1]
    wrong["sequence"], wrong["price"], wrong["size"] = [0, 0, 0, 8, 0], 9, 8
    again = maker.definitions()
    again["status"] = 2
    for one in (trades, wrong, again):
        spine.append(one)
    store(spine, database)
    amended = rows(database, "select trade_id, price from amended_trades order by id")
    assert [int(number) for number, _ in amended] == [1, 3, 4, 4, 5, 2]
    assert amended[1][1] == Decimal("0.000000009")
    assert len(rows(database, "select from trades")) == 8
    assert rows(database, "select symbol, status from instruments order by instrument")[0] == (
        "BTCUSDT",
        "halted",
    )


def test_derived_records_are_stored_from_their_tapes(spine, maker, database):
    # A gap of all instruments has no symbol, a metric without a value is null; ticks wait for the
    # definitions of another tape.
    ticks = maker.rows("tick", 10, instrument=3, ts_event=START, ts_recv=START, bid=1, ask=NONE)
    gaps = maker.rows("gap", 2, ts_event=START, ts_recv=START, ts_start=START)
    gaps["instrument"], gaps["code"] = [0, 1], code_of_gap()
    spine.append(ticks, TICKS)
    feeder = feeder_of(spine, database, TICKS)
    with pytest.raises(SinkUnavailable, match="no definition"):
        feeder.drain(1)
    spine.append(maker.definitions())
    feeder._retry_at = 0.0
    assert feeder.drain(5)
    feeder.close()
    spine.append(gaps, GAPS)
    store(spine, database, GAPS)
    values = maker.rows("metric", 2, instrument=1, ts_event=START, metric=b"ofi_10s", window=10**10)
    values["value"], values["state"] = [0.1, np.nan], 1
    spine.append(values, METRICS)
    store(spine, database, METRICS)
    found = rows(database, "select symbol, metric, value, window_ns from metrics order by id")
    assert found == [("BTCUSDT", "ofi_10s", value, 10**10) for value in (0.1, None)]
    assert rows(database, "select distinct symbol, bid, ask, provider from ticks") == [
        ("SOLUSDT", Decimal("0.000000001"), None, spine.source)
    ]
    assert rows(database, "select symbol from gaps order by id") == [(None,), ("BTCUSDT",)]


def code_of_gap() -> int:
    return numbers("marker_code")["gap"]


def test_row_that_breaks_a_rule_of_the_table_is_kept_aside(spine, maker, database):
    # The operator's own rule refuses two trades of 2,000; all others are stored, in order.
    spine.append(maker.definitions())
    store(spine, database)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("alter table tapeworks.trades add check (trade_id not in (7, 1500))")
    spine.append(maker.trades(2_000))
    feeder = store(spine, database)
    found = [int(one) for (one,) in rows(database, "select trade_id from trades order by id")]
    assert found == [one for one in range(2_000) if one not in (7, 1_500)]
    [path] = (spine.path / "state" / spine.source / "rejected").iterdir()
    kept = [json.loads(line) for line in path.read_text().splitlines()]
    assert [one["offset"] for one in kept] == [10, 1_503]
    assert all("violates check constraint" in one["reason"] for one in kept)
    assert "2 records rejected" in feeder.partition.troubles[0]


def test_second_instance_waits_and_then_goes_on(spine, maker, database, tmp_path):
    # From another data folder, where no lock of files keeps it out: it stores nothing while the
    # first session lives, and goes on behind it.
    spine.append(maker.definitions())
    spine.append(maker.trades(100))
    first = feeder_of(spine, database)
    assert first.drain(5)
    second = feeder_of(spine, database)
    second.partition._state.lock._folder = tmp_path / "elsewhere"
    with pytest.raises(SinkUnavailable, match=r"session \d+ \(tapeworks postgres .* already"):
        second._move()
    first.close()
    spine.append(maker.trades(100, 100))
    second._retry_at = second.partition._sink._retry_at = 0.0
    assert second.drain(5)
    second.close()
    assert len(rows(database, "select from trades")) == 200


def test_place_that_moved_stores_nothing(spine, maker, database):
    # Somebody moves the place in the database: the transaction is undone, and the error says so.
    spine.append(maker.definitions())
    feeder = feeder_of(spine, database)
    assert feeder.drain(5)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("update tapeworks.places set tape_offset = 1")
    spine.append(maker.trades(10))
    with pytest.raises(SinkError, match=r"moved it, .*, and nothing was stored"):
        feeder.drain(5)
    feeder.close()
    assert rows(database, "select count(*) from trades") == [(0,)]


def test_tape_that_was_replaced_is_refused(spine, maker, database):
    # The place names another tape: nothing is stored, and the message says which.
    spine.append(maker.definitions())
    store(spine, database)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("update tapeworks.places set tape = %s", ["1" * 32])
    spine.append(maker.trades(10))
    with pytest.raises(TapeReplacedError):
        store(spine, database)
    assert rows(database, "select count(*) from trades") == [(0,)]


def test_tables_of_another_version_are_refused(spine, maker, database):
    # A newer migration, one with another content, and a role that may not migrate.
    spine.append(maker.definitions())
    with pytest.raises(SinkError, match="lacks migrations"):
        store(spine, database, migrate=False)
    store(spine, database)
    store(spine, database, migrate=False)
    for change, told in (
        ("insert into tapeworks.migrations values (999, 'x', 'x')", "of a newer version"),
        ("update tapeworks.migrations set sha256 = 'x'", "with another content"),
    ):
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute(change)
        with pytest.raises(SinkError, match=told):
            store(spine, database)
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("delete from tapeworks.migrations where number = 999")


def test_tables_of_before_a_migration_go_on(spine, maker, database, monkeypatch, tmp_path):
    # A database as the first three migrations left it, with partitions and rows: the fourth adds
    # its table, whose partitions are made as those of the others are, and as those of nothing else.
    for path in sorted(FOLDER.glob("*.sql"))[:3]:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with psycopg.connect(database, autocommit=True) as connection:
        with monkeypatch.context() as earlier:
            earlier.setattr(postgres_tables, "FOLDER", tmp_path)
            postgres_tables.migrate(connection, "tapeworks", may_change=True)
        made = "select tapeworks.make_partition(%s, '2023-11-17')"
        connection.execute(made, ["trades"])
        with pytest.raises(psycopg.errors.RaiseException, match="expected ticks, trades"):
            connection.execute(made, ["imbalances"])
        spine.append(maker.definitions())
        spine.append(maker.trades(100))
        spine.append(maker.imbalances(100))
        store(spine, database)
        for name in ("corrections", "trades_20231117", "x; drop table y"):
            with pytest.raises(psycopg.errors.RaiseException, match="that is cut by day, got"):
                connection.execute(made, [name])
    assert rows(database, "select count(*) from trades_20231117") == [(100,)]
    assert rows(database, "select count(*) from imbalances_20231117") == [(100,)]


def test_role_with_few_rights_is_enough(spine, maker, database, server):
    # The role of the documentation stores, makes partitions, and can neither read rows nor drop
    # tables. Rights that are taken away cost lag alone.
    spine.append(maker.definitions())
    store(spine, database)
    service = server("postgres")
    role = f"writer_{time.monotonic_ns()}"
    grants = (
        f"create role {role} login",
        f"grant usage on schema tapeworks to {role}",
        f"grant insert on all tables in schema tapeworks to {role}",
        f"grant select on tapeworks.places, tapeworks.migrations to {role}",
        f"grant update on tapeworks.places to {role}",
        f"grant select, update on tapeworks.bars, tapeworks.instruments to {role}",
        f"grant execute on function tapeworks.make_partition to {role}",
        f"alter default privileges in schema tapeworks grant insert on tables to {role}",
    )
    with psycopg.connect(database, autocommit=True) as connection:
        for grant in grants:
            connection.execute(grant)
        name = database.rpartition("/")[2]
        spine.append(maker.trades(100))
        url = service.url(name, user=role)
        settings = {"migrate": False, "days_ahead": 0}
        feeder = feeder_of(spine, url, **settings)
        connection.execute(f"revoke insert on tapeworks.trades from {role}")
        connection.execute(f"revoke update on tapeworks.places from {role}")
        with pytest.raises(SinkUnavailable, match="permission denied"):
            feeder.drain(0.1)
        connection.execute(f"grant update on tapeworks.places to {role}")
        feeder._retry_at = 0.0
        assert feeder.drain(5)
        feeder.close()
        with contextlib.suppress(psycopg.Error):
            connection.execute(f"grant insert on tapeworks.trades to {role}")
        with psycopg.connect(url) as writer, pytest.raises(psycopg.errors.InsufficientPrivilege):
            writer.execute("drop table tapeworks.trades")
        connection.execute(f"drop owned by {role}")
        connection.execute(f"drop role {role}")
    assert len(rows(database, "select from trades")) == 100


def test_columns_are_those_of_the_database(spine, maker, database):
    # The names in the code and those in the SQL of the migrations are the same, in any order.
    spine.append(maker.definitions())
    store(spine, database)
    for table in TABLES:
        query = (
            "select column_name from information_schema.columns "
            f"where table_schema = 'tapeworks' and table_name = '{table.name}'"
        )
        assert {name for (name,) in rows(database, query)} == set(table.columns)


def test_news_are_rows_and_each_story_is_as_it_was_told_last(spine, database):
    # A story that is amended, and told again as it was at first; and one that names no symbol.
    # All, and by symbol.
    marker = np.zeros(1, np.dtype(dtype_descr("news")))
    told = [
        ("1", 10, {"headline": "Rates up", "symbols": ["SPY", "TLT"]}),
        ("2", 11, {"headline": "a\tb 'é'", "source": "wire"}),
        ("1", 20, {"headline": "Rates down", "symbols": ["TLT"]}),
        ("1", 10, {"headline": "Rates up", "symbols": ["SPY", "TLT"]}),
    ]
    spine.tape(NEWS).mkdir(parents=True)
    with TapeWriter(spine.tape(NEWS), "blobs") as writer:
        for at, one in enumerate(told):
            marker["ts_event"], marker["ts_start"] = START, START + one[1] * 10**9
            body = json.dumps({"id": one[0], "raw": {}, **one[2]}).encode()
            writer.append_blob(TEXT, body, context=marker.tobytes(), ts=START + at)
        writer.sync()
    store(spine, database, NEWS)
    assert rows(database, "select story, headline from news order by story") == [
        ("1", "Rates down"),
        ("2", "a\tb 'é'"),
    ]
    query = "select id, headline from news_revisions order by id"
    assert rows(database, query) == [(at, one[2]["headline"]) for at, one in enumerate(told)]
    query = "select id from news_revisions where symbols @> array['SPY'] order by id"
    assert rows(database, query) == [(0,), (3,)]
    store(spine, database, NEWS, schema="spy", symbols=("SPY",))
    assert rows(database, "select id from spy.news_revisions order by id") == [(0,), (3,)]


def test_alerts_are_rows_and_each_is_as_it_stands(spine, maker, database):
    # An alert that is opened and closed, and one of no instrument, as of a host.
    alerts = maker.rows(
        "alert",
        3,
        id=[2**64 - 1, 7, 2**64 - 1],
        instrument=[1, 0, 1],
        ts_event=[START, START + 1, START + 2_000],
        rule=[b"wide", b"disk", b"wide"],
        detector=b"spread",
        state=[1, 1, 3],
        value=[2.5, np.nan, 0.25],
        price=NONE,
        first_offset=5,
    )
    spine.append(maker.definitions())
    spine.append(alerts, topic=ALERTS)
    store(spine, database, ALERTS)
    states = field_names("alert")["state"]
    query = "select alert, symbol, rule, state, value, price, first_offset from current_alerts"
    assert rows(database, f"{query} order by rule") == [
        (Decimal(7), None, "disk", states[1], None, None, Decimal(5)),
        (Decimal(2**64 - 1), "BTCUSDT", "wide", states[3], 0.25, None, Decimal(5)),
    ]
    assert rows(database, "select id, ts_ns from alerts order by id") == [(0, 0), (1, 1), (2, 0)]


def test_sink_without_its_library_says_what_to_install(monkeypatch):
    # `psycopg` is an extra: without it the settings are refused, in words.
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.delitem(sys.modules, "tapeworks.sinks.postgres")
    with pytest.raises(ConfigError, match=r"pip install 'tapeworks\[postgres\]'"):
        load_settings("sink", "postgres")


def test_a_migration_says_which_of_its_tables_are_cut_by_day():
    # Of those that are released all that go by day, each once; of a later one its own alone.
    texts = [path.read_text() for path in sorted(FOLDER.glob("*.sql"))]
    made = [name for text in texts for name in tables_by_day(text)]
    assert sorted(made) == sorted(table.name for table in TABLES if table.by_day)
    later = "create table {name} (\n    id bigint\n){end};\n"
    text = later.format(name="notes", end="") + later.format(name="fills", end=" {by_day}")
    assert tables_by_day(text) == ["fills"]


def test_two_databases_are_two_sinks_of_one_kind():
    # Each with a name of its own; of the lake there is one.
    def section(kind: str) -> Section:
        table = Section("sinks.second", {"kind": Value(kind, "test")})
        return Section("", {"sinks": Section("sinks", {"second": table})})

    assert isinstance(resolve_config(section("postgres")).sinks["second"], PostgresConfig)
    with pytest.raises(ConfigError, match="expected one lake"):
        resolve_config(section("parquet"))


def test_what_retention_took_is_skipped_once(spine, maker, database):
    # The tape begins behind what is stored, and the first answer to that is lost: the place that
    # arrived is found, and the sink goes on behind it.
    spine.append(maker.definitions())
    feeder = feeder_of(spine, database)
    assert feeder.drain(5)
    partition = feeder.partition
    place = Place(10)
    sink, store_now = partition._sink, partition._sink.store

    def store_deaf(*arguments: object) -> None:
        store_now(*arguments)
        raise SinkUnavailable("no answer")

    sink.store = store_deaf
    with pytest.raises(SinkUnavailable):
        partition.skip(place)
    sink.store = store_now
    partition.skip(place)
    assert partition.committed == place
    assert rows(database, "select tape_offset from places") == [(10,)]
