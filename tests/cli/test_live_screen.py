"""The live screen at a terminal: what of it is left once it has ended."""

import time

import pytest
from tests.arrivals import told
from tests.cli.terminal import Terminal

from tapeworks.simulators import start_simulator

FRAME = "╭╮╰╯│─"
# The screen beside which a pipeline runs, as `run` shows it, and without a pipeline.
DISPLAY = """
import time
from pathlib import Path
from tapeworks.cli.console import console
from tapeworks.cli.running import _Display
from tapeworks.pipeline import stop_on_signals
from tapeworks.views.status import Status

stop = stop_on_signals()
console.print("before")
with _Display("tape", console, Status(Path("data"))) as display:
    while not stop:
        display.look()
        time.sleep(0.02)
console.print("recorded")
"""


@pytest.fixture
def folder(spine, maker):
    """A folder with a data folder of one source."""
    spine.append(maker.definitions())
    spine.append(maker.trades(10))
    return spine.path.parent


def ended(terminal: Terminal) -> list[str]:
    terminal.type("\x03")
    code, _ = terminal.end()
    terminal.close()
    assert code == 0, terminal.raw
    assert not terminal.screen.cursor.hidden
    return terminal.shown()


@pytest.mark.parametrize(("rows", "columns"), [(24, 60), (24, 100), (4, 60)])
def test_nothing_of_the_screen_is_left(folder, rows, columns):
    # Whatever is typed meanwhile moves nothing; a frame that is higher than the terminal goes, too.
    terminal = Terminal(folder, rows=rows, columns=columns, program=DISPLAY)
    terminal.until(r"Ctrl-C stops|\.\.\.")
    terminal.type("typed\n\nblindly")
    time.sleep(0.7)
    assert ended(terminal) == ["before", "recorded"]


def test_a_resized_terminal_shows_one_frame(folder):
    # A narrower one wraps each line of the frame that is there: all is drawn anew.
    terminal = Terminal(folder, rows=30, columns=100, program=DISPLAY)
    terminal.until("Ctrl-C stops")
    terminal.resize(24, 60)
    terminal.until("Ctrl-C stops")
    terminal.until("Ctrl-C stops")
    assert sum("╭" in line for line in terminal.shown()) == 1
    assert not any(set(line) & set(FRAME) for line in ended(terminal))


@pytest.mark.slow
def test_after_ctrl_c_the_last_line_says_what_was_recorded(tmp_path):
    # A recording at a small terminal, as a person ends it.
    with start_simulator(
        "binance", "--symbols", "BTCUSDT", "--rate", "60", "--levels", "50"
    ) as exchange:
        words = ["record", "binance", "BTCUSDT", "--set", f"ws_url={exchange.ws_url}"]
        words += ["--set", f"rest_url={exchange.rest_url}"]
        terminal = Terminal(tmp_path, *words, rows=24, columns=60)
        terminal.until("books verified")
        # The book is verified by levels alone: that a trade came, too, is waited for.
        deadline = time.monotonic() + 60
        while told(tmp_path / "data", "binance-spot").get("outcome", {}).get("spoke") != 3:
            assert time.monotonic() < deadline
            terminal.until("Ctrl-C stops")
        first, *lines = ended(terminal)
    assert first.startswith("recording into data")
    assert not any(set(line) & set(FRAME) for line in lines)
    assert "this run: 3 of 3 streams received data" in " ".join(lines[-3:])
    assert max(map(len, lines)) <= 60
