"""What was known at a time: an answer as of then, and what may be missing in it.

A gap that the history filled later was one at that time. What happened before it and was received
behind it was on its way: from the first such event on nothing is known.
"""

from collections.abc import Callable
from typing import Any

import pyarrow as pa

from tapeworks.views.conditions import time_condition
from tapeworks.views.coverage import GAP, REPAIRED, Coverage
from tapeworks.views.findings import row_of, rows_like
from tapeworks.views.heard import FROM_HISTORY
from tapeworks.views.query import Engine, Scope
from tapeworks.views.recorded import NEWS, NOT_CORRECTED, NOT_YET_KNOWN
from tapeworks.views.symbols import Chosen
from tapeworks.views.times import moment_ns

FILLED_MAX = 100
"""Of more gaps it is not asked which rows of a history filled them."""
Ask = Callable[[int | None, int | None], Coverage]


def coverage_then(
    engine: Engine,
    table: str,
    chosen: Chosen,
    first: int | None,
    last: int | None,
    as_of: int,
    ask: Ask,
) -> Coverage:
    """Returns the coverage of rows of `table` by what was known at `as_of`, in ns.

    `ask` gives that of a range by all that is known by now. A range that is open ends where all was
    known by then.
    """
    found = ask(first, last)
    known = {
        source: min(as_of, _first_later(engine, table, source, chosen, (first, last), as_of, found))
        for source in chosen.sources
    }
    ends = [each.ranges[-1][1] for each in found.recorded if each.ranges]
    until = min(known.values(), default=as_of)
    if last is None and ends and until < max(ends):
        found, last = ask(first, until), until
    rows = [_then(row, as_of) for row in found.to_arrow().to_pylist()]
    kept = [at for at, finding in enumerate(rows) if finding is not None]
    then = found.to_arrow().take(pa.array(kept, pa.int64()))
    at = then.schema.get_field_index("finding")
    findings = pa.array([rows[place] for place in kept], then.schema.field(at).type)
    then = then.set_column(at, then.schema.field(at), findings)
    end = found.asked[1]
    later = [
        row_of(source, NOT_YET_KNOWN, NOT_YET_KNOWN, None, (max(since, first or since), end))
        for source, since in known.items()
        if end is not None and since < end
    ]
    then = pa.concat_tables([then, rows_like(then.schema, later)])
    return Coverage(then, found.title, found.recorded, found.asked)


def _then(row: dict[str, Any], as_of: int) -> str | None:
    """Returns what a finding was at that time; none if there was none."""
    if row["finding"] == REPAIRED and _later(row, "ts_detected", as_of):
        return GAP
    # What is told later was not known in any case.
    is_later = row["finding"] == NOT_CORRECTED and _later(row, "ts_from", as_of)
    return None if is_later else str(row["finding"])


def _later(row: dict[str, Any], name: str, as_of: int) -> bool:
    moment, rest = row[name], row[f"{name}_ns"]
    return moment is None or moment_ns(moment, rest) > as_of


def _first_later(
    engine: Engine,
    table: str,
    source: str,
    chosen: Chosen,
    span: tuple[int | None, int | None],
    as_of: int,
    found: Coverage,
) -> int:
    """Returns when the first event happened that was received after `as_of`, or `as_of`."""
    if table == NEWS:
        # A story stands at the time at which it was made, also one that is corrected.
        return as_of
    filled = [row for row in found.to_arrow().to_pylist() if row["finding"] == REPAIRED]
    where = [chosen.condition(), *time_condition("ts_event", *span)]
    where.append(f"epoch_ns(ts_recv) + ts_recv_ns > {as_of}")
    if 0 < len(filled) <= FILLED_MAX:
        spans = " or ".join(_within(row) for row in filled)
        where.append(f"not (flags & {FROM_HISTORY} != 0 and ({spans}))")
    rows = engine.run(
        f"select min(epoch_ns(ts_event) + ts_event_ns) as since from original_{table} "
        f"where {' and '.join(where)}",
        [f"original_{table}"],
        Scope([source], *span),
    ).to_pylist()
    since = rows[0]["since"]
    return as_of if since is None else int(since)


def _within(row: dict[str, Any]) -> str:
    """Returns the test whether a row was lost in a gap."""
    if row["ts_from"] is None or row["ts_to"] is None:
        return "true"
    first, last = (moment_ns(row[name]) for name in ("ts_from", "ts_to"))
    return f"epoch_ns(ts_event) between {first} and {last + 1_000}"
