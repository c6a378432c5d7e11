"""What venues whose frames are arrays of events write: greetings, answers, events. No I/O."""

import json
import struct
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

import msgspec
from tests.hostile import wire

Event = dict[str, Any]


def price_of(number: int) -> float:
    """Returns the price of the trade of that number."""
    return float(100 + number % 50)


class Dialect(ABC):
    """One venue: how it is recorded, and what it says."""

    kind: ClassVar[str]
    source: ClassVar[str]
    symbols: ClassVar[tuple[str, str]]
    streams: ClassVar[int]
    """Streams of a symbol."""
    settings: Mapping[str, Any] = {}
    keys: ClassVar[Mapping[str, str]]
    """What the recorder finds in its environment."""
    is_packed = False

    def pack(self, events: Any) -> tuple[bytes, int]:
        """Returns the payload of `events`, and its opcode."""
        return wire.packed(events), wire.TEXT

    def read(self, payload: bytes) -> Any:
        """Returns what the recorder says."""
        return json.loads(payload)

    @abstractmethod
    def greeting(self) -> list[Event]:
        """Returns what comes first on a connection."""

    @abstractmethod
    def answer(self, asked: Event, streams: list[str]) -> list[Event]:
        """Answers a message, and changes what is subscribed."""

    @abstractmethod
    def trade(self, symbol: str, number: int, **fields: Any) -> Event:
        """Returns one trade."""

    @abstractmethod
    def quote(self, symbol: str, number: int, **fields: Any) -> Event:
        """Returns one quote."""

    def book(self, symbol: str, number: int, **fields: Any) -> Sequence[Event]:
        """Returns a change of a book, where there are books."""
        return ()

    @abstractmethod
    def refusals(self) -> Sequence[Event]:
        """Returns refusals that nobody asked for, none of which denies the client."""

    @abstractmethod
    def shutdown(self) -> Event:
        """Returns the announcement of a cut."""


class Massive(Dialect):
    """Stocks of Massive."""

    kind, source, symbols, streams = "massive", "massive-stocks", ("AAPL", "MSFT"), 2
    keys: ClassVar[Mapping[str, str]] = {"MASSIVE_API_KEY": "any"}

    def greeting(self) -> list[Event]:
        """Says hello."""
        return [self._status("connected", "Connected Successfully")]

    def answer(self, asked: Event, streams: list[str]) -> list[Event]:
        """Takes any key, and any stream by its name."""
        if asked["action"] == "auth":
            return [self._status("auth_success", "authenticated")]
        names = asked["params"].split(",")
        streams += names
        return [self._status("success", f"subscribed to: {name}") for name in names]

    def _status(self, status: str, message: str) -> Event:
        return {"ev": "status", "status": status, "message": message}

    def trade(self, symbol: str, number: int, **fields: Any) -> Event:
        """Returns one trade."""
        now = time.time_ns() // 1_000_000
        return {
            "ev": "T", "sym": symbol, "x": 4, "i": str(number), "z": 3, "p": price_of(number),
            "s": 1, "c": [12], "t": now, "q": number,
        } | fields  # fmt: skip

    def quote(self, symbol: str, number: int, **fields: Any) -> Event:
        """Returns one quote."""
        now = time.time_ns() // 1_000_000
        return {
            "ev": "Q", "sym": symbol, "bx": 4, "bp": 99.99, "bs": 1, "ax": 7, "ap": 100.01,
            "as": 1, "c": 0, "t": now, "q": number,
        } | fields  # fmt: skip

    def refusals(self) -> Sequence[Event]:
        """Returns errors without a name, and statuses that there are not."""
        return [
            self._status("error", "not authorized \x1b[31m\nERROR forged"),
            self._status("\x1b]0;owned\x07", "x" * 10_000),
        ]

    def shutdown(self) -> Event:
        """Returns what is said to a reader that is slow."""
        return self._status("slow_consumer", "Data is not read as fast as it is sent.")


class Alpaca(Dialect):
    """Crypto of Alpaca, with its books."""

    kind, source, symbols, streams = "alpaca", "alpaca-crypto", ("BTC/USD", "ETH/USD"), 3
    settings: Mapping[str, Any] = {
        "product": "crypto",
        "channels": ("trades", "quotes", "orderbooks"),
    }
    keys: ClassVar[Mapping[str, str]] = {"APCA_API_KEY_ID": "any", "APCA_API_SECRET_KEY": "any"}

    def greeting(self) -> list[Event]:
        """Says hello."""
        return [{"T": "success", "msg": "connected"}]

    def answer(self, asked: Event, streams: list[str]) -> list[Event]:
        """Takes any key; names all that is subscribed."""
        if asked["action"] == "auth":
            return [{"T": "success", "msg": "authenticated"}]
        for channel, symbols in asked.items():
            names = [f"{channel}.{symbol}" for symbol in symbols if channel != "action"]
            kept = [name for name in streams if name not in names]
            streams[:] = kept + (names if asked["action"] == "subscribe" else [])
        told: dict[str, Any] = {"T": "subscription", "trades": [], "quotes": [], "orderbooks": []}
        for name in streams:
            channel, _, symbol = name.partition(".")
            told[channel].append(symbol)
        return [told]

    def moment(self, ns: int) -> Any:
        """Returns a time as the encoding has it."""
        second = datetime.fromtimestamp(ns // 10**9, UTC)
        return f"{second:%Y-%m-%dT%H:%M:%S}.{ns % 10**9:09}Z"

    def trade(self, symbol: str, number: int, **fields: Any) -> Event:
        """Returns one trade."""
        return {
            "T": "t", "S": symbol, "i": number, "p": price_of(number), "s": 1.5, "tks": "B",
            "t": self.moment(time.time_ns()),
        } | fields  # fmt: skip

    def quote(self, symbol: str, number: int, **fields: Any) -> Event:
        """Returns one quote."""
        return {
            "T": "q", "S": symbol, "bp": 99.99, "bs": 1.0, "ap": 100.01, "as": 1.0,
            "t": self.moment(time.time_ns()),
        } | fields  # fmt: skip

    def book(self, symbol: str, number: int, **fields: Any) -> Sequence[Event]:
        """Returns a whole book now and then, else a change."""
        bids = [{"p": 99.98, "s": 1.0 + number % 7}]
        told = {
            "T": "o", "S": symbol, "b": bids, "a": [{"p": 100.02, "s": 1.0}],
            "t": self.moment(time.time_ns()),
        }  # fmt: skip
        whole = {"r": True} if number % 50 == 0 else {}
        return [told | whole | fields]

    def refusals(self) -> Sequence[Event]:
        """Returns errors that deny nobody, with words that act on a terminal."""
        words = "not \x1b[31mso\x1b]0;owned\x07\nERROR forged"
        codes = (400, 403, 405, 410, 413, 999, -1)
        return [{"T": "error", "code": code, "msg": words} for code in codes]

    def shutdown(self) -> Event:
        """Returns what is said to a reader that is slow."""
        return {"T": "error", "code": 407, "msg": "slow client"}


class PackedAlpaca(Alpaca):
    """The same in msgpack."""

    settings: Mapping[str, Any] = {**Alpaca.settings, "encoding": "msgpack"}
    is_packed = True

    def pack(self, events: Any) -> tuple[bytes, int]:
        """Returns msgpack."""
        return msgspec.msgpack.encode(events), wire.BINARY

    def read(self, payload: bytes) -> Any:
        """Reads msgpack."""
        return msgspec.msgpack.decode(payload)

    def moment(self, ns: int) -> Any:
        """Returns a timestamp of eight bytes."""
        both = (ns % 10**9) << 34 | ns // 10**9
        return msgspec.msgpack.Ext(-1, struct.pack(">Q", both))


DIALECTS: dict[str, Dialect] = {
    "massive": Massive(),
    "alpaca": Alpaca(),
    "alpaca_packed": PackedAlpaca(),
}
