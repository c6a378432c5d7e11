"""`tape status`: one screen of rates, lags, gaps, books and disk, read from the tapes."""

import contextlib
import time
from dataclasses import asdict
from typing import Annotated

from rich.live import Live

from tapeworks.cli.cells import as_json
from tapeworks.cli.command import Application, option
from tapeworks.cli.console import console
from tapeworks.cli.formats import Report, ReportOption
from tapeworks.cli.keys import Keys
from tapeworks.cli.options import DataOption, recorded
from tapeworks.cli.screen import Screen
from tapeworks.views.status import PipelineState, Status

RATE_SECONDS = 1.0
LEAVES = ("q", "Q", "\x1b")

app = Application()


@app.command(epilog="Examples:\n  tape status\n  tape status --once\n  tape status --json")
def status(
    data: DataOption = None,
    once: Annotated[bool, option("--once", help="Print once and end.")] = False,
    form: ReportOption = Report.TEXT,
    every: Annotated[float, option(least=0.1, help="Seconds between refreshes.")] = 1.0,
) -> None:
    """Show rates, lags, gaps, books and disk, live. Works beside `tape up` in any terminal."""
    look = Status(recorded(data))
    screen = Screen("tape status", console)
    state = look.sample()
    if form is Report.JSON or once or not console.is_terminal:
        time.sleep(RATE_SECONDS)
        state = look.sample()
        if form is Report.JSON:
            print(as_json(_plain(state)))
        else:
            console.print(screen.draw(state))
        return
    live = Live(screen.draw(state), console=console, screen=True, auto_refresh=False)
    # Ctrl-C is another way to leave this screen: no failure.
    with contextlib.suppress(KeyboardInterrupt), live, Keys() as keys:
        while keys.wait(every) not in LEAVES:
            live.update(screen.draw(look.sample(), "q quits"), refresh=True)


def _plain(state: PipelineState) -> dict[str, object]:
    return {**asdict(state), "data": str(state.data)}
