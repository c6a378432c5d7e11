"""A feed whose frames are arrays of events of many instruments: its events tell what spoke."""

import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.feeds.test_session_watchdog import SetClock

from tapeworks import _core
from tapeworks._core import Ingest, Stage, TapeReader
from tapeworks.feeds.base import Control, ControlKind, Line, LivenessPolicy
from tapeworks.feeds.connection import Connection
from tapeworks.feeds.outcome import Tally
from tapeworks.feeds.python import (
    Frame,
    PythonFeed,
    PythonFeedConfig,
    RecordBuilder,
    SubscribeOnce,
)
from tapeworks.feeds.watchdog import Watchdog
from tapeworks.topics import NORMALIZED, RAW

STREAMS = ("T.ACME", "Q.ACME", "T.BOLT", "A.*")
CHANNELS = {"T": "trade", "Q": "quote", "A": "kline"}
NUMBERS = _core.numbers("channel")
MARKER = np.dtype(_core.dtype_descr("marker"))
GAP, CAUSES = _core.numbers("marker_code")["gap"], _core.numbers("gap_cause")
SILENCE, DISCONNECT = CAUSES["silence"], CAUSES["disconnect"]
OPEN, CLOSED = 1, 2


class ArrayFeed(PythonFeed):
    """Frames are arrays of trades and quotes; a frame of control stands alone."""

    counts_events = True
    is_open = True
    streams: Sequence[str] = STREAMS

    def lines(self) -> Sequence[Line]:
        return [Line("x/0", "ws://unused", tuple(self.streams))]

    def subscriptions(self, streams: Sequence[str]) -> SubscribeOnce:
        return SubscribeOnce(b"{}", streams)

    def control(self, payload: bytes) -> Control:
        return Control(ControlKind.DATA)

    def symbol(self, stream: str) -> str:
        return stream.partition(".")[2].strip("*")

    def channel(self, stream: str) -> str:
        return CHANNELS[stream[0]]

    def liveness(self, stream: str) -> LivenessPolicy:
        return LivenessPolicy(30.0, 30.0) if stream != "A.*" else LivenessPolicy()

    def is_trading(self, stream: str, wall_ns: int) -> bool:
        return self.is_open

    def decode(self, frame: Frame, out: RecordBuilder) -> None:
        for event in json.loads(frame.body):
            at = {"ts_event": event["t"], "sequence": event.get("q", 0)}
            if event["ev"] == "S":
                out.status(event["sym"], "halted", reason=event["p"], ts_event=event["t"])
            elif event["ev"] == "I":
                out.imbalance(event["sym"], ts_event=event["t"], **event["told"])
            elif event["ev"] == "T":
                out.trade(event["sym"], event["p"], "1", **at)
            else:
                out.quote(event["sym"], event["p"], "1", event["p"], "1", **at)


def all_bytes(tape: Path) -> bytes:
    reader, found = TapeReader(tape), b""
    while (batch := reader.read(10_000)) is not None:
        found += bytes(batch)
    return found


class WildFeed(ArrayFeed):
    """Trades of all symbols on one stream."""

    streams = ("T.*",)


class Scene:
    """Two connections without sockets that carry the same, an ingest and a watchdog over them."""

    def __init__(self, data: Path, feed: type[ArrayFeed] = ArrayFeed) -> None:
        self.data, self.clock, self.number, self._class = data, SetClock(), 0, feed
        self.feed = self.fresh_feed()
        self.ingest = Ingest(data, "x", "foreign", decoder=self.feed)
        # The recorder's receive times are those of its own clock.
        self.clock.wall_s = self.ingest.now() / 1e9 - self.clock.at_s + 1
        self.watchdog = Watchdog(self.feed, self.ingest)
        [line] = self.feed.lines()
        self.connections = [
            Connection(number, line, self.feed, self.ingest, self.ingest.flush, self.clock)
            for number in range(2)
        ]
        for connection in self.connections:
            connection.opened_at = connection.subscribed_at = self.clock.now()
            connection.subscribed = True
            for stream in self.feed.streams:
                self.ingest.watch(
                    connection.number, stream, self.feed.symbol(stream), self.feed.channel(stream)
                )
            self.ingest.connected(connection.number, 0, self.clock.wall_ns())
            self.ingest.subscribed(connection.number, [], self.clock.wall_ns())

    def fresh_feed(self) -> ArrayFeed:
        return self._class(PythonFeedConfig(source="x", idle_timeout_s=60.0))

    def speak(self, *events: str, lines: Sequence[int] = (0, 1)) -> None:
        """Lets connections receive one frame with `events`, such as `T.ACME`."""
        self.number += 1
        at = {"q": self.number, "t": self.clock.wall_ns()}
        self.send([{"ev": e[0], "sym": e[2:], "p": "10.5", **at} for e in events], lines)

    def send(self, body: list[dict[str, Any]], lines: Sequence[int] = (0, 1)) -> None:
        """Lets connections receive one frame."""
        for line in lines:
            ts = self.clock.wall_ns()
            assert self.ingest.receive(line, 1, ts, json.dumps(body).encode()), "it is shown"
            self.connections[line].heard_ns, self.connections[line].heard_at = ts, self.clock.now()
        self.ingest.flush()

    def pass_time(self, seconds: float) -> None:
        self.clock.at_s += seconds
        self.watchdog.check(self.connections, self.clock.now(), self.clock.wall_ns())
        self.ingest.flush()

    def heard(self, number: int) -> dict[str, int]:
        return {stream: count for stream, count, _, _ in self.ingest.activity(number)}

    def batches(self) -> list[Any]:
        reader, found = TapeReader(self.data / "tape" / "x" / "market-data.normalized"), []
        while (batch := reader.read(10_000)) is not None:
            found.append(batch)
        return found

    def count(self, kind: str) -> int:
        """Returns the number of trades or quotes that are stored."""
        size = np.dtype(_core.dtype_descr(kind)).itemsize
        return sum(len(batch.numpy(kind)) // size for batch in self.batches())

    def silences(self) -> list[tuple[int, int, int, float]]:
        return self.gaps(SILENCE)

    def gaps(self, cause: int) -> list[tuple[int, int, int, float]]:
        """Returns instrument, channel, state and start of each gap by `cause`."""
        markers = np.concatenate(
            [np.frombuffer(batch.numpy("marker"), MARKER) for batch in self.batches()]
        )
        markers = markers[(markers["code"] == GAP) & (markers["cause"] == cause)]
        names = ("instrument", "channel", "state", "ts_start")
        return [tuple(marker[name] for name in names) for marker in markers]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_events_of_an_array_tell_which_streams_spoke(scene: Scene):
    # One frame with three events of two symbols, of which one stream is of all: each line counts
    # what it brought itself, though the copy is dropped; what nobody asked for counts nowhere.
    scene.speak("T.ACME", "Q.ACME", "T.BOLT", "Q.BOLT")
    scene.speak("T.ACME", "T.ACME", lines=[1])
    assert scene.heard(0) == {"T.ACME": 1, "Q.ACME": 1, "T.BOLT": 1, "A.*": 0}
    assert scene.heard(1) == {"T.ACME": 3, "Q.ACME": 1, "T.BOLT": 1, "A.*": 0}
    assert scene.count("trade") == 3, "copies are dropped"
    found = Tally(scene.feed, scene.ingest, {}).outcome(scene.connections, 0, _stats(scene), "")
    assert (found.streams, found.spoke, found.silent) == (4, 3, ["A.*"])


def test_silence_is_that_of_one_instrument_and_channel(scene: Scene):
    # Every frame holds the trades of one symbol, on both lines; those of the other, and the quotes,
    # come no more: open gaps of these two, from their last event on, which their next event closes.
    scene.speak("T.ACME", "Q.ACME", "T.BOLT")
    last = scene.clock.wall_ns()
    for _ in range(8):
        scene.pass_time(5)
        scene.speak("T.BOLT")
    acme, quote, trade = 1, NUMBERS["quote"], NUMBERS["trade"]
    assert sorted(scene.silences()) == [(acme, trade, OPEN, last), (acme, quote, OPEN, last)]
    scene.speak("Q.ACME", lines=[1])
    scene.pass_time(1)
    assert scene.silences()[2:] == [(acme, quote, CLOSED, last)]


def test_a_silent_stream_of_all_symbols_is_a_gap_of_each_that_it_brought(tmp_path: Path):
    # Two symbols of a stream of all, then nothing: a gap of each; one event of any ends both.
    scene = Scene(tmp_path, WildFeed)
    scene.speak("T.ACME", "T.BOLT")
    last, trade = scene.clock.wall_ns(), NUMBERS["trade"]
    scene.pass_time(1)
    scene.pass_time(31)
    assert scene.silences() == [(1, trade, OPEN, last), (2, trade, OPEN, last)]
    scene.speak("T.BOLT", lines=[0])
    scene.pass_time(1)
    assert scene.silences()[2:] == [(1, trade, CLOSED, last), (2, trade, CLOSED, last)]


def test_a_closed_market_is_not_silent(scene: Scene):
    # Nothing comes for an hour in which the market is closed: no gap, no dead connection, nothing
    # overdue. It opens, and stays silent: a gap from the opening on.
    scene.speak("T.ACME", "Q.ACME", "T.BOLT")
    scene.feed.is_open = False
    for _ in range(60):
        scene.pass_time(60)
    assert scene.silences() == []
    excused = scene.watchdog.excused
    found = Tally(scene.feed, scene.ingest, excused).outcome(
        scene.connections, scene.clock.now(), _stats(scene), ""
    )
    assert found.overdue == []
    scene.feed.is_open = True
    opened = scene.clock.wall_ns()
    scene.pass_time(29)
    assert scene.silences() == []
    scene.pass_time(2)
    assert {(gap[2], round((gap[3] - opened) / 1e9)) for gap in scene.silences()} == {(OPEN, 0)}
    assert len(scene.silences()) == 3


def test_events_without_a_number_are_told_apart_by_what_they_say(scene: Scene):
    # Trades and quotes with a time of their own and no sequence, on two lines of which one is a
    # second behind: each is stored once, and one that the venue says twice is stored twice. Where
    # one line is left nothing is dropped; where none is, the ledger says so until it speaks again.
    started = scene.clock.wall_ns()

    def event(kind: str, price: int, ms: int) -> dict[str, Any]:
        return {"ev": kind, "sym": "ACME", "p": str(price), "t": started + ms * 1_000_000}

    said = [event("T", 10, 0), event("T", 11, 0), event("Q", 12, 1), event("T", 10, 0)]
    said.append(event("S", 7, -(10**9)))
    scene.send(said, [0])
    scene.pass_time(1)
    scene.send(said[:2], [1])
    scene.send([*said[2:], event("Q", 12, 2)], [1])
    assert scene.count("trade") == 3
    assert scene.count("quote") == 2
    scene.ingest.disconnected(1, scene.clock.wall_ns())
    scene.pass_time(20)
    # A state of trading may have begun long ago.
    scene.send([event("S", 1, -(10**9))], [0])
    scene.send([event("T", 10, 20_000)] * 2, [0])
    scene.send([event("T", 10, 20_000)], [0])
    assert scene.count("trade") == 6
    assert scene.count("status") == 2
    scene.ingest.disconnected(0, scene.clock.wall_ns())
    scene.pass_time(5)
    scene.ingest.connected(0, 0, scene.clock.wall_ns())
    scene.send([event("T", 13, 26_000)], [0])
    assert scene.count("trade") == 7
    # Replayed from the raw tape, by a stage that starts anew after each frame: the same bytes.
    scene.ingest.flush()
    tape, again = scene.data / "tape" / "x", scene.data / "again"
    covered = -1
    while True:
        stage = Stage(
            "normalize", tape / RAW, again, scene.data / "states", {}, decoder=scene.fresh_feed()
        )
        if not stage.step(1):
            stage.close()
            break
        assert stage.covered > covered
        covered = stage.covered
        stage.save()
        stage.close()
    assert all_bytes(again) == all_bytes(tape / NORMALIZED)
    gaps = [gap[1:3] for gap in scene.gaps(DISCONNECT)]
    assert sorted(gaps) == sorted(
        [(NUMBERS["trade"], OPEN), (NUMBERS["quote"], OPEN), (NUMBERS["trade"], CLOSED)]
    )


def test_what_an_auction_would_do_is_told_exactly_and_once(scene: Scene):
    # All fields of one from both lines, and one of which nothing is known: each is stored once.
    # What no field can hold makes its frame a dead letter that says why, and the feed goes on.
    now = scene.clock.wall_ns()
    whole = {
        "cross": "closing",
        "side": "ask",
        "paired_size": "1200",
        "imbalance_size": "0.5",
        "reference_price": "10.01",
        "near_price": "9.99",
        "far_price": "9.5",
        "auction_time": 1600,
        "state": "paused",
        "code": "CSL",
        "sequence": 7,
    }

    def event(ms: int, **told: Any) -> dict[str, Any]:
        return {"ev": "I", "sym": "ACME", "t": now + ms, "told": told}

    scene.send([event(0, **whole), event(1)])
    wrong = {
        "imbalance_size": "-1",
        "auction_time": 1260,
        "cross": "noon",
        "side": "buy",
        "state": "open",
        "near_price": 9.5,
    }
    for name, value in wrong.items():
        scene.send([event(2, **{name: value})], [0])
    assert _stats(scene)["dead_letters"] == len(wrong)
    rows = [
        row
        for batch in scene.batches()
        for row in pa.record_batch(batch.arrow("imbalance", _core.Symbols())).to_pylist()
    ]
    exact = {name: Decimal(whole[name]) for name in whole if name.endswith(("_size", "_price"))}
    absent = dict.fromkeys(whole) | {"auction_time": 0, "code": "", "sequence": 0}
    assert [{name: row[name] for name in whole} for row in rows] == [whole | exact, absent]


def _stats(scene: Scene) -> dict[str, Any]:
    return dict(scene.ingest.stats())


def test_what_is_not_normalized_is_not_silent(tmp_path: Path):
    # The normalized tape is damaged, so that no event is decoded: nothing is said of silence.
    first = Scene(tmp_path)
    first.speak("T.ACME", "Q.ACME", "T.BOLT")
    first.ingest.close()
    [segment] = (tmp_path / "tape" / "x" / "market-data.normalized").glob("*.seg")
    content = bytearray(segment.read_bytes())
    content[len(content) // 64 : len(content) // 32] = b"\xff" * (len(content) // 64)
    segment.write_bytes(content)
    second = Scene(tmp_path)
    assert second.ingest.degraded()
    assert not second.ingest.is_hearing()
    for _ in range(12):
        second.pass_time(10)
        second.speak("T.ACME")
    assert not any(connection.alarmed for connection in second.connections)
    assert first.ingest.is_hearing.__self__ is first.ingest
