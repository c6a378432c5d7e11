"""Which books to ask the venue for, and when. Sans I/O but for the queue of requests.

A book that lost continuity is asked for as soon as an update shows it, and ever more slowly while
that does not help.
"""

from collections.abc import Iterable, Set
from dataclasses import dataclass

from tapeworks.feeds.base import Feed
from tapeworks.feeds.connection import Connection
from tapeworks.feeds.rest import Requests

_ASK_FIRST_S = 1.0
_ASK_MAX_S = 30.0


@dataclass
class _Ask:
    """When the book of a symbol was last asked for, and how long to wait until the next time."""

    due: float
    pause_s: float = _ASK_FIRST_S

    def postpone(self, now: float) -> None:
        """Waits twice as long until the next time."""
        self.pause_s = min(self.pause_s * 2, _ASK_MAX_S)
        self.due = now + self.pause_s


class BookRequests:
    """Asks for the books of one feed."""

    def __init__(self, feed: Feed, requests: Requests) -> None:
        self._feed = feed
        self._requests = requests
        self._books = set(feed.books())
        self._asks: dict[str, _Ask] = {}

    def refresh(self, now: float) -> None:
        """Asks for a fresh snapshot of each book, broken or not."""
        for symbol in self._feed.books():
            request = self._feed.snapshot_request(symbol, broken=False)
            if request is not None:
                self._requests.push(request)
                self._asks[symbol] = _Ask(now + _ASK_FIRST_S)

    def repair(self, needy: Iterable[str], connections: Iterable[Connection], now: float) -> None:
        """Asks for the books that lost continuity, ever more slowly while that does not help.

        Nothing is asked for before an update shows the need: a snapshot that is older than the
        first update behind a gap would be of no use, and a reconnect may have lost nothing.
        """
        broken: Set[str] = self._books.intersection(needy)
        for symbol in [symbol for symbol in self._asks if symbol not in broken]:
            del self._asks[symbol]
        for symbol in broken:
            ask = self._asks.setdefault(symbol, _Ask(now))
            request = self._feed.snapshot_request(symbol, broken=True)
            if request is None:
                if now >= ask.due and self._ask_in_stream(symbol, connections, now):
                    ask.postpone(now)
            elif self._requests.waiting(request.path):
                ask.due = now + ask.pause_s
            elif now >= ask.due:
                self._requests.push(request)
                ask.postpone(now)

    def _ask_in_stream(self, symbol: str, connections: Iterable[Connection], now: float) -> bool:
        """Asks for a book on a connection that carries it; says whether there is such a one."""
        message = self._feed.snapshot_message(symbol)
        connection = next((c for c in connections if self._carries(c, symbol)), None)
        if message is None or connection is None:
            return False
        connection.say(message, now)
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
