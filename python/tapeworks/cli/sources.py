"""`tape sources`: what a data folder holds."""

from tapeworks.cli.command import Application
from tapeworks.cli.formats import FormatOption, OutputOption, format_of
from tapeworks.cli.options import DataOption, SourceOption
from tapeworks.cli.output import write_result
from tapeworks.cli.reading import open_lake

EXAMPLES = """\
Examples:
  tape sources
  tape sources --source binance-spot --format csv
"""

app = Application()


@app.command(epilog=EXAMPLES)
def sources(
    source: SourceOption = None,
    form: FormatOption = None,
    output: OutputOption = None,
    data: DataOption = None,
) -> None:
    """Show sources, symbols and tables, with their rows and first and last event time, UTC.

    Whether anything is missing in between says `tape gaps`.
    """
    form = format_of(form, output)
    write_result(open_lake(data).contents(source=source).to_arrow(), form, output)
