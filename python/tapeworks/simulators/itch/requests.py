"""The request server of MoldUDP64: packets that were sent, again, for who asks.

It answers as real ones do: with one packet of as many whole messages as fit, and not at all for
another session or for messages that it does not have.
"""

import asyncio
import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import cast

from tapeworks.simulators.itch.sender import HEADER

MESSAGES_MAX = 1_000
"""Messages that one request is taken to ask for, at most."""
_LENGTH = struct.Struct(">H")


class SentPackets:
    """What was sent, as far as it is kept."""

    def __init__(self, session: bytes, keep: int) -> None:
        self.session = session
        self._keep = keep
        self._firsts: list[int] = []
        self._packets: list[bytes] = []
        self._end = 1

    def add(self, packets: Iterable[tuple[int, int, bytes]]) -> None:
        """Keeps packets, and forgets the oldest beyond what is to be kept."""
        for first, count, packet in packets:
            self._firsts.append(first)
            self._packets.append(packet)
            self._end = first + count
        gone = bisect_right(self._firsts, self._end - self._keep) - 1
        # Many at a time: what is taken off the front of a list moves all that is behind it.
        if gone > max(1_000, len(self._firsts) // 2) or (gone > 0 and self._keep < 10_000):
            del self._firsts[:gone], self._packets[:gone]

    def answer(self, request: bytes, bytes_max: int) -> bytes | None:
        """Returns the packet that answers a request; none: it is not answered."""
        if len(request) != HEADER.size:
            return None
        session, first, count = HEADER.unpack(request)
        place = bisect_right(self._firsts, first) - 1
        is_kept = place >= 0 and self._end - self._keep <= first < self._end
        if session != self.session or not is_kept or not 0 < count < 0xFFFF:
            return None
        blocks, taken = bytearray(), 0
        for block in self._blocks(place, first):
            is_full = taken and HEADER.size + len(blocks) + len(block) > bytes_max
            if is_full or taken >= min(count, MESSAGES_MAX):
                break
            blocks += block
            taken += 1
        return HEADER.pack(self.session, first, taken) + blocks

    def messages(self, first: int, count_max: int) -> list[bytes]:
        """Returns the messages from the number `first` on that are kept, each behind its length."""
        place = bisect_right(self._firsts, first) - 1
        if place < 0 or not self._end - self._keep <= first < self._end:
            return []
        return list(islice(self._blocks(place, first), count_max))

    def _blocks(self, place: int, wanted: int) -> Iterator[bytes]:
        """Yields messages from the number `wanted` on, each with its length."""
        for one in range(place, len(self._firsts)):
            first, packet = self._firsts[one], self._packets[one]
            at, number = HEADER.size, first
            while at < len(packet):
                end = at + 2 + _LENGTH.unpack_from(packet, at)[0]
                if number >= wanted:
                    yield packet[at:end]
                at, number = end, number + 1


class RequestServer(asyncio.DatagramProtocol):
    """Answers requests on one port."""

    def __init__(self, packets: SentPackets, bytes_max: int) -> None:
        self.answered = self.unanswered = 0
        self._packets = packets
        self._bytes_max = bytes_max
        self._transport: asyncio.DatagramTransport | None = None

    @property
    def asked(self) -> int:
        """How many requests there were."""
        return self.answered + self.unanswered

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Notes the transport."""
        # What asyncio gives is no subclass of it.
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answers one request, if it can."""
        answer = self._packets.answer(data, self._bytes_max)
        if answer is None or self._transport is None:
            self.unanswered += 1
            return
        self.answered += 1
        self._transport.sendto(answer, addr)
