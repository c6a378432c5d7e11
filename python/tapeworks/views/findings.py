"""Findings on an answer: their rows, and the sentences on what was not carried or not measured."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from tapeworks.views.recorded import (
    BEGUN_ANEW,
    FILLED_LATER,
    NOT_CORRECTED,
    NOT_KNOWN,
    NOT_MEASURED,
    NOT_SUBSCRIBED,
    REFUSED,
    SILENT,
    Wanted,
)
from tapeworks.views.times import format_time, parse_time

NAMES_SHOWN = 5
TOLD = {
    NOT_SUBSCRIBED: "not subscribed",
    REFUSED: "refused by the venue",
    SILENT: "subscribed, and no message came",
    NOT_KNOWN: "not known by symbol and channel",
    NOT_MEASURED: "not measured",
    FILLED_LATER: "made before a gap was filled",
    BEGUN_ANEW: "made of less than live values remember, which may be others",
}


def told_parts(rows: list[dict[str, Any]]) -> list[str]:
    """Returns a sentence for each range in which streams were not carried, or metrics not measured,
    naming a few of them."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        if row["finding"] in (NOT_SUBSCRIBED, NOT_KNOWN, NOT_MEASURED, NOT_CORRECTED):
            is_other = row["finding"] != NOT_CORRECTED
            cause = row["cause"] if is_other else NOT_CORRECTED
            key = cause, row["ts_from"], row["ts_to"], row["venue"]
            named = f"{row['symbol'] or 'any symbol'} {row['channel'] or ''}"
            groups.setdefault(key, []).append(named.strip())
    lines = []
    for (cause, start, end, venue), names in groups.items():
        more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
        named = ", ".join(names[:NAMES_SHOWN]) + more
        if cause == NOT_CORRECTED:
            span = f"from {start} on" if end is None else f"from {start} to {end}"
            lines.append(f"corrections told {span} were not received: {named} ({venue})")
            continue
        lines.append(f"{TOLD[cause]}: {named}: {start} to {end} ({venue})")
    return lines


def row_of(
    source: str, finding: str, cause: str, wanted: Wanted | None, span: Sequence[int | None]
) -> dict[str, Any]:
    """Returns a row of findings: what is about nothing in particular has no symbol and channel."""
    start, end = span
    return {
        "finding": finding,
        "venue": source or None,
        "cause": cause,
        "symbol": (wanted and wanted.symbol) or None,
        "channel": (wanted and wanted.channel) or None,
        "ts_from": None if start is None else start // 1_000,
        "ts_from_ns": None if start is None else start % 1_000,
        "ts_to": None if end is None else end // 1_000,
        "ts_to_ns": None if end is None else end % 1_000,
    }


def rows_like(schema: pa.Schema, rows: list[dict[str, Any]]) -> pa.Table:
    """Returns `rows` with the columns of `schema`; what they do not name is null."""
    named = rows[0].keys() if rows else ()
    columns = [
        pa.array([row[column.name] for row in rows], column.type)
        if column.name in named
        else pa.nulls(len(rows), column.type)
        for column in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def time_text(ts: int | None) -> str | None:
    """Returns a time in ns as all times of a summary are written."""
    return None if ts is None else format_time(ts)


def one_format(text: Any) -> str | None:
    """Returns the time of a row as all times of a summary are written."""
    return None if text is None else format_time(parse_time(text))


def span_text(start: Any, end: Any) -> str:
    """Returns a range in words; none is a side on which it does not end."""
    if start is None:
        return "at any time" if end is None else f"before {end}"
    return f"from {start} on" if end is None else f"{start} to {end}"
