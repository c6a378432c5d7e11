"""The lines of MoldUDP64: every packet on each of them, but for what a seed takes away."""

import contextlib
import ipaddress
import random
import socket
import struct
from collections.abc import Iterable, Sequence

from tapeworks.simulators.itch.config import LineFaults

HEADER = struct.Struct(">10sQH")
END_OF_SESSION = 0xFFFF
SEND_BYTES = 4 << 20


class SendingLine:
    """One line: packets to one address, with faults that follow from a seed."""

    def __init__(
        self,
        address: tuple[str, int],
        faults: LineFaults,
        seed: str,
        interface: str = "127.0.0.1",
    ) -> None:
        self.faults = faults
        self.sent = self.dropped = self.duplicated = self.reordered = 0
        self.refused = 0
        """Packets that the system did not take, such as for want of room."""
        self.is_heard = True
        """Whether somebody received the packet before the last one, as far as the system tells."""
        self._chance = random.Random(seed)
        self._late: bytes | None = None
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
        if ipaddress.ip_address(address[0]).is_multicast:
            self._socket.setsockopt(
                socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(interface)
            )
            self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
        # So the system tells where nobody receives, on this host at once.
        self._socket.connect(address)

    def send(self, packet: bytes) -> None:
        """Sends a packet, or what the seed makes of it."""
        faults, chance = self.faults, self._chance
        if faults.drop and chance.random() < faults.drop:
            self.dropped += 1
            return
        if faults.reorder and self._late is None and chance.random() < faults.reorder:
            self.reordered += 1
            self._late = packet
            return
        self._put(packet)
        if faults.duplicate and chance.random() < faults.duplicate:
            self.duplicated += 1
            self._put(packet)
        self.flush()

    def flush(self) -> None:
        """Sends what was kept to come late."""
        if self._late is not None:
            late, self._late = self._late, None
            self._put(late)

    def _put(self, packet: bytes) -> None:
        try:
            try:
                self._socket.send(packet)
                self.is_heard = True
            except ConnectionRefusedError:
                # It is told of the packet before, and instead of sending this one.
                self.is_heard = False
                with contextlib.suppress(ConnectionRefusedError):
                    self._socket.send(packet)
            self.sent += 1
        except OSError:
            self.refused += 1

    def report(self) -> dict[str, int]:
        """Returns what became of the packets."""
        return {
            name: getattr(self, name)
            for name in ("sent", "dropped", "duplicated", "reordered", "refused")
        }

    def close(self) -> None:
        """Closes the socket."""
        with contextlib.suppress(OSError):
            self._socket.close()


class Lines:
    """All lines of one session, and its heartbeats."""

    def __init__(self, session: str, lines: Sequence[SendingLine]) -> None:
        self.session = session.encode("ascii")
        self.lines = lines
        self.next = 1
        """Number of the next message."""

    def send(self, packets: Iterable[tuple[int, int, bytes]]) -> None:
        """Sends packets in turn on every line: number of the first message, messages, bytes."""
        for first, count, packet in packets:
            for line in self.lines:
                line.send(packet)
            self.next = first + count

    def heartbeat(self, *, ends: bool = False) -> None:
        """Says on every line which message comes next, or that none does. It is never lost."""
        packet = HEADER.pack(self.session, self.next, END_OF_SESSION if ends else 0)
        for line in self.lines:
            line.flush()
            line._put(packet)

    def close(self) -> None:
        """Closes all sockets."""
        for line in self.lines:
            line.close()
