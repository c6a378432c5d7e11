"""The bytes of an upgraded WebSocket, read past the library that opened it.

picows connects, negotiates, masks and sends; it also calls back once a frame, which costs more than
all that the core does with it. So once nothing is left in its buffer, its place as the transport's
protocol is taken by one that passes each read on as a whole.
"""

import asyncio
from collections.abc import Callable

from picows import WSFrame, WSTransport

_READ_BYTES = 256 * 1024


class SocketProtocol(asyncio.BufferedProtocol):
    """Passes each read to `on_read(buffer, count)`, and all else to the protocol it replaces."""

    def __init__(
        self, replaced: asyncio.BaseProtocol, on_read: Callable[[bytearray, int], None]
    ) -> None:
        self._replaced = replaced
        self._on_read = on_read
        self._buffer = bytearray(_READ_BYTES)

    def get_buffer(self, sizehint: int) -> bytearray:
        """Returns where the next read goes. It is used up before the one after."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Passes on a read of `nbytes` bytes."""
        self._on_read(self._buffer, nbytes)

    def connection_lost(self, exc: Exception | None) -> None:
        """Passes on the end."""
        self._replaced.connection_lost(exc)

    def pause_writing(self) -> None:
        """Passes on that the peer reads too slowly."""
        self._replaced.pause_writing()

    def resume_writing(self) -> None:
        """Passes on that the peer has caught up."""
        self._replaced.resume_writing()


def read_directly(transport: WSTransport, on_read: Callable[[bytearray, int], None]) -> None:
    """Lets `on_read` have all further reads. Nothing may be left in the buffer of picows."""
    underlying = transport.underlying_transport
    underlying.set_protocol(SocketProtocol(underlying.get_protocol(), on_read))


def to_wire(frame: WSFrame) -> bytes:
    """Returns `frame` as its bytes were, so that all frames take the same way."""
    first = frame.fin << 7 | frame.rsv1 << 6 | frame.rsv2 << 5 | frame.rsv3 << 4
    payload = frame.get_payload_as_bytes()
    size = len(payload)
    if size < 126:
        head = bytes((first | frame.msg_type.value, size))
    elif size < 1 << 16:
        head = bytes((first | frame.msg_type.value, 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((first | frame.msg_type.value, 127)) + size.to_bytes(8, "big")
    return head + payload
