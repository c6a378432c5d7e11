"""Modes of market data: numbers, ids, times and symbols that no market has.

Single absurd ids and times that could be believed (an update id of 2^62) are in the campaign of
plausibility; here the recorder must survive them, and other symbols must not notice.
"""

import asyncio

from tests.hostile import wire
from tests.hostile.base import on_socket
from tests.hostile.venue import Socket, Venue
from tests.hostile.wire import frame

BTC, ETH = wire.SYMBOLS
DEEP = b"[" * 1_000_000 + b"]" * 1_000_000


@on_socket()
async def nested_messages(venue: Venue, socket: Socket) -> None:
    """Messages nested a million deep, as a whole and as their data."""
    await socket.flood(frame(DEEP))
    await socket.flood(frame(b'{"stream":"btcusdt@trade","data":' + DEEP + b"}"))
    await socket.flood(frame(b'{"a":' * 100_000 + b"1" + b"}" * 100_000))
    await socket.flood(frame(b'{"id":1,"result":' + DEEP + b"}"))
    await socket.flood(frame(b'{"stream":"x","data":{"e":"trade","s":' + b'"' * 100_000 + b"}}"))


@on_socket()
async def invalid_utf8(venue: Venue, socket: Socket) -> None:
    """Text that is not UTF-8, as names of streams and as symbols."""
    for bad in (
        b"\xff\xfe\x00", b'{"stream":"btcusdt@trade","data":{"e":"trade","s":"\xc3\x28"}}',
        b"\xed\xa0\x80", b"\0" * 1000, b'{"stream":"\xff\xff@trade","data":{}}',
        wire.trade(BTC, 5, s="A").replace(b'"A"', b'"\\ud800"'),
        wire.trade(BTC, 5, s="A").replace(b'"A"', b'"\xff\xfe"'),
    ):  # fmt: skip
        socket.send(bad)
        socket.send(bad, wire.BINARY)
        await asyncio.sleep(0.05)


@on_socket(harmed=(BTC,))
async def strange_numbers(venue: Venue, socket: Socket) -> None:
    """Prices and sizes that are no numbers, or none that fit."""
    texts = [
        "1" * 40, "0." + "1" * 40, "-5", "NaN", "Infinity", "1e400", "1e-400", "1e5", "+5", " 5",
        "0x10", "1_000", "", ".5", "5.", "9223372036.854775807", "9223372036.854775808", "0", "-0",
        "00001.5", "1" + "0" * 5000 + "e-5000", "٣", "1" * 100_000,
    ]  # fmt: skip
    for text in texts:
        socket.send(venue.next_trade(BTC, p=text))
        socket.send(venue.next_trade(BTC, q=text))
        socket.send(wire.quote(BTC, venue.quotes[BTC], b=text))
    for value in (100.0, [1], None, {}, True, 10**400):
        socket.send(venue.next_trade(BTC, p=value))
    await asyncio.sleep(0)


@on_socket(harmed=(BTC,))
async def strange_ids(venue: Venue, socket: Socket) -> None:
    """Ids below zero, above 64 bits, fractions and texts."""
    for number in (-1, 0, 1 << 64, 10**30, -(10**30), 1.5, 1e3, "5", None, [1], 10**400):
        socket.send(wire.trade(BTC, 5, t=number))
        socket.send(wire.quote(BTC, 5, u=number))
        socket.send(wire.depth(BTC, 5, 5, u=number))
        socket.send(wire.depth(BTC, 5, 5, U=number))
        await asyncio.sleep(0.02)


@on_socket(harmed=(BTC,))
async def strange_times(venue: Venue, socket: Socket) -> None:
    """Times of 1970, of 9999, below zero and above 64 bits."""
    for stamp in (0, 1, -1, -(10**15), 1 << 63, 10**30, "5", None, 1.5, 253_402_300_799_999):
        socket.send(venue.next_trade(BTC, T=stamp, E=stamp))
        socket.send(wire.depth(BTC, 5, 5, E=stamp))
        await asyncio.sleep(0.02)


@on_socket(harmed=(BTC,))
async def ids_step_back(venue: Venue, socket: Socket) -> None:
    """Old trades, quotes and changes of the book are sent again and again."""
    while venue.attacking:
        for back in (1, 5, 50, 900):
            socket.send(wire.trade(BTC, venue.trades[BTC] - back))
            socket.send(wire.quote(BTC, venue.quotes[BTC] - back))
            last = venue.updates[BTC] - back
            socket.send(wire.depth(BTC, last, last))
        await asyncio.sleep(0.05)


@on_socket()
async def missing_fields(venue: Venue, socket: Socket) -> None:
    """Messages without one of their fields, of unknown events, and with bytes behind their end."""
    for _ in range(10):
        for message in (wire.trade(ETH, 5), wire.quote(ETH, 5), wire.depth(ETH, 5, 5)):
            socket.send(message + b"}")
            socket.send(message[:-2])
            socket.send(message.replace(b'"s":"ETHUSDT",', b""))
            socket.send(message.replace(b'"data":', b'"date":'))
            socket.send(message.replace(b'"e":"', b'"e":"un'))
        socket.send(b'{"stream":"ethusdt@trade"}')
        socket.send(b'{"stream":"ethusdt@trade","data":null}')
        await asyncio.sleep(0.05)


@on_socket()
async def invented_symbols(venue: Venue, socket: Socket) -> None:
    """Trades of ever new symbols that nobody subscribed to."""
    number = 0
    while venue.attacking:
        many = b"".join(frame(wire.trade(f"Z{number + more:09}Q", 1)) for more in range(500))
        number += 500
        await socket.flood(many)


@on_socket()
async def strange_symbols(venue: Venue, socket: Socket) -> None:
    """Symbols that are paths, commands, escapes, or longer than any."""
    for symbol in (
        "../../../../../../tmp/pwn", "a/../../b", "A'B", 'A"B', "\u202eRTL", "A\u009b31mX",
        "A\x7fB",
        "X" * 48, "X" * 49, "X" * 100_000, "..", "*", "$(id)", "日本", "A\x1b[31mB", "A\0B", "A\nB",
        "", " ", "%s%n", "<script>", "-rf",
    ):  # fmt: skip
        socket.send(wire.trade(symbol, 1))
        socket.send(wire.quote(symbol, 1))
        socket.send(wire.depth(symbol, 1, 1))
        await asyncio.sleep(0.02)


@on_socket()
async def symbol_of_another_stream(venue: Venue, socket: Socket) -> None:
    """Data of a new symbol on a stream that was asked for."""
    for number in range(300):
        message = wire.trade(f"Y{number}", number)
        socket.send(message.replace(b"y%d@trade" % number, b"btcusdt@trade"))
        await asyncio.sleep(0.01)


@on_socket(harmed=(BTC,))
async def huge_book(venue: Venue, socket: Socket) -> None:
    """Changes of two thousand levels a side, twenty times a second."""
    at = 0
    while venue.attacking:
        at = (at + 1) % 50
        bids = [[f"{50_000 - (at * 4000 + i) / 100:.2f}", "1.5"] for i in range(2000)]
        asks = [[f"{60_000 + (at * 4000 + i) / 100:.2f}", "1.5"] for i in range(2000)]
        venue.updates[BTC] += 1
        last = venue.updates[BTC]
        await socket.flood(frame(wire.depth(BTC, last, last, b=bids, a=asks)))
        await asyncio.sleep(0.05)


@on_socket(harmed=(BTC,))
async def empty_books(venue: Venue, socket: Socket) -> None:
    """Changes without levels, with none of one side, and with levels that are no levels."""
    for levels in (
        [],
        [[]],
        [["1"]],
        [["1", "2", "3"]],
        [[1, 2]],
        "x",
        None,
        [["1", "-1"]],
        [[]] * 9,
    ):
        venue.updates[BTC] += 1
        last = venue.updates[BTC]
        socket.send(wire.depth(BTC, last, last, b=levels, a=[]))
        await asyncio.sleep(0.05)


@on_socket(harmed=(BTC,))
async def holes_in_sequences(venue: Venue, socket: Socket) -> None:
    """Trades and changes of the book are left out, a few at a time."""
    while venue.attacking:
        venue.trades[BTC] += venue.chance.randrange(1, 5)
        venue.updates[BTC] += venue.chance.randrange(1, 5)
        await asyncio.sleep(0.1)
