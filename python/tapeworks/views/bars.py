"""Bars by symbol and time: those that were recorded, and others that are made of trades."""

from __future__ import annotations

from tapeworks.errors import QueryError
from tapeworks.lake import TABLES
from tapeworks.views.conditions import parse_range
from tapeworks.views.made_bars import Number, are_recorded, make_bars, shape_of
from tapeworks.views.opened import Symbols
from tapeworks.views.result import Result
from tapeworks.views.symbols import Chosen
from tapeworks.views.tables import Tables, window_end
from tapeworks.views.times import IntervalLike, TimeLike, format_interval, parse_interval

# The channels of trades, which stand in for each other.
TRADES = TABLES["trades"].channels


class Bars(Tables):
    """What `Lake` says of bars."""

    def bars(
        self,
        symbols: Symbols | None = None,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        *,
        interval: IntervalLike | None = None,
        ticks: int | None = None,
        volume: Number | None = None,
        value: Number | None = None,
        source: str | None = None,
        exchange: str | None = None,
        product: str | None = None,
        revisions: bool = False,
        partial: bool = False,
    ) -> Result:
        """Returns finished bars, by time: of a minute, or of any other `interval`.

        `interval` is a text such as `1s`, `5m`, `1h`, a timedelta, or a number of milliseconds.
        Where bars of that length were not recorded, or not of all of the range, they are made of
        the trades, with the same values, but for corrections: those that were recorded are of the
        trades as they were told first. Instead of an interval, `ticks` is how many trades fill a
        bar, `volume` how much size, `value` how much price times size: then the first bar begins
        with the first trade of the range, the trade that fills a bar is its last, and `ts_close` is
        the time of it.

        The column `partial` marks those that lack trades of a gap. `partial` adds the bars within
        which a recording began or ended, and one that is not filled yet; `revisions` gives all that
        was ever written of a recorded bar.

        Raises:
            QueryError: it is no length or number above 0, or as for `trades`.
        """
        if interval is None and ticks is None and volume is None and value is None:
            interval = "1m"
        length = None if interval is None else parse_interval(interval)
        shape = shape_of(length, ticks, volume, value)
        try:
            first, last = parse_range(start, end)
        except QueryError as error:
            raise QueryError(f"{error}; a length of bars is named: interval='1m'") from None
        chosen = self._instruments.choose(symbols, source, exchange, product)
        if revisions or (
            length is not None and are_recorded(self._engine, chosen, length, first, last)
        ):
            if length is None:
                raise QueryError(f"bars of {shape.name} are made when asked for: no revisions")
            return self._recorded_bars(chosen, first, last, length, revisions, partial)
        made = make_bars(
            self._engine,
            chosen,
            first,
            last,
            shape,
            lambda low, high: self._ledger.coverage(chosen, low, high, TRADES),
            partial,
        )
        until = window_end(last, length)
        return Result(
            made,
            " ".join(["bars of", shape.name, "made of trades", *chosen.names]),
            lambda: self._ledger.coverage(chosen, first, until, TRADES),
        )

    def _recorded_bars(
        self,
        chosen: Chosen,
        first: int | None,
        last: int | None,
        length: int,
        revisions: bool,
        partial: bool,
    ) -> Result:
        condition = f"interval_ms = {length}" + ("" if partial else " and closed = 1")
        table = "bar_revisions" if revisions else "bars"
        found = self._chosen_rows(table, chosen, first, last, condition, length)
        if len(found):
            return found
        self._engine.check_length(length)
        others = self._engine.finished_lengths(chosen.condition())
        if others and length not in others:
            told = f"none of {format_interval(length)} is whole; there are finished ones of "
            told += ", ".join(map(format_interval, others))
            return Result(found.to_arrow(), f"bars ({told})", found.coverage)
        return found
