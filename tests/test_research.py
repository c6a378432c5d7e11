"""Estimators over a range of history: what they refuse, and what follows from their definition."""

import math

import numpy as np
import pytest

from tapeworks import research
from tapeworks.errors import QueryError


def test_columns_that_cannot_be_are_named():
    # Of another length, of no numbers, of two dimensions, running back, repeating.
    for call, told in (
        (lambda: research.regression([1.0], [1.0, 2.0]), r"one length, got {'x': 1, 'y': 2}"),
        (lambda: research.regression(["a"], [1.0]), "x: expected numbers"),
        (lambda: research.realized(np.zeros((2, 2))), "returns: expected one column"),
        (lambda: research.log_returns([1.0, 0.0]), "expected prices above 0"),
        (lambda: research.hawkes([1.0, 1.0], 5.0), "rise: merge what has one time; row 1"),
        (lambda: research.hawkes([1.0, 2.0], 5.0), "expected 10 events or more"),
        (lambda: research.trade_bars("day", 1, [], [], []), "expected a kind of bars of time,"),
        (lambda: research.trade_bars("tick", 0, [], [], []), "expected a threshold above 0"),
        (lambda: research.trade_bars("tick", 1, [1], [1.5], [1]), "price: expected whole numbers"),
        (lambda: research.clock_line([2, 1], [3, 3]), "ts_event: expected times that not run back"),
        (lambda: research.nearest_rank([], 0.5), "expected a value or more"),
        (lambda: research.best_exchange([], [], [], []), "expected an exchange or more"),
        (lambda: research.price_discovery([np.nan] * 99, [1.0] * 99, 0), "a price in each row"),
        (lambda: research.realized_kernel([0.1], 1, weights="no"), "weights of parzen, rectang"),
        (lambda: research.integrated_ofi([1.0], [1.0]), "a row of mlofi for each depth"),
        (lambda: state_of([2, 1]), "quotes.ts: expected times that not run back; row 1"),
        (lambda: state_of([]), "quotes: expected at least one"),
        (lambda: research.states.scaled([1.0]), "vectors: expected rows of vectors, got 1"),
        (lambda: research.states.nearest(np.zeros((2, 2)), 2), "row: expected 0 to 1, got 2"),
    ):
        with pytest.raises(QueryError, match=told):
            call()


def state_of(ts, bids=None):
    """A state vector a second behind quotes of 2 ticks, each of one unit a side."""
    bid = np.array(bids if bids is not None else [100] * len(ts), int)
    one = np.ones(len(ts), int)
    quotes = research.states.Quotes(ts, bid, one, bid + 2, one)
    return research.states.vectors_of([10**9], quotes, research.states.Trades([], [], []), 1.0)


def test_state_without_trades_or_orders_is_one_of_zeros():
    # Worked out by hand: two quotes, of which the second is a tick higher.
    found = dict(zip(research.states.COMPONENTS, state_of([0, 5], [100, 101])[0], strict=True))
    assert found["log_spread_ticks"] == math.log(2) == found["log_depth"]
    assert found["queue_imbalance"] == 0 == found["tfi_10s"] == found["log_trades_10s"]
    # Bid up: its size; ask up: the size that was there.
    assert found["ofi_1s"] == 2 / 1
    assert found["cancel_share_10s"] == 0.5
    assert found["log_messages_10s"] == math.log(3)
    assert found["ret_1s_spreads"] == 0.5
    assert found["log_rv_10s"] == math.log(0.5 + 1)
    assert np.isnan(state_of([2 * 10**9])).all()
    assert np.isnan(
        research.states.vectors_of(
            [5],
            research.states.Quotes([1], [3], [1], [2], [1]),
            research.states.Trades([], [], []),
            1.0,
        )
    ).all()


def test_times_may_be_of_any_unit_of_numpy():
    ts = np.array(["2026-03-01T00:00:00", "2026-03-01T00:00:02"], "datetime64[s]")
    assert research.previous_tick(ts, [1.0, 2.0], 10**9).tolist() == [1.0, 1.0, 2.0]


def test_bars_of_one_kind_end_where_their_measure_does():
    # Imbalance by the tick rule where no side is given; runs by the larger side.
    ts, price = range(6), [10, 11, 12, 11, 10, 9]
    bars = research.trade_bars("tick_imbalance", 2, ts, price, [1] * 6)
    assert bars["last_ts"].to_pylist() == [2, 4]
    bars = research.trade_bars("volume_runs", 5, ts, price, [1, 2, 3, 4, 5, 6], [1, -1] * 3)
    assert bars["last_ts"].to_pylist() == [3, 4, 5]
    bars = research.trade_bars("time", 3, ts, price, [1] * 6, flush=True)
    assert bars["trades"].to_pylist() == [3, 3]
    assert bars["notional"].to_pylist() == [33, 30]


def test_covariance_without_a_grid_is_that_of_the_grid_where_there_is_one():
    # Two walks at the same times: the sum of products. At times of their own: unbiased by them.
    chance = np.random.default_rng(3)
    ts = np.arange(5_000) * 10**9
    common = np.cumsum(chance.normal(size=5_000))
    first, second = common + 0, common + np.cumsum(0.5 * chance.normal(size=5_000))
    same = research.hayashi_yoshida(ts, first, ts, second)
    assert math.isclose(same, float(np.diff(first) @ np.diff(second)), rel_tol=1e-9)
    some, other = chance.random(5_000) < 0.4, chance.random(5_000) < 0.4
    some[[0, -1]] = other[[0, -1]] = True
    apart = research.hayashi_yoshida(ts[some], first[some], ts[other], second[other])
    assert abs(apart / same - 1) < 0.1


def test_price_that_leads_is_found_with_its_lag():
    # The second follows the first after three seconds, seen at times of its own.
    chance = np.random.default_rng(5)
    ts = np.arange(4_000) * 10**9
    log = np.cumsum(chance.normal(size=4_000))
    some = np.sort(chance.choice(4_000, 2_500, replace=False))
    found = research.lead_lag(ts, log, ts[some] + 3 * 10**9, log[some], np.arange(-10, 11) * 10**9)
    assert found.best == 3 * 10**9
    assert found.ratio > 5


def test_random_walk_has_a_variance_ratio_of_one_and_a_bounce_one_below():
    chance = np.random.default_rng(9)
    walk = np.cumsum(chance.normal(size=20_000))
    assert abs(research.variance_ratio(walk, 5) - 1) < 0.05
    assert research.variance_ratio(walk + 5 * chance.normal(size=20_000), 5) < 0.4


def test_exchange_of_the_least_delay_tells_the_offset():
    # The other clock is 500 ahead; the second exchange is the fastest, and as slow both ways.
    found = research.best_exchange(
        [0, 1_000, 2_000], [900, 1_510, 2_700], [910, 1_520, 2_710], [500, 1_030, 2_900]
    )
    assert (found.offset, found.delay, found.row) == (500.0, 20, 1)


def test_residuals_of_a_process_that_is_right_are_exponential():
    # Poisson events: with no excitation, what is expected between two events has mean 1.
    chance = np.random.default_rng(2)
    times = np.cumsum(chance.exponential(0.5, 2_000))
    fitted = research.hawkes(times, float(times[-1]))
    residuals = fitted.residuals(times)
    assert fitted.alpha < 0.1
    assert abs(residuals.mean() - 1) < 0.05
    assert abs(residuals.std() - 1) < 0.1


def test_state_is_exact_in_every_unit_of_the_price():
    # Ticks as 1, and as the lake has them, in 1e-9: squares of those are beyond 64 bits. Moves of
    # no common step, so far apart that no step makes them small, are exact as well.
    ts = np.arange(100) * 10**7
    moves = np.random.default_rng(10).integers(-20, 20, 100)

    def variation(unit, spread=2, extra=0):
        bid = (60_000 + moves) * unit + extra * np.arange(100)
        one = np.ones(100, int)
        quotes = research.states.Quotes(ts, bid, one, bid + spread * unit, one)
        trades = research.states.Trades([], [], [])
        found = research.states.vectors_of([10**9], quotes, trades, float(unit))[0]
        at = research.states.COMPONENTS.index("log_rv_10s")
        exact = sum(int(step) ** 2 for step in np.diff(2 * bid)) / 4
        return found[at], math.log(unit / 2 + math.sqrt(exact))

    for unit, extra in ((1, 0), (10**7, 0), (10**9, 0), (10**9, 1)):
        assert variation(unit, extra=extra)[0] == pytest.approx(variation(unit, extra=extra)[1])


def test_nearest_states_are_of_the_past_alone():
    vectors = np.random.default_rng(10).normal(size=(200, 3))
    vectors[45] = vectors[40]
    for until in (-32, -1, 0, 1, 40, 150, None):
        rows = research.states.nearest(vectors, 40, 300, until=until).rows
        assert sorted(rows) == list(range(40 if until is None else min(max(until, 0), 40)))
