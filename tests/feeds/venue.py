"""A small venue that speaks like Binance spot, whose faults are called up by a test.

Run as a process of its own. It sends a trade, a quote and a change of the book of every symbol
each few milliseconds, numbered without holes, so that a test can tell what is missing.
"""

import asyncio
import json
import sys
import time
from typing import Any

from aiohttp import WSMsgType, web

TICK_S = 0.005


class Venue:
    """All state of the venue."""

    def __init__(self) -> None:
        self.sockets: dict[web.WebSocketResponse, set[str]] = {}
        self.muted: set[web.WebSocketResponse] = set()
        self.order: list[web.WebSocketResponse] = []
        self.numbers: dict[str, int] = {}
        self.skip_depth = 0
        self.quiet_depth = False
        self.hang = 0.0
        self.closed_to_new = False
        self.refuse: list[tuple[int, dict[str, str]]] = []
        self.stale = 0
        self.log: dict[str, Any] = {"connects": 0, "control": [], "requests": [], "pongs": 0}

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Serves one socket, if new ones are let in."""
        if self.closed_to_new:
            return web.Response(status=503)
        socket = web.WebSocketResponse(autoping=False)
        await socket.prepare(request)
        self.log["connects"] += 1
        self.sockets[socket] = set()
        self.order.append(socket)
        await socket.ping(b"1700000000000")
        async for message in socket:
            if message.type is WSMsgType.PONG:
                self.log["pongs"] += message.data == b"1700000000000"
            elif message.type is WSMsgType.TEXT:
                await self.control(socket, json.loads(message.data))
        self.sockets.pop(socket, None)
        return socket

    async def control(self, socket: web.WebSocketResponse, wanted: dict[str, Any]) -> None:
        """Answers one control message."""
        self.log["control"].append([time.time(), wanted["method"], len(wanted.get("params", []))])
        result = None
        if wanted["method"] == "SUBSCRIBE":
            if any(not name.split("@")[0].endswith("usdt") for name in wanted["params"]):
                error = {"code": 2, "msg": "Invalid request: invalid stream"}
                await socket.send_str(json.dumps({"error": error, "id": wanted["id"]}))
                return
            self.sockets[socket] |= set(wanted["params"])
        elif wanted["method"] == "LIST_SUBSCRIPTIONS":
            result = sorted(self.sockets[socket])
        await socket.send_str(json.dumps({"result": result, "id": wanted["id"]}))

    async def rest(self, request: web.Request) -> web.Response:
        """Answers exchangeInfo and depth, or refuses."""
        self.log["requests"].append([time.time(), request.path_qs])
        headers = {"X-MBX-USED-WEIGHT-1M": "100"}
        await asyncio.sleep(self.hang)
        if self.refuse:
            status, more = self.refuse.pop(0)
            return web.json_response(
                {"code": -1003, "msg": "Too much."}, status=status, headers=headers | more
            )
        if request.path.endswith("exchangeInfo"):
            return web.json_response({"rateLimits": [], "symbols": []}, headers=headers)
        last = self.numbers.get(request.query["symbol"].lower(), 100) - self.stale
        self.stale = 0
        book = {"lastUpdateId": last, "bids": [["9.0", "1.0"]], "asks": [["11.0", "1.0"]]}
        return web.json_response(book, headers=headers)

    async def fault(self, request: web.Request) -> web.Response:
        """Does what a test asks for, and gives the log."""
        query = request.query
        self.skip_depth += int(query.get("skip_depth", 0))
        self.stale += int(query.get("stale", 0))
        self.quiet_depth = bool(int(query.get("quiet_depth", self.quiet_depth)))
        self.hang = float(query.get("hang", self.hang))
        self.closed_to_new = bool(int(query.get("closed_to_new", self.closed_to_new)))
        if "refuse" in query:
            self.refuse += [(int(query["refuse"]), {"Retry-After": query["after"]})]
        if "cut" in query:
            for socket in self.chosen(query["cut"]):
                if request.transport and socket._req and socket._req.transport:
                    socket._req.transport.abort()
        if "mute" in query:
            self.muted |= set(self.chosen(query["mute"]))
        if "shutdown" in query:
            for socket in self.chosen(query["shutdown"]):
                event = {"e": "serverShutdown", "E": 1}
                text = json.dumps({"stream": "!serverShutdown", "data": event})
                await socket.send_str(text.replace(" ", ""))
        return web.json_response({**self.log, "open": len(self.sockets), "numbers": self.numbers})

    def chosen(self, which: str) -> list[web.WebSocketResponse]:
        """Returns all open sockets, or the oldest."""
        live = [socket for socket in self.order if socket in self.sockets]
        return live if which == "all" else live[:1]

    async def market(self) -> None:
        """Sends the events, for good."""
        while True:
            await asyncio.sleep(TICK_S)
            names = {name.split("@")[0] for streams in self.sockets.values() for name in streams}
            for symbol in names | set(self.numbers):
                self.numbers[symbol] = number = self.numbers.get(symbol, 100) + 1
                skips = self.skip_depth > 0
                self.skip_depth -= skips
                for socket, streams in list(self.sockets.items()):
                    for name in sorted(streams):
                        quiet = name.split("@")[0] != symbol or socket in self.muted
                        lost = (skips or self.quiet_depth) and "@depth" in name
                        if not quiet and not lost and not socket.closed:
                            await send(socket, name, event(name, symbol.upper(), number))


async def send(socket: web.WebSocketResponse, name: str, data: dict[str, Any]) -> None:
    """Sends one event; a socket that is going away is of no concern."""
    text = json.dumps({"stream": name, "data": data}, separators=(",", ":"))
    try:
        await socket.send_str(text)
    except (ConnectionError, RuntimeError):
        return


def event(name: str, symbol: str, number: int) -> dict[str, Any]:
    """Returns the payload of the stream `name`."""
    now = time.time_ns() // 1000
    if name.endswith("@trade"):
        return {
            "e": "trade", "E": now, "s": symbol, "t": number, "p": "10.0", "q": "1.0", "T": now,
            "m": True, "M": True,
        }  # fmt: skip
    if name.endswith("@bookTicker"):
        return {"u": number, "s": symbol, "b": "9.0", "B": "1.0", "a": "11.0", "A": "1.0"}
    return {
        "e": "depthUpdate", "E": now, "s": symbol, "U": number, "u": number,
        "b": [["9.0", f"{number}.0"]], "a": [],
    }  # fmt: skip


async def main() -> None:
    """Serves until the parent goes away."""
    venue = Venue()
    app = web.Application()
    app.router.add_get("/stream", venue.stream)
    app.router.add_get("/api/v3/{what}", venue.rest)
    app.router.add_get("/fault", venue.fault)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    market = asyncio.create_task(venue.market())
    print(runner.addresses[0][1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    market.cancel()


if __name__ == "__main__":
    asyncio.run(main())
