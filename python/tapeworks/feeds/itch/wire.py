"""What is read of packets of MoldUDP64 without decoding their messages."""

import struct
from collections.abc import Iterator

from tapeworks.feeds.wire import Wire

HEADER = struct.Struct(">10sQH")
LENGTH = struct.Struct(">H")
END_OF_SESSION = 0xFFFF
ORDERS = b"AFECXDUPQB"
"""Types of messages of which each is one event of an order."""
STREAM = "orders"


class ItchWire(Wire):
    """Messages with numbers, on any number of lines."""

    def __init__(self, native: str) -> None:
        super().__init__(native)
        self._seen: dict[bytes, bytearray] = {}

    def streams(self, frame: bytes) -> tuple[str, ...]:
        """Returns a name for each event of an order that no frame before this one held.

        What one line brought is on the other as well, and counts once.
        """
        return tuple(STREAM for kind in self._new_types(frame) if kind in ORDERS)

    def _new_types(self, frame: bytes) -> Iterator[int]:
        if len(frame) < HEADER.size:
            return
        session, first, count = HEADER.unpack_from(frame)
        # By bits: some millions of messages are some hundred kilobytes.
        seen = self._seen.setdefault(session, bytearray())
        at = HEADER.size
        for number in range(first, first + (count if count != END_OF_SESSION else 0)):
            if at + LENGTH.size >= len(frame):
                return
            place, bit = number >> 3, 1 << (number & 7)
            if place >= len(seen) + (1 << 20):
                return
            seen.extend(bytes(max(0, place + 1 - len(seen))))
            if not seen[place] & bit:
                seen[place] |= bit
                yield frame[at + LENGTH.size]
            at += LENGTH.size + LENGTH.unpack_from(frame, at)[0]
