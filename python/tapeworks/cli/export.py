"""`tape export`: a table and range as a file that other programs read."""

from pathlib import Path
from typing import Annotated

import typer

from tapeworks.cli.command import Application
from tapeworks.cli.options import DataOption
from tapeworks.cli.output import Format, write_result
from tapeworks.cli.reading import open_lake
from tapeworks.errors import ConfigError
from tapeworks.views.query import VIEWS

FORMATS = {".parquet": Format.PARQUET, ".csv": Format.CSV, ".jsonl": Format.JSONL}

app = Application()

EXAMPLES = """\
Examples:
  tape export trades trades.parquet --symbol BTCUSDT --from 2026-11-20 --to 2026-11-21
  tape export bars bars.csv

The file extension selects the format: .parquet, .csv or .jsonl. A file of that name is replaced
once all is written; where that fails, it stays as it is.
"""


@app.command(epilog=EXAMPLES)
def export(
    table: Annotated[str, typer.Argument(help="A table of the lake, such as trades.")],
    output: Annotated[Path, typer.Argument(help="The file to write.")],
    symbol: Annotated[str | None, typer.Option(help="Only this symbol.")] = None,
    start: Annotated[str | None, typer.Option("--from", help="Start, UTC.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="End, UTC; not included.")] = None,
    source: Annotated[
        str | None, typer.Option(help="Only this source; * takes a symbol of all.")
    ] = None,
    data: DataOption = None,
) -> None:
    """Write a table and range as Parquet, CSV or JSON lines."""
    if table not in VIEWS:
        raise ConfigError(f"expected a table of {', '.join(VIEWS)}, got {table!r}")
    if output.suffix not in FORMATS:
        raise ConfigError(f"expected a file ending in {', '.join(FORMATS)}, got {output.name!r}")
    lake = open_lake(data)
    result = lake.rows(table, symbol, start, end, source=source)
    write_result(result.to_arrow(), FORMATS[output.suffix], output)
    typer.echo(f"{len(result):,} rows of {table} in {output}")
