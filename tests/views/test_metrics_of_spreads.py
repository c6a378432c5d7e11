"""What is made of changes of the best prices, against a plain reference over random quotes."""

import math
import random
from itertools import pairwise

import numpy as np
import pytest
from tests.views.test_metric_mistakes import CENT, FIRST, METRIC, SECOND, quote, row, values

from tapeworks import _core
from tapeworks._core import Processor, Records

WINDOW_S = 10


def measured(records, sets, cut=None):
    """Measures each second; with `cut`, by a processor that is restored there."""
    settings = {"sets": sets, "interval_ms": 1_000, "windows_ms": [WINDOW_S * 1_000], "partial": 0}
    tick = row("definition", 0, tick_size=CENT, symbol=b"BTCUSDT")
    processor, parts = Processor("metrics", settings), []
    for part in ([tick, *records[:cut]], records[cut:] if cut else []):
        if part:
            parts.append(processor.process(Records.from_bytes(b"".join(part))))
        state = processor.snapshot()
        processor = Processor("metrics", settings)
        processor.restore(state)
    return np.frombuffer(b"".join(map(bytes, parts)), METRIC)


def quotes(chance, count):
    """Returns (second, bid, ask) in cents; now and then a side is crossed."""
    ts, bid, found = 0.0, 10_000, []
    for _ in range(count):
        ts += chance.choice((0.01, 0.3, 1.7, 4.0))
        bid += chance.randrange(-2, 3)
        width = chance.choice((1, 1, 1, 2, 3, -1))
        found.append((round(ts, 2), bid, bid + width))
    return found


def recoveries(told, until):
    """Returns when each widening ended with the time that it took, and when each was given up."""
    ended, given_up = [], []
    spreads = [(ts, ask - bid) for ts, bid, ask in told]
    for at, ((_, before), (ts, spread)) in enumerate(pairwise(spreads)):
        if not 0 <= before < spread:
            continue
        over = (one for one in spreads[at + 2 :] if one[1] <= before)
        end, last = next(over, (until + 1, 0))
        if end - ts > WINDOW_S and until - ts > WINDOW_S:
            given_up.append(ts + WINDOW_S)
        elif last >= 0 and end <= until:
            ended.append((end, end - ts))
    return ended, given_up


@pytest.mark.parametrize("restored", [False, True])
def test_spreads_come_back_as_a_plain_count_says(restored):
    seed = random.SystemRandom().randrange(1 << 32)
    print("seed", seed)
    told = quotes(random.Random(seed), 400)
    records = [quote(ts, bid * CENT, ask * CENT) for ts, bid, ask in told]
    rows = measured(records, "resilience", 200 if restored else None)
    checked = 0
    for name in ("resilience", "spread_recoveries", "spread_censored"):
        of_name = rows[rows["metric"] == f"{name}_{WINDOW_S}s".encode()]
        for one in of_name:
            now = round((int(one["ts_event"]) - FIRST) / SECOND)
            ended, given_up = recoveries([t for t in told if t[0] <= now], now)
            within = [took for ts, took in ended if now - WINDOW_S < ts <= now]
            late = [ts for ts in given_up if now - WINDOW_S <= ts < now]
            want = {
                "resilience": sum(within) / len(within) * SECOND if within else None,
                "spread_recoveries": len(within),
                "spread_censored": len(late),
            }[name]
            if now < told[0][0] + WINDOW_S or want is None:
                assert math.isnan(one["value"])
            else:
                assert math.isclose(one["value"], want, rel_tol=1e-9), (name, now)
                checked += 1
    assert checked > 100


@pytest.mark.parametrize("restored", [False, True])
def test_decayed_volatility_is_the_sum_of_all_returns_by_their_age(restored):
    seed = random.SystemRandom().randrange(1 << 32)
    print("seed", seed)
    told = quotes(random.Random(seed), 300)
    records = [quote(ts, bid * CENT, ask * CENT) for ts, bid, ask in told]
    rows = measured(records, "decayed", 150 if restored else None)
    moves, last, known = [], None, 0
    for (ts, bid, ask), (end, *_) in pairwise([*told, (math.inf, 0, 0)]):
        if bid <= ask:
            if last is not None and last != bid + ask and ts - known < WINDOW_S:
                moves.append((ts, math.log((bid + ask) / last) ** 2))
            last, known = bid + ask, end
    found = values(rows, f"ewma_vol_{WINDOW_S}s")
    times = rows["ts_event"][rows["metric"] == f"ewma_vol_{WINDOW_S}s".encode()]
    assert len(found) > 100
    for ts, value in zip(times, found, strict=True):
        now = (int(ts) - FIRST) / SECOND
        want = sum(square * math.exp(-(now - at) / WINDOW_S) for at, square in moves if at <= now)
        *_, (since, bid, ask) = [one for one in told if one[0] <= now]
        if bid > ask:
            # None is known since the first quote of those that are crossed.
            before = [one for one in told if one[0] <= now]
            while before and before[-1][1] > before[-1][2]:
                since, *_ = before.pop()
        if bid > ask and (want == 0 or now - since >= WINDOW_S):
            assert math.isnan(value)
        else:
            assert math.isclose(value, want, rel_tol=1e-9) or (want == 0 and math.isnan(value))


def test_a_spread_that_stays_wide_hides_no_later_widening():
    # It widens for good at 20 s, and each second from 30 s on once more for 0.3 s.
    told = [(at + 0.1, 10_000, 10_001) for at in range(20)] + [(20.1, 10_000, 10_002)]
    for at in range(30, 60):
        told += [(at + 0.2, 10_000, 10_005), (at + 0.5, 10_000, 10_002)]
    records = [quote(ts, bid * CENT, ask * CENT) for ts, bid, ask in told]
    rows = measured(records, "resilience")
    found = {
        name: rows[(rows["metric"] == f"{name}_{WINDOW_S}s".encode()) & (rows["ts_event"] == at)]
        for at in (FIRST + 58 * SECOND,)
        for name in ("resilience", "spread_recoveries", "spread_censored")
    }
    assert found["spread_recoveries"]["value"] == 10
    assert found["spread_censored"]["value"] == 0
    assert math.isclose(found["resilience"]["value"][0], 0.3 * SECOND)
    assert sum(values(rows, f"spread_censored_{WINDOW_S}s") == 1) == WINDOW_S


def test_a_widening_beside_another_is_one_of_its_own():
    # Two ticks wider in two steps, and back in one: from the first, and from the second.
    told = [(0.0, 1), *((at + 12.0, ticks) for at, ticks in enumerate((2, 3, 1, 1, 1)))]
    records = [quote(ts, 10_000 * CENT, (10_000 + ticks) * CENT) for ts, ticks in told]
    rows = measured(records, "resilience")
    assert values(rows, f"spread_recoveries_{WINDOW_S}s")[-1] == 2
    assert values(rows, f"resilience_{WINDOW_S}s")[-1] == 1.5 * SECOND


@pytest.mark.parametrize("kind", ["empty", "crossed"])
@pytest.mark.parametrize("restored", [False, True])
def test_a_price_that_is_not_known_does_not_stand_still(kind, restored):
    # A minute of quotes each second, two minutes without a price, and another minute.
    def one(at):
        if not 60 <= at < 180:
            return quote(at + 0.2, 10_000 * CENT, (10_001 + at % 3) * CENT)
        bid = 20_000 * CENT if kind == "crossed" else _core.NONE
        return quote(at + 0.2, bid, 10_001 * CENT)

    records = [one(at) for at in range(241)]
    sets = "volatility,decayed,noise,dependence"
    rows = measured(records, sets, 100 if restored else None)

    def told(name, second):
        of_name = rows[rows["metric"] == name.encode()]
        [found] = of_name[of_name["ts_event"] == FIRST + second * SECOND]
        return found["value"], found["count"]

    # The price before it stands for less than a step, and the first one behind it is no return.
    expected = {60: 10, 61: 10, 65: 6, 70: 1, 71: 0, 100: 0, 181: 0, 185: 4, 191: 10, 192: 10}
    assert {at: told("rv_10s", at)[1] for at in expected} == expected
    for name in ("rv_10s", "zero_returns_10s", "bv_10s"):
        assert [math.isnan(told(name, at)[0]) for at in (60, 65, 120, 185, 191)] == [
            *(False, True, True, True, False)
        ], name
    assert not math.isnan(told("ewma_vol_10s", 65)[0])
    assert math.isnan(told("ewma_vol_10s", 71)[0])
    before, behind = told("ewma_vol_10s", 60)[0], told("ewma_vol_10s", 240)[0]
    assert math.isclose(before, behind, rel_tol=0.02)
    # Of 240 changes, those of two minutes are none.
    assert told("acf_mid_1", 239)[1] == 60 - 1 + 59 - 1 + 1
    assert math.isnan(told("noise_var", 180)[0])
    assert told("noise_var", 240)[1] == 59


def test_a_crossed_moment_loses_no_change_of_the_mid():
    # Crossed at each whole second for a tenth of one: the price of a moment before stands.
    told = [(at + 0.5, 10_000 + at % 3, 10_001 + at % 3) for at in range(31)]
    crossed = [(at - 0.05, 10_001, 10_000) for at in range(1, 31)]
    plain, disturbed = (
        measured([quote(ts, bid * CENT, ask * CENT) for ts, bid, ask in sorted(one)], "volatility")
        for one in (
            told,
            told
            + crossed
            + [(at + 0.05, bid, ask) for at, (_, bid, ask) in enumerate(told[:-1], 1)],
        )
    )
    name = f"rv_{WINDOW_S}s"
    np.testing.assert_array_equal(values(plain, name)[-10:], values(disturbed, name)[-10:])
