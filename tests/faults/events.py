"""Massive and Alpaca, whose messages prove no loss: a run is compared with all that they say.

1. Every trade and quote that reached the raw tape in a readable frame is a record, with the values
   of the frame and as often as its connection said it, and no other is. Every other frame is a
   dead letter.
2. Trades, quotes and books that went on without a connection are in the ledger as an outage, and
   the ledger has no other entry of them.
3. No change leaves a book that is not verified. In the end every book is verified and is what its
   frames say, the last whole one and the changes after it; and the exchange's to the checksum,
   where no fault hit its stream.
"""

import fnmatch
import json
import struct
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
from tests.faults.check import (
    BINARY,
    CLOSED,
    DEPTH,
    DISCONNECT,
    OPEN,
    QUOTE,
    SILENCE,
    SLACK_NS,
    TEXT,
    TRADE,
    Check,
    Outcome,
    rows,
)

from tapeworks._core import NONE, BookHistory, TapeReader
from tapeworks.simulators.faults import FRAME_KINDS

PRICE, SIZE = 9, 8
MS = 1_000_000
COLUMNS = {
    TRADE: ("trade", ("ts_event", "trade_id", "price", "size")),
    QUOTE: ("quote", ("ts_event", "bid_price", "bid_size", "ask_price", "ask_size")),
}
CHANNEL_NAMES = {TRADE: "trade", QUOTE: "quote", DEPTH: "depth"}
Key = tuple[int, ...]
Event = dict[str, Any]


@dataclass
class Read:
    """What the frames of a raw tape say, by our own reading."""

    events: dict[tuple[str, int], Counter[Key]] = field(
        default_factory=lambda: defaultdict(Counter)
    )
    """By symbol and channel."""
    books: dict[str, dict[str, dict[int, int]]] = field(default_factory=dict)
    """By symbol and side: size by price."""
    subscribed: set[str] = field(default_factory=set)
    """The symbols whose books the venue last said to be subscribed."""
    ended: Counter[str] = field(default_factory=Counter)
    """How often that of a symbol was not, though it was before."""
    frames: int = 0
    unreadable: int = 0


def units(value: Any, places: int) -> int:
    """Returns a number in units of `10^-places`; of a double, that of its shortest text."""
    return int(Decimal(repr(value) if isinstance(value, float) else value).scaleb(places))


def offer(event: Event, price: str, size: str) -> Key:
    """Returns one side of a quote."""
    return units(event.get(price, 0), PRICE) or NONE, units(event.get(size, 0), SIZE)


def text_events(body: bytes) -> list[Event]:
    """Returns the events of a frame of JSON, with its digits."""
    found: list[Event] = json.loads(body, parse_float=Decimal)
    return found


def packed_events(body: bytes) -> list[Event]:
    """Returns the events of a frame of msgpack, with times in ns."""
    found = msgspec.msgpack.decode(body, type=list[dict[str, msgspec.Raw]])
    return [
        {
            key: packed_ns(bytes(raw)) if key == "t" else msgspec.msgpack.decode(raw)
            for key, raw in event.items()
        }
        for event in found
    ]


def packed_ns(raw: bytes) -> int:
    """Returns the time of a timestamp of eight or of twelve bytes."""
    if raw[0] == 0xD7:
        (both,) = struct.unpack_from(">Q", raw, 2)
        return (both & 0x3_FFFF_FFFF) * 10**9 + (both >> 34)
    ns, seconds = struct.unpack_from(">Iq", raw, 3)
    return int(seconds) * 10**9 + int(ns)


def text_ns(told: str) -> int:
    """Returns the time of RFC 3339."""
    whole, _, fraction = told.removesuffix("Z").partition(".")
    second = datetime.fromisoformat(whole).replace(tzinfo=UTC)
    return int(second.timestamp()) * 10**9 + int(fraction.ljust(9, "0"))


def of_massive(event: Event, read: Read) -> None:
    """Takes in an event of Massive."""
    kind, at = event["ev"], event.get("t", 0) * MS
    symbol = event.get("sym") or event.get("pair", "")
    if kind in ("T", "XT"):
        size = units(event.get("ds") or event["s"], SIZE)
        key = (at, int(event["i"]), units(event["p"], PRICE), size)
        read.events[symbol, TRADE][key] += 1
    elif kind in ("Q", "XQ"):
        symbol = f"{symbol}@{event['x']}" if kind == "XQ" else symbol
        key = (at, *offer(event, "bp", "bs"), *offer(event, "ap", "as"))
        read.events[symbol, QUOTE][key] += 1


def of_alpaca(event: Event, read: Read) -> None:
    """Takes in an event of Alpaca."""
    kind, symbol = event["T"], event.get("S", "")
    if kind == "subscription":
        books = set(event.get("orderbooks") or ())
        read.ended.update(read.subscribed - books)
        read.subscribed = books
    if kind not in ("t", "q", "o"):
        return
    at = text_ns(event["t"]) if isinstance(event["t"], str) else event["t"]
    if kind == "t":
        key = (at, event["i"], units(event["p"], PRICE), units(event["s"], SIZE))
        read.events[symbol, TRADE][key] += 1
    elif kind == "q":
        key = (at, *offer(event, "bp", "bs"), *offer(event, "ap", "as"))
        read.events[symbol, QUOTE][key] += 1
    else:
        take_in_book(event, read, symbol)


def take_in_book(event: Event, read: Read, symbol: str) -> None:
    """Takes in a whole book, or what changed of it."""
    if event.get("r"):
        read.books[symbol] = {"bid": {}, "ask": {}}
    book = read.books.setdefault(symbol, {"bid": {}, "ask": {}})
    for side, levels in (("bid", event.get("b", ())), ("ask", event.get("a", ()))):
        for level in levels:
            price, size = units(level["p"], PRICE), units(level["s"], SIZE)
            book[side].pop(price, None)
            if size:
                book[side][price] = size


TAKE_IN: dict[str, Callable[[Event, Read], None]] = {"massive": of_massive, "alpaca": of_alpaca}


def read_raw(path: Path, take_in: Callable[[Event, Read], None]) -> Read:
    """Reads all frames of a raw tape with Python's own JSON, or with msgspec."""
    read, reader = Read(), TapeReader(path)
    while (blobs := reader.read_blobs()) is not None:
        for blob in blobs:
            read.frames += 1
            if blob.kind not in (TEXT, BINARY):
                continue
            try:
                events = (text_events if blob.kind == TEXT else packed_events)(blob.body)
            except (ValueError, msgspec.MsgspecError):
                read.unreadable += 1
                continue
            for event in events:
                take_in(event, read)
    return read


class EventsCheck(Check):
    """Compares one run with the truth."""

    def __init__(self, outcome: Outcome, data: Path, source: str, oracle: dict[str, Any]) -> None:
        super().__init__(outcome, data, source, oracle)
        take_in = TAKE_IN[source.partition("-")[0]]
        self.raw = read_raw(self.folder / "market-data.raw", take_in)
        outcome.frames = self.raw.frames
        self.links = [
            (link["opened_ns"], link["closed_ns"] or 1 << 61) for link in oracle["connections"]
        ]

    def run(self) -> None:
        """Runs all comparisons."""
        for channel in COLUMNS:
            self.events_once(channel)
        self.dead_letters()
        for symbol, channel in self.streams():
            self.outages(symbol, channel)
        self.books()

    def streams(self) -> Iterator[tuple[str, int]]:
        """Yields symbol and channel of all that was recorded."""
        yield from self.raw.events
        yield from ((symbol, DEPTH) for symbol in self.raw.books)

    def events_once(self, channel: int) -> None:
        """1: records equal what the frames say."""
        kind, columns = COLUMNS[channel]
        found = rows(self.records, kind)
        if channel == TRADE:
            self.outcome.trades += len(found)
        names = {number: symbol for symbol, number in self.instruments.items()}
        stored: dict[str, Counter[Key]] = defaultdict(Counter)
        for row in found:
            key = tuple(int(row[column]) for column in columns)
            stored[names[int(row["instrument"])]][key] += 1
        told = {symbol: events for (symbol, of), events in self.raw.events.items() if of == channel}
        for symbol in stored.keys() | told.keys():
            mine, theirs = stored[symbol], told.get(symbol, Counter())
            if untold := mine - theirs:
                self.complain(f"{symbol}: {kind}s {sorted(untold)[:3]} are stored, and not told")
            if lost := theirs - mine:
                self.complain(f"{symbol}: {kind}s {sorted(lost)[:3]} are told, and not stored")

    def dead_letters(self) -> None:
        """1: what cannot be read is kept as such, and nothing else is."""
        told = self.oracle["dead_letters"]
        if told != self.raw.unreadable:
            self.complain(f"{self.raw.unreadable} frames are unreadable, {told} dead letters")

    def outages(self, symbol: str, channel: int) -> None:
        """2: the ledger has outages, and these alone."""
        told = self.raw.events.get((symbol, channel))
        since_ns = min(key[0] for key in told) if told else 0
        self.check_outages(symbol, channel, self.links, since_ns)
        entries = list(self.ledger(self.instruments[symbol], channel))
        self.outcome.entries += len(entries)
        # A book that is asked for anew is silent until it comes.
        known = (DISCONNECT, SILENCE) if channel == DEPTH else (DISCONNECT,)
        silences = [one for one in entries if (one["cause"], one["state"]) == (SILENCE, OPEN)]
        if channel == DEPTH and len(silences) > self.raw.ended[symbol]:
            self.complain(f"{symbol}: {len(silences)} silences, {self.raw.ended[symbol]} ends")
        if other := [entry for entry in entries if entry["cause"] not in known]:
            self.complain(f"{symbol}: entries of causes {sorted({int(e['cause']) for e in other})}")
        closed = [entry for entry in entries if entry["state"] == CLOSED]
        for loss in self.oracle["losses"]:
            told = self.oracle["delivered"][loss["stream"]]
            is_mine = (told["symbol"], told["channel"]) == (symbol, CHANNEL_NAMES[channel])
            if not is_mine or loss["cause"] != "unheard" or loss["after"] is None:
                continue
            self.outcome.lost_ids += loss["count"] if channel == TRADE else 0
            first, last = loss["ts_first"] - SLACK_NS, loss["ts_last"] + SLACK_NS
            if not any(
                int(entry["ts_start"]) <= last and first <= int(entry["ts_event"])
                for entry in closed
            ):
                self.complain(f"{loss['stream']}: {loss['count']} unheard, not in the ledger")

    def books(self) -> None:
        """3: books that leave are verified, and end as their frames say."""
        if not self.raw.books:
            return
        history = BookHistory(self.derive_books())
        for symbol, told in self.raw.books.items():
            instrument = self.instruments[symbol]
            mine = self.levels[self.levels["instrument"] == instrument]["ts_recv"]
            book = history.at(instrument, ts_recv=int(mine.max(initial=0)))
            if not hasattr(book, "checksum"):
                self.complain(f"{symbol}: no verified book in the end: {book.state}")
                continue
            for side in ("bid", "ask"):
                if dict(book.levels(side)) != told[side]:
                    self.complain(f"{symbol}: the {side}s of the book are not those of its frames")
            is_whole = not self.was_hit(f"orderbooks.{symbol}")
            if is_whole and book.checksum() != self.oracle["symbols"][symbol]["checksum"]:
                self.complain(f"{symbol}: the book is not that of the exchange")

    def was_hit(self, stream: str) -> bool:
        """Whether a fault took or changed a frame of a stream."""
        return any(
            fault["kind"] in FRAME_KINDS
            and fault["hits"]
            and fnmatch.fnmatchcase(stream, fault["stream"])
            for fault in self.oracle.get("faults", ())
        )
