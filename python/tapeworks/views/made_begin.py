"""Where the records begin of which metrics of a range are made, and of what that is not enough.

Live values remember as far back as `metric_reach` says, which most often is a length of time. Of
what counts bars or days that had events it is where those are, if that is not too far; books of
single orders are empty when a day begins, so that it is read from there. What remembers more begins
anew, and is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tapeworks.new_york import day_at, midnight_of
from tapeworks.views.conditions import time_condition
from tapeworks.views.corrections import ORIGINALS
from tapeworks.views.held_back import rules_of
from tapeworks.views.live_order import HISTORICAL, NO_EVENT_TIME, OUT_OF_ORDER
from tapeworks.views.metric_reach import Settings, bars_of, reach_ns, reach_of
from tapeworks.views.query import Scope, quote
from tapeworks.views.reach import first_mentions
from tapeworks.views.replay import Replay

# So much later than it happened an event may be received, and so far may clocks be apart.
LATE_NS = 60_000_000_000
DAY_NS = 86_400_000_000_000
# So far back bars and days with events are looked for, of so many symbols.
FAR_NS, SYMBOLS_MAX = 8 * DAY_NS, 16
UNTIMED = HISTORICAL | NO_EVENT_TIME
EVENTS, QUOTED = ("trades", "quotes", "orders"), ("quotes", "orders")
INSTANT = "epoch_ns(ts_event) + ts_event_ns"


class Beginning(NamedTuple):
    """Where records begin."""

    ts: int | None
    """From which event on; none: from the first of all."""
    is_of_orders: bool = False
    """Whether they begin with a day of single orders."""
    unknown: Sequence[tuple[str, str]] = ()
    """Symbols and metrics for which that is too late: of the symbol "", all of them."""


def begin_of(replay: Replay, names: Sequence[str], settings: Settings) -> Beginning:
    """Returns where the records of one source begin of which `names` are made in its range."""
    first = replay.start
    if first is None:
        return Beginning(None)
    begin = first - LATE_NS - max(reach_ns(name, settings) for name in names)
    if begin < 0:
        return Beginning(None)
    search = _Search(replay, settings, first, begin)
    unknown = list[tuple[str, str]]()
    for name in names:
        reach = reach_of(name)
        if reach.counts_bars:
            begin, missing = search.go_back(search.bars(name), begin)
            unknown += [(symbol, name) for symbol in missing]
        elif reach.counts_days:
            begin, missing = search.go_back(search.days(), begin)
            unknown += [(symbol, name) for symbol in missing]
    is_of_orders = bool(settings["sets"]) and search.has_orders()
    if is_of_orders:
        begin = min(begin, midnight_of(day_at(begin)))
    endless = [name for name in names if reach_of(name).is_endless]
    older = [symbol for symbol in search.symbols if endless and search.has_before(symbol, begin)]
    unknown += [(symbol, name) for name in endless for symbol in older]
    return Beginning(begin, is_of_orders, _taken_together(unknown, len(search.symbols)))


def _taken_together(found: Sequence[tuple[str, str]], every: int) -> list[tuple[str, str]]:
    """Returns `found`, where all symbols are meant as one entry."""
    by_name: dict[str, list[str]] = {}
    for symbol, name in found:
        by_name.setdefault(name, []).append(symbol)
    return [
        (symbol, name)
        for name, symbols in by_name.items()
        for symbol in ([""] if len(symbols) == every > 1 else symbols)
    ]


class _Search:
    """Looks for what was before a range, of the symbols that are asked for."""

    def __init__(self, replay: Replay, settings: Settings, first: int, begin: int) -> None:
        self._replay, self._settings, self._first = replay, settings, first
        chosen = replay.chosen
        known = first_mentions(replay.engine.tail(chosen.sources[0]))
        self.symbols = list(known) if chosen.symbols is None else chosen.names
        self._is_few = len(self.symbols) <= SYMBOLS_MAX
        self._low = first - FAR_NS if self._is_few else begin

    def has_orders(self) -> bool:
        """Says whether the source tells single orders of the symbols."""
        sql = f"select 1 from orders where {self._replay.chosen.condition()} limit 1"
        source = Scope(self._replay.chosen.sources)
        return bool(self._replay.engine.run(sql, ["orders"], source).num_rows)

    def go_back(self, begins: Mapping[str, int | None], begin: int) -> tuple[int, list[str]]:
        """Returns the earliest of `begins`, by symbol, and of `begin`, and which symbols lack one.

        A symbol of which nothing came before that lacks nothing.
        """
        missing = []
        for symbol in self.symbols:
            own = begins.get(symbol)
            if own is None and self.has_before(symbol, self._low):
                missing.append(symbol)
            else:
                begin = min(begin, self._low if own is None else own)
        return begin, missing

    def has_before(self, symbol: str, ts: int) -> bool:
        """Says whether anything of a symbol happened before `ts`, as far as that is looked for."""
        if not self._is_few:
            return True
        where = " and ".join([f"symbol = {quote(symbol)}", *time_condition("ts_event", None, ts)])
        scope = Scope(self._replay.chosen.sources, None, ts)
        sql = "select 1 from {} where {} limit 1"
        engine = self._replay.engine
        return any(engine.run(sql.format(view, where), [view], scope).num_rows for view in EVENTS)

    def bars(self, name: str) -> dict[str, int | None]:
        """Returns of each symbol where as many bars with events begin as `name` is made of."""
        length, count = bars_of(name, self._settings)
        # One is not over yet, and another one is what the oldest goes on from.
        count += 2
        views = list(self._views(name))
        parts = " union ".join(
            f"select distinct symbol, ({INSTANT}) // {length} as bar from {view} "
            f"where {' and '.join(where)}"
            for view, where in views
        )
        rows = self._run(
            "select symbol, min(bar), count(*) from (select *, row_number() over "
            f"(partition by symbol order by bar desc) as newer from ({parts})) "
            f"where newer <= {count} group by symbol",
            [view for view, _ in views],
        )
        return {symbol: bar * length for symbol, bar, found in rows if found == count}

    def days(self) -> dict[str, int | None]:
        """Returns of each symbol where its last day with best prices before the range began."""
        today = self._first // DAY_NS * DAY_NS
        parts = " union all ".join(
            f"select symbol, {INSTANT} as instant from {view} "
            f"where {' and '.join(self._conditions(today))}"
            for view in QUOTED
        )
        rows = self._run(f"select symbol, max(instant) from ({parts}) group by symbol", QUOTED)
        return {symbol: ts // DAY_NS * DAY_NS for symbol, ts in rows}

    def _views(self, name: str) -> Iterator[tuple[str, list[str]]]:
        where = self._conditions(self._first)
        if not name.startswith("clock_"):
            channel = str(self._settings.get("channel", "trade"))
            where += [f"channel = {quote(channel)}", "price > 0"]
            where.append(f"flags & {HISTORICAL | OUT_OF_ORDER} <> {OUT_OF_ORDER}")
            chosen = self._replay.chosen
            rules = rules_of(self._replay.engine, chosen, self._low, self._first, 0)
            yield ORIGINALS, [*where, *([rules.opens] if rules else [])]
            return
        for view in EVENTS:
            yield view, [*where, f"flags & {UNTIMED} = 0"]

    def _conditions(self, until: int) -> list[str]:
        return [self._replay.chosen.condition(), *time_condition("ts_event", self._low, until)]

    def _run(self, sql: str, views: Sequence[str]) -> list[tuple[Any, ...]]:
        scope = Scope(self._replay.chosen.sources, self._low, self._first)
        rows = self._replay.engine.run(sql, list(dict.fromkeys(views)), scope)
        return list(zip(*(column.to_pylist() for column in rows.columns), strict=True))
