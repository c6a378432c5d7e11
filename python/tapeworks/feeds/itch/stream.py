"""One line over SoupBinTCP 3.00: all messages of a session in order, from any of them on.

What was read is put into the ingest as whole packets, as they came; what is noted with them says
the number of the first message, since packets have none.
"""

import asyncio
import logging
import struct
from typing import cast

from tapeworks._core import numbers
from tapeworks.errors import VenueError
from tapeworks.feeds.itch.carrier import ItchConnection
from tapeworks.feeds.itch.config import SOUP, address_of
from tapeworks.feeds.itch.session import stream_note

BINARY = numbers("blob_kind")["binary"]
LENGTH = struct.Struct(">H")
UNREAD_MAX = 1 << 18
"""No packet is so long: what comes before the answer to the login is bounded by it."""
NUMBER_MAX = 1 << 62
RUN_BYTES = 32_768
"""Packets that are put into the ingest as one are up to so many bytes, and one packet more."""
LOGGED_IN, REFUSED, DATA, ENDED = b"AJSZ"
HEARTBEAT = b"\0\x01R"
LOGOUT = b"\0\x01O"
AGAIN_S = 5.0
"""A session that is not available may be later."""
OVER_S = 60.0
"""So long after the end of a session it is asked whether there is another."""

_log = logging.getLogger("tapeworks.feeds")


class SoupConnection(ItchConnection):
    """One connection to a server of SoupBinTCP."""

    def _prepare(self) -> None:
        self._tcp: asyncio.Transport | None = None
        self._unread = bytearray()
        self._session = b""
        self._next = 0
        """Number of the next message; 0 before the answer to the login."""
        self._is_over = False
        self._asking: asyncio.Task[None] | None = None

    async def _open(self) -> None:
        """Connects, and asks for the session from the first message on that is not there."""
        await self._connect()
        self._note_opened()
        self._log_into()

    async def _connect(self) -> None:
        self._unread.clear()
        host, port = address_of("lines", self.line.url.removeprefix(SOUP))
        async with asyncio.timeout(self._feed.rules.connect_s):
            self._tcp, _ = await asyncio.get_running_loop().create_connection(
                lambda: _Reader(self), host, port
            )

    def _log_into(self) -> None:
        if self._tcp is not None:
            self._tcp.write(self._itch.login())

    async def subscribe(self) -> None:
        """Waits for the answer to the login.

        Raises:
            VenueError: it was refused, did not come in time, or the connection closed.
        """
        try:
            async with asyncio.timeout(self._feed.rules.ack_s):
                while not (self._next or self.denied or self.closed):
                    self._answered.clear()
                    await self._answered.wait()
        except TimeoutError:
            raise VenueError(f"no answer to a login in {self._feed.rules.ack_s} s") from None
        await super().subscribe()

    def receive(self, data: bytes) -> None:
        """Takes in what was read, as far as its packets are whole, and publishes it."""
        if self.closed:
            return
        ts = self._clock.wall_ns()
        self._heard(ts)
        self._unread += data
        start = at = count = 0
        while (end := self._end_of(at)) is not None:
            kind = self._unread[at + 2] if end > at + 2 else 0
            if kind == LOGGED_IN:
                self._log_in(bytes(self._unread[at + 3 : end]))
            elif kind == REFUSED:
                self._refuse(bytes(self._unread[at + 3 : end]))
                return
            count += kind == DATA
            at = end
            if self._next and (kind == ENDED or at - start >= RUN_BYTES):
                self._pass(bytes(self._unread[start:at]), count, ts, ends=kind == ENDED)
                start, count = at, 0
        if at > start and self._next:
            self._pass(bytes(self._unread[start:at]), count, ts)
            start = at
        # What comes before the login's answer waits for it.
        del self._unread[:start]
        if len(self._unread) > UNREAD_MAX:
            self.kill(f"expected an answer to the login, got {len(self._unread):,} bytes of else")
        self._flush()

    def _end_of(self, at: int) -> int | None:
        """Returns where the packet at `at` ends; none while it is not whole."""
        if len(self._unread) < at + LENGTH.size:
            return None
        end: int = at + LENGTH.size + LENGTH.unpack_from(self._unread, at)[0]
        return end if end <= len(self._unread) else None

    def _pass(self, body: bytes, count: int, ts: int, *, ends: bool = False) -> None:
        note = self._itch.context(ts) + stream_note(self._session, self._next)
        self._ingest.receive(self.number, BINARY, ts, body, note)
        for stream in self.line.streams:
            self._ingest.heard(self.number, stream, ts)
        self._itch.holes.observe(note, body, ts)
        self._next += count
        self._is_over |= ends

    def _log_in(self, answer: bytes) -> None:
        session, number = answer[:10].strip(), answer[10:30].strip()
        if self._next or not number.isdigit() or int(number) > NUMBER_MAX:
            self.kill(f"expected one answer to the login, with a number, got {answer[:30]!r}")
            return
        self._session, self._next = session.ljust(10), max(1, int(number))
        self._is_over = False
        self._itch.has_session = True
        self._answered.set()

    def _refuse(self, reason: bytes) -> None:
        if reason == b"S":
            self._itch.has_session = False
            if self._is_over and self._tcp is not None:
                # There is no other one yet.
                self._tcp.abort()
                return
            told = VenueError("session not available", retry_after_ms=int(AGAIN_S * 1_000))
        else:
            told = VenueError(
                "the server refuses the login: set the user and the password that it knows, "
                "`user` and `password` of the feed, the password in the environment"
            )
        self.denied = told
        self.kill(str(told))
        self._answered.set()

    def kill(self, reason: str) -> None:
        """Drops the connection at once."""
        self.close_reason = self.close_reason or reason
        if self._tcp is not None:
            self._tcp.abort()

    async def close(self) -> None:
        """Logs out, and closes."""
        if self._asking is not None:
            self._asking.cancel()
        if self._tcp is not None and not self.closed:
            self.close_reason = self.close_reason or "closed by us"
            self._tcp.write(LOGOUT)
            self._tcp.close()
        self._end()

    def beat(self, now: float) -> None:
        """Sends a sign of life. Call it every second."""
        if self._tcp is not None and not self.closed:
            self._tcp.write(HEARTBEAT)

    def lost(self, error: Exception | None) -> None:
        """Notes the end; what came of a packet that never ended is kept."""
        if error is not None:
            self.close_reason = self.close_reason or f"cut: {error}"
        if self._unread and self._next and not self.closed:
            self._pass(bytes(self._unread), 0, self._clock.wall_ns())
            self._unread.clear()
        self._tcp = None
        if self._is_over and self.denied is None and not self.closed:
            # Nothing is missing: the server has no more to say. The line lasts while it is asked
            # for another session, which it gives from the first message on.
            self._next = 0
            self._asking = asyncio.get_running_loop().create_task(self._ask_again())
            return
        self._end()

    async def _ask_again(self) -> None:
        await asyncio.sleep(OVER_S)
        if self.closed:
            return
        try:
            await self._connect()
        except (OSError, TimeoutError) as error:
            self.close_reason = self.close_reason or f"cut: {error}"
            self._end()
            return
        if self.closed:
            self.kill("closed by us")
            return
        self._answered.clear()
        self._log_into()
        try:
            async with asyncio.timeout(self._feed.rules.ack_s):
                while not (self._next or self.denied or self.closed or self._tcp is None):
                    self._answered.clear()
                    await self._answered.wait()
        except TimeoutError:
            # What closes it goes on as when it closes by itself.
            if self._tcp is not None:
                self._tcp.abort()


class _Reader(asyncio.Protocol):
    """Passes on what a socket brings."""

    def __init__(self, connection: SoupConnection) -> None:
        self._connection = connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """What asyncio gives is known from `create_connection`."""
        cast(asyncio.Transport, transport).set_write_buffer_limits(1 << 16)

    def data_received(self, data: bytes) -> None:
        """Takes in one read."""
        self._connection.receive(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Notes the end."""
        self._connection.lost(exc)
