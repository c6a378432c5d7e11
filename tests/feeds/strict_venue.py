"""A venue that lets in one client at a time, with a key: arrays of events, binary messages.

Run as a process of its own. It greets, waits for the key, answers a subscription, and sends one
array each few milliseconds. What it was told is under `/log`.
"""

import asyncio
import json
import sys
import time
from typing import Any

from aiohttp import WSMsgType, web

KEY = "the-key"
LOG: dict[str, Any] = {"connects": 0, "denied": [], "wrong": [], "most": 0, "deny": 0}
SOCKETS: list[web.WebSocketResponse] = []


async def stream(request: web.Request) -> web.StreamResponse:
    """Serves one socket."""
    if request.headers.get("X-Form") != "arrays":
        LOG["wrong"].append("no header")
        return web.Response(status=400)
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    LOG["connects"] += 1
    await socket.send_str('[{"ev":"status","status":"connected"}]')
    async for message in socket:
        if message.type is not WSMsgType.BINARY:
            # An error is a client that went away.
            LOG["wrong"] += ["not binary"] * (message.type is WSMsgType.TEXT)
            continue
        told = json.loads(message.data)
        if "key" in told and told["key"] != KEY:
            return await denied(socket, "auth_failed")
        if "key" in told and (SOCKETS or LOG["deny"] > 0):
            LOG["deny"] -= 1
            return await denied(socket, "max_connections")
        if "key" in told:
            SOCKETS.append(socket)
            LOG["most"] = max(LOG["most"], len(SOCKETS))
            await socket.send_str('[{"ev":"status","status":"auth_success"}]')
        else:
            await socket.send_str(json.dumps([{"ev": "status", "streams": told["subscribe"]}]))
    if socket in SOCKETS:
        SOCKETS.remove(socket)
    return socket


async def denied(socket: web.WebSocketResponse, status: str) -> web.WebSocketResponse:
    """Says why, and closes."""
    LOG["denied"].append(time.monotonic())
    await socket.send_str(json.dumps([{"ev": "status", "status": status}]))
    await socket.close(code=1008)
    return socket


async def log(request: web.Request) -> web.Response:
    """Gives the log; the next `deny` clients count as one too many."""
    LOG["deny"] = int(request.query.get("deny", 0))
    return web.json_response(LOG)


async def market() -> None:
    """Sends the events, for good."""
    number = 0
    while True:
        await asyncio.sleep(0.005)
        number += 1
        at = time.time_ns()
        events = [{"ev": "T", "sym": s, "p": "10.5", "q": number, "t": at} for s in ("A", "B")]
        for socket in list(SOCKETS):
            try:
                await socket.send_str(json.dumps(events))
            except (ConnectionError, RuntimeError):
                continue


async def main() -> None:
    """Serves until standard input ends."""
    application = web.Application()
    application.router.add_get("/stream", stream)
    application.router.add_get("/log", log)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server
    print(site._server.sockets[0].getsockname()[1], flush=True)
    speaking = asyncio.create_task(market())
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()
    speaking.cancel()


if __name__ == "__main__":
    asyncio.run(main())
