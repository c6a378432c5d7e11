"""A small venue that speaks like Alpaca, whose faults are called up by a test.

Run as a process of its own. It greets in the encoding that the upgrade asks for, wants a key, one
session of a feed, and no more symbols than it is told; its answer names all that is subscribed. It
sends arrays of trades, quotes and books of the symbols that it knows, and keeps the identity of
every event that it gave to a socket. What it was told is under `/log`.
"""

import asyncio
import json
import time
from datetime import UTC, datetime
from typing import Any

import msgspec
from aiohttp import WSMsgType, web
from venue_server import serve

KEY, SECRET = "the-key", "the-secret"
KNOWN = ("AAPL", "BRK.B", "FAKEPACA", "AAPL240308C00172500", "BTC/USD", "ETH/USD",
         "SOL/USD", "LTC/USD", "UNI/USD", "DOT/USD")  # fmt: skip
CHANNELS = ("trades", "quotes", "bars", "updatedBars", "dailyBars")
STOCKS, CRYPTO = ("statuses", "lulds"), ("orderbooks",)
TICK_S = 0.004
CODES = {
    400: "invalid syntax", 401: "not authenticated", 402: "auth failed",
    403: "already authenticated", 404: "auth timeout", 405: "symbol limit exceeded",
    406: "connection limit exceeded", 407: "slow client", 409: "insufficient subscription",
    410: "invalid subscribe action for this feed", 500: "internal error",
}  # fmt: skip

Event = dict[str, Any]


class Session:
    """One socket: its feed, encoding, and what is subscribed."""

    def __init__(self, socket: web.WebSocketResponse, path: str, binary: bool) -> None:
        self.socket, self.path, self.binary = socket, path, binary
        self.is_in = False
        self.is_whole = True
        """Whether the next book is to be told as a whole."""
        more = CRYPTO if "crypto" in path else () if "v1beta1" in path else STOCKS
        names = CHANNELS[:2] if "indicative" in path else (*CHANNELS, *more)
        self.streams: dict[str, list[str]] = {name: [] for name in names}

    async def send(self, events: list[Event]) -> None:
        if self.binary:
            packed = [{k: moment(v) if k == "t" else v for k, v in e.items()} for e in events]
            await self.socket.send_bytes(pack(packed))
        else:
            await self.socket.send_str(json.dumps(events, separators=(",", ":")))

    async def refuse(self, code: int) -> None:
        await self.send([{"T": "error", "code": code, "msg": CODES[code]}])


class Venue:
    """All state of the venue."""

    def __init__(self) -> None:
        self.sessions: list[Session] = []
        self.number = 0
        self.faults: dict[str, int] = {}
        self.symbols_max = 30
        self.log: dict[str, Any] = {
            "connects": 0, "denied": [], "sent": [], "paths": [], "asked": [], "keys": 0,
        }  # fmt: skip

    def takes(self, fault: str) -> bool:
        """Says whether a fault is due, and counts it off."""
        due = self.faults.get(fault, 0)
        self.faults[fault] = due - 1
        return due > 0

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Serves one socket."""
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.log["connects"] += 1
        self.log["paths"].append(request.path)
        binary = request.headers.get("Content-Type") == "application/msgpack"
        session = Session(socket, request.path, binary)
        await session.send([{"T": "success", "msg": "connected"}])
        async for message in socket:
            if message.type is (WSMsgType.BINARY if binary else WSMsgType.TEXT):
                decode = msgspec.msgpack.decode if binary else json.loads
                if not await self.told(session, decode(message.data)):
                    break
        if session in self.sessions:
            self.sessions.remove(session)
        return socket

    async def told(self, session: Session, asked: dict[str, Any]) -> bool:
        """Answers a message; says whether the socket stays."""
        if asked["action"] == "auth":
            return await self.authenticated(session, asked)
        if not session.is_in:
            await session.refuse(401)
            return True
        self.log["asked"].append(asked)
        names = {name: symbols for name, symbols in asked.items() if name != "action"}
        if self.takes("insufficient"):
            await session.refuse(409)
            return True
        if not set(names) <= set(session.streams):
            await session.refuse(410)
            return True
        if any("!" in symbol for symbols in names.values() for symbol in symbols):
            await session.refuse(400)
            return True
        after = {name: set(symbols) for name, symbols in session.streams.items()}
        for name, symbols in names.items():
            change = after[name].update if asked["action"] == "subscribe" else None
            (change or after[name].difference_update)(symbols)
        if len(after["trades"]) + len(after["quotes"]) > self.symbols_max:
            await session.refuse(405)
            return True
        session.is_whole |= "orderbooks" in names
        session.streams = {name: sorted(symbols) for name, symbols in after.items()}
        automatic = dict.fromkeys(("corrections", "cancelErrors"), session.streams["trades"])
        await session.send([{"T": "subscription", **session.streams, **automatic}])
        return True

    async def authenticated(self, session: Session, asked: dict[str, Any]) -> bool:
        self.log["keys"] += 1
        if (asked["key"], asked["secret"]) != (KEY, SECRET):
            await session.refuse(402)
            return True
        if session.is_in:
            await session.refuse(403)
            return True
        if self.takes("too_many") or any(one.path == session.path for one in self.sessions):
            self.log["denied"].append(time.monotonic())
            await session.refuse(406)
            return True
        session.is_in = True
        self.sessions.append(session)
        await session.send([{"T": "success", "msg": "authenticated"}])
        return True

    async def market(self) -> None:
        """Sends the events, for good."""
        while True:
            await asyncio.sleep(TICK_S)
            self.number += 1
            now_ns = time.time_ns()
            for session in list(self.sessions):
                chosen = [
                    event
                    for symbol in KNOWN
                    for channel, event in self.events(symbol, now_ns, session)
                    if {symbol, "*"} & set(session.streams.get(channel, ()))
                ]
                if not chosen:
                    continue
                try:
                    if not session.is_whole and self.takes("garble"):
                        await session.socket.send_str('[{"T":"o","S":')
                    await session.send(chosen)
                except (ConnectionError, RuntimeError):
                    continue
                session.is_whole = session.is_whole and chosen[-1]["T"] != "o"
                self.log["sent"] += [[e["T"], e["S"], e["t"]] for e in chosen if e["T"] in "tq"]

    def events(self, symbol: str, now_ns: int, session: Session) -> list[tuple[str, Event]]:
        number, price = self.number, 100 + self.number % 7 / 8
        head = {"S": symbol, "t": rfc3339(now_ns)}
        trade = {"T": "t", "i": number, "x": "V", "p": price, "s": 5, "c": ["@", "I"], "z": "C"}
        quote = {"T": "q", "bx": "V", "bp": price, "bs": 100, "ax": "V", "ap": price + 0.125}
        quote |= {"as": 160, "c": ["R"], "z": "C"}
        levels = [{"p": 100 - step, "s": (number + step) % 5 / 8} for step in range(4)]
        asks = [{"p": 102, "s": number % 90 + 0.5}]
        book: Event = {"T": "o", "b": levels, "a": asks}
        if session.is_whole:
            levels[:] = [level for level in levels if level["s"]]
            book["r"] = True
        if symbol == "BTC/USD" and not session.is_whole and self.takes("spoil"):
            book["b"] = [{"p": "nothing"}]
        told = [("trades", trade), ("quotes", quote), ("orderbooks", book)]
        return [(channel, {**event, **head}) for channel, event in told]

    async def fault(self, request: web.Request) -> web.Response:
        """Calls up faults, and gives the log."""
        for name, value in request.query.items():
            self.faults[name] = int(value)
        self.symbols_max = self.faults.get("symbols_max", self.symbols_max)
        if self.takes("slow"):
            for session in list(self.sessions):
                await session.refuse(407)
                await session.socket.close(code=1008)
        if self.takes("reset"):
            for session in list(self.sessions):
                assert session.socket._req
                assert session.socket._req.transport
                session.socket._req.transport.abort()
        return web.json_response(self.log)


def rfc3339(ns: int) -> str:
    second = datetime.fromtimestamp(ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{second}.{ns % 10**9:09}".rstrip("0") + "Z"


def moment(text: str) -> msgspec.msgpack.Ext:
    """Returns a timestamp of 64 bits with all nine digits, as the venue packs it."""
    second, _, fraction = text.rstrip("Z").partition(".")
    seconds = int(datetime.fromisoformat(second).replace(tzinfo=UTC).timestamp())
    packed = int(fraction.ljust(9, "0")) << 34 | seconds
    return msgspec.msgpack.Ext(-1, packed.to_bytes(8, "big"))


def pack(value: Any) -> bytes:
    return msgspec.msgpack.encode(value)


if __name__ == "__main__":
    venue = Venue()
    asyncio.run(serve({"/log": venue.fault, "/{path:.+}": venue.stream}, venue.market()))
