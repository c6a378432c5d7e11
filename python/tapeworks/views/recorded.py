"""What is known of a recording, and which parts of a range it leaves out."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tapeworks._core import NONE, numbers
from tapeworks.errors import ArgumentError
from tapeworks.views.reach import Waiting
from tapeworks.views.sessions import Range, Stream, intersect, subtract, union
from tapeworks.views.symbols import Chosen

NOT_RECORDED, NOT_YET_KNOWN = "not_recorded", "not_yet_known"
NOT_SUBSCRIBED, REFUSED, SILENT = "not_subscribed", "refused", "silent"
NOT_KNOWN = "not_known"
LATE = "late"
"""Of a channel that its feed tells later than others: it had not come when a recording ended."""
NOT_MEASURED = "not_measured"
NOT_CORRECTED = "not_corrected"
FILLED_LATER = "filled_later"
"""Of what was not measured: it was lost when the metrics were made, and came after that."""
BEGUN_ANEW = "begun_anew"
"""Of what was made when asked for: live values remember more than it was made of."""
KLINE = "kline"
NEWS = "news"
"""What the names of streams of news begin with, which fill no channel."""
EDGE_NS = 5_000_000_000
"""Within so much, in ns, all that is recorded together begins, and ends."""
Asked = tuple[int | None, int | None]
"""A range in ns. A side is open where nothing was recorded on it."""
Filled = Mapping[tuple[str, str, str], Sequence[Range]]
"""Ranges of repaired gaps in ns, by source, symbol and channel."""
Channels = Sequence[tuple[str, ...]] | None
"""Groups of channels that a question is about; none means all that were ever asked for."""


@dataclass(frozen=True)
class Recorded:
    """What is known of the recording of one source, in ns by the clock of this host, less the delay
    of a source whose events come late."""

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
    first mention of the symbol on; but channels that a question names count from their first record
    to their last (`unheard` is the rest)."""
    carried: dict[Stream, list[Range]] = field(default_factory=dict)
    """When each stream was subscribed, in recordings in which it spoke."""
    silent: dict[Stream, list[Range]] = field(default_factory=dict)
    """The same in recordings in which no message of it came."""
    refused: dict[Stream, list[Range]] = field(default_factory=dict)
    """When the venue refused it."""

    defined: dict[str, int] = field(default_factory=dict)
    """When each symbol was mentioned first."""
    waiting: Waiting | None = None
    """Raw frames that are in no table yet."""
    unread: list[Range] = field(default_factory=list)
    """When those were received: a part of `ranges` of which no note is known yet."""
    unheard: dict[tuple[str, tuple[str, ...]], list[Range]] = field(default_factory=dict)
    """The parts of `unlisted` before the first and after the last record of a symbol and a group of
    channels."""
    is_late: bool = False
    """Whether events came late."""
    owed: dict[Stream, list[Range]] = field(default_factory=dict)
    """When it was subscribed, and what happened had not come at the end, as it comes late."""

    def within(self, asked: Asked) -> list[Range]:
        """Returns the parts of `asked` that were recorded, and of which notes are known."""
        return subtract(intersect(union(self.ranges), ranges_of(asked)), self.unread)

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
    group: tuple[str, ...] = ()
    """The channels that the question names; none means that it names none."""

    def covered(self, recorded: Recorded) -> list[Range]:
        """Returns when any of the streams was carried, or it is not known which were."""
        return union([*self._unlisted(recorded), *_spans(recorded.carried, self.streams)])

    def _unlisted(self, recorded: Recorded) -> list[Range]:
        return subtract(self._mentioned(recorded), self._unheard(recorded))

    def not_known(self, recorded: Recorded) -> list[Range]:
        """Returns when it is not known whether any of the streams was carried, and none spoke."""
        return intersect(self._mentioned(recorded), self._unheard(recorded))

    def _unheard(self, recorded: Recorded) -> list[Range]:
        return recorded.unheard.get((self.symbol, self.group), [])

    def _mentioned(self, recorded: Recorded) -> list[Range]:
        unlisted = union(recorded.unlisted)
        if not self.symbol:
            return unlisted
        first = recorded.defined.get(self.symbol)
        return [] if first is None else intersect(unlisted, [(first, NONE)])


def unread_ranges(
    waiting: Waiting | None, newest: int | None, is_open: bool, late: int
) -> list[Range]:
    """Returns when the frames were received that are in no table yet, less how late they are."""
    if waiting is None:
        return []
    start = waiting.ts_from
    if newest is not None and (is_open or start is None):
        # It went on where the last record was received.
        start = newest + 1 if start is None else min(newest + 1, start)
    if start is None:
        return []
    return [(start - late, max(start, waiting.ts_last or start) + 1 - late)]


def wanted_of(recorded: Recorded, chosen: Chosen, channels: Channels) -> list[Wanted]:
    """Returns what a question is about in one source, by symbol and channel."""
    streams = recorded.streams()
    if chosen.symbols is None:
        symbols = sorted({stream.symbol for stream in streams})
        if channels and recorded.unlisted:
            # Of any symbol: nothing says which there are.
            symbols = sorted({"", *symbols})
    else:
        symbols = chosen.symbols[recorded.source]
    # A stream of several symbols counts for each, one of an unknown channel for all.
    wanted = []
    by_symbol: dict[str, list[Stream]] = {}
    for stream in streams:
        by_symbol.setdefault(stream.symbol, []).append(stream)
    for symbol in symbols:
        # Those of several symbols come first, as in the order of all.
        own = [*by_symbol.get("", []), *by_symbol.get(symbol, [])] if symbol else streams
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
                channel = part[0].channel if part else label
                wanted.append(Wanted(symbol, channel, part, group if channels else ()))
    return wanted


def news_of(recorded: Recorded, chosen: Chosen, channels: Channels) -> list[Wanted]:
    """Returns what a question about news is about in one source: the streams that tell them."""
    return [Wanted("", NEWS, [s for s in recorded.streams() if s.name.startswith(NEWS)])]


def _spans(ranges: dict[Stream, list[Range]], streams: list[Stream]) -> list[Range]:
    return union(span for stream in streams for span in ranges.get(stream, []))


def _held_of(recorded: Recorded, wanted: list[Wanted]) -> list[Range]:
    return union(span for one in wanted for span in one.covered(recorded) + one.not_known(recorded))


def _own_ranges(recorded: Recorded, wanted: list[Wanted]) -> list[Range]:
    """Returns the ranges of what is asked for, with those of frames that may go on with it."""
    held = _held_of(recorded, wanted)
    if held and recorded.unread and held[-1][1] >= recorded.unread[0][0]:
        return [*held, *recorded.unread]
    return held or recorded.ranges


def asked_range(
    recorded: list[Recorded], wanted: dict[str, list[Wanted]], first: int | None, last: int | None
) -> Asked:
    """Returns the range that is asked about: an open side ends where the recording does.

    Sources and lines do not begin and end at one instant: it begins with the last of those that
    begin within `EDGE_NS`, and ends likewise. What is lost outside of it is in the ledger all the
    same. Of a side on which nothing was recorded, it stays open.
    """
    own = [_own_ranges(each, wanted[each.source]) for each in recorded]
    carried = [one.covered(each) for each in recorded for one in wanted[each.source]]
    every = [each.ranges for each in recorded]
    for held in ([*own, *carried], own, every):
        begun = [ranges[0][0] for ranges in held if ranges]
        ended = [max(end for _, end in ranges) for ranges in held if ranges]
        low, high = first, last
        if low is None and begun:
            low = max(start for start in begun if start <= min(begun) + EDGE_NS)
        if high is None and ended:
            high = min(end for end in ended if end >= max(ended) - EDGE_NS)
        if low is not None and high is not None and low < high:
            return low, high
    return first, last


def ranges_of(asked: Asked) -> list[Range]:
    """Returns the range that is asked about; none if a side of it is open."""
    return [] if None in asked else [asked]  # type: ignore[list-item]


def not_carried(
    recorded: Recorded, wanted: Wanted, within: list[Range]
) -> Iterator[tuple[str, Range]]:
    """Yields the parts of `within` in which nothing of `wanted` was carried, and why."""
    rest = subtract(within, wanted.covered(recorded))
    found = intersect(rest, wanted.not_known(recorded))
    yield from ((NOT_KNOWN, span) for span in found)
    rest = subtract(rest, found)
    others = (LATE, recorded.owed), (REFUSED, recorded.refused), (SILENT, recorded.silent)
    for cause, ranges in others:
        if not rest:
            return
        found = intersect(rest, _spans(ranges, wanted.streams))
        yield from ((cause, span) for span in found)
        rest = subtract(rest, found)
    # Requests are not noted: where no stream tells news, answers to them may have.
    is_noted = wanted.streams or wanted.channel != NEWS
    yield from ((NOT_SUBSCRIBED if is_noted else NOT_KNOWN, span) for span in rest)


def finding_of(recorded: Recorded, cause: str) -> str:
    """Returns the kind of finding that `not_carried` gave `cause` of."""
    if cause == LATE:
        return NOT_YET_KNOWN if recorded.is_open else NOT_RECORDED
    return cause if cause == NOT_KNOWN else NOT_SUBSCRIBED


def unknown_parts(recorded: Recorded, asked: Asked) -> Iterator[tuple[str, int | None, int | None]]:
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


def unfilled_parts(
    finding: str, span: Asked, source: str, wanted: Sequence[Wanted], filled: Filled
) -> list[Asked]:
    """Returns the parts of `span` that no history filled for all that is wanted of `source`.

    A gap is from the last event before it to the first behind it, which by the clock of this host
    are next to the time that was not recorded.
    """
    low, high = span
    if finding != NOT_RECORDED or not filled or low is None or high is None or not wanted:
        return [span]
    rest = [(low, high)]
    for one in wanted:
        gaps = filled.get((source, one.symbol, one.channel), [])
        near = [(a - EDGE_NS, b + EDGE_NS) for a, b in gaps if a < high and low < b]
        rest = intersect(rest, union(near))
    return list(subtract([(low, high)], rest))


def repaired_in(rows: Iterable[Mapping[str, Any]]) -> int:
    """Returns how many gaps the entries of `rows`, all repaired, are of: those of ids may be told
    by what filled them as well, with other times.
    """
    found = set()
    for row in rows:
        has_ids = row["first_missing"] is not None
        names = ("first_missing",) if has_ids else ("ts_from", "ts_to")
        found.add(tuple(row[name] for name in ("venue", "symbol", "channel", "cause", *names)))
    return len(found)


def channel_groups(channel: str | None) -> Channels:
    """Returns what a question about one channel is about; none means all.

    Raises:
        QueryError: there is no such channel.
    """
    known = [name for name in numbers("channel") if name not in ("", "session", "definition")]
    if channel is not None and channel not in known:
        raise ArgumentError(f"expected a channel of {', '.join(sorted(known))}, got {channel!r}")
    return None if channel is None else [(channel,)]
