"""A venue of one's own: its feed in sixty lines of Python, and the venue itself to try it on.

Run it: .venv/bin/python examples/own_feed.py [FOLDER]. It starts the invented venue Harbor in
another process, records it for some seconds, and shows what the lake then holds. The settings are

    [feeds.harbor]
    kind = "own_feed:HarborFeed"
    symbols = ["OAK-USD", "PINE-USD"]
    ws_url = "ws://127.0.0.1:8765/stream"
    rest_url = "http://127.0.0.1:8765"

and `tape up` takes them just as well, started where this file lies. The contract that HarborFeed
holds is in tapeworks/feeds/python.py.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
from aiohttp import WSMsgType, web

import tapeworks as tw
from tapeworks.feeds.base import Control, ControlKind, Line, Request
from tapeworks.feeds.python import Frame, PythonFeed, RecordBuilder


class Message(msgspec.Struct):
    """Every frame of the venue: market data of a room, or a word about the connection."""

    room: str = ""
    no: int = 0
    after: int | None = None
    us: int = 0
    price: str = ""
    amount: str = ""
    taker: str = ""
    bids: list[tuple[str, str]] = []
    asks: list[tuple[str, str]] = []
    joined: list[str] | None = None
    refused: str = ""
    ping: int | None = None


MESSAGE = msgspec.json.Decoder(Message)
INSTRUMENTS = msgspec.json.Decoder(list[dict[str, str]])


class HarborFeed(PythonFeed):
    """Trades and books of Harbor: one connection, whole books in the stream itself."""

    def lines(self) -> Sequence[Line]:
        """One connection carries all rooms."""
        kinds = self.config.channels or ("trades", "book")
        rooms = [f"{kind}.{symbol}" for symbol in self.config.symbols for kind in kinds]
        return [Line(f"{self.source}/0", self.config.ws_url, tuple(rooms))]

    def subscriptions(self, streams: Sequence[str]) -> "Joining":
        """Joins all rooms with one message."""
        return Joining(streams)

    def control(self, payload: bytes) -> Control:
        """Tells data, answers and pings apart."""
        try:
            message = MESSAGE.decode(payload)
        except msgspec.MsgspecError as error:
            return Control(ControlKind.UNKNOWN, message=str(error))
        if message.room:
            return Control(ControlKind.DATA, streams=(message.room,))
        if message.ping is not None:
            return Control(ControlKind.DATA, reply=b'{"pong":%d}' % message.ping)
        if message.joined is not None:
            return Control(ControlKind.LISTING, streams=tuple(message.joined))
        return Control(ControlKind.REFUSED, message=message.refused)

    def symbol(self, stream: str) -> str:
        """The symbol stands behind the dot."""
        return stream.partition(".")[2]

    def channel(self, stream: str) -> str:
        """The record channel of each kind of room."""
        return {"trades": "trade", "book": "depth"}[stream.partition(".")[0]]

    def books(self) -> Sequence[str]:
        """All books are recorded."""
        return self.config.symbols

    def snapshot_message(self, symbol: str) -> bytes:
        """The venue sends a book whole to whoever asks."""
        return json.dumps({"do": "whole", "room": f"book.{symbol}"}).encode()

    def opening_requests(self) -> Sequence[Request]:
        """Tick and lot sizes."""
        return [Request(0, "/instruments")]

    def decode(self, frame: Frame, out: RecordBuilder) -> None:
        """Texts go into the builder as they are: no number here is ever a float."""
        if frame.kind == "rest":
            for one in INSTRUMENTS.decode(frame.body):
                out.define(
                    one["name"],
                    tick_size=one["step"],
                    lot_size=one["lot"],
                    currency="USD",
                    asset_class="spot",
                    status="trading",
                )
            return
        message = MESSAGE.decode(frame.body)
        kind, _, symbol = message.room.partition(".")
        ts, no, sides = message.us * 1000, message.no, (message.bids, message.asks)
        if kind == "trades":
            price, amount, taker = message.price, message.amount, message.taker
            out.trade(symbol, price, amount, ts_event=ts, sequence=no, side=taker)
        elif kind == "book" and message.after is None:
            out.snapshot(symbol, *sides, sequence=no, ts_event=ts, in_stream=True)
        elif kind == "book":
            out.depth(symbol, *sides, sequence=no, previous=message.after, ts_event=ts)


class Joining:
    """The conversation that subscribes: one message, one answer that lists what was joined."""

    def __init__(self, rooms: Sequence[str]) -> None:
        self._rooms = rooms
        self._sent = False
        self._joined: set[str] | None = None

    @property
    def done(self) -> bool:
        """Whether the venue answered."""
        return self._joined is not None

    @property
    def failed(self) -> Sequence[str]:
        """What it did not let us join."""
        return [room for room in self._rooms if room not in (self._joined or ())]

    def next(self) -> bytes | None:
        """The one message."""
        if self._sent:
            return None
        self._sent = True
        return json.dumps({"do": "join", "rooms": list(self._rooms)}).encode()

    def receive(self, control: Control) -> None:
        """The one answer."""
        self._joined = set(control.streams)


# From here on: the venue itself, and the run. No feed needs these.

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
            [sys.executable, "-c", start, "up", "--config", settings, "--seconds", "5"],
            cwd=Path(__file__).parent,
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
