"""QuestDB with a real server, but for its settings: what no other suite asks of it."""

import json
import time
from datetime import timedelta

import numpy as np
import pytest

from conftest import START, SpineFolder
from tapeworks import _core
from tapeworks.errors import ConfigError, SinkError, SinkUnavailable
from tapeworks.sinks.base import SinkContext
from tapeworks.sinks.feeder import Feeder
from tapeworks.sinks.questdb import QuestDBConfig, QuestDBSink
from tapeworks.topics import BARS, NORMALIZED

slow = pytest.mark.slow
NEXT_DAY = int(timedelta(days=1) / timedelta(microseconds=1)) * 1_000


@pytest.fixture
def service(server):
    return server("questdb")


def feeder_of(spine, service, prefix, topic=NORMALIZED, **settings):
    choice = {"topics": (topic,), "flush_seconds": 0.1, **settings}
    config = QuestDBConfig(url=service.url(), table_prefix=prefix, **choice)
    sink = QuestDBSink(config, SinkContext("questdb", spine.path))
    return Feeder(sink.partition(spine.source, topic), spine.tape(topic), config.policy)


def drain(spine, service, prefix, topic=NORMALIZED, **settings) -> None:
    feeder = feeder_of(spine, service, prefix, topic, **settings)
    assert feeder.drain(20)
    # Readers see all that is committed.
    feeder.partition._sink._await_applied()
    feeder.close()


@slow
def test_values_are_exact_and_the_latest_of_a_bar_is_shown(spine, maker, service):
    # Prices at both ends of what a record can hold, numbers of 64 bits, nanoseconds, absent values;
    # a bar that is told three times, the second time on a day that begins meanwhile.
    trades = maker.trades(4)
    trades["price"] = [_core.NONE - 1, -_core.NONE, 1, _core.NONE]
    trades["size"] = [1, 10**16, 0, _core.NONE]
    trades["trade_id"] = [2**64 - 1, 0, 2**63, 7]
    trades["ts_event"] += [1, 2, 3, 4]
    bars = maker.rows(
        "bar",
        3,
        instrument=[1, 2, 1],
        ts_event=[START, START, START],
        close=[10**9, 2 * 10**9, 3 * 10**9],
        interval_ms=60_000,
    )
    told = maker.imbalances(2)
    told["near_price"], told["auction_time"] = [_core.NONE, 10**9], [930, 1600]
    spine.append(maker.definitions())
    spine.append(trades)
    spine.append(told)
    spine.append(bars, topic=BARS)
    drain(spine, service, "exact_")
    drain(spine, service, "exact_", BARS)
    query = "select price, size, trade_id, ts::long from exact_trades order by id"
    times = [*map(int, trades["ts_event"])]
    assert service.ask(query) == [
        ["9223372036.854775806", "0.00000001", "18446744073709551615", times[0]],
        ["-9223372036.854775807", "100000000.00000000", "0", times[1]],
        ["0.000000001", "0.00000000", "9223372036854775808", times[2]],
        [None, None, "7", times[3]],
    ]
    found = service.ask("select symbol, close from exact_bars order by symbol")
    assert found == [["BTCUSDT", "3.000000000"], ["ETHUSDT", "2.000000000"]]
    assert service.ask("select count() from exact_bars_versions") == [[3]]
    query = (
        "select symbol, auction, side, near_price, auction_time, code, ts::long "
        "from exact_imbalances order by id"
    )
    assert service.ask(query) == [
        ["ETHUSDT", "opening", "ask", None, 930, "OSL", int(told["ts_event"][0])],
        ["SOLUSDT", "closing", None, "1.000000000", 1600, "OSL", int(told["ts_event"][1])],
    ]


@slow
def test_rows_that_a_server_forgot_are_sent_again(spine, maker, service):
    # Behind the back of the sink the rows go, the places stay, as after a loss of power without a
    # sync. An earlier place is found by its rows; without any, all is sent again. Days that were
    # dropped behind a newer one are no loss.
    spine.append(maker.definitions())
    spine.append(maker.trades(100))
    drain(spine, service, "lost_")
    service.ask("truncate table lost_trades")
    drain(spine, service, "lost_")
    assert service.ask("select count(), count_distinct(id) from lost_trades") == [[100, 100]]
    other = SpineFolder(spine.path, "binance-futures")
    other.append(maker.definitions())
    other.append(maker.trades(10))
    drain(other, service, "lost_")
    later = maker.trades(50, 100)
    later["ts_event"] += np.int64(NEXT_DAY)
    spine.append(later)
    drain(spine, service, "lost_")
    day = np.datetime64(START, "ns").astype("datetime64[D]")
    service.ask(f"alter table lost_trades drop partition list '{day}'")
    drain(other, service, "lost_")
    other.close()
    assert service.ask("select provider, count() from lost_trades") == [[spine.source, 50]]


@slow
def test_a_second_instance_waits_while_the_first_moves_on(spine, maker, service, tmp_path):
    # Another machine with the same tape: it is refused while the first one stores, and goes on when
    # that one stands still; then the first finds its place moved. Each trade is there once.
    spine.append(maker.definitions())
    spine.append(maker.trades(50))
    first = feeder_of(spine, service, "two_")
    assert first.drain(20)
    twin = SpineFolder(tmp_path / "twin")
    twin.path.mkdir()
    (twin.path / "tape").symlink_to(spine.path / "tape")
    second = feeder_of(twin, service, "two_")
    sink = second.partition._sink
    spine.append(maker.trades(50, 50))
    await_applied, waits = sink._await_applied, []

    def move_meanwhile() -> None:
        # It waits once before it watches, and again before it looks at the place.
        waits.append(1)
        if len(waits) == 2:
            assert first.drain(20)
        await_applied()

    sink._await_applied = move_meanwhile
    with pytest.raises(SinkUnavailable, match="another instance stores it already"):
        second._open()
    sink._await_applied = await_applied
    sink.drop_connection()
    spine.append(maker.trades(50, 100))
    time.sleep(1)
    assert second.drain(20)
    await_applied()
    spine.append(maker.trades(50, 150))
    with pytest.raises(SinkError, match="of another instance: does it still run"):
        first.drain(20)
    first.close()
    assert second.drain(20)
    sink._await_applied()
    second.close()
    assert service.ask("select count(), count_distinct(id) from two_trades") == [[200, 200]]


@slow
def test_a_row_that_never_fits_is_kept_aside(spine, maker, service):
    # A column is narrower than ours, as somebody made the table: the trade whose price does not fit
    # is kept aside, found by the line that the server names; with our own tables it is refused.
    spine.append(maker.definitions())
    drain(spine, service, "narrow_")
    service.ask("alter table narrow_trades drop column price")
    service.ask("alter table narrow_trades add column price decimal(12,9)")
    trades = maker.trades(3_000)
    trades["price"] = 10**9
    trades["price"][1_234] = 5_000 * 10**9
    spine.append(trades)
    drain(spine, service, "narrow_", create_tables=False)
    [kept] = (spine.path / f"state/{spine.source}/rejected").iterdir()
    [line] = [json.loads(one) for one in kept.read_text().splitlines()]
    assert (line["offset"], line["fields"]["trade_id"]) == (3 + 1_234, 1_234)
    assert "DECIMAL(12,9)" in line["reason"]
    assert service.ask("select count(), count_distinct(id) from narrow_trades") == [[2_999, 2_999]]
    with pytest.raises(SinkError, match=r"narrow_trades.price to be DECIMAL\(19,9\), got DECIMAL"):
        feeder_of(spine, service, "narrow_")._open()
    service.ask("alter table narrow_trades dedup disable")
    with pytest.raises(SinkError, match="rows would be stored twice"):
        feeder_of(spine, service, "narrow_")._open()


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"url": "tcp://localhost:9009"}, "which has the scheme 'tcp'"),
        ({"url": "http://"}, "no valid host"),
        ({"url": "http:// spaced host"}, "a space or a control character"),
        ({"url": "http://host:99999"}, "Port out of range"),
        ({"table_prefix": "a.b"}, "expected letters, digits and _"),
        ({"ttl_days": -1}, "expected 0 to 36500"),
        ({"kinds": ("level",)}, "kinds: expected some of"),
        ({"topics": ("market-data.raw",)}, "topics: expected some of"),
    ],
)
def test_wrong_settings_are_named(setting, told):
    with pytest.raises(ConfigError, match=told):
        QuestDBConfig(**setting)
