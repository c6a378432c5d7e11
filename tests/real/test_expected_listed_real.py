"""Which test holds each expected value, and each mistake of published code: nothing is left out.

A value is the name of a column of a table, or the path of a key, two levels deep, of a document.
The first pattern that fits says where it is held. Tests are named as `module::function`.
"""

import csv
import json
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest
from tests.real.truth import DATA

pytestmark = pytest.mark.usefixtures("real_data")

TESTS = Path(__file__).resolve().parents[1]
# No value of a metric: what the values are of, and by which parameters.
GIVEN = "given"
# Held by no test, each for a reason.
SEARCH = "not held: forecasts from drawn samples, which no seed of ours can repeat"
WINDOW = "not held: of a window of levels; books here are whole, or not verified"
PARTS = "not held: notional of what was filled in part; the filled part, and costs, are"
EACH = "not held trade by trade: sums of each horizon are, and each effective spread"

REAL, LIVE, REST = "test_metrics_real", "test_live_metrics_real", "test_expected_rest_real"
RANGE, DEPTH, STATES = "test_research_real", "test_depth_real", "test_states_real"
BEST = f"{REAL}::test_best_prices_of_every_row"
EVENTS = f"{REST}::test_best_prices_by_event_and_over_time"
COST = f"{REAL}::test_cost_of_trades"
RULES = f"{REST}::test_rules_against_the_side_that_is_known"
FLOW = f"{REAL}::test_flow_of_each_minute"
ORDERS = f"{LIVE}::test_orders_that_came_and_went_each_minute"
COUNTS = f"{RANGE}::test_counts_of_the_day"
HAWKES = f"{RANGE}::test_hawkes_intensity_and_likelihood"
HOUR = f"{RANGE}::test_times_of_the_hour_are_parent_orders"
DIGEST = f"{REST}::test_depth_of_every_row_by_digest"
LEVELS = f"{DEPTH}::test_depth_cost_shape_and_flow_of_levels"
LINE = f"{RANGE}::test_line_under_delays"
LATENCY = f"{REAL}::test_latency_and_its_floor"
VARIANCE = f"{RANGE}::test_variance_and_what_noise_does_to_it"
BARS = f"{RANGE}::test_spreads_and_ranges_of_bars"
VPIN = f"{RANGE}::test_vpin_by_bulk_over_the_whole_sample"
MESSAGES = f"{REST}::test_counts_of_messages_and_of_orders"
MINUTES = f"{REST}::test_flow_of_the_day_and_of_its_minutes"
ALERTS = "test_alerts_real"
VECTORS = f"{STATES}::test_every_component_of_every_twentieth_vector"
SCALED = f"{STATES}::test_scaling_knows_the_vectors_before_alone"

HELD: dict[str, dict[str, str]] = {
    "AAPL_L10_depth_rows.csv": {
        "row": GIVEN,
        "ts_ns": GIVEN,
        "mid2": GIVEN,
        "*_complete_*": WINDOW,
        "*_notional": PARTS,
        "*": LEVELS,
    },
    "AAPL_L10_depth_summary.json": {
        "sha256_i64.*_notional": PARTS,
        "integrated_ofi.*": f"{RANGE}::test_integrated_flow_of_levels",
        "*": DIGEST,
    },
    "AMZN_flow_60s.csv": {"start_ns": GIVEN, "messages": MESSAGES, "*": ORDERS},
    "AMZN_flow_summary.json": {
        "acf_*": f"{RANGE}::test_autocorrelation_of_signs_and_of_the_mid",
        "best_queue.*": f"{LIVE}::test_moves_of_the_best_prices",
        "staleness.*": COUNTS,
        "peak_messages_in_100ms": MESSAGES,
        "lifetimes.completed": MESSAGES,
        "*": ORDERS,
    },
    "AMZN_hawkes.json": {
        "T_seconds": GIVEN,
        "event_rule": GIVEN,
        "instrument": GIVEN,
        "probe_times": GIVEN,
        "parent_orders_day": HOUR,
        "prints_day": FLOW,
        "largest_fill_count": MESSAGES,
        "*": HAWKES,
    },
    "AMZN_hawkes_times.csv": {"*": f"{LIVE}::test_intensity_of_the_hour"},
    "AMZN_l1_rows.csv": {"row": GIVEN, "ts_ns": GIVEN, "mid2": EVENTS, "ofi*": EVENTS, "*": BEST},
    "AMZN_l1_summary.json": {
        "instrument": GIVEN,
        "price_scale": GIVEN,
        "tick": GIVEN,
        "event_counts.*": COUNTS,
        "event_means.*": EVENTS,
        "rows": EVENTS,
        "ofi_abs_total": EVENTS,
        "ofi_equals_signed_message_size_on_every_row": (
            f"{REST}::test_flow_of_the_best_prices_is_the_size_of_each_message"
        ),
        "ofi_regression.*": f"{RANGE}::test_ofi_explains_the_mid",
        "stoikov_microprice.*": f"{RANGE}::test_microprice_of_stoikov",
        "time_weighted_*.mid": EVENTS,
        "time_weighted_*.spread_bps": EVENTS,
        "*": BEST,
    },
    "AMZN_state_raw.csv": {"ts_ns": GIVEN, "*": VECTORS},
    "AMZN_state_z.csv": {"ts_ns": GIVEN, "*": SCALED},
    "AMZN_state_vector.json": {
        "instrument": GIVEN,
        "parameters.*": GIVEN,
        "evaluation.*": SEARCH,
        "components": VECTORS,
        "decision_times": VECTORS,
        "step_ns": VECTORS,
        "nearest_*": f"{STATES}::test_nearest_states_are_those_of_the_exact_search",
        "*": SCALED,
    },
    "AMZN_tfi_60s.csv": {"start_ns": GIVEN, "*": MINUTES},
    "AMZN_trade_rows.csv": {
        "row": GIVEN,
        "ts": GIVEN,
        "p[xba]": GIVEN,
        "q[ba]": GIVEN,
        "size": GIVEN,
        "sign": GIVEN,
        "hidden": GIVEN,
        "eff_spread": COST,
        "realized_5s": EACH,
        "*": RULES,
    },
    "AMZN_trades_summary.json": {
        "instrument": GIVEN,
        "bars.*": f"{RANGE}::test_bars_of_trades_by_digest",
        "hidden_at_or_inside.*": RULES,
        "kyle_amihud.*": f"{REAL}::test_impact_and_the_spread_of_prices",
        "notional_*": COUNTS,
        "volume": COUNTS,
        "roll.all_trades": f"{REAL}::test_impact_and_the_spread_of_prices",
        "roll.visible_trades": (f"{REST}::test_spread_that_the_prices_of_visible_trades_imply"),
        "sign_rules.*": RULES,
        "spreads.*": COST,
        "tfi_60s_mean_abs": MINUTES,
        "vpin.bvc_full*": VPIN,
        "vpin.bvc_sigma_dp": VPIN,
        "vpin.*": f"{REAL}::test_vpin_of_every_bucket",
        "vwap_dollar": FLOW,
        "*": RULES,
    },
    "anomalies.json": {
        "alerts.*": f"{ALERTS}::test_times_and_evidence_are_those_of_the_reference",
        "score.*": f"{ALERTS}::test_no_rule_is_worse_than_the_reference",
        "episodes_ns.*": f"{ALERTS}::test_no_rule_is_worse_than_the_reference",
        "*": GIVEN,
    },
    "book_reconstruction.json": {
        "AMZN_L1.rows_[clw]*": MESSAGES,
        "*": "test_order_books_real::test_books_are_rebuilt_as_is_expected",
    },
    "latency.json": {
        "seed": GIVEN,
        "window_ns": GIVEN,
        "truth.*": LINE,
        "true_delay_*": GIVEN,
        "lp_check.*": LINE,
        "hull*": LINE,
        "raw_quantiles*": LINE,
        "*": LATENCY,
    },
    "latency_rows.csv": {"row": GIVEN, "*": LATENCY},
    "mlfinpy_tick_data_bars.json": {"*": f"{RANGE}::test_bars_that_another_library_asserts"},
    "ohlc_spreads.json": {"*": BARS},
    "price_discovery.json": {
        "seed": GIVEN,
        "*": f"{RANGE}::test_price_discovery_of_two_venues",
    },
    "volatility.json": {"range_estimators_ohlc.*": BARS, "*": VARIANCE},
}

MISTAKES = {
    "1 mid in floats": "test_price_in_the_middle_is_at_the_mid",
    "2 a leading zero return": "test_nothing_stands_in_front_of_the_first_return",
    "3 rows for seconds": "test_horizon_is_a_time_and_no_number_of_rows",
    "4 two realized kernels": "test_the_two_realized_kernels_are_told_apart",
    "5 splitting or not": "test_vpin_splits_trades_and_bars_do_not",
    "6 look-ahead": "test_no_value_changes_when_the_future_is_deleted",
    "6 look-ahead of scaling": SCALED,
    "7 sorting by time": "test_rows_of_one_time_are_taken_in_the_order_of_the_tape",
    "8 windows of levels": f"{LIVE}::test_book_of_a_file_of_one_level_is_told_to_be_crossed",
    "9 averages that skip time": "test_mean_over_time_is_not_that_over_rows",
    "10 zero for no value": "test_no_value_is_null_and_never_zero",
}


def values_of(path: Path) -> Iterator[str]:
    """Yields the columns of a table, or the keys of a document, two levels deep."""
    if path.suffix == ".csv":
        with path.open() as file:
            yield from next(csv.reader(file))
        return
    for name, value in json.loads(path.read_text()).items():
        yield from (f"{name}.{key}" for key in value) if isinstance(value, dict) else (name,)


def is_test(name: str) -> bool:
    """Says whether there is such a test: of `tests/real`, or of the mistakes."""
    module, _, function = name.rpartition("::")
    folder, file = ("real", module) if module else ("views", "test_metric_mistakes")
    text = (TESTS / folder / f"{file}.py").read_text()
    return re.search(rf"^def {function}\(", text, re.MULTILINE) is not None


def test_every_expected_value_is_held_by_a_test() -> None:
    files = {path.name: path for path in (DATA / "expected").iterdir()}
    assert HELD.keys() == files.keys()
    for name, path in files.items():
        patterns, used = HELD[name], set()
        for value in values_of(path):
            fitting = next((one for one in patterns if fnmatch(value, one)), None)
            assert fitting is not None, f"{name}: no test holds {value}"
            used.add(fitting)
        assert used == patterns.keys(), f"{name}: nothing is {set(patterns) - used}"
        for pattern, where in patterns.items():
            told = where == GIVEN or where.startswith("not held") or is_test(where)
            assert told, f"{name}: {pattern}: there is no {where}"


def test_every_mistake_of_published_code_has_a_test() -> None:
    assert {int(name.split()[0]) for name in MISTAKES} == set(range(1, 11))
    missing = [name for name in MISTAKES.values() if not is_test(name)]
    assert not missing
