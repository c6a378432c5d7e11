"""What the other tests of the expected values leave: sums, counts, and digests of every row."""

import numpy as np
import pytest
from tests.real.test_depth_real import SETTINGS, SIZE, books, recorded
from tests.real.test_live_metrics_real import end_of_day
from tests.real.test_metrics_real import KEEP_MS, measure
from tests.real.truth import (
    CLOSE,
    DATA,
    METRIC,
    OPEN,
    PRICE,
    Day,
    close,
    digest,
    expected,
    expected_rows,
    rows_of,
    units,
)

from tapeworks._core import Processor, Records

pytestmark = [pytest.mark.usefixtures("real_data"), pytest.mark.slow]

SIDES = {"bid": "sell", "ask": "buy"}


@pytest.fixture(scope="module")
def day() -> Day:
    return Day(DATA)


def test_best_prices_by_event_and_over_time(day: Day) -> None:
    values, _ = measure(day, "l1,ofi")
    summary, at = expected("AMZN_l1_summary.json"), day.quote_samples
    assert len(at) == summary["rows"]
    for name, mean in summary["event_means"].items():
        scale, ours = (1e4, "spread_abs") if name == "spread" else (1, name)
        close(np.array([values[ours][at].mean() * scale]), [mean])
    flow = np.diff(units(values[f"ofi_{KEEP_MS // 1000}s"][at], 1), prepend=0)
    assert np.abs(flow).sum() == summary["ofi_abs_total"]
    # Each value holds until the next one, the last until the close.
    held = np.diff(values["ts"][at], append=values["ts"][-1])
    for name, scale in (("mid", 1e4), ("spread_bps", 1)):
        mean = (values[name][at] * held).sum() / held.sum() * scale
        close(np.array([mean]), [summary["time_weighted_means_from_first_event_to_close"][name]])
    rows = expected_rows("AMZN_l1_rows.csv")
    picked = [int(row["row"]) for row in rows]
    assert flow[picked].tolist() == [row["ofi"] for row in rows]
    assert np.cumsum(flow)[picked].tolist() == [row["ofi_cum"] for row in rows]
    assert units(values["mid"][at], 2e4)[picked].tolist() == [row["mid2"] for row in rows]


def test_rules_against_the_side_that_is_known(day: Day) -> None:
    # How often each rule is right, wrong and silent, of prints that were shown and of hidden ones.
    values, _ = measure(day, "sign")
    summary = expected("AMZN_trades_summary.json")
    traded = day.is_trade
    true, hidden = -day.direction[traded], day.kind[traded] == 5
    size = day.size[traded]
    assert (len(true), hidden.sum()) == (summary["trades"], summary["hidden"])
    assert (~hidden).sum() == summary["visible"]
    assert size[true == 1].sum() == summary["buy_volume"]
    names = {"tick": "tick", "quote": "quote", "lr": "lee_ready", "emo": "emo", "clnv": "clnv"}
    rows = expected_rows("AMZN_trade_rows.csv")
    order = {row: at for at, row in enumerate(np.flatnonzero(traded).tolist())}
    for name, rule in names.items():
        sign = values[f"sign_{name}"][day.trade_samples].astype(int)
        picked = sign[[order[int(row["row"])] for row in rows]]
        assert picked.tolist() == [row[rule] for row in rows]
        for kind, of in (("all", true == true), ("hidden", hidden), ("visible", ~hidden)):
            wanted = summary["sign_rules"][rule]["accuracy"][kind]
            right, silent = (sign == true) & of, (sign == 0) & of
            if (name, kind) == ("quote", "hidden"):
                inside = summary["hidden_at_or_inside"]
                wrong = (sign != true) & (sign != 0) & of
                assert right.sum() == inside["quote_rule_agrees"]
                assert wrong.sum() == inside["quote_rule_disagrees"]
                assert silent.sum() == inside["at_mid"] + inside["no_quote"]
            found = {"n": of.sum(), "right": right.sum(), "unclassified": silent.sum()}
            found["wrong"] = of.sum() - right.sum() - silent.sum()
            assert {key: int(value) for key, value in found.items()} == wanted


def test_flow_of_the_day_and_of_its_minutes(day: Day) -> None:
    # The last minute is over with an event behind it.
    settings = {"sets": "flow,rates", "windows_ms": [60_000], "interval_ms": 60_000, "partial": 1}
    made = Processor("metrics", settings).process(Records.from_bytes(day.records + end_of_day(day)))
    found = np.frombuffer(made, METRIC)
    rows, summary = expected_rows("AMZN_tfi_60s.csv"), expected("AMZN_trades_summary.json")
    ends = np.array([int(row["start_ns"]) + 60 * 10**9 for row in rows])

    def at_ends(name: str, column: str) -> np.ndarray:
        one = found[found["metric"] == name.encode()]
        return one[column][np.searchsorted(one["ts_event"], ends)]

    tfi = at_ends("tfi_60s", "value")
    close(tfi, [row["tfi"] for row in rows])
    close(np.array([np.nanmean(np.abs(tfi))]), [summary["tfi_60s_mean_abs"]])
    for name, key in (("rate_buy_60s", "buy_trades"), ("rate_sell_60s", "sell_trades")):
        assert at_ends(name, "count").tolist() == [row[key] for row in rows]
    assert at_ends("trades_60s", "value").sum() == summary["trades"]


def test_counts_of_messages_and_of_orders(day: Day) -> None:
    # Of the rows themselves: what all other values are made of.
    summary = expected("AMZN_flow_summary.json")
    edges = np.arange(OPEN, CLOSE + 1, 60 * 10**9)
    minutes = np.diff(np.searchsorted(day.ts, edges))
    assert minutes.tolist() == [row["messages"] for row in expected_rows("AMZN_flow_60s.csv")]
    burst = 1 + np.arange(len(day.ts)) - np.searchsorted(day.ts, day.ts - 10**8, "right")
    assert burst.max() == summary["peak_messages_in_100ms"]
    lives = summary["lifetimes"]
    assert sum(lives["ended_by_type"].values()) == lives["completed"]
    ts, sign = day.ts[day.is_trade], -day.direction[day.is_trade]
    starts = np.flatnonzero(np.r_[True, (np.diff(ts) != 0) | (np.diff(sign) != 0)])
    fills = np.diff(np.r_[starts, len(ts)])
    assert fills.max() == expected("AMZN_hawkes.json")["largest_fill_count"]
    books = expected("book_reconstruction.json")["AMZN_L1"]
    assert ((day.bid > day.ask).sum(), (day.bid == day.ask).sum()) == (
        books["rows_crossed"],
        books["rows_locked"],
    )
    assert (np.diff(day.ts) == 0).sum() == books["rows_with_repeated_timestamp"]


def test_flow_of_the_best_prices_is_the_size_of_each_message(day: Day) -> None:
    # Of an order-by-order feed of the best level: size of what comes, less that of what goes.
    values, _ = measure(day, "ofi")
    flow = np.diff(units(values[f"ofi_{KEEP_MS // 1000}s"][day.quote_samples], 1), prepend=0)
    sign = np.where(day.kind == 1, 1, np.where(day.kind == 5, 0, -1)) * day.direction
    assert (flow[1:] == (sign * day.size)[1:]).all()
    assert expected("AMZN_l1_summary.json")["ofi_equals_signed_message_size_on_every_row"]


def test_spread_that_the_prices_of_visible_trades_imply(day: Day) -> None:
    wanted = expected("AMZN_trades_summary.json")["roll"]["visible_trades"]
    shown = day.kind == 4
    trades = rows_of(
        "trade",
        int(shown.sum()),
        ts_event=day.ts[shown],
        ts_recv=day.ts[shown],
        price=day.price[shown] * PRICE,
        size=day.size[shown] * SIZE,
        channel=1,
        count=1,
    )
    settings = {"sets": "impact", "interval_ms": 0, "span_bars": 4096, "partial": 1}
    made = Processor("metrics", settings).process(
        Records.from_bytes(trades.tobytes() + end_of_day(day))
    )
    rows = np.frombuffer(made, METRIC)
    last = rows[rows["metric"] == b"roll_spread"][-1]
    close(np.array([last["value"]]), [wanted["roll_spread"]])
    assert last["count"] == wanted["n_pairs"]


def test_depth_of_every_row_by_digest() -> None:
    # All 999 rows, those of the snapshot too: a row without an update repeats the one before it.
    times, found = books()
    data, updates = recorded(times, found)
    rows = np.frombuffer(Processor("metrics", SETTINGS).process(Records.from_bytes(data)), METRIC)
    summary = expected("AAPL_L10_depth_summary.json")
    assert len(times) == summary["rows"]
    values = {
        name.decode(): rows["value"][rows["metric"] == name]
        for name in set(rows["metric"].tolist())
    }
    # Rows in front of the first update are those of the snapshot, which is the book before it.
    assert (updates == 0).sum() == 1
    shown = updates[1:] - 1
    table = expected_rows("AAPL_L10_depth_rows.csv")
    first = table[0]
    assert first["row"] == 0

    def series(name: str, key: str) -> np.ndarray:
        return np.concatenate([[int(first[key])], np.rint(values[name][shown]).astype(np.int64)])

    digests = {}
    for side, action in SIDES.items():
        for band in (5, 10, 25, 50):
            key = f"{side}_depth_{band}bps"
            digests[key] = digest(series(f"depth_{side}_{band}bps", key))
        for size in (100, 500, 1000, 5000):
            key = f"{action}_{size}_filled"
            digests[key] = digest(series(f"fill_{action}_{size}", key))
    assert digests == {key: summary["sha256_i64"][key] for key in digests}
    means = {f"imbalance_L{n}": f"imbalance_L{n}" for n in (5, 10)}
    for side, action in SIDES.items():
        means |= {f"slope_ns_{side}": f"{side}_ns_slope"}
        means |= {f"slope_depth_{side}": f"{side}_depth_slope"}
        means |= {f"cost_{action}_{q}": f"{action}_{q}_cost_bps" for q in (100, 500, 1000, 5000)}
    for ours, key in means.items():
        wanted = summary["float_column_means"][key]
        whole = np.concatenate(
            [[np.nan if first[key] is None else first[key]], values[ours][shown]]
        )
        if wanted is not None:
            close(np.array([np.nanmean(whole)]), [wanted])
    flows = np.zeros((len(updates), 10), np.int64)
    for rank in range(10):
        total = np.rint(values[f"mlofi_{rank + 1}_86400s"]).astype(np.int64)
        flows[:, rank] = np.diff(np.concatenate([[0], total[shown]]), prepend=0)
    # The update behind a snapshot is measured from there on: what it itself adds is added here.
    one = int(np.argmax(updates > 0))
    flows[one] = [flow_of(found[one - 1], found[one], rank) for rank in range(10)]
    assert flows.sum(axis=0).tolist() == summary["mlofi_total_per_level"]
    assert digest(flows.reshape(-1)) == summary["mlofi_sha256_i64_row_major"]


def flow_of(before: dict, after: dict, rank: int) -> int:
    """Returns what a row adds to the bids of a rank, less what it adds to the asks."""

    def level(book: dict, side: str, sign: int) -> tuple[int, int]:
        prices = sorted((sign * price for one, price in book if one == side), reverse=True)
        return (prices[rank], book[side, sign * prices[rank]])

    flow = 0
    for side, sign in (("bid", 1), ("ask", -1)):
        (old, old_size), (new, new_size) = (level(book, side, sign) for book in (before, after))
        flow += sign * (new_size * (new >= old) - old_size * (new <= old))
    return flow
