"""ClickHouse by its HTTP: what the suite of sinks and the campaign of stores do not ask."""

import json
import time

import clickhouse_connect
import pytest

from conftest import START, SpineFolder
from tapeworks import _core
from tapeworks._core import TapeReader, TapeWriter
from tapeworks.errors import ConfigError, SinkError, SinkUnavailable
from tapeworks.sinks.base import SinkContext
from tapeworks.sinks.clickhouse import ClickHouseConfig, ClickHouseSink
from tapeworks.sinks.feeder import Feeder
from tapeworks.tape import noted_losses
from tapeworks.topics import BARS, NORMALIZED

slow = pytest.mark.slow


@pytest.fixture
def service(server):
    return server("clickhouse")


def feeder_of(spine, service, database, topic=NORMALIZED, kind=ClickHouseSink, **settings):
    choice = {"topics": (topic,), "flush_seconds": 0.1, "url": service.url(), **settings}
    config = ClickHouseConfig(database=database, **choice)
    sink = kind(config, SinkContext("clickhouse", spine.path))
    return Feeder(sink.partition(spine.source, topic), spine.tape(topic), config.policy)


def drain(*arguments, **settings) -> None:
    feeder = feeder_of(*arguments, **settings)
    assert feeder.drain(20)
    feeder.close()


def ask(service, query: str) -> list[tuple]:
    with clickhouse_connect.get_client(dsn=service.url(), compress=False) as client:
        return client.query(query).result_rows


@slow
def test_values_are_exact_and_the_latest_of_a_bar_is_shown(spine, maker, service):
    # Prices at both ends of what a record can hold, numbers of 64 bits, nanoseconds, absent values;
    # a bar that is told again is one row of the table read with `final`, whichever came last. By an
    # address that is not known to be this machine's, so that bars are packed on their way.
    trades = maker.trades(4)
    trades["price"] = [_core.NONE - 1, -_core.NONE, 1, _core.NONE]
    trades["size"] = [1, 10**16, 0, _core.NONE]
    trades["trade_id"] = [2**64 - 1, 0, 2**63, 7]
    trades["ts_event"] += [1, 2, 3, 4]
    bars = maker.rows(
        "bar",
        3,
        instrument=[1, 2, 1],
        ts_event=START,
        close=[10**9, 2 * 10**9, 3 * 10**9],
        interval_ms=60_000,
    )
    told = maker.imbalances(2)
    told["near_price"], told["auction_time"] = [_core.NONE, 10**9], [930, 1600]
    spine.append(maker.definitions())
    spine.append(trades)
    spine.append(told)
    spine.append(bars, topic=BARS)
    # The longest TTL that there is takes nothing.
    drain(spine, service, "exact", ttl_days=10_000)
    drain(spine, service, "exact", BARS, url=service.url().replace("127.0.0.1", "0.0.0.0"))
    query = (
        "select toString(price), toString(size), trade_id, toUnixTimestamp64Nano(ts) "
        "from exact.trades order by id"
    )
    assert ask(service, query) == [
        ("9223372036.854775806", "0.00000001", 2**64 - 1, trades["ts_event"][0]),
        ("-9223372036.854775807", "100000000", 0, trades["ts_event"][1]),
        ("0.000000001", "0", 2**63, trades["ts_event"][2]),
        (None, None, 7, trades["ts_event"][3]),
    ]
    found = ask(service, "select symbol, toFloat64(close) from exact.bars final order by symbol")
    assert found == [("BTCUSDT", 3.0), ("ETHUSDT", 2.0)]
    assert ask(service, "select count() from exact.instruments final") == [(3,)]
    query = (
        "select symbol, auction, side, toString(near_price), auction_time, code, "
        "toUnixTimestamp64Nano(ts) from exact.imbalances order by id"
    )
    assert ask(service, query) == [
        ("ETHUSDT", "opening", "ask", None, 930, "OSL", told["ts_event"][0]),
        ("SOLUSDT", "closing", "", "1", 1600, "OSL", told["ts_event"][1]),
    ]


@slow
def test_a_ttl_is_taken_away_again_and_one_of_the_operator_stays(spine, maker, service):
    # 30 days, then none: the server must keep what is old. A table with a TTL of another form, as
    # one that moves rows, is the operator's.
    spine.append(maker.definitions())
    engines = "select name, engine_full from system.tables where database = 'ttl'"
    drain(spine, service, "ttl", ttl_days=30)
    assert "TTL toDateTime(ts) + toIntervalDay(30)" in dict(ask(service, engines))["trades"]
    own = "alter table ttl.quotes modify ttl toDateTime(ts) + toIntervalDay(30) where id = 0"
    with clickhouse_connect.get_client(dsn=service.url(), compress=False) as client:
        client.command(own)
    drain(spine, service, "ttl")
    drain(spine, service, "ttl")
    found = dict(ask(service, engines))
    assert " TTL " not in found["trades"]
    assert " TTL " in found["quotes"]


class Dying(ClickHouseSink):
    """Ends once rows were sent, before their place is."""

    def _finish(self, partition, place):
        raise SinkUnavailable("killed")


@slow
def test_a_range_that_was_begun_is_never_cut_otherwise(spine, maker, service):
    # A sink dies between rows and place; the tape goes on, and the next sink has other limits, so
    # that it would cut the tape elsewhere. Rows that were there are not stored again.
    spine.append(maker.definitions())
    spine.append(maker.trades(1_000))
    dying = feeder_of(spine, service, "cut", kind=Dying, flush_seconds=60.0)
    dying.step()
    with pytest.raises(SinkUnavailable, match="killed"):
        dying.flush()
    dying.close()
    assert ask(service, "select count() from cut.trades") == [(1_000,)]
    spine.append(maker.trades(500, 1_000))
    drain(spine, service, "cut", flush_rows=300)
    counts = "select count(), uniqExact(id), min(trade_id), max(trade_id) from cut.trades"
    assert ask(service, counts) == [(1_500, 1_500, 0, 1_499)]


class Claiming(ClickHouseSink):
    """Ends when a range is claimed, before any of its rows is sent."""

    def _insert(self, *arguments):
        raise SinkUnavailable("killed")


@slow
def test_what_retention_took_of_a_claimed_range_is_lost_only_if_it_was_not_stored(
    spine_of, maker, service
):
    # Killed with a range claimed, once with all of its rows sent, once with none; then retention
    # takes a part of it, once when the next sink has read some of the range. Nothing is stored
    # twice, nothing of the store is called lost, and the sink goes on behind the hole.
    for source, kind in (("sent", Dying), ("claimed", Claiming), ("read", Claiming)):
        spine = spine_of(source)
        # All but the first start make no tables, and watch the place of another one for a moment.
        brief = {"create_tables": source == "sent", "flush_seconds": 0.25}
        begin_range(spine, maker, feeder_of(spine, service, "hole", kind=kind, **brief))
        brief["create_tables"] = False
        feeder = feeder_of(spine, service, "hole", flush_rows=1_000, **brief)
        if source == "read":
            assert feeder.step() == 0
            assert "offsets 0 to 4002 go together, up to 999 are here" in feeder.refusal
        first = lose_a_part(spine, maker)
        assert feeder.drain(20)
        feeder.close()
        losses = [loss for _, loss in noted_losses(spine.path, source)]
        missing = sum(loss.last + 1 - loss.first for loss in losses)
        if source == "sent":
            assert not losses
        else:
            assert losses[0].first == 0 if source == "claimed" else losses[0].first >= 1_000
            assert losses[-1].last == first - 1
        query = (
            "select count(), uniqExact(id), max(trade_id) from hole.trades "
            f"where provider = '{source}'"
        )
        # The first of what is lost are the definitions.
        rows = 5_000 - missing + 3 * (source == "claimed")
        assert ask(service, query) == [(rows, rows, 4_999)]


def begin_range(spine, maker, feeder):
    """Has a sink claim 4,003 items before it is killed."""
    with TapeWriter(spine.tape(), segment_bytes=1 << 16) as tape:
        tape.append(maker.definitions().tobytes())
        for first in range(0, 4_000, 200):
            tape.append(maker.trades(200, first).tobytes())
    feeder.step()
    with pytest.raises(SinkUnavailable, match="killed"):
        feeder.flush()
    feeder.close()


def lose_a_part(spine, maker) -> int:
    """Has retention take a part of what was claimed; returns where the tape begins now."""
    with TapeWriter(spine.tape(), segment_bytes=1 << 16, retention_bytes=1 << 18) as tape:
        tape.append(maker.definitions().tobytes())
        for first in range(4_000, 5_000, 200):
            tape.append(maker.trades(200, first).tobytes())
        deadline = time.monotonic() + 10
        while not TapeReader(spine.tape()).first and time.monotonic() < deadline:
            time.sleep(0.01)
    first = TapeReader(spine.tape()).first
    assert 1_203 < first < 4_003
    return first


@pytest.fixture
def spine_of(tmp_path):
    """Returns a data folder of a source, whose tape has a folder."""

    def make(source: str) -> SpineFolder:
        spine = SpineFolder(tmp_path / source, source)
        spine.tape().parent.mkdir(parents=True)
        return spine

    return make


@slow
def test_refused_rows_are_kept_aside_across_a_crash(spine, maker, service):
    # A rule of the table refuses two trades; the sink dies when all others are stored, and the next
    # one halves the same ranges: nothing twice, and what was refused is in the file once.
    spine.append(maker.definitions())
    drain(spine, service, "rule")
    rule = "alter table rule.trades add constraint odd check trade_id not in (17, 700)"
    with clickhouse_connect.get_client(dsn=service.url(), compress=False) as client:
        client.command(rule)
    spine.append(maker.trades(1_000))
    dying = feeder_of(spine, service, "rule", kind=Dying, flush_seconds=60.0)
    dying.step()
    with pytest.raises(SinkUnavailable, match="killed"):
        dying.flush()
    dying.close()
    drain(spine, service, "rule")
    assert ask(service, "select count(), uniqExact(id) from rule.trades") == [(998, 998)]
    [path] = (spine.path / f"state/{spine.source}/rejected").iterdir()
    kept = [json.loads(line) for line in path.read_text().splitlines()]
    assert [one["fields"]["trade_id"] for one in kept] == [17, 700]
    assert "VIOLATED_CONSTRAINT" in kept[0]["reason"]


@slow
def test_two_instances_agree_on_every_range(spine, maker, service, tmp_path):
    # Both were opened at the same place. One claims what comes next, and the other is refused,
    # whatever it wanted to store; opened again, it goes on behind the first.
    spine.append(maker.definitions())
    twin = SpineFolder(tmp_path / "twin")
    twin.path.mkdir()
    (twin.path / "tape").symlink_to(spine.path / "tape")
    drain(spine, service, "two")
    first, second = (feeder_of(one, service, "two", flush_seconds=60.0) for one in (spine, twin))
    first._reader, second._reader = first._open(), second._open()
    spine.append(maker.trades(100))
    first.step()
    spine.append(maker.trades(100, 100))
    second.step()
    first.flush()
    with pytest.raises(SinkError, match="a claim of another instance: does it still run"):
        second.flush()
    second.close()
    assert first.drain(20)
    first.close()
    assert second.drain(20)
    second.close()
    assert ask(service, "select count(), uniqExact(id) from two.trades") == [(200, 200)]


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"url": "clickhouse://localhost"}, "which has the scheme 'clickhouse'"),
        ({"url": "http://"}, "no valid host"),
        ({"url": "http:// spaced host"}, "a space or a control character"),
        ({"url": "http://host:99999"}, "Port out of range"),
        ({"database": "a-b"}, "expected letters, digits and _"),
        ({"ttl_days": -1}, "expected 0 to 10000"),
        ({"kinds": ("level",)}, "kinds: expected some of"),
    ],
)
def test_wrong_settings_are_named(setting, told):
    with pytest.raises(ConfigError, match=told):
        ClickHouseConfig(**setting)
