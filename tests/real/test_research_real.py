"""What is estimated over a range of history equals what an independent reference calculated."""

import csv
import math
from itertools import pairwise

import numpy as np
import pytest
from tests.real.truth import (
    CLOSE,
    DATA,
    OPEN,
    PRICE,
    SIZE,
    Day,
    digest,
    expected,
    number_of,
    table_of,
)

from tapeworks import research

pytestmark = [pytest.mark.usefixtures("real_data"), pytest.mark.slow]


@pytest.fixture(scope="module")
def day() -> Day:
    return Day(DATA)


def same(found: object, wanted: object, absolute: float = 1e-15) -> None:
    """Fails unless numbers are equal to 1e-9."""
    np.testing.assert_allclose(
        np.array(found, float), np.array(wanted, float), rtol=1e-9, atol=absolute
    )


def sampled(day: Day, step_s: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns twice the mid at each end of a bucket, and the flow within it."""
    edges = np.arange(OPEN, CLOSE + 1, step_s * 10**9)
    last = np.searchsorted(day.ts, edges, "right")
    mid2 = (day.ask + day.bid).astype(float)
    at = np.where(last > 0, mid2[np.maximum(last - 1, 0)], np.nan)
    return at, last


@pytest.mark.parametrize("seconds", [1, 10, 60])
def test_ofi_explains_the_mid(day: Day, seconds: int) -> None:
    # Buckets (t, t + w] of the day, and of each half hour; the first has no mid at its start.
    flow = np.zeros(len(day.ts), np.int64)
    bid, ask = (day.bid, day.bid_size), (day.ask, day.ask_size)
    flow[1:] = (
        np.where(bid[0][1:] >= bid[0][:-1], bid[1][1:], 0)
        - np.where(bid[0][1:] <= bid[0][:-1], bid[1][:-1], 0)
        - np.where(ask[0][1:] <= ask[0][:-1], ask[1][1:], 0)
        + np.where(ask[0][1:] >= ask[0][:-1], ask[1][:-1], 0)
    )
    mid2, last = sampled(day, seconds)
    total = np.concatenate([[0], np.cumsum(flow)])
    ofi, change = np.diff(total[last]).astype(float), np.diff(mid2) / 200
    wanted = expected("AMZN_l1_summary.json")["ofi_regression"][f"{seconds}s"]
    whole = research.regression(ofi, change)
    same([getattr(whole, name) for name in wanted["whole_day"]], [*wanted["whole_day"].values()])
    size = 1800 // seconds
    halves = [
        research.regression(ofi[at : at + size], change[at : at + size])
        for at in range(0, len(ofi), size)
    ]
    for half, one in zip(halves, wanted["half_hours"], strict=True):
        same([getattr(half, name) for name in one], [*one.values()])
    same(np.mean([half.r2 for half in halves]), wanted["mean_half_hour_r2"])
    known = np.isfinite(change)
    assert ofi[known].sum() == wanted["sum_ofi"]
    assert np.abs(ofi[known]).sum() == wanted["sum_abs_ofi"]


def test_microprice_of_stoikov(day: Day) -> None:
    # All steps of the day; the table is the same for a mirrored market, with the other sign.
    wanted = expected("AMZN_l1_summary.json")["stoikov_microprice"]
    found = research.microprice(day.bid, day.bid_size, day.ask, day.ask_size, 100)
    same(found.adjustment.reshape(-1), wanted["adjustment"], 1e-12)
    same(found.first.reshape(-1), wanted["g1"], 1e-12)
    same(found.terms, wanted["max_abs_term_per_step"])
    assert found.counts.reshape(-1).tolist() == wanted["state_counts_symmetrised"]
    same(found.adjustment, -found.adjustment[:, ::-1], 1e-12)


def test_integrated_flow_of_levels() -> None:
    # The flow of ten levels of AAPL, from the rows of its book; 39 buckets of 25 events.
    wanted = expected("AAPL_L10_depth_summary.json")["integrated_ofi"]
    found = research.integrated_ofi(wanted["bucket_mlofi"], depths_of_apple())
    same(found.scaled, wanted["bucket_scaled"])
    same(found.weights, wanted["weights_l1"])
    same(found.explained, wanted["explained_variance_share"])
    same(found.values, wanted["integrated_ofi"])


def depths_of_apple() -> np.ndarray:
    """Returns the mean size of a side of a level in each bucket of 25 events."""
    import gzip

    name = "lobster/AAPL_2012-06-21_orderbook_10_head.csv.gz"
    with gzip.open(DATA / name, "rt") as file:
        books = np.array([[int(text) for text in line.split(",")] for line in file])
    sizes = books[:, 1::2].mean(axis=1)
    return sizes[1:976].reshape(39, 25).mean(axis=1)


def test_bars_of_trades_by_digest(day: Day) -> None:
    # Every field of every bar, in units of the file: imbalances by the tick rule, true buys.
    at = day.is_trade
    columns = (day.ts[at], day.price[at], day.size[at], -day.direction[at])
    for name, wanted in expected("AMZN_trades_summary.json")["bars"].items():
        kind, _, number = name.replace("_const", "").rpartition("_")
        threshold = int(number.removesuffix("s"))
        scale = {"time": 10**9, "dollar": 10**4}.get(kind, 1)
        bars = research.trade_bars(kind, threshold * scale, *columns, tick_rule=True)
        if kind == "time":
            # The session's end closes the last one.
            bars = research.trade_bars(kind, threshold * scale, *columns, flush=True)
        assert bars.num_rows == wanted["bars"], name
        table = np.column_stack([np.array(bars[one].to_pylist()) for one in wanted["columns"]])
        assert dict(zip(wanted["columns"], table[0].tolist(), strict=True)) == wanted["first"]
        assert digest(table.reshape(-1)) == wanted["sha256_i64_row_major"], name


def test_bars_that_another_library_asserts() -> None:
    with (DATA / "mlfinpy" / "tick_data.csv").open() as file:
        rows = list(csv.DictReader(file))
    price = [round(float(row["Price"]) * 100) for row in rows]
    size = [int(row["Volume"]) for row in rows]
    for name, wanted in expected("mlfinpy_tick_data_bars.json")["bars"].items():
        kind, _, number = name.rpartition("_")
        scale = 100 if kind == "dollar" else 1
        bars = research.trade_bars(kind, int(number) * scale, range(len(rows)), price, size)
        assert bars.num_rows == len(wanted), name
        for bar, one in zip(bars.to_pylist(), wanted, strict=True):
            assert [bar["trades"], bar["volume"]] == [one["ticks"], one["volume"]]
            prices = [bar[field] / 100 for field in ("open", "high", "low", "close")]
            assert prices == [one[field] for field in ("open", "high", "low", "close")]


@pytest.mark.parametrize("name", ["ohlc", "ohlc-miss"])
def test_spreads_and_ranges_of_bars(name: str) -> None:
    # 10,000 bars, with and without prices that are missing.
    table = table_of(f"bidask/{name}.csv.gz")
    columns = [
        np.array([float(x) if x else math.nan for x in table[c]])
        for c in ("Open", "High", "Low", "Close")
    ]
    wanted = expected("ohlc_spreads.json")[name]
    assert len(columns[0]) == wanted["bars"]

    def of(rows: slice) -> dict[str, float | None]:
        return research.bar_estimates(*(column[rows] for column in columns))

    found = of(slice(None))
    keys = {
        "spread_ar": "abdi_ranaldo_signed",
        "spread_cs_signed": "corwin_schultz_signed_mean",
        "spread_cs_zero": "corwin_schultz_negatives_to_zero_mean",
        "spread_edge": "edge_signed",
        "spread_roll": "roll_signed",
    }
    same([found[ours] for ours in keys], [wanted[key] for key in keys.values()])
    same(of(slice(10))["spread_edge"], wanted["edge_first_10_signed"])
    same(of(slice(-500, None))["spread_edge"], wanted["edge_last_500_signed"])
    if name == "ohlc":
        ranges = expected("volatility.json")["range_estimators_ohlc"]
        for key in ("parkinson", "garman_klass", "rogers_satchell"):
            same(found[key], ranges[key])


def series_of(name: str) -> dict[str, list[tuple[int, float]]]:
    """Returns times in ns and prices of each day."""
    if name == "sampleTData_EST":
        table = table_of("highfrequency/sampleTData.csv.gz")
        # Local time is that of New York.
        times = [number_of(text) - 5 * 3600 * 10**9 for text in table["DT"]]
        prices = table["PRICE"]
    else:
        table = table_of("highfrequency/sampleOneMinuteData.csv.gz")
        times = [number_of(text) for text in table["DT"]]
        prices = table[name.rpartition("_")[2]]
    days: dict[str, list[tuple[int, float]]] = {}
    for ts, price in zip(times, prices, strict=True):
        days.setdefault(str(np.datetime64(ts, "ns"))[:10], []).append((ts, float(price)))
    return days


@pytest.mark.parametrize("name", ["MARKET", "STOCK", "sampleTData_EST"])
def test_variance_and_what_noise_does_to_it(name: str) -> None:
    # Each day at each price, and every five minutes.
    name = name if name.startswith("sample") else f"sampleOneMinuteData_{name}"
    days = series_of(name)
    wanted = expected("volatility.json")[name]
    assert days.keys() == wanted.keys()
    for date, one in wanted.items():
        ts, price = (np.array(column) for column in zip(*days[date], strict=True))
        check_day(ts, price, one)


def check_day(ts: np.ndarray, price: np.ndarray, wanted: dict) -> None:
    tick = research.log_returns(price)
    step = wanted["grid_seconds"] * 10**9
    grid = research.log_returns(research.previous_tick(ts, price, step))
    assert (len(price), len(grid)) == (wanted["observations"], wanted["grid_returns"])
    every, fine = research.realized(grid), research.realized(tick)
    pairs = {
        "rv": "rv_grid",
        "bv": "bipower",
        "bv_ss": "bipower_small_sample",
        "min_rv": "min_rv",
        "med_rv": "med_rv",
        "rq": "quarticity",
        "tpq": "tripower_quarticity",
        "qpq": "quadpower_quarticity",
    }
    same([every[ours] for ours in pairs], [wanted[key] for key in pairs.values()], 1e-30)
    same([every["rsv_down"], every["rsv_up"]], wanted["semivariance_down_up"], 1e-30)
    same([fine["rv"], fine["noise_var"]], [wanted["rv_tick"], wanted["noise_variance"]], 1e-30)
    for found, tests in ((every, wanted["bns_grid"]), (fine, wanted["bns_tick"])):
        same(found["bns_z"], tests["z_linear"])
        same(found["bns_z_ratio"], tests["z_ratio_max"])
        same(found["relative_jump"], tests["relative_jump"])
        chance = 0.5 * math.erfc(found["bns_z"] / math.sqrt(2))
        same(chance, tests["p_one_sided_linear"])
    same(research.two_scale(price, wanted["two_scale_K"]), wanted["two_scale"])
    for returns, kernel in ((grid, "grid"), (tick, "tick")):
        one = wanted[f"realized_kernel_parzen_{kernel}"]
        same(research.realized_kernel(returns, one["H"]), one["value"])
    flat = research.realized_kernel(tick, 5, flat_top=True)
    same(flat, wanted["flat_top_parzen_H5_nodof_tick"])
    one = research.realized_kernel(grid, 1, flat_top=True, weights="rectangular", scaled=True)
    same(one, wanted["flat_top_rectangular_H1_dof_grid"])


def test_hawkes_intensity_and_likelihood() -> None:
    with (DATA / "expected" / "AMZN_hawkes_times.csv").open() as file:
        times = [float(row["seconds_after_10h"]) for row in csv.DictReader(file)]
    wanted = expected("AMZN_hawkes.json")
    end, probes = wanted["T_seconds"], wanted["probe_times"]
    assert len(times) == wanted["events_in_hour"]
    for one in wanted["fits"]:
        process = research.Hawkes(one["mu"], one["alpha"], one["beta"])
        same(process.intensity(times, probes), one["intensity_just_before_probe"])
        same(process.log_likelihood(times, end), one["log_likelihood"])
        same(process.compensator(times, end), one["compensator"])
    same(research.ewma_rate(times, 30.0, probes), wanted["ewma_rate_tau_30s"])
    # What is fitted is better than all of these.
    fitted = research.hawkes(times, end)
    likely = fitted.log_likelihood(times, end)
    assert likely > max(one["log_likelihood"] for one in wanted["fits"])
    assert 0 < fitted.alpha < 1


def test_times_of_the_hour_are_parent_orders(day: Day) -> None:
    # Prints of one time and one side are one order; one of several sides has one time all the same.
    wanted = expected("AMZN_hawkes.json")
    at = day.is_trade
    ts, sign = day.ts[at], -day.direction[at]
    starts = np.concatenate([[True], (np.diff(ts) != 0) | (np.diff(sign) != 0)])
    assert starts.sum() == wanted["parent_orders_day"]
    hour = ts[starts]
    hour = np.unique(hour[(hour > 36_000 * 10**9) & (hour <= 39_600 * 10**9)])
    assert len(hour) == wanted["events_in_hour"]


def test_autocorrelation_of_signs_and_of_the_mid(day: Day) -> None:
    wanted = expected("AMZN_flow_summary.json")
    at = day.is_trade
    ts, sign = day.ts[at], -day.direction[at]
    starts = np.concatenate([[True], (np.diff(ts) != 0) | (np.diff(sign) != 0)])
    same(research.autocorrelation(sign, 20), wanted["acf_trade_sign_prints"])
    same(research.autocorrelation(sign[starts], 20), wanted["acf_trade_sign_parent_orders"])
    mid2, _ = sampled(day, 1)
    changes = np.diff(mid2[~np.isnan(mid2)])
    same(research.autocorrelation(changes, 20), wanted["acf_1s_mid_changes"])
    same(research.autocorrelation(np.abs(changes), 20), wanted["acf_1s_abs_mid_changes"])


def test_price_discovery_of_two_venues() -> None:
    table = table_of("synthetic/two_venues.csv.gz")
    wanted = expected("price_discovery.json")
    p1, p2 = (np.array(table[name], float) for name in ("p1", "p2"))
    found = research.price_discovery(p1, p2, wanted["lags_of_differences"])
    assert found.n == wanted["n"]
    for name, key in {
        "alpha": "alpha",
        "const": "const",
        "omega": "omega",
        "gg_share": "gonzalo_granger",
        "is_lower": "is_lower",
        "is_upper": "is_upper",
        "is_mid": "is_mid",
    }.items():
        same(getattr(found, name), wanted[key])
    same(found.gammas.T, np.array(wanted["gammas"]).T if found.gammas.shape == (4, 2) else 0)
    same(found.is_mid.sum() + found.gg_share.sum() + found.ils.sum(), 3)


def test_line_under_delays() -> None:
    # Known drift and offset; quantiles above the line are those of the true delays.
    table = table_of("synthetic/latency.csv.gz")
    sent, received = (np.array(table[name], np.int64) for name in ("ts_event", "ts_recv"))
    wanted = expected("latency.json")
    line, hull = research.clock_line(sent, received), wanted["hull"]
    same(line.slope, hull["slope"])
    assert line.corners == hull["vertices"]
    # It is told at time 0.
    same(line.intercept - line.slope * line.start, hull["intercept_ns"])
    assert abs(line.slope * 1e6 - wanted["truth"]["drift_ppm"]) < 1e-3
    shares = {name: float(name[1:]) / 100 for name in wanted["hull_corrected_quantiles"]}
    above = np.rint(line.excess(sent, received)).astype(np.int64)
    for values, key in (
        (above, "hull_corrected_quantiles"),
        (received - sent, "raw_quantiles_nearest_rank"),
    ):
        found = research.nearest_rank(values, *shares.values())
        assert dict(zip(shares, found, strict=True)) == wanted[key]


def test_vpin_by_bulk_over_the_whole_sample(day: Day) -> None:
    # Bars of a minute, as the paper has it: with the standard deviation of all of them.
    trades = expected("AMZN_trades_summary.json")["vpin"]
    wanted = trades["bvc_full_sample_sigma"]
    at = day.is_trade
    bars = research.trade_bars(
        "time", 60 * 10**9, day.ts[at], day.price[at], day.size[at], flush=True
    )
    close = np.array(bars["close"].to_pylist(), float)
    volume = np.array([int(value) for value in bars["volume"].to_pylist()], float)
    change = np.concatenate([[np.nan], np.diff(close)])
    same(np.nanstd(change, ddof=1), trades["bvc_sigma_dp"])
    found = research.bulk_vpin(volume, change, trades["bucket_volume"], trades["n"])
    assert len(found) == wanted["buckets"]
    same(found, [math.nan if value is None else value for value in wanted["vpin"]])


def test_counts_of_the_day(day: Day) -> None:
    # What trades, sides and quotes add up to.
    trades, quotes = expected("AMZN_trades_summary.json"), expected("AMZN_l1_summary.json")
    at = day.is_trade
    assert int(day.size[at].sum()) == trades["volume"]
    assert int((day.price[at] * day.size[at]).sum()) == trades["notional_units_1e-4_dollar"]
    gaps = np.diff(day.ts)
    stale = expected("AMZN_flow_summary.json")["staleness"]
    assert research.nearest_rank(gaps, 0.5) == [stale["gap_p50_ns"]]
    assert int((gaps > 5 * 10**9).sum()) == stale["gaps_over_5s"]
    assert int(gaps.max()) == stale["longest_gap_ns"]
    moves = quotes["event_counts"]
    for name, price in (("bid", day.bid), ("ask", day.ask)):
        assert int((np.diff(price) > 0).sum()) == moves[f"{name}_up"]
        assert int((np.diff(price) < 0).sum()) == moves[f"{name}_down"]
    assert sum(a != b for a, b in pairwise(day.ask + day.bid)) == moves["mid_changes"]
    assert PRICE * SIZE == 10**13
