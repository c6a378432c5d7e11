"""Rows of two tables side by side in time, on the clock that both share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from tapeworks.errors import QueryError
from tapeworks.lake import TABLES, column_of, day_of
from tapeworks.views.conditions import parse_range, time_condition
from tapeworks.views.measures import advice_of, check_held, not_measured
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
from tapeworks.views.result import Result, noting
from tapeworks.views.symbols import Chosen
from tapeworks.views.times import TIME_MAX, TIME_MIN, TimeLike

# Flags of a record whose venue sent no event time, and of one that the venue's history gave: its
# receipt says nothing of when it happened.
NO_EVENT_TIME, HISTORICAL = 128, 4
# Of a metric: a correction of a window that is over.
CORRECTION = 8
METRICS = "metrics"
Direction = Literal["backward", "forward"]
By = Literal["instrument", "symbol"]
UNITS_NS = {"us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3_600 * 10**9}
DAY_NS = 86_400 * 10**9
BOTH = (*TABLES["trades"].channels, *TABLES["quotes"].channels)
# A kind of record of a source has an event time, or it has not: a few rows tell.
CLOCK_ROWS = 1_000
# No row of that instant stands before it, or behind it. The times alone would not do: of several
# rows of one instant, an as-of join by them may meet any.
FIRST_OFFSET, LAST_OFFSET = "0::ubigint", "18446744073709551615::ubigint"
KEYS: dict[By, tuple[str, ...]] = {"instrument": ("venue", "symbol"), "symbol": ("symbol",)}
# So far the last row before a range is looked for, or the first behind it: a minute, an hour, a
# day, a month, and then in all that is held.
WAY_NS = tuple(seconds * 10**9 for seconds in (60, 3_600, 86_400, 32 * 86_400))


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
        tolerance: str | None = None,
        direction: Direction = "backward",
        by: By = "instrument",
        right_source: str | None = None,
        metric: str | None = None,
    ) -> Result:
        """Returns rows of `left`, each with the last row of `right` of its instrument before it.

        No row meets what came after it. By the venue's time (`clock="event"`) that is the last row
        with an earlier `ts_event`; by this host's (`"receipt"`) the last one received before it:
        one read of a socket gives all that it brought one `ts_recv`, and among those the order of
        the tape decides; rows of different tapes have none, and must be earlier. Of several rows of
        `right` at one instant, the last on the tape is met. Without `clock` it is by the one that
        `Lake.time_column` names. Columns of `right` begin with its name. Memory is that of the
        range in both tables, however much was recorded before it.

        With `tolerance`, such as `"500ms"` or `"5s"`, what is met is at most so far away, to the
        nanosecond. With `direction="forward"` it is the first row after it: a row of the same
        instant is neither before nor after, unless the order of one tape tells. By receipt, what
        the venue's history gave (`flags & 4`) meets nothing and is not met: it was received long
        after it happened; notices count such rows.

        With `by="symbol"` it is met whichever venue it is of, as a column such as `quotes_venue`
        tells; with `right_source` as well, it is of that source alone. Of `metrics` those rows are
        met that are of `metric`, such as `"ofi_10s"`.

        Raises:
            QueryError: an argument is wrong, `right` holds bars of several lengths or several
                metrics, no value of `metric` is held, or as for `trades`.
        """
        _check_join(left, right, clock, direction, by, right_source, metric)
        furthest = None if tolerance is None else parse_length(tolerance, "tolerance")
        first, last = parse_range(start, end)
        chosen = others = self._instruments.choose(symbols, source, exchange, product)
        if right_source is not None:
            others = self._instruments.choose(symbols, right_source)
        both = chosen.with_all_of(others)
        clock = clock or self._clock_of(left, right, both.sources)
        is_forward = direction == "forward"
        join = _Join(
            left, right, chosen, others, KEYS[by], first, last, clock, is_forward, furthest, metric
        )
        found = self._engine.together([left, right], join.scope(both.sources), join.run)
        self._check_metric(metric, found, both.sources)
        tables = table_of(left), table_of(right)
        joined = Result(
            found,
            f"{left} with {right}",
            lambda: self._ledger.coverage(
                both,
                since_met(found, right, first, 0 if is_forward else furthest),
                _until(found, right, last, furthest) if is_forward else last,
                [channel for table in tables for channel in table.channels] or None,
                *(table.topic for table in tables),
                measured=None if metric is None else (others, [metric]),
            ),
        )
        return noting(joined, lambda: _remarks(joined, left, clock, metric))

    def _check_metric(self, metric: str | None, found: pa.Table, sources: Sequence[str]) -> None:
        """Refuses a name of which no value is held, where no row met one."""
        if metric is not None and found["metrics_metric"].null_count == len(found):
            held = self._engine.run(
                "select distinct metric from metrics order by metric", [METRICS], Scope(sources)
            )
            check_held([metric], held.column(0).to_pylist())

    def _clock_of(self, left: str, right: str, sources: Sequence[str]) -> Clock:
        """Returns the clock that both tables have in all of `sources`."""
        columns = {self.time_column(left, right, source=name) for name in sources}
        return "receipt" if "ts_recv" in columns else "event"

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
        tolerance: str | None = None,
    ) -> Result:
        """Returns trades, each with the best bid and offer that stood right before it.

        The columns of `trades`, and `bid_price`, `bid_size`, `ask_price`, `ask_size` of the quote,
        which are null before the first one; `quote_ts_event` and `quote_ts_recv` are its times. No
        trade meets a quote that came after it: by the clock that both share, as `asof` says, or
        by `clock`. With `tolerance`, such as `"5s"`, it meets none that is older. Coverage is that
        of trades and quotes, from the oldest quote on that is met.

        Raises:
            QueryError: as for `trades`.
        """
        result = self.asof(
            "trades",
            "quotes",
            symbols,
            start,
            end,
            source=source,
            exchange=exchange,
            product=product,
            clock=clock,
            tolerance=tolerance,
        )
        joined = result.to_arrow()
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
        furthest = None if tolerance is None else parse_length(tolerance, "tolerance")
        return Result(
            found,
            " ".join(["trades and quotes", *chosen.names]),
            lambda: self._ledger.coverage(
                chosen, since_met(joined, "quotes", first, furthest), last, BOTH
            ),
            notices=result.notices,
        )


@dataclass(frozen=True)
class _Join:
    """An as-of join, which reads of `right` what a row of `left` can meet, and no more."""

    left: str
    right: str
    chosen: Chosen
    others: Chosen
    """Whose rows of `right` are met."""
    keys: tuple[str, ...]
    """The columns that rows have in common."""
    first: int | None
    last: int | None
    clock: Clock
    is_forward: bool = False
    furthest: int | None = None
    """How far away what is met may be, in ns; none: any distance."""
    metric: str | None = None
    """Which of the metrics is met."""

    def scope(self, sources: Sequence[str]) -> Scope:
        """Returns what is read: times of receipt tell nothing of the days of events."""
        is_bounded = self.clock == "event" and not self.is_forward
        return Scope(sources, end=self.last if is_bounded else None)

    def run(self, run: Runner) -> pa.Table:
        """Returns the joined rows."""
        is_one_tape = (
            "venue" in self.keys
            and self.clock == "receipt"
            and table_of(self.left).topic == table_of(self.right).topic
        )
        place = LAST_OFFSET if self.is_forward else FIRST_OFFSET
        place = "l.tape_offset" if is_one_tape else place
        met, others = self._met(run)
        keys = ", ".join(self.keys)
        columns = f"r.* exclude ({keys}, instant, is_timed)"
        if self.furthest is not None:
            is_near = f"abs(l.instant - r.instant) <= {self.furthest}"
            columns = f"if({is_near}, columns({columns}), null)"
        return run(
            f"select l.* exclude (date, instant, is_timed), {columns} from "
            f"({self._left()}) l asof left join (select columns(* exclude ({keys}, date, "
            f"is_timed)) as '{self.right}_\\0', {keys}, instant, is_timed from ({met})) r "
            f"on {' and '.join(f'l.{key} = r.{key}' for key in self.keys)} "
            "and l.is_timed = r.is_timed "
            f"and (l.instant, {place}) {'<' if self.is_forward else '>'} "
            f"(r.instant, r.{self.right}_tape_offset) "
            "order by l.instant, l.venue, l.tape_offset",
            **others,
        )

    def _left(self, columns: str = "*") -> str:
        where = [
            *_rows_of(self.chosen),
            *time_condition(time_of(self.left), self.first, self.last),
        ]
        is_timed = f"{self._timed(self.left)} as is_timed"
        instant = self._instant(self.left)
        return (
            f"select {columns}, {instant}, {is_timed} from {self.left} where {' and '.join(where)}"
        )

    def _right(self, chosen: Chosen, first: int | None, last: int | None) -> str:
        column = column_of(table_of(self.right), self._field)
        where = [*_rows_of(chosen), *time_condition(column, first, last), self._timed(self.right)]
        if self.metric is not None:
            where.append(f"metric = {quote(self.metric)}")
            # Received late, about windows of before: by receipt it would be the newest.
            where += [f"flags & {CORRECTION} = 0"] if self.clock == "receipt" else []
        if self.clock == "event":
            # Of other days no file is opened.
            where += [] if first is None else [f"date >= {quote(day_of(first))}::date"]
            where += [] if last is None else [f"date <= {quote(day_of(last))}::date"]
        chosen_rows = f"from {self.right} where {' and '.join(where)}"
        return f"select *, {self._instant(self.right)}, true as is_timed {chosen_rows}"

    def _met(self, run: Runner) -> tuple[str, dict[str, pa.Table]]:
        """Returns the SQL of the rows of `right` that can be met, and tables that it names."""
        if self.first is None and self.last is None:
            return self._right(self.others, None, None), {}
        keys = ", ".join(self.keys)
        instruments = run(
            f"select {keys}, min(instant) as low, max(instant) as high from "
            f"({self._left(keys)}) where instant is not null and is_timed group by all"
        )
        if not instruments.num_rows:
            return f"{self._right(self.others, None, None)} and false", {}
        low = min(instruments["low"].to_pylist())
        # At the newest instant itself, too: the tape may tell what was before.
        high = min(max(instruments["high"].to_pylist()) + 1, TIME_MAX)
        if self.is_forward and self.last is None:
            return self._right(self.others, low, None), {}
        if self.first is None and not self.is_forward:
            return self._right(self.others, None, high), {}
        met = self._right(self.others, low, high)
        wanted = zip(*(instruments[name].to_pylist() for name in self.keys), strict=True)
        found = self._beyond(run, high if self.is_forward else low, set(wanted))
        if not found:
            return met, {}
        return f"{met} union all by name from beyond", {"beyond": pa.concat_tables(found)}

    def _beyond(self, run: Runner, edge: int, wanted: set[tuple[str, ...]]) -> list[pa.Table]:
        """Returns the row of `right` of each instrument that is next to `edge`, ever further off:
        the last before it, or forward the first from it on."""
        found = []
        done: int | None = edge
        for span in (*WAY_NS, None):
            if span is None:
                reach = None
            elif self.is_forward:
                reach = min(edge + span, TIME_MAX)
            else:
                reach = max(edge - span, TIME_MIN)
            symbols: dict[str, list[str]] = {}
            for *venue, symbol in sorted(wanted):
                for name in venue or self.others.sources:
                    symbols.setdefault(name, []).append(symbol)
            low, high = (done, reach) if self.is_forward else (reach, done)
            rows = self._right(Chosen(list(symbols), symbols), low, high)
            choice = "arg_min" if self.is_forward else "arg_max"
            next_to = run(
                f"select unnest({choice}(r, (instant, tape_offset))) from ({rows}) r "
                f"group by {', '.join(self.keys)}"
            )
            if next_to.num_rows:
                found.append(next_to)
                names = (next_to[name].to_pylist() for name in self.keys)
                wanted -= set(zip(*names, strict=True))
            done = reach
            is_too_far = self.furthest is not None and (span is None or span > self.furthest)
            if not wanted or is_too_far or done in (TIME_MIN, TIME_MAX):
                break
        return found

    def _timed(self, table: str) -> str:
        """Returns the SQL of whether the clock tells when a row happened."""
        is_told = self.clock == "event" or not has_column(table, "flags")
        return "true" if is_told else f"flags & {HISTORICAL} = 0"

    @property
    def _field(self) -> str:
        return "ts_recv" if self.clock == "receipt" else "ts_event"

    def _instant(self, table: str) -> str:
        """Returns the SQL of the exact time of a row by the clock."""
        column = column_of(table_of(table), self._field)
        return f"epoch_ns({column}) + {column}_ns as instant"


def _rows_of(chosen: Chosen) -> list[str]:
    """Returns what must hold of rows where other sources are read beside those that are chosen."""
    return [chosen.condition(), f"venue in ({', '.join(map(quote, chosen.sources))})"]


def _check_join(
    left: str,
    right: str,
    clock: Clock | None,
    direction: str,
    by: str,
    right_source: str | None,
    metric: str | None,
) -> None:
    check_table(left)
    check_table(right)
    check_clock(clock)
    if right in BARS:
        raise QueryError(
            f"{right} holds bars of all lengths: expected those of one, such as bars_1m"
        )
    if right == METRICS and metric is None:
        raise QueryError(
            "metrics holds values of all metrics, one a row: expected the one that is met, such as "
            "metric='ofi_10s'"
        )
    if right != METRICS and metric is not None:
        raise QueryError(f"{right} has no metrics: expected metric beside metrics alone")
    if clock == "event" and table_of(right).kind == "bar":
        raise QueryError(
            f"{right} by the time of its event would be met before it was finished: expected "
            "clock='receipt'"
        )
    if direction not in ("backward", "forward"):
        raise QueryError(f"expected a direction of backward, forward, got {direction!r}")
    if by not in KEYS:
        raise QueryError(f"expected by to be any of {', '.join(KEYS)}, got {by!r}")
    if right_source is not None and by != "symbol":
        raise QueryError(
            f"rows of {right_source} are no rows of another source's instruments: expected "
            f"by='symbol' beside right_source, got {by!r}"
        )


def parse_length(text: str, name: str) -> int:
    """Returns a length of time in ns.

    Raises:
        QueryError: it is none of up to a day; the message calls it `name`.
    """
    found = re.fullmatch(r"([1-9]\d*)(us|ms|s|m|h)", text) if isinstance(text, str) else None
    length = int(found[1]) * UNITS_NS[found[2]] if found else 0
    if not 0 < length <= DAY_NS:
        raise QueryError(
            f"expected a {name} such as '250us', '100ms' or '1s', of up to a day, got {text!r}"
        )
    return length


def _remarks(joined: Result, left: str, clock: Clock, metric: str | None) -> list[str]:
    advice = [] if metric is None else advice_of(not_measured(joined))
    return advice + (from_history(joined.to_arrow(), left) if clock == "receipt" else [])


def from_history(joined: pa.Table, left: str) -> list[str]:
    """Returns a sentence on rows that meet nothing, as the venue's history gave them."""
    if "flags" not in joined.column_names:
        return []
    count = sum(flags & HISTORICAL > 0 for flags in joined["flags"].to_pylist())
    if not count:
        return []
    rows = "1 row" if count == 1 else f"{count:,} rows"
    return [
        f"{rows} of {left} that the venue's history gave (flags & {HISTORICAL}) met nothing: when "
        "they were received says nothing of when they happened"
    ]


def _until(joined: pa.Table, right: str, last: int | None, furthest: int | None) -> int | None:
    """Returns up to when a join forward is about its tables, in ns; see `since_met`."""
    times = joined[f"{right}_ts_event"]
    if last is None or (times.null_count and furthest is None):
        return None
    met = times.drop_null().cast(pa.int64()).to_numpy()
    until = [int(met.max() + 1) * 1_000] if len(met) else []
    until += [min(last + (furthest or 0), TIME_MAX)] if times.null_count else []
    return max([last, *until])


def since_met(
    joined: pa.Table, right: str, first: int | None, furthest: int | None = None
) -> int | None:
    """Returns from when on a join is about its tables, in ns.

    Rows of `right` that it meets may be older than its range: what is missing behind them would
    have been met instead. Where a row met none within `furthest`, it is about all of that.
    """
    if first is None:
        return None
    times = joined[f"{right}_ts_event"]
    met = times.drop_null().cast(pa.int64()).to_numpy()
    since = [int(met.min()) * 1_000] if len(met) else []
    since += [max(first - (furthest or 0), TIME_MIN)] if times.null_count else []
    return min([first, *since])
