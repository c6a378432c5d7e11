"""Running a pipeline in the foreground: the supervisor, and a screen or log lines beside it."""

import logging
import time
from collections.abc import Callable
from typing import Annotated

import typer
from rich.live import Live
from rich.logging import RichHandler

from tapeworks.cli.output import console, problems
from tapeworks.cli.screen import one_line, picture
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
    meanwhile: Callable[[], str] | None = None,
) -> Supervisor:
    """Runs `config` until Ctrl-C, SIGTERM or `seconds`, then stops it in order.

    `meanwhile` is called at every look; it returns a note for the screen.
    """
    logging.basicConfig(
        level="INFO",
        format="%(message)s",
        handlers=[RichHandler(console=problems, show_path=False)],
    )
    supervisor = Supervisor(config)
    stop = stop_on_signals()
    status = Status(config.data)
    started = shown = time.monotonic()
    console.print(f"recording into [bold]{config.data}[/]; logs in {supervisor.logs}; Ctrl-C ends")

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
        said = meanwhile() if meanwhile else ""
        return f"{time.monotonic() - started:.0f} s  {said}  Ctrl-C ends"

    if console.is_terminal:
        with Live(console=console, auto_refresh=False, transient=True) as live:

            def look() -> bool:
                if due(SCREEN_SECONDS):
                    live.update(picture(status.sample(), title, note()), refresh=True)
                return ended()

            supervisor.run(look)
    else:

        def tell() -> bool:
            if due(LINE_SECONDS):
                console.print(one_line(status.sample()), soft_wrap=True)
            return ended()

        supervisor.run(tell)
    console.print(one_line(status.sample()), soft_wrap=True)
    return supervisor
