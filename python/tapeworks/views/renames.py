"""Stocks under the symbols that they had before: rows of each, from the days when it was so called.

A symbol belongs to one stock after another, and a stock has one symbol after another. Which rows
are meant by a symbol is decided by date: those under it since the change that gave it to the stock,
and before that those under the former symbol, as far as changes are known (`corporate_actions`, of
the same source). A change holds from midnight in New York of its day on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC

import pyarrow as pa

from tapeworks.new_york import midnight_of
from tapeworks.views.coverage import GAP, REPAIRED, Coverage
from tapeworks.views.opened import Opened
from tapeworks.views.query import Scope
from tapeworks.views.recorded import Asked
from tapeworks.views.result import Result
from tapeworks.views.symbols import Chosen

CHANGE = "symbol_change"
CHANGES_MAX = 64
"""More changes of one stock are not followed: they would go round in a circle."""
ORDER = ("ts_event", "ts_event_ns", "tape_offset")

Changes = dict[tuple[str, str], list[tuple[int, str]]]
"""By source and symbol: when a stock came to be called so, in ns, and what it was called before."""


@dataclass(frozen=True)
class Part:
    """A symbol of a source, and the range in which it is meant; a side may be open."""

    source: str
    symbol: str
    start: int | None
    end: int | None


def parts_of(
    changes: Changes, source: str, symbol: str, first: int | None, last: int | None
) -> list[Part]:
    """Returns the symbols that the stock had which `symbol` names at the end of the range."""
    parts: list[Part] = []
    name, end = symbol, last
    for _ in range(CHANGES_MAX):
        told = [
            change for change in changes.get((source, name), ()) if end is None or change[0] < end
        ]
        since, former = max(told, default=(None, ""))
        is_before = since is None or (first is not None and since <= first)
        parts.append(Part(source, name, first if is_before else since, end))
        if is_before:
            break
        name, end = former, since
    return parts[::-1]


def joined_coverage(found: Sequence[Coverage], asked: Asked) -> Coverage:
    """Returns what several answers lack, as that of one answer about `asked`."""
    tables = [one.to_arrow() for one in found]
    gaps, rest = [], []
    for table in tables:
        # A few rows; `pyarrow.compute` would be loaded for every question.
        is_gap = [finding in (GAP, REPAIRED) for finding in table["finding"].to_pylist()]
        gaps.append(table.filter(pa.array(is_gap, pa.bool_())))
        rest.append(table.filter(pa.array([not one for one in is_gap], pa.bool_())))
    recorded = {each.source: each for one in found for each in one.recorded}
    return Coverage(pa.concat_tables([*gaps, *rest]), "coverage", list(recorded.values()), asked)


class Renames(Opened):
    """What `Lake` follows changes of symbols with."""

    def _followed(
        self,
        chosen: Chosen,
        first: int | None,
        last: int | None,
        ask: Callable[[Chosen, int | None, int | None], Result],
    ) -> Result:
        """Returns what `ask` gives of each symbol that the stocks had, in its own part."""
        changes = self._changes(chosen.sources)
        parts = [
            part
            for source, names in (chosen.symbols or {}).items()
            for name in names
            for part in parts_of(changes, source, name, first, last)
        ]
        if all(part.start == first and part.end == last for part in parts):
            return ask(chosen, first, last)
        found = [
            ask(Chosen([part.source], {part.source: [part.symbol]}), part.start, part.end)
            for part in parts
        ]
        table = pa.concat_tables([one.to_arrow() for one in found], promote_options="permissive")
        keys = [(name, "ascending") for name in ORDER if name in table.column_names]
        symbols = ", ".join(dict.fromkeys(part.symbol for part in parts))
        return Result(
            table.sort_by(keys),
            f"{found[-1].title} (as {symbols})",
            lambda: joined_coverage([one.coverage() for one in found], (first, last)),
        )

    def _changes(self, sources: list[str]) -> Changes:
        changes: Changes = defaultdict(list)
        # Files of before there were such changes have no column for the former symbol.
        sql = f"select * from corporate_actions where action = '{CHANGE}'"
        for row in self._engine.run(sql, ["corporate_actions"], Scope(sources)).to_pylist():
            day = row["ts_event"].astimezone(UTC).date()
            change = midnight_of(day), row["former"]
            if change not in (known := changes[row["venue"], row["symbol"]]):
                known.append(change)
        return changes
