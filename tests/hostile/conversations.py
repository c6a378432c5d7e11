"""Modes of handshakes and of control messages."""

import asyncio
from typing import Any

from tests.hostile import wire
from tests.hostile.base import on_control, on_handshake, on_socket
from tests.hostile.venue import Socket, Venue
from tests.hostile.wire import frame

UPGRADE = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
DEEP = b"[" * 100_000 + b"]" * 100_000


async def _say(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


@on_handshake()
async def handshake_redirected(venue: Venue, writer: asyncio.StreamWriter, accept: bytes) -> None:
    """The handshake is answered by a redirect to another place."""
    await _say(writer, b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/evil\r\n\r\n")


@on_handshake()
async def handshake_declined(venue: Venue, writer: asyncio.StreamWriter, accept: bytes) -> None:
    """The handshake is answered as if it were a page."""
    await _say(writer, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")


@on_handshake()
async def handshake_wrong_key(venue: Venue, writer: asyncio.StreamWriter, accept: bytes) -> None:
    """The handshake is answered with another key."""
    await _say(writer, UPGRADE + b"Sec-WebSocket-Accept: wrong\r\n\r\n")


@on_handshake()
async def handshake_garbage(venue: Venue, writer: asyncio.StreamWriter, accept: bytes) -> None:
    """The handshake is answered by bytes that are no HTTP."""
    answers = [
        b"\xff\xfe garbage \r\n\r\n", b"HTTP/1.1 abc X\r\n\r\n", b"\r\n\r\n", b"A" * 70_000,
        b"HTTP/1.1 101 X\r\nX: \xff\xfe\xc3\x28\r\nNoColonHere\r\n\r\n", b"",
        b"HTTP/1.1 101 Switching Protocols\r\n" + b"\0" * 1000 + b"\r\n\r\n",
        b"HTTP/1.1 " + b"9" * 5000 + b" X\r\n\r\n",
    ]  # fmt: skip
    await _say(writer, answers[venue.counts["attacks"] % len(answers)])


@on_handshake()
async def handshake_extension(venue: Venue, writer: asyncio.StreamWriter, accept: bytes) -> None:
    """The handshake agrees to a compression that nobody asked for."""
    extension = b"Sec-WebSocket-Extensions: permessage-deflate\r\n"
    await _say(writer, UPGRADE + extension + b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
    await asyncio.sleep(1)


@on_handshake()
async def handshake_escapes(venue: Venue, writer: asyncio.StreamWriter, accept: bytes) -> None:
    """The handshake is refused in words that act on a terminal."""
    status = b"HTTP/1.1 418 \x1b[31mteapot\x1b]0;owned\x07\x9b31m\r\n"
    await _say(writer, status + b"Content-Length: 4\r\n\r\n\x1b[2J")


@on_handshake()
async def handshake_rate_limited(venue: Venue, writer: asyncio.StreamWriter, accept: bytes) -> None:
    """The handshake is refused for a time of five thousand digits."""
    retry = b"Retry-After: " + b"9" * 5000
    await _say(writer, b"HTTP/1.1 429 Too Many\r\n" + retry + b"\r\nContent-Length: 0\r\n\r\n")


@on_handshake()
async def handshake_slow(venue: Venue, writer: asyncio.StreamWriter, accept: bytes) -> None:
    """The handshake comes by one byte a second."""
    for byte in UPGRADE + b"X: y\r\n" * 1000:
        if not venue.attacking:
            break
        await _say(writer, bytes([byte]))
        await asyncio.sleep(1)


@on_handshake()
async def handshake_header_flood(venue: Venue, writer: asyncio.StreamWriter, accept: bytes) -> None:
    """The handshake has headers without end."""
    await _say(writer, UPGRADE)
    while venue.attacking:
        await _say(writer, b"X: " + b"y" * (1 << 20) + b"\r\n")


@on_handshake()
async def handshake_never(venue: Venue, writer: asyncio.StreamWriter, accept: bytes) -> None:
    """The handshake is not answered."""
    await venue.calmed.wait()


@on_control()
def never_acknowledged(venue: Venue, socket: Socket, asked: dict[str, Any]) -> None:
    """No control message is answered."""


@on_control()
def data_before_acknowledgement(venue: Venue, socket: Socket, asked: dict[str, Any]) -> None:
    """Market data come before, instead of and behind the acknowledgement."""
    socket.streams += asked.get("params", [])
    for symbol in wire.SYMBOLS:
        socket.writer.write(venue.events(symbol))
    socket.send(wire.packed({"result": None, "id": asked["id"]}))
    socket.subscribed.set()


@on_control()
def forgotten_subscriptions(venue: Venue, socket: Socket, asked: dict[str, Any]) -> None:
    """Every subscription is acknowledged, and none is in the listing."""
    result: Any = None if asked["method"] == "SUBSCRIBE" else []
    socket.send(wire.packed({"result": result, "id": asked["id"]}))


@on_control()
def foreign_listing(venue: Venue, socket: Socket, asked: dict[str, Any]) -> None:
    """The listing names streams that nobody asked for, a hundred thousand of them."""
    listed = [f"z{number}@trade\x1b[31m" for number in range(100_000)]
    result: Any = None if asked["method"] == "SUBSCRIBE" else listed
    socket.send(wire.packed({"result": result, "id": asked["id"]}))


@on_control()
def refused_subscriptions(venue: Venue, socket: Socket, asked: dict[str, Any]) -> None:
    """Every control message is refused, in words that act on a terminal."""
    error = {"code": 2, "msg": "Invalid \x1b[31mrequest\x1b]0;owned\x07\nERROR forged"}
    socket.send(wire.packed({"error": error, "id": asked["id"]}))


@on_control()
def wrong_ids(venue: Venue, socket: Socket, asked: dict[str, Any]) -> None:
    """Acknowledgements carry ids that nobody gave."""
    for number in (0, -1, 1 << 80, None, "x", 1.5, [1], {"a": 1}, "9" * 5000):
        socket.send(wire.packed({"result": None, "id": number}))


@on_control()
def nested_acknowledgements(venue: Venue, socket: Socket, asked: dict[str, Any]) -> None:
    """Acknowledgements are nested a hundred thousand deep."""
    socket.send(b'{"result":' + DEEP + b',"id":%d}' % asked["id"])
    socket.send(b'{"id":%d,"error":' % asked["id"] + DEEP + b"}")


@on_socket()
async def refusal_flood(venue: Venue, socket: Socket) -> None:
    """Refusals that nobody asked for, as fast as the market allows."""
    many = frame(wire.packed({"error": {"code": 3, "msg": "x\x1b[2J"}, "id": 9})) * 200
    while venue.attacking:
        await socket.flood(many)
        await asyncio.sleep(0.02)


@on_socket()
async def shutdown_notices(venue: Venue, socket: Socket) -> None:
    """The venue says again and again that it is about to shut down."""
    notice = wire.packed({"stream": "!serverShutdown", "data": {"e": "serverShutdown", "E": 1}})
    while venue.attacking:
        await socket.flood(frame(notice) * 10)
        await asyncio.sleep(0.1)
