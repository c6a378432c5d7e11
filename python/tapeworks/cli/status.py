"""`tape status`: one screen of rates, lags, gaps, books and disk, read from the tapes."""

import contextlib
import time
from dataclasses import asdict
from typing import Annotated

import typer
from rich.live import Live

from tapeworks.cli.output import as_json, console
from tapeworks.cli.screen import picture
from tapeworks.cli.settings import DataOption, data_folder
from tapeworks.errors import QueryError
from tapeworks.views.status import PipelineState, Status

RATE_SECONDS = 1.0

app = typer.Typer(add_completion=False)


@app.command(epilog="Examples: tape status | tape status --once | tape status --json")
def status(
    data: DataOption = None,
    once: Annotated[bool, typer.Option("--once", help="Print once and end.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print once, as one JSON text.")] = False,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between looks.")] = 1.0,
) -> None:
    """Show rates, lags, gaps, books and disk, live. Works beside `tape up` in any terminal."""
    folder = data_folder(data)
    if not (folder / "tape").is_dir():
        raise QueryError(
            f"wanted recorded data in {folder}, found none: "
            "`tape demo` or `tape record binance BTCUSDT` makes some; --data names another folder"
        )
    look = Status(folder)
    state = look.sample()
    if json or once or not console.is_terminal:
        time.sleep(RATE_SECONDS)
        state = look.sample()
        if json:
            print(as_json(_plain(state)))
        else:
            console.print(picture(state, "tape status"))
        return
    live = Live(picture(state, "tape status"), console=console, screen=True)
    # Ctrl-C is how one leaves this screen: no failure.
    with contextlib.suppress(KeyboardInterrupt), live:
        while True:
            time.sleep(every)
            live.update(picture(look.sample(), "tape status", "Ctrl-C ends"))


def _plain(state: PipelineState) -> dict[str, object]:
    return {**asdict(state), "data": str(state.data)}
