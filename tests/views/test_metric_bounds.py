"""What metrics keep has bounds: within them all counts, and what goes beyond is null or refused."""

import math

import numpy as np
import pytest
from tests.views.test_metric_mistakes import CENT, FIRST, METRIC, QUOTE, SECOND, TRADE, row

from tapeworks import research
from tapeworks._core import Processor, Records
from tapeworks.errors import ConfigError
from tapeworks.settings import MetricSetsConfig

PRICE = 10_000 * CENT
# Trades that wait for a horizon, at most, and prices of the grid that `noise` keeps.
PENDING_MAX, RETURNS_MAX = 1 << 18, 1 << 13


def filled(dtype, kind, times, **fields):
    """Returns records of `kind` at the nanoseconds `times`."""
    made = np.repeat(np.frombuffer(row(kind, 0), dtype), len(times))
    made["ts_event"] = made["ts_recv"] = FIRST + np.asarray(times, np.int64)
    for name, value in fields.items():
        made[name] = value
    return made


def quotes(times, bid, **fields):
    sizes = {"bid_size": 10**8, "ask_size": 10**8}
    prices = {"bid_price": bid, "ask_price": np.asarray(bid) + 2 * CENT}
    return filled(QUOTE, "quote", times, **(sizes | prices | fields))


def measured(parts, cut=None, **settings):
    """Measures `parts`; with `cut`, by a processor that is restored before that part."""
    processor, data = Processor("metrics", settings), b""
    for at, part in enumerate(parts):
        if at == cut:
            state = processor.snapshot()
            processor = Processor("metrics", settings)
            processor.restore(state)
        for start in range(0, len(part), 4_096):
            records = Records.from_bytes(part[start : start + 4_096].tobytes())
            data += bytes(processor.process(records))
    return np.frombuffer(data, METRIC), dict(processor.counters())


def told(rows, name, second):
    found = rows[(rows["metric"] == name.encode()) & (rows["ts_event"] == FIRST + second * SECOND)]
    [found] = found
    value = float(found["value"])
    return None if math.isnan(value) else value, int(found["count"])


def trades(rate, seconds, cents):
    """Trades by buyers, `rate` a second from 1 s on, at `cents` above the price of the quotes."""
    times = SECOND + np.arange(rate * seconds) * (SECOND // rate)
    fields = {"price": PRICE + cents(times) * CENT, "size": 10**8, "side": 1}
    return filled(TRADE, "trade", times, channel=1, count=1, **fields)


def horizons(rate, seconds, until, cut):
    """Measures the costs of trades at 3 cents above the bid until 126 s, and at 1 from then on."""
    told = trades(rate, seconds, lambda ts: np.where(ts < 126 * SECOND, 3, 1))
    half = len(told) // 2
    behind = quotes(np.arange(seconds + 2, until) * SECOND, PRICE)
    settings = {"sets": "cost", "windows_ms": [60_000], "horizons_ms": [1_000, 300_000]}
    parts = [quotes([SECOND // 2], PRICE), told[:half], told[half:], behind]
    return measured(parts, cut, **settings)


@pytest.mark.slow
@pytest.mark.parametrize("cut", [None, 2, 3])
def test_every_trade_counts_that_waits_for_a_long_horizon(cut):
    # 400 trades a second for 300 s; the mid is a cent above the bid all the time.
    rows, counters = horizons(400, 300, 700, cut)
    means = {at: told(rows, "realized_spread_300s_mean_60s", at) for at in (370, 456, 486)}
    count = 60 * 400
    assert means[370] == (pytest.approx(0.04), count)
    # The window (396, 456] holds the ends of trades at 96 to 156 s.
    assert means[456] == (pytest.approx(0.02, rel=1e-4), count)
    assert means[486] == (pytest.approx(0.0, abs=1e-4), count)
    assert told(rows, "effective_spread_mean_60s", 100) == (pytest.approx(0.04), count)
    assert counters["dropped"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("cut", [None, 2, 3])
def test_no_mean_is_made_of_the_trades_that_there_is_room_for(cut):
    # 1,000 trades a second for 300 s: those of the first 38 s go before they are final.
    rows, counters = horizons(1_000, 300, 700, cut)
    lost = 300_000 - PENDING_MAX
    assert counters["dropped"] == lost
    last = 1 + lost / 1_000 + 300
    found = {at: told(rows, "realized_spread_300s_mean_60s", at) for at in range(300, 600)}
    assert {at for at, (value, _) in found.items() if value is None} == {
        at for at in found if at - 60 < last
    }
    assert found[420] == (pytest.approx(0.04), 60_000)
    assert found[456] == (pytest.approx(0.02, rel=1e-4), 60_000)
    # Those of the shorter horizon wait for a second alone.
    assert told(rows, "realized_spread_1s_mean_60s", 100) == (pytest.approx(0.04), 60_000)
    # Also where windows that are not covered have values.
    settings = {"horizons_ms": [300_000], "windows_ms": [60_000], "partial": 1}
    bought = trades(1_000, 300, lambda ts: np.full(len(ts), 3))
    behind = quotes(np.arange(302, 350) * SECOND, PRICE)
    rows, _ = measured([quotes([SECOND // 2], PRICE), bought, behind], sets="cost", **settings)
    for at, count in ((310, 0), (338, 0), (345, 6_145)):
        value = pytest.approx(0.04) if count else None
        assert told(rows, "realized_spread_300s_mean_60s", at) == (value, count)


def test_noise_is_of_its_whole_span_or_refused():
    # A random price each 100 ms; the largest span that is kept is 13 bars of 60 s.
    seed = int(np.random.SeedSequence().entropy % (1 << 32))
    print("seed", seed)
    steps, bars = 100, RETURNS_MAX * 100 // 60_000
    count = bars * 600 + 1_200
    price = PRICE + CENT * np.cumsum(np.random.default_rng(seed).choice((-1, 0, 1), count))
    times = np.arange(count) * steps * 10**6
    settings = {"sets": "noise", "windows_ms": [1_000], "step_ms": steps}
    rows, _ = measured([quotes(times, price)], span_bars=bars, **settings)
    logs = np.log((price + CENT)[1_200 - 600 : 600 + bars * 600 + 1])
    value, returns = told(rows, "tsrv", (bars + 1) * 60 + 1)
    assert returns == bars * 600 == len(logs) - 1
    assert value == pytest.approx(research.two_scale(np.exp(logs), 30), rel=1e-6)

    for given in ({"span_bars": bars + 1}, {}):
        with pytest.raises(ValueError, match="span_bars: expected span_bars times bar_ms up to"):
            Processor("metrics", settings | given)
        with pytest.raises(ConfigError, match="up to 8192 times step_ms where `noise`"):
            MetricSetsConfig(sets=("l1", "noise"), step_ms=steps, **given)
    # What other sets are made of has no such bound.
    MetricSetsConfig(sets=("l1", "impact", "volatility"), step_ms=steps)


@pytest.mark.parametrize("name", ["span_bars", "ofi_span_bars", "vpin_buckets"])
def test_spans_beyond_what_is_kept_are_refused(name):
    Processor("metrics", {"sets": "impact", name: 4_096})
    with pytest.raises(ValueError, match=f"{name}: expected a number from .* to 4096, got 4097"):
        Processor("metrics", {"sets": "impact", name: 4_097})


def test_volatility_keeps_returns_and_no_events():
    # A price each second, told once or 40 times each, with a value after every event.
    def run(times):
        at = np.arange(180 * times)
        told = quotes(SECOND // 4 + at * SECOND // times, PRICE + at // times % 7 * CENT)
        settings = {"sets": "volatility", "interval_ms": 0, "windows_ms": [10_000, 60_000]}
        processor = Processor("metrics", settings)
        data = bytes(processor.process(Records.from_bytes(told.tobytes())))
        return np.frombuffer(data, METRIC), len(processor.snapshot())

    once, often = run(1), run(40)
    assert once[1] == often[1]
    # At the last event of a second there is what there is at the first one, or on a grid.
    names = [name for name in set(once[0]["metric"]) if name.endswith(b"s")]
    assert names
    for name in names:
        few, many = (rows[rows["metric"] == name] for rows, _ in (once, often))
        many = many[np.isin(many["ts_event"], few["ts_event"])]
        assert len(few) == len(many) == 180
        np.testing.assert_array_equal(few["value"], many["value"])
        np.testing.assert_array_equal(few["count"], many["count"])


def test_longest_silence_is_a_price_that_stands_still():
    # 70,000 s without a quote, between two times of 200 quotes: as many changes of the mid are 0.
    times = np.concatenate([np.arange(200), 70_200 + np.arange(200)]) * SECOND + SECOND // 4
    price = PRICE + np.tile(np.arange(200) % 7, 2) * CENT
    settings = {"sets": "dependence", "windows_ms": [1_000], "interval_ms": 1_000}
    rows, _ = measured([quotes(times, price)], **settings)
    value, count = told(rows, "acf_mid_1", 70_399)
    assert count == 70_398
    changes = np.diff(np.concatenate([price[:200], np.full(70_000, price[199]), price[200:]]))
    changes = changes[:count] - changes[:count].mean()
    expected = (changes[1:] * changes[:-1]).sum() / (changes**2).sum()
    assert value == pytest.approx(expected, rel=1e-9)
