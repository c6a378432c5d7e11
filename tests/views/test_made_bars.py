"""Bars that are made of trades when they are asked for, beside a computation of their own."""

from collections import defaultdict
from decimal import Decimal

import numpy as np
import pytest

import tapeworks as tw
from conftest import START, SYMBOLS
from tapeworks.errors import QueryError

SECOND = 10**9
COUNT = 300
VALUES = ("open", "high", "low", "close", "volume", "buy_volume", "turnover", "buy_turnover")


@pytest.fixture
def traded(spine, maker):
    """Trades of half a minute, of which some have the ids of others' times, half in the lake."""
    spine.append(maker.definitions())
    trades = maker.trades(COUNT)
    # Within a window the ids say which came first.
    trades["sequence"][40:44] = trades["sequence"][40:44][::-1]
    trades["price"] %= 10**15
    spine.append(trades[: COUNT // 2])
    spine.drain()
    spine.append(trades[COUNT // 2 :])
    spine.derive()
    return spine


def trades_of(lake, symbol):
    """Returns time in ns, id, price, size and side of each trade, by time."""
    rows = lake.trades(symbol).to_arrow()
    times = np.asarray(rows["ts_event"].cast("int64")) * 1_000 + np.asarray(rows["ts_event_ns"])
    names = ("sequence", "price", "size", "side")
    return list(zip(times.tolist(), *(rows[name].to_pylist() for name in names), strict=True))


def bar_of(trades, column=1):
    """Returns the values of a bar of `trades`, of which the ids, or the times, tell the first."""
    ordered = sorted(trades, key=lambda trade: trade[column])
    bought = [trade for trade in trades if trade[4] == "buy"]
    prices = [price for _, _, price, _, _ in ordered]
    sums = [
        total
        for chosen in (trades, bought)
        for total in (
            sum((size for *_, size, _ in chosen), Decimal(0)),
            sum((price * size for _, _, price, size, _ in chosen), Decimal(0)),
        )
    ]
    return [
        *(prices[0], max(prices), min(prices), prices[-1]),
        *(sums[0], sums[2], sums[1], sums[3], len(trades)),
    ]


def values_of(bars):
    return [[row[name] for name in (*VALUES, "count")] for row in bars]


@pytest.mark.parametrize("interval", ["1s", "700ms", "7s"])
def test_bars_of_any_length_are_those_of_the_trades(traded, interval):
    # Each window on the epoch that has trades, exact in each column.
    lake = tw.open(traded.path)
    length = {"1s": SECOND, "700ms": 7 * SECOND // 10, "7s": 7 * SECOND}[interval]
    for symbol in SYMBOLS:
        windows = defaultdict(list)
        for trade in trades_of(lake, symbol):
            windows[trade[0] // length].append(trade)
        bars = lake.bars(symbol, interval=interval, partial=True)
        assert values_of(bars) == [bar_of(windows[number]) for number in sorted(windows)]
        starts = [int(row["ts_event"].timestamp() * 1_000) * 10**6 for row in bars]
        assert starts == [number * length for number in sorted(windows)]
        # The recording began in the first, and may go on before the last is over: a later trade
        # ends a window.
        over = [start != max(starts) for start in starts]
        assert [bool(row["closed"]) for row in bars] == [False, *over[1:]]
        assert list(lake.bars(symbol, interval=interval)) == [row for row in bars if row["closed"]]


@pytest.mark.parametrize(
    ("words", "measure"),
    [
        ({"ticks": 7}, lambda price, size: 1),
        ({"volume": "20000.5"}, lambda price, size: size),
        ({"value": 10**9}, lambda price, size: price * size),
    ],
)
def test_bars_of_trades_size_and_value(traded, words, measure):
    # The trade that fills a bar is its last, whole; the rest is none until it is filled.
    lake = tw.open(traded.path)
    [amount] = words.values()
    several = lake.bars(**words, partial=True)
    for symbol in SYMBOLS:
        bars, held = [], []
        for trade in trades_of(lake, symbol):
            held.append(trade)
            if sum(measure(price, size) for _, _, price, size, _ in held) >= Decimal(amount):
                bars.append(held)
                held = []
        assert len(bars) > 5
        found = lake.bars(symbol, **words)
        assert values_of(found) == [bar_of(bar, 0) for bar in bars]
        ends = [int(row["ts_close"].timestamp() * 1_000) * 10**6 for row in found]
        assert ends == [bar[-1][0] for bar in bars]
        assert {row["closed"] for row in found} == {1}
        all_of_it = [row for row in several if row["symbol"] == symbol]
        bars += [held] if held else []
        assert values_of(all_of_it) == [bar_of(bar, 0) for bar in bars]


def test_an_amount_beyond_64_bits_fills_no_bar(traded):
    # All that there is, of each symbol, is one bar that is not filled.
    lake = tw.open(traded.path)
    for words in ({"ticks": 2**70}, {"volume": 2**70}, {"value": 2**70}):
        assert len(lake.bars(**words)) == 0
        assert len(lake.bars(**words, partial=True)) == len(SYMBOLS)


def test_bars_that_were_recorded_of_a_part_hide_no_other(spine, maker):
    # A length that was added to the settings later, and one that was taken out of them again.
    spine.append(maker.definitions())
    trades = maker.trades(COUNT)
    trades["ts_event"] = START + np.arange(COUNT) * SECOND // 10
    trades["instrument"] = 1
    spine.append(trades)
    part = maker.rows("bar", 5, instrument=1, interval_ms=1_000, channel=1, closed=1)
    part["ts_event"] = START + np.arange(10, 15) * SECOND
    part["close"] = 10**9
    spine.append(part, "market-data.bars")
    lake = tw.open(spine.path)

    def seconds(start, end):
        bars = lake.bars(SYMBOLS[0], START + start * SECOND, START + end * SECOND, interval="1s")
        times = np.asarray(bars.to_arrow()["ts_event"].cast("int64")) * 1_000
        return ((times - START) // SECOND).tolist(), set(bars["close"].to_pylist()) == {1}

    assert seconds(1, 10) == (list(range(1, 10)), False)
    assert seconds(1, 25) == (list(range(1, 25)), False)
    assert seconds(20, 25) == (list(range(20, 25)), False)
    # Within it, they are the recorded ones.
    assert seconds(10, 15) == (list(range(10, 15)), True)


@pytest.mark.slow
def test_bars_that_were_recorded_hide_none_between_them(spine, maker):
    # Of the middle no bars were recorded: the length was taken out of the settings for a while.
    spine.append(maker.definitions())
    trades = maker.trades(COUNT)
    trades["instrument"] = 1
    trades["ts_event"] = START + np.arange(COUNT) * SECOND // 10
    spine.append(trades)
    for first, last in ((2, 8), (20, 28)):
        bars = maker.rows("bar", last - first, instrument=1, interval_ms=1_000, channel=1, closed=1)
        bars["ts_event"] = START + np.arange(first, last) * SECOND
        spine.append(bars, "market-data.bars")
    lake = tw.open(spine.path)
    for first, last, is_made in ((2, 25, True), (6, 9, True), (2, 8, False), (21, 27, False)):
        start, end = START + first * SECOND, START + last * SECOND
        bars = lake.bars("BTCUSDT", start, end, interval="1s")
        assert len(bars) == last - first
        assert ("made of trades" in repr(bars)) is is_made
    # What lies within no whole window says nothing of those beside it.
    within = lake.bars("BTCUSDT", START + 7 * SECOND, START + 8 * SECOND - 1, interval="1s")
    assert "made of trades" not in repr(within)


def test_a_range_has_whole_windows(traded):
    # Those that begin in it, with their last trades, which may be behind it.
    lake = tw.open(traded.path)
    whole = {row["ts_event"]: row for row in lake.bars("BTCUSDT", interval="2s")}
    start, end = START + 5 * SECOND, START + 11 * SECOND
    bars = lake.bars("BTCUSDT", start, end, interval="2s")
    assert [row["ts_event"].second for row in bars] == [6, 8, 10]
    assert list(bars) == [whole[row["ts_event"]] for row in bars]
    assert "made of trades" in repr(bars)
    assert "from 2023-11-17T23:00:05Z to 2023-11-17T23:00:12Z" in bars.coverage().summary()[0]
    assert len(lake.bars("BTCUSDT", start, start + 1, interval="2s")) == 0


def test_what_may_be_missing_is_told(traded, maker):
    # A gap of the ledger flags the bars that it touches; those of other symbols are whole.
    gap = maker.rows("marker", 1, code=3, cause=1, state=1, channel=1, instrument=1, count=5)
    gap["ts_start"], gap["ts_event"] = START + 9 * SECOND, START + 11 * SECOND
    gap["ts_recv"], gap["first"], gap["last"] = START + 30 * SECOND, 1, 5
    traded.append(gap)
    traded.derive()
    lake = tw.open(traded.path)
    for symbol, seconds in (("BTCUSDT", {8, 10}), ("ETHUSDT", set())):
        bars = lake.bars(symbol, interval="2s")
        found = {row["ts_event"].second for row in bars if row["partial"]}
        assert {second for second in found if second < 20} == seconds
        assert all(bool(row["flags"] & 32) == row["partial"] for row in bars)
        ticks = [row for row in lake.bars(symbol, ticks=10) if row["ts_event"].second < 20]
        assert any(row["partial"] for row in ticks) == bool(seconds)


def test_a_trade_counts_once_where_it_came_twice(spine, maker):
    # A venue sends fills, and their sums for each taker: a bar is of the fills.
    spine.append(maker.definitions())
    trades = maker.trades(COUNT)
    trades["price"] %= 10**15
    sums = trades.copy()
    sums["channel"] = 2
    spine.append(sums[sums["instrument"] < 3])
    before = tw.open(spine.path).bars("BTCUSDT", interval="7s").to_arrow()
    spine.append(trades[trades["instrument"] != 2])
    lake = tw.open(spine.path)
    for name in VALUES:
        assert lake.bars("BTCUSDT", interval="7s")[name] == before[name]
    for symbol, channel in zip(SYMBOLS, ("trade", "agg_trade", "trade"), strict=True):
        bars = lake.bars(symbol, ticks=5)
        assert set(bars["channel"].to_pylist()) == {channel}


def seconds_of(maker, first, count, channel):
    """Returns a trade a second from the second `first` on, received 300 ms later."""
    ids = np.arange(first, first + count)
    ts = START + ids * SECOND
    more = {"price": (ids + 1) * 10**9, "size": 10**8, "count": 1, "side": 1, "flags": 1}
    more |= {"sequence": ids + (10**6 if channel == 2 else 0), "trade_id": ids + 1}
    return maker.rows(
        "trade", count, instrument=1, ts_event=ts, ts_recv=ts + 3 * 10**8, channel=channel, **more
    )


def test_sums_count_where_no_fills_are_held(spine, maker):
    # Their sums alone at first and in a hole of the fills, both for a while: each second once.
    spine.append(maker.definitions())
    for first, count, channel in ((0, 20, 2), (10, 20, 1), (30, 10, 2), (40, 20, 1)):
        spine.append(seconds_of(maker, first, count, channel))
    spine.derive()
    lake = tw.open(spine.path)
    for end in (10, 15, 60):
        bars = lake.bars("BTCUSDT", START, START + end * SECOND, interval="4s", partial=True)
        assert bars["count"].to_pylist() == [4] * (-(-end // 4))
        opens = [int(row["open"]) for row in bars]
        assert opens == list(range(1, end + 1, 4))
        assert [int(row["close"]) for row in bars] == [first + 3 for first in opens]
        ticks = lake.bars("BTCUSDT", START, START + end * SECOND, ticks=5)
        assert [int(row["close"]) for row in ticks] == list(range(5, end + 1, 5))
    # The window of a seam may lack a part of a trade, and says so.
    flagged = [row["ts_event"].second for row in bars if row["partial"]]
    assert {8, 28} <= set(flagged)
    assert not {12, 16, 20, 32, 44} & set(flagged)
    channels = dict(zip((row["ts_event"].second for row in bars), bars["channel"], strict=True))
    assert [channels[at].as_py() for at in (4, 8, 28, 32, 40)] == [
        *("agg_trade", "trade", "agg_trade", "agg_trade", "trade")
    ]


def test_a_window_is_not_over_while_trades_may_be_on_the_way(spine, maker):
    # Of others, receipt goes on: it is over 2 s and the delay of its last trade behind its end.
    spine.append(maker.definitions())
    spine.append(seconds_of(maker, 0, 4, 1))
    for received, is_over in ((62, False), (63, True)):
        other = seconds_of(maker, 6, 1, 1)
        other["instrument"], other["ts_recv"] = 2, START + received * SECOND // 10
        spine.append(other)
        bars = tw.open(spine.path).bars("BTCUSDT", interval="1s", partial=True)
        assert [row["closed"] for row in bars] == [0, 1, 1, int(is_over)]


def test_times_decide_where_no_sequence_does(spine, maker):
    # An answer tells the newest first. Of trades without a sequence, times say which was first, and
    # where a venue begins to number anew each day; of one time, sequences.
    def told(symbol, *rows):
        trades = maker.rows("trade", len(rows), instrument=symbol, count=1, channel=1, flags=1)
        for trade, (second, sequence, price) in zip(trades, rows, strict=True):
            trade["ts_event"], trade["sequence"] = START + int(second * SECOND), sequence
            trade["price"], trade["size"] = price * 10**9, 10**8
        trades["ts_recv"] = trades["ts_event"].max() + 5
        spine.append(trades)

    spine.append(maker.definitions())
    told(1, (3, 0, 13), (2, 0, 12), (1, 0, 11))
    told(2, (86_401, 2, 14), (86_401, 1, 13), (1, 9, 12), (1, 8, 11))
    lake = tw.open(spine.path)
    for symbol, last in (("BTCUSDT", 13), ("ETHUSDT", 14)):
        for words in ({"interval": "4w"}, {"ticks": 9}):
            [bar] = lake.bars(symbol, **words, partial=True)
            assert (bar["open"], bar["close"]) == (11, last), (symbol, words)
    [bar] = lake.bars("BTCUSDT", interval="1h", partial=True)
    assert (bar["open"], bar["close"]) == (11, 13)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"ticks": 0}, "ticks above 0, whole, got 0"),
        ({"ticks": 1.5}, "ticks above 0, whole, got 1.5"),
        ({"ticks": True}, "got True"),
        ({"volume": "x"}, "volume above 0 of up to 8 decimal places, got 'x'"),
        ({"volume": float("nan")}, "got nan"),
        ({"value": -1}, "value above 0 of up to 17"),
        ({"ticks": 5, "volume": 1}, "expected one of interval, ticks, volume and value"),
        ({"interval": "1s", "ticks": 5}, "got interval and ticks"),
        ({"ticks": 5, "revisions": True}, "no revisions"),
    ],
)
def test_what_cannot_fill_a_bar_is_refused(traded, words, told):
    with pytest.raises(QueryError, match=told):
        tw.open(traded.path).bars("BTCUSDT", **words)
