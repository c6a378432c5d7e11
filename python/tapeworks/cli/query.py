"""`tape query`: SQL over the lake and what is on the tape behind it."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from tapeworks.cli.command import Application, argument, option
from tapeworks.cli.options import DataOption
from tapeworks.cli.output import Format, note, write_result
from tapeworks.cli.reading import open_lake
from tapeworks.errors import QueryError
from tapeworks.views.lake import Lake
from tapeworks.views.query import is_of_all_lengths, table_of, tables_in

LITERAL = re.compile(r"'([^']+)'")

app = Application()

EXAMPLES = """\
Examples:
  tape query "show tables"
  tape query "describe trades"
  tape query "select * from trades where venue = 'binance-spot' and symbol = 'BTCUSDT' limit 10"
  tape query "select venue, symbol, count(*), sum(size) from trades group by all" --format json
  tape query "select * from bars_1m where symbol = 'BTCUSDT' order by ts_event"
  tape query "select * from quotes" --format parquet --output quotes.parquet

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
    sql: Annotated[str, argument(help="SQL in DuckDB's dialect.")],
    data: DataOption = None,
    form: Annotated[Format, option("--format", "-f", help="Output format.")] = (Format.TABLE),
    unsafe_external_access: Annotated[
        bool,
        option(
            "--unsafe-external-access",
            help="Let SQL read and write any file, attach databases and load extensions.",
        ),
    ] = False,
    output: Annotated[
        Path | None,
        option("--output", "-o", help="Write to this file instead of the screen."),
    ] = None,
) -> None:
    """Run SQL over all history, up to about a second ago."""
    if not sql.strip():
        raise QueryError('expected SQL, such as "show tables", got nothing')
    lake = open_lake(data, external_access=unsafe_external_access)
    result = lake.sql(sql)
    write_result(result.to_arrow(), form, output)
    if is_of_all_lengths(sql):
        note(
            "bars holds bars of all lengths, which sums count several times: bars_1m and the like "
            "hold those of one, or add `where interval_ms = 60000`"
        )
    named = set(LITERAL.findall(sql))
    symbols = set(lake.symbols()) if named else set()
    for written in sorted(named - symbols):
        if written.upper() in symbols:
            note(f"symbols are compared as they are stored: {written!r} is {written.upper()!r}")
    if count := gaps_of(lake, tables_in(sql), named & symbols):
        told = "1 gap touches" if count == 1 else f"{count} gaps touch"
        note(
            f"{told} what these tables hold{' of these symbols' if named & symbols else ''}: see "
            "`tape gaps`"
        )


def gaps_of(lake: Lake, tables: Sequence[str], symbols: set[str]) -> int:
    """Returns the number of gaps in what fills `tables`, of `symbols` where any are named."""
    groups = [group for table in tables for group in table_of(table).channels]
    channels = {channel for group in groups for channel in group}
    if not channels:
        return 0
    found = lake.gaps().to_arrow().select(["channel", "symbol"])
    rows = zip(*(column.to_pylist() for column in found.columns), strict=True)
    return sum(
        channel in {None, "session", *channels} and (not symbols or symbol in {None, *symbols})
        for channel, symbol in rows
    )
