"""The server of SoupBinTCP: the session from any message on, for who logs in."""

import asyncio
import contextlib
import struct

from tapeworks.simulators.itch.requests import SentPackets

LOGIN = struct.Struct(">HB6s10s10s20s")
HEARTBEAT, ENDED = b"\0\x01H", b"\0\x01Z"
MESSAGES_MAX = 2_000
"""Messages that are sent before others have their turn."""
TURN_S, HEARTBEAT_S, LOGIN_S = 0.005, 1.0, 5.0


class StreamServer:
    """Serves what was sent, to any number of clients."""

    def __init__(self, packets: SentPackets, user: str = "", password: str = "") -> None:
        self.logins = self.refused = self.sent = 0
        self.is_over = False
        """Set once the session has ended: who has all of it is told so."""
        self._packets = packets
        self._allowed = user.encode(), password.encode()
        self._writers: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one client to its end."""
        self._writers.add(writer)
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            async with asyncio.timeout(LOGIN_S):
                request = await reader.readexactly(LOGIN.size)
            if first := self._log_in(request, writer):
                await self._send_from(first, writer)
        self._writers.discard(writer)
        writer.close()

    def cut(self) -> None:
        """Cuts every client, as a network does."""
        for writer in list(self._writers):
            writer.transport.abort()

    def _log_in(self, request: bytes, writer: asyncio.StreamWriter) -> int:
        """Answers a login; returns the number to begin with, 0 where it is refused."""
        length, kind, user, password, session, number = LOGIN.unpack(request)
        name, first = session.strip(), number.strip()
        is_login = (length, kind) == (LOGIN.size - 2, ord("L")) and first.isdigit()
        is_known = self._allowed in ((b"", b""), (user.strip(), password.strip()))
        is_here = name in (b"", self._packets.session.strip())
        if not (is_login and is_known and is_here):
            self.refused += 1
            writer.write(b"\0\x02J" + (b"A" if not (is_login and is_known) else b"S"))
            return 0
        self.logins += 1
        start = max(1, int(first))
        answer = self._packets.session.strip().rjust(10) + str(start).encode().rjust(20)
        writer.write(b"\0\x1fA" + answer)
        return start

    async def _send_from(self, following: int, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        beat = loop.time()
        while not writer.is_closing():
            messages = self._packets.messages(following, MESSAGES_MAX)
            if messages:
                writer.write(b"".join(map(_packet, messages)))
                await writer.drain()
                following += len(messages)
                self.sent += len(messages)
                beat = loop.time()
                continue
            if self.is_over:
                writer.write(ENDED)
                await writer.drain()
                return
            if loop.time() - beat >= HEARTBEAT_S:
                writer.write(HEARTBEAT)
                beat = loop.time()
            await asyncio.sleep(TURN_S)


def _packet(block: bytes) -> bytes:
    """Returns a message behind its length as a sequenced data packet."""
    return struct.pack(">HB", len(block) - 1, ord("S")) + block[2:]
