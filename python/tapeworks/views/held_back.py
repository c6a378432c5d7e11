"""Which trades change nothing of a bar, or not all of it, by their conditions.

The rules are those of the core, by feed: a bar that is made here is the one that the processor
`bars` builds. A trade without conditions changes all of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from tapeworks import _core
from tapeworks.views.conditions import time_condition
from tapeworks.views.query import Engine, Scope, quote
from tapeworks.views.symbols import Chosen

DAY_MS = 86_400_000


@dataclass(frozen=True)
class Rules:
    """What must hold of a trade, as SQL, so that it changes that part of a bar."""

    opens: str
    """Open and close."""
    ranges: str
    """High and low."""
    counts: str
    """Volume, turnover and number of trades."""


def rules_of(
    engine: Engine, chosen: Chosen, first: int | None, last: int | None, length_ms: int
) -> Rules | None:
    """Returns what holds trades of a range back from bars of `length_ms`; none if nothing does."""
    sql = "select distinct venue, feed from instruments"
    rows = engine.run(sql, ["instruments"], Scope(chosen.sources)).to_pylist()
    held = {
        row["venue"]: _core.held_back(row["feed"], is_daily=length_ms >= DAY_MS) for row in rows
    }
    if not any(any(parts) for parts in held.values()):
        return None
    where = [chosen.condition(), *time_condition("ts_event", first, last)]
    sql = (
        "select distinct venue, conditions from trades where conditions != 0 and "
        f"{' and '.join(where)} order by all"
    )
    told = engine.run(sql, ["trades"], Scope(chosen.sources, first, last)).to_pylist()
    tests = []
    for part in range(3):
        found: dict[str, list[int]] = {}
        for row in told:
            ids = {row["conditions"] & 255, row["conditions"] >> 8}
            if ids.intersection(held.get(row["venue"], ([], [], []))[part]):
                found.setdefault(row["venue"], []).append(row["conditions"])
        tests.append(_none_of(found))
    return None if tests == ["true"] * 3 else Rules(*tests)


def _none_of(found: dict[str, list[int]]) -> str:
    ruled_out = [
        f"(venue = {quote(venue)} and conditions in ({', '.join(map(str, values))}))"
        for venue, values in found.items()
    ]
    return f"not ({' or '.join(ruled_out)})" if ruled_out else "true"
