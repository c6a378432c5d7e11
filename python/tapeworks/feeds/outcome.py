"""What a recording was asked for, and what of it was achieved.

A recorder tells it of itself in `state/<source>/recorder.json`, and the command that started it
says it at the end. The rule, for scripts and cron:

- `nothing`: no message of any stream that was asked for came.
- `part`: a stream was refused, never subscribed, or overdue: silent for longer than its first
  message may take; or its line was down at the end; or a book whose updates came was never verified
  by a snapshot; or frames were shed.
- `all`: everything else. A stream that may be quiet by nature, such as the trades of a symbol that
  nobody trades, is told as silent, and is no failure; nor are gaps, which the ledger holds.
"""

import contextlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from tapeworks._core import Ingest
from tapeworks.exits import EXIT_DONE, EXIT_FAILED, EXIT_INCOMPLETE
from tapeworks.feeds.base import Feed, group_lines
from tapeworks.feeds.connection import Connection

NAMES_SHOWN = 5


@dataclass
class Outcome:
    """What became of all that one source was asked to record."""

    source: str = ""
    streams: int = 0
    """Streams that were asked for."""
    spoke: int = 0
    frames: int = 0
    """Messages of those streams."""
    silent: list[str] = field(default_factory=list)
    """Subscribed, and quiet, as they may be."""
    overdue: list[str] = field(default_factory=list)
    """Subscribed, and quiet for longer than their first message may take."""
    unknown: list[str] = field(default_factory=list)
    """Symbols that the venue does not know; their streams count as refused."""
    refused: list[str] = field(default_factory=list)
    unsubscribed: list[str] = field(default_factory=list)
    """Never subscribed: the venue was not reached, or did not answer."""
    down: list[str] = field(default_factory=list)
    """Subscribed once, and no connection carried it at the end."""
    books: int = 0
    verified: int = 0
    """Books that a snapshot proved at least once."""
    unverified: list[str] = field(default_factory=list)
    """Symbols whose updates came, and whose book was never verified."""
    snapshots: bool = True
    """Whether snapshots can be asked for at all; if not, unverified books are no failure."""
    gaps: int = 0
    """Entries of the ledger that this run added, as far as it is derived."""
    shed: int = 0
    dead_letters: int = 0
    degraded: str = ""
    """Why the normalized tape was not written to the end; the raw tape was."""
    ended: bool = True
    """Whether the recorder ended in good order; if not, no more is known than `trouble`."""
    trouble: str = ""
    """Why something was not achieved, as far as it is known."""

    @property
    def lacking(self) -> bool:
        """Whether a part of what was asked for was not recorded."""
        books = self.unverified if self.snapshots else []
        streams = self.overdue or self.refused or self.unsubscribed or self.down
        return bool(streams or books or self.shed)

    @property
    def verdict(self) -> str:
        """`all`, `part` or `nothing`."""
        if not self.frames:
            return "nothing"
        return "part" if self.lacking else "all"

    @property
    def exit_code(self) -> int:
        """The exit code that says the verdict."""
        if not self.ended or self.degraded:
            return EXIT_FAILED
        return EXIT_DONE if self.verdict == "all" else EXIT_INCOMPLETE

    def lines(self) -> list[str]:
        """Returns the summary at the end of the recording."""
        if not self.ended:
            return [f"{self.source}: {self.trouble}"]
        books = f"{self.verified} of {self.books} books verified; " if self.books else ""
        told = [
            f"{self.source}: this run: {self.spoke} of {self.streams} streams received data, "
            f"{self.frames:,} messages; {books}"
            f"{_count(self.gaps, 'new gap')}, {_count(self.dead_letters, 'dead letter')}, "
            f"{_count(self.shed, 'frame')} shed"
        ]
        for names, what in (
            (self.silent, "subscribed, silent"),
            (self.overdue, "subscribed, and no message came though one was due"),
            (self.unknown, "no symbol of the venue"),
            (self.refused, "refused by the venue"),
            (self.unsubscribed, "never subscribed"),
            (self.down, "connection down at the end, an open gap"),
            (self.unverified, "book never verified" + ("" if self.snapshots else ": requests off")),
        ):
            if names:
                told.append(f"{self.source}: {what}: {_listed(names)}")
        if self.degraded:
            told.append(
                f"{self.source}: the raw frames are kept; they are not normalized since the tape "
                f"is damaged: run `tape repair`: {self.degraded}"
            )
        if self.verdict != "all":
            what = "nothing" if self.verdict == "nothing" else "only a part"
            why = f": {self.trouble}" if self.trouble else ""
            told.append(f"{self.source}: {what} of what was asked for was recorded{why}")
        return told

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Self:
        """Returns the outcome that `as_dict` gave."""
        return cls(**{name: value for name, value in told.items() if name != "verdict"})

    def as_dict(self) -> dict[str, Any]:
        """Returns all fields and the verdict, for `recorder.json`."""
        return {**asdict(self), "verdict": self.verdict}


def exit_code_of(outcomes: Sequence[Outcome]) -> int:
    """Returns the exit code for several sources: a failure first, then what was not recorded."""
    codes = {outcome.exit_code for outcome in outcomes}
    return next((code for code in (EXIT_FAILED, EXIT_INCOMPLETE) if code in codes), EXIT_DONE)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more


def read_outcome(data: Path, source: str, run: str) -> Outcome:
    """Returns what the recorder of `source` said at its end, if that was in the run `run`."""
    path = data / "state" / source / "recorder.json"
    try:
        status = json.loads(path.read_text(encoding="utf-8"))
        # No clock tells which run it was of: somebody may have set it since.
        if status["ended"] and status["run"] == run:
            if status.get("refused"):
                return Outcome(source, trouble=str(status["trouble"]))
            return Outcome.of(status["outcome"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    log = data / "log" / f"recorder-{source}.log"
    trouble = f"its recorder did not end in good order, and what it achieved is unknown; see {log}"
    return Outcome(source, ended=False, trouble=trouble)


class Tally:
    """Counts over all connections of a session what became of each stream and book."""

    def __init__(self, feed: Feed, ingest: Ingest, excused: Mapping[str, float]) -> None:
        """`excused` says when the silence of a stream was last without a meaning, if it was."""
        self._excused = excused
        self._feed = feed
        self._ingest = ingest
        self._frames: dict[str, int] = {}
        self._subscribed_s: dict[str, float] = {}
        self._refused: set[str] = set()
        self._carried: set[str] = set()
        """Streams that a connection carried until the recorder closed it to stop."""
        self._books = set(feed.books())
        self._snapshots = bool(feed.rest_url) or any(
            feed.snapshot_message(symbol) is not None for symbol in self._books
        )
        self._streams: tuple[str, ...] = ()
        # Known before the venue answers; what is wrong with them is told when they are opened.
        with contextlib.suppress(Exception):
            for line in group_lines(feed.lines()):
                self.ask(line.streams)
        self._unknown: list[str] = []

    def ask(self, streams: Sequence[str]) -> None:
        """Notes the streams that are asked for."""
        self._streams = tuple(dict.fromkeys([*self._streams, *streams]))

    def refuse(self, symbols: Sequence[str], streams: Sequence[str]) -> None:
        """Notes symbols that the venue does not know, and their streams, which were asked for."""
        self._unknown += symbols
        self.ask(streams)
        self._refused.update(streams)
        self._books = set(self._feed.books())

    def add(self, connection: Connection, now: float) -> None:
        """Takes in what a connection that ended has carried."""
        for stream, frames in connection.carried.items():
            self._frames[stream] = self._frames.get(stream, 0) + frames
        _merge_times(self._subscribed_s, connection, now)
        self._refused.update(connection.failed)
        if connection.stops:
            self._carried |= _carried_by(connection)

    def outcome(
        self, live: Sequence[Connection], now: float, stats: Mapping[str, Any], trouble: str
    ) -> Outcome:
        """Returns what was achieved so far."""
        verified = {symbol for symbol in self._books if self._ingest.was_verified(symbol)}
        frames, times, refused = dict(self._frames), dict(self._subscribed_s), set(self._refused)
        carried = set(self._carried)
        for connection in live:
            if connection.stops or not connection.closed:
                carried |= _carried_by(connection)
            _merge_times(times, connection, now)
            refused.update(connection.failed)
            for stream, count, _, _ in self._ingest.activity(connection.number):
                frames[stream] = frames.get(stream, 0) + count
        found = Outcome(
            source=self._feed.source,
            streams=len(self._streams),
            unknown=list(self._unknown),
            spoke=sum(1 for stream in self._streams if frames.get(stream)),
            frames=sum(frames.get(stream, 0) for stream in self._streams),
            books=len(self._books),
            verified=len(verified),
            snapshots=self._snapshots,
            gaps=stats["gaps"],
            shed=stats["shed"],
            dead_letters=stats["dead_letters"],
            degraded=self._ingest.degraded() or "",
            trouble=trouble,
        )
        moving, down = set(), times.keys() - carried - refused
        found.down = [stream for stream in self._streams if stream in down]
        for stream in self._streams:
            if frames.get(stream):
                if self._feed.channel(stream) == "depth":
                    moving.add(self._feed.symbol(stream))
                continue
            if stream in down:
                continue
            due_s = self._feed.liveness(stream).first_message_timeout_s
            if stream in refused:
                found.refused.append(stream)
            elif stream not in times:
                found.unsubscribed.append(stream)
            elif due_s is not None and due_s < min(
                times[stream], now - self._excused.get(stream, -math.inf)
            ):
                found.overdue.append(stream)
            else:
                found.silent.append(stream)
        found.unverified = sorted((self._books - verified) & moving)
        return found


def _carried_by(connection: Connection) -> set[str]:
    """Returns the streams that a connection is subscribed to."""
    streams = set(connection.line.streams) if connection.subscribed else set()
    return streams.difference(connection.failed)


def _merge_times(times: dict[str, float], connection: Connection, now: float) -> None:
    """Adds up for how long each stream was subscribed."""
    if not connection.subscribed:
        return
    until = connection.closed_at or now
    for stream in connection.line.streams:
        times[stream] = times.get(stream, 0.0) + until - connection.subscribed_at
