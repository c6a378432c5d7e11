"""Corrections of earlier trades that were told in a gap, and are on no tape.

What a venue cancels or corrects is told later than the trade, on its own day in New York: a gap
behind a range may have taken what amends the trades in it. What fills the gap has trades, as they
stand by then; only of feeds that count corrections with all else it has these as well.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from tapeworks._core import loses_corrections
from tapeworks.new_york import day_at, midnight_of
from tapeworks.topics import NORMALIZED, RAW
from tapeworks.views.entries import gaps_sql
from tapeworks.views.findings import row_of
from tapeworks.views.query import Engine, Scope
from tapeworks.views.recorded import NOT_CORRECTED, Wanted
from tapeworks.views.symbols import Chosen
from tapeworks.views.times import moment_ns

TOLD_WITH = (("trade", "agg_trade", "order"),)
"""Channels whose streams tell corrections."""


def missed_corrections(
    engine: Engine, data: Path, chosen: Chosen, first: int | None, last: int | None
) -> Iterator[dict[str, Any]]:
    """Yields a finding for each gap, behind the start of a range, that may have taken corrections
    of its trades. One that touches the range, and is not filled, says so by itself."""
    feeds = _feeds(engine, chosen)
    sources = [name for name in chosen.sources if loses_corrections(feeds.get(name, 0), "", False)]
    if not sources:
        return
    symbols = chosen.symbols and {name: chosen.symbols[name] for name in sources}
    until = None if last is None else midnight_of(day_at(last - 1) + timedelta(1))
    sql = gaps_sql(data, Chosen(sources, symbols), first, until, TOLD_WITH)
    for row in engine.run(sql, ["gaps"], Scope(sources)).to_pylist():
        start, end = (_ns(row[name], row[f"{name}_ns"]) for name in ("ts_from", "ts_to"))
        is_filled = row["state"] == "repaired"
        if start is None or row["topic"] not in (None, RAW, NORMALIZED):
            continue
        is_behind = first is None or first < start
        is_of_day = last is None or midnight_of(day_at(start)) < last
        is_told = not is_filled and (last is None or start < last)
        if is_told or not (is_behind and is_of_day):
            continue
        if loses_corrections(feeds[row["venue"]], row["symbol"] or "", is_filled):
            about = Wanted(row["symbol"] or "", row["channel"] or "", [])
            yield row_of(row["venue"], NOT_CORRECTED, row["cause"], about, (start, end))


def _feeds(engine: Engine, chosen: Chosen) -> dict[str, int]:
    """Returns the number of the feed of each source."""
    sql = "select venue, max(feed) as feed from instruments group by venue"
    rows = engine.run(sql, ["instruments"], Scope(chosen.sources)).to_pylist()
    return {row["venue"]: row["feed"] for row in rows}


def _ns(moment: datetime | None, rest: int | None) -> int | None:
    return None if moment is None else moment_ns(moment, rest)
