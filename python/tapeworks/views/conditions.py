"""Conditions in SQL on the tables of the lake, such that files and row groups are skipped."""

from tapeworks.errors import ArgumentError
from tapeworks.views.query import quote
from tapeworks.views.times import TimeLike, format_time, parse_time


def parse_range(start: TimeLike | None, end: TimeLike | None) -> tuple[int | None, int | None]:
    """Returns both ends of a range in ns; none means unbounded.

    Raises:
        ArgumentError: either is no time, or the range is empty.
    """
    first = None if start is None else parse_time(start)
    last = None if end is None else parse_time(end)
    if first is not None and last is not None and first >= last:
        raise ArgumentError(
            f"expected start before end, got {format_time(first)} and {format_time(last)}"
        )
    return first, last


def time_condition(column: str, first: int | None, last: int | None) -> list[str]:
    """Returns what must hold of a row with `first <= time < last`, in ns; none means unbounded."""
    lower = [] if first is None else [from_time(column, first)]
    return lower + ([] if last is None else [before_time(column, last)])


def from_time(column: str, ts: int) -> str:
    """Returns the condition that a time is `ts` ns or later."""
    literal, rest = _literal(ts), ts % 1_000
    if not rest:
        return f"{column} >= {literal}"
    # The first part alone lets files and row groups be skipped.
    return f"({column} >= {literal} and ({column} > {literal} or {column}_ns >= {rest}))"


def before_time(column: str, ts: int) -> str:
    """Returns the condition that a time is before `ts` ns."""
    literal, rest = _literal(ts), ts % 1_000
    if not rest:
        return f"{column} < {literal}"
    return f"({column} <= {literal} and ({column} < {literal} or {column}_ns < {rest}))"


def _literal(ts: int) -> str:
    """Returns the microsecond in which `ts` ns lies, as SQL."""
    return f"timestamptz {quote(format_time(ts - ts % 1_000).replace('Z', '+00'))}"
