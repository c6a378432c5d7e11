"""Lines of MoldUDP64 recorded over real sockets: what is lost on the way, and what heals it."""

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conftest import derive
from tests.simulators.test_itch_simulator import assert_books_are

import tapeworks as tw
from tapeworks import _core
from tapeworks._core import Ingest, Stage, TapeReader
from tapeworks.errors import ConfigError
from tapeworks.feeds.itch.config import ItchConfig
from tapeworks.feeds.itch.connection import dropped_by_system, open_socket
from tapeworks.feeds.itch.session import ItchFeed
from tapeworks.feeds.session import Session
from tapeworks.simulators.itch.config import LineFaults, SimulatorConfig
from tapeworks.simulators.itch.live import LiveDay

LONG_MS = 60_000
BINARY = _core.numbers("blob_kind")["binary"]
Packets = list[tuple[int, int, bytes]]


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(count):
            one = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            one.bind(("127.0.0.1", 0))
            found.append(one.getsockname()[1])
        return found


async def until(is_so: Callable[[], bool]) -> None:
    for _ in range(4_000):
        if is_so():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come")


@dataclass
class Recording:
    """One recorder and one sender in this process, and what came of them."""

    data: Path
    messages: int = 4_000
    seed: int = 0
    hold_ms: int = LONG_MS
    faults: tuple[LineFaults, ...] = (LineFaults(), LineFaults())
    has_server: bool = False
    keep: int = 1 << 30
    start_messages_max: int = 100_000
    status: dict[str, Any] = field(default_factory=dict)
    day: LiveDay | None = None
    packets: Packets = field(default_factory=list)

    def run(self, send: Callable[[LiveDay, Packets], None] | None = None) -> tw.Lake:
        """Sends a day, all of it or what `send` does of it, until nothing is missing any more."""
        self.seed = self.seed or random.SystemRandom().randrange(1, 1 << 20)
        print("seed", self.seed)
        asyncio.run(asyncio.wait_for(self._run(send), 50))
        derive(self.data, "itch")
        return tw.open(self.data)

    async def _run(self, send: Callable[[LiveDay, Packets], None] | None) -> None:
        a, b, c = free_ports(3)
        config = ItchConfig(
            lines=(f"127.0.0.1:{a}", f"127.0.0.1:{b}"),
            requests=(f"127.0.0.1:{c}",) if self.has_server else (),
            hold_ms=self.hold_ms,
            request_after_ms=1,
            start_messages_max=self.start_messages_max,
        )
        self.day = day = LiveDay(
            SimulatorConfig(
                seed=self.seed, stocks=4, messages=self.messages, session="SIM0000001",
                lines=(("127.0.0.1", a), ("127.0.0.1", b)), faults=self.faults,
                requests=("127.0.0.1", c), keep=self.keep, packet_bytes=400,
            )
        )  # fmt: skip
        loop = asyncio.get_running_loop()
        server, _ = await loop.create_datagram_endpoint(
            lambda: day.server, local_addr=("127.0.0.1", c)
        )
        feed = ItchFeed(config)
        ingest = Ingest(self.data, "itch", "itch", durability_ms=-1)
        session, stop = Session(feed, ingest), asyncio.Event()
        running = asyncio.create_task(session.run(stop))
        await until(lambda: len(session.status()["connections"]) == len(feed.lines()))
        await self._send(day, send)

        def is_all() -> bool:
            _, end, missing, _, _ = feed.holes.state()
            if end == self.messages + 1 and not missing:
                return True
            now, hold_ns = session._clock.wall_ns(), self.hold_ms * 1_000_000
            feed.holes.due(now, 1 << 60, 0, hold_ns, 0)
            day.lines.heartbeat()
            return False

        await until(is_all)
        stop.set()
        await running
        self.status = session.status()
        ingest.close()
        server.close()
        day.lines.close()

    async def _send(self, day: LiveDay, send: Callable[[LiveDay, Packets], None] | None) -> None:
        if send is None:
            while not day.market.is_over:
                day.send(200)
                await asyncio.sleep(0)
            return
        self.packets = packets = day.packets(self.messages)
        for at in range(0, len(packets), 20):
            send(day, packets[at : at + 20])
            await asyncio.sleep(0)
        day.lines.next = self.messages + 1


def batches(data: Path, topic: str) -> bytes:
    reader = TapeReader(data / "tape" / "itch" / topic)
    parts = []
    while (batch := reader.read(100_000)) is not None:
        parts.append(bytes(batch))
    return b"".join(parts)


def sequences(data: Path) -> list[int]:
    """Returns the numbers of the messages that gave an event of an order, as they are stored."""
    view, at, found = batches(data, "market-data.normalized"), 0, []
    head = np.dtype(_core.dtype_descr("trade")[:8])
    while at < len(view):
        record = np.frombuffer(view, head, 1, at)[0]
        if record["kind"] == _core.numbers("kind")["order"]:
            found.append(int(record["sequence"]))
        at += view[at] * 8
    return found


def gaps(lake: tw.Lake, data: Path) -> list[tuple[int, int, int]]:
    """Returns first, last and count of the gaps by number on the normalized tape."""
    view, at, found = batches(data, "market-data.normalized"), 0, []
    dtype = np.dtype(_core.dtype_descr("marker"))
    while at < len(view):
        if view[at + 1] == _core.numbers("kind")["marker"]:
            marker = np.frombuffer(view, dtype, 1, at)[0]
            if (marker["code"], marker["cause"]) == (3, 1):
                found.append((int(marker["first"]), int(marker["last"]), int(marker["count"])))
        at += view[at] * 8
    return found


def assert_replay_is_the_same(data: Path) -> None:
    # The raw tape normalised again: the same bytes.
    again = data / "again"
    raw = data / "tape" / "itch" / "market-data.raw"
    stage = Stage("normalize", raw, again, data / "state-again", {"feed": "itch"})
    while stage.step(500):
        pass
    reader, parts = TapeReader(again), []
    while (batch := reader.read(100_000)) is not None:
        parts.append(bytes(batch))
    assert b"".join(parts) == batches(data, "market-data.normalized")


def except_for(lost: Iterable[int]) -> Callable[[LiveDay, Packets], None]:
    gone = set(lost)

    def send(day: LiveDay, packets: Packets) -> None:
        day.lines.send([one for one in packets if not gone & set(range(one[0], one[0] + one[1]))])

    return send


def lost_of(packets: Packets, *numbers: int) -> tuple[int, int]:
    """Returns the first and last message of the packets that hold `numbers`."""
    whole = [(first, first + count - 1) for first, count, _ in packets]
    hit = [one for one in whole if any(one[0] <= number <= one[1] for number in numbers)]
    return hit[0][0], hit[-1][1]


def test_what_one_line_loses_the_other_brings(tmp_path: Path):
    # A hundredth of the packets of one line is lost, both repeat and reorder: nothing is missing.
    faults = (LineFaults(0.01, 0.02, 0.05), LineFaults(0.0, 0.02, 0.05))
    recording = Recording(tmp_path, faults=faults)
    lake = recording.run()
    assert recording.day is not None
    report = recording.day.report()
    assert gaps(lake, tmp_path) == []
    assert_books_are(lake, report["orders"])
    numbers = sequences(tmp_path)
    assert numbers == sorted(set(numbers))
    told = recording.status["outcome"]
    assert (told["verdict"], told["spoke"], told["dead_letters"]) == ("all", 1, 0)
    assert_replay_is_the_same(tmp_path)


def test_a_hole_of_both_lines_is_asked_for(tmp_path: Path):
    # Single packets, several in a row, and the last one, of which only a heartbeat tells.
    recording = Recording(tmp_path, has_server=True)
    lost = [7, 1_000, *range(2_000, 2_200), 4_000]
    lake = recording.run(except_for(lost))
    assert recording.day is not None
    assert recording.day.server.answered > 3
    assert gaps(lake, tmp_path) == []
    assert_books_are(lake, recording.day.report()["orders"])
    assert_replay_is_the_same(tmp_path)


def test_a_hole_that_the_server_has_no_more_is_one_gap(tmp_path: Path):
    # Its count is exact; all behind it is there, and says that the book may lack something.
    recording = Recording(tmp_path, has_server=True, hold_ms=50, keep=1_000)
    lake = recording.run(except_for([1_000]))
    first, last = lost_of(recording.packets, 1_000)
    assert gaps(lake, tmp_path) == [(first, last, last - first + 1)]
    numbers = sequences(tmp_path)
    assert not set(numbers) & set(range(first, last + 1))
    assert max(numbers) > 3_900
    assert recording.day is not None
    assert recording.day.server.unanswered > 0
    assert not lake.book("SAAA", depth="orders").is_whole
    assert_replay_is_the_same(tmp_path)


def test_a_late_start_is_a_gap_of_all_that_came_before(tmp_path: Path):
    recording = Recording(tmp_path, hold_ms=50)
    lake = recording.run(except_for(range(1, 1_001)))
    _, last = lost_of(recording.packets, *range(1, 1_001))
    assert gaps(lake, tmp_path) == [(1, last, last)]
    assert recording.status["gaps"] >= 1


def test_a_late_start_is_healed_where_the_server_has_it_all(tmp_path: Path):
    recording = Recording(tmp_path, has_server=True)
    lake = recording.run(except_for(range(1, 1_001)))
    assert gaps(lake, tmp_path) == []
    assert recording.day is not None
    assert_books_are(lake, recording.day.report()["orders"])


def test_a_session_known_by_its_heartbeats_alone_is_healed(tmp_path: Path):
    # The recorder knows another one, which ended; all of this one was sent while it was down.
    def send(day: LiveDay, packets: Packets) -> None:
        if packets[0][0] == 1:
            number = packets[3][0]
            ended = (number, 0, bytes(10) + struct.pack(">QH", number, 0xFFFF))
            parts = [*packets[:3], ended]
            day.lines.send([(at, n, b"OLD0000001" + part[10:]) for at, n, part in parts])

    recording = Recording(tmp_path, has_server=True)
    lake = recording.run(send)
    assert gaps(lake, tmp_path) == []
    assert recording.day is not None
    assert_books_are(lake, recording.day.report()["orders"])
    assert sequences(tmp_path)[-1] > 3_900
    assert recording.status["outcome"]["dead_letters"] == 0
    assert_replay_is_the_same(tmp_path)


def test_a_wrong_port_is_told_as_nothing(tmp_path: Path):
    async def run() -> dict[str, Any]:
        [port] = free_ports(1)
        feed = ItchFeed(ItchConfig(lines=(f"127.0.0.1:{port}",)))
        ingest = Ingest(tmp_path, "itch", "itch", durability_ms=-1)
        session, stop = Session(feed, ingest), asyncio.Event()
        running = asyncio.create_task(session.run(stop))
        await asyncio.sleep(0.05)
        stop.set()
        await running
        outcome: dict[str, Any] = session.status()["outcome"]
        ingest.close()
        return outcome

    assert asyncio.run(run())["verdict"] == "nothing"


def test_a_port_is_of_one_recorder_and_a_group_of_many():
    with open_socket(("127.0.0.1", 0), "0.0.0.0", 1 << 16) as one:
        place = one.getsockname()
        with pytest.raises(OSError, match="in use"):
            open_socket(place, "0.0.0.0", 1 << 16)
        assert dropped_by_system(one) == 0
    [port] = free_ports(1)
    group = ("239.255.77.1", port)
    with (
        open_socket(group, "127.0.0.1", 1 << 16) as one,
        open_socket(group, "127.0.0.1", 1 << 16) as two,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        sender.sendto(b"a packet", group)
        for each in (one, two):
            each.setblocking(True)
            each.settimeout(20)
            assert each.recv(100) == b"a packet"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "lines: expected 1 to 8"),
        ({"lines": ("127.0.0.1",)}, "lines: expected HOST:PORT"),
        ({"lines": ("somewhere:26400",)}, "lines: expected an IPv4 address"),
        ({"lines": ("127.0.0.1:1", "127.0.0.1:1")}, "lines"),
        ({"lines": ("127.0.0.1:1",), "requests": ("x",)}, "requests: expected HOST:PORT"),
        ({"lines": ("127.0.0.1:1",), "interface": "eth0"}, "interface: expected an IPv4 address"),
        ({"lines": ("127.0.0.1:1",), "hold_ms": 5}, "hold_ms: expected 10 to 60000"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], told: str):
    with pytest.raises(ConfigError, match=told):
        ItchConfig(**settings)


def packet(session: bytes, first: int, count: int) -> bytes:
    message = b"\0\x0cS" + bytes(10) + b"Q"
    return session.ljust(10) + struct.pack(">QH", first, count) + message * count


def test_a_packet_that_strayed_here_last_keeps_no_recorder_from_starting(tmp_path: Path):
    # Before and behind the packets of the session: one whose bytes are no packet, one of another
    # session, and one with a number that no session reaches.
    config = ItchConfig(lines=("127.0.0.1:1",), requests=("127.0.0.1:2",))
    strays = (b"\x7fELFjunk__" + b"\x10" * 20, packet(b"OTHER", 1 << 31, 1))
    strays += (packet(b"S1", 1 << 60, 1), b"x")
    ingest = Ingest(tmp_path, "itch", "itch", durability_ms=-1)
    feed = ItchFeed(config)
    for body in (*strays, *(packet(b"S1", at, 10) for at in range(101, 201, 10)), *strays):
        ingest.receive(0, BINARY, 1_000, body, feed.context(1_000))
    ingest.flush()
    ingest.close()
    feed.resume(tmp_path / "tape" / "itch" / "market-data.raw")
    assert feed.holes.state() == (b"S1        ", 201, 0, 0, False)
    # What was sent until the first new packet is asked for.
    feed.holes.observe(feed.context(1_001), packet(b"S1", 211, 1), 1_001)
    assert feed.holes.due(1_001, 0, 0, 9, 9) == [(201, 10)]
