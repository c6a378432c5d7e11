"""Modes of frames: too large, too many, cut, or against the protocol."""

import asyncio
import zlib

from tests.hostile import wire
from tests.hostile.base import on_socket
from tests.hostile.venue import Socket, Venue
from tests.hostile.wire import BINARY, CONTINUATION, PING, PONG, announced, frame

MIB = 1 << 20


@on_socket()
async def giant_frame(venue: Venue, socket: Socket) -> None:
    """A frame of 20 MiB, which is more than any message has."""
    socket.is_busy = True
    await socket.flood(announced(20 * MIB))
    for _ in range(20):
        await socket.flood(b"a" * MIB)
    socket.is_busy = False


@on_socket()
async def announced_200_mib(venue: Venue, socket: Socket) -> None:
    """A frame that says that it has 200 MiB, and comes slowly."""
    socket.is_busy = True
    await socket.flood(announced(200 * MIB))
    while venue.attacking:
        await socket.flood(b"a" * 1000)
        await asyncio.sleep(0.1)
    socket.drop()


@on_socket()
async def announced_four_exabytes(venue: Venue, socket: Socket) -> None:
    """A frame that says that it has 2^62 bytes."""
    socket.is_busy = True
    await socket.flood(announced(1 << 62))
    while venue.attacking:
        await socket.flood(b"a" * 1000)
        await asyncio.sleep(0.1)
    socket.drop()


@on_socket()
async def announced_negative(venue: Venue, socket: Socket) -> None:
    """A frame whose length has its highest bit set."""
    socket.is_busy = True
    await socket.flood(announced((1 << 64) - 1))
    socket.is_busy = False


@on_socket()
async def large_frames(venue: Venue, socket: Socket) -> None:
    """Good messages, padded to 15 MiB each."""
    for _ in range(6):
        message = venue.next_trade("BTCUSDT")
        await socket.flood(frame(message[:-1] + b" " * (15 * MIB) + b"}"))
        await asyncio.sleep(0.3)


@on_socket()
async def cut_frame(venue: Venue, socket: Socket) -> None:
    """Half of a frame, and the end of the connection."""
    await socket.flood(frame(wire.trade("BTCUSDT", 1))[:40])
    await asyncio.sleep(0.2)
    socket.drop()


@on_socket()
async def unfinished_message(venue: Venue, socket: Socket) -> None:
    """Fragments without the last one, and the end of the connection."""
    message = wire.trade("BTCUSDT", 1)
    socket.is_busy = True
    socket.send(message[:50], fin=False)
    await socket.flood(frame(message[50:], CONTINUATION, fin=False))
    await asyncio.sleep(0.2)
    socket.drop()


@on_socket()
async def message_within_fragments(venue: Venue, socket: Socket) -> None:
    """A whole message between the fragments of another, and a second start of one."""
    for _ in range(20):
        message = venue.next_trade("BTCUSDT")
        socket.send(message[:50], fin=False)
        socket.send(venue.next_trade("ETHUSDT"))
        socket.send(message[50:], CONTINUATION)
        lost = venue.next_trade("BTCUSDT")
        socket.send(lost[:50], fin=False)
        message = venue.next_trade("BTCUSDT")
        socket.send(message[:50], fin=False)
        socket.send(message[50:], CONTINUATION)
        await asyncio.sleep(0.1)


@on_socket()
async def continuation_of_nothing(venue: Venue, socket: Socket) -> None:
    """Continuations that no message began."""
    for _ in range(50):
        socket.send(b"{", CONTINUATION, fin=False)
        socket.send(b"}", CONTINUATION)
        await asyncio.sleep(0.05)


@on_socket()
async def empty_fragments(venue: Venue, socket: Socket) -> None:
    """Empty continuations without end."""
    socket.is_busy = True
    socket.send(b"{", fin=False)
    many = frame(b"", CONTINUATION, fin=False) * 500
    while venue.attacking:
        await socket.flood(many)
    socket.send(b"}", CONTINUATION)
    socket.is_busy = False


@on_socket()
async def tiny_fragments(venue: Venue, socket: Socket) -> None:
    """One message in fragments of one byte, without end."""
    socket.is_busy = True
    socket.send(b"{", fin=False)
    many = frame(b" ", CONTINUATION, fin=False) * 500
    while venue.attacking:
        await socket.flood(many)
    socket.send(b"}", CONTINUATION)
    socket.is_busy = False


@on_socket()
async def large_fragments(venue: Venue, socket: Socket) -> None:
    """One message in fragments of a megabyte, without end."""
    socket.is_busy = True
    socket.send(b"{", fin=False)
    while venue.attacking:
        await socket.flood(frame(b" " * MIB, CONTINUATION, fin=False))
    socket.send(b"}", CONTINUATION)
    socket.is_busy = False


@on_socket()
async def binary_frames(venue: Venue, socket: Socket) -> None:
    """Binary frames, which this interface never has."""
    for _ in range(50):
        socket.send(bytes(range(256)), BINARY)
        socket.send(wire.trade("BTCUSDT", 5), BINARY)
        await asyncio.sleep(0.05)


@on_socket()
async def unnegotiated_compression(venue: Venue, socket: Socket) -> None:
    """Compressed frames, though no compression was agreed on."""
    for _ in range(20):
        packer = zlib.compressobj(wbits=-15)
        packed = packer.compress(wire.trade("BTCUSDT", 5)) + packer.flush(zlib.Z_SYNC_FLUSH)
        socket.send(packed[:-4], rsv=4)
        await asyncio.sleep(0.1)


@on_socket()
async def reserved_opcodes(venue: Venue, socket: Socket) -> None:
    """Frames of opcodes that no protocol defines."""
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        socket.send(b"x", opcode)
        await asyncio.sleep(0.1)


@on_socket()
async def ping_flood(venue: Venue, socket: Socket) -> None:
    """Pings as fast as possible, whose answers nobody reads."""
    socket.writer.transport.pause_reading()  # type: ignore[attr-defined]
    many = frame(b"p" * 125, PING) * 2000
    while venue.attacking:
        await socket.flood(many)
    socket.writer.transport.resume_reading()  # type: ignore[attr-defined]


@on_socket()
async def large_pings(venue: Venue, socket: Socket) -> None:
    """Pings of a megabyte each."""
    socket.writer.transport.pause_reading()  # type: ignore[attr-defined]
    while venue.attacking:
        await socket.flood(frame(b"p" * MIB, PING))
    socket.drop()


@on_socket()
async def pong_flood(venue: Venue, socket: Socket) -> None:
    """Pongs that nobody asked for, as fast as possible."""
    many = frame(b"p" * 125, PONG) * 2000
    while venue.attacking:
        await socket.flood(many)


@on_socket()
async def empty_text_frames(venue: Venue, socket: Socket) -> None:
    """Text frames without a byte, as fast as the market allows."""
    many = frame(b"") * 200
    while venue.attacking:
        await socket.flood(many)
        await asyncio.sleep(0.02)


@on_socket()
async def unknown_frames(venue: Venue, socket: Socket) -> None:
    """Frames that say nothing, with terminal escapes, by the thousand."""
    many = frame(b'{"hello":"world\x1b[31m\x1b]0;owned\x07"}') * 500
    while venue.attacking:
        await socket.flood(many)
        await asyncio.sleep(0.02)


@on_socket()
async def flapping(venue: Venue, socket: Socket) -> None:
    """Every connection is cut after a tenth of a second."""
    await asyncio.sleep(0.1)
    socket.drop()


@on_socket()
async def silent(venue: Venue, socket: Socket) -> None:
    """The connection stays open, and nothing comes on it any more."""
    socket.is_busy = True
    await asyncio.sleep(3600)


@on_socket()
async def dripping(venue: Venue, socket: Socket) -> None:
    """One byte of a good frame at a time."""
    socket.is_busy = True
    while venue.attacking:
        for byte in frame(venue.next_trade("BTCUSDT")):
            await socket.flood(bytes([byte]))
            await asyncio.sleep(0.005)
    socket.is_busy = False


@on_socket()
async def close_codes(venue: Venue, socket: Socket) -> None:
    """Ends of connections with codes and reasons that no protocol allows."""
    endings = [
        b"",
        b"\x03",
        b"\x00\x00",
        b"\xff\xff",
        b"\x03\xe8\xff\xfe",
        b"\x03\xe8" + b"x" * 120,
    ]
    endings.append(b"\x03\xf0\x1b[31mRED\x1b]0;owned\x07\nERROR forged line")
    await socket.flood(frame(endings[venue.counts["attacks"] % len(endings)], wire.CLOSE))
    await asyncio.sleep(0.3)
    socket.drop()
