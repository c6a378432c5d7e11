"""Harbor, an invented venue in a process of its own, and a recording of it by `../own_feed.py`."""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from aiohttp import WSMsgType, web

import tapeworks as tw

TICK_S = 0.002
KNOWN = ("OAK-USD", "PINE-USD")


class Harbor:
    """The venue: a trade and a change of the book of every symbol each two milliseconds."""

    def __init__(self) -> None:
        self.rooms: dict[web.WebSocketResponse, set[str]] = {}
        self.number = 0
        self.skip = 0
        self.garbage = 0
        self.pongs = 0

    async def stream(self, request: web.Request) -> web.WebSocketResponse:
        """Serves one connection."""
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.rooms[socket] = set()
        await socket.send_str('{"ping":7}')
        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                continue
            wanted = json.loads(message.data)
            self.pongs += wanted.get("pong") == 7
            if wanted.get("do") == "join":
                rooms = [r for r in wanted["rooms"] if r.partition(".")[2] in KNOWN]
                await socket.send_str(json.dumps({"joined": rooms}))
                for room in rooms:
                    await self.whole(socket, room)
                self.rooms[socket] |= set(rooms)
            elif wanted.get("do") == "whole":
                await self.whole(socket, wanted["room"])
        self.rooms.pop(socket, None)
        return socket

    async def whole(self, socket: web.WebSocketResponse, room: str) -> None:
        """Sends a whole book. Level `k` of it was set by the last update with that remainder."""
        if room.startswith("book."):
            levels = [
                (f"{100 - k}.{k:02}", f"{no}.5")
                for k in range(10)
                if (no := self.number - (self.number - k) % 10) > 0
            ]
            body = {"room": room, "no": self.number, "us": now_us(), "bids": levels, "asks": ASKS}
            await socket.send_str(json.dumps(body))

    async def speak(self) -> None:
        """Sends a trade and a change of each book, again and again."""
        while True:
            await asyncio.sleep(TICK_S)
            self.number += 1
            if self.skip > 0:
                self.skip -= 1
                continue
            k, head = self.number % 10, {"no": self.number, "us": now_us()}
            trade = head | {"price": f"100.{k:02}", "amount": f"0.{k + 1}", "taker": "buy"}
            level = (f"{100 - k}.{k:02}", f"{self.number}.5")
            change = head | {"after": self.number - 1, "bids": [level], "asks": []}
            for socket, rooms in list(self.rooms.items()):
                for room in sorted(rooms):
                    body = trade if room.startswith("trades.") else change
                    text = json.dumps({"room": room} | body)
                    # A recorder that was killed is noticed a little later by its own loop.
                    with suppress(ConnectionError):
                        if self.garbage > 0:
                            self.garbage -= 1
                            await socket.send_str(text[:-9])
                        await socket.send_str(text)

    async def fault(self, request: web.Request) -> web.Response:
        """Does what a test asks for; tells what was said to the venue."""
        self.skip += int(request.query.get("skip", 0))
        self.garbage += int(request.query.get("garbage", 0))
        if "cut" in request.query:
            for socket in list(self.rooms):
                await socket.close()
        return web.json_response({"pongs": self.pongs, "number": self.number})


ASKS = [("101", "1"), ("102.5", "0.25")]


def now_us() -> int:
    """The venue's clock."""
    return time.time_ns() // 1000


async def instruments(_: web.Request) -> web.Response:
    """Answers the opening request."""
    return web.json_response([{"name": name, "step": "0.01", "lot": "0.1"} for name in KNOWN])


async def serve() -> None:
    """Runs the venue until its standard input ends; its port is the first line that it prints."""
    harbor, app = Harbor(), web.Application()
    app.router.add_get("/stream", harbor.stream)
    app.router.add_get("/instruments", instruments)
    app.router.add_get("/fault", harbor.fault)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    speaking = asyncio.create_task(harbor.speak())
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    speaking.cancel()
    await runner.cleanup()


def main(folder: Path) -> None:
    """Records the venue for some seconds with `tape up`, and asks the lake."""
    venue = subprocess.Popen(
        [sys.executable, __file__, "--venue"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert venue.stdin is not None
    assert venue.stdout is not None
    with venue.stdin, venue.stdout:
        port = int(venue.stdout.readline())
        folder.mkdir(parents=True, exist_ok=True)
        settings = folder / "tapeworks.toml"
        settings.write_text(
            f'data = "{folder / "data"}"\n[feeds.harbor]\nkind = "own_feed:HarborFeed"\n'
            f'symbols = ["OAK-USD", "PINE-USD"]\nws_url = "ws://127.0.0.1:{port}/stream"\n'
            f'rest_url = "http://127.0.0.1:{port}"\n'
        )
        start = "from tapeworks.cli import main; main()"
        subprocess.run(
            [sys.executable, "-c", start, "up", "--config", settings, "--seconds", "8"],
            cwd=Path(__file__).parents[1],
            check=True,
        )
    venue.wait(10)
    lake = tw.open(str(folder / "data"))
    print(lake.sql("select symbol, count(*), min(price), max(price) from trades group by all"))
    print(lake.sql("select * from instruments"))


if __name__ == "__main__":
    if "--venue" in sys.argv:
        asyncio.run(serve())
    elif len(sys.argv) > 1:
        main(Path(sys.argv[1]).resolve())
    else:
        with tempfile.TemporaryDirectory() as made:
            main(Path(made))
