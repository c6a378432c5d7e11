"""One WebSocket connection as Binance sees it: its messages, and its limits."""

import collections
import json
import re
import time
from collections.abc import Callable
from typing import Any

from aiohttp import web

from tapeworks._core import Frames
from tapeworks.simulators.binance.config import Limits
from tapeworks.simulators.connection import TEXT, Connection, message

ID_CHARACTERS_MAX = 36
INT64_MAX = 2**63 - 1
_STREAM = re.compile(r"[^\s@]+@\S+|![^\s@]+(@\S+)?")
_PUBLIC = re.compile(r"\w+@(bookTicker|depth.*|rpiDepth.*)|!bookTicker")


class Refusal(Exception):
    """A control message that the venue refuses, with its code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class BinanceConnection(Connection):
    """A connection and what it has asked for; its other form is that with microseconds."""

    def __init__(
        self,
        number: int,
        socket_: web.WebSocketResponse,
        request: web.Request,
        limits: Limits,
        find: Callable[[str], int | None],
        route: str | None,
    ) -> None:
        super().__init__(number, socket_, request, lambda name: self._routed_to(name, find))
        self.limits = limits
        self.route = route
        """`public`, `market` or `private` on futures, empty without; none on spot."""
        self.combined = request.path.partition("/ws")[1] == ""
        unit = request.query.get("timeUnit", "").upper()
        self.other = unit == "MICROSECOND" and route is None
        self._received: collections.deque[float] = collections.deque()

    @property
    def form(self) -> tuple[bytes, bool, bool]:
        """Its streams, whether they are combined, and the unit of time."""
        return bytes(self.mask), self.combined, self.other

    def encode(self, frames: Frames) -> bytes:
        """Returns the frames as they are, or each in the envelope of combined streams."""
        return frames.wire(*self.form)

    def single(self, name: str, payload: bytes, cut: int = 0) -> bytes:
        """Returns the same of one frame."""
        body = payload
        if self.combined:
            body = b'{"stream":"%b","data":%b}' % (name.encode(), payload)
        return message(TEXT, body[:-cut] if cut else body)

    def _routed_to(self, name: str, find: Callable[[str], int | None]) -> int | None:
        """Returns the number of a stream; one on the wrong path of futures is silent."""
        return find(name) if self._routed(name) else None

    def _routed(self, name: str) -> bool:
        if self.route is None:
            return True
        return self.route == ("public" if _PUBLIC.fullmatch(name) else "market")

    def admit(self) -> bool:
        """Counts an incoming message; returns whether it is within the venue's limit."""
        now = time.monotonic()
        self._received.append(now)
        while self._received and self._received[0] <= now - 1.0:
            self._received.popleft()
        return len(self._received) <= self.limits.messages_per_s

    def answer(self, text: str) -> bytes:
        """Returns the reply to a control message."""
        identity: object = None
        try:
            try:
                request = json.loads(text)
            except json.JSONDecodeError as error:
                place = f"line {error.lineno} column {error.colno}"
                raise Refusal(3, f"Invalid JSON: expected value at {place}") from None
            if not isinstance(request, dict):
                raise Refusal(2, "Invalid request: expected an object")
            if not _is_identity(request.get("id")):
                raise Refusal(2, "Invalid request: request ID must be an integer or a string")
            identity = request.get("id")
            reply: dict[str, object] = {"result": self._do(request), "id": identity}
        except Refusal as refusal:
            reason = {"code": refusal.code, "msg": str(refusal)}
            reply = {"error": reason, "id": identity}
        return json.dumps(reply, separators=(",", ":"), ensure_ascii=False).encode()

    def _do(self, request: dict[str, Any]) -> object:
        method, params = request.get("method"), request.get("params", [])
        if not isinstance(method, str):
            raise Refusal(2, "Invalid request: missing field `method`")
        if not isinstance(params, list):
            raise Refusal(2, "Invalid request: params must be an array")
        match method:
            case "SUBSCRIBE" | "UNSUBSCRIBE":
                self._change(method == "SUBSCRIBE", params)
                return None
            case "LIST_SUBSCRIPTIONS":
                return list(self.names)
            case "SET_PROPERTY" | "GET_PROPERTY":
                return self._property(method == "SET_PROPERTY", params)
        raise Refusal(
            2,
            f"Invalid request: unknown variant `{method}`, expected one of `SUBSCRIBE`, "
            "`UNSUBSCRIBE`, `LIST_SUBSCRIPTIONS`, `SET_PROPERTY`, `GET_PROPERTY`",
        )

    def _change(self, add: bool, params: list[object]) -> None:
        names = [name for name in params if isinstance(name, str) and _STREAM.fullmatch(name)]
        if not params or len(names) < len(params):
            raise Refusal(2, "Invalid request: invalid stream")
        if not add:
            for name in names:
                self.unsubscribe(name)
        elif len(self.names.keys() | set(names)) > self.limits.streams_max:
            raise Refusal(2, "Invalid request: too many parameters")
        else:
            for name in names:
                self.subscribe(name)

    def _property(self, change: bool, params: list[object]) -> object:
        if not params or not isinstance(params[0], str):
            raise Refusal(2, "Invalid request: property name must be a string")
        if len(params) > 1 + change:
            raise Refusal(2, "Invalid request: too many parameters")
        if params[0] != "combined":
            raise Refusal(0, "Unknown property")
        if not change:
            return self.combined
        if len(params) < 2 or not isinstance(params[1], bool):
            raise Refusal(1, "Invalid value type: expected Boolean")
        self.combined = params[1]
        return None


def _is_identity(value: object) -> bool:
    if isinstance(value, bool):
        return False
    if isinstance(value, int):
        return -INT64_MAX - 1 <= value <= INT64_MAX
    return value is None or (isinstance(value, str) and len(value) <= ID_CHARACTERS_MAX)
