"""`tape query`: SQL over the lake and what is on the tape behind it."""

import sys
from typing import Annotated

from tapeworks.cli.command import Application, argument, option
from tapeworks.cli.formats import FormatOption, OutputOption, format_of
from tapeworks.cli.options import DataOption
from tapeworks.cli.output import note, write_result
from tapeworks.cli.reading import open_lake
from tapeworks.errors import ConfigError

app = Application()

EXAMPLES = """\
Examples:
  tape query "show tables"
  tape query "describe trades"
  tape query "select * from trades where venue = 'binance-spot' and symbol = 'BTCUSDT' limit 10"
  tape query "select venue, symbol, count(*), sum(size) from trades group by all" --format json
  tape query "select * from bars_1m where symbol = 'BTCUSDT' order by ts_event"
  tape query "select * from quotes" --output quotes.parquet
  tape query - < file.sql

Times are UTC to the microsecond; <name>_ns holds the rest of the nanosecond, 0 to 999:
  tape query "select * from trades where ts_event > now() - interval 1 hour"
  tape query "select venue, symbol, date_trunc('minute', ts_event) as minute, count(*)
    from trades group by all order by all"
  tape query "select symbol, epoch_ns(ts_event) + ts_event_ns as ns from trades limit 10"

A symbol of several sources has rows of each: group by venue, which holds the source, and symbol.
bars holds bars of all lengths; bars_1s, bars_1m and so on hold the finished ones of one length.
"""


@app.command(epilog=EXAMPLES)
def query(
    sql: Annotated[str, argument(help="SQL in DuckDB's dialect; - reads standard input.")],
    data: DataOption = None,
    form: FormatOption = None,
    unsafe_external_access: Annotated[
        bool,
        option(
            "--unsafe-external-access",
            help="Let SQL read and write any file, attach databases and load extensions.",
        ),
    ] = False,
    output: OutputOption = None,
) -> None:
    """Run SQL over all history, up to about a second ago."""
    sql, form = read_sql(sql), format_of(form, output)
    lake = open_lake(data, external_access=unsafe_external_access)
    result = lake.sql(sql)
    write_result(result.to_arrow(), form, output)
    for told in result.notices():
        note(told)


def read_sql(sql: str) -> str:
    """Returns what was written, or what stands on standard input where that is `-`.

    Raises:
        ConfigError: it is empty, or no text.
    """
    if sql.strip() == "-":
        try:
            sql = sys.stdin.read()
        except UnicodeDecodeError as error:
            raise ConfigError(f"expected SQL as UTF-8 on standard input: {error}") from None
    if not sql.strip():
        raise ConfigError('expected SQL, such as "show tables", got nothing')
    return sql
