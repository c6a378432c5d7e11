"""One WebSocket connection as the venue sees it: what it listens to, its messages, its limits.

Data frames are written to the transport as they come from the core, many in one call. Control
frames are written the same way, so that they never overtake data on a slow network.
"""

import collections
import json
import re
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

from aiohttp import web

from tapeworks.simulators.binance.config import Limits

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
ID_CHARACTERS_MAX = 36
INT64_MAX = 2**63 - 1
_STREAM = re.compile(r"[^\s@]+@\S+|![^\s@]+(@\S+)?")
_PUBLIC = re.compile(r"\w+@(bookTicker|depth.*|rpiDepth.*)|!bookTicker")


class Refusal(Exception):
    """A control message that the venue refuses, with its code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def message(opcode: int, payload: bytes) -> bytes:
    """Returns the bytes of one WebSocket message as a server sends it."""
    head = bytes([0x80 | opcode])
    if len(payload) < 126:
        return head + bytes([len(payload)]) + payload
    if len(payload) < 1 << 16:
        return head + b"\x7e" + struct.pack(">H", len(payload)) + payload
    return head + b"\x7f" + struct.pack(">Q", len(payload)) + payload


class Connection:
    """A connection and what it has asked for.

    `find` gives the number of a stream, none where the venue stays silent for good.
    """

    def __init__(
        self,
        number: int,
        socket_: web.WebSocketResponse,
        request: web.Request,
        limits: Limits,
        find: Callable[[str], int | None],
        route: str | None,
    ) -> None:
        assert request.transport is not None
        self.number = number
        self.socket = socket_
        self.transport = request.transport
        self.limits = limits
        self.route = route
        """`public`, `market` or `private` on futures, empty without; none on spot."""
        self.combined = request.path.partition("/ws")[1] == ""
        unit = request.query.get("timeUnit", "").upper()
        self.micros = unit == "MICROSECOND" and route is None
        self.names: dict[str, int | None] = {}
        self.mask = bytearray()
        self.opened_at = self.pinged_at = self.ponged_at = time.monotonic()
        self.changed_at = self.opened_at
        self.throttle: float | None = None
        """Bytes a second; none: as fast as it reads."""
        self.closing = ""
        self._find = find
        self._received: collections.deque[float] = collections.deque()
        self._waiting: collections.deque[bytes] = collections.deque()
        self._waiting_bytes = 0
        self._allowance = 0.0

    def subscribe(self, name: str) -> None:
        """Listens to a stream; one on the wrong path of futures is silent."""
        number = self._find(name) if self._routed(name) else None
        self.names[name] = number
        self.changed_at = time.monotonic()
        if number is not None:
            self.mask.extend(bytes(max(0, number + 1 - len(self.mask))))
            self.mask[number] = 1

    def unsubscribe(self, name: str) -> None:
        """Listens no more."""
        number = self.names.pop(name, None)
        self.changed_at = time.monotonic()
        if number is not None:
            self.mask[number] = 0

    def listens(self, stream: int) -> bool:
        """Returns whether the connection is to get the stream's frames."""
        return stream < len(self.mask) and self.mask[stream] == 1

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

    @property
    def is_open(self) -> bool:
        """Whether anything that is written can still arrive."""
        return not self.closing and not self.transport.is_closing()

    @property
    def unread_bytes(self) -> int:
        """What was written and has not left this process."""
        buffered: int = self.transport.get_write_buffer_size()
        return buffered + self._waiting_bytes

    def write(self, data: bytes) -> None:
        """Sends bytes, at the pace of a slow network where one is simulated."""
        if self.transport.is_closing():
            return
        if self.throttle is None and not self._waiting:
            self.transport.write(data)
        else:
            self._waiting.append(data)
            self._waiting_bytes += len(data)

    def trickle(self, seconds: float) -> None:
        """Lets go what a slow network lets through in `seconds`."""
        if not self._waiting or self.transport.is_closing():
            return
        if self.throttle is None:
            self.transport.write(b"".join(self._waiting))
            self._waiting.clear()
            self._waiting_bytes = 0
            return
        self._allowance = min(self._allowance + self.throttle * seconds, self.throttle)
        while self._waiting and self._allowance >= 1:
            piece = self._waiting.popleft()
            part, rest = piece[: int(self._allowance)], piece[int(self._allowance) :]
            self.transport.write(part)
            self._allowance -= len(part)
            self._waiting_bytes -= len(part)
            if rest:
                self._waiting.appendleft(rest)

    def reset(self) -> None:
        """Cuts the connection with a TCP reset: what is not read yet may be lost."""
        raw = self.transport.get_extra_info("socket")
        if raw is not None and not self.transport.is_closing():
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def say_goodbye(self, code: int, reason: str) -> None:
        """Sends a close frame; nothing may follow it."""
        if self.is_open:
            self.write(message(CLOSE, struct.pack(">H", code) + reason.encode()))
        self.closing = self.closing or reason


def _is_identity(value: object) -> bool:
    if isinstance(value, bool):
        return False
    if isinstance(value, int):
        return -INT64_MAX - 1 <= value <= INT64_MAX
    return value is None or (isinstance(value, str) and len(value) <= ID_CHARACTERS_MAX)
