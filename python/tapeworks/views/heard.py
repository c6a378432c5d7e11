"""What the rows themselves say of when a stream was recorded, where no note does.

Of a capture, and of recordings of before, nothing was noted. A note that a stream spoke may be lost
on its way to the lake, together with the rows around it: then those that are there say so.
"""

from collections.abc import Iterable, Iterator

from tapeworks._core import NONE
from tapeworks.lake import TABLES, Table
from tapeworks.topics import BARS
from tapeworks.views.conditions import time_condition
from tapeworks.views.query import Engine, Scope, has_column, quote
from tapeworks.views.recorded import EDGE_NS, KLINE, Recorded, Wanted
from tapeworks.views.sessions import Range, Stream, intersect, subtract, union
from tapeworks.views.view_sql import REVISIONS

# The flag of what the history of a venue gave: no stream carried it.
FROM_HISTORY = 4
Doubtful = dict[Range, list[tuple[Wanted, Stream]]]
"""What is wanted, and a stream of it, by recordings in which nothing says that it spoke."""


def hear(engine: Engine, recorded: Recorded, wanted: list[Wanted]) -> None:
    """Notes of what is wanted by channel where nothing says that it was recorded."""
    for key in {(one.symbol, one.group) for one in wanted if one.group}:
        spans = union(recorded.unlisted)
        if (until := recorded.known_until) is not None:
            # What comes after is not known yet, of no channel.
            spans = subtract(spans, [(until, NONE)])
        found = [_heard(engine, recorded, *key, span) for span in spans]
        recorded.unheard[key] = subtract(spans, [span for span in found if span])


def _heard(
    engine: Engine, recorded: Recorded, symbol: str, group: tuple[str, ...], span: Range
) -> Range | None:
    """Returns from the first to the last record of the channels in a range, and a bit around.

    What a capture holds does not begin and end at one instant.
    """
    time = _clock(recorded)
    where = [f"symbol = {quote(symbol)}"] if symbol else []
    where += _within(recorded, span)
    found = []
    for table, name in _tables(group):
        test = list(where)
        if has_column(table.name, "channel"):
            test.append(f"channel in ({', '.join(map(quote, group))})")
        sql = (
            f"select epoch_ns(min({time})), epoch_ns(max({time})) from {name} "
            f"where {' and '.join(test)}"
        )
        row = engine.run(sql, [name], Scope([recorded.source]))
        low, high = (column[0].as_py() for column in row.columns)
        if low is not None:
            found.append((low, high + 1_000))
    if not found:
        return None
    low, high = min(found)[0] - EDGE_NS, max(high for _, high in found) + EDGE_NS
    return max(span[0], low), min(span[1], high)


def held_range(engine: Engine, source: str, until: int | None) -> list[Range]:
    """Returns the range of the records up to `until`, where no recorder noted what it did."""
    spans: list[Range] = []
    for name in ("trades", "quotes", "marks", "venue_bars"):
        sql = f"select epoch_ns(min(ts_recv)), epoch_ns(max(ts_recv)) from {name}"
        found = engine.run(sql, [name], Scope([source]))
        low, high = found.column(0)[0].as_py(), found.column(1)[0].as_py()
        if low is not None:
            spans.append((low, high + 1_000))
    if not spans:
        return []
    first, last = min(low for low, _ in spans), max(high for _, high in spans)
    last = last if until is None else min(last, until)
    return [(first, last)] if first < last else []


def silent_streams(recorded: Recorded, wanted: list[Wanted], span: Range) -> Doubtful:
    """Returns what is wanted of which no message is noted in recordings that `span` touches.

    Bars of one interval are told from those of another by the name of their stream alone: rows say
    nothing of them.
    """
    found: Doubtful = {}
    for one in wanted:
        if not one.symbol or one.channel in ("", KLINE):
            continue
        for stream in one.streams:
            for each in recorded.silent.get(stream, []):
                if intersect([each], [span]):
                    found.setdefault(each, []).append((one, stream))
    return found


def believe_rows(
    engine: Engine, recorded: Recorded, doubtful: Doubtful, lost: Iterable[Range]
) -> None:
    """Counts streams as carried whose rows are there, in recordings of which something is lost."""
    ranges = union((start - EDGE_NS, end + EDGE_NS) for start, end in lost)
    for span, pairs in doubtful.items():
        if not intersect([span], ranges):
            continue
        channels = {one.group or (one.channel,) for one, _ in pairs}
        found = _speakers(engine, recorded, span, {one.symbol for one, _ in pairs}, channels)
        for one, stream in pairs:
            names = (stream.channel,) if stream.channel else one.group or (one.channel,)
            silent = recorded.silent.get(stream, [])
            if span in silent and any((one.symbol, name) in found for name in names):
                silent.remove(span)
                carried = recorded.carried.get(stream, [])
                recorded.carried[stream] = union([*carried, span])


def _speakers(
    engine: Engine,
    recorded: Recorded,
    span: Range,
    symbols: set[str],
    groups: Iterable[tuple[str, ...]],
) -> set[tuple[str, str]]:
    """Returns the symbols and channels of which there are rows that came live in a range."""
    where = [f"symbol in ({', '.join(map(quote, sorted(symbols)))})", *_within(recorded, span)]
    wanted = sorted({name for group in groups for name in group})
    found: set[tuple[str, str]] = set()
    for table, name in _tables(wanted):
        has_channel = has_column(table.name, "channel")
        column = "channel" if has_channel else "null as channel"
        test = list(where)
        if has_column(table.name, "flags"):
            test.append(f"(flags & {FROM_HISTORY}) = 0")
        sql = f"select distinct symbol, {column} from {name} where {' and '.join(test)}"
        for row in engine.run(sql, [name], Scope([recorded.source])).to_pylist():
            names = [row["channel"]] if has_channel else table.channels[0]
            found.update((row["symbol"], each) for each in names)
    return found


def _tables(group: Iterable[str]) -> Iterator[tuple[Table, str]]:
    """Yields the tables that a channel of `group` alone fills, and what queries call them."""
    for table in TABLES.values():
        # A row of a table that two groups fill may be of either.
        if len(table.channels) != 1 or not set(group).intersection(table.channels[0]):
            continue
        # Bars of trades end by a clock, and those of a venue are sent again and again.
        if table.topic == BARS:
            continue
        name = {one: every for every, one in REVISIONS.items()}.get(table.name, table.name)
        yield table, name


def _clock(recorded: Recorded) -> str:
    return "ts_event" if recorded.is_late else "ts_recv"


def _within(recorded: Recorded, span: Range) -> list[str]:
    return time_condition(_clock(recorded), span[0] // 1_000 * 1_000, span[1] + 1_000)
