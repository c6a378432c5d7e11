"""`tape gaps`: the ledger of what was lost."""

from typing import Annotated

import typer

from tapeworks.cli.command import Application
from tapeworks.cli.options import DataOption
from tapeworks.cli.output import Format, write_result
from tapeworks.cli.reading import open_lake

EXAMPLES = """\
Examples:
  tape gaps
  tape gaps BTCUSDT --from 2026-11-20
  tape gaps BTCUSDT --channel trade
  tape gaps --json
"""

app = Application()
SHOWN = ["venue", "symbol", "channel", "cause", "state", "missing", "ts_from", "ts_from_ns"]
SHOWN += ["ts_to", "ts_to_ns"]
"""What fits on a screen; `--json` has all columns."""


@app.command(epilog=EXAMPLES)
def gaps(
    symbol: Annotated[str | None, typer.Argument(help="Only this symbol.")] = None,
    start: Annotated[str | None, typer.Option("--from", help="Start, UTC.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="End, UTC.")] = None,
    source: Annotated[str | None, typer.Option(help="Only this source.")] = None,
    channel: Annotated[
        str | None, typer.Option(help="Only this channel, such as trade, quote or depth.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON text.")] = False,
    data: DataOption = None,
) -> None:
    """List gaps, and what was not recorded or subscribed, or whose gaps are not known yet.

    Gaps have a cause, a range in sequence and time, a time of detection and a state. With `--json`,
    the column `finding` says what a row is.
    """
    found = open_lake(data).coverage(symbol, start, end, source=source, channel=channel)
    ledger = found.gaps.to_arrow()
    if json:
        write_result(found.to_arrow(), Format.JSON, None)
        return
    if len(ledger):
        write_result(ledger.select(SHOWN), Format.TABLE, None)
    for line in found.summary():
        typer.echo(line)
