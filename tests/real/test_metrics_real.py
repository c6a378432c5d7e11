"""Metrics of recorded days equal the values that an independent reference calculated.

The AMZN day of LOBSTER, 57,515 events of the best level: each row of the message file becomes its
trade, if it is one, and the quote behind it. Integers are compared by the digest of all rows.
"""

import csv
import gzip

import numpy as np
import pytest
from tests.real.truth import (
    CLOSE,
    DATA,
    METRIC,
    SIZE,
    Day,
    close,
    digest,
    expected,
    expected_rows,
    number_of,
    rows_of,
    units,
)

from tapeworks._core import Processor, Records

KEEP_MS = 86_400_000

pytestmark = pytest.mark.usefixtures("real_data")


@pytest.fixture(scope="module")
def day() -> Day:
    return Day(DATA)


def measure(day: Day, sets: str, **settings: object) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Returns the values of each metric, in the order of its samples, and the counts alike."""
    defaults = {"windows_ms": [KEEP_MS], "interval_ms": 0, "partial": 1}
    processor = Processor("metrics", {"sets": sets, **defaults, **settings})
    out = processor.process(Records.from_bytes(day.records))
    rows = np.frombuffer(out, METRIC)
    names = list(dict.fromkeys(rows["metric"][:200].tolist()))
    assert len(rows) % len(names) == 0
    table = rows.reshape(-1, len(names))
    assert (table["metric"] == np.array(names)).all()
    values = {name.decode(): table["value"][:, at] for at, name in enumerate(names)}
    counts = {name.decode(): table["count"][:, at] for at, name in enumerate(names)}
    values["ts"] = table["ts_event"][:, 0]
    return values, counts


def test_best_prices_of_every_row(day: Day) -> None:
    # Digests of all rows; sampled rows for what is no integer; means over time at the close.
    values, counts = measure(day, "l1,ofi")
    summary, at = expected("AMZN_l1_summary.json"), day.quote_samples
    mid2 = units(values["mid"][at], 2e4)
    spread = units(values["spread_abs"][at], 1e4)
    flow = units(values[f"ofi_{KEEP_MS // 1000}s"][at], 1)
    digests = {"mid2": digest(mid2), "spread": digest(spread)}
    digests["ofi"] = digest(np.diff(flow, prepend=0))
    assert digests == summary["sha256_i64"]
    assert flow[-1] == summary["ofi_total"] == -64_089
    rows = expected_rows("AMZN_l1_rows.csv")
    picked = at[[int(row["row"]) for row in rows]]
    for name in ("spread_bps", "queue_imbalance", "microprice_imb"):
        scale = 1e4 if name == "microprice_imb" else 1
        close(values[name][picked] * scale, [row[name] for row in rows])
    close(values["spread_ticks"][picked], [row["spread"] / 100 for row in rows])
    mean = summary["time_weighted_means_from_first_event_to_close"]
    assert values["ts"][-1] == CLOSE
    close(values[f"spread_tw_{KEEP_MS // 1000}s"][-1:] * 1e4, [mean["spread"]])
    close(values[f"queue_imbalance_tw_{KEEP_MS // 1000}s"][-1:], [mean["queue_imbalance"]])
    # Over time it is not what it is over events: bursts count by the time that they take.
    assert abs(spread.mean() - summary["event_means"]["spread"]) < 1e-9
    assert counts[f"ofi_{KEEP_MS // 1000}s"][-1] == len(at)


def test_rules_for_who_took(day: Day) -> None:
    # Each sign of each trade by digest. Prices exactly at the mid are at the mid.
    values, _ = measure(day, "sign")
    rules = expected("AMZN_trades_summary.json")["sign_rules"]
    names = {"tick": "tick", "quote": "quote", "lr": "lee_ready", "emo": "emo", "clnv": "clnv"}
    found = {
        rule: digest(units(values[f"sign_{name}"][day.trade_samples], 1))
        for name, rule in names.items()
    }
    assert found == {rule: rules[rule]["sha256_i64"] for rule in names.values()}
    # What no trade made is no sign.
    assert np.isnan(values["sign_lr"][day.quote_samples]).all()


def test_cost_of_trades(day: Day) -> None:
    # The sums of each horizon, whose trades are final at the close, and each sampled trade.
    horizons = [1_000, 5_000, 60_000, 300_000]
    values, counts = measure(day, "cost", horizons_ms=horizons)
    window = f"{KEEP_MS // 1000}s"
    spreads = expected("AMZN_trades_summary.json")["spreads"]
    for horizon in horizons:
        length, wanted = f"{horizon // 1000}s", spreads[f"{horizon // 1000}s"]
        real, impact = (
            f"realized_spread_{length}_mean_{window}",
            f"price_impact_{length}_mean_{window}",
        )
        assert counts[real][-1] == wanted["with_horizon"]
        close(values[real][-1:] * 1e4, [wanted["mean_real"]])
        close(values[impact][-1:] * 1e4, [wanted["mean_impact"]])
    assert counts[f"effective_spread_mean_{window}"][-1] == wanted["trades"]
    close(values[f"effective_spread_mean_{window}"][-1:] * 1e4, [wanted["mean_eff"]])
    close(values[f"effective_spread_sw_{window}"][-1:] * 1e4, [wanted["size_weighted_eff"]])
    close(values[f"effective_bps_dw_{window}"][-1:], [wanted["dollar_weighted_eff_bps"]])
    rows = expected_rows("AMZN_trade_rows.csv")
    of_row = dict(zip(np.flatnonzero(day.is_trade).tolist(), day.trade_samples, strict=True))
    picked = np.array([of_row[int(row["row"])] for row in rows])
    close(values["effective_spread"][picked] * 1e4, [row["eff_spread"] for row in rows])


def test_flow_of_each_minute(day: Day) -> None:
    # A clock of a minute: volume by side of all 390 minutes, null without volume; parent orders.
    values, counts = measure(day, "flow", windows_ms=[60_000], interval_ms=60_000)
    rows = expected_rows("AMZN_tfi_60s.csv")
    ends = np.array([int(row["start_ns"]) + 60 * 10**9 for row in rows])
    at = np.searchsorted(values["ts"], ends[ends < CLOSE])
    assert (values["ts"][at] == ends[ends < CLOSE]).all()
    rows = rows[: len(at)]
    for name, key in (("buy_volume", "buy_volume"), ("sell_volume", "sell_volume")):
        close(values[f"{name}_60s"][at], [row[key] for row in rows])
    close(values["tfi_60s"][at], [row["tfi"] for row in rows])
    assert counts["tfi_60s"][at].tolist() == [row["trades"] for row in rows]
    whole, _ = measure(day, "flow")
    assert whole[f"parent_orders_{KEEP_MS // 1000}s"][-1] == 8_183
    assert whole[f"trades_{KEEP_MS // 1000}s"][-1] == 11_419
    close(whole[f"vwap_{KEEP_MS // 1000}s"][-1:], [222.6347650214923])


def test_impact_and_the_spread_of_prices(day: Day) -> None:
    # Bars of a minute and of five over the day: what statsmodels finds of the same bars.
    trades = expected("AMZN_trades_summary.json")
    for seconds in (60, 300):
        values, counts = measure(day, "impact", bar_ms=seconds * 1000, span_bars=4096)
        wanted = trades["kyle_amihud"][f"{seconds}s"]
        kyle = wanted["kyle_lambda_dollar_per_share"]
        hasbrouck = wanted["hasbrouck_lambda_return_per_sqrt_dollar"]
        last = {name: found[-1:] for name, found in values.items()}
        for name, key in (("kyle_lambda", "slope"), ("kyle_t", "t"), ("kyle_r2", "r2")):
            close(last[name], [kyle[key]])
        close(last["hasbrouck_lambda"], [hasbrouck["slope"]])
        close(last["hasbrouck_r2"], [hasbrouck["r2"]])
        close(last["amihud"], [wanted["amihud_times_1e6"]])
        assert counts["kyle_lambda"][-1] == kyle["n"] == wanted["intervals"]
        assert counts["amihud"][-1] == wanted["amihud_intervals"]
        roll = trades["roll"]["all_trades"]
        close(last["roll_spread"], [roll["roll_spread"]])
        assert abs(last["roll_covariance"][0] / roll["autocovariance"] - 1) < 1e-9
        assert counts["roll_spread"][-1] == roll["n_pairs"]


def test_vpin_of_every_bucket(day: Day) -> None:
    # Buckets of a fiftieth of the day: with true sides, and by bulk with what was known before.
    wanted = expected("AMZN_trades_summary.json")["vpin"]
    settings = {"vpin_volume": wanted["bucket_volume"] * SIZE, "vpin_buckets": 10}
    values, counts = measure(day, "vpin", **settings)

    def at_each_bucket(found: np.ndarray) -> np.ndarray:
        # From the tenth on, where the value changes.
        shown = found[~np.isnan(found)]
        return shown[np.flatnonzero(np.diff(shown, prepend=-1))]

    for name, key in (("vpin_true", "true_sign"), ("vpin_bvc", "bvc_streaming_sigma_50")):
        series = np.array([value for value in wanted[key]["vpin"] if value is not None])
        found = at_each_bucket(values[name])
        # The last bar of the day fills two buckets at once, of which the second is seen.
        known = series if name == "vpin_true" else np.append(series[:-2], series[-1])
        np.testing.assert_allclose(found, known, rtol=1e-9)
        assert counts[name].max() == 10


def test_latency_and_its_floor() -> None:
    # 20,000 messages of which the clocks are apart, and drift: raw and least by digest.
    with gzip.open(DATA / "synthetic" / "latency.csv.gz", "rt") as file:
        table = list(csv.DictReader(file))
    names = list(table[0])
    sent, received = (np.array([int(row[name]) for row in table]) for name in names[:2])
    quotes = rows_of(
        "quote",
        len(table),
        ts_event=sent,
        ts_recv=received,
        bid_price=1,
        ask_price=2,
        bid_size=1,
        ask_size=1,
    )
    settings = {"sets": "latency", "windows_ms": [10_000], "interval_ms": 0}
    processor = Processor("metrics", settings)
    rows = np.frombuffer(processor.process(Records.from_bytes(quotes.tobytes())), METRIC)
    found = {
        name: rows["value"][rows["metric"] == name.encode()]
        for name in ("latency_raw", "latency_floor_10s", "latency_excess_10s", "latency_negative")
    }
    wanted = expected("latency.json")
    raw, floor = (found[name].astype(np.int64) for name in ("latency_raw", "latency_floor_10s"))
    assert {"raw": digest(raw), "window_min": digest(floor)} == wanted["sha256_i64"]
    assert found["latency_negative"][-1] == wanted["negative_raw"]
    sampled = expected_rows("latency_rows.csv")
    picked = [int(row["row"]) for row in sampled]
    close(found["latency_excess_10s"][picked], [row["excess_ns"] for row in sampled])
    ranked = np.sort(found["latency_excess_10s"])
    for name, value in wanted["excess_over_window_min_quantiles"].items():
        rank = -int(-float(name[1:]) * 10 * len(ranked) // 1000)
        assert ranked[rank - 1] == value


@pytest.mark.parametrize("series", ["MARKET", "STOCK"])
def test_volatility_of_recorded_minutes(series: str) -> None:
    # 22 days of minutes; prices every five minutes, the whole of each day one window.
    with gzip.open(DATA / "highfrequency" / "sampleOneMinuteData.csv.gz", "rt") as file:
        table = list(csv.DictReader(file))
    wanted = expected("volatility.json")[f"sampleOneMinuteData_{series}"]
    days: dict[str, list[tuple[int, int]]] = {}
    for row in table:
        ts = number_of(row["DT"])
        price = round(float(row[series]) * 10**9)
        days.setdefault(str(np.datetime64(ts, "ns"))[:10], []).append((ts, price))
    assert days.keys() == wanted.keys()
    for name, one in wanted.items():
        check_volatility(days[name], one)


def check_volatility(prices: list[tuple[int, int]], wanted: dict) -> None:
    ts, mid = (np.array(column) for column in zip(*prices, strict=True))
    quotes = rows_of(
        "quote",
        len(ts),
        ts_event=ts,
        ts_recv=ts,
        bid_price=mid,
        ask_price=mid,
        bid_size=1,
        ask_size=1,
    )
    step = wanted["grid_seconds"] * 1000
    settings = {
        "sets": "volatility",
        "windows_ms": [86_400_000],
        "interval_ms": step,
        "step_ms": step,
        "partial": 1,
    }
    processor = Processor("metrics", settings)
    after = quotes[-1:].copy()
    after["ts_event"] += 1
    data = quotes.tobytes() + after.tobytes()
    rows = np.frombuffer(processor.process(Records.from_bytes(data)), METRIC)
    last = rows[rows["ts_event"] == ts[-1]]
    found = {row["metric"].decode().removesuffix("_86400s"): row["value"] for row in last}
    assert last["count"][0] == wanted["grid_returns"]
    down, up = wanted["semivariance_down_up"]
    tests = wanted["bns_grid"]
    pairs = {
        "rv": wanted["rv_grid"],
        "rsv_down": down,
        "rsv_up": up,
        "bv": wanted["bipower"],
        "min_rv": wanted["min_rv"],
        "med_rv": wanted["med_rv"],
        "rq": wanted["quarticity"],
        "tpq": wanted["tripower_quarticity"],
        "qpq": wanted["quadpower_quarticity"],
        "bns_z": tests["z_linear"],
        "bns_z_ratio": tests["z_ratio_max"],
        "relative_jump": tests["relative_jump"],
    }
    for name, value in pairs.items():
        assert abs(found[name] - value) <= 1e-9 * abs(value) + 1e-18, (name, found[name], value)
