"""One suite over the feeds: those of the core, and one that is a class in Python."""

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
import numpy as np
import pytest

from tapeworks import _core
from tapeworks._core import (
    Decoder,
    Ingest,
    ItchMarket,
    Records,
    Stage,
    TapeReader,
    mold_packets,
)
from tapeworks.errors import DecodeError
from tapeworks.feeds.alpaca import AlpacaConfig
from tapeworks.feeds.base import Control, ControlKind, Feed, build
from tapeworks.feeds.binance import BinanceConfig
from tapeworks.feeds.itch.config import ItchConfig
from tapeworks.feeds.massive import MassiveConfig
from tapeworks.feeds.python import PythonFeed
from tapeworks.registry import MEMBERS as TABLE

ROOT = Path(__file__).resolve().parents[2]
FEEDS = ROOT / "crates" / "core" / "src" / "feeds"
KINDS = {"text": 1, "binary": 2, "rest": 3}
TS = 1_770_000_005_000_000_000
LAST, MARKER, DEFINITION = 1, _core.kind_of("marker"), _core.kind_of("definition")
RAW, NORMALIZED = "market-data.raw", "market-data.normalized"

Frame = tuple[int, bytes, bytes]


@dataclass(frozen=True)
class Member:
    """A feed under the suite."""

    name: str
    feed: Callable[[], Feed]
    frames: Callable[[], list[Frame]]
    is_of_all: bool = False
    """Its streams are of all symbols, and nobody is asked for them."""

    @property
    def decoder(self) -> Feed | None:
        """A fresh decoder; none where the core has it."""
        feed = self.feed()
        return feed if isinstance(feed, PythonFeed) else None


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
    context = b"moldudp64?hold_ms=1000&midnight=1769922000000000000"
    packets = mold_packets(blocks, b"SIM0000001", 1, 200)
    return [(KINDS["binary"], context, packet) for _, _, packet in packets]


def itch() -> Member:
    config = ItchConfig(lines=("127.0.0.1:26400",))
    return Member("itch", lambda: build(config), itch_packets, is_of_all=True)


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
    Member("foreign", harbor_feed, harbor_frames),
]
every = pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.name)


def headers(batch: Records) -> list[np.void]:
    """Returns the headers of all records of `batch`."""
    view, at, found = bytes(batch), 0, []
    dtype = np.dtype(_core.dtype_descr("trade")[:8])
    while at < len(view):
        found.append(np.frombuffer(view, dtype, 1, at)[0])
        at += view[at] * 8
    return found


def recorded(member: Member, data: Path, frames: list[Frame], batch: int, cuts: set[int]) -> Path:
    """Records `frames`, `batch` at a time; at each of `cuts` the recorder starts anew."""

    def opened() -> Ingest:
        name = "foreign" if member.decoder else member.name
        return Ingest(data, "x", name, decoder=member.decoder, durability_ms=-1)

    ingest = opened()
    ingest.connected(0, 0, TS)
    for number, (kind, context, body) in enumerate(frames):
        if number in cuts:
            # Closing saves the state, which the next recorder goes on from.
            ingest.flush()
            ingest.close()
            ingest = opened()
            ingest.connected(0, 0, TS + number)
        ingest.receive(0, kind, TS + number, body, context)
        if number % batch == 0:
            ingest.flush()
    ingest.flush()
    ingest.close()
    return data / "tape" / "x"


def test_every_feed_of_the_table_is_under_this_suite():
    # To be in a table is to be under that contract's suite.
    tested = {member.feed().config.kind for member in MEMBERS}  # type: ignore[attr-defined]
    assert set(TABLE["feed"]) < tested


@every
def test_records_carry_their_frame(member: Member):
    # Time of receipt, number of the feed, a known instrument; a venue event ends with its flag.
    decoder = Decoder(member.name, member.decoder)
    numbers, records = set(), 0
    for at, (kind, context, body) in enumerate(member.frames()):
        try:
            batch = decoder.receive(kind, context, body, TS + at)
        except DecodeError:
            continue
        found = headers(batch)
        records += len(found)
        assert all(header["ts_recv"] == TS + at for header in found)
        assert not found or found[-1]["flags"] & LAST
        known = set(decoder.symbols().values())
        assert {int(header["instrument"]) for header in found} <= known | {0}
        numbers |= {int(header["feed"]) for header in found}
    assert records > 20
    assert len(numbers) == 1


@every
def test_what_cannot_be_read_leaves_nothing(member: Member):
    # Every truncation of every kind of frame, and random bytes: records, or a DecodeError.
    chance = random.Random(5)
    seen: dict[tuple[int, int], Frame] = {}
    for frame in member.frames():
        seen.setdefault((frame[0], len(frame[2]) // 40), frame)
    decoder, reasons = Decoder(member.name, member.decoder), list[str]()
    for kind, context, body in seen.values():
        cut = [body[:end] for end in range(0, len(body), 1 + len(body) // 60)]
        noise = [chance.randbytes(chance.randrange(80)) for _ in range(20)]
        for bad in cut + noise:
            try:
                decoder.receive(kind, context, bad, TS)
            except DecodeError as error:
                reasons.append(error.reason)
    assert len(reasons) > 100
    assert "unknown" not in reasons


@every
def test_live_equals_replay_at_any_batch(member: Member, tmp_path: Path):
    # The same frames, some broken, flushed one by one, seven at a time and all at once; and once
    # more from the raw tape by a stage. The same bytes each time.
    frames = member.frames()
    frames.insert(10, (1, b"", b'{"stream":"btcusdt@trade","data":{"e":"tr'))
    tapes = [recorded(member, tmp_path / str(n), frames, n, set()) for n in (1, 7, 10_000)]
    again = tmp_path / "again"
    settings = {} if member.decoder else {"feed": member.name}
    stage = Stage(
        "normalize", tapes[0] / RAW, again, tmp_path / "s", settings, decoder=member.decoder
    )
    stage.run_until_idle(13)
    stage.close()
    first = bytes_of(tapes[1] / NORMALIZED)
    # The recorder's own start is stamped by this host's clock, and is the only thing that is.
    assert without_starts(bytes_of(again)) == without_starts(first)
    assert without_starts(bytes_of(tapes[0] / NORMALIZED)) == without_starts(first)
    assert without_starts(bytes_of(tapes[2] / NORMALIZED)) == without_starts(first)
    assert b"".join(bytes_of(again)) == b"".join(bytes_of(tapes[0] / NORMALIZED))


@every
def test_restart_goes_on_where_it_was(member: Member, tmp_path: Path):
    # A recorder that starts anew in the middle knows its instruments and sequences: every event
    # once. The straight run has the same, but for what the starts themselves add.
    frames = member.frames()
    cuts = set(range(5, len(frames), 9))
    straight = bytes_of(recorded(member, tmp_path / "a", frames, 3, set()) / NORMALIZED)
    broken = bytes_of(recorded(member, tmp_path / "b", frames, 3, cuts) / NORMALIZED)

    def events(found: list[bytes]) -> list[bytes]:
        return [record for record in found if record[1] != MARKER]

    assert events(broken) == events(straight)


@every
def test_session_part_holds_its_contract(member: Member):
    # What the recorder asks of any feed, without a venue: names, channels, and no exception on
    # frames that nobody ever sent.
    feed, chance = member.feed(), random.Random(6)
    streams = [stream for line in feed.lines() for stream in line.streams]
    assert streams
    assert len(set(streams)) == len(streams)
    assert all(bool(feed.symbol(stream)) is not member.is_of_all for stream in streams)
    assert bool(feed.books()) == ("depth" in {feed.channel(stream) for stream in streams})
    talk = feed.subscriptions(streams)
    assert talk.done is member.is_of_all
    if talk.next() is None and not talk.done:
        # A venue that greets first.
        talk.receive(Control(ControlKind.ACK, id="connected"))
        assert talk.next()
    noise = [chance.randbytes(chance.randrange(60)) for _ in range(300)]
    for payload in noise + [body for _, _, body in member.frames()]:
        assert isinstance(feed.control(payload), Control)


def bytes_of(tape: Path) -> list[bytes]:
    """Returns the bytes of each record of a tape."""
    reader, found = TapeReader(tape), []
    while (batch := reader.read(100_000)) is not None:
        view, at = bytes(batch), 0
        while at < len(view):
            found.append(view[at : at + view[at] * 8])
            at += view[at] * 8
    return found


def without_starts(found: list[bytes]) -> list[bytes]:
    return [r for r in found if not (r[1] == MARKER and r[40:42] == b"\xff\xff" and r[32] == 4)]
