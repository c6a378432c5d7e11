"""Metrics from the settings to a wide frame, and what is said of those that are not there."""

import runpy
from pathlib import Path

import numpy as np
import pytest

import tapeworks as tw
from conftest import START, RecordMaker
from tapeworks import _core
from tapeworks.config import Section, Value
from tapeworks.errors import ConfigError, QueryError
from tapeworks.lake import TABLES
from tapeworks.processors.derive import Derivation
from tapeworks.settings import MetricSetsConfig, ProcessorsConfig, resolve_config
from tapeworks.tape import TapeConfig
from tapeworks.topics import METRICS
from tapeworks.views.metric_names import settings_of

ROOT = Path(__file__).resolve().parents[2]
SECOND = 10**9
# On the grid of seconds.
FIRST = START - START % SECOND + SECOND
SETS = MetricSetsConfig(sets=("l1", "ofi", "flow"), windows_ms=(1_000, 2_000))


def quotes_of(maker, seconds):
    """One quote half a second after each second, whose bid gains one unit of size each time."""
    steps = np.arange(seconds)
    ts = FIRST + steps * SECOND + SECOND // 2
    return maker.rows(
        "quote",
        seconds,
        instrument=1,
        ts_event=ts,
        ts_recv=ts + 1_000_000,
        bid_price=100 * 10**9,
        bid_size=(1 + steps) * 10**8,
        ask_price=101 * 10**9,
        ask_size=2 * 10**8,
        sequence=1 + steps,
        flags=1,
    )


def derive(spine, config=SETS):
    processors = ProcessorsConfig(measured=config.settings("trade"))
    derivation = Derivation(processors, TapeConfig("never"), spine.path, spine.source)
    assert derivation.drain(60.0)
    derivation.close()


@pytest.fixture
def measured(spine, maker):
    """Quotes of ten seconds, half of whose metrics are in the lake."""
    spine.append(maker.definitions())
    quotes = quotes_of(maker, 10)
    spine.append(quotes[:6])
    derive(spine)
    spine.drain()
    spine.drain(METRICS)
    spine.append(quotes[6:])
    derive(spine)
    return spine


def test_a_column_for_each_metric_and_nulls_until_covered(measured):
    # At second k the book holds k bids of size: one gained in each second before it.
    with tw.open(measured.path) as lake:
        frame = lake.metrics("BTCUSDT", ["mid", "ofi_1s", "ofi_2s", "queue_imbalance"])
        rows = frame.to_pylist()
        assert frame.columns[4:] == ["mid", "ofi_1s", "ofi_2s", "queue_imbalance"]
        assert [row["mid"] for row in rows] == [100.5] * 9
        # The first change has nothing before it, and no window reaches back to it yet.
        assert [row["ofi_1s"] for row in rows] == [None, *[1.0] * 8]
        assert [row["ofi_2s"] for row in rows] == [None, None, *[2.0] * 7]
        sizes = range(1, 10)
        assert [row["queue_imbalance"] for row in rows] == [(k - 2) / (k + 2) for k in sizes]
        stamps = np.asarray(frame["ts_event"].cast("int64")) * 1_000
        assert stamps.tolist() == [FIRST + (1 + k) * SECOND for k in range(9)]
        [[count]] = (
            lake.sql("select count(*) from metrics where metric = 'ofi_2s' and value is null")
            .to_arrow()
            .to_pandas()
            .to_numpy()
            .tolist()
        )
        assert count == 2
        state = lake.sql("select distinct state, \"window\" from metrics where metric = 'ofi_2s'")
        assert state.to_pylist() == [{"state": "ok", "window": 2 * SECOND}]
        # Later than the last sample, there are none: that is no error.
        late = lake.metrics("BTCUSDT", "mid", "2024-01-01", "2024-01-02")
        assert len(late) == 0


def test_replayed_from_the_lake_they_are_the_same_records(measured):
    # The tape against what its rows in the lake make: every byte, nulls among them.
    with tw.open(measured.path) as lake:
        batches = list(lake.replay(["BTCUSDT"], kinds="metrics"))
        names = {row["metric"] for batch in batches for row in batch["metrics"].to_pylist()}
    assert {"mid", "ofi_2s", "tfi_1s"} <= names
    assert TABLES["metrics"].replayed_as == "metrics"


def test_a_metric_that_is_not_there_is_named(measured):
    with tw.open(measured.path) as lake:
        with pytest.raises(QueryError, match="'ofi_3s' is held: did you mean ofi_2s"):
            lake.metrics("BTCUSDT", "ofi_3s")
        with pytest.raises(QueryError, match="expected names of metrics"):
            lake.metrics("BTCUSDT", [])


def test_a_range_without_a_value_of_a_metric_that_is_held_has_nulls(spine, maker):
    # A window of trades has rows where there were trades: a second without one is no wrong name.
    spine.append(maker.definitions())
    for at, name in ((1, b"mid"), (1, b"tumbling_1s_volume"), (2, b"mid")):
        ts = FIRST + at * SECOND
        row = maker.rows("metric", 1, instrument=1, ts_event=ts, ts_recv=ts, metric=name, count=1)
        row["value"] = np.float64(at)
        spine.append(row, "market-data.metrics", covers=2)
    with tw.open(spine.path) as lake:
        names = ["mid", "tumbling_1s_volume"]
        found = lake.metrics("BTCUSDT", names, FIRST + 2 * SECOND, FIRST + 3 * SECOND)
        assert [[row[name] for name in names] for row in found.to_pylist()] == [[2.0, None]]
        with pytest.raises(QueryError, match="'tumbling_1s_volum' is held"):
            lake.metrics("BTCUSDT", "tumbling_1s_volum", FIRST, FIRST + 3 * SECOND)


def test_where_nothing_was_measured_it_is_said(spine, maker):
    spine.append(maker.definitions())
    spine.append(quotes_of(maker, 3))
    with tw.open(spine.path) as lake, pytest.raises(QueryError, match="`make=True` makes") as error:
        lake.metrics("BTCUSDT", "mid")
    assert "nothing was measured of BTCUSDT" in str(error.value)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("ofi_1000ms", "expected ofi_1s, got 'ofi_1000ms'"),
        ("ofi_1m", "expected ofi_60s, got 'ofi_1m'"),
        ("ofi", "ofi has a window: expected a name such as ofi_10s"),
        ("ofi_0s", "ofi_0s: expected a window above 0"),
        ("late_trades", "expected one beside it, such as tumbling_10s_vwap"),
        ("depth_bid_5", "did you mean depth_bid_L5"),
        ("cost_buy_1.0", "did you mean cost_buy_1"),
        ("depth_bid_5bps", "of the whole book"),
        ("depth_bid_L5", "of the whole book"),
        ("mlofi_3_10s", "of the whole book"),
        ("midd", "did you mean mid"),
    ],
)
def test_a_name_of_a_metric_is_whole_or_refused(name, told):
    with pytest.raises(QueryError) as error:
        settings_of([name], {})
    assert told in str(error.value)


def test_an_outage_is_null_and_empties_the_windows(spine, maker):
    # A gap of the quotes between seconds 4 and 5: one sample of nulls, then warm-up again.
    spine.append(maker.definitions())
    quotes = quotes_of(maker, 9)
    spine.append(quotes[:5])
    ts = int(quotes["ts_event"][4]) + 1
    numbers = {
        "code": _core.numbers("marker_code")["gap"],
        "cause": _core.numbers("gap_cause")["disconnect"],
        "state": _core.numbers("gap_state")["closed"],
        "channel": _core.numbers("channel")["quote"],
    }
    gap = maker.rows("marker", 1, instrument=1, ts_event=ts, ts_recv=ts + 1_000_000, **numbers)
    gap["count"], gap["ts_start"] = 2**32 - 1, _core.NONE
    spine.append(gap)
    spine.append(quotes[5:])
    derive(spine)
    with tw.open(spine.path) as lake:
        rows = lake.metrics("BTCUSDT", ["mid", "ofi_1s"]).to_pylist()
        # At second 5 the book is still not known; the quote half a second later is its first.
        assert [row["mid"] for row in rows] == [*[100.5] * 4, None, None, *[100.5] * 3]
        assert [row["ofi_1s"] for row in rows] == [None, 1, 1, 1, None, None, None, 1, 1]
        # Where all is null, the reason is not that a side is empty.
        for make in (False, True):
            within = FIRST + 5 * SECOND, FIRST + 5 * SECOND + 1
            [said] = lake.metrics("BTCUSDT", "mid", *within, make=make).notices()[-1:]
            assert "mid has no value in this answer: the best prices were not known" in said
        states = lake.sql("select distinct state from metrics where value is null order by 1")
        assert None in {row["state"] for row in states.to_pylist()}


@pytest.mark.slow
def test_a_metric_without_any_value_says_why(measured):
    # Ten seconds of quotes alone: what is made of trades or single orders cannot be, bars of a
    # minute are too few, and what has values is not spoken of.
    def said(found):
        return [line for line in found.notices() if "has no value" in line]

    names = ["mid", "tfi_1s", "vpin_true", "hawkes_lambda", "cancel_ratio_1s", "ofi_beta"]
    trades = "it is made of trades, and none are recorded"
    with tw.open(measured.path) as lake:
        found = lake.metrics("BTCUSDT", names, make=True)
        assert said(found) == [
            f"tfi_1s has no value in this answer: {trades}",
            f"vpin_true has no value in this answer: {trades}",
            f"hawkes_lambda has no value in this answer: {trades}",
            "cancel_ratio_1s has no value in this answer: it is made of single orders, and none "
            "are recorded: the feed tells none",
            "ofi_beta has no value in this answer: fewer than 10 buckets with a mid at both edges "
            "and a known tick size, or ofi does not vary",
        ]
        assert said(lake.metrics("BTCUSDT", ["mid", "ofi_1s"])) == []
        found = lake.metrics("BTCUSDT", ["mid", "vwap_1s"])
        assert said(found) == [f"vwap_1s has no value in this answer: {trades}"]
    measured.append(trades_at(RecordMaker(), [FIRST + 2 * SECOND]))
    measured.drain()
    with tw.open(measured.path) as lake:
        found = lake.metrics("BTCUSDT", ["vpin_true", "hawkes_lambda"], make=True)
        assert said(found) == [
            "vpin_true has no value in this answer: fewer buckets than `vpin_buckets` were filled, "
            "or their size is not known yet (`vpin_volume` sets it; without it, it is a fiftieth "
            "of the mean of whole days)",
            "hawkes_lambda has no value in this answer: no parameters are given, as by "
            'make={"hawkes": "0.2,0.5,1.0"}',
        ]


@pytest.mark.slow
def test_what_a_snapshot_did_not_reach_is_said_to_be_a_bound(spine, maker):
    # Of five bids, as many as were asked for, and two asks: they end within 500 bps, not in 300.
    channels, codes = _core.numbers("channel"), _core.numbers("marker_code")
    known = {"instrument": 1, "ts_event": FIRST, "ts_recv": FIRST, "sequence": 1}
    mark = {**known, "channel": channels["snapshot"], "count": 7, "state": 1, "first": 1}
    sides = {"side": [1] * 5 + [2] * 2, "size": 10**8, "channel": channels["snapshot"]}
    prices = np.array([100, 99, 98, 97, 96, 101, 102]) * SECOND
    spine.append(maker.definitions())
    spine.append(maker.rows("marker", 1, code=codes["snapshot_begin"], **mark))
    spine.append(maker.rows("level", 7, price=prices, **known, **sides))
    spine.append(maker.rows("marker", 1, code=codes["snapshot_end"], **mark))
    for second in range(1, 5):
        update = {"sequence": 1 + second, "previous": second, "price": 101 * SECOND, "side": 2}
        stamps = dict.fromkeys(("ts_event", "ts_recv"), FIRST + second * SECOND)
        change = {"channel": channels["depth"], "size": 10**8, "flags": 1}
        spine.append(maker.rows("level", 1, **(known | update | stamps | change)))
    derive(spine, MetricSetsConfig(sets=("depth",), bands_bps=(300, 500)))
    spine.drain()
    spine.drain(METRICS)
    with tw.open(spine.path) as lake:
        known_whole = lake.metrics("BTCUSDT", ["depth_bid_300bps", "depth_complete_bid_500bps"])
        assert not any("bound" in told for told in known_whole.notices())
        assert known_whole.to_pylist()[-1]["depth_complete_bid_500bps"] == 0
        bound = lake.metrics("BTCUSDT", ["depth_bid_500bps", "depth_ask_500bps"])
        [told] = [told for told in bound.notices() if "bound" in told]
    assert bound.to_pylist()[-1]["depth_bid_500bps"] == 5
    assert told.startswith("depth_bid_500bps is a bound in 3 of its rows (flags & 32")


def test_what_was_never_measured_is_no_part_of_a_complete_answer(measured, maker):
    # Recorded and not measured: the stage is behind, given up, or was taken out of the settings.
    measured.append(quotes_of(maker, 60)[10:])
    derive(measured, MetricSetsConfig())
    end = FIRST + 50 * SECOND
    with tw.open(measured.path) as lake:
        assert lake.rows("quotes", "BTCUSDT", FIRST + SECOND, end).coverage().is_complete
        mids = lake.metrics("BTCUSDT", "mid", FIRST + SECOND, end)
        joined = lake.asof("metrics", "quotes", "BTCUSDT", FIRST + SECOND, end, clock="event")
        for found in (mids, joined):
            assert not found.coverage().is_complete
            assert any("not yet known after" in line for line in found.notices())
        made = lake.metrics("BTCUSDT", "mid", FIRST + SECOND, end, make=True)
        assert made.coverage().is_complete
    derive(measured)
    with tw.open(measured.path) as lake:
        found = lake.metrics("BTCUSDT", "mid", FIRST + SECOND, end)
        assert found.coverage().is_complete
        assert len(found) == 49


def test_settings_switch_sets_on_and_are_checked():
    def resolved(**entries):
        table = Section("metrics", {key: Value(value, "test") for key, value in entries.items()})
        return resolve_config(Section("", {"metrics": table})).metrics

    assert resolved().settings("trade") == {}
    assert resolved(sets=["l1"]).settings("agg_trade")["channel"] == "agg_trade"
    for entries, told in (
        ({"sets": ["l9"]}, r"sets: expected any of l1, ofi, flow.*got 'l9'"),
        ({"windows_ms": [1500]}, "expected multiples of interval_ms, 1000"),
        ({"windows_ms": [10**9]}, "up to 65536 times that"),
        ({"horizons_ms": [10**14]}, "expected lengths from 1 to"),
        ({"windows_ms": [0]}, "expected lengths from 1 to"),
        ({"interval": 5}, r"metrics\.interval is not a setting; did you mean"),
    ):
        with pytest.raises(ConfigError, match=told):
            resolved(**entries)


@pytest.mark.slow
def test_a_metric_has_one_value_a_moment_however_often_it_is_named(spine, maker):
    # Both sets have the sizes at the best prices where levels are of one; lists may repeat.
    config = MetricSetsConfig(
        sets=("l1", "depth", "cost"),
        levels=(1, 5, 1),
        bands_bps=(5, 5),
        sizes=(1.0, 1.0),
        horizons_ms=(1_000, 5_000, 1_000),
    )
    spine.append(maker.definitions())
    spine.append(quotes_of(maker, 3))
    derive(spine, config)
    rows = np.concatenate(
        [
            np.frombuffer(batch.numpy("metric"), np.dtype(_core.dtype_descr("metric")))
            for batch in iter(_core.TapeReader(spine.tape(METRICS)).read, None)
        ]
    )
    of_time = rows[rows["ts_event"] == rows["ts_event"][0]]
    assert len(np.unique(of_time["metric"])) == len(of_time)
    [size] = of_time[of_time["metric"] == b"depth_bid_L1"]["value"]
    assert size == 1.0
    assert list(of_time["flags"] & 1) == [0] * (len(of_time) - 1) + [1]


def test_nothing_is_measured_unless_it_is_asked_for(spine, maker):
    spine.append(maker.definitions())
    spine.append(quotes_of(maker, 3))
    derive(spine, MetricSetsConfig())
    assert not spine.tape(METRICS).exists()


def test_made_when_asked_for_they_are_those_that_were_measured(measured):
    # The same names from the table and made of the quotes: every value and null of every moment.
    names = ["mid", "ofi_1s", "ofi_2s", "queue_imbalance", "spread_tw_2s"]
    with tw.open(measured.path) as lake:
        stored = lake.metrics("BTCUSDT", names).to_arrow()
        made = lake.metrics("BTCUSDT", names, make=True).to_arrow()
        assert made.to_pydict() == stored.to_pydict()
        # A part of it, whose first window reaches back before its start.
        start = FIRST + 6 * SECOND
        part = lake.metrics("BTCUSDT", "ofi_2s", start, make=True).to_pylist()
        assert [row["ofi_2s"] for row in part] == [2.0] * 4
        # None of these was measured: another window, another set, one of each event.
        other = lake.metrics("BTCUSDT", ["ofi_500ms", "latency_raw"], make=True).to_pylist()
        assert {row["latency_raw"] for row in other} == {None, 1_000_000.0}
        each = lake.metrics("BTCUSDT", "mid", make={"interval_ms": 0})
        assert len(each) == 10


def test_what_decays_is_made_from_as_far_back_as_it_counts(spine, maker):
    # Of a move of a minute before, a part of e^-6 is left in a window of ten seconds.
    spine.append(maker.definitions())
    quotes = quotes_of(maker, 600)
    quotes["bid_price"] -= np.arange(600) % 7 * 10**7
    quotes["bid_price"][:500] -= np.arange(500) % 2 * 10**9
    spine.append(quotes)
    with tw.open(spine.path) as lake:
        start = FIRST + 590 * SECOND
        whole = lake.metrics("BTCUSDT", "ewma_vol_10s", FIRST, make=True).to_pylist()
        part = lake.metrics("BTCUSDT", "ewma_vol_10s", start, make=True).to_pylist()
    wanted = [row["ewma_vol_10s"] for row in whole][-len(part) :]
    assert len(part) >= 9
    assert [row["ewma_vol_10s"] for row in part] == pytest.approx(wanted, rel=1e-12)


def trades_at(maker, ts):
    """A trade of one unit at each of `ts`."""
    count, numbers = len(ts), np.arange(len(ts))
    own = {"price": 10**9, "size": 10**8, "count": 1, "side": 1, "channel": 1, "flags": 1}
    return maker.rows(
        "trade", count, instrument=1, ts_event=ts, ts_recv=ts, sequence=numbers, **own
    )


def test_windows_of_trades_are_made_from_as_far_back_as_they_reach(spine, maker):
    # A trade a second without a pause: windows of ten minutes reach behind `start`, and when the
    # session began nobody has read.
    spine.append(maker.definitions())
    ts = FIRST - FIRST % (600 * SECOND) + np.arange(1_900) * SECOND
    spine.append(trades_at(maker, np.append(ts, ts[-1] + 20 * SECOND)))
    start, end = int(ts[700]), int(ts[-1]) + 10 * SECOND
    names = ["tumbling_600s_volume", "sliding_600s_60s_trades"]
    with tw.open(spine.path) as lake:
        rows = lake.metrics("BTCUSDT", names, start, end, make=True).to_pylist()
        session = lake.metrics("BTCUSDT", "session_5s_trades", start, end, make=True).to_pylist()
    found = [row[names[0]] for row in rows if row[names[0]] is not None]
    assert found == [600.0] * 2
    assert [row[names[1]] for row in rows] == [600.0] * 20
    assert [row["session_5s_trades"] for row in session] == [None]


def test_window_that_nothing_follows_is_made_as_time_goes_on(spine, maker):
    # The other instrument shows that time went on, as it did live: its records are not asked for.
    spine.append(maker.definitions())
    trades = trades_at(maker, FIRST + np.arange(900) * SECOND)
    trades["instrument"][11:] = 2
    spine.append(trades)
    derive(spine, MetricSetsConfig(trade_windows=("tumbling 1s",)))
    name, start = "tumbling_1s_trades", FIRST + 5 * SECOND
    with tw.open(spine.path) as lake:
        for end in (None, FIRST + 20 * SECOND):
            live = lake.metrics("BTCUSDT", name, start, end).to_pylist()
            assert [row[name] for row in live] == [1.0] * 7
            assert lake.metrics("BTCUSDT", name, start, end, make=True).to_pylist() == live


def test_each_count_of_trades_of_one_time_is_a_row(spine, maker):
    # Sweeps of ten trades of one time: as many rows as there are pairs, with all of the volume.
    spine.append(maker.definitions())
    spine.append(trades_at(maker, FIRST + np.arange(100) // 10 * SECOND))
    derive(spine, MetricSetsConfig(trade_windows=("count 2",)))
    with tw.open(spine.path) as lake:
        for make in (False, True):
            rows = lake.metrics("BTCUSDT", "count_2_volume", make=make).to_pylist()
            assert [row["count_2_volume"] for row in rows] == [2.0] * 50


def test_rows_meet_one_metric_and_are_refused_all(measured):
    # Right behind each sample but the last a quote comes: it meets the sample before it, by name.
    with tw.open(measured.path) as lake:
        with pytest.raises(QueryError, match="such as metric='ofi_10s'"):
            lake.asof("quotes", "metrics", "BTCUSDT")
        with pytest.raises(QueryError, match="quotes has no metrics"):
            lake.asof("quotes", "quotes", "BTCUSDT", metric="mid")
        with pytest.raises(QueryError, match="did you mean ofi_2s"):
            lake.asof("quotes", "metrics", "BTCUSDT", metric="ofi_3s")
        met = lake.asof("quotes", "metrics", "BTCUSDT", metric="ofi_2s", clock="event")
        rows = met.to_pylist()
        assert {row["metrics_metric"] for row in rows} == {None, "ofi_2s"}
        assert [row["metrics_value"] for row in rows] == [None] * 3 + [2.0] * 7
        assert [row["metrics_ts_event"] for row in rows[1:]] == [
            row["ts_event"] for row in lake.metrics("BTCUSDT", "ofi_2s").to_pylist()
        ]


def test_what_cannot_be_made_is_told(measured):
    with tw.open(measured.path) as lake:
        # One of the best prices is named like those of the book.
        best = lake.metrics("BTCUSDT", ["depth_bid_L1"], make=True)["depth_bid_L1"]
        assert best.to_pylist() == list(range(1, 10))
        for name in ("ofi", "mid_1s", "nothing", "ofi_1s_mean_2s", "realized_spread_1s"):
            with pytest.raises(QueryError, match=f"got '{name}'"):
                lake.metrics("BTCUSDT", name, make=True)
        for name in (
            "depth_bid_25bps",
            "imbalance_L5",
            "cost_buy_1000",
            "mlofi_3_10s",
            "gap_bid_1",
        ):
            with pytest.raises(QueryError, match=f"{name} is of the whole book"):
                lake.metrics("BTCUSDT", name, make=True)
        with pytest.raises(
            QueryError, match=r"cannot be made: .*expected multiples of interval_ms"
        ):
            lake.metrics("BTCUSDT", "ofi_1s", make={"interval_ms": 300})


def test_a_metric_of_ones_own_is_the_same_at_any_batch_size_and_across_a_restart(maker):
    # Trades in batches of 1, 7 and 4096, and with a restart in each place: one output. Each VWAP is
    # that of the trades of its 10 ms, but for those of the instant at which the stream began.
    example = ROOT / "examples" / "own_metric.py"
    make = runpy.run_path(str(example))["Vwap"]
    trades = maker.trades(120)
    trades["ts_event"] = FIRST + np.arange(120) * 1_000_000
    trades["price"] = 10**9 + np.arange(120) % 7 * 10**7
    trades["size"] = 10**8 * (1 + np.arange(120) % 5)

    def run(size, restart=None):
        vwap, out = make(), b""
        for at in range(0, len(trades), size):
            if at == restart:
                state = vwap.snapshot()
                vwap = make()
                vwap.restore(state)
            out += bytes(vwap.process(_core.Records.from_bytes(trades[at : at + size].tobytes())))
        return out

    whole = run(4096)
    assert whole == run(7) == run(1)
    assert all(run(1, restart) == whole for restart in range(0, 120, 11))
    metrics = np.frombuffer(whole, np.dtype(_core.dtype_descr("metric")))
    for row in metrics:
        begin, of_it = int(row["ts_event"]) - 10**7, trades["instrument"] == row["instrument"]
        if trades["ts_event"][of_it][0] >= begin:
            assert np.isnan(row["value"])
            continue
        of_it &= (trades["ts_event"] >= begin) & (trades["ts_event"] < row["ts_event"])
        part = trades[of_it]
        vwap = np.average(part["price"] / 1e9, weights=part["size"].astype(float))
        assert row["count"] == len(part)
        assert abs(row["value"] - vwap) < 1e-12
    assert len(metrics) > 20
