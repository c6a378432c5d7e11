"""The hostile venue: `python -m tests.hostile MODE SEED`, a process of its own.

It prints its port, and then obeys lines on standard input: `attack` begins what the mode does,
`calm` ends it, `report` prints what was sent so far as one line of JSON. One market feeds every
open socket, so that what is missing on a tape was lost on the way.
"""

import asyncio
import base64
import contextlib
import hashlib
import json
import random
import struct
import sys
from typing import Any

from tests.hostile import wire
from tests.hostile.wire import SYMBOLS, frame

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TICK_S = 0.02
PING_S = 5.0
TRADES_A_TICK = 3
UNREAD_BYTES_MAX = 32 << 20


class Socket:
    """One WebSocket of a recorder."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.streams: list[str] = []
        self.subscribed = asyncio.Event()
        self.is_open = True
        self.is_busy = False
        """Something is half sent: the market sends nothing here."""

    def send(self, payload: bytes, opcode: int = wire.TEXT, **named: Any) -> None:
        """Sends one frame."""
        self.writer.write(frame(payload, opcode, **named))

    async def flood(self, data: bytes) -> None:
        """Sends bytes, and waits until most of them are taken."""
        self.writer.write(data)
        await self.writer.drain()
        await asyncio.sleep(0)

    def drop(self) -> None:
        """Cuts the connection."""
        self.is_open = False
        self.writer.transport.abort()


class Venue:
    """All state of the venue."""

    def __init__(self, mode: Any, seed: int, symbols: tuple[str, ...] = SYMBOLS) -> None:
        self.mode = mode
        self.symbols = symbols
        self.chance = random.Random(seed)
        self.begun = asyncio.Event()
        self.calmed = asyncio.Event()
        self.sockets: list[Socket] = []
        self.trades = dict.fromkeys(symbols, 1000)
        self.quotes = dict.fromkeys(symbols, 1000)
        self.updates = dict.fromkeys(symbols, 1_000_000)
        self.counts = {"connections": 0, "requests": 0, "attacks": 0}

    @property
    def attacking(self) -> bool:
        """Whether the mode is to be acted now."""
        return self.begun.is_set() and not self.calmed.is_set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection, a socket or requests."""
        with contextlib.suppress(asyncio.IncompleteReadError, OSError, asyncio.LimitOverrunError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.decode("latin-1").split("\r\n")
                path = lines[0].split(" ")[1]
                parts = (line.partition(": ") for line in lines[1:])
                headers = {name.lower(): value for name, _, value in parts}
                if "upgrade" in headers:
                    key = headers.get("sec-websocket-key", "")
                    await self._socket(reader, writer, key.encode())
                    break
                self.counts["requests"] += 1
                if not await self._answer(path, writer):
                    break
        with contextlib.suppress(OSError, RuntimeError):
            writer.close()

    async def _socket(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: bytes
    ) -> None:
        self.counts["connections"] += 1
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
        if self.attacking and self.mode.handshake is not None:
            self.counts["attacks"] += 1
            await self.mode.handshake(self, writer, accept)
            return
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        socket = Socket(reader, writer)
        self.sockets.append(socket)
        self.greet(socket)
        attack = asyncio.create_task(self._attack(socket))
        try:
            await self._listen(socket)
        finally:
            socket.is_open = False
            self.sockets.remove(socket)
            attack.cancel()
            # What the attack met is of no concern: its peer has gone.
            await asyncio.gather(attack, return_exceptions=True)

    async def _listen(self, socket: Socket) -> None:
        """Reads what the recorder says, and answers it."""
        while True:
            first, second = await socket.reader.readexactly(2)
            size = second & 127
            if size == 126:
                (size,) = struct.unpack(">H", await socket.reader.readexactly(2))
            elif size == 127:
                (size,) = struct.unpack(">Q", await socket.reader.readexactly(8))
            mask = await socket.reader.readexactly(4) if second & 128 else bytes(4)
            payload = await socket.reader.readexactly(size)
            payload = bytes(byte ^ mask[at & 3] for at, byte in enumerate(payload))
            opcode = first & 15
            if opcode == wire.CLOSE:
                socket.send(payload[:2], wire.CLOSE)
                return
            if opcode in (wire.TEXT, wire.BINARY):
                self.control(socket, self.read(payload))

    def greet(self, socket: Socket) -> None:
        """Says what comes first on a connection: nothing."""

    def read(self, payload: bytes) -> dict[str, Any]:
        """Returns what the recorder says."""
        asked: dict[str, Any] = json.loads(payload)
        return asked

    def control(self, socket: Socket, asked: dict[str, Any]) -> None:
        """Answers a control message."""
        act = self.mode.control if self.attacking else None
        if act is not None:
            self.counts["attacks"] += 1
            act(self, socket, asked)
            return
        if asked["method"] == "SUBSCRIBE":
            socket.streams += asked["params"]
            socket.send(wire.packed({"result": None, "id": asked["id"]}))
            socket.subscribed.set()
        else:
            socket.send(wire.packed({"result": socket.streams, "id": asked["id"]}))

    async def _attack(self, socket: Socket) -> None:
        act = self.mode.socket
        if act is None:
            return
        await socket.subscribed.wait()
        await self.begun.wait()
        if self.calmed.is_set():
            return
        await asyncio.sleep(0.1)
        self.counts["attacks"] += 1
        await act(self, socket)

    async def _answer(self, path: str, writer: asyncio.StreamWriter) -> bool:
        """Answers one request; says whether the connection may be used again."""
        act = self.mode.answer if self.attacking else None
        if act is not None:
            self.counts["attacks"] += 1
            sent = await act(self, path, writer)
            if sent is not False:
                if isinstance(sent, bytes):
                    writer.write(sent)
                    await writer.drain()
                return isinstance(sent, bytes)
        writer.write(wire.answer(self.body(path)))
        await writer.drain()
        return True

    def body(self, path: str, ahead: int = 0) -> bytes:
        """Returns the right answer to a request, or a snapshot that is `ahead` of the stream."""
        if "depth" in path:
            symbol = next(symbol for symbol in SYMBOLS if symbol in path)
            return wire.snapshot(self.updates[symbol] + ahead)
        return wire.exchange_info()

    async def market(self) -> None:
        """Sends the events of all symbols, for good."""
        pinged = 0.0
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(TICK_S)
            data = b"".join(self.events(symbol) for symbol in self.symbols)
            if loop.time() - pinged > PING_S:
                pinged = loop.time()
                data += frame(b"17", wire.PING)
            for socket in list(self.sockets):
                if not socket.subscribed.is_set() or socket.is_busy or not socket.is_open:
                    continue
                if socket.writer.transport.get_write_buffer_size() > UNREAD_BYTES_MAX:
                    socket.drop()
                else:
                    socket.writer.write(data)

    def events(self, symbol: str) -> bytes:
        """Returns the frames of one tick of `symbol`."""
        frames = [frame(self.next_trade(symbol)) for _ in range(TRADES_A_TICK)]
        self.quotes[symbol] += 1
        self.updates[symbol] += 1
        last = self.updates[symbol]
        frames.append(frame(wire.quote(symbol, self.quotes[symbol])))
        frames.append(frame(wire.depth(symbol, last, last)))
        return b"".join(frames)

    def next_trade(self, symbol: str, **fields: Any) -> bytes:
        """Returns the message of the next trade."""
        self.trades[symbol] += 1
        return wire.trade(symbol, self.trades[symbol], **fields)

    async def obey(self) -> None:
        """Does what standard input says, until it ends."""
        while line := await asyncio.to_thread(sys.stdin.readline):
            word = line.strip()
            if word in ("attack", "calm"):
                (self.begun if word == "attack" else self.calmed).set()
            if word == "attack" and (self.mode.handshake or self.mode.control):
                # A recorder that is connected already comes again.
                for socket in list(self.sockets):
                    socket.drop()
            facts = {"trades": self.trades, "updates": self.updates, **self.counts}
            print(json.dumps(facts), flush=True)


async def serve(venue: Venue) -> None:
    """Serves until standard input ends."""
    server = await asyncio.start_server(venue.serve, "127.0.0.1", 0, limit=1 << 26)
    market = asyncio.create_task(venue.market())
    print(server.sockets[0].getsockname()[1], flush=True)
    await venue.obey()
    market.cancel()
