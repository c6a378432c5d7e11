"""Modes of answers to requests: bodies, headers and statuses that no venue should give.

`exchangeInfo` and `depth` are asked for every few seconds, so that each mode meets both.
"""

import asyncio
import gzip
import time

from tests.hostile import wire
from tests.hostile.base import on_request
from tests.hostile.venue import Venue
from tests.hostile.wire import SYMBOLS, answer, exchange_info

MIB = 1 << 20
DEEP = b"[" * 200_000 + b"]" * 200_000
JSON = b"Content-Type: application/json\r\n"


def _is_book(path: str) -> bool:
    return "/depth" in path


@on_request()
async def huge_body(venue: Venue, path: str, writer: asyncio.StreamWriter) -> bytes | bool:
    """A body of a gigabyte."""
    writer.write(b"HTTP/1.1 200 OK\r\n" + JSON + b"Content-Length: 1073741824\r\n\r\n")
    for _ in range(1024):
        writer.write(b" " * MIB)
        await writer.drain()
    return True


@on_request()
async def endless_chunks(venue: Venue, path: str, writer: asyncio.StreamWriter) -> bytes | bool:
    """A chunked body without end."""
    writer.write(b"HTTP/1.1 200 OK\r\n" + JSON + b"Transfer-Encoding: chunked\r\n\r\n")
    while venue.attacking:
        writer.write(b"100000\r\n" + b" " * MIB + b"\r\n")
        await writer.drain()
    return True


@on_request()
async def gzip_bomb(venue: Venue, path: str, writer: asyncio.StreamWriter) -> bytes | bool:
    """A small body that unpacks to a gigabyte."""
    return answer(GZIP_BOMB, headers=b"Content-Encoding: gzip\r\n")


GZIP_BOMB = gzip.compress(b"0" * (64 * MIB), 1) * 16


@on_request()
async def broken_compression(venue: Venue, path: str, writer: asyncio.StreamWriter) -> bytes | bool:
    """Bodies that are not packed as they say."""
    names = (b"gzip", b"br", b"deflate", b"zstd", b"nonsense", b"gzip, gzip")
    encoding = names[venue.counts["requests"] % len(names)]
    header = b"Content-Encoding: " + encoding + b"\r\n"
    return answer(b"\x1f\x8bnotgzipnotgzipnotgzip", headers=header)


@on_request()
async def cut_body(venue: Venue, path: str, writer: asyncio.StreamWriter) -> bytes | bool:
    """A body that ends before the length that was announced."""
    body = venue.body(path)
    head = b"HTTP/1.1 200 OK\r\n" + JSON + b"Content-Length: %d\r\n\r\n" % len(body)
    writer.write(head + body[: len(body) // 2])
    await writer.drain()
    return True


@on_request()
async def cut_json(venue: Venue, path: str, writer: asyncio.StreamWriter) -> bytes | bool:
    """Half of the JSON, whose length says that it is whole."""
    body = venue.body(path)
    return answer(body[: len(body) // 2])


@on_request()
async def body_without_length(
    venue: Venue, path: str, writer: asyncio.StreamWriter
) -> bytes | bool:
    """Half of a body that ends with the connection."""
    body = venue.body(path)
    writer.write(b"HTTP/1.1 200 OK\r\n" + JSON + b"\r\n" + body[: len(body) // 2])
    await writer.drain()
    return True


@on_request()
async def wrong_lengths(venue: Venue, path: str, writer: asyncio.StreamWriter) -> bytes | bool:
    """Lengths that are no numbers, or two different ones."""
    lengths = (b"-1", b"9" * 5000, b"abc", b"1\r\nContent-Length: 2", b"", b"0x10")
    length = lengths[venue.counts["requests"] % len(lengths)]
    head = b"HTTP/1.1 200 OK\r\n" + JSON + b"Content-Length: " + length + b"\r\n\r\n"
    writer.write(head + venue.body(path))
    await writer.drain()
    return True


@on_request()
async def redirects(venue: Venue, path: str, writer: asyncio.StreamWriter) -> bytes | bool:
    """Redirects to other hosts, to itself, and to what is no address."""
    if "evil" in path:
        return answer(b'{"lastUpdateId":999999999,"bids":[["1","1"]],"asks":[["2","1"]]}')
    places = (
        b"/evil?symbol=BTCUSDT",
        b"http://127.0.0.1:9/x",
        b"http://[::1",
        b"file:///etc/passwd",
    )
    place = places[venue.counts["requests"] % len(places)]
    return answer(b"", "302 Found", b"Location: " + place + b"\r\n")


@on_request()
async def redirect_loop(venue: Venue, path: str, writer: asyncio.StreamWriter) -> bytes | bool:
    """Every answer is a redirect to the same venue."""
    place = b"/api/v3/depth?a=%d" % venue.counts["requests"]
    return answer(b"", "307 Temporary", b"Location: " + place + b"\r\n")


@on_request(banned=True)
async def retry_after_5000_digits(
    venue: Venue, path: str, writer: asyncio.StreamWriter
) -> bytes | bool:
    """A refusal for a time of five thousand digits."""
    return answer(b"{}", "429 Too Many", b"Retry-After: " + b"9" * 5000 + b"\r\n")


@on_request(banned=True)
async def retry_after_400_digits(
    venue: Venue, path: str, writer: asyncio.StreamWriter
) -> bytes | bool:
    """A refusal for a time that no float holds."""
    return answer(b"{}", "429 Too Many", b"Retry-After: " + b"9" * 400 + b"\r\n")


@on_request(banned=True)
async def strange_retry_after(
    venue: Venue, path: str, writer: asyncio.StreamWriter
) -> bytes | bool:
    """A refusal for times that are no numbers."""
    texts = (b"-5", b"1e9", b"\xd9\xa3", b"Wed, 21 Oct 2099 07:28:00 GMT", b"", b"0", b"NaN")
    text = texts[venue.counts["requests"] % len(texts)]
    return answer(b"{}", "418 Teapot", b"Retry-After: " + text + b"\r\n")


@on_request(banned=True)
async def ban_until_2286(venue: Venue, path: str, writer: asyncio.StreamWriter) -> bytes | bool:
    """A ban until the year 2286."""
    body = b'{"code":-1003,"msg":"Way too much; IP banned until 9999999999999."}'
    return answer(body, "418 Teapot")


@on_request()
async def storm_of_429(venue: Venue, path: str, writer: asyncio.StreamWriter) -> bytes | bool:
    """Every request is one too many."""
    return answer(b'{"code":-1003,"msg":"slow"}', "429 Too Many", b"Retry-After: 1\r\n")


@on_request()
async def storm_of_418(venue: Venue, path: str, writer: asyncio.StreamWriter) -> bytes | bool:
    """Every request prolongs a short ban."""
    until = time.time_ns() // 1_000_000 + 2000
    body = b'{"code":-1003,"msg":"IP banned until %d"}' % until
    return answer(body, "418 Teapot", b"Retry-After: 2\r\n")


@on_request()
async def weights_of_5000_digits(
    venue: Venue, path: str, writer: asyncio.StreamWriter
) -> bytes | bool:
    """Used weights in headers whose names or values no number holds."""
    names = b"X-MBX-USED-WEIGHT-" + b"1" * 5000 + b"M: 1\r\n"
    values = b"X-MBX-USED-WEIGHT-1M: " + b"9" * 5000 + b"\r\n"
    return answer(venue.body(path), headers=(names, values)[venue.counts["requests"] % 2])


@on_request(banned=True)
async def weight_at_limit(venue: Venue, path: str, writer: asyncio.StreamWriter) -> bytes | bool:
    """All weight is used, says every answer."""
    return answer(venue.body(path), headers=b"X-MBX-USED-WEIGHT-1M: 99999999\r\n")


@on_request()
async def nested_bodies(venue: Venue, path: str, writer: asyncio.StreamWriter) -> bytes | bool:
    """Bodies nested two hundred thousand deep."""
    return answer(b'{"x":' + DEEP + b',"symbols":[],"lastUpdateId":1,"bids":[],"asks":[]}')


@on_request()
async def nested_errors(venue: Venue, path: str, writer: asyncio.StreamWriter) -> bytes | bool:
    """Errors nested two hundred thousand deep."""
    return answer(b'{"x":' + DEEP + b"}", "500 No")


@on_request(refused=True)
async def escapes_in_errors(venue: Venue, path: str, writer: asyncio.StreamWriter) -> bytes | bool:
    """Errors whose words act on a terminal and forge a line of the log."""
    body = (
        b'{"code":-1121,"msg":"Invalid \\u001b]0;owned\\u0007\\u001b[31mRED\\u001b[2J\\nERROR x"}'
    )
    return answer(body, "400 Bad \x1b[31m")


@on_request()
async def strange_statuses(venue: Venue, path: str, writer: asyncio.StreamWriter) -> bytes | bool:
    """Statuses that mean nothing, or another protocol."""
    statuses = (
        "999 What",
        "101 Switching Protocols",
        "204 No Content",
        "000 X",
        "abc",
        "600",
        "503 X",
    )
    return answer(b"{}", statuses[venue.counts["requests"] % len(statuses)])


@on_request()
async def pages(venue: Venue, path: str, writer: asyncio.StreamWriter) -> bytes | bool:
    """A page of a gateway instead of an answer."""
    return answer(b"<html><body>\x1b[31mcaptcha</body></html>")


@on_request()
async def other_json(venue: Venue, path: str, writer: asyncio.StreamWriter) -> bytes | bool:
    """JSON that is not what was asked for."""
    bodies = (b"[]", b"{}", b"null", b"5", b'""', b'{"symbols":5}', b'{"lastUpdateId":"x"}', b"")
    return answer(bodies[venue.counts["requests"] % len(bodies)])


@on_request()
async def no_answers(venue: Venue, path: str, writer: asyncio.StreamWriter) -> bytes | bool:
    """Requests are not answered."""
    await venue.calmed.wait()
    return True


@on_request()
async def cut_connections(venue: Venue, path: str, writer: asyncio.StreamWriter) -> bytes | bool:
    """Connections are cut on every request."""
    writer.transport.abort()
    return True


@on_request()
async def dripping_body(venue: Venue, path: str, writer: asyncio.StreamWriter) -> bytes | bool:
    """A body that comes by one byte a second."""
    writer.write(b"HTTP/1.1 200 OK\r\n" + JSON + b"Content-Length: 100000\r\n\r\n")
    while venue.attacking:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(1)
    return True


@on_request()
async def header_flood(venue: Venue, path: str, writer: asyncio.StreamWriter) -> bytes | bool:
    """Headers without end."""
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while venue.attacking:
        writer.write(b"X: " + b"y" * 4000 + b"\r\n")
        await writer.drain()
    return True


@on_request()
async def cookies(venue: Venue, path: str, writer: asyncio.StreamWriter) -> bytes | bool:
    """A new cookie of kilobytes with every answer."""
    number = venue.counts["requests"]
    header = b"Set-Cookie: c%d=" % number + b"y" * 4000 + b"; Max-Age=99999999\r\n"
    return answer(venue.body(path), headers=header)


@on_request()
async def many_definitions(venue: Venue, path: str, writer: asyncio.StreamWriter) -> bytes | bool:
    """Definitions of thirty thousand symbols that nobody asked for."""
    return False if _is_book(path) else answer(MANY_DEFINITIONS)


MANY_DEFINITIONS = exchange_info((*SYMBOLS, *(f"S{number:06}USDT" for number in range(30_000))))


@on_request()
async def strange_definitions(
    venue: Venue, path: str, writer: asyncio.StreamWriter
) -> bytes | bool:
    """Definitions of symbols that are paths, commands, escapes, or too long."""
    names = (
        "../../../tmp/pwn",
        "A'B\"C",
        "日本語USDT",
        "X" * 48,
        "Y" * 49,
        "\u202eEVIL",
        "..",
        "$(id)",
    )
    return False if _is_book(path) else answer(exchange_info((*names, *SYMBOLS, "A\u009b31mB")))


@on_request()
async def long_symbol_first(venue: Venue, path: str, writer: asyncio.StreamWriter) -> bytes | bool:
    """One symbol of 49 bytes before all others."""
    return False if _is_book(path) else answer(exchange_info(("Y" * 49, *SYMBOLS)))


@on_request()
async def strange_limits(venue: Venue, path: str, writer: asyncio.StreamWriter) -> bytes | bool:
    """Limits of 0, 1, below zero, and of four hundred digits."""
    limits = (0, 1, -1, 10**400, -(10**400), 1 << 63, 5)
    limit = limits[venue.counts["requests"] % len(limits)]
    return False if _is_book(path) else answer(exchange_info(limit=limit))


@on_request()
async def old_snapshots(venue: Venue, path: str, writer: asyncio.StreamWriter) -> bytes | bool:
    """Snapshots that are older than all updates."""
    return answer(venue.body(path, -100_000)) if _is_book(path) else False


@on_request()
async def far_snapshots(venue: Venue, path: str, writer: asyncio.StreamWriter) -> bytes | bool:
    """Snapshots that are far ahead of all updates."""
    return answer(venue.body(path, 10**9)) if _is_book(path) else False


@on_request()
async def strange_snapshots(venue: Venue, path: str, writer: asyncio.StreamWriter) -> bytes | bool:
    """Snapshots whose ids or levels are none."""
    bodies = [
        wire.snapshot(-1), wire.snapshot(1 << 64), wire.snapshot(10**400),
        b'{"lastUpdateId":5,"bids":[["-1","1"]],"asks":[]}',
        b'{"lastUpdateId":5,"bids":[[]],"asks":[["1"]]}',
        b'{"lastUpdateId":5,"bids":null,"asks":5}',
    ]  # fmt: skip
    return answer(bodies[venue.counts["requests"] % len(bodies)]) if _is_book(path) else False
