"""The status screen: what it says, at any width, and that it fits."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from tests.cli.terminal import START, Terminal

from conftest import RecordMaker, SpineFolder
from tapeworks.cli.screen import RATES_SHOWN, Screen, last_line, one_line, sparks
from tapeworks.feeds.outcome import Outcome
from tapeworks.views.reach import Unknown
from tapeworks.views.status import PipelineState, SourceState, TapeState
from tapeworks.views.transfers import SinkState

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


def test_lake_that_is_switched_off_is_told_with_and_without_files():
    # `empty until the first flush` would promise what never comes.
    shown = state()
    shown.is_lake_off = True
    assert "1.0 MiB in 2 files, switched off in the settings: [sinks.parquet]" in drawn(shown)
    shown.lake = {}
    assert "switched off in the settings: [sinks.parquet]" in drawn(shown)
    assert "until the first flush" not in drawn(shown)


def test_each_sink_has_a_line_and_one_that_is_down_its_reason():
    # Over all tapes: what waits is summed, and the reason told once, on the screen and in the log.
    down = "Redis at localhost:6379: connection refused"
    sinks = [
        SinkState("redis", RAW, lag=2_000, lag_s=75, refusal=down),
        SinkState("redis", GAPS, lag=500, lag_s=93, refusal=down, rejected=2),
        SinkState("parquet", RAW),
    ]
    shown = state(sinks=sinks, troubles=[f"sink-redis: 2 tapes: not stored yet: {down}"])
    told = f"2,500 items not stored yet, the oldest for 93 s, 2 rejected: {down}"
    assert told in drawn(shown, 200)
    assert drawn(shown, 200).count(down) == 1
    assert "parquet  all stored" in drawn(shown, 200)
    assert one_line(shown).endswith(f"; redis: {told}")


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
    assert "gaps: 2 disconnect (ended, data lost)" in drawn(lost)
    assert "   gaps  " in drawn(lost)


def test_troubles_are_named():
    # A recorder that cannot write, one that is banned or whose rules raise, one that is gone, a
    # book that is not verified.
    failing = {"failure": "No space left on device", "pending_bytes": 5 << 20, "shed": 3}
    shown = drawn(state(recorder=failing), 200)
    assert "CANNOT WRITE: No space left on device; 5.0 MiB wait in memory, and it goes on" in shown
    assert "no gaps" not in shown
    banned = {"banned_s": 120.0, "request_trouble": "/depth: the venue answered 418"}
    told = " ".join(drawn(state(recorder=banned)).split())
    assert "no requests for 120 s: /depth: the venue answered 418" in told
    assert "rules raised 7 times" in drawn(state(recorder={"feed_errors": {"control": 7}}))
    assert "not recording" in drawn(state(recorder=None))
    assert "0 of 1 books verified (not BTCUSDT)" in drawn(state(books={"BTCUSDT": "broken"}))


def test_what_is_not_in_the_ledger_yet_is_no_absence_of_gaps():
    # Where somebody works on it, it is a matter of moments; where nobody does, it is told.
    waits = Unknown(1_700_262_000_000_000_000, 1_700_262_010_000_000_000, 1_592)
    told = "not yet known after 2023-11-17T23:00:00Z; 1,592 raw frames are in no table yet"
    for shown in (state(unknown=waits, recorder=None), state(unknown=waits)):
        assert told in drawn(shown, 200)
        assert "no gaps" not in drawn(shown, 200)
        assert last_line(shown) == f"binance-spot: on tape in all: 12,345 frames, {told}"
        assert told in one_line(shown)
    shown = state(unknown=waits, recorder=None, gaps={"sequence closed": 2})
    assert last_line(shown).endswith(f"12,345 frames, 2 gaps, {told}")
    assert f"gaps: 2 sequence (ended, data lost), {told}" in drawn(shown, 200)
    soon = Unknown(1_700_262_000_000_000_000, 1_700_262_000_100_000_000, 3)
    assert "no gaps" in drawn(state(unknown=soon, recorder={"connections": [{}]}), 200)


def test_the_end_tells_this_run_from_the_whole_folder():
    # One place counts gaps, the ledger; a source of which nothing came is not without gaps.
    shown = state(gaps={"disconnect closed": 4}, recorder=None, new_gaps=1)
    assert last_line(shown) == "binance-spot: on tape in all: 12,345 frames, 4 gaps"
    run = Outcome("binance-spot", streams=2, spoke=2, frames=287, gaps=1)
    [line] = run.lines()
    assert line.startswith("binance-spot: this run: 2 of 2 streams received data, 287 messages")
    assert "; 1 new gap, 0 dead letters, 0 frames shed" in line
    silent = state(recorder=None)
    assert last_line(silent, ["binance-spot"]) == "binance-spot: on tape in all: 12,345 frames"
    assert last_line(silent) == "binance-spot: on tape in all: 12,345 frames, no gaps"


def test_every_number_of_the_line_says_what_it_counts():
    # At the first look there is no rate: nothing was measured yet.
    shown = state(recorder={}, gaps={"disconnect closed": 1})
    first = "binance-spot: 12,345 frames, "
    rest = "0 items to derive, 1 of 1 books verified, 1 gap"
    assert one_line(shown) == f"{first}961 frames/s, {rest}"
    shown.elapsed_s = 0.0
    assert one_line(shown) == first + rest
    for word in ("items/s", "to derive", "not synced"):
        assert word in drawn(shown, 100)


def test_sparks_rise_with_the_rate_newest_at_the_right():
    # The highest is a full bar, whatever it is; no rate, no bars.
    assert sparks([0, 50, 100]).strip() == "▁▅█"
    assert len(sparks([1.0])) == RATES_SHOWN
    assert sparks([0.0, 0.0]) == ""


def test_screen_fits_a_terminal_of_24_rows():
    # Two sources of many tapes: what the disk holds stays in sight, and the raw tapes do.
    topics = (RAW, *(f"market-data.{name}" for name in "abcdefgh"))
    sources = [
        SourceState(name, [TapeState(topic, 12_345, 12_300, 1, 961.0) for topic in topics])
        for name in ("binance-spot", "binance-usdm")
    ]
    whole = PipelineState(Path("data"), sources, {"trades": (2, 1)}, 9 << 20, elapsed_s=1.0)
    console = Console(
        file=io.StringIO(), width=60, height=24, force_terminal=True, color_system=None
    )
    screen = Screen("tape status", console)
    lines = ["".join(part.text for part in row) for row in console.render_lines(screen.draw(whole))]
    assert len(lines) < 24
    assert all(len(line) <= 60 for line in lines)
    for word in ("binance-spot", "binance-usdm", "disk", "raw"):
        assert any(word in line for line in lines), word


def test_q_leaves_the_live_status(tmp_path: Path):
    # One key, without Enter; the terminal is as it was.
    (tmp_path / "data" / "tape").mkdir(parents=True)
    terminal = Terminal(tmp_path, "status")
    try:
        terminal.until("q quits")
        terminal.type("q")
        code, shown = terminal.end()
    finally:
        terminal.close()
    assert code == 0
    assert "Traceback" not in shown


def test_completion_of_names(tmp_path: Path):
    # As a shell asks, at the press of Tab: symbols as they are stored, sources, tables, commands.
    spine = SpineFolder(tmp_path / "data")
    spine.append(RecordMaker().definitions())
    spine.close()
    for words, found in (
        ("tape book btc", "BTCUSDT"),
        ("tape gaps --source bin", "binance-spot"),
        ("tape export tra", "trades"),
        ("tape compl", "completion"),
    ):
        environment = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        shown = subprocess.run(
            [sys.executable, "-c", START],
            cwd=tmp_path,
            env={**os.environ, **environment, "_TAPE_COMPLETE": "bash_complete"},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout
        assert shown.split() == [f"plain,{found}"], words
