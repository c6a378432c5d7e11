"""Running a pipeline in the foreground: the supervisor, and a screen or log lines beside it."""

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated

from rich.console import Console
from rich.live import Live
from rich.logging import RichHandler
from rich.markup import escape
from rich.text import Text

from tapeworks.cli.command import option
from tapeworks.cli.console import console, problems
from tapeworks.cli.keys import Keys
from tapeworks.cli.screen import Screen, last_line, one_line
from tapeworks.errors import VenueError
from tapeworks.exits import EXIT_FAILED, EXIT_INCOMPLETE
from tapeworks.feeds.outcome import (
    Outcome,
    exit_code_of,
    read_outcome,
)
from tapeworks.pipeline import Config, Supervisor, stop_on_signals
from tapeworks.views.status import Status
from tapeworks.worker import LogFormatter

log = logging.getLogger("tapeworks.cli")

OUTCOMES = """\
At the end it reports what was recorded of each source, and exits with
  0  everything requested was recorded (streams that may be quiet may have been silent)
  1  a recorder failed
  3  nothing was recorded, or not everything: a stream was refused, never subscribed, or silent
     although data was due; a book was never verified; frames were shed
Gaps are reported, and are in the ledger (`tape gaps`); they do not change the exit code, but for
one that is open at the end since its connection is down: 3.
"""
SCREEN_SECONDS = 0.5
LINE_SECONDS = 5.0

SecondsOption = Annotated[
    float | None,
    option(
        "--seconds",
        least=0.1,
        help="Stop so many seconds after the start. [default: run until Ctrl-C]",
    ),
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

    Says at the end what was achieved, and returns the exit code that means it. `before_stop` is
    called while everything still runs. `quiet` keeps standard output free.

    Raises:
        TapeLockedError: a source is recorded already; nothing was started.
        ConfigError, CorruptTapeError: nothing can be recorded, and why.
    """
    say = problems if quiet else console
    _log_to(say)
    supervisor = Supervisor(config)
    stop = stop_on_signals()
    started = time.monotonic()
    places = escape(str(config.data)), escape(str(supervisor.logs))
    told = f"recording into [bold]{places[0]}[/]; logs in {places[1]}; Ctrl-C stops"
    supervisor.on_start = lambda: say.print(told)

    with _Display(title, say, Status(config.data)) as display:
        display.mark()

        def until() -> bool:
            display.look()
            over = bool(stop) or (seconds is not None and time.monotonic() - started >= seconds)
            if over and before_stop is not None:
                before_stop()
            return over

        try:
            supervisor.run(until)
        except VenueError as error:
            problems.print(f"tape: {error}", style="red", markup=False, soft_wrap=True)
            return EXIT_INCOMPLETE
    outcomes = [
        read_outcome(config.data, feed.name, supervisor.run_id) for feed in config.feeds.values()
    ]
    display.tell_end(outcomes)
    for complaint in supervisor.complaints:
        say.print(complaint, style="red", markup=False, soft_wrap=True)
    return EXIT_FAILED if supervisor.complaints else exit_code_of(outcomes)


class _Display:
    """A screen, or a line now and then, beside what runs.

    What goes wrong with it is logged once, and never stops what runs.
    """

    def __init__(self, title: str, say: Console, status: Status) -> None:
        self._say = say
        self._status = status
        self._screen = Screen(title, say)
        self._live = Live(console=say, auto_refresh=False, transient=True)
        self._keys, self._size = Keys(), say.size
        self._every_s = SCREEN_SECONDS if say.is_terminal else LINE_SECONDS
        self._started = self._shown = time.monotonic()
        self._told: set[str] = set()

    def __enter__(self) -> "_Display":
        if self._say.is_terminal:
            self._keys.__enter__()
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if not self._say.is_terminal:
            return
        try:
            # A frame that is higher than the terminal could not be taken back by the end.
            self._live.update("", refresh=True)
        finally:
            self._live.stop()
            self._keys.__exit__(None, None, None)

    def look(self) -> None:
        """Shows the state, if it is time to."""
        now = time.monotonic()
        if now - self._shown < self._every_s:
            return
        self._shown = now
        self._attempt(self._draw if self._say.is_terminal else self._print_line)

    def mark(self) -> None:
        """Takes what the ledger holds now for what was there before this run."""
        self._attempt(self._status.mark)

    def tell_end(self, outcomes: list[Outcome]) -> None:
        """Says what this run has achieved, and what the folder holds, when all has stopped."""
        self._attempt(lambda: self._print_end(outcomes))

    def _print_end(self, outcomes: list[Outcome]) -> None:
        state = self._status.sample()
        silent = [one.source for one in outcomes if one.ended and not one.frames]
        # At a terminal lines end between words; a log has them whole.
        whole = not self._say.is_terminal
        self._say.print(last_line(state, silent), markup=False, soft_wrap=whole)
        # The ledger counts: it is complete now, and what a recorder counted are notes of gaps.
        new_gaps = {source.name: source.new_gaps for source in state.sources}
        for outcome in outcomes:
            told = replace(outcome, gaps=new_gaps.get(outcome.source, 0))
            for line in told.lines():
                style = "red" if outcome.exit_code else ""
                self._say.print(line, style=style, markup=False, soft_wrap=whole)

    def _draw(self) -> None:
        if self._say.size != self._size:
            # The terminal has wrapped or moved the frame: where it began is not known any more.
            self._size = self._say.size
            self._say.clear()
        note = f"{time.monotonic() - self._started:.0f} s · Ctrl-C stops"
        self._live.update(self._screen.draw(self._status.sample(), note), refresh=True)

    def _print_line(self) -> None:
        self._say.print(one_line(self._status.sample()), markup=False, soft_wrap=True)

    def _attempt(self, show: Callable[[], None]) -> None:
        try:
            show()
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
            if problem not in self._told:
                self._told.add(problem)
                log.warning("the status cannot be shown, the recording goes on: %s", problem)


def _utc(moment: datetime) -> Text:
    return Text(moment.astimezone(UTC).strftime("%H:%M:%SZ"))


def _log_to(say: Console) -> None:
    """Sends warnings above the screen, or as plain lines where there is none."""
    handler: logging.Handler = logging.StreamHandler()
    form = "%(asctime)s %(levelname)s %(message)s"
    if say.is_terminal:
        handler, form = (
            RichHandler(console=say, show_path=False, log_time_format=_utc),
            "%(message)s",
        )
    handler.setFormatter(LogFormatter(form))
    logging.basicConfig(level="INFO", handlers=[handler])
