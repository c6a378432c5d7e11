"""A small venue that speaks like Massive, whose faults are called up by a test.

Run as a process of its own. It greets, asks for a key, accepts each stream by name and says nothing
to channels that it has not; it sends arrays of trades and quotes of the symbols that it knows, and
keeps the identity of every event that it gave to a socket. What it was told is under `/log`.
"""

import asyncio
import json
import time
from typing import Any

from aiohttp import WSMsgType, web
from venue_server import serve

KEY = "the-key"
KNOWN = ("AAPL", "BRK.A")
CHANNELS = ("T", "Q", "AM", "LULD")
TICK_S = 0.004


class Venue:
    """All state of the venue."""

    def __init__(self) -> None:
        self.sockets: dict[web.WebSocketResponse, set[str]] = {}
        self.number = 0
        self.faults: dict[str, int] = {}
        self.log: dict[str, Any] = {
            "connects": 0, "denied": [], "sent": [], "paths": [], "keys": 0, "pings": 0,
        }  # fmt: skip

    def takes(self, fault: str) -> bool:
        """Says whether a fault is due, and counts it off."""
        due = self.faults.get(fault, 0)
        self.faults[fault] = due - 1
        return due > 0

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Serves one socket."""
        socket = web.WebSocketResponse(autoping=False)
        await socket.prepare(request)
        self.log["connects"] += 1
        self.log["paths"].append(request.path)
        await say(socket, "connected", "Connected Successfully")
        async for message in socket:
            if message.type is WSMsgType.PING:
                self.log["pings"] += 1
                await socket.pong(message.data)
            elif message.type is WSMsgType.TEXT and not await self.told(socket, message.data):
                break
        self.sockets.pop(socket, None)
        return socket

    async def told(self, socket: web.WebSocketResponse, text: str) -> bool:
        """Answers a message; says whether the socket stays."""
        asked = json.loads(text)
        if asked["action"] == "auth":
            return await self.authenticated(socket, asked["params"])
        streams = self.sockets[socket]
        answers = []
        for name in asked["params"].split(","):
            channel = name.partition(".")[0]
            if channel == "LULD":
                if not any(answer["status"] == "error" for answer in answers):
                    answers.append(status("error", "not authorized"))
            elif channel in CHANNELS and name not in streams:
                streams.add(name)
                answers.append(status("success", f"subscribed to: {name}"))
        if answers:
            await socket.send_str(json.dumps(answers))
        if self.takes("too_many"):
            # The newcomer is let in, and then told.
            self.log["denied"].append(time.monotonic())
            await say(
                socket, "max_connections", "Maximum number of websocket connections exceeded."
            )
            await socket.close(code=1008)
            return False
        return True

    async def authenticated(self, socket: web.WebSocketResponse, key: str) -> bool:
        self.log["keys"] += 1
        if key != KEY:
            self.log["denied"].append(time.monotonic())
            told = (
                f"authentication failed: {key}" if self.takes("echo") else "authentication failed"
            )
            await say(socket, "auth_failed", told)
            transport = socket._req.transport if socket._req else None
            assert transport
            # Without a word: no close frame.
            await asyncio.sleep(0.02)
            transport.abort()
            return False
        self.sockets[socket] = set()
        await say(socket, "auth_success", "authenticated")
        return True

    async def market(self) -> None:
        """Sends the events, for good."""
        while True:
            await asyncio.sleep(TICK_S)
            self.number += 1
            now_ms = time.time_ns() // 1_000_000
            events = [event for symbol in KNOWN for event in self.events(symbol, now_ms)]
            for socket, streams in list(self.sockets.items()):
                chosen = [e for e in events if wanted(e, streams)]
                if not chosen:
                    continue
                try:
                    await socket.send_str(json.dumps(chosen, separators=(",", ":")))
                except (ConnectionError, RuntimeError):
                    continue
                self.log["sent"] += [[e["ev"], e["sym"], e["q"]] for e in chosen]

    def events(self, symbol: str, now_ms: int) -> list[dict[str, Any]]:
        q, price = self.number * 3, 100 + self.number % 7 / 8
        trade = {"ev": "T", "sym": symbol, "x": 4, "i": str(q), "z": 3, "p": price, "s": 0}
        trade |= {"ds": "0.5", "c": [12, 37], "t": now_ms, "q": q}
        quote = {"ev": "Q", "sym": symbol, "bx": 4, "bp": price, "bs": 100, "ax": 7}
        quote |= {"ap": price + 0.125, "as": 160.0, "c": 1, "t": now_ms, "q": q, "z": 3}
        return [trade, quote]

    async def fault(self, request: web.Request) -> web.Response:
        """Calls up faults, and gives the log."""
        for name, value in request.query.items():
            self.faults[name] = int(value)
        if self.takes("cut"):
            for socket in list(self.sockets):
                await say(socket, "force_disconnect", "replaced by another connection")
                await socket.close(code=1001)
        if self.takes("reset"):
            for socket in list(self.sockets):
                assert socket._req
                assert socket._req.transport
                socket._req.transport.abort()
        return web.json_response(self.log)


def wanted(event: dict[str, Any], streams: set[str]) -> bool:
    return bool({f"{event['ev']}.{event['sym']}", f"{event['ev']}.*"} & streams)


def status(name: str, message: str) -> dict[str, str]:
    return {"ev": "status", "status": name, "message": message}


async def say(socket: web.WebSocketResponse, name: str, message: str) -> None:
    await socket.send_str(json.dumps([status(name, message)]))


if __name__ == "__main__":
    venue = Venue()
    asyncio.run(serve({"/log": venue.fault, "/{market}": venue.stream}, venue.market()))
