"""When a source was recorded, and when which of its streams was subscribed, by what was noted.

A recorder notes when it begins and ends, when a connection opens and closes, when the venue has
answered for all streams of a connection, and what became of each stream wherever that changes. A
stream was carried while it counts as subscribed and a connection of its line was up. A recorder
that did not note its end was killed: what was received last says until when it recorded.

All of that is noted by the time of receipt. Of a source whose events come late, it is told by the
time of the venue: from the first moment of which all was received, up to the last such moment.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa

from tapeworks._core import numbers
from tapeworks.views.delays import Delay, Delays
from tapeworks.views.query import Engine, Runner, Scope
from tapeworks.views.symbols import Chosen

Range = tuple[int, int]
# Of what the recorder itself is noted as a connection.
RECORDER = 0xFFFF
# From here on the state of a delay is that of one channel, whose number is added.
OF_CHANNEL = 16
CHANNELS = {number: name for name, number in numbers("channel").items()}
REFUSED, SPOKE = "refused", "spoke"


class Stream(NamedTuple):
    """One stream of a venue, as a recorder asked for it."""

    symbol: str
    """The venue's symbol; empty for a stream of several."""
    channel: str
    """Empty if it is not known which channel the stream fills."""
    name: str


class Mark(NamedTuple):
    """A row of `sessions`."""

    offset: int
    code: str
    connection: int
    line: int
    ts: int
    ts_before: int | None
    state: int = 0


class Note(NamedTuple):
    """A row of `subscriptions`."""

    offset: int
    stream: Stream
    line: int
    state: str
    ts: int


@dataclass
class Sessions:
    """Ranges in ns, ascending; no end is included.

    They are by the clock of the recording host, less the delay of a source whose events come late.
    """

    ranges: list[Range] = field(default_factory=list)
    """When anything was recorded."""
    is_open: bool = False
    """Whether the last range may go on: its recorder did not say that it ended."""
    unlisted: list[Range] = field(default_factory=list)
    """The part of it in which nobody noted what was subscribed."""
    carried: dict[Stream, list[Range]] = field(default_factory=dict)
    """When each stream was subscribed, in recordings in which it spoke."""
    silent: dict[Stream, list[Range]] = field(default_factory=dict)
    """The same in recordings in which it did not."""
    refused: dict[Stream, list[Range]] = field(default_factory=dict)
    """When the venue was there and refused it."""
    owed: dict[Stream, list[Range]] = field(default_factory=dict)
    """When each stream was subscribed, of what its channel, later than others, had yet to tell at
    the end of the recording."""
    is_late: bool = False
    """Whether events of any recording came late."""
    least: int = 0
    """By how much events came late in each recording at least, in ns."""
    most: int = 0
    """By how much they came late at most, at the end of all."""


def read_sessions(marks: Iterable[Mark], notes: Iterable[Note], newest: int | None) -> Sessions:
    """Returns what `marks` and `notes` say; `newest` is the time of the last record of all."""
    walk = _Walk()
    entries: list[Mark | Note] = [*marks, *notes]
    for entry in sorted(entries, key=lambda entry: entry.offset):
        if isinstance(entry, Mark):
            walk.mark(entry)
        else:
            walk.note(entry)
    walk.found.is_open = bool(walk.live)
    walk.end(walk.since if newest is None else newest + 1)
    found = walk.found
    if found.is_late:
        # One that is late goes on where one that was not has ended.
        found.ranges, found.unlisted = union(found.ranges), union(found.unlisted)
    for ranges in (found.carried, found.silent, found.refused, found.owed):
        for stream, spans in ranges.items():
            ranges[stream] = union(spans)
    return found


class _Walk:
    """Goes through the notes in their order."""

    def __init__(self) -> None:
        self.found = Sessions()
        self.live: dict[int, int] = {}
        """Connections that are up, and their lines."""
        self.since = 0
        self._delays = Delays()
        self._spans: list[Range] = []
        self._least: int | None = None
        self._is_listed = False
        self._late: dict[str, int] = {}
        """By how much channels come later than others, in ns."""
        self._lines: dict[int, list[Range]] = {}
        self._lines_since: dict[int, int] = {}
        self._states: dict[tuple[int, Stream], tuple[str, int]] = {}
        self._past: list[tuple[int, Stream, str, Range]] = []
        self._spoke: set[tuple[int, Stream]] = set()

    def mark(self, mark: Mark) -> None:
        """Takes in what became of the recorder, or of a connection."""
        connection, ts = mark.connection, mark.ts
        if mark.code == "connected" and connection == RECORDER:
            self.end(min(ts, ts if mark.ts_before is None else mark.ts_before))
        elif mark.code == "subscribed" and connection == RECORDER:
            self._is_listed = True
        elif mark.code == "connected":
            if self._is_listed:
                # It carries nothing before the venue has answered.
                self._drop(connection, ts)
            else:
                self._raise(connection, mark.line, ts)
        elif mark.code == "subscribed":
            self._raise(connection, mark.line, ts)
        elif mark.code == "disconnected":
            self._drop(connection, ts)
        elif mark.code == "delay" and mark.state >= OF_CHANNEL:
            self._late[CHANNELS.get(mark.state - OF_CHANNEL, "")] = mark.line
        elif mark.code == "delay":
            self._delays.noted.append(Delay(ts, mark.connection, mark.line, not mark.state))
        elif mark.code == "end_of_session":
            self.end(ts)

    def note(self, note: Note) -> None:
        """Takes in what became of a stream."""
        key = note.line, note.stream
        if note.state == SPOKE:
            self._spoke.add(key)
            return
        if key in self._states:
            state, since = self._states[key]
            self._past.append((*key, state, (since, note.ts)))
        self._states[key] = note.state, note.ts

    def end(self, ts: int) -> None:
        """Ends a recording: nothing of it is up any more."""
        if self.live and ts == self.since:
            # All of an import may be of one instant, which is a time as well.
            ts += 1
        for connection in list(self.live):
            self._drop(connection, ts)
        for key, (state, since) in self._states.items():
            self._past.append((*key, state, (since, ts)))
        found = self.found
        spans = [self._of_venue(span) for span in self._spans]
        found.ranges += spans
        if not self._is_listed:
            found.unlisted += spans
        # A recorder subscribes many streams of a line at one time.
        every: dict[tuple[int, Range], list[Range]] = {}
        for line, stream, state, span in self._past:
            up = every.get((line, span))
            if up is None:
                raised = intersect([span], self._lines.get(line, []))
                up = every[line, span] = [self._of_venue(each) for each in raised]
            if state == REFUSED:
                found.refused.setdefault(stream, []).extend(up)
            elif (line, stream) in self._spoke:
                late = self._late.get(stream.channel, 0)
                # What it lost where its line was down meanwhile is in the ledger.
                told = [(up[0][0], up[-1][1] - late)] if late and up else up
                found.carried.setdefault(stream, []).extend(told)
                found.owed.setdefault(stream, []).extend(subtract(up, union(told)))
            else:
                found.silent.setdefault(stream, []).extend(up)
        self._is_listed = False
        self._late = {}
        held: tuple[Any, ...] = (self._lines, self._lines_since, self._states, self._past)
        for each in (*held, self._spoke, self._spans):
            each.clear()
        self._end_delays(is_recording=bool(spans))

    def _end_delays(self, *, is_recording: bool) -> None:
        delays, found = self._delays, self.found
        if is_recording:
            found.is_late = found.is_late or bool(delays.noted)
            least = delays.least if self._least is None else min(self._least, delays.least)
            self._least = found.least = least
        found.most = delays.most
        self._delays = Delays(before=delays.most)

    def _of_venue(self, span: Range) -> Range:
        """Returns what of the venue's time was received in `span`; what is empty begins later."""
        return self._delays.start(span[0]), self._delays.end(span[1])

    def _raise(self, connection: int, line: int, ts: int) -> None:
        if not self.live:
            self.since = ts
        self.live[connection] = line
        self._lines_since.setdefault(line, ts)

    def _drop(self, connection: int, ts: int) -> None:
        line = self.live.pop(connection, None)
        if line is None:
            return
        if line not in self.live.values():
            since = self._lines_since.pop(line)
            if since < ts:
                self._lines.setdefault(line, []).append((since, ts))
        if not self.live and self.since < ts:
            self._spans.append((self.since, ts))


def union(ranges: Iterable[Range]) -> list[Range]:
    """Returns what is in any of `ranges`, ascending, without overlap."""
    found: list[Range] = []
    for start, end in sorted(ranges):
        if start >= end:
            continue
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], end)
        else:
            found.append((start, end))
    return found


def intersect(left: list[Range], right: list[Range]) -> list[Range]:
    """Returns what is in a range of both; each ascends without overlap."""
    found: list[Range] = []
    at = 0
    for start, end in left:
        while at < len(right) and right[at][1] <= start:
            at += 1
        following = at
        while following < len(right) and right[following][0] < end:
            low, high = max(start, right[following][0]), min(end, right[following][1])
            if low < high:
                found.append((low, high))
            following += 1
    return found


def subtract(left: list[Range], right: list[Range]) -> list[Range]:
    """Returns what is in a range of `left` and in none of `right`; each ascends."""
    found: list[Range] = []
    cuts = intersect(left, right)
    at = 0
    for start, end in left:
        since = start
        while at < len(cuts) and cuts[at][0] < end:
            if since < cuts[at][0]:
                found.append((since, cuts[at][0]))
            since = cuts[at][1]
            at += 1
        if since < end:
            found.append((since, end))
    return found


def read_notes(engine: Engine, chosen: Chosen) -> dict[str, tuple[list[Mark], list[Note]]]:
    """Returns by source what its recorders noted of themselves, and of subscriptions.

    Of subscriptions only those to the symbols, and those that are of no symbol.
    """
    found: dict[str, tuple[list[Mark], list[Note]]] = {each: ([], []) for each in chosen.sources}
    if not found:
        return found
    symbols = chosen.symbols
    named = None if symbols is None else {each: ["", *symbols[each]] for each in symbols}
    condition = Chosen(chosen.sources, named).condition()

    def read(run: Runner) -> tuple[pa.Table, pa.Table]:
        marks = run(
            "select venue, tape_offset, code, connection, line, epoch_ns(ts_recv) + ts_recv_ns, "
            "epoch_ns(ts_before) + ts_before_ns, state from sessions order by tape_offset"
        )
        notes = run(
            "select venue, tape_offset, symbol, coalesce(channel, '') as channel, stream, line, "
            "state, epoch_ns(ts_recv) + ts_recv_ns as ts "
            f"from subscriptions where {condition} order by tape_offset"
        )
        return marks, notes

    tables = ["sessions", "subscriptions"]
    marks, notes = engine.together(tables, Scope(chosen.sources), read)
    for source, *row in zip(*(column.to_pylist() for column in marks.columns), strict=True):
        found[source][0].append(Mark(*row))
    streams = _streams(notes.select(["symbol", "channel", "stream"]))
    names = ("venue", "tape_offset", "line", "state", "ts")
    rest = (notes.column(name).to_pylist() for name in names)
    for stream, source, offset, *row in zip(streams, *rest, strict=True):
        found[source][1].append(Note(offset, stream, *row))
    return found


def _streams(table: pa.Table) -> list[Stream]:
    """Returns the stream of each row; there are few, and each is noted at every start."""
    # Arrow's own dictionaries would load pandas for it, which takes longer than a question.
    known: dict[tuple[str, ...], Stream] = {}
    rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
    return [known.get(row) or known.setdefault(row, Stream(*row)) for row in rows]
