"""What an answer certifies: the gaps that touch it, and the time of which nothing can be said.

Four things keep a range from being complete. A gap is in the ledger. Time in which no recorder of
the source was connected was not recorded. While it was, a stream may not have been subscribed, the
venue may have refused it, or no message of it may have come. What came after the ledger's
watermark, the last record of which its gaps were derived, is not known yet. What is in none of
them is complete.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from tapeworks._core import NONE, numbers
from tapeworks.errors import QueryError
from tapeworks.views.entries import gaps_sql
from tapeworks.views.query import Engine, Scope, quote
from tapeworks.views.reach import RECORDS, derived_until, newest_receipt
from tapeworks.views.result import Result
from tapeworks.views.sessions import (
    Mark,
    Note,
    Range,
    Stream,
    intersect,
    read_sessions,
    subtract,
    union,
)
from tapeworks.views.symbols import Chosen
from tapeworks.views.tail import SourceTail
from tapeworks.views.times import format_time

GAPS = "market-data.gaps"
GAP, NOT_RECORDED, NOT_YET_KNOWN = "gap", "not_recorded", "not_yet_known"
NOT_SUBSCRIBED, REFUSED, SILENT = "not_subscribed", "refused", "silent"
KLINE = "kline"
NAMES_SHOWN = 5
TOLD = {
    NOT_SUBSCRIBED: "not subscribed",
    REFUSED: "refused by the venue",
    SILENT: "subscribed, and no message came",
}
Asked = tuple[int | None, int | None]
"""A range in ns. A side is open where nothing was recorded on it."""
Channels = Sequence[tuple[str, ...]] | None
"""Groups of channels that a question is about; none means all that were ever asked for."""


@dataclass(frozen=True)
class Recorded:
    """What is known of the recording of one source, in ns by the clock of this host."""

    source: str
    ranges: list[Range]
    """When it was recorded, from and to, ascending; the end is not included."""
    is_open: bool
    """Whether the last range may go on: its recorder did not say that it ended."""
    known_until: int | None
    """All gaps of before are in the ledger; none means that nothing is known of any."""
    unlisted: list[Range] = field(default_factory=list)
    """The part of `ranges` in which it was not noted what was subscribed: by a recorder of before
    this was noted, or a capture that was imported. It counts as recorded for every symbol, from the
    first mention of the symbol on."""
    carried: dict[Stream, list[Range]] = field(default_factory=dict)
    """When each stream was subscribed, in recordings in which it spoke."""
    silent: dict[Stream, list[Range]] = field(default_factory=dict)
    """The same in recordings in which no message of it came."""
    refused: dict[Stream, list[Range]] = field(default_factory=dict)
    """When the venue refused it."""

    defined: dict[str, int] = field(default_factory=dict)
    """When each symbol was mentioned first."""

    def streams(self) -> list[Stream]:
        """Returns all streams that were ever asked for."""
        return sorted({*self.carried, *self.silent, *self.refused})


NOTHING = Recorded("", [], False, None)
"""What is known of a folder without sources."""


@dataclass(frozen=True)
class Wanted:
    """What one row of findings is about: a symbol, and the streams that would carry it."""

    symbol: str
    channel: str
    streams: list[Stream]

    def covered(self, recorded: Recorded) -> list[Range]:
        """Returns when any of the streams was carried, or it is not known which were."""
        return union([*self._unlisted(recorded), *_spans(recorded.carried, self.streams)])

    def _unlisted(self, recorded: Recorded) -> list[Range]:
        if not self.symbol:
            return recorded.unlisted
        first = recorded.defined.get(self.symbol)
        return [] if first is None else intersect(recorded.unlisted, [(first, NONE)])


class Coverage(Result):
    """Rows of what is missing or not known; none means that the range is complete."""

    def __init__(self, table: pa.Table, title: str, recorded: list[Recorded], asked: Asked) -> None:
        super().__init__(table, title)
        self.recorded = recorded
        """Recorded ranges and the ledger's watermark, by source."""
        self._asked = asked

    @property
    def is_complete(self) -> bool:
        """Whether all of the range was recorded, and no gap of it is or may yet be found."""
        return not len(self)

    @property
    def gaps(self) -> Result:
        """The gaps of the ledger alone."""
        table = self.to_arrow()
        # They come first.
        count = table["finding"].to_pylist().count(GAP)
        return Result(table.slice(0, count).drop_columns(["finding"]), "gaps")

    def summary(self) -> list[str]:
        """Returns sentences: how many gaps are recorded, what was not recorded or is not known."""
        rows = self.to_pylist()
        count = sum(row["finding"] == GAP for row in rows)
        told = {0: "no gaps", 1: "1 gap"}.get(count, f"{count:,} gaps")
        first, last = self._asked
        span = _span_text(_time_text(first), _time_text(last))
        within = f"from {span}" if None not in self._asked else span
        lines = [f"{told} recorded {within}"]
        lines += [
            f"not recorded: {_span_text(row['ts_from'], row['ts_to'])} "
            f"({row['venue'] or 'no source'})"
            for row in rows
            if row["finding"] == NOT_RECORDED
        ]
        lines += _told_subscriptions(rows)
        lines += [
            f"not yet known: gaps after {row['ts_from']} ({row['venue']})"
            for row in rows
            if row["finding"] == NOT_YET_KNOWN
        ]
        lines += [
            f"not known by symbol: {format_time(start)} to {format_time(end)} ({each.source}): "
            "counts as recorded for every symbol since its first mention"
            for each in self.recorded
            for start, end in intersect(each.unlisted, _ranges_of(self._asked))
        ]
        return lines

    def __repr__(self) -> str:
        return "\n".join([*self.summary(), super().__repr__()] if len(self) else self.summary())


def channel_groups(channel: str | None) -> Channels:
    """Returns what a question about one channel is about; none means all.

    Raises:
        QueryError: there is no such channel.
    """
    known = [name for name in numbers("channel") if name not in ("", "session", "definition")]
    if channel is not None and channel not in known:
        raise QueryError(f"expected a channel of {', '.join(sorted(known))}, got {channel!r}")
    return None if channel is None else [(channel,)]


class Ledger:
    """The gaps of a data folder, and how far they are known."""

    def __init__(self, engine: Engine, data: Path) -> None:
        self._engine = engine
        self._data = data

    def gaps(self, chosen: Chosen, first: int | None, last: int | None) -> Result:
        """Returns the latest state of each gap that touches the symbols and the range."""
        sql = gaps_sql(self._data, chosen, first, last)
        found = self._engine.run(sql, ["gaps"], Scope(sources=chosen.sources))
        return Result(found, " ".join(["gaps", *chosen.names]))

    def coverage(
        self, chosen: Chosen, first: int | None, last: int | None, channels: Channels = None
    ) -> Coverage:
        """Returns what keeps the range from being complete for the sources, symbols and channels.

        Raises:
            QueryError: there is no such channel.
        """
        recorded = [self.recorded(source, chosen) for source in chosen.sources]
        wanted = {each.source: _wanted(each, chosen, channels) for each in recorded}
        asked = _asked(recorded, wanted, first, last)
        rows = [
            _row(each.source, finding, finding, None, span)
            for each in recorded or [NOTHING]
            for finding, *span in _unknown(each, asked)
        ] + [
            _row(each.source, NOT_SUBSCRIBED, cause, one, span)
            for each in recorded
            for one in wanted[each.source]
            for cause, span in _not_carried(each, one, asked)
        ]
        entries = gaps_sql(self._data, chosen, first, last, channels)
        sql = f"select '{GAP}' as finding, * from ({entries})"
        gaps = self._engine.run(sql, ["gaps"], Scope(sources=chosen.sources))
        table = pa.concat_tables([gaps, _rows_like(gaps.schema, rows)])
        title = " ".join(["coverage", *chosen.names])
        return Coverage(table, title, recorded, asked)

    def recorded(self, source: str, chosen: Chosen | None = None) -> Recorded:
        """Returns when `source` was recorded, which streams of the symbols were carried when, and
        up to when its gaps are known.
        """
        tail = self._engine.tail(source)
        marks, notes = self._marks(source), self._notes(source, chosen)
        found = read_sessions(marks, notes, newest_receipt(tail, RECORDS))
        known_until = derived_until(tail, GAPS)
        ranges, unlisted = found.ranges, found.unlisted
        if not marks or marks[0].offset > 0:
            # Nothing was noted at first: all that is known is what is held of that time.
            held = self._held(source, marks[0].ts if marks else None)
            ranges, unlisted = [*held, *ranges], [*held, *unlisted]
        streams = found.carried, found.silent, found.refused
        is_open = found.is_open or not marks
        return Recorded(
            source, ranges, is_open, known_until, unlisted, *streams, _first_mentions(tail)
        )

    def _marks(self, source: str) -> list[Mark]:
        sql = (
            "select tape_offset, code, connection, line, epoch_ns(ts_recv) + ts_recv_ns, "
            "epoch_ns(ts_before) + ts_before_ns from sessions order by tape_offset"
        )
        found = self._engine.run(sql, ["sessions"], Scope([source]))
        columns = (column.to_pylist() for column in found.columns)
        return [Mark(*row) for row in zip(*columns, strict=True)]

    def _notes(self, source: str, chosen: Chosen | None) -> list[Note]:
        names = None if chosen is None or chosen.symbols is None else chosen.symbols[source]
        condition = "true"
        if names is not None:
            condition = f"symbol in ({', '.join(map(quote, ['', *names]))})"
        sql = (
            "select tape_offset, symbol, coalesce(channel, ''), stream, line, state, "
            f"epoch_ns(ts_recv) + ts_recv_ns from subscriptions where {condition} "
            "order by tape_offset"
        )
        found = self._engine.run(sql, ["subscriptions"], Scope([source]))
        columns = (column.to_pylist() for column in found.columns)
        return [
            Note(offset, Stream(symbol, channel, name), line, state, ts)
            for offset, symbol, channel, name, line, state, ts in zip(*columns, strict=True)
        ]

    def _held(self, source: str, until: int | None) -> list[Range]:
        """Returns the range of the records up to `until`, where no recorder noted what it did."""
        spans: list[Range] = []
        for name in ("trades", "quotes", "marks", "venue_bars"):
            sql = f"select epoch_ns(min(ts_recv)), epoch_ns(max(ts_recv)) from {name}"
            found = self._engine.run(sql, [name], Scope([source]))
            low, high = found.column(0)[0].as_py(), found.column(1)[0].as_py()
            if low is not None:
                spans.append((low, high + 1_000))
        if not spans:
            return []
        first, last = min(low for low, _ in spans), max(high for _, high in spans)
        last = last if until is None else min(last, until)
        return [(first, last)] if first < last else []


def _wanted(recorded: Recorded, chosen: Chosen, channels: Channels) -> list[Wanted]:
    """Returns what a question is about in one source, by symbol and channel."""
    streams = recorded.streams()
    if chosen.symbols is None:
        symbols = sorted({stream.symbol for stream in streams})
    else:
        symbols = chosen.symbols[recorded.source]
    # A stream of several symbols counts for each, one of an unknown channel for all.
    wanted = []
    for symbol in symbols:
        own = [stream for stream in streams if stream.symbol in ("", symbol)]
        groups = channels
        if groups is None:
            groups = sorted({(stream.channel,) for stream in own if stream.channel}) or [()]
        for group in groups:
            matching = [s for s in own if not (group and s.channel) or s.channel in group]
            # Bars of one interval do not stand in for those of another.
            names = sorted({s.name for s in matching if s.channel == KLINE})
            parts = [[s for s in matching if s.name == name] for name in names] or [matching]
            label = group[0] if group else ""
            for part in parts:
                wanted.append(Wanted(symbol, part[0].channel if part else label, part))
    return wanted


def _spans(ranges: dict[Stream, list[Range]], streams: list[Stream]) -> list[Range]:
    return union(span for stream in streams for span in ranges.get(stream, []))


def _held_of(recorded: Recorded, wanted: list[Wanted]) -> list[Range]:
    return union(span for one in wanted for span in one.covered(recorded))


def _asked(
    recorded: list[Recorded], wanted: dict[str, list[Wanted]], first: int | None, last: int | None
) -> Asked:
    """Returns the range that is asked about: an open side ends where the recording does.

    Of a side on which nothing was recorded, it stays open.
    """
    own = [_held_of(each, wanted[each.source]) or each.ranges for each in recorded]
    every = [each.ranges for each in recorded]
    for held in (own, every):
        edges = [edge for ranges in held for span in ranges for edge in span]
        low = min(edges, default=None) if first is None else first
        high = max(edges, default=None) if last is None else last
        if low is not None and high is not None and low < high:
            return low, high
    return first, last


def _ranges_of(asked: Asked) -> list[Range]:
    return [] if None in asked else [asked]  # type: ignore[list-item]


def _not_carried(recorded: Recorded, wanted: Wanted, asked: Asked) -> Iterator[tuple[str, Range]]:
    """Yields the parts of what was recorded in which nothing of `wanted` was carried, and why."""
    within = intersect(union(recorded.ranges), _ranges_of(asked))
    rest = subtract(within, wanted.covered(recorded))
    for cause, ranges in ((REFUSED, recorded.refused), (SILENT, recorded.silent)):
        found = intersect(rest, _spans(ranges, wanted.streams))
        yield from ((cause, span) for span in found)
        rest = subtract(rest, found)
    yield from ((NOT_SUBSCRIBED, span) for span in rest)


def _time_text(ts: int | None) -> str | None:
    return None if ts is None else format_time(ts)


def _span_text(start: Any, end: Any) -> str:
    """Returns a range in words; none is a side on which it does not end."""
    if start is None:
        return "at any time" if end is None else f"before {end}"
    return f"from {start} on" if end is None else f"{start} to {end}"


def _told_subscriptions(rows: list[dict[str, Any]]) -> list[str]:
    """Returns a sentence for each range in which streams were not carried, naming a few of them."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        if row["finding"] == NOT_SUBSCRIBED:
            key = row["cause"], row["ts_from"], row["ts_to"], row["venue"]
            groups.setdefault(key, []).append(f"{row['symbol']} {row['channel'] or ''}".strip())
    lines = []
    for (cause, start, end, venue), names in groups.items():
        more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
        named = ", ".join(names[:NAMES_SHOWN]) + more
        lines.append(f"{TOLD[cause]}: {named}: {start} to {end} ({venue})")
    return lines


def _unknown(recorded: Recorded, asked: Asked) -> Iterator[tuple[str, int | None, int | None]]:
    """Yields the parts of a range that were not recorded, or whose gaps are not known yet."""
    first, last = asked
    if first is None or last is None:
        # All of it is outside of what was recorded: behind it, a recorder may go on.
        may_go_on = recorded.is_open and recorded.ranges and first is not None
        yield NOT_YET_KNOWN if may_go_on else NOT_RECORDED, first, last
        return
    at = first
    for start, end in recorded.ranges:
        if at < min(start, last):
            yield NOT_RECORDED, at, min(start, last)
        at = max(at, end)
    known = recorded.known_until
    for start, end in recorded.ranges:
        low, high = max(start, first, first if known is None else known), min(end, last)
        if low < high:
            yield NOT_YET_KNOWN, low, high
    if at < last:
        # A recorder that did not say that it ended may have more than can be seen here.
        yield NOT_YET_KNOWN if recorded.is_open else NOT_RECORDED, at, last


def _row(
    source: str, finding: str, cause: str, wanted: Wanted | None, span: Sequence[int | None]
) -> dict[str, Any]:
    start, end = span
    return {
        "finding": finding,
        "venue": source or None,
        "cause": cause,
        "symbol": (wanted and wanted.symbol) or None,
        "channel": (wanted and wanted.channel) or None,
        "ts_from": None if start is None else start // 1_000,
        "ts_from_ns": None if start is None else start % 1_000,
        "ts_to": None if end is None else end // 1_000,
        "ts_to_ns": None if end is None else end % 1_000,
    }


def _rows_like(schema: pa.Schema, rows: list[dict[str, Any]]) -> pa.Table:
    """Returns `rows` with the columns of `schema`; what they do not name is null."""
    columns = []
    for column in schema:
        values = pa.array([row.get(column.name) for row in rows])
        columns.append(pa.nulls(0, column.type) if not rows else values.cast(column.type))
    return pa.Table.from_arrays(columns, schema=schema)


def _first_mentions(tail: SourceTail) -> dict[str, int]:
    """Returns when each symbol was mentioned first; one that was given anew has several ids."""
    found: dict[str, int] = {}
    definitions = pa.record_batch(tail.symbols().records().arrow("definition"))
    names = definitions.column("symbol").to_pylist()
    starts = definitions.column("valid_from").cast(pa.int64()).to_pylist()
    for name, start in zip(names, starts, strict=True):
        ts = 0 if start is None else start * 1_000
        found[name] = min(ts, found.get(name, ts))
    return found
