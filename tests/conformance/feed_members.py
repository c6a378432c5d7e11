"""The feeds under the suite, and the frames that each is given."""

import functools
import importlib
import json
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from tapeworks import _core
from tapeworks._core import ItchMarket, mold_packets
from tapeworks.feeds.alpaca import AlpacaConfig
from tapeworks.feeds.base import Feed, build
from tapeworks.feeds.binance import BinanceConfig
from tapeworks.feeds.itch.config import ItchConfig
from tapeworks.feeds.massive import MassiveConfig
from tapeworks.feeds.python import PythonFeed

ROOT = Path(__file__).resolve().parents[2]
FEEDS = ROOT / "crates" / "core" / "src" / "feeds"
KINDS = {"text": 1, "binary": 2, "rest": 3}
TS = 1_770_000_005_000_000_000
DAY_NS = 86_400_000_000_000
MIDNIGHT = 1_769_922_000_000_000_000
"""Midnight of the day of `TS` in New York."""
LINES = b"moldudp64?hold_ms=1000&midnight=%d" % MIDNIGHT
SESSION = b"SIM0000001"

Frame = tuple[int, bytes, bytes]


@dataclass(frozen=True)
class Member:
    """A feed under the suite."""

    name: str
    feed: Callable[[], Feed] | None
    """Its session part; none of files, which nobody connects to."""
    frames: Callable[[], list[Frame]]
    is_of_all: bool = False
    """Its streams are of all symbols, and nobody is asked for them."""
    native: str = ""
    """The core's name of the decoder; none: the member's own."""
    frame: Callable[[bytes, int], Frame | None] | None = None
    """Makes a frame of one message as the core encodes it, which has that number; nothing of a
    record that is part of what another record says."""

    @property
    def decoder(self) -> Feed | None:
        """A fresh decoder; none where the core has it."""
        feed = self.feed() if self.feed else None
        return feed if isinstance(feed, PythonFeed) else None

    @property
    def ts(self) -> int:
        """When its first frame came: those of a file when all that is in it had happened."""
        return TS if self.feed else TS + DAY_NS

    @property
    def of_core(self) -> str:
        """The name of the decoder, as the core has it."""
        return self.native or self.name


def captured(venue: str, name: str) -> list[Frame]:
    lines = (FEEDS / venue / "captures" / f"{name}.tsv").read_bytes().splitlines()
    parts = [line.split(b"\t") for line in lines if line.count(b"\t") == 2]
    return [(KINDS[kind.decode()], context, body) for kind, context, body in parts]


def binance(product: str) -> Member:
    config = BinanceConfig(symbols=("BTCUSDT",), product=product)
    return Member(f"binance-{product}", lambda: build(config), lambda: captured("binance", product))


def massive() -> Member:
    config = MassiveConfig(symbols=("AAPL", "MSFT"), api_key="a-key")
    return Member("massive", lambda: build(config), lambda: captured("massive", "frames"))


def alpaca() -> Member:
    # Its frames come in two encodings.
    config = AlpacaConfig(
        symbols=("BTC/USD",),
        product="crypto",
        channels=("trades", "orderbooks"),
        api_key="a-key",
        api_secret="a-secret",
    )
    return Member("alpaca", lambda: build(config), alpaca_frames)


def alpaca_frames() -> list[Frame]:
    texts = captured("alpaca", "frames")
    events = [json.loads(body) for kind, _, body in texts if kind == KINDS["text"]]
    packed = [
        [{k: moment(v) if k == "t" else v for k, v in event.items()} for event in frame]
        for frame in events
    ]
    return texts + [(KINDS["binary"], b"", msgspec.msgpack.encode(frame)) for frame in packed]


def moment(text: str) -> msgspec.msgpack.Ext:
    """Returns the timestamp of 96 bits of a second later: what is said twice would be told once."""
    second, _, fraction = text.rstrip("Z").partition(".")
    seconds = int(datetime.fromisoformat(second).replace(tzinfo=UTC).timestamp())
    ns = int(fraction.ljust(9, "0"))
    return msgspec.msgpack.Ext(-1, ns.to_bytes(4, "big") + (seconds + 1).to_bytes(8, "big"))


def itch_packets() -> list[Frame]:
    """The packets of a small simulated day, in their order."""
    blocks, _ = ItchMarket(["SAAA", "SAAB"], 3, 400).take(400)
    packets = mold_packets(blocks, SESSION, 1, 200)
    return [(KINDS["binary"], LINES, packet) for _, _, packet in packets]


def itch_packet(blocks: bytes, number: int) -> Frame | None:
    """Returns the packet of what was encoded: none of a record that is part of another message."""
    head = SESSION + number.to_bytes(8, "big") + (1).to_bytes(2, "big")
    return (KINDS["binary"], LINES, head + blocks) if blocks else None


def itch() -> Member:
    config = ItchConfig(lines=("127.0.0.1:26400",))
    feed = functools.partial(build, config)
    return Member("itch", feed, itch_packets, is_of_all=True, frame=itch_packet)


def itch_run_of(blocks: bytes, number: int) -> Frame | None:
    context = b"file?name=day&midnight=%d&sequence=%d" % (MIDNIGHT, number)
    return (KINDS["binary"], context, blocks) if blocks else None


def itch_runs() -> list[Frame]:
    """Runs of messages of a file: one of each type, and then a small simulated day."""
    text = (FEEDS / "itch" / "captures" / "day.hex").read_text()
    each = [bytes.fromhex(line) for line in text.splitlines() if not line.startswith("#")]
    data = b"".join(len(message).to_bytes(2, "big") + message for message in each)
    data += ItchMarket(["SAAA", "SAAB"], 4, 200).take(200)[0]
    frames, at, number = [], 0, 1
    while at < len(data):
        end, count, _, _ = _core.itch_run(data, at, 7, 1 << 62)
        frames.append(itch_run_of(data[at:end], number))
        at, number = end, number + count
    return [frame for frame in frames if frame]


def lobster_rows_of(rows: bytes, number: int) -> Frame | None:
    # What is encoded has the times of UTC.
    midnight = TS - TS % DAY_NS
    context = b"lobster?name=rows&symbol=AMZN&midnight=%d&row=%d" % (midnight, number)
    return (KINDS["text"], context, rows) if rows else None


def lobster_runs() -> list[Frame]:
    """Runs of rows of a message file: one of each type, and then orders that a seed draws."""
    rows = (FEEDS / "lobster" / "captures" / "rows.csv").read_text().splitlines()
    chance, size = random.Random(7), dict[int, int]()
    for at in range(300):
        time, price = f"{34_201 + at}.{chance.randrange(10**9):09}", 2_238_000 + at % 20 * 100
        known = chance.choice(list(size)) if size else 0
        kind = chance.choice("1112345") if known else "1"
        order = {"1": at + 1, "5": 0}.get(kind, known)
        taken = size.get(order, 0) if kind in "34" else 1
        if kind == "1":
            size[order] = taken = chance.randrange(2, 500)
        elif kind in "34":
            del size[order]
        rows.append(f"{time},{kind},{order},{taken},{price},{chance.choice((-1, 1))}")
    made = []
    for at in range(0, len(rows), 7):
        body = "".join(f"{row}\n" for row in rows[at : at + 7])
        made.append(lobster_rows_of(body.encode(), at + 1))
    return [frame for frame in made if frame]


def harbor_feed() -> Feed:
    if str(ROOT / "examples") not in sys.path:
        sys.path.append(str(ROOT / "examples"))
    own_feed: Any = importlib.import_module("own_feed")
    config = own_feed.HarborFeed.Config(
        kind="own_feed:HarborFeed", symbols=("OAK-USD",), source="harbor", ws_url="ws://127.0.0.1/"
    )
    return build(config)


def harbor_frames() -> list[Frame]:
    """What the venue of the example sends: definitions, trades, a book, a hole in each."""
    instruments = [{"name": "OAK-USD", "step": "0.01", "lot": "0.1"}]
    frames = [(3, b"/instruments", json.dumps(instruments).encode())]
    book = {"room": "book.OAK-USD", "no": 9, "us": 5, "bids": [["9.5", "1"]], "asks": []}
    bodies: list[dict[str, Any]] = [{"joined": ["book.OAK-USD"]}, book]
    for no in [*range(10, 60), *range(63, 90)]:
        head = {"no": no, "us": 1_770_000_000_000_000 + no}
        trade = {"price": f"100.{no:09}", "amount": f"0.{no:08}", "taker": "sell"}
        bids = [[f"{90 + no % 7}.25", str(no % 3)]] if no % 5 else []
        bodies.append({"room": "trades.OAK-USD"} | head | trade)
        bodies.append({"room": "book.OAK-USD", "after": no - 1, "bids": bids, "asks": []} | head)
    bodies.append(book | {"no": 89})
    return frames + [(1, b"", json.dumps(body).encode()) for body in bodies]


MEMBERS = [
    binance("spot"),
    binance("usdm"),
    massive(),
    alpaca(),
    itch(),
    Member("itch-file", None, itch_runs, native="itch", frame=itch_run_of),
    Member("lobster", None, lobster_runs, frame=lobster_rows_of),
    Member("foreign", harbor_feed, harbor_frames),
]
