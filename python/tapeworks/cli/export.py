"""`tape export`: a table and range as a file that other programs read."""

from pathlib import Path
from typing import Annotated

from tapeworks.cli.command import Application, argument, option
from tapeworks.cli.formats import FormatOption, format_of
from tapeworks.cli.options import DataOption, ExchangeOption, ProductOption, SourcesOption
from tapeworks.cli.output import note, write_result
from tapeworks.cli.reading import open_lake
from tapeworks.errors import ConfigError
from tapeworks.views.query import check_table

app = Application()

EXAMPLES = """\
Examples:
  tape export trades trades.parquet --symbol BTCUSDT --from 2026-11-20 --to 2026-11-21
  tape export bars bars.csv --interval 1s
  tape export trades - --format csv --symbol BTCUSDT | head
  tape export trades perpetual.csv --symbol BTCUSDT --product perpetual
  tape export bar_revisions all.csv      # of all lengths, also those that are not finished

--from and --to are by ts_event, the venue's clock; of gaps by ts_to. Prices and sizes are exact
decimals; their units: `tape query "describe trades"`. In CSV, lists are JSON.

The file extension selects the format: .parquet, .csv, .json or .jsonl. A file of that name is
replaced once all is written; where that fails, it stays as it is.
"""


@app.command(epilog=EXAMPLES)
def export(
    table: Annotated[str, argument(help="A table of the lake, such as trades.", names="tables")],
    output: Annotated[Path, argument(help="The file to write; - for standard output.")],
    symbol: Annotated[str | None, option(help="Only this symbol.", names="symbols")] = None,
    start: Annotated[str | None, option("--from", help="Start of event time, UTC.")] = None,
    end: Annotated[str | None, option("--to", help="End of event time, UTC; not included.")] = None,
    source: SourcesOption = None,
    exchange: ExchangeOption = None,
    product: ProductOption = None,
    interval: Annotated[
        str | None, option(help="Length of bars, such as 1s, 5m, 1h. [default: 1m]")
    ] = None,
    form: FormatOption = None,
    data: DataOption = None,
) -> None:
    """Write a table and range as Parquet, CSV, JSON or JSON lines."""
    check_table(table)
    if interval is not None and table != "bars":
        raise ConfigError(f"--interval is for bars: expected none for {table}, got {interval!r}")
    form = format_of(form, output)
    lake = open_lake(data)
    what = table
    if table == "bars":
        # Of one length, as `lake.bars` gives them: all together would count a trade several times.
        length = interval or "1m"
        what = f"finished bars of {length}"
        result = lake.bars(
            symbol, start, end, interval=length, source=source, exchange=exchange, product=product
        )
    else:
        result = lake.rows(
            table, symbol, start, end, source=source, exchange=exchange, product=product
        )
    write_result(result.to_arrow(), form, output, what)
    for told in result.notices():
        note(told)
