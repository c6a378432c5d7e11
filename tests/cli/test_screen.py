"""The status screen: what it says, at any width, and that it fits."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from tapeworks.cli.screen import RATES_SHOWN, Screen, sparks
from tapeworks.views.status import PipelineState, SourceState, TapeState

RAW, GAPS = "market-data.raw", "market-data.gaps"


def state(**more: object) -> PipelineState:
    tapes = [TapeState(RAW, 12_345, 12_300, 4 << 20, 961.0), TapeState(GAPS, 0, 0, 0, 0.0, 0)]
    source = SourceState("binance-spot", tapes, books={"BTCUSDT": "continuous"}, recorder={})
    for name, value in more.items():
        setattr(source, name, value)
    lake = {"trades": (2, 1 << 20), "_commits": (9, 1)}
    return PipelineState(Path("data"), [source], lake, 9 << 20, elapsed_s=1.0)


def drawn(shown: PipelineState, width: int = 100, terminal: bool = True) -> str:
    console = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=terminal,
        color_system=None,
        legacy_windows=False,
    )
    console.print(Screen("tape status", console).draw(shown, "Ctrl-C stops"))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
def test_screen_fits_and_says_what_matters_at_any_width(width: int):
    # What is not worth its room in a narrow terminal goes; the source, the count and the rate stay.
    shown = drawn(state(), width)
    assert max(map(len, shown.splitlines())) <= width
    for word in ("binance-spot", "12.35 k", "961", "raw"):
        assert word in shown


def test_screen_in_a_pipe_has_no_box():
    # Another program, or a log, reads it.
    shown = drawn(state(), 160, terminal=False)
    assert "╭" not in shown
    assert "1 of 1 books verified · no gaps" in shown


def test_streams_that_are_not_carried_are_counted():
    # What coverage will not call covered shows while it is so.
    outcome = {"refused": ["a@trade", "b@trade"], "overdue": ["c@depth"]}
    shown = drawn(state(recorder={"connections": [{}], "outcome": outcome}), 200)
    assert "1 connection, 2 streams refused, 1 stream overdue" in shown


def test_empty_gap_tape_is_told_in_words_and_a_gap_is_a_row():
    # A row of zeros says less than `no gaps`; what was lost is named by cause and state.
    assert "   gaps  " not in drawn(state())
    lost = state(gaps={"disconnect closed": 2})
    lost.sources[0].tapes[1].items = 2
    assert "gaps: 2 disconnect closed" in drawn(lost)
    assert "   gaps  " in drawn(lost)


def test_troubles_are_named():
    # A recorder that cannot write, one that is banned or whose rules raise, one that is gone, a
    # book that is not verified.
    failing = {"failure": "No space left on device", "pending_bytes": 5 << 20, "shed": 3}
    assert "CANNOT WRITE: No space left on device; 5.0 MiB wait" in drawn(state(recorder=failing))
    banned = {"banned_s": 120.0, "request_trouble": "/depth: the venue answered 418"}
    told = " ".join(drawn(state(recorder=banned)).split())
    assert "no requests for 120 s: /depth: the venue answered 418" in told
    assert "rules raised 7 times" in drawn(state(recorder={"feed_errors": {"control": 7}}))
    assert "not recording" in drawn(state(recorder=None))
    assert "0 of 1 books verified (not BTCUSDT)" in drawn(state(books={"BTCUSDT": "broken"}))


def test_sparks_rise_with_the_rate_newest_at_the_right():
    # The highest is a full bar, whatever it is; no rate, no bars.
    assert sparks([0, 50, 100]).strip() == "▁▅█"
    assert len(sparks([1.0])) == RATES_SHOWN
    assert sparks([0.0, 0.0]) == ""
