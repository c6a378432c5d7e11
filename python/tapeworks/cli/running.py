"""Running a pipeline in the foreground: the supervisor, and a screen or log lines beside it."""

import logging
import time
from collections.abc import Callable
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.logging import RichHandler

from tapeworks.cli.console import console, problems
from tapeworks.cli.screen import Screen, last_line, one_line
from tapeworks.errors import VenueError
from tapeworks.feeds.outcome import EXIT_INCOMPLETE, exit_code_of, read_outcome
from tapeworks.pipeline import Config, Supervisor, stop_on_signals
from tapeworks.printable import PrintableFormatter
from tapeworks.views.status import Status

OUTCOMES = """\
At the end it says of each source what was recorded, and exits with
  0  all that was asked for was recorded; streams that may be quiet may have been silent
  1  a recorder failed
  3  nothing was recorded, or not all: a stream was refused, never subscribed, or silent
     though it should speak; a book never verified; frames shed
Gaps are told, and are in the ledger (`tape gaps`): they change no exit code.
"""
SCREEN_SECONDS = 0.5
LINE_SECONDS = 5.0

SecondsOption = Annotated[
    float | None,
    typer.Option("--seconds", min=0.1, help="End by itself after so long. [default: Ctrl-C ends]"),
]


def run(
    config: Config,
    seconds: float | None,
    *,
    title: str = "tape",
    before_stop: Callable[[], None] | None = None,
    quiet: bool = False,
) -> int:
    """Runs `config` until Ctrl-C, SIGTERM or `seconds`, then stops it in order.

    Says at the end what was achieved, and returns the exit code that means it.

    `before_stop` is called while everything still runs. `quiet` keeps standard output free.
    """
    say = problems if quiet else console
    _log_to(say)
    supervisor, started_ns = Supervisor(config), time.time_ns()
    stop = stop_on_signals()
    status = Status(config.data)
    started = shown = time.monotonic()
    say.print(f"recording into [bold]{config.data}[/]; logs in {supervisor.logs}; Ctrl-C ends")

    def due(every_s: float) -> bool:
        nonlocal shown
        now = time.monotonic()
        if now - shown < every_s:
            return False
        shown = now
        return True

    def ended() -> bool:
        return bool(stop) or (seconds is not None and time.monotonic() - started >= seconds)

    def note() -> str:
        return f"{time.monotonic() - started:.0f} s · Ctrl-C ends"

    def ending() -> bool:
        over = ended()
        if over and before_stop is not None:
            before_stop()
        return over

    try:
        if say.is_terminal:
            screen = Screen(title, say)
            with Live(console=say, auto_refresh=False, transient=True) as live:

                def look() -> bool:
                    if due(SCREEN_SECONDS):
                        live.update(screen.draw(status.sample(), note()), refresh=True)
                    return ending()

                supervisor.run(look)
        else:

            def tell() -> bool:
                if due(LINE_SECONDS):
                    say.print(one_line(status.sample()), soft_wrap=True)
                return ending()

            supervisor.run(tell)
    except VenueError as error:
        problems.print(f"tape: {error}", style="red", markup=False, soft_wrap=True)
        return EXIT_INCOMPLETE
    say.print(last_line(status.sample()), soft_wrap=True)
    return _tell_outcomes(config, started_ns, say)


def _tell_outcomes(config: Config, started_ns: int, say: Console) -> int:
    """Prints what each source was asked and what was achieved; returns the exit code."""
    sources = [feed.name for feed in config.feeds.values()]
    outcomes = [read_outcome(config.data, source, started_ns) for source in sources]
    for outcome in outcomes:
        style = "red" if outcome.exit_code else ""
        for line in outcome.lines():
            say.print(line, style=style, markup=False, soft_wrap=True)
    return exit_code_of(outcomes)


def _log_to(say: Console) -> None:
    """Sends warnings above the screen, or as plain lines where there is none."""
    handler: logging.Handler = logging.StreamHandler()
    form = "%(asctime)s %(levelname)s %(message)s"
    if say.is_terminal:
        handler, form = RichHandler(console=say, show_path=False), "%(message)s"
    handler.setFormatter(PrintableFormatter(form))
    logging.basicConfig(level="INFO", handlers=[handler])
