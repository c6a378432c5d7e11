"""What a WebSocket carries is on the raw tape, however its bytes come."""

import asyncio
import base64
import contextlib
import hashlib
import random
from pathlib import Path

import pytest

from tapeworks._core import Ingest, TapeReader
from tapeworks.feeds.base import Clock
from tapeworks.feeds.binance import BinanceConfig, BinanceFeed
from tapeworks.feeds.connection import Connection

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, BINARY = 1, 2


def frame(first: int, payload: bytes) -> bytes:
    """Returns a frame as a server sends it."""
    size = len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 1 << 16:
        return bytes((first, 126)) + size.to_bytes(2, "big") + payload
    return bytes((first, 127)) + size.to_bytes(8, "big") + payload


class Peer:
    """Upgrades one connection, sends given pieces, and reads until the other side leaves."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces
        self.read = b""
        self.left = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves the connection. The first piece leaves together with the answer."""
        head = await reader.readuntil(b"\r\n\r\n")
        lines = dict(line.split(b": ", 1) for line in head.split(b"\r\n") if b": " in line)
        key = {name.lower(): value for name, value in lines.items()}[b"sec-websocket-key"]
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
        answer = (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        with contextlib.suppress(ConnectionError):
            for piece in [answer + self.pieces[0], *self.pieces[1:]]:
                writer.write(piece)
                await writer.drain()
                # Mostly a read of its own at the other end; either way must do.
                await asyncio.sleep(0.001)
            while part := await reader.read(65536):
                self.read += part
        self.left.set()
        writer.close()


def record(data: Path, pieces: list[bytes], count: int) -> tuple[Connection, bytes]:
    """Records what a peer sends until `count` messages are there or it ends; returns both ends."""

    async def main() -> tuple[Connection, bytes]:
        peer = Peer(pieces)
        server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        feed = BinanceFeed(BinanceConfig(symbols=("BTCUSDT",), ws_url=f"ws://127.0.0.1:{port}"))
        ingest = Ingest(data, "x", "binance-spot")
        (line,) = feed.lines()
        done = asyncio.Event()

        def flush() -> None:
            ingest.flush()
            if ingest.stats()["frames"] >= count or connection.closed:
                done.set()

        connection = Connection(0, line, feed, ingest, flush, Clock())
        await connection.open(None)
        async with asyncio.timeout(30):
            await done.wait()
            await connection.close()
            await peer.left.wait()
        ingest.close()
        server.close()
        return connection, peer.read

    return asyncio.run(main())


def stored(data: Path) -> list[tuple[int, bytes]]:
    """Returns kind and body of what is on the raw tape, but for markers."""
    reader, found = TapeReader(data / "tape" / "x" / "market-data.raw"), []
    while (blobs := reader.read_blobs()) is not None:
        found += [(blob.kind, bytes(blob.body)) for blob in blobs if blob.kind in (TEXT, BINARY)]
    return found


@pytest.mark.parametrize("seed", range(12))
def test_every_message_is_stored_however_the_stream_is_cut(tmp_path, seed):
    # Short and long messages, one in fragments around a ping, cut at random places; the first piece
    # comes with the answer to the upgrade, before reads are taken as a whole.
    chance = random.Random(seed)
    sizes = [chance.choice([3, 125, 126, 400, 65_536]) for _ in range(30)]
    wanted = [(TEXT, chance.randbytes(size).hex().encode()[:size]) for size in sizes]
    stream = b"".join(frame(0x81, body) for _, body in wanted[:20])
    stream += frame(0x02, b"in ") + frame(0x89, b"ping") + frame(0x80, b"fragments")
    stream += b"".join(frame(0x81, body) for _, body in wanted[20:])
    wanted.insert(20, (BINARY, b"in fragments"))
    cuts = sorted(chance.sample(range(len(stream)), 25))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    connection, answered = record(tmp_path, pieces, len(wanted))
    assert stored(tmp_path) == wanted
    assert connection.close_reason == "closed by us"
    assert b"\x8a\x84" in answered, "a pong of four bytes"


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        (frame(0x88, b"\x0f\xa1gone"), "close code 4001 gone"),
        (frame(0x88, b""), "close without a code"),
        (frame(0xC1, b"compressed"), "reserved bits"),
        (b"\x81\x84\x01\x02\x03\x04abcd", "unmasked"),
        (frame(0x01, b"first") + frame(0x81, b"second"), "the rest of a message in fragments"),
        (frame(0x01, b"") + frame(0x00, b"") * 70_000, "at most 65536 fragments"),
        (b"\x81\x7f" + (1 << 30).to_bytes(8, "big"), "at most 16777216 bytes"),
    ],
)
def test_the_end_of_a_connection_says_why_and_loses_nothing_before(tmp_path, last, reason):
    # Two messages, then the peer closes or breaks the protocol: both are stored, nothing later is.
    good = [(TEXT, b"one"), (TEXT, b"two")]
    pieces = [frame(0x81, b"one"), frame(0x81, b"two") + last, frame(0x81, b"late")]
    connection, _ = record(tmp_path, pieces, 1_000_000)
    assert reason in connection.close_reason
    kept = [(TEXT, b"first")] if b"first" in last else []
    assert stored(tmp_path) == good + kept
