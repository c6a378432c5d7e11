"""Mistakes that published code makes with these numbers: none of them is made here.

Each test has data in which the mistake shows, small enough to be worked out by hand.
"""

import math

import numpy as np
import pytest

from conftest import START
from tapeworks import _core, research
from tapeworks._core import Processor, Records, metric_sets

METRIC = np.dtype(_core.dtype_descr("metric"))
QUOTE, TRADE = (np.dtype(_core.dtype_descr(kind)) for kind in ("quote", "trade"))
SECOND = 10**9
FIRST = START - START % (60 * SECOND)
CENT = 10**7


def row(kind, ts, **fields):
    made = np.zeros(1, np.dtype(_core.dtype_descr(kind)))
    made["length"], made["kind"] = made.dtype.itemsize // 8, _core.kind_of(kind)
    made["feed"], made["instrument"], made["flags"] = 1, 1, 1
    made["ts_event"] = made["ts_recv"] = FIRST + round(ts * SECOND)
    for name, value in fields.items():
        made[name] = value
    return made.tobytes()


def quote(ts, bid, ask, bid_size=10**8, ask_size=10**8):
    return row("quote", ts, bid_price=bid, ask_price=ask, bid_size=bid_size, ask_size=ask_size)


def trade(ts, price, size=1, side=0):
    return row("trade", ts, price=price, size=size * 10**8, side=side, channel=1, count=1)


def measure(records, sets, **settings):
    chosen = {"sets": sets, "interval_ms": 0, "windows_ms": [60_000], "partial": 1, **settings}
    return np.frombuffer(
        Processor("metrics", chosen).process(Records.from_bytes(b"".join(records))), METRIC
    )


def values(rows, name):
    return rows[rows["metric"] == name.encode()]["value"]


def test_price_in_the_middle_is_at_the_mid():
    # (0.1 + 0.2) / 2 is no 0.15 of floats, and 1,000.01 is no 1,000.00 at any price.
    assert (0.1 + 0.2) / 2 != 0.15
    records = [quote(0, 10 * CENT, 20 * CENT), trade(1, 15 * CENT)]
    assert values(measure(records, "sign"), "sign_quote")[-1] == 0
    records = [
        quote(0, 100_000 * CENT, 100_003 * CENT),
        trade(1, 100_002 * CENT),
        trade(2, 100_001 * CENT),
    ]
    rows = measure(records, "sign")
    # Neither is at the quote: the tick rule tells, and it falls.
    assert values(rows, "sign_emo")[-1] == -1 == values(rows, "sign_tick")[-1]


def test_nothing_stands_in_front_of_the_first_return():
    # Eleven prices are ten returns, live and over a range.
    prices = [100 * 10**9 + k % 3 * CENT for k in range(11)]
    rows = measure([quote(k, one, one) for k, one in enumerate(prices)], "volatility")
    last = rows[rows["ts_event"] == FIRST + 10 * SECOND]
    returns = np.diff(np.log(np.array(prices) / 1e9))
    rows = measure(
        [quote(k, one, one) for k, one in enumerate([*prices, prices[-1]])],
        "volatility",
        interval_ms=1_000,
    )
    last = rows[rows["ts_event"] == FIRST + 10 * SECOND]
    found = {row["metric"].decode().removesuffix("_60s"): row for row in last}
    assert found["rv"]["count"] == 10
    assert math.isclose(found["rq"]["value"], 10 / 3 * np.sum(returns**4), rel_tol=1e-12)
    both = research.realized(returns)
    for name in ("rv", "bv", "min_rv", "med_rv", "rq", "tpq", "bns_z"):
        assert math.isclose(both[name], found[name]["value"], rel_tol=1e-9)


def test_horizon_is_a_time_and_no_number_of_rows():
    # A hundred quotes within a second behind the trade; the mid moves five seconds later.
    records = [quote(0, 99 * CENT, 101 * CENT), trade(1, 101 * CENT, side=1)]
    records += [quote(1 + k / 100, 99 * CENT, 101 * CENT, 10**8 + k) for k in range(1, 100)]
    records += [quote(5.5, 103 * CENT, 105 * CENT), quote(9, 109 * CENT, 111 * CENT)]
    rows = measure(records, "cost", horizons_ms=[5_000])
    impact = values(rows, "price_impact_5s_mean_60s")[-1]
    assert math.isclose(impact, 2 * 0.04)
    assert math.isclose(values(rows, "realized_spread_5s_mean_60s")[-1], 2 * (1.01 - 1.04))


def test_the_two_realized_kernels_are_told_apart():
    # Of a price that bounces, the one that is flat at the top is negative; the other never is.
    returns = np.tile([0.01, -0.01], 50)
    assert research.realized_kernel(returns, 5, flat_top=True) < 0
    assert research.realized_kernel(returns, 5) >= 0


def test_vpin_splits_trades_and_bars_do_not():
    # One trade of 25 into buckets of 10 fills two, and half of a third; a bar takes it whole.
    records = [trade(0, 100 * CENT, 5, 1), trade(1, 100 * CENT, 25, 1), trade(2, 101 * CENT, 1, 2)]
    rows = measure(records, "vpin", vpin_volume=10 * 10**8, vpin_buckets=3)
    assert values(rows, "vpin_true")[-1] == 1.0
    bars = research.trade_bars("volume", 10, [0, 1, 2], [1, 1, 2], [5, 25, 1], [1, 1, -1])
    assert [int(volume) for volume in bars["volume"].to_pylist()] == [30]


def marker(ts, code, **fields):
    number = _core.numbers("marker_code")[code]
    return row("marker", ts, **{"instrument": 0, "code": number, "ts_start": _core.NONE, **fields})


def gap(ts, start, channel, state="closed"):
    told = {"channel": channel, "state": _core.numbers("gap_state")[state], "instrument": 1}
    return marker(ts, "gap", ts_start=FIRST + start * SECOND, **told)


def test_a_part_of_a_day_is_no_day_that_buckets_of_vpin_go_by():
    # One unit in ten minutes. The stream begins 10 minutes before a midnight; the day behind it is
    # whole but for what a case takes out of it, and a bucket holds a fiftieth of it.
    day = 86_400
    start = day - FIRST // SECOND % day
    recorder = {"first": 2**16 - 1, "last": 2**16 - 1}
    noon = start + day // 2

    def bucket(*told, away=0, days=1, first=-600):
        times = range(start + first, start + days * day + 1_200, 600)
        rows = [(at, trade(at, 100 * CENT)) for at in times if not noon <= at < noon + away]
        rows = sorted(rows + list(told), key=lambda one: one[0])
        found = measure([row for _, row in rows], "vpin")
        return values(found, "vpin_bucket")[-1]

    def of(missing):
        return pytest.approx((144 - missing) / 50)

    def ends(away):
        told = {"ts_start": FIRST + noon * SECOND, **recorder}
        return (
            (noon, marker(noon, "end_of_session")),
            (noon + away, marker(noon + away, "connected", **told)),
        )

    def killed(away):
        return ends(away)[1:]

    def lost(away, channel="trade", state="closed"):
        number = _core.numbers("channel")[channel]
        return ((noon + away, gap(noon + away, noon, number, state)),)

    assert bucket() == of(0)
    # The first day is whole where the stream began with it.
    assert math.isnan(bucket(days=0))
    assert math.isnan(bucket(first=3_600))
    assert bucket(first=0) == of(0)
    assert bucket(first=600) == of(1)
    for told in (ends, killed, lost):
        assert math.isnan(bucket(*told(3_600), away=3_600))
        assert bucket(*told(300), away=300) == of(1)
    # The day behind it is whole; with the one before they would be two.
    assert bucket(*ends(3_600), away=3_600, days=2) == of(0)
    # Short ones add up, however often they are told; what is lost of books or was filled is no loss
    # of trades, nor is a halt.
    many = [(at, gap(at + 60, at, 1)) for at in range(noon, noon + 20 * 600, 600)]
    assert math.isnan(bucket(*many))
    assert bucket(*many[:7], *many[:7], *many[:7]) == of(0)
    assert bucket(*lost(3_600, "depth")) == bucket(*lost(3_600, state="repaired")) == of(0)
    halt = [(at, row("status", at, status=said)) for at, said in ((noon, 2), (noon + 3_600, 1))]
    assert bucket(*halt, away=3_600) == of(6)


def market(seed, count):
    """Yields quotes and trades of a market that never stands still, over two days."""
    chance = np.random.default_rng(seed)
    bid = 10_000
    for k in range(count):
        ts = k * 0.7 if k < count // 2 else 86_400 + k * 0.7
        bid += int(chance.integers(-1, 2))
        ask = bid + int(chance.integers(1, 4))
        if chance.random() < 0.3:
            yield trade(ts, [bid, ask][k % 2] * CENT, int(chance.integers(1, 9)), 2 - k % 2)
        sizes = chance.integers(1, 50, 2) * 10**8
        yield quote(ts, bid * CENT, ask * CENT, *sizes.tolist())


@pytest.mark.slow
def test_no_value_changes_when_the_future_is_deleted():
    # Every set, at each event and on a grid: what was written before a cut is the same without
    # what came behind it.
    tick = row("definition", 0, tick_size=CENT, symbol=b"BTCUSDT")
    records = [tick, *market(7, 600)]
    sets = ",".join(name for name, _ in metric_sets())
    settings = {
        "hawkes": "0.2,0.5,1.0",
        "bar_ms": 10_000,
        "ofi_bar_ms": 5_000,
        "windows_ms": [10_000],
        "partial": 0,
    }
    for interval in (0, 1_000):
        whole = measure(records, sets, interval_ms=interval, **settings).tobytes()
        assert whole
        for cut in (1, 57, 311, 450):
            part = measure(records[:cut], sets, interval_ms=interval, **settings).tobytes()
            assert whole.startswith(part)


def test_rows_of_one_time_are_taken_in_the_order_of_the_tape():
    # A trade between two quotes of one nanosecond meets the one before it; the last one stands.
    records = [
        quote(0, 99 * CENT, 101 * CENT),
        quote(1, 97 * CENT, 99 * CENT),
        trade(1, 99 * CENT, side=1),
        quote(1, 103 * CENT, 105 * CENT),
    ]
    rows = measure(records, "l1,cost,sign")
    assert math.isclose(values(rows, "effective_spread")[2], 2 * 0.01)
    assert math.isclose(values(rows, "mid")[-1], 1.04)
    with pytest.raises(Exception, match="not run back; row 2"):
        research.previous_tick([1, 3, 2], [1.0, 2.0, 3.0], 1)


def test_mean_over_time_is_not_that_over_rows():
    # A spread of 2 cents for nine seconds, and a burst of a hundred quotes with one of 8.
    records = [quote(0, 99 * CENT, 101 * CENT)]
    records += [quote(9 + k / 1_000, 96 * CENT, 104 * CENT, 10**8 + k) for k in range(100)]
    records += [quote(10, 99 * CENT, 101 * CENT)]
    rows = measure(records, "l1", windows_ms=[10_000])
    assert math.isclose(values(rows, "spread_tw_10s")[-1], 0.02 * 0.9 + 0.08 * 0.1)


def test_no_value_is_null_and_never_zero():
    # No volume; changes of the price that go the same way twice; more than the book holds.
    rows = measure([quote(0, 99 * CENT, 101 * CENT)], "flow")
    assert np.isnan(values(rows, "tfi_60s")).all()
    rising = [trade(k, (100 + k * k) * CENT) for k in range(1, 9)]
    rows = measure([*rising, trade(61, 300 * CENT)], "impact")
    assert np.isnan(values(rows, "roll_spread")[-1])
    assert values(rows, "roll_covariance")[-1] > 0
    bars = {"open": [1.0, 2.0], "high": [2.0, 3.0], "low": [1.0, 2.0], "close": [2.0, 3.0]}
    assert research.bar_estimates(**bars)["spread_edge"] is None
    assert research.two_scale([1.0, 2.0, 3.0], 2) is None
    assert research.realized([0.01] * 9)["rv"] is None
    assert research.autocorrelation(np.ones(100), 3) is None
    assert research.variance_ratio(np.zeros(100), 2) is None
    assert research.price_discovery(np.zeros(100), np.zeros(100)) is None
    assert research.regression([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) is None
