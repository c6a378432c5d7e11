"""Bars of trades whose conditions hold them back: built live and made on demand, they are alike."""

from decimal import Decimal

import pytest

import tapeworks as tw
from tapeworks import _core

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
