"""Rows of a table by symbol and time, each with what is missing of its range."""

from __future__ import annotations

from tapeworks.views.conditions import parse_range, time_condition
from tapeworks.views.coverage import Coverage
from tapeworks.views.known_then import coverage_then
from tapeworks.views.opened import Symbols
from tapeworks.views.query import Scope, table_of, time_of
from tapeworks.views.recorded import NEWS
from tapeworks.views.renames import Renames
from tapeworks.views.result import Result
from tapeworks.views.symbols import Chosen
from tapeworks.views.times import TimeLike

NS_PER_MS = 1_000_000


class Tables(Renames):
    """What `Lake` reads its tables with."""

    def _rows(
        self,
        table: str,
        symbols: Symbols | None,
        start: TimeLike | None,
        end: TimeLike | None,
        source: str | None,
        exchange: str | None,
        product: str | None,
        condition: str = "true",
        length_ms: int | None = None,
        as_of: int | None = None,
        follow: bool = False,
    ) -> Result:
        first, last = parse_range(start, end)
        chosen = self._instruments.choose(symbols, source, exchange, product)

        def ask(chosen: Chosen, first: int | None, last: int | None) -> Result:
            return self._chosen_rows(table, chosen, first, last, condition, length_ms, as_of)

        return self._followed(chosen, first, last, ask) if follow else ask(chosen, first, last)

    def _chosen_rows(
        self,
        table: str,
        chosen: Chosen,
        first: int | None,
        last: int | None,
        condition: str = "true",
        length_ms: int | None = None,
        as_of: int | None = None,
    ) -> Result:
        """Returns rows by time. Each stands for `length_ms` from its time on."""
        time = time_of(table)
        where = [condition, chosen.condition(), *time_condition(time, first, last)]
        scope = Scope(chosen.sources, first, last, as_of)
        sql = (
            f"select * exclude (date) from {table} where {' and '.join(where)} "
            f"order by {time}, {time}_ns, tape_offset"
        )
        found = self._engine.run(sql, [table], scope)
        title = " ".join([table, *chosen.names])
        channels = table_of(table).channels or None
        # The last window of the range may go on behind it.
        until = window_end(last, length_ms)
        topic = table_of(table).topic
        is_of_news = table == NEWS

        def ask(low: int | None, high: int | None) -> Coverage:
            return self._ledger.coverage(chosen, low, high, channels, topic, is_of_news=is_of_news)

        def coverage() -> Coverage:
            if as_of is None:
                return ask(first, until)
            return coverage_then(self._engine, table, chosen, first, until, as_of, ask)

        return Result(found, title, coverage)


def window_end(last: int | None, length_ms: int | None) -> int | None:
    """Returns where the window of `length_ms` ends that holds the last instant before `last`."""
    if last is None or length_ms is None:
        return last
    length = length_ms * NS_PER_MS
    return -(-last // length) * length
