"""Modes of venues whose frames are arrays of events: each is tried in every dialect.

What is attacked is the first symbol. The second is told of in the same arrays, often between events
that cannot be read: none of its trades may be lost.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

from tests.hostile import wire
from tests.hostile.array_venue import ArrayVenue
from tests.hostile.base import MODES, ControlAct, Mode, SocketAct
from tests.hostile.dialects import DIALECTS
from tests.hostile.venue import Socket
from tests.hostile.wire import frame

Act = SocketAct | ControlAct
DEEP = b"[" * 1_000_000 + b"]" * 1_000_000
NUMBERS: tuple[Any, ...] = (
    *(-5, -0.0, 0, 1e-9, 1e-10, 1e300, 1 << 63, (1 << 64) - 1, 1 << 64, 10**400, 123456789012),
    *("5", "NaN", "", "0x10", "٣", "1" * 100_000, None, True, [], [1], {}),
)


def register(act: Act, dialects: Iterable[str], **more: Any) -> None:
    """Makes a mode of each dialect."""
    about = (act.__doc__ or "").strip().splitlines()[0]
    for dialect in dialects:
        name = f"{dialect}_{act.__name__}"
        harmed = DIALECTS[dialect].symbols[:1]
        MODES[name] = Mode(name, about, dialect=dialect, harmed=harmed, **more)


def on_events(act: SocketAct) -> SocketAct:
    """Registers what is done on a subscribed socket, in every dialect."""
    register(act, DIALECTS, socket=act)
    return act


def on_books(act: SocketAct) -> SocketAct:
    """Registers what is done on a subscribed socket, in every dialect that has books."""
    register(act, (name for name, of in DIALECTS.items() if of.book("", 0)), socket=act)
    return act


def on_answers(act: ControlAct) -> ControlAct:
    """Registers what is done instead of an answer, in every dialect."""
    register(act, DIALECTS, control=act)
    return act


def between(venue: ArrayVenue, socket: Socket, *bad: Any) -> None:
    """Sends events between two good trades of the other symbol, in one array."""
    other = venue.symbols[1]
    try:
        venue.dialect.pack(list(bad))
    except Exception:
        return
    venue.tell(socket, [venue.trade_event(other), *bad, venue.trade_event(other)])


@on_events
async def strange_numbers(venue: ArrayVenue, socket: Socket) -> None:
    """Prices and sizes that are no numbers, or none that fit."""
    symbol = venue.symbols[0]
    for value in NUMBERS:
        for field in ("p", "s"):
            between(venue, socket, venue.trade_event(symbol, **{field: value}))
        for field in ("bp", "bs", "ap", "as"):
            quote = venue.dialect.quote(symbol, venue.quotes[symbol], **{field: value})
            between(venue, socket, quote)
        await asyncio.sleep(0.02)


@on_events
async def strange_ids(venue: ArrayVenue, socket: Socket) -> None:
    """Ids and sequences below zero, above 64 bits, fractions and texts."""
    symbol = venue.symbols[0]
    for value in NUMBERS:
        for field in ("i", "q"):
            between(venue, socket, venue.dialect.trade(symbol, 5, **{field: value}))
        await asyncio.sleep(0.02)


@on_events
async def strange_times(venue: ArrayVenue, socket: Socket) -> None:
    """Times of 1970, of 9999, below zero and above 64 bits."""
    symbol = venue.symbols[0]
    texts = ("1970-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z", "0000-00-00T00:00:00Z")
    for value in (*NUMBERS, *texts, 1, 10**12, 253_402_300_799_999, 10**18):
        between(venue, socket, venue.trade_event(symbol, t=value))
        quote = venue.dialect.quote(symbol, venue.quotes[symbol], t=value)
        between(venue, socket, quote)
        await asyncio.sleep(0.02)


@on_events
async def nested_frames(venue: ArrayVenue, socket: Socket) -> None:
    """Frames nested a million deep, in both encodings, and lengths that nothing has."""
    await socket.flood(frame(DEEP))
    await socket.flood(frame(b'[{"ev":"T","T":"t","sym":' + DEEP + b"}]"))
    await socket.flood(frame(b'[{"a":' * 100_000 + b"1" + b"}]" * 100_000))
    for packed in (b"\x91" * 1_000_000, b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff\xa1T",
                   b"\xdb\xff\xff\xff\xffabc", b"\xc9\xff\xff\xff\xff\xff", b"\xc1"):  # fmt: skip
        await socket.flood(frame(packed, wire.BINARY))
        await asyncio.sleep(0.05)


@on_events
async def cut_arrays(venue: ArrayVenue, socket: Socket) -> None:
    """Frames that end anywhere within an event, or go on behind the array."""
    symbol = venue.symbols[0]
    for _ in range(20):
        payload, opcode = venue.dialect.pack([venue.trade_event(symbol)])
        socket.send(payload[: venue.chance.randrange(1, len(payload))], opcode)
        socket.send(payload + b"]", opcode)
        await asyncio.sleep(0.05)


@on_events
async def unreadable_events(venue: ArrayVenue, socket: Socket) -> None:
    """Events of unknown types, without a field, and elements that are no events."""
    symbol = venue.symbols[0]
    trade = venue.dialect.trade(symbol, 5)
    for _ in range(5):
        for name in trade:
            between(venue, socket, {key: of for key, of in trade.items() if key != name})
        for element in (None, 7, "x", [], [[]], {}, {"T": 5}, {"ev": None}):
            between(venue, socket, element)
        between(venue, socket, {**trade, "ev": "ZZ", "T": "zz"})
        await asyncio.sleep(0.05)


@on_events
async def huge_arrays(venue: ArrayVenue, socket: Socket) -> None:
    """Arrays of ten thousand good trades of both symbols."""
    for _ in range(3):
        events = [venue.trade_event(venue.symbols[at % 2]) for at in range(10_000)]
        payload, opcode = venue.dialect.pack(events)
        await socket.flood(frame(payload, opcode))
        await asyncio.sleep(0.5)


@on_events
async def invented_symbols(venue: ArrayVenue, socket: Socket) -> None:
    """Trades of ever new symbols that nobody subscribed to."""
    number = 0
    while venue.attacking:
        events = [venue.dialect.trade(f"Z{number + more}", 1) for more in range(500)]
        number += 500
        payload, opcode = venue.dialect.pack(events)
        await socket.flood(frame(payload, opcode))


@on_events
async def strange_symbols(venue: ArrayVenue, socket: Socket) -> None:
    """Symbols that are paths, commands, escapes, or longer than any."""
    for symbol in (
        "../../tmp/pwn", "A'B", 'A"B', "\u202eRTL", "A\u009b31mX", "X" * 48, "X" * 100_000, "..",
        "*", "$(id)", "日本", "A\x1b[31mB", "A\0B", "A\nB", "", " ", "%s%n", "-rf",
    ):  # fmt: skip
        between(venue, socket, venue.dialect.trade(symbol, 1), venue.dialect.quote(symbol, 1))
        await asyncio.sleep(0.02)


@on_events
async def told_again(venue: ArrayVenue, socket: Socket) -> None:
    """The same trades again and again, and others under the ids of old ones."""
    symbol = venue.symbols[0]
    while venue.attacking:
        trade = venue.trade_event(symbol)
        between(venue, socket, *[trade] * 5)
        back = venue.trades[symbol] - 5
        between(venue, socket, trade, venue.dialect.trade(symbol, back, p=7.5))
        await asyncio.sleep(0.05)


@on_books
async def strange_books(venue: ArrayVenue, socket: Socket) -> None:
    """Books of thousands of levels, with none, with some that are no levels, and never whole."""
    symbol = venue.symbols[0]
    number = 1
    for levels in (*NUMBERS, [{"p": 1}], [{"s": 1}], [[1, 2]], [{"p": -1, "s": 1}], [{}] * 9):
        for event in venue.dialect.book(symbol, number, b=levels):
            between(venue, socket, event)
        number += 1
        await asyncio.sleep(0.02)
    while venue.attacking:
        number += 1
        bids = [{"p": 50_000 - (number * 4000 + at) / 100, "s": 1.5} for at in range(2000)]
        for event in venue.dialect.book(symbol, number, b=bids):
            payload, opcode = venue.dialect.pack([event])
            await socket.flood(frame(payload, opcode))
        await asyncio.sleep(0.05)


@on_events
async def refusals_unasked(venue: ArrayVenue, socket: Socket) -> None:
    """Refusals that nobody asked for, as fast as they are taken."""
    while venue.attacking:
        for event in venue.dialect.refusals():
            venue.tell(socket, [event])
        await socket.flood(b"")
        await asyncio.sleep(0.02)


@on_events
async def cuts_announced(venue: ArrayVenue, socket: Socket) -> None:
    """The venue says again and again that it is about to cut the connection."""
    while venue.attacking:
        venue.tell(socket, [venue.dialect.shutdown()])
        await asyncio.sleep(0.5)


@on_answers
def never_answered(venue: ArrayVenue, socket: Socket, asked: dict[str, Any]) -> None:
    """No message of the recorder is answered."""


@on_answers
def data_before_answers(venue: ArrayVenue, socket: Socket, asked: dict[str, Any]) -> None:
    """Market data come from the login on, and each answer behind another greeting."""
    for symbol in venue.symbols:
        socket.writer.write(venue.events(symbol))
    socket.subscribed.set()
    venue.greet(socket)
    venue.tell(socket, venue.dialect.answer(asked, socket.streams))


@on_answers
def foreign_answers(venue: ArrayVenue, socket: Socket, asked: dict[str, Any]) -> None:
    """A login is taken; what is subscribed are a hundred thousand streams of others."""
    if asked["action"] == "auth":
        venue.tell(socket, venue.dialect.answer(asked, socket.streams))
        return
    names = [f"Z{number}\x1b[31m" for number in range(100_000)]
    told: dict[str, Any] = {"T": "subscription", "trades": names, "quotes": names}
    if venue.dialect.kind == "massive":
        told = {"ev": "status", "status": "success", "message": "subscribed to: " + ",".join(names)}
    venue.tell(socket, [told])
