"""ITCH over SoupBinTCP, recorded over real sockets: logins, cuts, restarts, and lines of UDP."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import derive
from tests.feeds.test_itch_live import free_ports, sequences, until
from tests.simulators.test_itch_simulator import assert_books_are

import tapeworks as tw
from tapeworks._core import Ingest, MoldHoles
from tapeworks.errors import ConfigError, VenueError
from tapeworks.feeds.itch.config import ItchConfig
from tapeworks.feeds.itch.session import ItchFeed
from tapeworks.feeds.session import Session
from tapeworks.simulators.itch.config import SimulatorConfig
from tapeworks.simulators.itch.live import LiveDay
from tapeworks.simulators.itch.market import oracle_of

MESSAGES = 4_000
Act = Callable[[LiveDay, Session], Awaitable[None]]


async def served(day: LiveDay, act: Callable[[str], Awaitable[None]]) -> None:
    """Runs a server of the day's session for as long as `act` takes."""
    server = await asyncio.start_server(day.streams.serve, "127.0.0.1", 0)
    try:
        await act(f"soupbintcp://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    finally:
        server.close()
        day.streams.cut()


async def recorded(data: Path, lines: tuple[str, ...], day: LiveDay, act: Act, **more: Any) -> Any:
    """Records with a session of its own until `act` is done; returns its last status."""
    feed = ItchFeed(ItchConfig(lines=lines, hold_ms=60_000, **more))
    feed.resume(data / "tape" / "itch" / "market-data.raw")
    ingest, stop = Ingest(data, "itch", "itch", durability_ms=-1), asyncio.Event()
    session = Session(feed, ingest)
    running = asyncio.create_task(session.run(stop))
    try:
        acting = asyncio.create_task(act(day, session))
        await asyncio.wait([acting, running], return_when=asyncio.FIRST_COMPLETED)
        stop.set()
        await running
        await acting
        return session.status()
    finally:
        stop.set()
        ingest.close()


def new_day(session: str = "SIM0000001", **more: Any) -> LiveDay:
    port = ("127.0.0.1", 1)
    return LiveDay(
        SimulatorConfig(
            seed=11, stocks=4, messages=MESSAGES, session=session, soup=port, lines=(port,),
            packet_bytes=400, **more,
        )
    )  # fmt: skip


def make(day: LiveDay, count: int) -> None:
    """Lets the next messages happen; they are sent over streams alone."""
    day.lines.next += sum(number for _, number, _ in day.packets(count))


def following(session: Session) -> int:
    feed = session.feed
    assert isinstance(feed, ItchFeed)
    number: int = feed.holes.state()[1]
    return number


def is_all(session: Session) -> bool:
    feed = session.feed
    assert isinstance(feed, ItchFeed)
    return following(session) == MESSAGES + 1 and feed.holes.state()[4]


def assert_whole(data: Path, day: LiveDay) -> None:
    derive(data, "itch")
    lake = tw.open(data)
    assert lake.gaps().to_pylist() == []
    numbers = sequences(data)
    assert numbers == sorted(set(numbers))
    assert_books_are(lake, oracle_of(day.market)["orders"])


def test_a_session_is_whole_through_cuts_and_restarts(tmp_path: Path):
    # A third before the recorder starts; the network cuts it in the midst of packets; it is
    # stopped, and another goes on; then the session ends, and nothing is asked for any more.
    day = new_day()

    async def first(day: LiveDay, session: Session) -> None:
        await until(lambda: following(session) == 1_001)
        for upto in (1_600, 2_200):
            make(day, 600)
            day.streams.cut()
            await until(lambda end=upto + 1: following(session) == end)

    async def second(day: LiveDay, session: Session) -> None:
        make(day, MESSAGES)
        day.streams.is_over = True
        await until(lambda: is_all(session))
        logins = day.streams.logins
        await asyncio.sleep(0.3)
        assert day.streams.logins == logins

    async def run(address: str) -> None:
        make(day, 1_000)
        await recorded(tmp_path, (address,), day, first)
        status = await recorded(tmp_path, (address,), day, second)
        assert status["outcome"]["verdict"] == "all"

    asyncio.run(asyncio.wait_for(served(day, run), 50))
    day.lines.close()
    assert day.streams.logins == 4
    # Each cut was asked on from the next message: none was sent twice but what a cut took away.
    assert MESSAGES <= day.streams.sent < MESSAGES + 2_000
    assert_whole(tmp_path, day)


def test_a_stream_fills_the_holes_of_lines(tmp_path: Path):
    # Half of the packets come over UDP, and all of them over TCP.
    day = new_day()
    [port] = free_ports(1)
    day.lines.lines[0].address = ("127.0.0.1", port)

    async def act(day: LiveDay, session: Session) -> None:
        await until(lambda: len(session.status()["connections"]) == 2)
        packets = day.packets(MESSAGES)
        for at in range(0, len(packets), 20):
            day.lines.send(packets[at : at + 20 : 2])
            await asyncio.sleep(0)
        day.streams.is_over = True
        await until(lambda: is_all(session))

    async def run(address: str) -> None:
        await recorded(tmp_path, (f"127.0.0.1:{port}", address), day, act)

    asyncio.run(asyncio.wait_for(served(day, run), 50))
    day.lines.close()
    assert_whole(tmp_path, day)


def test_a_wrong_password_ends_the_recording_and_is_not_shown(tmp_path: Path):
    day = new_day(user="trader", password="opensesame")

    async def act(day: LiveDay, session: Session) -> None:
        await until(lambda: day.streams.refused > 0)
        await asyncio.sleep(10)

    async def run(address: str) -> None:
        with pytest.raises(VenueError, match="refuses the login") as refused:
            await asyncio.wait_for(
                recorded(tmp_path, (address,), day, act, user="trader", password="hunter2"), 9
            )
        assert "hunter2" not in str(refused.value)

    asyncio.run(asyncio.wait_for(served(day, run), 50))
    day.lines.close()
    assert "hunter2" not in repr(ItchConfig(lines=("127.0.0.1:1",), password="hunter2"))
    for wrong in ({"user": "seventy"}, {"password": "elevenwords"}, {"user": "é"}):
        with pytest.raises(ConfigError, match="expected up to"):
            ItchConfig(lines=("127.0.0.1:1",), **wrong)


LOGIN = b"\0\x1fASIM0000001"


@pytest.mark.parametrize(
    "said",
    [
        b"\0\x06+words" * 40_000,
        LOGIN + b"9" * 20,
        LOGIN + b"x".rjust(20),
        LOGIN + b"1".rjust(20) + LOGIN + b"7000000".rjust(20),
    ],
    ids=["no answer", "beyond any number", "no number", "two answers"],
)
def test_a_server_that_makes_no_sense_is_left_and_tried_again(tmp_path: Path, said: bytes):
    # Whatever it says, the recorder ends the connection, opens another, and stops when asked to.
    connects = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connects
        connects += 1
        writer.write(said)
        with contextlib.suppress(OSError):
            await reader.read()
        writer.close()

    async def act(day: LiveDay, session: Session) -> None:
        await until(lambda: connects > 1)

    async def run() -> Any:
        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        address = f"soupbintcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        status = await recorded(tmp_path, (address,), day, act)
        server.close()
        return status

    day = new_day()
    status = asyncio.run(asyncio.wait_for(run(), 50))
    day.lines.close()
    assert status["outcome"]["verdict"] != "all"


@pytest.mark.slow
def test_after_the_end_of_a_session_nothing_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # The server closes behind the end, and is asked again and again: for a while it has nothing
    # else, then no session at all, then another one, whose first messages were sent by then.
    monkeypatch.setattr("tapeworks.feeds.itch.stream.OVER_S", 0.05)
    first = new_day()
    second = new_day("SIM0000002")
    current, refused = first, 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal refused
        if current is not None:
            await current.streams.serve(reader, writer)
            return
        await reader.readexactly(49)
        refused += 1
        writer.write(b"\0\x02JS")
        writer.close()

    async def act(day: LiveDay, session: Session) -> None:
        nonlocal current
        await until(lambda: is_all(session) and day.streams.logins > 3)
        current = None
        await until(lambda: refused > 2)
        current = second
        await until(lambda: following(session) == 301)

    async def run() -> None:
        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        address = f"soupbintcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await recorded(tmp_path, (address,), first, act)
        server.close()
        second.streams.cut()
        await asyncio.sleep(0.05)

    make(first, MESSAGES)
    first.streams.is_over = True
    make(second, 300)
    asyncio.run(asyncio.wait_for(run(), 50))
    first.lines.close()
    second.lines.close()
    derive(tmp_path, "itch")
    lake = tw.open(tmp_path)
    assert lake.gaps().to_pylist() == []
    assert lake.coverage().to_pylist() == []
    # The number of the first order stands in both sessions.
    numbers = sequences(tmp_path)
    assert numbers.count(numbers[0]) == 2


def test_what_a_tape_tells_of_streams():
    # What was there before a restart, of both kinds of lines; then what is not whole.
    note = b"moldudp64?hold_ms=9&midnight=1"
    stream = note + b"&soupbintcp=S1:"
    body = b"\0\x01H\0\x03Sab\0\x02Sa"
    holes = MoldHoles(100)
    for context, content in [
        (note, b"x" * 30), (stream + b"0", body), (note + b"&soupbintcp=S1", body),
        (stream + b"7", body[:-1]), (b"file?name=x", body), (stream + b"7", body),
        (stream + b"9", b"\0\x01H\0\x01Z"), (stream + b"11", b"\0\x01H"),
    ]:  # fmt: skip
        holes.observe(context, content, 1)
    assert holes.state() == (b"S1        ", 11, 8, 0, False)
    assert holes.due(1, 0, 0, 9, 9) == [(1, 6), (9, 2)]
