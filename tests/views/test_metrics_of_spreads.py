"""What is made of changes of the best prices, against a plain reference over random quotes."""

import math
import random

import numpy as np
import pytest
from tests.views.test_metric_mistakes import CENT, FIRST, METRIC, SECOND, quote, row, values

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
    """Returns the times that the spread took to come back, and when each ended or was given up."""
    ended, given_up, begun = [], [], None
    before = None
    for ts, bid, ask in told:
        spread = ask - bid
        if begun is not None and ts - begun[0] > WINDOW_S and not begun[2]:
            given_up.append(begun[0] + WINDOW_S)
            begun = (*begun[:2], True)
        if spread < 0:
            begun = None
        elif begun is not None:
            if spread <= begun[1]:
                if not begun[2]:
                    ended.append((ts, ts - begun[0]))
                begun = None
        elif before is not None and 0 <= before < spread:
            begun = ts, before, False
        before = spread
    if begun is not None and until - begun[0] > WINDOW_S and not begun[2]:
        given_up.append(begun[0] + WINDOW_S)
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
    moves, last = [], None
    for ts, bid, ask in told:
        if bid <= ask:
            if last is not None and last != bid + ask:
                moves.append((ts, math.log((bid + ask) / last) ** 2))
            last = bid + ask
    found = values(rows, f"ewma_vol_{WINDOW_S}s")
    times = rows["ts_event"][rows["metric"] == f"ewma_vol_{WINDOW_S}s".encode()]
    assert len(found) > 100
    for ts, value in zip(times, found, strict=True):
        now = (int(ts) - FIRST) / SECOND
        want = sum(square * math.exp(-(now - at) / WINDOW_S) for at, square in moves if at <= now)
        assert math.isclose(value, want, rel_tol=1e-9) or (want == 0 and math.isnan(value))
