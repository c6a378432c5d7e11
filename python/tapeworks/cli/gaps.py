"""`tape gaps`: the ledger of what was lost."""

from typing import Annotated

import pyarrow as pa

from tapeworks.cli.cells import gap_state
from tapeworks.cli.command import Application, argument, ending_with, option
from tapeworks.cli.formats import Format, FormatOption, OutputOption, format_of
from tapeworks.cli.options import DataOption, ExchangeOption, ProductOption, SourceOption
from tapeworks.cli.output import write_result
from tapeworks.cli.reading import open_lake
from tapeworks.exits import EXIT_INCOMPLETE

EXAMPLES = """\
Examples:
  tape gaps
  tape gaps BTCUSDT --from 2026-11-20
  tape gaps BTCUSDT --channel trade
  tape gaps --json
  tape gaps --from 2026-11-20 --to 2026-11-21 --check && echo complete
"""

app = Application()
SHOWN = ["venue", "symbol", "channel", "cause", "state", "missing", "ts_from", "ts_from_ns"]
SHOWN += ["ts_to", "ts_to_ns"]
"""What fits on a screen; other formats have all columns."""


@app.command(epilog=EXAMPLES)
def gaps(
    symbol: Annotated[str | None, argument(help="Only this symbol.", names="symbols")] = None,
    start: Annotated[str | None, option("--from", help="Start of event time, UTC.")] = None,
    end: Annotated[str | None, option("--to", help="End of event time, UTC.")] = None,
    source: SourceOption = None,
    exchange: ExchangeOption = None,
    product: ProductOption = None,
    channel: Annotated[
        str | None, option(help="Only this channel, such as trade, quote or depth.")
    ] = None,
    form: FormatOption = None,
    output: OutputOption = None,
    check: Annotated[
        bool, option("--check", help="Exit with 3 unless the range is complete.")
    ] = False,
    data: DataOption = None,
) -> None:
    """List gaps, and what was not recorded or subscribed, or whose gaps are not known yet.

    The first line is the verdict: `complete`, `not complete`, `not recorded`, `not known`, the
    number of gaps, or `nothing is recorded here`. A gap is open (still losing), ended with data
    lost (`closed` in other formats and in SQL), or repaired; `missing` counts ids of trades, update
    ids of depth, or frames. In other formats the column `finding` says what a row is.
    """
    form = format_of(form, output)
    found = open_lake(data).coverage(
        symbol, start, end, source=source, exchange=exchange, product=product, channel=channel
    )
    ledger = found.ledger.to_arrow()
    with ending_with(EXIT_INCOMPLETE if check and not found.is_complete else 0):
        if form is not Format.TABLE or output is not None:
            write_result(found.to_arrow(), form, output)
        else:
            verdict, *more = found.summary()
            print(verdict)
            if len(ledger):
                write_result(in_words(ledger.select(SHOWN)), Format.TABLE, None)
            for line in more:
                print(line)


def in_words(ledger: pa.Table) -> pa.Table:
    """Returns the ledger with its states as a person reads them."""
    at = ledger.schema.get_field_index("state")
    states = ledger.column(at).to_pylist()
    return ledger.set_column(at, "state", pa.array([gap_state(one) for one in states]))
