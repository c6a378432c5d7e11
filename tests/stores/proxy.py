"""A TCP proxy on loopback that cuts, delays and silences what passes, in a thread of its own."""

import asyncio
import contextlib
import socket
import threading

CHUNK = 1 << 16
# Modes: how bytes pass.
OPEN = "open"
SILENT = "silent"
"""Nothing passes, connections stay: a half-open network."""
MUTE = "mute"
"""What the server answers does not pass: a commit arrives, and nobody is told."""
SLOW = "slow"
"""Each piece is 50 ms late."""


class Proxy:
    """Forwards connections of `port` to another port of this machine."""

    def __init__(self, target: int, port: int = 0) -> None:
        self._target = target
        self.mode = OPEN
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        listener = socket.socket()
        listener.bind(("127.0.0.1", port))
        self.port: int = listener.getsockname()[1]
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(listener,), daemon=True)
        self._thread.start()
        self._ready.wait(10)

    def cut(self) -> None:
        """Resets all connections."""
        self._loop.call_soon_threadsafe(self._abort)

    def close(self) -> None:
        """Resets all connections, and takes no more."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self, listener: socket.socket) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(asyncio.start_server(self._serve, sock=listener))
        self._ready.set()
        self._loop.run_forever()
        self._abort()

    def _abort(self) -> None:
        for writer in self._writers:
            # Linger of 0: a reset, not an end.
            with contextlib.suppress(OSError, AttributeError):
                found = writer.get_extra_info("socket")
                found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, there[1]}
        asks = self._forward(reader, there[1], (SILENT,))
        answers = self._forward(there[0], writer, (SILENT, MUTE))
        await asyncio.gather(asks, answers, return_exceptions=True)
        self._writers -= {writer, there[1]}

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, holds: tuple[str, ...]
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                # The mode is set by another thread: it is looked at now and then.
                while self.mode in holds:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
                if self.mode == SLOW:
                    await asyncio.sleep(0.05)
                writer.write(data)
                await writer.drain()
        writer.transport.abort()
