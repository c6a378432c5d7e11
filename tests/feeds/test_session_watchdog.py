"""The watchdog with a clock of its own: who is told to be silent, and what follows."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from tapeworks._core import Ingest, TapeReader
from tapeworks.feeds.base import Clock
from tapeworks.feeds.binance import BinanceConfig, BinanceFeed
from tapeworks.feeds.connection import Connection
from tapeworks.feeds.watchdog import Watchdog

MARKER, GAP, SILENCE = 8, 3, 2
OPEN, CLOSED = 1, 2
QUOTE = 3


class SetClock(Clock):
    """A clock that stands still until it is told."""

    def __init__(self) -> None:
        self.at_s = 1000.0
        self.wall_s = 0.0
        """What the wall clock is ahead."""

    def now(self) -> float:
        return self.at_s

    def wall_ns(self) -> int:
        return int((self.at_s + self.wall_s) * 1e9)


class Scene:
    """Connections without sockets, an ingest, and a watchdog over them."""

    def __init__(self, data: Path, channels: tuple[str, ...], connections: int) -> None:
        self.data = data
        self.clock = SetClock()
        config = BinanceConfig(symbols=("BTCUSDT",), channels=channels, idle_timeout_s=60.0)
        self.feed = BinanceFeed(config)
        self.ingest = Ingest(data, "x", "binance-spot")
        self.watchdog = Watchdog(self.feed, self.ingest)
        (line,) = self.feed.lines()
        self.connections = [
            Connection(number, line, self.feed, self.ingest, self.ingest.flush, self.clock)
            for number in range(connections)
        ]
        for connection in self.connections:
            connection.opened_at = connection.pinged_at = self.clock.now()
            connection.subscribed_at = connection.opened_at
            connection.subscribed = True
            for stream in line.streams:
                self.ingest.watch(connection.number, stream, "BTCUSDT", self.feed.channel(stream))
        self.update = 0

    def speak(self, number: int, stream: str) -> None:
        """Lets a connection receive a quote or a trade."""
        self.update += 1
        body = (
            b'{"stream":"btcusdt@%b","data":{"u":%d,"s":"BTCUSDT","b":"1","B":"1","a":"2",'
            b'"A":"1"}}' % (stream.encode(), self.update)
        )
        self.ingest.receive(number, 1, self.clock.wall_ns(), body)
        self.connections[number].heard_ns = self.clock.wall_ns()
        self.connections[number].heard_at = self.clock.now()

    def define(self) -> None:
        """Lets the answer to the opening request come."""
        symbol = (
            b'{"symbols":[{"symbol":"BTCUSDT","status":"TRADING","baseAsset":"BTC",'
            b'"quoteAsset":"USDT","filters":[]}]}'
        )
        self.ingest.receive(65_535, 3, self.clock.wall_ns(), symbol, b"/api/v3/exchangeInfo")
        self.ingest.flush()

    def pass_time(self, seconds: float) -> None:
        """Moves the clock, with pings, and checks."""
        self.clock.at_s += seconds
        for connection in self.connections:
            connection.pinged_at = self.clock.now()
        self.check()

    def check(self) -> None:
        self.watchdog.check(self.connections, self.clock.now(), self.clock.wall_ns())
        self.ingest.flush()

    def silences(self) -> list[tuple[int, int, int, int, int]]:
        """Returns instrument, channel, state, start and end of all gaps by silence."""
        reader = TapeReader(self.data / "tape" / "x" / "market-data.normalized")
        found = []
        while (batch := reader.read(10_000)) is not None:
            view, at = bytes(batch), 0
            while at < len(view):
                record = view[at : at + view[at] * 8]
                at += len(record)
                if record[1] == MARKER and (record[32], record[33]) == (GAP, SILENCE):
                    numbers = [
                        int.from_bytes(record[a:b], "little")
                        for a, b in ((4, 8), (35, 36), (34, 35), (56, 64), (8, 16))
                    ]
                    found.append(tuple(numbers))
        return found


@pytest.fixture
def scene(tmp_path):
    return Scene(tmp_path, ("bookTicker", "trade"), 1)


def test_lively_stream_that_stops_is_a_gap_until_it_speaks(scene):
    # Ten quotes a second, then none for half a minute: an open gap from the last quote on, of the
    # right instrument, and the connection is to be replaced. The next quote closes the gap.
    for _ in range(200):
        scene.speak(0, "bookTicker")
        scene.pass_time(0.1)
    last = scene.clock.wall_ns() - int(0.1e9)
    assert scene.silences() == []
    scene.pass_time(31)
    detected = scene.clock.wall_ns()
    scene.pass_time(5)
    (connection,) = scene.connections
    assert "bookTicker" in connection.replace_reason
    assert scene.silences() == [(1, QUOTE, OPEN, last, detected)]
    scene.speak(0, "bookTicker")
    scene.check()
    back = scene.clock.wall_ns()
    assert scene.silences()[1:] == [(1, QUOTE, CLOSED, last, back)]
    assert not connection.alarmed


def test_quiet_by_nature_is_no_gap(scene):
    # Trades stop when nobody trades, and quotes that came once a minute may take their time.
    for _ in range(200):
        scene.speak(0, "trade")
        scene.speak(0, "bookTicker")
        scene.pass_time(20)
    for _ in range(3):
        scene.connections[0].heard_at = scene.clock.now()
        scene.pass_time(50)
    assert scene.silences() == []
    assert not scene.connections[0].replace_reason


def test_silence_of_one_copy_is_no_loss(tmp_path):
    # The other line still carries the stream: no gap, and the deaf line is replaced.
    scene = Scene(tmp_path, ("bookTicker",), 2)
    for number in range(600):
        scene.speak(1, "bookTicker")
        if number < 200:
            scene.speak(0, "bookTicker")
        scene.pass_time(0.1)
    assert scene.silences() == []
    assert "bookTicker" in scene.connections[0].replace_reason
    assert not scene.connections[1].replace_reason


def test_stream_that_never_spoke_is_a_gap_and_has_its_connection_replaced(scene, caplog):
    # Acknowledged, listed, and mute: wrong path or dead symbol. Said once, not every second; in the
    # ledger from its subscription on, as soon as its instrument is known; ended by its first word.
    subscribed = scene.clock.wall_ns()
    scene.pass_time(29)
    scene.connections[0].heard_at = scene.clock.now()
    assert not scene.connections[0].replace_reason
    for _ in range(3):
        scene.pass_time(5)
        scene.connections[0].heard_at = scene.clock.now()
    told = [record for record in caplog.records if "never spoke" in record.getMessage()]
    assert len(told) == 1
    assert "btcusdt@bookTicker" in told[0].getMessage()
    assert scene.connections[0].alarmed == {"btcusdt@bookTicker"}
    assert "bookTicker" in scene.connections[0].replace_reason
    assert scene.silences() == []
    scene.define()
    scene.pass_time(1)
    ((instrument, channel, state, start, _),) = scene.silences()
    assert (instrument, channel, state, start) == (1, QUOTE, OPEN, subscribed)
    scene.speak(0, "bookTicker")
    scene.check()
    assert [row[2] for row in scene.silences()] == [OPEN, CLOSED]


def test_one_copy_that_speaks_is_enough_for_the_first_message(tmp_path):
    # Of two sockets one never carries quotes: it is replaced, and nothing was lost.
    scene = Scene(tmp_path, ("bookTicker",), 2)
    scene.define()
    for _ in range(40):
        scene.speak(1, "bookTicker")
        scene.connections[0].heard_at = scene.clock.now()
        scene.pass_time(1)
    assert scene.silences() == []
    assert "bookTicker" in scene.connections[0].replace_reason
    assert not scene.connections[1].replace_reason


def test_pause_between_replacements_grows_and_starts_anew(scene):
    # A stream that stays dead has its connection replaced after 0, 60, 120, ... s. A single loss a
    # month is answered at once, each time.
    replaced = []
    for _ in range(600):
        scene.connections[0].heard_at = scene.clock.now()
        scene.pass_time(1)
        if scene.connections[0].replace_reason:
            replaced.append(scene.clock.now())
            scene.connections[0].replace_reason = ""
    waits = [round(b - a) for a, b in pairwise(replaced)]
    assert waits[:3] == [60, 120, 240]
    for _ in range(7):
        scene.connections[0].heard_at = scene.clock.now() + 30 * 86_400
        scene.pass_time(30 * 86_400)
        assert scene.connections[0].replace_reason
        scene.connections[0].replace_reason = ""
        for _ in range(61):
            scene.connections[0].heard_at = scene.clock.now()
            scene.pass_time(1)
        assert scene.connections[0].replace_reason
        scene.connections[0].replace_reason = ""


@pytest.mark.parametrize("step_s", [61, 3600, -3600])
def test_steps_of_the_wall_clock_are_no_silence_and_hide_none(scene, step_s):
    # The wall clock jumps while quotes come every second: nobody is silent. When they end, the
    # connection is dropped after its minute, by the clock that only rises; also if it jumps then.
    for _ in range(5):
        scene.speak(0, "bookTicker")
        scene.pass_time(1)
    scene.clock.wall_s += step_s
    scene.check()
    scene.speak(0, "bookTicker")
    scene.pass_time(1)
    assert not scene.connections[0].close_reason
    scene.clock.wall_s += step_s
    scene.pass_time(58)
    assert not scene.connections[0].close_reason
    scene.pass_time(2)
    assert "silent" in scene.connections[0].close_reason


def test_connection_of_a_venue_without_pings_is_judged_by_its_silence(tmp_path):
    # Trades alone may be silent; but where the venue never pings, a peer that is gone without a
    # word would be waited for without end. Any frame is a sign of life.
    scene = Scene(tmp_path, ("trade",), 1)
    scene.feed.rules = replace(scene.feed.rules, ping_s=None)
    scene.clock.at_s += 59
    scene.check()
    scene.speak(0, "trade")
    scene.clock.at_s += 59
    scene.check()
    assert not scene.connections[0].close_reason
    scene.clock.at_s += 2
    scene.check()
    assert "silent" in scene.connections[0].close_reason


def test_connection_without_pings_is_dropped(scene):
    # Spot pings every 20 s; a socket without one for a minute is dead, whatever it seems.
    scene.clock.at_s += 61
    scene.connections[0].heard_at = scene.clock.now()
    scene.check()
    assert "ping" in scene.connections[0].close_reason
