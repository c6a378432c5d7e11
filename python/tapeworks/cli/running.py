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
from tapeworks.pipeline import Config, Supervisor, stop_on_signals
from tapeworks.views.status import Status

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
) -> None:
    """Runs `config` until Ctrl-C, SIGTERM or `seconds`, then stops it in order.

    `before_stop` is called while everything still runs. `quiet` keeps standard output free.
    """
    say = problems if quiet else console
    _log_to(say)
    supervisor = Supervisor(config)
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
    say.print(last_line(status.sample()), soft_wrap=True)


def _log_to(say: Console) -> None:
    """Sends warnings above the screen, or as plain lines where there is none."""
    handler: logging.Handler = logging.StreamHandler()
    form = "%(asctime)s %(levelname)s %(message)s"
    if say.is_terminal:
        handler, form = RichHandler(console=say, show_path=False), "%(message)s"
    logging.basicConfig(level="INFO", format=form, handlers=[handler])
