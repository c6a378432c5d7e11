"""A metric that was not measured in a part of a range: coverage says when, a notice names it."""

import numpy as np
import pytest

import tapeworks as tw
from conftest import START
from tapeworks.metric_stretches import Stretch, note_settings, read_stretches
from tapeworks.processors.derive import Derivation
from tapeworks.settings import MetricSetsConfig, ProcessorsConfig
from tapeworks.tape import TapeConfig
from tapeworks.topics import METRICS

SECOND = 10**9
FIRST = START - START % SECOND + SECOND


class Rig:
    """One source, whose events are a quote and a trade each second, and whose settings change."""

    def __init__(self, spine, maker, ahead=0):
        self.spine, self.maker, self.ahead = spine, maker, ahead
        spine.append(maker.definitions())

    def derive(self, low, high, *, instrument=1, **metrics):
        """Half a second after each of these seconds; measured with `metrics`."""
        rows = self.maker.rows
        steps = np.arange(low, high)
        ts = FIRST + steps * SECOND + SECOND // 2
        common = {"instrument": instrument, "flags": 1}
        quotes = rows(
            "quote",
            len(steps),
            ts_event=ts,
            ts_recv=ts + self.ahead,
            bid_price=100 * SECOND,
            bid_size=(1 + steps * steps) * 10**8,
            ask_price=101 * SECOND,
            ask_size=2 * 10**8,
            sequence=1 + steps,
            **common,
        )
        trades = rows(
            "trade",
            len(steps),
            ts_event=ts + 1,
            ts_recv=ts + 1 + self.ahead,
            price=100 * SECOND,
            size=10**8,
            trade_id=1 + steps,
            channel=1,
            side=1,
            sequence=1_000 + steps,
            **common,
        )
        for at in range(len(steps)):
            self.spine.append(quotes[at : at + 1])
            self.spine.append(trades[at : at + 1])
        config = MetricSetsConfig(windows_ms=(1_000,), **metrics)
        processors = ProcessorsConfig(measured=config.settings("trade"))
        derivation = Derivation(processors, TapeConfig("never"), self.spine.path, self.spine.source)
        assert derivation.drain(60.0)
        derivation.close()
        self.spine.drain()
        self.spine.drain(METRICS)


def told(found):
    """From which second to which one of which symbol which metric was not measured."""
    rows = [row for row in found.coverage() if row["finding"] == "not_measured"]
    seconds = [
        [(row[end].timestamp() - FIRST / SECOND) for end in ("ts_from", "ts_to")] for row in rows
    ]
    return [
        (row["symbol"], row["channel"], *map(round, span))
        for row, span in zip(rows, seconds, strict=True)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("noted", [True, False], ids=["noted", "by rows"])
def test_a_set_that_is_on_for_a_part_of_a_range(spine, maker, noted):
    # Best prices all the time, order flow from 8 to 16 alone. Rows tell it where notes are gone,
    # as in a lake that was copied without its states.
    rig = Rig(spine, maker)
    rig.derive(0, 8, sets=("l1",))
    rig.derive(8, 16, sets=("l1", "ofi"))
    rig.derive(16, 24, sets=("l1",))
    if not noted:
        (spine.path / "state" / spine.source / "metric-sets.json").unlink()
    with tw.open(spine.path) as lake:

        def ask(names, low, high, **more):
            return lake.metrics(
                "BTCUSDT", names, FIRST + low * SECOND, FIRST + high * SECOND, **more
            )

        both = ask(["mid", "ofi_1s"], 3, 6)
        assert [row["ofi_1s"] for row in both.to_pylist()] == [None] * 3
        assert told(both) == told(ask("ofi_1s", 3, 6)) == [("BTCUSDT", "ofi_1s", 3, 6)]
        assert not both.coverage().is_complete
        measured, advice = both.notices()
        assert measured.startswith("not measured: BTCUSDT ofi_1s: 2023-11-17T23:00:04Z to ")
        assert advice.startswith("lake.metrics(..., make=True) makes ofi_1s of what is recorded")
        made = ask(["mid", "ofi_1s"], 3, 6, make=True)
        assert made.coverage().is_complete
        assert [row["ofi_1s"] for row in made.to_pylist()] == [3.0, 5.0, 7.0]
        # What was measured all the time, and what was in this range, is complete.
        assert told(ask("mid", 3, 20)) == told(ask(["mid", "ofi_1s"], 10, 15)) == []
        assert ask(["mid", "ofi_1s"], 10, 15).coverage().is_complete
        parts = told(ask("ofi_1s", 3, 21))
        assert [part[:2] for part in parts] == [("BTCUSDT", "ofi_1s")] * 2
        assert (parts[0][2], parts[1][3]) == (3, 21)
        assert {parts[0][3], parts[1][2]} <= {8, 9, 16, 17}
        # The last value before the set was switched off is met, and it is said.
        low, high = FIRST + 20 * SECOND, FIRST + 23 * SECOND
        joined = lake.asof("trades", "metrics", "BTCUSDT", low, high, metric="ofi_1s")
        [(symbol, metric, since, until)] = told(joined)
        assert (symbol, metric, until) == ("BTCUSDT", "ofi_1s", 23)
        assert since in (16, 17)
        assert any(line.startswith("not measured: BTCUSDT ofi_1s") for line in joined.notices())
        mids = lake.asof("trades", "metrics", "BTCUSDT", low, high, metric="mid")
        assert mids.coverage().is_complete


@pytest.mark.slow
def test_symbols_and_windows_of_trades_that_were_left_out(spine, maker):
    # No row tells them apart from a symbol that was silent, and a second without a trade.
    rig = Rig(spine, maker)
    rig.derive(0, 4, sets=("l1",), symbols=("BTCUSDT",))
    rig.derive(0, 4, instrument=2, sets=("l1",), symbols=("BTCUSDT",))
    rig.derive(4, 8, instrument=2, sets=("l1",), trade_windows=("tumbling 1s",))
    rig.derive(4, 8, sets=("l1",), trade_windows=("tumbling 1s",))
    [before, since] = read_stretches(spine.path, spine.source)
    assert (before.first, before.since) == (0, None)
    assert since.since == FIRST + 3 * SECOND + SECOND // 2 + 1
    assert (before.symbols, since.symbols) == ({"BTCUSDT"}, frozenset())
    assert since.makes("tumbling_1s_volume")
    assert since.makes("late_trades")
    assert not before.makes("late_trades")
    assert not since.makes("tumbling_2s_volume")
    assert not since.makes("mid\tx")
    with tw.open(spine.path) as lake:
        window = FIRST + SECOND, FIRST + 3 * SECOND
        asked = [("ETHUSDT", "mid"), ("BTCUSDT", "mid"), ("BTCUSDT", "tumbling_1s_volume")]
        parts = [told(lake.metrics(symbol, name, *window)) for symbol, name in asked]
        assert parts == [
            [("ETHUSDT", "mid", 1, 3)],
            [],
            [("BTCUSDT", "tumbling_1s_volume", 1, 3)],
        ]
        every = told(lake.metrics(None, ["mid", "tumbling_1s_volume"], *window))
        assert [part[:2] for part in every] == [
            ("ETHUSDT", "mid"),
            ("SOLUSDT", "mid"),
            (None, "tumbling_1s_volume"),
        ]
        later = FIRST + 5 * SECOND, FIRST + 7 * SECOND
        assert [told(lake.metrics(symbol, name, *later)) for symbol, name in asked] == [[]] * 3


@pytest.mark.slow
@pytest.mark.parametrize("ahead_s", [-90, 120])
def test_made_they_are_as_measured_whatever_the_clock_of_the_host(spine, maker, ahead_s):
    # One instrument is silent from 20 on. By receipt, most of the range lies elsewhere.
    rig = Rig(spine, maker, ahead_s * SECOND)
    rig.derive(0, 20, sets=("l1", "ofi"))
    rig.derive(20, 60, instrument=2, sets=("l1", "ofi"))
    names = ["mid", "ofi_1s", "queue_imbalance_tw_1s"]
    with tw.open(spine.path) as lake:
        for low, high in ((0, 10), (15, 22), (20, 30)):
            window = FIRST + low * SECOND, FIRST + high * SECOND
            live = lake.metrics("BTCUSDT", names, *window)
            made = lake.metrics("BTCUSDT", names, *window, make=True)
            assert made.to_pylist() == live.to_pylist()
            assert len(made) >= {0: 9, 15: 5, 20: 0}[low]


def test_where_metrics_are_made_anew_later_notes_go(tmp_path):
    # A repair takes back what is behind an offset; what began there or behind it never was.
    l1, ofi = {"sets": "l1"}, {"sets": "l1,ofi"}
    note_settings(tmp_path, "s", l1, 0, None)
    note_settings(tmp_path, "s", l1, 5, 50)
    note_settings(tmp_path, "s", ofi, 7, 70)
    assert read_stretches(tmp_path, "s") == [Stretch(l1, 0), Stretch(ofi, 7, 70)]
    note_settings(tmp_path, "s", l1, 7, 70)
    assert read_stretches(tmp_path, "s") == [Stretch(l1, 0)]
    (tmp_path / "state" / "s" / "metric-sets.json").write_text("[{}]")
    assert read_stretches(tmp_path, "s") == []
