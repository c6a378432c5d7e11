"""One line of MoldUDP64, or the socket that lost messages are asked for with.

Packets are put into the ingest as they come, whatever their number: the decoder puts them in order,
so that the tape holds what was received. What is missing is asked for again from here.
"""

import asyncio
import contextlib
import errno
import ipaddress
import itertools
import logging
import socket
import struct
import sys

from tapeworks._core import MoldReader
from tapeworks.errors import TapeworksError
from tapeworks.feeds.itch.carrier import ItchConnection
from tapeworks.feeds.itch.config import address_of
from tapeworks.feeds.itch.session import UDP

PACKETS_MAX = 512
"""Packets that are read before others have their turn."""
LAST_READS_MAX = 100
"""A line that is closed is read up to its end, but no more often than this."""
REQUEST = struct.Struct(">10sQH")
MESSAGES_MAX = 1_000
"""Messages that one request asks for at most."""
IN_FLIGHT = 4
ASK_S, RETRY_NS = 0.005, 50_000_000
# Of Linux: the numbers of a socket's memory, and which of them counts dropped packets.
SO_MEMINFO, MEMINFO_DROPS, MEMINFO = 55, 8, struct.Struct("9I")
SO_RCVBUFFORCE = 33

_log = logging.getLogger("tapeworks.feeds")


class MoldConnection(ItchConnection):
    """One socket for datagrams."""

    def _prepare(self) -> None:
        stream = next(iter(self.line.streams), None)
        self._packets = MoldReader(self._ingest, self._itch.holes, self.number, stream)
        self._socket: socket.socket | None = None
        self._asks = not self.line.streams
        self._timer: asyncio.TimerHandle | None = None
        servers = [address_of("requests", text) for text in self._itch.config.requests]
        self._servers = itertools.cycle(servers)
        self._dropped = 0
        self._is_unreachable = False

    async def _open(self) -> None:
        """Binds the port, and joins the group."""
        config = self._itch.config
        address = None if self._asks else address_of("lines", self.line.url.removeprefix(UDP))
        self._socket = open_socket(address, config.interface, config.receive_bytes)
        loop = asyncio.get_running_loop()
        loop.add_reader(self._socket, self._on_readable)
        self._note_opened()
        if self._asks:
            self._ask_on()

    def kill(self, reason: str) -> None:
        """Closes the socket at once."""
        self.close_reason = self.close_reason or reason
        self._shut()

    async def close(self) -> None:
        """Takes in what waits in the socket, and closes it."""
        if self._socket is not None and not self.closed:
            self.close_reason = self.close_reason or "closed by us"
            for _ in range(LAST_READS_MAX):
                if self._on_readable() < PACKETS_MAX:
                    break
        self._shut()

    def beat(self, now: float) -> None:
        """Tells what the system dropped since the last time. Call it every second."""
        dropped = dropped_by_system(self._socket)
        if dropped > self._dropped:
            _log.warning(
                "the system dropped packets line=%s connection=%d count=%d total=%d: the recorder "
                "is too slow, or the buffer too small: raise net.core.rmem_max",
                self.line.name,
                self.number,
                dropped - self._dropped,
                dropped,
            )
            self._dropped = dropped

    def _shut(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._socket is not None and not self.closed:
            self.beat(self._clock.now())
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
            self._end()

    def _on_readable(self) -> int:
        """Takes in what waits in the socket, and publishes it. Returns how many packets."""
        if self._socket is None:
            return 0
        count = 0
        ts = self._clock.wall_ns()
        try:
            context = self._itch.context(ts)
            count = self._packets.receive(self._socket.fileno(), ts, context, PACKETS_MAX)
            if count:
                self._heard(ts)
        except OSError as error:
            self.kill(f"the socket failed: {error}")
            return 0
        except TapeworksError as error:
            # What it is of the tape, publishing meets again, and ends the session by it.
            _log.error("packets were not taken line=%s: %s", self.line.name, error)
        self._flush()
        if self._asks:
            self._ask()
        return count

    def _ask_on(self) -> None:
        """Asks for what is missing, again and again."""
        if self._socket is not None:
            self._timer = asyncio.get_running_loop().call_later(ASK_S, self._ask_on)
            self._ask()

    def _ask(self) -> None:
        if self._socket is None:
            return
        config, holes = self._itch.config, self._itch.holes
        wait_ns, hold_ns = config.request_after_ms * 1_000_000, config.hold_ms * 1_000_000
        due = holes.due(self._clock.wall_ns(), wait_ns, RETRY_NS, hold_ns, IN_FLIGHT)
        if not due:
            return
        session = holes.state()[0]
        for first, count in due:
            request = REQUEST.pack(session, first, min(count, MESSAGES_MAX))
            server = next(self._servers)
            try:
                self._socket.sendto(request, server)
                self._is_unreachable = False
            except OSError as error:
                if not self._is_unreachable:
                    _log.warning("request server %s:%d is not reached: %s", *server, error)
                self._is_unreachable = True


def open_socket(
    address: tuple[str, int] | None, interface: str, receive_bytes: int
) -> socket.socket:
    """Returns a socket that receives what is sent to `address`, or answers where there is none.

    A group may be received by several programs of this host; a port of the host's own by one.

    Raises:
        OSError: it cannot be bound, or the group not joined; the text says which setting it is.
    """
    try:
        return _open_socket(address, interface, receive_bytes)
    except OSError as error:
        told = {
            errno.EADDRNOTAVAIL: "lines: it is no address of this host, and no group",
            errno.EADDRINUSE: "lines: the port is in use: another recorder reads it",
            errno.ENODEV: f"interface: no network card of this host has the address {interface}",
        }.get(error.errno or 0)
        if told is None:
            raise
        raise OSError(error.errno, told) from None


def _open_socket(
    address: tuple[str, int] | None, interface: str, receive_bytes: int
) -> socket.socket:
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        opened.setblocking(False)
        _grow(opened, receive_bytes)
        if address is not None:
            host, port = address
            group = ipaddress.IPv4Address(host)
            if group.is_multicast:
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                opened.bind((host if sys.platform == "linux" else "", port))
                request = group.packed + socket.inet_aton(interface)
                opened.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
            else:
                opened.bind(address)
        stack.pop_all()
        return opened


def _grow(opened: socket.socket, wanted: int) -> None:
    if sys.platform == "linux":
        # Beyond the limit of the system, where this process may.
        with contextlib.suppress(OSError):
            opened.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, wanted)
    if opened.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) < wanted:
        with contextlib.suppress(OSError):
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, wanted)
    got = opened.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    if got < wanted:
        _log.warning(
            "the system gives a buffer of %d bytes, not of %d (receive_bytes): in a burst packets "
            "may be lost; raise net.core.rmem_max",
            got,
            wanted,
        )


def dropped_by_system(opened: socket.socket | None) -> int:
    """Returns how many packets the system dropped for want of room; 0 where it does not say."""
    if opened is None or sys.platform != "linux":
        return 0
    try:
        told = opened.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, MEMINFO.size)
        return int(MEMINFO.unpack(told)[MEMINFO_DROPS])
    except (OSError, struct.error):
        return 0
