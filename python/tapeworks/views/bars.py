"""Bars by symbol and time: those that were recorded, and others that are made of trades."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

from tapeworks.errors import QueryError
from tapeworks.lake import TABLES
from tapeworks.views.adjust import DAY_MS, adjusted, check_adjust, check_follow, factors, told_of
from tapeworks.views.conditions import parse_range, time_condition
from tapeworks.views.held_back import rules_of
from tapeworks.views.made_bars import Number, Shape, are_recorded, make_bars, shape_of
from tapeworks.views.opened import Symbols
from tapeworks.views.query import Scope
from tapeworks.views.result import Result, noting
from tapeworks.views.symbols import Chosen
from tapeworks.views.tables import Tables, window_end
from tapeworks.views.times import IntervalLike, TimeLike, format_interval, parse_interval

# The channels of trades, which stand in for each other.
TRADES = TABLES["trades"].channels
# The last price before a dividend is looked for so far back: over holidays.
CLOSE_WITHIN_NS = 10 * 86_400 * 10**9


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
        adjust: Literal["splits", "all"] | None = None,
        follow: bool = False,
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
        which a recording began or ended, of which `notices` tells, and one that is not filled yet;
        `revisions` gives all that was ever written of a recorded bar.

        With `adjust="splits"`, prices and sizes are as if each split of `corporate_actions` had
        been before the bar, and with "all" so are prices of dividends, by the part that each was of
        the last price before it; of dividends, those up to the newest trade that is held. Factors
        are exact, each value is rounded once.

        `follow` is as for `trades`; each bar is of one symbol.

        Raises:
            QueryError: it is no length or number above 0, or as for `trades`; with `adjust`, no
                price is held before a dividend; with `follow`, of no interval or adjusted.
        """
        if interval is None and ticks is None and volume is None and value is None:
            interval = "1m"
        length = None if interval is None else parse_interval(interval)
        shape = shape_of(length, ticks, volume, value)
        try:
            first, last = parse_range(start, end)
        except QueryError as error:
            raise QueryError(f"{error}; a length of bars is named: interval='1m'") from None
        check_adjust(adjust, length)
        chosen = self._instruments.choose(symbols, source, exchange, product)
        check_follow(follow, adjust, length)

        def ask(chosen: Chosen, first: int | None, last: int | None) -> Result:
            return self._unadjusted(chosen, first, last, shape, length, revisions, partial)

        plain = self._followed(chosen, first, last, ask) if follow else ask(chosen, first, last)
        if adjust is not None and length is not None:
            found = factors(self._actions(chosen), adjust, self._close_before)
            rows = adjusted(plain.to_arrow(), found, length)
            plain = Result(rows, told_of(adjust, chosen.names, found), plain.coverage)
        if partial or revisions or length is None:
            return plain

        def left_out() -> list[str]:
            return _left_out(self._unadjusted(chosen, first, last, shape, length, False, True))

        return noting(plain, left_out)

    def _unadjusted(
        self,
        chosen: Chosen,
        first: int | None,
        last: int | None,
        shape: Shape,
        length: int | None,
        revisions: bool,
        partial: bool,
    ) -> Result:
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

    def _actions(self, chosen: Chosen) -> list[dict[str, object]]:
        """Returns splits and dividends of what is chosen, in the order in which they were told.

        Of one that has an id, which is its `sequence`, the last row counts, whatever its day is.
        Dividends behind the newest trade that is held have no price before them, and are left out.
        """
        sql = (
            "with newest as (select venue, symbol, max(ts_event) as until from trades "
            f"where {chosen.condition()} group by all), told as (select * from corporate_actions "
            f"where {chosen.condition()} qualify sequence = 0 or row_number() over ("
            "partition by venue, action, sequence order by tape_offset desc) = 1) "
            "select venue, symbol, ts_event, sequence, split_from, split_to, cash_amount, "
            "currency, subtype, action from told left join newest using (venue, symbol) "
            "where action = 'split' or (action = 'dividend' and ts_event <= until) "
            "order by venue, tape_offset"
        )
        tables = ["corporate_actions", "trades"]
        return list(self._engine.run(sql, tables, Scope(chosen.sources)).to_pylist())

    def _close_before(self, venue: str, symbol: str, until: int) -> Decimal | None:
        """Returns the last price that a trade set before `until`, in ns, of the days before it."""
        chosen, first = Chosen([venue], {venue: [symbol]}), until - CLOSE_WITHIN_NS
        rules = rules_of(self._engine, chosen, first, until, DAY_MS)
        where = [chosen.condition(), *time_condition("ts_event", first, until)]
        where += [] if rules is None else [rules.opens]
        sql = (
            f"select price from trades where {' and '.join(where)} "
            "order by ts_event desc, ts_event_ns desc, sequence desc, tape_offset desc limit 1"
        )
        rows = self._engine.run(sql, ["trades"], Scope([venue], first, until)).to_pylist()
        return rows[0]["price"] if rows else None

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


def _left_out(bars: Result) -> list[str]:
    """Returns a sentence on bars within which a recording began or ended, if there are any."""
    table = bars.to_arrow()
    marks = zip(table["partial"].to_pylist(), table["closed"].to_pylist(), strict=True)
    count = sum(is_partial and not is_closed for is_partial, is_closed in marks)
    if not count:
        return []
    which = "1 bar is" if count == 1 else f"{count:,} bars are"
    return [f"{which} left out, within which the recording began or ended: partial=True has all"]
