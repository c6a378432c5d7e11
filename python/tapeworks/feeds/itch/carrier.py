"""What every line of ITCH has in common, whatever carries it."""

import ssl
from abc import abstractmethod
from collections.abc import Callable

from tapeworks._core import Ingest
from tapeworks.feeds.base import Clock, Feed, Line
from tapeworks.feeds.connection import Connection
from tapeworks.feeds.itch.session import ItchFeed


class ItchConnection(Connection):
    """One line: nothing is asked of it in words, so that it is sent nothing but signs of life."""

    def __init__(
        self,
        number: int,
        line: Line,
        feed: Feed,
        ingest: Ingest,
        flush: Callable[[], None],
        clock: Clock,
    ) -> None:
        super().__init__(number, line, feed, ingest, flush, clock)
        assert isinstance(feed, ItchFeed)
        self._itch = feed
        self._prepare()

    @abstractmethod
    def _prepare(self) -> None:
        """Makes what it needs before it is opened."""

    async def open(self, context: ssl.SSLContext | None) -> None:
        """Begins to receive.

        Raises:
            OSError, TimeoutError: it cannot be done.
        """
        self._subscriptions = self._feed.subscriptions(self.line.streams)
        await self._open()

    @abstractmethod
    async def _open(self) -> None:
        """Begins to receive, as `open` says."""

    def _heard(self, ts: int) -> None:
        """Notes that something came at `ts`."""
        self.heard_ns, self.heard_at = ts, self._clock.now()

    def send_now(self, message: bytes, now: float) -> None:
        """Nothing is ever sent on a line."""
