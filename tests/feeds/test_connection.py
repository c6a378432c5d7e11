"""One socket against peers that misbehave at its end."""

import asyncio
import base64
import hashlib
import time
from pathlib import Path

from tapeworks._core import Ingest, TapeReader
from tapeworks.feeds.base import Clock
from tapeworks.feeds.binance import BinanceConfig, BinanceFeed
from tapeworks.feeds.connection import Connection

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
MARKER, DISCONNECTED = 8, 5


async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Shakes hands, and then neither reads nor closes."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = dict(line.split(b": ", 1) for line in head.split(b"\r\n") if b": " in line)
    key = {name.lower(): value for name, value in lines.items()}[b"sec-websocket-key"]
    accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    try:
        await asyncio.sleep(60)
    finally:
        writer.close()


def ends(data: Path) -> int:
    """Counts the ends of connections on the normalised tape."""
    reader, count = TapeReader(data / "tape" / "x" / "market-data.normalized"), 0
    while (batch := reader.read(1000)) is not None:
        view, at = bytes(batch), 0
        while at < len(view):
            count += view[at + 1] == MARKER and view[at + 32] == DISCONNECTED
            at += view[at] * 8
    return count


def test_close_ends_in_time_where_the_peer_does_not_read(tmp_path):
    # Megabytes wait to be sent to a peer that takes none, so an orderly close never comes. It is
    # cut, and its end is on the tape, once, when `close` returns: its number is free from then on.
    async def main() -> float:
        server = await asyncio.start_server(deaf, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        feed = BinanceFeed(BinanceConfig(symbols=("BTCUSDT",), ws_url=f"ws://127.0.0.1:{port}"))
        ingest = Ingest(tmp_path, "x", "binance-spot")
        (line,) = feed.lines()
        connection = Connection(0, line, feed, ingest, ingest.flush, Clock())
        await connection.open(None)
        for _ in range(30):
            connection.send_now(b"x" * (1 << 20), 0.0)
        started = time.monotonic()
        await connection.close()
        took = time.monotonic() - started
        assert connection.closed
        assert ends(tmp_path) == 1
        await asyncio.sleep(0.2)
        assert ends(tmp_path) == 1
        ingest.close()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        return took

    assert asyncio.run(main()) < 5
