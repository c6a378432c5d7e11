"""What an answer does not show by itself: gaps in what was queried, names that match nothing.

A notice concerns what the SQL names: its tables, sources, symbols, and bounds of time written as
literals beside a column of time. What a query narrows down otherwise counts as not narrowed.
"""

import re
from collections.abc import Callable

from tapeworks.errors import TapeworksError
from tapeworks.views.lake import Lake
from tapeworks.views.query import is_of_all_lengths, table_of, tables_in
from tapeworks.views.times import parse_time

LITERAL = re.compile(r"'([^']+)'")
COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
# A column of time, such as `t.ts_event`, and the literal beside it.
TIME = r"\b(?:\w+\.)?(ts_\w+|date)(?:::\w+)?\s*"
VALUE = r"(?:timestamptz\b|timestamp\b|date\b)?\s*'([^']+)'"
BETWEEN = re.compile(rf"{TIME}between\s+{VALUE}\s+and\s+{VALUE}", re.IGNORECASE)
COMPARED = re.compile(rf"{TIME}(>=?|<=?|=)\s*{VALUE}", re.IGNORECASE)
DAY_NS = 86_400_000_000_000


def notices(lake: Lake, sql: str) -> list[str]:
    """Returns what to say beside the answer to `sql`."""
    sql = COMMENT.sub(" ", sql)
    told = []
    if is_of_all_lengths(sql):
        told.append(
            "bars holds bars of all lengths, which sums count several times: bars_1m and the like "
            "hold those of one, or add `where interval_ms = 60000`"
        )
    literals = set(LITERAL.findall(sql))
    symbols = set(lake.symbols()) if literals else set()
    for written in sorted(literals - symbols):
        if written.upper() in symbols:
            told.append(
                f"symbols are compared as they are stored: {written!r} is {written.upper()!r}"
            )
    if count := gaps_of(lake, sql, literals & symbols, literals & set(lake.sources())):
        touch = "1 gap touches" if count == 1 else f"{count:,} gaps touch"
        told.append(f"{touch} what was queried: see `tape gaps`")
    return told


def gaps_of(lake: Lake, sql: str, symbols: set[str], sources: set[str]) -> int:
    """Returns the number of gaps in what `sql` asks for, of `symbols` and `sources` if named."""
    groups = [group for table in tables_in(sql) for group in table_of(table).channels]
    channels = {channel for group in groups for channel in group}
    if not channels:
        return 0
    try:
        found = lake.gaps(None, *time_bounds(sql)).to_arrow()
    except TapeworksError:
        # Bounds that exclude each other: nothing was asked for.
        return 0
    columns = (found.column(name).to_pylist() for name in ("channel", "symbol", "venue"))
    return sum(
        channel in {None, "session", *channels}
        and (not symbols or symbol in {None, *symbols})
        and (not sources or source in sources)
        for channel, symbol, source in zip(*columns, strict=True)
    )


def time_bounds(sql: str) -> tuple[int | None, int | None]:
    """Returns the widest bounds of time that `sql` writes as literals, in ns; the end is open."""
    compared = [found.groups() for found in COMPARED.finditer(sql)]
    for column, first, last in (found.groups() for found in BETWEEN.finditer(sql)):
        compared += [(column, ">=", first), (column, "<=", last)]
    # Bounds of several parts of a query are those of all of them together.
    lower = [_instant(text) for _, sign, text in compared if sign[0] in ">="]
    upper = [
        _instant(text, 0 if sign == "<" else DAY_NS if column.lower() == "date" else 1)
        for column, sign, text in compared
        if sign[0] in "<="
    ]
    return _widest(lower, min), _widest(upper, max)


def _instant(text: str, more: int = 0) -> int | None:
    try:
        return parse_time(text) + more
    except TapeworksError:
        # A time that only DuckDB reads.
        return None


def _widest(times: list[int | None], chosen: Callable[[list[int]], int]) -> int | None:
    known = [time for time in times if time is not None]
    return chosen(known) if known and len(known) == len(times) else None
