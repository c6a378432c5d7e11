"""Metrics that follow the stream equal the reference, as those over a range of history do."""

import csv
import math

import numpy as np
import pytest
from tests.real.truth import (
    CLOSE,
    DATA,
    METRIC,
    OPEN,
    PRICE,
    SIZE,
    Day,
    close,
    expected,
    expected_rows,
    number_of,
    rows_of,
    table_of,
)

from tapeworks import _core, research
from tapeworks._core import Processor, Records

pytestmark = [pytest.mark.usefixtures("real_data"), pytest.mark.slow]

MINUTE = 60 * 10**9
# An order by the rows of LOBSTER: comes, is cancelled in part, is cancelled, is filled, hidden.
ACTIONS = {1: "add", 2: "cancel", 3: "delete", 4: "execute", 5: "execute_hidden"}


@pytest.fixture(scope="module")
def day() -> Day:
    return Day(DATA)


def run(records: bytes, sets: str, **settings: object) -> np.ndarray:
    processor = Processor("metrics", {"sets": sets, "partial": 1, **settings})
    return np.frombuffer(processor.process(Records.from_bytes(records)), METRIC)


def series(rows: np.ndarray, name: str) -> np.ndarray:
    return rows[rows["metric"] == name.encode()]


def quotes_at(ts: list[int], mid: np.ndarray) -> bytes:
    return rows_of(
        "quote",
        len(ts),
        ts_event=ts,
        ts_recv=ts,
        bid_price=mid,
        ask_price=mid,
        bid_size=1,
        ask_size=1,
    ).tobytes()


def test_ofi_regression_of_the_day_and_of_its_half_hours(day: Day) -> None:
    # A sample each half hour: the last 180 buckets of 10 s are then its own.
    after = np.frombuffer(day.records, np.uint8)[-64:].copy()
    last = np.frombuffer(after, np.dtype(_core.dtype_descr("quote"))).copy()
    last["ts_event"] += 1
    records = day.records + last.tobytes()
    wanted = expected("AMZN_l1_summary.json")["ofi_regression"]["10s"]
    names = {
        "slope": "ofi_beta",
        "intercept": "ofi_beta_intercept",
        "t": "ofi_beta_t",
        "r2": "ofi_beta_r2",
    }
    half = 1_800_000
    rows = run(records, "ofi_beta", windows_ms=[half], interval_ms=half)
    whole = run(records, "ofi_beta", windows_ms=[half], interval_ms=half, ofi_span_bars=4096)
    for key, name in names.items():
        found = series(rows, name)[-13:]
        assert found["ts_event"].tolist() == [OPEN + (k + 1) * half * 10**6 for k in range(13)]
        close(found["value"], [one[key] for one in wanted["half_hours"]])
        assert found["count"].tolist() == [one["n"] for one in wanted["half_hours"]]
        close(series(whole, name)["value"][-1:], [wanted["whole_day"][key]])


def test_microprice_of_the_day_is_used_on_the_next(day: Day) -> None:
    # A quote of each state on the next day has its adjustment; on the day itself there is none.
    quote = np.dtype(_core.dtype_descr("quote"))
    wanted = expected("AMZN_l1_summary.json")["stoikov_microprice"]["adjustment"]
    tomorrow = 86_400 * 10**9 + OPEN
    states = [(spread, bucket) for spread in range(1, 5) for bucket in range(5)]
    probes = rows_of(
        "quote",
        20,
        ts_event=[tomorrow + k for k in range(20)],
        ts_recv=tomorrow,
        bid_price=10**9,
        ask_price=[10**9 + spread * 100 * PRICE for spread, _ in states],
        bid_size=[1 + 2 * bucket for _, bucket in states],
        ask_size=[9 - 2 * bucket for _, bucket in states],
    )
    records = day.records[: -quote.itemsize] + probes.tobytes()
    rows = series(run(records, "microprice", interval_ms=0), "microprice_adjustment")
    assert np.isnan(rows["value"][: -len(states)]).all()
    np.testing.assert_allclose(rows["value"][-20:], wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["MARKET", "STOCK"])
def test_noise_of_recorded_minutes(name: str) -> None:
    # Each day alone: 391 prices, of which two scales are 30 apart, and the kernel of its own lags.
    table = table_of("highfrequency/sampleOneMinuteData.csv.gz")
    times = np.array([number_of(text) for text in table["DT"]])
    mids = np.array([round(float(text) * 10**9) for text in table[name]])
    days = times.astype("datetime64[ns]").astype("datetime64[D]").astype(str)
    for date, wanted in expected("volatility.json")[f"sampleOneMinuteData_{name}"].items():
        at = days == date
        ts, mid = times[at], mids[at]
        steps = {"step_ms": 60_000, "bar_ms": 60_000, "span_bars": 390, "interval_ms": 60_000}
        records = quotes_at(ts, mid) + quotes_at([ts[-1] + 1], mid[-1:])
        rows = run(records, "noise", windows_ms=[60_000], **steps)
        last = {row["metric"].decode(): row for row in rows[rows["ts_event"] == ts[-1]]}
        assert last["noise_var"]["count"] == len(ts) - 1
        close(last["noise_var"]["value"][None], [wanted["noise_variance"]])
        close(last["tsrv"]["value"][None], [wanted["two_scale"]])
        lags, returns = int(last["rk_lags"]["value"]), np.diff(np.log(mid / 1e9))
        same = research.realized_kernel(returns, lags)
        np.testing.assert_allclose(last["rk"]["value"], same, rtol=1e-9)
        kernel = wanted["realized_kernel_parzen_tick"]
        if lags == kernel["H"]:
            close(last["rk"]["value"][None], [kernel["value"]])


def orders_of(day: Day) -> bytes:
    """Returns the messages as orders, and the trades among them."""
    actions = _core.numbers("order_action")
    count = len(day.ts)
    orders = rows_of(
        "order",
        count,
        ts_event=day.ts,
        ts_recv=day.ts,
        sequence=np.arange(1, count + 1),
        price=day.price * PRICE,
        size=day.size * SIZE,
        order_id=day.order,
        action=[actions[ACTIONS[kind]] for kind in day.kind.tolist()],
        side=np.where(day.direction == 1, 1, 2),
        # Last of its event; the book is not whole, as the file is of a window of levels.
        flags=1 | 32,
    )
    return orders.tobytes()


def deleted_with_less(day: Day) -> list[int]:
    """Returns the orders whose deletion tells a smaller size than their messages before leave."""
    left: dict[int, int] = {}
    found = []
    rows = (column.tolist() for column in (day.order, day.kind, day.size))
    for order, kind, size in zip(*rows, strict=True):
        if kind == 1:
            left[order] = size
        elif order in left:
            left[order] -= size
            if kind == 3 and left[order] > 0:
                found.append(order)
    return found


def test_orders_that_came_and_went_each_minute(day: Day) -> None:
    # All 390 minutes, by side: counts and sizes; then how long orders of the day lived.
    rows = run(
        orders_of(day) + quotes_at([CLOSE + 1], np.array([1])),
        "rates,orders",
        windows_ms=[60_000],
        interval_ms=60_000,
    )
    table = expected_rows("AMZN_flow_60s.csv")
    ends = np.array([int(row["start_ns"]) + MINUTE for row in table])
    for side in ("bid", "ask"):
        for what in ("add", "cancel", "fill"):
            count = series(rows, f"rate_{what}_{side}_60s")
            at = np.searchsorted(count["ts_event"], ends)
            assert count["count"][at].tolist() == [row[f"{side}_{what}s"] for row in table]
            size = series(rows, f"size_{what}_{side}_60s")["value"][at]
            close(size, [row[f"{side}_{what}s_size"] for row in table])
    summary = expected("AMZN_flow_summary.json")
    wanted = summary["lifetimes"]
    last = {row["metric"].decode(): row["value"] for row in rows[rows["ts_event"] == ends[-1]]}
    # The reference subtracts sizes, and so holds an order open that was deleted with less than the
    # file says is left of it: what else was cancelled of it lay below the window of levels. The
    # book of the file has no such rest; a deleted order is gone.
    short = deleted_with_less(day)
    assert short == [35_699_321]
    assert last["orders_open"] == wanted["still_open_at_end"] - len(short)
    assert last["orders_filled"] == wanted["ended_by_type"]["4"]
    assert last["orders_cancelled"] == wanted["ended_by_type"]["3"] + len(short)
    for name, value in wanted["ns_nearest_rank"].items():
        # Within the thousandth that is declared.
        assert abs(last[f"lifetime_{name}"] / value - 1) < 1e-3
    # No order is counted twice: cancels by visible trades, over the day.
    visible = int((day.kind == 4).sum())
    cancels = sum(row[f"{side}_cancels"] for row in table for side in ("bid", "ask"))
    assert cancels / visible == summary["cancel_to_trade_messages"]


def test_moves_of_the_best_prices(day: Day) -> None:
    rows = run(day.records, "rates", windows_ms=[86_400_000], interval_ms=0)
    wanted = expected("AMZN_flow_summary.json")["best_queue"]
    for name, count in wanted.items():
        assert series(rows, f"rate_{name}_86400s")["count"][-1] == count


def test_intensity_of_the_hour() -> None:
    # Just before each probe: a quote of that time is no event of the process.
    with (DATA / "expected" / "AMZN_hawkes_times.csv").open() as file:
        times = [float(row["seconds_after_10h"]) for row in csv.DictReader(file)]
    wanted = expected("AMZN_hawkes.json")
    stamps = [round(time * 10**9) for time in times]
    trades = rows_of(
        "trade",
        len(stamps),
        ts_event=stamps,
        ts_recv=stamps,
        price=1,
        size=1,
        channel=1,
        side=1,
    )
    probes = [round(probe * 10**9) for probe in wanted["probe_times"]]
    quotes = np.frombuffer(
        quotes_at(probes, np.array([5] * len(probes))), np.dtype(_core.dtype_descr("quote"))
    )
    events = [(ts, 1, trades[at].tobytes()) for at, ts in enumerate(stamps)]
    events += [(ts, 0, quotes[at].tobytes()) for at, ts in enumerate(probes)]
    records = b"".join(data for *_, data in sorted(events, key=lambda event: event[:2]))
    for one in wanted["fits"]:
        given = f"{one['mu']}, {one['alpha']}, {one['beta']}"
        rows = run(records, "hawkes", interval_ms=0, hawkes=given)
        found = series(rows, "hawkes_lambda")
        at_probe = np.isin(found["ts_event"], probes)
        np.testing.assert_allclose(
            found["value"][at_probe][: len(probes)],
            one["intensity_just_before_probe"],
            rtol=1e-9,
        )
        # The stream begins with the first event, which is then not expected by anything.
        last, mu = series(rows, "hawkes_loglik")["value"][-1], one["mu"]
        start = math.log(mu) - mu * times[0]
        np.testing.assert_allclose(last + start, one["log_likelihood"], rtol=1e-9)


def test_dependence_of_the_day(day: Day) -> None:
    rows = run(day.records + end_of_day(day), "dependence", windows_ms=[1_000])
    final = rows[rows["ts_event"] == CLOSE]
    wanted = expected("AMZN_flow_summary.json")
    for name, key in {
        "acf_sign": "acf_trade_sign_prints",
        "acf_parent_sign": "acf_trade_sign_parent_orders",
        "acf_mid": "acf_1s_mid_changes",
        "acf_abs_mid": "acf_1s_abs_mid_changes",
    }.items():
        found = [series(final, f"{name}_{lag}")["value"][0] for lag in range(1, 11)]
        close(np.array(found), wanted[key][1:11])


def end_of_day(day: Day) -> bytes:
    last = np.frombuffer(day.records[-64:], np.dtype(_core.dtype_descr("quote"))).copy()
    last["ts_event"] = CLOSE + 1
    return last.tobytes()


def test_drift_of_the_clock() -> None:
    # The line under all latencies; the last bar is closed by an event behind it.
    table = table_of("synthetic/latency.csv.gz")
    sent, received = (np.array(table[name], np.int64) for name in ("ts_event", "ts_recv"))
    ts = [*sent.tolist(), int(sent[-1]) + 2 * MINUTE]
    quotes = rows_of(
        "quote",
        len(ts),
        ts_event=ts,
        ts_recv=[*received.tolist(), ts[-1]],
        bid_price=1,
        ask_price=2,
        bid_size=1,
        ask_size=1,
    )
    rows = run(quotes.tobytes(), "clocks", interval_ms=0, span_bars=4096)
    wanted = expected("latency.json")["hull"]
    drift = series(rows, "clock_drift")
    np.testing.assert_allclose(drift["value"][-1], wanted["slope"], rtol=1e-9)
    assert drift["count"][-1] == len(sent)
    line = research.clock_line(sent, received)
    minute = sent // MINUTE == sent[-1] // MINUTE
    middle = research.nearest_rank((received - sent)[minute], 0.5)[0]
    found = series(rows, "latency_p50")["value"][-1]
    assert abs(found / middle - 1) < 1e-3
    offset = series(rows, "clock_offset")["value"][-1]
    height = wanted["intercept_ns"] + wanted["slope"] * float(sent[-1])
    assert abs(offset - height) < 10_000
    assert line is not None


def test_book_of_a_file_of_one_level_is_told_to_be_crossed(day: Day) -> None:
    # A level that leaves the window is in no message: replayed as if the file were complete, stale
    # levels cross the others. The state says so, and what skips crossed quotes has no value.
    rows = run(orders_of(day), "l1,ofi,depth", windows_ms=[86_400_000], interval_ms=0, levels=[5])
    spread = series(rows, "spread_abs")
    assert len(spread) == len(day.ts)
    crossed = spread["state"] == _core.numbers("quote_state")["crossed"]
    assert crossed.mean() > 0.9
    assert (spread["value"][crossed] < 0).all()
    assert np.isnan(series(rows, "queue_imbalance")["value"][crossed]).all()
    assert np.isnan(series(rows, "microprice_imb")["value"][crossed]).all()
