"""A slow, obvious decoder of Binance over `json` and `decimal`: what the fast one must equal.

It shares nothing with the core but the layout of records, which it writes with `struct`.
"""

import json
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Context, Decimal
from typing import Any
from urllib.parse import parse_qs, urlsplit

TEXT, REST = 1, 3
SPOT, USDM, COINM = 1, 2, 7
NONE = 2**63 - 1
LAST, SNAPSHOT, HISTORICAL, NO_EVENT_TIME = 1, 2, 4, 128
TRADE, QUOTE, LEVEL, BAR, MARKER, MARK = 1, 2, 3, 5, 8, 10
BID, ASK = 1, 2
CH_TRADE, CH_AGG, CH_DEPTH, CH_PARTIAL, CH_KLINE, CH_TICKER, CH_SNAPSHOT = 1, 2, 4, 5, 6, 7, 9
# Levels a side that may be asked for at least.
LIMIT_LEAST = 5
NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?", re.ASCII)
UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
EXACT = Context(prec=20_000, Emax=10**17, Emin=-(10**17))
SILENT = {
    "24hrMiniTicker", "1hTicker", "4hTicker", "1dTicker", "avgPrice", "referencePrice",
    "blockTrade", "forceOrder", "continuous_kline", "indexPrice_kline", "markPrice_kline",
    "compositeIndex", "contractInfo", "assetIndexUpdate", "tradingSession", "serverShutdown",
}  # fmt: skip


class Refused(Exception):
    """The frame cannot be decoded; the text is the reason."""


class Number(str):
    """A number of the JSON text, as it was written."""


def load(body: bytes) -> Any:
    """The JSON value of the frame."""

    def no_constant(_text: str) -> None:
        raise Refused("not_json")

    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused("not_utf8") from None
    try:
        return json.loads(text, parse_int=Number, parse_float=Number, parse_constant=no_constant)
    except (ValueError, RecursionError):
        raise Refused("not_json") from None


def scaled(value: Any, places: int, bits: int = 64) -> int:
    """The exact value in units of 10^-places."""
    if not isinstance(value, str):
        raise Refused("wrong_type")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Refused("not_utf8") from None
    if not NUMBER.fullmatch(value):
        raise Refused("bad_number")
    units = EXACT.scaleb(Decimal(str(value)), places)
    if units == 0:
        return 0
    limit = 2 ** (bits - 1)
    if not -limit <= units < limit or (bits == 64 and units == NONE):
        raise Refused("does_not_fit")
    if units != units.to_integral_value():
        raise Refused("does_not_fit")
    return int(units)


def positive(value: Any, places: int, bits: int = 64) -> int:
    units = scaled(value, places, bits)
    if units < 0:
        raise Refused("bad_number")
    return units


def price(value: Any) -> int:
    return scaled(value, 9)


def size(value: Any) -> int:
    return positive(value, 8)


def count(value: Any) -> int:
    return positive(value, 0)


def last_id(value: Any) -> int:
    return max(scaled(value, 0), 0)


def turnover(value: Any) -> bytes:
    return positive(value, 17, 128).to_bytes(16, "little", signed=True)


def time(value: Any) -> int:
    units = positive(value, 0)
    ns = units * (1_000 if units >= 10**15 else 1_000_000)
    if ns >= 2**63:
        raise Refused("does_not_fit")
    return ns


def flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Refused("wrong_type")
    return value


def text(value: Any) -> str:
    if not isinstance(value, str) or isinstance(value, Number):
        raise Refused("wrong_type")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Refused("not_utf8") from None
    return value


def optional(message: dict[str, Any], key: str, read: Callable[[Any], int]) -> int | None:
    value = message.get(key)
    return None if value is None or (value == "") else read(value)


@dataclass
class SlowDecoder:
    """One feed with the symbols that it has met, in order."""

    feed: int
    ids: dict[str, int] = field(default_factory=dict)
    ts_recv: int = 0
    flags: int = 0
    records: list[bytes] = field(default_factory=list)

    def decode(self, kind: int, context: str, body: bytes, ts_recv: int) -> bytes:
        """The records of a frame or answer, as bytes.

        Raises:
            Refused: the frame cannot be decoded.
        """
        self.ts_recv, self.flags, self.records = ts_recv, 0, []
        value = load(body)
        if kind == REST:
            self.rest(context, value)
        elif isinstance(value, dict) and "stream" in value and "data" in value:
            self.payloads(value["data"], text(value["stream"]))
        else:
            self.payloads(value, context)
        return b"".join(self.records)

    def put(self, kind: int, symbol: int, ts: int, sequence: int, flags: int, body: bytes) -> None:
        length = (32 + len(body)) // 8
        head = struct.pack(
            "<BBBBIqqQ", length, kind, self.flags | flags, self.feed, symbol, ts, self.ts_recv,
            sequence,
        )  # fmt: skip
        self.records.append(head + body)

    def instrument(self, value: Any) -> int:
        symbol = text(value)
        if symbol not in self.ids:
            encoded = symbol.encode()
            if not encoded or any(byte <= 32 for byte in encoded):
                raise Refused("wrong_type")
            if len(encoded) > 48:
                raise Refused("too_long")
            self.ids[symbol] = len(self.ids) + 1
        return self.ids[symbol]

    def payloads(self, value: Any, stream: str) -> None:
        # A broken element costs no other one: all are gone through, and the first refusal is told.
        refused: Refused | None = None
        for payload in value if isinstance(value, list) else [value]:
            try:
                if not isinstance(payload, dict):
                    raise Refused("wrong_type")
                self.payload(payload, stream)
            except KeyError:
                refused = refused or Refused("missing_field")
            except Refused as error:
                refused = refused or error
        if refused is not None:
            raise refused

    def payload(self, message: dict[str, Any], stream: str) -> None:
        if "e" in message:
            event = text(message["e"])
            known = {
                "trade": self.trade,
                "aggTrade": self.aggregate,
                "bookTicker": self.quote,
                "kline": self.kline,
                "24hrTicker": self.ticker,
                "markPriceUpdate": self.mark,
            }
            if event == "depthUpdate":
                self.depth(message, stream)
            elif event in known:
                known[event](message)
            elif event not in SILENT:
                raise Refused("unknown_event")
        elif "error" in message or ("code" in message and "msg" in message):
            raise Refused("venue_error")
        elif "result" in message or "event" in message:
            return
        elif "lastUpdateId" in message or "bids" in message:
            last = count(message["lastUpdateId"])
            sides = message["bids"], message["asks"]
            if "@" not in stream:
                raise Refused("unknown_stream")
            symbol = self.instrument(stream.split("@")[0].upper())
            self.snapshot(symbol, self.ts_recv, (last, 0, 0), sides, CH_PARTIAL)
        elif message.keys() & {"b", "B", "a", "A"}:
            self.quote(message)
        else:
            raise Refused("unknown_event")

    def trade(self, message: dict[str, Any]) -> None:
        symbol = message["s"]
        number = count(message["t"])
        cost, amount, ts = price(message["p"]), size(message["q"]), time(message["T"])
        side = ASK if flag(message["m"]) else BID
        body = struct.pack("<qqQIBB2x", cost, amount, number, 1, side, CH_TRADE)
        self.put(TRADE, self.instrument(symbol), ts, number, LAST, body)

    def aggregate(self, message: dict[str, Any], symbol: Any = None) -> None:
        symbol = message["s"] if symbol is None else symbol
        number = count(message["a"])
        cost, amount = price(message["p"]), size(message["q"])
        first, last, ts = count(message["f"]), count(message["l"]), time(message["T"])
        side = ASK if flag(message["m"]) else BID
        if last < first:
            raise Refused("bad_number")
        if last - first + 1 >= 2**32:
            raise Refused("does_not_fit")
        body = struct.pack("<qqQIBB2x", cost, amount, first, last - first + 1, side, CH_AGG)
        self.put(TRADE, self.instrument(symbol), ts, number, LAST, body)

    def quote(self, message: dict[str, Any], keys: str = "s u b B a A T") -> None:
        symbol, sequence, bid, bid_size, ask, ask_size, ts = keys.split()
        name = message[symbol]
        number = count(message[sequence]) if keys.startswith("s ") else 0
        values = [
            price(message[bid]), size(message[bid_size]),
            price(message[ask]), size(message[ask_size]),
        ]  # fmt: skip
        when = optional(message, ts, time)
        flags = LAST
        if not keys.startswith("s "):
            number = count(message[sequence]) if sequence in message else 0
            flags |= SNAPSHOT
        for at in (0, 2):
            if values[at] == values[at + 1] == 0:
                values[at] = NONE
        if when is None:
            when, flags = self.ts_recv, flags | NO_EVENT_TIME
        self.put(QUOTE, self.instrument(name), when, number, flags, struct.pack("<4q", *values))

    def depth(self, message: dict[str, Any], stream: str) -> None:
        symbol = message["s"]
        first, last = count(message["U"]), count(message["u"])
        previous = count(message["pu"]) if self.feed != SPOT else max(first - 1, 0)
        ts = time(message["T"] if "T" in message else message["E"])
        if last < first:
            raise Refused("bad_number")
        if last - first >= 2**32:
            raise Refused("does_not_fit")
        sides = message["b"], message["a"]
        number = self.instrument(symbol)
        name = stream[stream.find("@") :] if "@" in stream else ""
        if re.match("@depth[0-9]", name):
            self.snapshot(number, ts, (last, previous, last - first), sides, CH_PARTIAL)
            return
        before = len(self.records)
        levels = self.levels(number, ts, (last, previous, last - first), sides, (CH_DEPTH, 0))
        if name.startswith("@rpiDepth"):
            del self.records[before:]
        elif levels:
            final = bytearray(self.records[-1])
            final[2] |= LAST
            self.records[-1] = bytes(final)
        else:
            body = struct.pack("<BBBBIQQq", 8, 0, 0, CH_DEPTH, 0, first, last, previous)
            self.put(MARKER, number, ts, last, LAST, body)

    def levels(
        self,
        symbol: int,
        ts: int,
        ids: tuple[int, int, int],
        sides: tuple[Any, Any],
        of: tuple[int, int],
    ) -> int:
        total = 0
        channel, flags = of
        last, previous, span = ids
        for side, rows in zip((BID, ASK), sides, strict=True):
            if not isinstance(rows, list):
                raise Refused("wrong_type")
            for row in rows:
                if not isinstance(row, list):
                    raise Refused("wrong_type")
                if len(row) < 2:
                    raise Refused("missing_field")
                cost, amount = price(row[0]), size(row[1])
                body = struct.pack("<qqQIBB2x", cost, amount, previous, span, side, channel)
                self.put(LEVEL, symbol, ts, last, flags, body)
                total += 1
        return total

    def snapshot(
        self,
        symbol: int,
        ts: int,
        ids: tuple[int, int, int],
        sides: tuple[Any, Any],
        channel: int,
        limit: int = 1 << 32,
    ) -> None:
        before, last = len(self.records), ids[0]
        levels = self.levels(symbol, ts, ids, sides, (channel, SNAPSHOT))
        rows = self.records[before:]
        del self.records[before:]
        # A side may go on that has as many levels as were asked for.
        cut = sum(bit for bit, one in zip((1, 2), sides, strict=True) if len(one) >= limit)
        body = struct.pack("<BBBIQQq", 0, cut, channel, levels, last, last, NONE)
        self.put(MARKER, symbol, ts, last, SNAPSHOT, b"\x01" + body)
        self.records += rows
        self.put(MARKER, symbol, ts, last, SNAPSHOT | LAST, b"\x02" + body)

    def bar(
        self, symbol: int, head: tuple[int, int], prices: list[int], rest: tuple[Any, ...]
    ) -> None:
        volume, bought, whole, bought_whole, trades, interval, closed, channel = rest
        ts, sequence = head
        body = struct.pack("<6q", *prices, volume, bought) + whole + bought_whole
        body += struct.pack("<QIBB2x", trades, interval, closed, channel)
        self.put(BAR, symbol, ts, sequence, LAST, body)

    def kline(self, message: dict[str, Any]) -> None:
        symbol, k = message["s"], message["k"]
        if not isinstance(k, dict):
            raise Refused("wrong_type")
        ts = time(k["t"])
        interval = interval_ms(text(k["i"]), ts, lambda: time(k["T"]))
        prices = [price(k[key]) for key in "ohlc"]
        sequence, volume, trades = last_id(k["L"]), size(k["v"]), count(k["n"])
        closed, whole = flag(k["x"]), turnover(k["q"])
        bought, bought_whole = size(k["V"]), turnover(k["Q"])
        rest = (volume, bought, whole, bought_whole, trades, interval, closed, CH_KLINE)
        self.bar(self.instrument(symbol), (ts, sequence), prices, rest)

    def ticker(self, message: dict[str, Any]) -> None:
        symbol, ts = message["s"], time(message["O"])
        prices = [price(message[key]) for key in "ohlc"]
        sequence, volume = last_id(message["L"]), size(message["v"])
        whole, trades = turnover(message["q"]), count(message["n"])
        rest = (volume, NONE, whole, bytes(16), trades, 86_400_000, 0, CH_TICKER)
        self.bar(self.instrument(symbol), (ts, sequence), prices, rest)

    def mark(self, message: dict[str, Any]) -> None:
        symbol, mark, ts = message["s"], price(message["p"]), time(message["E"])
        index, rate = optional(message, "i", price), optional(message, "r", price)
        due = optional(message, "T", time) or None
        values = [NONE if value is None else value for value in (mark, index, rate, due)]
        self.put(MARK, self.instrument(symbol), ts, 0, LAST, struct.pack("<4q", *values))

    def rest(self, context: str, value: Any) -> None:
        split = urlsplit(context)
        name = "/".join(split.path.split("/")[3:])
        query = {key: values[0] for key, values in parse_qs(split.query).items()}
        if isinstance(value, dict) and "code" in value and "msg" in value:
            raise Refused("venue_error")
        rows = value if isinstance(value, list) else [value]
        if name == "depth":
            last = count(value["lastUpdateId"])
            sides = value["bids"], value["asks"]
            ts = optional(value, "T" if "T" in value else "E", time)
            ts = self.ts_recv if ts is None else ts
            symbol = self.instrument(query["symbol"])
            limit = int(query.get("limit", LIMIT_LEAST))
            self.snapshot(symbol, ts, (last, 0, 0), sides, CH_SNAPSHOT, limit)
        elif name == "ticker/bookTicker":
            for row in rows:
                self.quote(row, "symbol lastUpdateId bidPrice bidQty askPrice askQty time")
        elif name in ("trades", "historicalTrades"):
            self.flags = HISTORICAL
            for row in rows:
                letters = {"t": "id", "p": "price", "q": "qty", "T": "time", "m": "isBuyerMaker"}
                message = {letter: row[key] for letter, key in letters.items()}
                self.trade({**message, "s": query["symbol"]})
        elif name == "aggTrades":
            self.flags = HISTORICAL
            for row in rows:
                self.aggregate(row, query["symbol"])
        elif name == "klines":
            self.flags = HISTORICAL
            for row in rows:
                self.rest_kline(row, query)

    def rest_kline(self, row: list[Any], query: dict[str, str]) -> None:
        ts, end = time(row[0]), time(row[6])
        prices = [price(value) for value in row[1:5]]
        interval = interval_ms(query["interval"], ts, lambda: end)
        rest = (
            size(row[5]), size(row[9]), turnover(row[7]), turnover(row[10]), count(row[8]),
            interval, end < self.ts_recv, CH_KLINE,
        )  # fmt: skip
        self.bar(self.instrument(query["symbol"]), (ts, 0), prices, rest)


def interval_ms(name: str, start: int, end: Callable[[], int]) -> int:
    """The length of a kline interval; that of a month from its two ends."""
    match = re.fullmatch("([0-9]{1,3})([smhdwM])", name, re.ASCII)
    if not match:
        raise Refused("wrong_type")
    if match[2] != "M":
        length = int(match[1]) * UNITS_MS[match[2]]
        if length >= 2**32:
            raise Refused("wrong_type")
        return length
    length = end() - start
    length = (length // 10**6 if length >= 0 else -(-length // 10**6)) + 1
    if not 0 <= length < 2**32:
        raise Refused("bad_number")
    return length
