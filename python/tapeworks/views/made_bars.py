"""Bars made of trades when they are asked for: of any length, or of so many trades, size or value.

Bars of time lie on the epoch and are those that the processor `bars` would have built of the same
trades: prices by the sequences of trades, where these have none by their times, exact sums, no bar
where nothing was traded. In those longer than a day times decide first: some venues begin to number
anew each day. The others begin
with the first trade of the range; the trade that fills one belongs to it as a whole, and nothing
is carried over.

A trade counts once: aggregate trades are left out where single fills are held, and only there. A
bar at the seam of both is flagged, and has the channel of its last trade.
"""

from __future__ import annotations

import decimal
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tapeworks.errors import QueryError
from tapeworks.views.conditions import time_condition
from tapeworks.views.coverage import GAP, REPAIRED, Coverage
from tapeworks.views.held_back import Rules, rules_of
from tapeworks.views.query import Engine, Scope, quote
from tapeworks.views.reach import newest_receipt
from tapeworks.views.recorded import NOT_CORRECTED, NOT_YET_KNOWN
from tapeworks.views.symbols import Chosen
from tapeworks.views.times import format_interval
from tapeworks.views.view_sql import MAYBE_BAD

NS_PER_MS = 1_000_000
DAY_NS = 86_400_000 * NS_PER_MS
# So long the last trades of a window may be on their way, as in the processor `bars`.
GRACE_NS = 2_000 * NS_PER_MS
# A trade that says to be so far ahead of its receipt tells nothing of those before it.
BOLD_NS = 60_000 * NS_PER_MS
# So far from the ends of 64 bits that one more or less fits.
TIME_MIN, TIME_MAX = -(2**62), 2**62
# Of one event of a venue, a bar is the only record, so the last one.
FLAG_LAST = 1
CHANNELS = ("trade", "agg_trade")
Number = int | str | float | Decimal

# What a bar is made of. The sequences of trades say which came first, whatever their times are;
# those of fills and of their sums say nothing of each other. An answer may tell the newest first.
BY_ID, BY_TIME = "(sequence, instant, tape_offset)", "(instant, sequence, tape_offset)"
BAR = f"""
    coalesce(min(channel) != max(channel), false) as is_mixed,
    min(instant) as ns_open, max(instant) as ns_close, max(received) as ns_last,
    if(is_mixed, arg_min(price, {BY_TIME}), arg_min(price, {BY_ID})) as open,
    max(price) as high, min(price) as low,
    if(is_mixed, arg_max(price, {BY_TIME}), arg_max(price, {BY_ID})) as close,
    try_cast(sum(size) as decimal(19, 8)) as volume,
    try_cast(coalesce(sum(size) filter (side = 'buy'), 0) as decimal(19, 8)) as buy_volume,
    sum(price * size)::decimal(38, 17) as turnover,
    coalesce(sum(price * size) filter (side = 'buy'), 0)::decimal(38, 17) as buy_turnover,
    sum("count")::uint64 as count, arg_max(channel, {BY_TIME}) as channel,
    if(is_mixed, arg_max(sequence, {BY_TIME}), max(sequence)) as sequence
"""
TRADE = (
    'venue, symbol, channel, instant, received, price, size, side, "count", sequence, tape_offset'
)
# The same where some trades change a part of a bar alone, or nothing.
HELD_BAR = f"""
    coalesce(min(channel) != max(channel), false) as is_mixed,
    min(instant) as ns_open, max(instant) as ns_close, max(received) as ns_last,
    if(is_mixed, arg_min(price, {BY_TIME}) filter (where opens),
        arg_min(price, {BY_ID}) filter (where opens)) as open,
    max(price) filter (where ranges) as high, min(price) filter (where ranges) as low,
    if(is_mixed, arg_max(price, {BY_TIME}) filter (where opens),
        arg_max(price, {BY_ID}) filter (where opens)) as close,
    try_cast(coalesce(sum(size) filter (where counts), 0) as decimal(19, 8)) as volume,
    try_cast(coalesce(sum(size) filter (where counts and side = 'buy'), 0) as decimal(19, 8))
        as buy_volume,
    coalesce(sum(price * size) filter (where counts), 0)::decimal(38, 17) as turnover,
    coalesce(sum(price * size) filter (where counts and side = 'buy'), 0)::decimal(38, 17)
        as buy_turnover,
    coalesce(sum("count") filter (where counts), 0)::uint64 as count,
    arg_max(channel, {BY_TIME}) as channel,
    if(is_mixed, arg_max(sequence, {BY_TIME}) filter (where opens),
        max(sequence) filter (where opens)) as sequence
"""
INSTANTS = "epoch_ns(ts_event) + ts_event_ns as instant, epoch_ns(ts_recv) + ts_recv_ns as received"


@dataclass(frozen=True)
class Shape:
    """What fills a bar: time in ms, or so many trades, so much size or value in exact units."""

    kind: str
    amount: int
    name: str


def shape_of(
    length_ms: int | None, ticks: int | None, volume: Number | None, value: Number | None
) -> Shape:
    """Returns the one shape that is asked for.

    Raises:
        QueryError: several are, or it is no number above 0.
    """
    given = {"interval": length_ms, "ticks": ticks, "volume": volume, "value": value}
    asked = {name: amount for name, amount in given.items() if amount is not None}
    if len(asked) != 1:
        raise QueryError(
            f"expected one of interval, ticks, volume and value, got {' and '.join(asked)}"
        )
    if length_ms is not None:
        return Shape("interval", length_ms, format_interval(length_ms))
    [(kind, amount)] = asked.items()
    places = {"ticks": 0, "volume": 8, "value": 17}[kind]
    try:
        exact = Decimal(str(amount)).scaleb(places, decimal.Context(prec=60))
        whole = int(exact)
    except (ArithmeticError, ValueError):
        whole = 0
    if isinstance(amount, bool) or whole <= 0 or whole != exact:
        digits = f" of up to {places} decimal places" if places else ", whole"
        raise QueryError(f"expected {kind} above 0{digits}, got {amount!r}")
    return Shape(kind, whole, f"{amount} {kind}")


def make_bars(
    engine: Engine,
    chosen: Chosen,
    first: int | None,
    last: int | None,
    shape: Shape,
    coverage: Callable[[int, int], Coverage],
    partial: bool,
) -> pa.Table:
    """Returns bars that begin at `first` or later and before `last`, by time.

    `coverage` tells what is missing of a range; `partial` adds bars that are not whole.
    """
    if shape.kind == "interval":
        made = _of_time(engine, chosen, first, last, shape.amount * NS_PER_MS)
    else:
        made = _of_trades(engine, chosen, first, last, shape)
    starts, ends = made["ns_start"].to_numpy(), made["ns_end"].to_numpy()
    bad, whole = np.zeros(len(made), dtype=bool), np.array(made["whole"], dtype=bool)
    is_time = shape.kind == "interval"
    if len(made):
        bad |= np.array(made["is_mixed"])
        found = coverage(int(starts.min()), int(ends.max()) + 1)
        missing = found.to_arrow()
        if is_time:
            going_on = {each.source for each in found.recorded if each.is_open}
            whole = _are_over(engine, chosen, made, going_on)
        for places, finding in touched_bars(missing, made, is_time):
            bad[places] = True
            # Without its start or its end a window is none; so many trades are so many trades.
            if is_time and finding not in (GAP, NOT_YET_KNOWN):
                whole[places] = False
    return _shown(made, bad | ~whole, whole, shape, partial)


def _of_time(
    engine: Engine, chosen: Chosen, first: int | None, last: int | None, length: int
) -> pa.Table:
    """Returns what the windows of `length` ns hold."""
    low, high = _windows(first, last, length)
    rules = rules_of(engine, chosen, low, high, length // NS_PER_MS)
    rows = _trades_sql(engine, chosen, low, high, rules)
    bar = BAR if rules is None else HELD_BAR
    if length > DAY_NS:
        bar = bar.replace(BY_ID, BY_TIME)
    sql = (
        f"select venue, symbol, bar * {length} as ns_start, (bar + 1) * {length} - 1 as ns_end, "
        # Before a window is over, nobody knows what it holds.
        f"greatest(ns_last, (bar + 1) * {length}) as ns_known, true as whole, "
        "* exclude (venue, symbol, bar) from "
        f"(select venue, symbol, instant // {length} as bar, {bar} from ({rows}) group by all) "
        # Of a window in which no trade sets prices there is no bar.
        f"{'' if rules is None else 'where open is not null and high is not null '}"
        "order by ns_start, venue, symbol"
    )
    return engine.run(sql, ["trades"], Scope(chosen.sources, low, high))


def _are_over(
    engine: Engine, chosen: Chosen, made: pa.Table, going_on: set[str]
) -> npt.NDArray[np.bool_]:
    """Returns which windows get no more trades, as the processor `bars` closes them.

    A later trade of the instrument came, or receipt is so far that none is on its way any more, as
    late as the window's last was; or the recording ended behind it.
    """
    newest = {source: newest_receipt(engine.tail(source)) for source in chosen.sources}
    first = int(made["ns_end"].to_numpy().min()) + 1
    where = [chosen.condition(), *time_condition("ts_event", first, None)]
    sql = (
        "select venue, symbol, channel, max(instant) filter (instant <= received + "
        f"{BOLD_NS}) as latest from (select *, {INSTANTS} from trades "
        f"where {' and '.join(where)}) group by all"
    )
    rows = engine.run(sql, ["trades"], Scope(chosen.sources, first, None)).to_pylist()
    latest = {(row["venue"], row["symbol"], row["channel"]): row["latest"] for row in rows}
    over = []
    columns = ("venue", "symbol", "channel", "ns_end", "ns_close", "ns_last")
    for venue, symbol, channel, end, close, received in zip(
        *(made[name].to_pylist() for name in columns), strict=True
    ):
        until = end + 1
        if venue in going_on and (latest.get((venue, symbol, channel)) or TIME_MIN) < until:
            until += max(received - close, 0) + GRACE_NS
        over.append(until <= (newest[venue] or TIME_MAX))
    return np.array(over, dtype=np.bool_)


def _of_trades(
    engine: Engine, chosen: Chosen, first: int | None, last: int | None, shape: Shape
) -> pa.Table:
    """Returns what bars of a number of trades, of a size or of a value hold."""
    # Of trades that set no last price, such as odd lots, there are no such bars.
    rules = rules_of(engine, chosen, first, last, 0)
    rows = _trades_sql(engine, chosen, first, last, rules)
    rows = rows if rules is None else f"select * from ({rows}) where opens"
    measured = {
        "ticks": "1::hugeint",
        "volume": "(size * 100000000)::hugeint",
        "value": "(price * 1000000000)::hugeint * (size * 100000000)::hugeint",
    }[shape.kind]
    sql = f"select {TRADE}, {measured} as measure from ({rows}) order by venue, symbol, {BY_TIME}"
    trades = engine.run(sql, ["trades"], Scope(chosen.sources, first, last))
    numbers, whole = _fill(trades, shape.amount)
    trades = trades.append_column("bar", pa.array(numbers)).append_column("whole", pa.array(whole))
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        connection.register("trades", trades)
        return connection.sql(
            "select venue, symbol, ns_open as ns_start, ns_close as ns_end, ns_last as ns_known, "
            "* exclude (venue, symbol, bar) from (select venue, symbol, bar, "
            f"bool_or(whole) as whole, {BAR.replace(BY_ID, BY_TIME)} from trades group by all) "
            "order by ns_start, venue, symbol, bar"
        ).to_arrow_table()


def _trades_sql(
    engine: Engine, chosen: Chosen, first: int | None, last: int | None, rules: Rules | None
) -> str:
    """Returns the SQL of trades, each once: where fills and their sums are held, of the fills."""
    where = [chosen.condition(), *time_condition("ts_event", first, last)]
    fill, total = map(quote, CHANNELS)
    parts = vars(rules).items() if rules is not None else ()
    columns = "".join(f", {test} as {name}" for name, test in parts)
    rows = f"select *, {INSTANTS}{columns} from trades where {' and '.join(where)}"
    held = engine.run(
        f"select distinct channel from ({rows}) where channel in ({fill}, {total})",
        ["trades"],
        Scope(chosen.sources, first, last),
    )
    if len(held) < len(CHANNELS):
        return rows
    # Fills whose ids go on without a hole lack nothing between the first and the last of them. The
    # times of both channels are those of the same fills, to the ms.
    return (
        f"with every as ({rows}), fills as (select venue, symbol, instant // {NS_PER_MS} as ms, "
        "sequence::hugeint - dense_rank() over (partition by venue, symbol order by sequence) "
        f"as stretch from every where channel = {fill}), "
        "stretches as (select venue, symbol, min(ms) as ms_from, max(ms) as ms_to from fills "
        "group by venue, symbol, stretch), "
        "spans as (select venue, symbol, ms_from, max(max(ms_to)) over (partition by venue, symbol "
        "order by ms_from) as ms_to from stretches group by venue, symbol, ms_from) "
        "select every.* from every asof left join spans on every.venue = spans.venue and "
        f"every.symbol = spans.symbol and every.instant // {NS_PER_MS} >= spans.ms_from "
        f"where channel != {total} or ms_to is null or ms_to < instant // {NS_PER_MS}"
    )


def _fill(trades: pa.Table, amount: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Returns the number of each trade's bar, and whether that bar was filled."""
    numbers = np.zeros(len(trades), dtype=np.int64)
    whole = np.zeros(len(trades), dtype=bool)
    measures = _whole_numbers(trades["measure"])
    number = 0
    for start, end in _series(trades):
        totals = np.cumsum(measures[start:end])
        at, before = 0, 0
        while at < len(totals):
            # What is beyond 64 bits is beyond all totals that are held in them.
            target = before + amount
            is_filled = target <= int(totals[-1])
            stop = int(np.searchsorted(totals, target)) + 1 if is_filled else len(totals) + 1
            numbers[start + at : start + stop] = number
            whole[start + at : start + stop] = stop <= len(totals)
            number += 1
            at, before = stop, int(totals[min(stop, len(totals)) - 1])
    return numbers, whole


def _whole_numbers(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """Returns whole numbers whose sums are exact: of 64 bits if these hold them, or objects."""
    try:
        small = column.cast(pa.int64()).to_numpy()
    except pa.ArrowInvalid:
        small = None
    if small is not None and small.sum(dtype=np.float64) < TIME_MAX:
        return np.asarray(small)
    return np.array([int(value) for value in column.to_pylist()], dtype=object)


def _series(trades: pa.Table) -> Iterator[tuple[int, int]]:
    """Yields first and last row of each instrument; they lie together."""
    names = [trades[name].combine_chunks().dictionary_encode() for name in ("venue", "symbol")]
    codes = [np.asarray(name.indices) for name in names]
    changes = np.flatnonzero((np.diff(codes[0]) != 0) | (np.diff(codes[1]) != 0)) + 1
    edges = [0, *changes.tolist(), len(trades)]
    yield from itertools.pairwise(edges)


def touched_bars(
    missing: pa.Table, made: pa.Table, is_time: bool
) -> Iterator[tuple[npt.NDArray[Any], str]]:
    """Yields which bars of an instrument each finding touches, and its kind."""
    venues, symbols = _names(made, "venue"), _names(made, "symbol")
    starts, ends = made["ns_start"].to_numpy(), made["ns_end"].to_numpy()
    opens, closes = made["ns_open"].to_numpy(), made["ns_close"].to_numpy()
    instruments = dict.fromkeys(zip(venues.tolist(), symbols.tolist(), strict=True))
    places = {(v, s): np.flatnonzero((venues == v) & (symbols == s)) for v, s in instruments}
    for row in missing.to_pylist():
        # Corrections that are missing leave a bar whole.
        if row["finding"] in (REPAIRED, NOT_CORRECTED):
            continue
        span = (
            _ns(row["ts_from"], row["ts_from_ns"], TIME_MIN),
            _ns(row["ts_to"], row["ts_to_ns"], TIME_MAX),
        )
        for (venue, symbol), at in places.items():
            if row["venue"] not in (None, venue) or row["symbol"] not in (None, symbol):
                continue
            begin, end = span
            if row["finding"] not in (GAP, NOT_YET_KNOWN) and len(at):
                # What was not recorded before the first bar ends at its first trade.
                if begin <= starts[at].min():
                    end = min(end, opens[at].min())
                begin, end = _silence(begin, end, opens[at], closes[at])
            # A window is touched at its very edges. Other bars begin and end with a trade.
            edge = 1 if is_time else 0
            touched = (starts[at] < end + edge) & (ends[at] > begin - edge)
            yield at[touched], row["finding"]


def _silence(
    begin: int, end: int, opens: npt.NDArray[Any], closes: npt.NDArray[Any]
) -> tuple[int, int]:
    """Returns the longest part of a time that was not recorded in which no bar has trades.

    When a recorder starts it does not know yet how far the venue's clock is from its own.
    """
    within = (opens <= end) & (closes >= begin)
    from_times = [begin, *closes[within].tolist()]
    to_times = [*opens[within].tolist(), end]
    return max(zip(from_times, to_times, strict=True), key=lambda span: span[1] - span[0])


def _names(made: pa.Table, column: str) -> npt.NDArray[Any]:
    return np.array(made[column].to_pylist(), dtype=object)


def _shown(
    made: pa.Table,
    bad: npt.NDArray[Any],
    whole: npt.NDArray[Any],
    shape: Shape,
    partial: bool,
) -> pa.Table:
    """Returns the columns of recorded bars; of bars that are not of time, the end of each."""
    made = made.append_column("bad", pa.array(bad, pa.bool_()))
    made = made.set_column(made.column_names.index("whole"), "whole", pa.array(whole, pa.bool_()))
    is_time = shape.kind == "interval"
    close = "" if is_time else f"{_split('ns_close', 'ts_close')}, "
    length = f"{shape.amount}::uinteger as interval_ms, " if is_time else ""
    unfit = "volume is null or buy_volume is null"
    sql = (
        f"select symbol, {_split('ns_start', 'ts_event')}, {close}{_split('ns_known', 'ts_recv')}, "
        "open, high, low, close, volume, buy_volume, turnover, buy_turnover, count, "
        f"{length}whole::utinyint as closed, channel, sequence, "
        f"({FLAG_LAST} + if(bad or {unfit}, {MAYBE_BAD}, 0))::utinyint as flags, venue, "
        f"bad or {unfit} as partial from made{'' if partial else ' where whole'}"
    )
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        connection.register("made", made)
        return connection.sql(sql).to_arrow_table()


def _split(ns: str, name: str) -> str:
    rest = f"(({ns} % 1000 + 1000) % 1000)"
    whole = f"make_timestamptz(({ns} - {rest}) // 1000)"
    return f"{whole} as {name}, {rest}::smallint as {name}_ns"


def _ns(moment: Any, rest: int | None, absent: int) -> int:
    if moment is None:
        return absent
    seconds: int = int(moment.timestamp())
    return seconds * 10**9 + int(moment.microsecond) * 1_000 + (rest or 0)


def are_recorded(
    engine: Engine, chosen: Chosen, length_ms: int, first: int | None, last: int | None
) -> bool:
    """Whether a bar of that length was recorded of each window of the range that has trades.

    A length may have been added to the settings later, or taken out of them again. The window
    behind the newest bar is not over, and so need not be there.
    """
    length = length_ms * NS_PER_MS
    condition = f"{chosen.condition()} and interval_ms = {length_ms}"
    window = f"epoch_us(ts_event) // {length_ms * 1_000}"
    newest = engine.run(
        f"select venue, symbol, max({window}) as newest from bar_revisions where {condition} "
        "group by all",
        ["bar_revisions"],
        Scope(chosen.sources),
    ).to_pylist()
    if not newest:
        return False
    held = ", ".join(
        f"({quote(row['venue'])}, {quote(row['symbol'])}, {row['newest']})" for row in newest
    )
    low, high = _windows(first, last, length)
    rules = rules_of(engine, chosen, low, high, length_ms)
    counted = [] if rules is None else [rules.opens]
    times = time_condition("ts_event", low, high)
    missing = engine.run(
        f"with traded as (select distinct venue, symbol, {window} as bar from trades "
        f"where {' and '.join([chosen.condition(), *times, *counted])}), "
        f"held as (select distinct venue, symbol, {window} as bar from bar_revisions "
        f"where {' and '.join([condition, *times])}) "
        "select 1 from traded anti join held using (venue, symbol, bar) left join "
        f"(values {held}) as newest(venue, symbol, newest) using (venue, symbol) "
        "where newest is null or bar != newest + 1 limit 1",
        ["trades", "bar_revisions"],
        Scope(chosen.sources, low, high),
    )
    return not missing.num_rows


def _windows(first: int | None, last: int | None, length: int) -> tuple[int | None, int | None]:
    """Returns where the windows of `length` begin and end that begin within a range."""
    low = None if first is None else -(-first // length) * length
    high = None if last is None else -(-last // length) * length
    if low is not None and high is not None and low >= high:
        high = low
    return low, high
