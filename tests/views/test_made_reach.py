"""How far back the records begin of which metrics are made, and what is told where that is not
enough: what is made is what was measured, or is said not to be known."""

import pytest
from tests.conftest import SpineFolder
from tests.views.test_made_metrics import CHANNEL, FIRST, PRICE, SECOND, TICK, Market

import tapeworks as tw
from tapeworks import _core
from tapeworks.errors import QueryError
from tapeworks.metric_stretches import note_settings
from tapeworks.processors.derive import Derivation
from tapeworks.settings import MetricSetsConfig, ProcessorsConfig
from tapeworks.tape import TapeConfig
from tapeworks.views import made_begin
from tapeworks.views.metric_reach import REACHES, reach_ns, reach_of

ACTIONS = _core.numbers("order_action")


def write(path, records, sets, trades="trade"):
    """A folder of these records, with what is measured of them."""
    spine = SpineFolder(path)
    for part in (records[:-1], records[-1:]):
        for record in part:
            spine.writer().append(record.tobytes())
        spine.writer().sync()
        spine.drain()
    processors = ProcessorsConfig(measured=sets.settings(trades), trades=trades)
    derivation = Derivation(processors, TapeConfig("never"), path, spine.source)
    assert derivation.drain(60.0)
    derivation.close()
    for topic in ("market-data.gaps", "market-data.metrics"):
        spine.drain(topic)
    return spine


def both(lake, names, start, end):
    """What was measured, and what is made."""
    within = FIRST + round(start * SECOND), FIRST + round(end * SECOND)
    live, made = (lake.metrics("BTCUSDT", names, *within, make=make) for make in (False, True))
    assert len(live)
    return live, made


def check_same(path, names, *ranges):
    with tw.open(path) as lake:
        for each in ranges:
            live, made = both(lake, names, *each)
            assert made.to_arrow().to_pydict() == live.to_arrow().to_pydict(), each
            assert "not_measured" not in set(made.coverage()["finding"].to_pylist())


def test_every_set_says_how_far_its_values_reach():
    assert set(REACHES) == {group for group, *_ in _core.metric_table()}
    seconds = {
        "mid": 0,
        "ofi_10s": 10,
        "realized_spread_5s_mean_60s": 65,
        "resilience_300s": 600,
        "parkinson": 31 * 60,
        "latency_p50": 2 * 60,
        "ofi_beta": 1_810,
        "rate_ewma_trade_10s": 400,
        "sliding_10s_1s_vwap": 10,
    }
    assert {name: reach_ns(name, {}) // SECOND for name in seconds} == seconds
    assert reach_ns("parkinson", {"bar_ms": 1_000, "span_bars": 10}) == 11 * SECOND
    for name in ("hawkes_lambda", "acf_sign_3", "count_9_vwap", "late_trades", "vpin_true"):
        assert reach_of(name).is_endless


def order(market, at, number, action, side, price, size):
    none = dict.fromkeys(("order_price", "remaining"), _core.NONE)
    told = {"order_id": number, "action": ACTIONS[action], "side": side, "match_id": 0}
    return market.record("order", at, price=price, size=size * 10**8, **told, **none)


def test_orders_that_rested_long_before_are_in_the_book(tmp_path, maker):
    # Two orders stand at the best prices since the first seconds, others come and go behind them;
    # one of the two is cancelled within the range.
    market = Market(maker)
    records = [market.define(0, TICK), order(market, 1, 1, "add", 1, PRICE, 5)]
    records.append(order(market, 1.1, 2, "add", 2, PRICE + 2 * TICK, 7))
    for at in range(2, 240):
        number = 10 * at
        records.append(order(market, at + 0.1, number, "add", 1, PRICE - 10 * TICK, 3))
        records.append(order(market, at + 0.2, number + 1, "add", 2, PRICE + 30 * TICK, 3))
        if at == 225:
            records.append(order(market, at + 0.25, 1, "delete", 1, _core.NONE, 0))
        if at % 2:
            records.append(order(market, at + 0.6, number, "delete", 1, _core.NONE, 0))
    write(tmp_path, records, MetricSetsConfig(sets=("l1", "ofi", "rates"), windows_ms=(10_000,)))
    names = ["mid", "spread_ticks", "ofi_10s", "rate_add_bid_10s", "depth_bid_L1"]
    check_same(tmp_path, names, (215, 222), (223, 235))


@pytest.mark.parametrize("is_noted", [True, False])
def test_aggregate_trades_are_measured_where_there_are_no_others(tmp_path, maker, is_noted):
    market = Market(maker)
    records = [market.define(0, TICK)]
    for at in range(100):
        records.append(market.quote(at + 0.2))
        records.append(market.trade(at + 0.5, at, channel=CHANNEL["agg_trade"]))
    sets = MetricSetsConfig(
        sets=("flow", "rates"), windows_ms=(10_000,), trade_windows=("tumbling 1s",)
    )
    spine = write(tmp_path, records, sets, "agg_trade")
    if not is_noted:
        (tmp_path / "state" / spine.source / "metric-sets.json").unlink()
    check_same(tmp_path, ["trades_10s", "tfi_10s", "rate_trade_10s"], (80, 90))
    check_same(tmp_path, ["tumbling_1s_volume"], (80, 90))


def test_settings_of_the_source_are_those_that_it_is_made_with(tmp_path, maker):
    market = Market(maker)
    records = [market.define(0, TICK)]
    for at in range(1_200):
        moved = PRICE + at * 7 % 11 * TICK
        columns = {"bid_price": moved, "ask_price": moved + TICK}
        records.append(market.record("quote", at / 10, bid_size=1, ask_size=1, **columns))
    sets = MetricSetsConfig(sets=("volatility",), windows_ms=(10_000,), step_ms=100)
    write(tmp_path, records, sets)
    check_same(tmp_path, ["rv_10s", "zero_returns_10s"], (100, 110))
    with tw.open(tmp_path) as lake:
        within = FIRST + 100 * SECOND, FIRST + 110 * SECOND
        ours = lake.metrics("BTCUSDT", "rv_10s", *within, make={"step_ms": 1_000})
        assert ours.to_pylist() != both(lake, ["rv_10s"], 100, 110)[1].to_pylist()


def test_bars_without_a_trade_are_not_counted(tmp_path, maker, monkeypatch):
    # A trade each three minutes: thirty bars with one are of an hour and a half.
    market = Market(maker)
    records = [market.define(0, TICK), market.quote(0.1)]
    for at in range(100):
        records.append(market.trade(at * 180 + 0.5, at * 7 % 11))
        records.append(market.trade(at * 180 + 0.9, at * 5 % 7))
    records.append(market.quote(100 * 180))
    write(tmp_path, records, MetricSetsConfig(sets=("range", "impact")))
    names = ["parkinson", "spread_edge", "roll_spread"]
    check_same(tmp_path, names, (17_000, 17_200))
    # Where they are too far back, it is said.
    monkeypatch.setattr(made_begin, "FAR_NS", 3_600 * SECOND)
    with tw.open(tmp_path) as lake:
        _, made = both(lake, names, 17_000, 17_200)
        anew = {row["channel"] for row in made.coverage() if row["cause"] == "begun_anew"}
        assert anew == {"parkinson", "spread_edge"}
        [said] = [line for line in made.notices() if "live values remember" in line]
        assert "BTCUSDT parkinson" in said


def test_the_day_before_is_the_last_one_with_quotes(tmp_path, maker):
    market = Market(maker)
    records, monday = [market.define(0, TICK)], 3 * 86_400
    for at in [*range(600), *range(monday, monday + 100)]:
        price = PRICE + at * 7 % 5 * TICK
        prices = {"bid_price": price, "ask_price": price + (1 + at % 3) * TICK}
        sizes = {"bid_size": (1 + at % 4) * 10**8, "ask_size": (1 + at % 3) * 10**8}
        records.append(market.record("quote", at + 0.25, **prices, **sizes))
    write(tmp_path, records, MetricSetsConfig(sets=("microprice",)))
    check_same(tmp_path, ["microprice_stoikov"], (monday + 50, monday + 60))


@pytest.mark.parametrize("broken_by", ["trade", "quote", "end"])
def test_a_halt_that_is_told_again_behind_a_break_is_one(tmp_path, maker, broken_by):
    # Halted, then something breaks the stream, then halted again: within the range, and before it.
    market = Market(maker)
    records = [market.define(0, TICK), market.status(0, "trading")]
    for at in range(260):
        is_quoted = at < 100 or at > 110
        records += [market.quote(at + 0.2)] if is_quoted and at < 245 else []
        records.append(market.trade(at + 0.5, at))
        if at in (100, 150, 245):
            records.append(market.status(at + 0.6, "halted"))
        if at in (105, 200):
            gap = {"channel": broken_by, "since": at + 0.1}
            is_end = broken_by == "end"
            records.append(
                market.end(at + 0.7) if is_end else market.gap(at + 0.7, "closed", **gap)
            )
    write(tmp_path, records, MetricSetsConfig(sets=("l1", "flow"), windows_ms=(10_000,)))
    names = ["mid", "trades_10s", "spread_tw_10s"]
    check_same(tmp_path, names, (180, 195), (240, 258))


def test_which_way_the_price_moved_is_that_of_behind_the_last_gap(tmp_path, maker):
    # The price moves before a gap; behind it a trade comes, and long after that two more.
    market = Market(maker)
    records = [market.define(0, TICK), market.quote(0.2)]
    for at, number, ticks in ((40, 1, 0), (50, 2, 5), (70, 3, 5), (400.5, 4, 6), (410, 5, 6)):
        if number == 3:
            records.append(market.gap(60.1, "closed", since=59))
        price = PRICE + ticks * TICK
        records.append(market.trade(at, number, side=0, price=price))
    records.append(market.quote(420))
    sets = ("flow", "sign", "cost", "impact")
    write(tmp_path, records, MetricSetsConfig(sets=sets, windows_ms=(10_000,)))
    names = ["buy_volume_10s", "unsigned_volume_10s", "sign_tick", "effective_spread"]
    check_same(tmp_path, names, (395, 412))


def test_a_horizon_is_added_to_the_window(tmp_path, maker):
    market = Market(maker)
    records = [market.define(0, TICK)]
    for at in range(700):
        records += [market.quote(at + 0.2, ticks=2 + at // 100), market.trade(at + 0.5, at)]
    sets = MetricSetsConfig(sets=("cost",), windows_ms=(200_000,), horizons_ms=(300_000,))
    write(tmp_path, records, sets)
    check_same(tmp_path, ["realized_spread_300s_mean_200s"], (640, 650))


def test_what_has_decayed_for_long_is_forgotten(tmp_path, maker):
    # Forty lengths behind the last change of the mid, and the last trade, there is no value.
    market = Market(maker)
    records = [market.define(0, TICK)]
    records += [market.quote(at + 0.2, ticks=2 + at % 2) for at in range(10)]
    records += [market.trade(at + 9.5, at) for at in (0, 1)]
    records += [market.quote(at + 0.2) for at in range(10, 120)]
    write(tmp_path, records, MetricSetsConfig(sets=("decayed", "rates"), windows_ms=(1_000,)))
    names = ["ewma_vol_1s", "rate_ewma_trade_1s"]
    with tw.open(tmp_path) as lake:
        known, later = (both(lake, names, *each)[0].to_pylist() for each in ((40, 45), (60, 65)))
        assert all(row[name] > 0 for row in known for name in names)
        assert all(row[name] is None for row in later for name in names)
    check_same(tmp_path, names, (115, 118))


def test_a_gap_that_was_filled_later_spoils_what_it_broke(tmp_path, maker):
    # All windows began anew when it was told: what is of quotes is not complete either, as far as
    # its values reach; a mid is that of its moment.
    market = Market(maker)
    kept, told = [market.define(0, TICK)], []
    for at in range(300):
        kept.append(market.quote(at + 0.2, ticks=2 + at % 3))
        if at == 103:
            lost = {"first": 100, "last": 102, "count": 3, "since": 99.5}
            kept.append(market.gap(at + 0.5, "closed", **lost))
        trade = market.trade(at + 0.5, at)
        if 100 <= at <= 102:
            trade["flags"] |= 4 | 8
            trade["ts_recv"] = FIRST + 290 * SECOND
            told.append(trade)
        else:
            kept.append(trade)
    filled = market.gap(103.5, "repaired", late=190 * SECOND, **lost)
    records = [*kept, *told, filled, market.quote(301)]
    sets = MetricSetsConfig(sets=("l1", "decayed", "rates"), windows_ms=(1_000,))
    write(tmp_path, records, sets)
    with tw.open(tmp_path) as lake:
        live, made = both(lake, ["ewma_vol_1s"], 110, 120)
        assert live.to_pylist() != made.to_pylist()
        for name, start, is_complete in (
            ("ewma_vol_1s", 110, False),
            ("rate_ewma_trade_1s", 110, False),
            ("ewma_vol_1s", 160, True),
            ("spread_tw_1s", 104, False),
            ("spread_tw_1s", 106, True),
            ("mid", 104, True),
        ):
            live, _ = both(lake, [name], start, start + 10)
            assert live.coverage().is_complete == is_complete, (name, start)


def test_what_remembers_all_says_so_unless_all_is_there(tmp_path, maker):
    market = Market(maker)
    records = [market.define(0, TICK)]
    for at in range(200):
        records += [market.quote(at + 0.2, ticks=2 + at % 3), market.trade(at + 0.5, at)]
    write(tmp_path, records, MetricSetsConfig(sets=("dependence",), trade_windows=("count 3",)))
    with tw.open(tmp_path) as lake:
        for name in ("acf_sign_1", "count_3_vwap"):
            _, made = both(lake, [name], 150, 160)
            [row] = [one for one in made.coverage() if one["finding"] == "not_measured"]
            assert (row["cause"], row["symbol"]) == ("begun_anew", "BTCUSDT")
        live, made = both(lake, ["acf_mid_1"], 0, 160)
        assert "begun_anew" not in made.coverage()["cause"].to_pylist()
        assert made.to_pylist() == live.to_pylist()


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("ofi_99999999999s", True),
        ("ofi_92233720368547758079s", True),
        ("mid", {"sets": "depth"}),
        ("mid", {"symbols": "ETHUSDT"}),
        ("mid", {"windows_ms": "x"}),
    ],
)
def test_what_cannot_be_made_is_refused_in_words(tmp_path, maker, name, make):
    market = Market(maker)
    spine = SpineFolder(tmp_path)
    spine.append(market.define(0, TICK))
    spine.append(market.quote(1))
    within = FIRST, FIRST + 10 * SECOND
    with (
        tw.open(tmp_path) as lake,
        pytest.raises(QueryError, match=r"^(make: |the metrics cannot be made: )"),
    ):
        lake.metrics("BTCUSDT", name, *within, make=make)


def test_settings_that_were_noted_later_do_not_count(tmp_path, maker):
    market = Market(maker)
    records = [market.define(0, TICK)]
    for at in range(60):
        records += [market.quote(at + 0.2), market.trade(at + 0.5, at)]
    sets = MetricSetsConfig(sets=("flow",), windows_ms=(1_000,))
    spine = write(tmp_path, records, sets)
    note_settings(tmp_path, spine.source, sets.settings("agg_trade"), 10**9, FIRST + 50 * SECOND)
    check_same(tmp_path, ["trades_1s"], (30, 40))
    # Where they change within the range, it is told.
    with tw.open(tmp_path) as lake:
        for (start, end), is_told in (((30, 40), False), ((45, 55), True), ((52, 55), False)):
            for answer in both(lake, ["trades_1s"], start, end):
                found = [one for one in answer.notices() if "the setting channel was trade" in one]
                assert bool(found) == is_told
