"""Which books to ask the venue for, and when. Sans I/O but for the queue of requests.

A book that lost continuity is asked for as soon as an update shows it, and with exponential
back-off while that does not help. A book whose stream is subscribed and says nothing is asked for
as well: it is then on the tape, and its first update verifies it. So is one whose snapshot is so
far ahead of its updates that they do not reach it.
"""

from collections.abc import Iterable, Set
from dataclasses import dataclass

from tapeworks._core import Ingest
from tapeworks.feeds.base import Feed
from tapeworks.feeds.connection import Connection
from tapeworks.feeds.rest import Requests

_ASK_FIRST_S = 1.0
_ASK_MAX_S = 30.0
QUIET_S = 5.0
"""A book of which no update came for so long after its subscription is asked for without one."""
AHEAD_S = 5.0
"""A snapshot that the updates of so long did not reach is not waited for any longer."""


@dataclass
class _Ask:
    """When the book of a symbol was last asked for, and how long to wait until the next time."""

    due: float
    pause_s: float = _ASK_FIRST_S

    def postpone(self, now: float) -> None:
        """Waits twice as long until the next time."""
        self.pause_s = min(self.pause_s * 2, _ASK_MAX_S)
        self.due = now + self.pause_s


@dataclass
class _Bridge:
    """A book that waits for updates to reach its snapshot: how many had come when it was asked."""

    frames: int
    ask: _Ask


class BookRequests:
    """Asks for the books of one feed."""

    def __init__(self, feed: Feed, ingest: Ingest, requests: Requests) -> None:
        self._feed = feed
        self._ingest = ingest
        self._requests = requests
        self._books = set(feed.books())
        self._asks: dict[str, _Ask] = {}
        self._unheard = {symbol: _Ask(0.0) for symbol in feed.books()}
        """Books of which nothing came yet, neither update nor snapshot."""
        self._bridges: dict[str, _Bridge] = {}

    def begin(self, connections: Iterable[Connection], now: float) -> None:
        """Asks for the books whose streams are subscribed and have not spoken.

        The request is made behind the subscription, so the snapshot is not older than the stream:
        where the first update does not continue it, the book breaks and is asked for as any.
        """
        if not self._unheard:
            return
        quiet = set()
        for connection in connections:
            if not connection.subscribed or connection.closed:
                continue
            for stream, frames, _, _ in self._ingest.activity(connection.number):
                symbol = self._feed.symbol(stream)
                if self._feed.channel(stream) != "depth" or symbol not in self._unheard:
                    continue
                if frames or self._ingest.book_state(symbol) != "empty":
                    del self._unheard[symbol]
                elif now - connection.subscribed_at >= QUIET_S:
                    quiet.add(symbol)
        for symbol in quiet & self._unheard.keys():
            ask = self._unheard[symbol]
            if now >= ask.due and self._ask(symbol, connections, now, broken=False):
                ask.postpone(now)

    def unblock(self, connections: Iterable[Connection], now: float) -> None:
        """Asks again for the books whose snapshot is far ahead of the updates that come."""
        connections = list(connections)
        frames = self._depth_frames(connections)
        bridging = {s for s in frames if self._ingest.book_state(s) == "bridging"}
        self._bridges = {s: b for s, b in self._bridges.items() if s in bridging}
        for symbol in bridging:
            start = _Bridge(frames[symbol], _Ask(now + AHEAD_S, AHEAD_S))
            bridge = self._bridges.setdefault(symbol, start)
            if (
                frames[symbol] > bridge.frames
                and now >= bridge.ask.due
                and self._ask(symbol, connections, now, broken=True)
            ):
                bridge.frames = frames[symbol]
                bridge.ask.postpone(now)

    def _depth_frames(self, connections: Iterable[Connection]) -> dict[str, int]:
        """Returns how many updates of each book came on the connections that are open."""
        found: dict[str, int] = {}
        for connection in connections:
            for stream, frames, _, _ in self._ingest.activity(connection.number):
                if self._feed.channel(stream) == "depth":
                    symbol = self._feed.symbol(stream)
                    found[symbol] = found.get(symbol, 0) + frames
        return found

    def refresh(self, now: float) -> None:
        """Asks for a fresh snapshot of each book, broken or not."""
        for symbol in self._feed.books():
            request = self._feed.snapshot_request(symbol, broken=False)
            if request is not None:
                self._requests.push(request)
                self._asks[symbol] = _Ask(now + _ASK_FIRST_S)

    def repair(self, needy: Iterable[str], connections: Iterable[Connection], now: float) -> None:
        """Asks for the books that lost continuity, with back-off while that does not help.

        Nothing is asked for before an update shows the need: a snapshot that is older than the
        first update behind a gap would be of no use, and a reconnect may have lost nothing.
        """
        broken: Set[str] = self._books.intersection(needy)
        for symbol in [symbol for symbol in self._asks if symbol not in broken]:
            del self._asks[symbol]
        for symbol in broken:
            ask = self._asks.setdefault(symbol, _Ask(now))
            request = self._feed.snapshot_request(symbol, broken=True)
            is_waiting = request is not None and self._requests.waiting(request.path)
            if is_waiting or any(one.is_replying for one in connections):
                ask.due = now + ask.pause_s
            elif now >= ask.due and self._ask(symbol, connections, now, broken=True):
                ask.postpone(now)

    def _ask(
        self, symbol: str, connections: Iterable[Connection], now: float, *, broken: bool
    ) -> bool:
        """Asks for a book by a request, or on a connection that carries it; says whether it did."""
        request = self._feed.snapshot_request(symbol, broken=broken)
        if request is not None:
            self._requests.push(request)
            return True
        connection = next((c for c in connections if self._carries(c, symbol)), None)
        # What begins a book again is a reply, and may be among those that wait.
        if connection is None or connection.is_replying:
            return False
        message = self._feed.snapshot_message(symbol)
        if message is None:
            return False
        connection.send_now(message, now)
        return True

    def _carries(self, connection: Connection, symbol: str) -> bool:
        return (
            connection.subscribed
            and not connection.closed
            and any(
                self._feed.channel(stream) == "depth" and self._feed.symbol(stream) == symbol
                for stream in connection.line.streams
            )
        )
