"""One WebSocket connection as a simulated venue sees it: what it listens to, and its bytes.

Data frames are written to the transport as they come from the core, many in one call. Control
frames are written the same way, so that they never overtake data on a slow network.
"""

import collections
import socket
import struct
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable

from aiohttp import web

from tapeworks._core import Frames

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def message(opcode: int, payload: bytes) -> bytes:
    """Returns the bytes of one WebSocket message as a server sends it."""
    head = bytes([0x80 | opcode])
    if len(payload) < 126:
        return head + bytes([len(payload)]) + payload
    if len(payload) < 1 << 16:
        return head + b"\x7e" + struct.pack(">H", len(payload)) + payload
    return head + b"\x7f" + struct.pack(">Q", len(payload)) + payload


class Connection(ABC):
    """A connection and what it has asked for.

    `find` gives the number of a stream, none where the venue stays silent for good.
    """

    other = False
    """Whether it has the other form of each frame; see `Source.advance`."""

    def __init__(
        self,
        number: int,
        socket_: web.WebSocketResponse,
        request: web.Request,
        find: Callable[[str], int | None],
    ) -> None:
        assert request.transport is not None
        self.number = number
        self.socket = socket_
        self.transport = request.transport
        self.names: dict[str, int | None] = {}
        self.mask = bytearray()
        self.opened_at = self.pinged_at = self.ponged_at = time.monotonic()
        self.changed_at = self.opened_at
        self.throttle: float | None = None
        """Bytes a second; none: as fast as it reads."""
        self.closing = ""
        self._find = find
        self._waiting: collections.deque[bytes] = collections.deque()
        self._waiting_bytes = 0
        self._allowance = 0.0

    @property
    @abstractmethod
    def form(self) -> Hashable:
        """Connections of one form are sent the same bytes."""

    @abstractmethod
    def encode(self, frames: Frames) -> bytes:
        """Returns the messages of the frames that the connection listens to."""

    @abstractmethod
    def single(self, name: str, payload: bytes, cut: int = 0) -> bytes:
        """Returns the message of one frame of a stream, without its last `cut` bytes."""

    def subscribe(self, name: str) -> None:
        """Listens to a stream."""
        number = self._find(name)
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

    def admit(self) -> bool:
        """Counts an incoming message; returns whether it is within the venue's limit."""
        return True

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
