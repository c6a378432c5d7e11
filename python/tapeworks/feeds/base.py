"""What a venue's session rules have to say: the contract of a feed, without any I/O.

A `Feed` is asked what to do and told what happened; it opens no socket, starts no task and reads
no clock. `session.py` does these for every feed alike: it holds the connections, writes every
frame to the raw tape, watches for silence, and rotates. The data frames themselves go untouched
to the decoder of the core; only the venue's rare control messages come here.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from tapeworks.errors import VenueError
from tapeworks.feeds.limits import WeightBudget
from tapeworks.registry import load_member

CUT_MARK = "#cut"
"""Ends the context of a frame or an answer of which a part never came: it is a dead letter. No path
of a request holds a fragment of its own."""


class Clock:
    """The time of this host; tests pass their own."""

    def now(self) -> float:
        """Returns seconds that only rise."""
        return time.monotonic()

    def wall_ns(self) -> int:
        """Returns nanoseconds since the Unix epoch."""
        return time.time_ns()


@dataclass(frozen=True)
class Line:
    """One WebSocket connection to hold, and what it is to carry."""

    name: str
    url: str
    streams: tuple[str, ...]
    group: int = 0
    """Its number among the lines of the feed: connections of one group stand in for each other."""
    copies: int = 1
    """How many sockets carry the same streams at once."""
    headers: tuple[tuple[str, str], ...] = ()
    """Name and value, of the request that opens the connection, beside those of every WebSocket."""


def group_lines(lines: Iterable[Line]) -> list[Line]:
    """Returns `lines`, of one group exactly if they carry the same streams.

    A feed may leave the group out: lines of different streams must not pass for copies of each
    other, or that one of them is down would not be noticed.
    """
    groups: dict[frozenset[str], int] = {}
    return [
        replace(line, group=groups.setdefault(frozenset(line.streams), len(groups)))
        for line in lines
    ]


class ControlKind(Enum):
    """What a frame that is not market data says."""

    ACK = "ack"
    REFUSED = "refused"
    LISTING = "listing"
    SHUTDOWN = "shutdown"
    DENIED = "denied"
    """The venue lets this client in no more: a wrong key, no right to the data, too many
    connections. See `Control.retry_after_s`."""
    DATA = "data"
    """Market data after all."""
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Control:
    """A control message, understood."""

    kind: ControlKind
    id: int | str | None = None
    message: str = ""
    streams: tuple[str, ...] = ()
    """Of a listing: what is subscribed. Of market data: the streams that it belongs to."""
    retry_after_s: float = 0.0
    """Of a denial: the next connection is opened no sooner; 0: none is, and the recorder ends."""
    reply: bytes = b""
    """What is to be sent back at once, such as the answer to a ping that is a message."""
    paused: tuple[str, ...] = ()
    """Streams that do not come until that is answered: what they lack until then is a gap."""


@dataclass(frozen=True)
class LivenessPolicy:
    """When the silence of a stream means that something is wrong."""

    first_message_timeout_s: float | None = None
    """The first message is due this soon after subscribing; none: the stream may stay silent."""
    idle_timeout_s: float | None = None
    """Silence for longer than this is a loss; none: silence says nothing."""
    learned: bool = False
    """The idle timeout grows with the mean interval that the stream has shown."""


@dataclass(frozen=True, order=True)
class Request:
    """One REST request whose answer goes to the raw tape. The lowest priority number goes first."""

    priority: int
    path: str = field(compare=False)
    weight: int = field(compare=False, default=1)
    symbol: str = field(compare=False, default="")
    symbols: tuple[str, ...] = field(compare=False, default=())
    """The symbols that it names, where one of them may make the venue refuse it."""
    last_id: int = field(compare=False, default=0)
    """Of a history: the number of the last event that is wanted, on any page; 0: it has none."""
    ts_last: int = field(compare=False, default=0)
    """Of a history that is asked for by times: the last that is wanted, in ns. Rows behind it prove
    nothing."""


@dataclass(frozen=True)
class EndedGap:
    """A loss of trades or quotes whose extent is known."""

    symbol: str
    channel: str
    """`trade`, `agg_trade` or `quote`."""
    cause: str
    ids: tuple[int, int]
    """First and last missing number; 0 where the ledger knows none."""
    times: tuple[int, int]
    """Of the last event before it and the first behind it, by the venue, in ns."""
    behind: int = 0
    """Number of the first event behind it; 0 where it has none."""
    lacks_from: int = 0
    """First number that the history did not give before; 0: it was not asked yet."""

    @property
    def seconds(self) -> float:
        """How long it is."""
        return (self.times[1] - self.times[0]) / 1e9

    def __str__(self) -> str:
        return f"symbol={self.symbol} channel={self.channel} seconds={self.seconds:.3f}"


@dataclass(frozen=True)
class HistoryPage:
    """One answer of a venue's history."""

    reached: int
    """Time of the newest row, up to the end of the unit in which it is told, in ns; -1: none."""
    following: Request | None = None
    """The request for the next page; none: it is the last."""
    lacks: str = ""
    """What it should hold and does not: the gap is not filled."""
    is_behind: bool = False
    """The history ends before what was asked for by numbers: it is asked again, whatever its times
    say, as many events may be of one instant."""


@dataclass(frozen=True)
class SessionRules:
    """Limits and times of a venue's connections, in seconds."""

    sends_per_s: float = 4.0
    """Messages to the venue per connection, pongs counted."""
    ping_s: float | None = None
    """A connection on which the venue has not pinged for so long is dead."""
    idle_timeout_s: float = 30.0
    """A connection that carries nothing at all for so long is dead."""
    heartbeat_s: float | None = None
    """Send `Feed.heartbeat` so often; for venues that wait for a word of ours."""
    probe_s: float | None = None
    """Send a WebSocket ping so often, whose answer is a word of the venue; for venues that say
    nothing while nothing happens."""
    connect_s: float = 10.0
    ack_s: float = 10.0
    overlap_s: float = 30.0
    """A planned rotation waits so long for the new connection to carry what the old one does. 0:
    the venue allows one connection, so that the old one is closed first, which is a gap."""
    age_s: float = 82_800.0
    """Connections are rotated at this age."""
    connects: int = 100
    """New connections per `connects_window_s`, of this process."""
    connects_window_s: float = 300.0
    backoff_s: float = 0.25
    backoff_max_s: float = 30.0
    backoff_reset_s: float = 30.0
    """Back-off starts anew after a connection delivered for so long."""


class FeedConfig(Protocol):
    """The frozen dataclass of a feed's settings."""

    @property
    def kind(self) -> str:
        """The kind of feed: a name of the table, or where a class of the user's own is."""
        ...

    @property
    def name(self) -> str:
        """The source: the folder of its tapes."""
        ...

    @property
    def record_channels(self) -> Collection[str]:
        """The core's names of the record channels that are subscribed, as far as they are known."""
        ...


class Feed(ABC):
    """One venue's session rules."""

    native: str
    """The name of the decoder in the core; `foreign` where the feed decodes by itself."""
    connection: str = "tapeworks.feeds.connection:Connection"
    """Where the class of its connections is: a WebSocket, unless the venue speaks otherwise."""
    rules: SessionRules
    source: str
    """The name of the source: the folder of its tapes."""
    ca_file: str | None = None
    insecure: bool = False
    """Accepts any certificate: for a simulator on this machine only."""
    proxy: str | None = None
    pending_bytes_max: int = 64 << 20
    """Frames waiting for a tape that cannot be written take at most so many bytes."""
    secrets: tuple[str, ...] = ()
    """What must not be shown, also where the venue tells it back."""
    sends_binary: bool = False
    """Messages to the venue are binary ones; they are text unless the venue says otherwise."""
    rest_url: str = ""
    """Where requests go, without a path; empty: no request is made."""
    rest_headers: Mapping[str, str] = MappingProxyType({})
    snapshot_refresh_s: float = 0.0
    """Put a fresh snapshot of every book on the raw tape after so long; 0: never."""
    definitions_s: float = 0.0
    """Repeat the opening requests after so long; 0: never."""
    backfill_s: float = 0.0
    """Gaps in trades and quotes up to so long are filled from the venue's history; 0: none."""
    delay_s: float = 0.0
    """The venue tells what happened so much later, as the feed is sold; its history is as late."""
    delays: Mapping[str, float] = MappingProxyType({})
    """The same of single channels, by the core's name, which are later than the others."""
    budget: WeightBudget
    """Of all requests from this process."""

    @abstractmethod
    def lines(self) -> Sequence[Line]:
        """Returns the connections to hold."""

    @abstractmethod
    def subscriptions(self, streams: Sequence[str]) -> "Subscriptions":
        """Returns the conversation that subscribes a fresh connection to `streams`."""

    @abstractmethod
    def control(self, payload: bytes) -> Control:
        """Understands a frame that did not start like market data. Never raises."""

    def heartbeat(self) -> bytes:
        """Returns the message that keeps a connection alive: see `SessionRules.heartbeat_s`."""
        return b""

    def liveness(self, stream: str) -> LivenessPolicy:
        """Returns when the silence of `stream` means that something is wrong."""
        return LivenessPolicy()

    def is_trading(self, stream: str, wall_ns: int) -> bool:
        """Says whether the venue trades what `stream` carries at a time since the Unix epoch.

        While it does not, silence is no loss. See `hours.py`.
        """
        return True

    def delay_of(self, channel: str) -> float:
        """Returns how much later than it happened a record channel is told, in seconds."""
        return self.delays.get(channel, self.delay_s)

    def symbol(self, stream: str) -> str:
        """Returns the venue symbol that `stream` is about, or nothing: it is about all.

        Where decoded events tell which streams spoke, this and `channel` say of which it is.
        """
        return ""

    def channel(self, stream: str) -> str:
        """Returns the core's name of the record channel that `stream` fills."""
        return "none"

    def resume(self, tape: Path) -> None:  # noqa: B027
        """Reads what it needs to go on from the raw tape in the folder `tape`, if there is one.

        Called once, before anything is connected. Most feeds need nothing.
        """

    def opening_requests(self) -> Sequence[Request]:
        """Returns the requests to make before the first connection."""
        return ()

    def definitions_request(self, symbols: Sequence[str]) -> Request | None:
        """Returns the request for the definitions of `symbols` alone; none if there is no such.

        Asked where an opening request is refused (status 400), to learn which symbol it is for.
        """
        return None

    def without(self, symbols: Sequence[str]) -> Sequence[str]:
        """Leaves out `symbols`, which the venue does not know; returns their streams."""
        return ()

    def snapshot_request(self, symbol: str, *, broken: bool) -> Request | None:
        """Returns the request for the book of `symbol`; none if its book is not recorded."""
        return None

    def snapshot_message(self, symbol: str) -> bytes | None:
        """Returns what to send where the book of `symbol` is asked for in the stream itself.

        It is asked on the connection that carries the book; none: the venue has no such message.
        """
        return None

    def books(self) -> Sequence[str]:
        """Returns the symbols whose books are recorded."""
        return ()

    def polls(self, now: float, wall_ns: int) -> Sequence[Request]:
        """Returns the requests that are due at `now` and no event asks for, such as for news.

        It is asked every second; what the venue answers comes to `answered`.
        """
        return ()

    def history_request(self, gap: EndedGap) -> Request | None:
        """Returns the request for what `gap` lacks, with the events at both of its ends.

        None: the venue keeps no history of it. A decoder of one's own writes the rows of the
        answer with `historical=True`, so that those which came already are not stored again.
        """
        return None

    def history_page(self, request: Request, body: bytes) -> HistoryPage | None:
        """Understands an answer to what `history_request` gave; none: it cannot be read."""
        return None

    def flaw(self, request: Request, body: bytes) -> str:
        """Returns why the body of a good answer is of no use, such as one that is cut; or nothing.

        Such an answer is kept, marked as cut, and asked for again.
        """
        return ""

    def answered(
        self, request: Request, headers: Mapping[str, str], body: bytes, wall_s: float
    ) -> None:
        """Takes in a good answer: the budget may be in its headers or its body."""
        return

    def refused(
        self, status: int, headers: Mapping[str, str], body: bytes, wall_s: float
    ) -> VenueError:
        """Returns the error that an answer of HTTP status 400 or more means."""
        return VenueError(f"the venue answered {status}", status=status, retry_after_ms=60_000)


class Subscriptions(Protocol):
    """The conversation that subscribes one connection. Sans I/O."""

    @property
    def done(self) -> bool:
        """Whether nothing more is to be sent or awaited."""
        ...

    @property
    def failed(self) -> Sequence[str]:
        """The streams that the venue refused."""
        ...

    def next(self) -> bytes | None:
        """Returns the next message to send, or none while there is none."""
        ...

    def receive(self, control: Control) -> None:
        """Takes in the venue's answer."""
        ...

    def give_up(self) -> bool:
        """Counts as failed what is not answered in time; says whether the rest can go on.

        Where one answer is of all that was asked for, nothing can: it says no.
        """
        ...


def build(config: FeedConfig) -> Feed:
    """Builds the feed that `config` describes.

    Raises:
        ConfigError: there is no such feed.
    """
    feed: Feed = load_member("feed", config.kind)(config)
    return feed
