"""What each line of live ITCH is carried by."""

from collections.abc import Callable

from tapeworks._core import Ingest
from tapeworks.feeds.base import Clock, Feed, Line
from tapeworks.feeds.connection import Connection
from tapeworks.feeds.itch.config import SOUP
from tapeworks.feeds.itch.connection import MoldConnection
from tapeworks.feeds.itch.stream import SoupConnection


def connection_of(
    number: int, line: Line, feed: Feed, ingest: Ingest, flush: Callable[[], None], clock: Clock
) -> Connection:
    """Makes the connection of a line: a socket for packets, or a stream."""
    made = SoupConnection if line.url.startswith(SOUP) else MoldConnection
    return made(number, line, feed, ingest, flush, clock)
