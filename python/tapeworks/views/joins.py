"""Rows of two tables side by side in time, on the clock that both share."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from tapeworks.errors import QueryError
from tapeworks.lake import TABLES, column_of, day_of
from tapeworks.views.conditions import parse_range, time_condition
from tapeworks.views.opened import Opened, Symbols
from tapeworks.views.past_books import Clock, check_clock
from tapeworks.views.query import (
    BARS,
    Runner,
    Scope,
    check_table,
    has_column,
    quote,
    table_of,
    time_of,
)
from tapeworks.views.result import Result
from tapeworks.views.symbols import Chosen
from tapeworks.views.times import TIME_MAX, TIME_MIN, TimeLike

# Flag of a record whose venue sent no event time.
NO_EVENT_TIME = 128
BOTH = (*TABLES["trades"].channels, *TABLES["quotes"].channels)
# A kind of record of a source has an event time, or it has not: a few rows tell.
CLOCK_ROWS = 1_000
# No row of that instant stands before it. The times alone would not do: of several rows of one
# instant, an as-of join by them may meet any.
FIRST_OFFSET = "0::ubigint"
INSTRUMENT = ("venue", "symbol")
# So far back the last row before a range is looked for: a minute, an hour, a day, a month, and then
# in all that is held.
WAY_BACK_NS = tuple(seconds * 10**9 for seconds in (60, 3_600, 86_400, 32 * 86_400))


class Joins(Opened):
    """What `Lake` says of clocks, and its joins by time."""

    def time_column(self, *tables: str, source: str | None = None) -> str:
        """Returns the time by which `tables` can be joined: `ts_event`, or else `ts_recv`.

        Of some venues a kind of record has no event time (Binance spot: quotes); its `ts_event` is
        the receive time, and `flags & 128` marks it. Joined on `ts_event` with records that have
        one, each would meet a state of the market of some milliseconds before. The `ts_event` of a
        bar is its start: what is in it was known only when it was received.

        Raises:
            QueryError: there is no such table or source.
        """
        for table in tables:
            check_table(table)
            if len(tables) > 1 and table_of(table).kind == "bar":
                return "ts_recv"
            if not has_column(table, "flags"):
                continue
            for name in self._instruments.sources(source):
                sql = f"select flags from {table} limit {CLOCK_ROWS}"
                flags = self._engine.run(sql, [table], Scope([name])).column(0).to_pylist()
                if any(value & NO_EVENT_TIME for value in flags):
                    return "ts_recv"
        return "ts_event"

    def asof(
        self,
        left: str,
        right: str,
        symbols: Symbols | None = None,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        *,
        source: str | None = None,
        exchange: str | None = None,
        product: str | None = None,
        clock: Clock | None = None,
    ) -> Result:
        """Returns rows of `left`, each with the last row of `right` of its symbol before it.

        No row meets what came after it. By the venue's time (`clock="event"`) that is the last row
        with an earlier `ts_event`; by this host's (`"receipt"`) the last one received before it:
        one read of a socket gives all that it brought one `ts_recv`, and among those the order of
        the tape decides; rows of different tapes have none, and must be earlier. Of several rows of
        `right` at one instant, the last on the tape is met. Without `clock` it is by the one that
        `Lake.time_column` names. Columns of `right` begin with its name. Memory is that of the
        range in both tables, however much was recorded before it.

        Raises:
            QueryError: there is no such table, it holds bars of several lengths, or as for
                `trades`.
        """
        check_table(left)
        check_table(right)
        check_clock(clock)
        if right in BARS:
            raise QueryError(
                f"{right} holds bars of all lengths: expected those of one, such as bars_1m"
            )
        if clock == "event" and table_of(right).kind == "bar":
            raise QueryError(
                f"{right} by the time of its event would be met before it was finished: expected "
                "clock='receipt'"
            )
        first, last = parse_range(start, end)
        chosen = self._instruments.choose(symbols, source, exchange, product)
        if clock is None:
            clocks = {self.time_column(left, right, source=name) for name in chosen.sources}
            clock = "receipt" if "ts_recv" in clocks else "event"
        join = _Join(left, right, chosen, first, last, clock)
        # Times of receipt tell nothing of the days of events.
        scope = Scope(chosen.sources, end=last if clock == "event" else None)
        found = self._engine.together([left, right], scope, join.run)
        tables = table_of(left), table_of(right)
        channels = [channel for table in tables for channel in table.channels] or None
        topics = [table.topic for table in tables]
        return Result(
            found,
            f"{left} with {right}",
            lambda: self._ledger.coverage(
                chosen, _since(found, right, first), last, channels, *topics
            ),
        )

    def trades_and_quotes(
        self,
        symbols: Symbols | None = None,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        *,
        source: str | None = None,
        exchange: str | None = None,
        product: str | None = None,
        clock: Clock | None = None,
    ) -> Result:
        """Returns trades, each with the best bid and offer that stood right before it.

        The columns of `trades`, and `bid_price`, `bid_size`, `ask_price`, `ask_size` of the quote,
        which are null before the first one; `quote_ts_event` and `quote_ts_recv` are its times. No
        trade meets a quote that came after it: by the clock that both share, as `asof` says, or
        by `clock`. Coverage is that of trades and quotes, from the oldest quote on that is met.

        Raises:
            QueryError: as for `trades`.
        """
        joined = self.asof(
            "trades",
            "quotes",
            symbols,
            start,
            end,
            source=source,
            exchange=exchange,
            product=product,
            clock=clock,
        ).to_arrow()
        # Prices and sizes say what they are; times must not be taken for those of the trade.
        names = {
            name: name.replace("quotes_ts_", "quote_ts_").removeprefix("quotes_")
            for name in joined.column_names
        }
        dropped = [f"quotes_{name}" for name in ("sequence", "flags", "tape_offset")]
        found = joined.drop_columns(dropped)
        found = found.rename_columns([names[name] for name in found.column_names])
        chosen = self._instruments.choose(symbols, source, exchange, product)
        first, last = parse_range(start, end)
        return Result(
            found,
            " ".join(["trades and quotes", *chosen.names]),
            lambda: self._ledger.coverage(chosen, _since(joined, "quotes", first), last, BOTH),
        )


@dataclass(frozen=True)
class _Join:
    """An as-of join, which reads of `right` what a row of `left` can meet, and no more."""

    left: str
    right: str
    chosen: Chosen
    first: int | None
    last: int | None
    clock: Clock

    def run(self, run: Runner) -> pa.Table:
        """Returns the joined rows."""
        is_one_tape = (
            self.clock == "receipt" and table_of(self.left).topic == table_of(self.right).topic
        )
        place = "l.tape_offset" if is_one_tape else FIRST_OFFSET
        met, earlier = self._met(run)
        return run(
            "select l.* exclude (date, instant), r.* exclude (venue, symbol, instant) from "
            f"({self._left()}) l asof left join (select columns(* exclude (venue, symbol, date)) "
            f"as '{self.right}_\\0', venue, symbol, instant from ({met})) r "
            "on l.venue = r.venue and l.symbol = r.symbol "
            f"and (l.instant, {place}) > (r.instant, r.{self.right}_tape_offset) "
            "order by l.instant, l.venue, l.tape_offset",
            **earlier,
        )

    def _left(self, columns: str = "*") -> str:
        where = [
            self.chosen.condition(),
            *time_condition(time_of(self.left), self.first, self.last),
        ]
        instant = self._instant(self.left)
        return f"select {columns}, {instant} from {self.left} where {' and '.join(where)}"

    def _right(self, chosen: Chosen, first: int | None, last: int | None) -> str:
        column = column_of(table_of(self.right), self._field)
        where = [chosen.condition(), *time_condition(column, first, last)]
        if self.clock == "event":
            # Of other days no file is opened.
            where += [] if first is None else [f"date >= {quote(day_of(first))}::date"]
            where += [] if last is None else [f"date <= {quote(day_of(last))}::date"]
        return f"select *, {self._instant(self.right)} from {self.right} where " + " and ".join(
            where
        )

    def _met(self, run: Runner) -> tuple[str, dict[str, pa.Table]]:
        """Returns the SQL of the rows of `right` that can be met, and tables that it names."""
        if self.first is None and self.last is None:
            return self._right(self.chosen, None, None), {}
        instruments = run(
            "select venue, symbol, min(instant) as low, max(instant) as high from "
            f"({self._left('venue, symbol')}) where instant is not null group by all"
        )
        if not instruments.num_rows:
            return f"{self._right(self.chosen, None, None)} and false", {}
        low = min(instruments["low"].to_pylist())
        # At the newest instant itself, too: the tape may tell what was before.
        high = min(max(instruments["high"].to_pylist()) + 1, TIME_MAX)
        if self.first is None:
            return self._right(self.chosen, None, high), {}
        met = self._right(self.chosen, low, high)
        wanted = zip(*(instruments[name].to_pylist() for name in INSTRUMENT), strict=True)
        found = self._last_before(run, low, set(wanted))
        if not found:
            return met, {}
        return f"{met} union all by name from earlier", {"earlier": pa.concat_tables(found)}

    def _last_before(self, run: Runner, low: int, wanted: set[tuple[str, str]]) -> list[pa.Table]:
        """Returns the last row of `right` of each instrument before `low`, ever further back."""
        found = []
        until: int | None = low
        for span in (*WAY_BACK_NS, None):
            since = None if span is None else max(low - span, TIME_MIN)
            symbols: dict[str, list[str]] = {}
            for venue, symbol in sorted(wanted):
                symbols.setdefault(venue, []).append(symbol)
            rows = self._right(Chosen(list(symbols), symbols), since, until)
            last = run(
                f"select unnest(arg_max(r, (instant, tape_offset))) from ({rows}) r "
                f"group by {', '.join(INSTRUMENT)}"
            )
            if last.num_rows:
                found.append(last)
                wanted -= set(zip(*(last[name].to_pylist() for name in INSTRUMENT), strict=True))
            until = since
            if not wanted or until == TIME_MIN:
                break
        return found

    @property
    def _field(self) -> str:
        return "ts_recv" if self.clock == "receipt" else "ts_event"

    def _instant(self, table: str) -> str:
        """Returns the SQL of the exact time of a row by the clock."""
        column = column_of(table_of(table), self._field)
        return f"epoch_ns({column}) + {column}_ns as instant"


def _since(joined: pa.Table, right: str, first: int | None) -> int | None:
    """Returns from when on a join is about its tables, in ns.

    Rows of `right` that it meets may be older than its range: what is missing behind them would
    have been met instead.
    """
    times = joined[f"{right}_ts_event"].drop_null().cast(pa.int64()).to_numpy()
    return first if first is None or not len(times) else min(first, int(times.min()) * 1_000)
