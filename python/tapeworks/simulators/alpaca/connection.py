"""One WebSocket connection as Alpaca sees it: its login, its subscriptions, its encoding."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from aiohttp import web

from tapeworks._core import Frames
from tapeworks.simulators.connection import BINARY, TEXT, Connection, message

ERRORS = {
    400: "invalid syntax",
    401: "not authenticated",
    402: "auth failed",
    403: "already authenticated",
    404: "auth timeout",
    405: "symbol limit exceeded",
    406: "connection limit exceeded",
    407: "slow client",
    409: "insufficient subscription",
    410: "invalid subscribe action for this feed",
    412: "option messages are only available in MessagePack format",
    500: "internal error",
}
EVENTS_MAX = 100
"""Events in one message."""
ALL = "*"
LIMITED = ("trades", "quotes")
"""Channels whose symbols count against the limit of the plan."""
AUTOMATIC = ("corrections", "cancelErrors")
"""Channels of stocks that come with trades by themselves."""


class AlpacaConnection(Connection):
    """A connection to one feed; its other form is msgpack."""

    def __init__(
        self,
        number: int,
        socket_: web.WebSocketResponse,
        request: web.Request,
        find: Callable[[str], int | None],
        channels: Sequence[str],
        listed: Sequence[str],
    ) -> None:
        super().__init__(number, socket_, request, find)
        self.path = request.path
        self.other = request.headers.get("Content-Type") == "application/msgpack"
        self.key: str | None = None
        """That of the login; none before."""
        self.subscribed: dict[str, set[str]] = {channel: set() for channel in channels}
        self._listed = listed
        self.tells_news = False

    @property
    def form(self) -> tuple[bytes, bool]:
        """Its streams, and the encoding."""
        return bytes(self.mask), self.other

    def encode(self, frames: Frames) -> bytes:
        """Returns arrays of events."""
        return frames.arrays(bytes(self.mask), EVENTS_MAX, self.other)

    def single(self, name: str, payload: bytes, cut: int = 0) -> bytes:
        """Returns an array of one event."""
        body = b"\x91" + payload if self.other else b"[%b]" % payload
        return message(BINARY if self.other else TEXT, body[:-cut] if cut else body)

    def say(self, **told: object) -> None:
        """Sends a message of the session, which comes alone."""
        if self.other:
            self.write(message(BINARY, msgspec.msgpack.encode([told])))
        else:
            self.write(message(TEXT, msgspec.json.encode([told])))

    def say_error(self, code: int) -> None:
        """Sends an error."""
        self.say(T="error", code=code, msg=ERRORS[code])

    def read(self, received: bytes) -> dict[str, Any] | None:
        """Returns what the client says; none if it is not in the encoding of the connection."""
        try:
            told = (msgspec.msgpack.decode if self.other else json.loads)(received)
        except (msgspec.MsgspecError, ValueError):
            return None
        return told if isinstance(told, dict) else None

    def change(self, asked: Mapping[str, Iterable[str]], add: bool, limit: int) -> int | None:
        """Changes what is subscribed; returns the code of the error if nothing was changed."""
        after = {channel: set(symbols) for channel, symbols in self.subscribed.items()}
        for channel, symbols in asked.items():
            if channel in after:
                after[channel] = (
                    after[channel] | set(symbols) if add else after[channel] - {*symbols}
                )
            elif channel not in AUTOMATIC:
                return 410
        if sum(len(after.get(channel, ())) for channel in LIMITED) > limit:
            return 405
        self.subscribed = after
        wanted = {
            f"{channel}.{symbol}"
            for channel, symbols in after.items()
            for symbol in (self._listed if ALL in symbols else symbols)
        }
        for name in sorted(self.names.keys() - wanted):
            self.unsubscribe(name)
        for name in sorted(wanted - self.names.keys()):
            self.subscribe(name)
        return None

    def say_subscribed(self) -> None:
        """Sends all that is subscribed."""
        state = {channel: sorted(symbols) for channel, symbols in self.subscribed.items()}
        if "statuses" in state:
            state |= dict.fromkeys(AUTOMATIC, state["trades"])
        self.say(T="subscription", **state)
