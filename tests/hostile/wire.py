"""What a venue like Binance spot writes: frames, messages, answers. No I/O."""

import json
import struct
import time
from typing import Any

SYMBOLS = ("BTCUSDT", "ETHUSDT")
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


def frame(payload: bytes, opcode: int = TEXT, *, fin: bool = True, rsv: int = 0) -> bytes:
    """Returns one WebSocket frame of a server."""
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    size = len(payload)
    if size < 126:
        return bytes([first, size]) + payload
    if size < 1 << 16:
        return bytes([first, 126]) + struct.pack(">H", size) + payload
    return announced(size, opcode, fin=fin) + payload


def announced(size: int, opcode: int = TEXT, *, fin: bool = True) -> bytes:
    """Returns the head of a frame of `size` bytes, whether they follow or not."""
    return bytes([(0x80 if fin else 0) | opcode, 127]) + struct.pack(">Q", size)


def packed(value: Any) -> bytes:
    """Returns `value` as the venue writes JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def now_us() -> int:
    """Returns the venue's time."""
    return time.time_ns() // 1000


def trade(symbol: str, number: int, **fields: Any) -> bytes:
    """Returns the message of one trade."""
    now = now_us()
    data = {
        "e": "trade", "E": now, "s": symbol, "t": number, "p": f"{100 + number % 50}.00",
        "q": "1.0", "T": now, "m": True, "M": True,
    }  # fmt: skip
    return packed({"stream": f"{symbol.lower()}@trade", "data": data | fields})


def quote(symbol: str, number: int, **fields: Any) -> bytes:
    """Returns the message of one best bid and offer."""
    data = {"u": number, "s": symbol, "b": "99.99", "B": "1", "a": "100.01", "A": "1"}
    return packed({"stream": f"{symbol.lower()}@bookTicker", "data": data | fields})


def depth(symbol: str, first: int, last: int, **fields: Any) -> bytes:
    """Returns the message of one change of the book."""
    data = {
        "e": "depthUpdate", "E": now_us(), "s": symbol, "U": first, "u": last,
        "b": [["99.98", str(1 + last % 7)]], "a": [],
    }  # fmt: skip
    return packed({"stream": f"{symbol.lower()}@depth@100ms", "data": data | fields})


def definition(symbol: str) -> dict[str, Any]:
    """Returns what exchangeInfo says of one symbol."""
    return {
        "symbol": symbol, "status": "TRADING", "baseAsset": symbol[:3], "quoteAsset": "USDT",
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "9", "tickSize": "0.01"},
            {"filterType": "LOT_SIZE", "minQty": "0.1", "maxQty": "9000", "stepSize": "0.1"},
        ],
    }  # fmt: skip


def exchange_info(symbols: tuple[str, ...] = SYMBOLS, limit: int = 60_000) -> bytes:
    """Returns the answer that defines `symbols`."""
    limits = [
        {
            "rateLimitType": "REQUEST_WEIGHT",
            "interval": "MINUTE",
            "intervalNum": 1,
            "limit": limit,
        }
    ]
    found = [definition(symbol) for symbol in symbols]
    return packed({"serverTime": now_us() // 1000, "rateLimits": limits, "symbols": found})


def snapshot(last: int) -> bytes:
    """Returns the whole book at update `last`."""
    bids, asks = [["99.98", "1"], ["99.97", "2"]], [["100.02", "1"], ["100.03", "2"]]
    return packed({"lastUpdateId": last, "bids": bids, "asks": asks})


def answer(body: bytes, status: str = "200 OK", headers: bytes = b"") -> bytes:
    """Returns one whole HTTP answer; `headers` are whole lines."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n".encode("latin-1")
    return head + b"Content-Length: %d\r\n" % len(body) + headers + b"\r\n" + body
