"""One WebSocket connection as Massive sees it: its key, and what it listens to."""

import json
from collections.abc import Callable, Iterable, Sequence

from aiohttp import web

from tapeworks._core import Frames
from tapeworks.feeds.massive.channels import PRODUCTS
from tapeworks.simulators.connection import TEXT, Connection, message

EVENTS_MAX = 100
"""Events in one message."""
ALL = "*"


class MassiveConnection(Connection):
    """A connection to one market."""

    def __init__(
        self,
        number: int,
        socket_: web.WebSocketResponse,
        request: web.Request,
        find: Callable[[str], int | None],
        market: str,
        listed: Sequence[str],
    ) -> None:
        super().__init__(number, socket_, request, find)
        self.market = market
        self.key: str | None = None
        """That with which it logged in; none before."""
        self.is_surplus = False
        """Whether it will be told that it is one too many."""
        self.asked: set[str] = set()
        """The names that were accepted, stars as they are."""
        self._listed = listed

    @property
    def form(self) -> bytes:
        """Its streams."""
        return bytes(self.mask)

    def encode(self, frames: Frames) -> bytes:
        """Returns arrays of events."""
        return frames.arrays(bytes(self.mask), EVENTS_MAX, False)

    def single(self, name: str, payload: bytes, cut: int = 0) -> bytes:
        """Returns an array of one event."""
        body = b"[%b]" % payload
        return message(TEXT, body[:-cut] if cut else body)

    def say(self, *told: tuple[str, str]) -> None:
        """Sends statuses and their messages, in one frame."""
        events = [{"ev": "status", "status": status, "message": text} for status, text in told]
        self.write(message(TEXT, json.dumps(events, separators=(",", ":")).encode()))

    def change(
        self, names: Iterable[str], denied: Sequence[str], *, add: bool
    ) -> list[tuple[str, str]]:
        """Changes what it listens to, and returns what is answered.

        Channels that the venue has not, and what is so already, are answered with nothing.
        """
        said: list[tuple[str, str]] = []
        refused: set[str] = set()
        for name in names:
            channel, _, symbol = name.partition(".")
            if channel not in PRODUCTS[self.market] or not symbol:
                continue
            if channel in denied:
                if channel not in refused:
                    said.append(("error", "not authorized"))
                refused.add(channel)
            elif add and name not in self.asked:
                self.asked.add(name)
                said.append(("success", f"subscribed to: {name}"))
            elif not add and name in self.asked:
                self.asked.remove(name)
                said.append(("success", f"unsubscribed to: {name}"))
        self._listen()
        return said

    def _listen(self) -> None:
        wanted = set()
        for name in self.asked:
            channel, _, symbol = name.partition(".")
            symbols = self._listed if symbol == ALL else [symbol]
            wanted |= {f"{channel}.{one}" for one in symbols}
        for name in sorted(self.names.keys() - wanted):
            self.unsubscribe(name)
        for name in sorted(wanted - self.names.keys()):
            self.subscribe(name)
