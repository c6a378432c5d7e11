"""Bars of trades whose conditions hold them back: built live and made on demand, they are alike."""

from decimal import Decimal

import numpy as np
import pytest

import tapeworks as tw
from tapeworks import _core
from tapeworks.processors.alerts import AlertRule, alert_settings
from tapeworks.processors.window_metric import WindowMetric
from tapeworks.settings import MetricSetsConfig

MINUTE = 60 * 10**9
START = 1_760_000_040 * 10**9
AVERAGE, LATE, OFFICIAL, EXTENDED, ODD, SWEEP, CORRECTED = 2, 32, 15, 12, 37, 14, 38

LENGTHS = {"1s": 1_000, "1m": 60_000, "5m": 300_000}
# Second, price, size, conditions.
TRADES = [
    # An odd lot and an average price change no price; a late print neither, within a day.
    (0, 900, 1, (ODD, 0)),
    (1, 100, 10, (0, 0)),
    (2, 500, 20, (AVERAGE, ODD)),
    (3, 103, 30, (SWEEP, 0)),
    (4, 50, 40, (LATE, SWEEP)),
    (5, 98, 50, (EXTENDED, 0)),
    # The official price is no trade.
    (6, 101, 60, (OFFICIAL, 0)),
    (7, 99, 70, (CORRECTED, 0)),
    # Nothing but odd lots in this minute, in the next a regular one.
    (60, 104, 3, (ODD, 0)),
    (61, 105, 4, (ODD, EXTENDED)),
    (120, 106, 5, (0, 0)),
    (180, 107, 6, (0, 0)),
]
BARS = [
    (START, 100, 103, 98, 98, 1 + 10 + 20 + 30 + 40 + 50, 6),
    (START + 2 * MINUTE, 106, 106, 106, 106, 5, 1),
]


@pytest.fixture
def recorded(spine, maker):
    definition = maker.definitions(("AAPL",))
    definition["feed"] = _core.numbers("feed")["massive"]
    definition["asset_class"] = 4
    spine.append(definition)
    rows = maker.rows("trade", len(TRADES), instrument=1, count=1, channel=1, flags=1)
    rows["feed"] = definition["feed"]
    for number, (row, (second, price, size, ids)) in enumerate(zip(rows, TRADES, strict=True), 1):
        row["ts_event"] = START + second * 10**9
        row["ts_recv"] = row["ts_event"] + 10**6
        row["price"], row["size"] = price * 10**9, size * 10**8
        row["conditions"] = ids[0] + 256 * ids[1]
        row["sequence"] = row["trade_id"] = number
    spine.append(rows)
    return spine, rows


def values(rows):
    return [
        (
            int(row["ts_event"].timestamp()) * 10**9,
            *(row[name] for name in ("open", "high", "low", "close", "volume", "count")),
        )
        for row in rows
    ]


def test_bars_that_are_made_obey_conditions(recorded):
    spine, _ = recorded
    with tw.open(spine.path) as lake:
        made = list(lake.bars("AAPL", interval="1m", partial=True))
        assert values(made)[:2] == BARS
        turnover = sum(price * size for _, price, size, _ in TRADES[:6])
        assert made[0]["turnover"] == Decimal(turnover)
        # Of a day, extended hours set no price, and a late print is a low.
        [day] = lake.bars("AAPL", interval="1d", partial=True)
        assert [day[n] for n in ("open", "high", "low", "close")] == [100, 107, 50, 107]
        assert day["volume"] == 1 + 10 + 20 + 30 + 40 + 50 + 3 + 4 + 5 + 6
        # Bars of so many trades are of those that set the last price.
        ticks = lake.bars("AAPL", ticks=2).to_pylist()
        assert [(row["open"], row["close"], row["count"]) for row in ticks] == [
            (100, 103, 2),
            (98, 106, 2),
        ]


def test_bars_and_last_prices_that_are_built_live_are_the_same(recorded):
    spine, _ = recorded
    with tw.open(spine.path) as lake:
        made = {one: lake.bars("AAPL", interval=one, partial=True).to_arrow() for one in LENGTHS}
    for name in ("bars", "ticks"):
        target = spine.tape(f"market-data.{name}")
        stage = _core.Stage(name, spine.tape(), target, spine.path / "state" / spine.source)
        stage.run_until_idle()
        stage.save()
        stage.close()
    with tw.open(spine.path) as lake:
        for one, ms in LENGTHS.items():
            built = lake.sql("select * from bars where interval_ms = ? order by ts_event", [ms])
            names = ("turnover", "buy_volume", "sequence")
            # Nothing says that the last window is over.
            over = made[one].slice(0, len(made[one]) - 1)
            assert values(list(built)) == values(over.to_pylist()), one
            for name in names:
                assert built.to_arrow()[name].to_pylist() == over[name].to_pylist(), name
            # No window of odd lots alone counts as one that was not recorded.
            title = repr(lake.bars("AAPL", end=START + 170 * 10**9, interval=one, partial=True))
            assert "made of trades" not in title, title
        ticks = lake.sql("select last, volume from ticks order by ts_event").to_pylist()
        assert [(row["last"], row["volume"]) for row in ticks] == [
            *((None, 1), (100, 10), (100, 20), (103, 30), (103, 40), (98, 50)),
            *((98, 3), (98, 4), (106, 5), (107, 6)),
        ]


class Volume(WindowMetric):
    name = "own_volume"
    window_ms = 60_000

    def value(self, rows):
        return float(rows["size"].sum()) / 1e8


def test_windows_of_trades_and_metrics_of_ones_own_obey_conditions(recorded):
    # What the bars are: prices of trades that set them, and the volume of those that count. The
    # second minute has odd lots alone: a volume, and no price.
    _, rows = recorded
    before = rows[-2:].copy()
    before["ts_event"] = before["ts_recv"] = START + np.array([-150, -90]) * 10**9
    before["conditions"] = 0
    records = _core.Records.from_bytes(before.tobytes() + rows.tobytes())
    settings = {"sets": "rates", "trade_windows": "tumbling 60s", "interval_ms": 60_000}
    settings |= {"windows_ms": [60_000]}
    made = _core.Processor("metrics", settings).process(records)
    made = np.frombuffer(made, _core.dtype_descr("metric"))
    names = [f"tumbling_60s_{name}" for name in ("open", "high", "low", "close", "volume")]
    told = {(row["ts_event"], row["metric"].decode()): float(row["value"]) for row in made}
    _, *prices, volume, count = BARS[0]
    assert [told[START + MINUTE, name] for name in names] == [*prices, volume]
    second = [told[START + 2 * MINUTE, name] for name in names]
    assert np.isnan(second[:4]).all()
    assert second[4] == 7
    assert told[START + MINUTE, "rate_trade_60s"] * 60 == pytest.approx(count)
    own = np.frombuffer(Volume().process(records), made.dtype)
    assert [float(row["value"]) for row in own if row["ts_event"] > START] == [volume, 7, 5]


@pytest.mark.parametrize("condition", [AVERAGE, LATE, OFFICIAL, ODD])
def test_what_sets_no_price_opens_no_spike(maker, condition):
    # The 70th of 80 trades is 4 % away. It opens one where it is a trade as all others are.
    rows = maker.rows("trade", 80, instrument=1, flags=1, channel=1, size=10**10)
    rows["feed"] = _core.numbers("feed")["massive"]
    rows["sequence"] = rows["trade_id"] = 1 + np.arange(80)
    rows["ts_event"] = rows["ts_recv"] = START + np.arange(80) * 50 * 10**6
    rows["price"] = 100 * 10**9 + (np.arange(80) % 3) * 10**7
    rows["price"][70] = 104 * 10**9
    sets = MetricSetsConfig().settings("trade")
    alerted = alert_settings([AlertRule("spike", rule="price_spike")], "massive", sets, "trade")

    def alerts():
        processor = _core.Processor("alerts", alerted["alerted"])
        return len(processor.process(_core.Records.from_bytes(rows.tobytes())))

    assert alerts() > 0
    rows["conditions"][70] = condition
    assert alerts() == 0


def test_conditions_of_another_feed_hold_nothing_back(recorded):
    # Binance tells none; of ITCH they say other things.
    for feed in ("binance-spot", "itch", "lobster", "foreign"):
        assert _core.held_back(_core.numbers("feed")[feed], False) == [[], [], []]
    opens, ranges, counts = _core.held_back(_core.numbers("feed")["massive"], False)
    assert {ODD, AVERAGE, LATE, OFFICIAL} <= set(opens)
    assert EXTENDED not in opens
    assert ODD in ranges
    assert counts == [OFFICIAL, 16, CORRECTED]
    assert EXTENDED in _core.held_back(_core.numbers("feed")["massive"], True)[0]
