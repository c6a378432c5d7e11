"""The recorder against a venue in another process, over real sockets, with faults called up."""

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import tapeworks as tw
from tapeworks._core import TapeReader
from tapeworks.cli.settings import load
from tapeworks.errors import VenueError
from tapeworks.exits import EXIT_INCOMPLETE
from tapeworks.feeds import opening
from tapeworks.feeds import session as recorder
from tapeworks.feeds.binance import BinanceConfig
from tapeworks.feeds.outcome import Outcome
from tapeworks.jobs.catch_up import catch_up

SYMBOLS = ("BTCUSDT", "ETHUSDT")
VENUE = Path(__file__).with_name("venue.py")
TRADE, LEVEL, MARKER = 1, 3, 8
SNAPSHOT_BEGIN, GAP, CONNECTED, DISCONNECTED, END_OF_SESSION = 1, 3, 4, 5, 7
SEQUENCE, SILENCE, DISCONNECT = 1, 2, 3


class Venue:
    """The venue's process, and its faults."""

    def __init__(self, port: int) -> None:
        self.port = port

    def fault(self, **query: object) -> dict[str, Any]:
        """Calls up a fault; gives the venue's log."""
        text = "&".join(f"{name}={value}" for name, value in query.items())
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/fault?{text}") as answer:
            log: dict[str, Any] = json.load(answer)
            return log

    def config(self, **fields: Any) -> BinanceConfig:
        """Returns the settings that record this venue."""
        settings = {
            "symbols": SYMBOLS,
            "ws_url": f"ws://127.0.0.1:{self.port}",
            "rest_url": f"http://127.0.0.1:{self.port}",
        }
        return BinanceConfig(**(settings | fields))


@pytest.fixture
def venue() -> Iterator[Venue]:
    child = subprocess.Popen(
        [sys.executable, str(VENUE)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin
    assert child.stdout
    yield Venue(int(child.stdout.readline()))
    child.stdin.close()
    child.wait(10)
    child.stdout.close()


def records(data: Path) -> list[tuple[int, bytes]]:
    """Returns kind and bytes of all records on the normalised tape."""
    reader = TapeReader(data / "tape" / "binance-spot" / "market-data.normalized")
    found = []
    while (batch := reader.read(100_000)) is not None:
        view = bytes(batch)
        at = 0
        while at < len(view):
            length = view[at] * 8
            found.append((view[at + 1], view[at : at + length]))
            at += length
    return found


def markers(data: Path, code: int) -> list[bytes]:
    """Returns the markers of that code, but for the recorder's own start."""
    found = [record for kind, record in records(data) if kind == MARKER and record[32] == code]
    return [record for record in found if record[40:42] != b"\xff\xff"]


def trade_ids(data: Path) -> dict[int, list[int]]:
    """Returns the trade ids of each instrument, in the order of the tape."""
    ids: dict[int, list[int]] = {}
    for kind, record in records(data):
        if kind == TRADE:
            instrument = int.from_bytes(record[4:8], "little")
            ids.setdefault(instrument, []).append(int.from_bytes(record[24:32], "little"))
    return ids


def assert_no_trade_is_missing(data: Path) -> None:
    ids = trade_ids(data)
    assert len(ids) == len(SYMBOLS)
    for numbers in ids.values():
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


Scenario = Callable[[dict[str, Any]], Awaitable[None]]


def play(config: BinanceConfig, data: Path, scenario: Scenario) -> dict[str, Any]:
    """Records while `scenario` runs, which sees the newest status; returns the last."""

    async def main() -> dict[str, Any]:
        stop = asyncio.Event()
        newest: dict[str, Any] = {}

        def report(status: Mapping[str, Any]) -> None:
            newest.update(status)
            if disk := newest.get("slow disk"):
                disk.wait(20)

        task = asyncio.create_task(recorder.record(config, data, stop, report=report))
        script = asyncio.create_task(_scripted(scenario, newest))
        await asyncio.wait({task, script}, return_when=asyncio.FIRST_COMPLETED)
        stop.set()
        try:
            return await task
        finally:
            script.cancel()
            with suppress(asyncio.CancelledError):
                await script

    return asyncio.run(main())


async def _scripted(scenario: Scenario, newest: dict[str, Any]) -> None:
    await until(lambda: newest.get("frames", 0) > 100 and not newest["unsynchronised"])
    await scenario(newest)


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Waits for `condition`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        await asyncio.sleep(0.05)


def test_everything_sent_is_recorded_and_the_end_is_noted(venue, tmp_path):
    # A quiet day: every trade of both symbols, one snapshot each, no gap before the end, pongs
    # that echo the ping.
    async def scenario(newest):
        await asyncio.sleep(1.5)
        assert newest["gaps"] == 0

    status = play(venue.config(), tmp_path, scenario)
    assert_no_trade_is_missing(tmp_path)
    log = venue.fault()
    assert log["connects"] == 1
    assert log["pongs"] >= 1
    assert status["dead_letters"] == 0
    assert len(markers(tmp_path, SNAPSHOT_BEGIN)) == len(SYMBOLS)
    assert len(markers(tmp_path, END_OF_SESSION)) == 1
    assert status["raw_end"] == status["raw_durable"]


def test_bad_symbol_is_named_and_the_rest_recorded(venue, tmp_path):
    # The venue refuses the whole batch for one stream; that one fails, by name.
    async def scenario(newest):
        await until(lambda: [c["failed"] for c in newest["connections"]] == [["btcgone@trade"]])

    config = venue.config(symbols=(*SYMBOLS, "BTCGONE"), channels=("trade",))
    play(config, tmp_path, scenario)
    assert_no_trade_is_missing(tmp_path)


def test_unknown_symbol_stops_before_starting(venue, tmp_path):
    # The venue answers 400 to the definitions: it refuses, and no early retry mends it.
    venue.fault(refuse=400, after=0)

    async def scenario(newest):
        await asyncio.sleep(60)

    with pytest.raises(VenueError, match="symbols"):
        play(venue.config(), tmp_path, scenario)
    assert venue.fault()["connects"] == 0


def test_search_for_unknown_symbols_has_one_time(venue, tmp_path, monkeypatch):
    # The venue refuses every half, slowly: which symbols it knows is not asked of all 64 one by
    # one before the recorder says that it is refused.
    monkeypatch.setattr(opening, "OPENING_S_MAX", 1.0)
    for _ in range(200):
        venue.fault(refuse=400, after=0)
    venue.fault(hang=0.3)

    async def scenario(newest):
        await asyncio.sleep(60)

    symbols = tuple(f"S{number}USDT" for number in range(64))
    with pytest.raises(VenueError, match="symbols"):
        play(venue.config(symbols=symbols), tmp_path, scenario)
    assert 1 < len(venue.fault()["requests"]) < 8


def test_definitions_that_are_late_hold_up_no_recording(venue, tmp_path, monkeypatch):
    # No answer comes in the time for all requests: the streams are recorded, and what was asked
    # is asked again behind them.
    monkeypatch.setattr(opening, "OPENING_S_MAX", 0.5)
    monkeypatch.setattr(opening, "OPENING_S", 300.0)
    venue.fault(hang=1.5)

    async def scenario(newest):
        await until(lambda: len(asked()) > 1)

    def asked():
        return [path for _, path in venue.fault()["requests"] if "exchangeInfo" in path]

    play(venue.config(), tmp_path, scenario)
    assert_no_trade_is_missing(tmp_path)


def test_cut_is_a_gap_and_the_books_are_fetched_anew(venue, tmp_path):
    # An abrupt reset: what was sent meanwhile is missing and in the ledger, both books get a new
    # snapshot, and the recorder goes on.
    async def scenario(newest):
        venue.fault(cut="all")
        await until(lambda: newest["reconnects"] == 1 and not newest["unsynchronised"])
        await asyncio.sleep(1.5)

    status = play(venue.config(), tmp_path, scenario)
    assert venue.fault()["connects"] == 2
    assert status["reconnects"] == 1
    assert len(markers(tmp_path, CONNECTED)) == 2
    assert len(markers(tmp_path, DISCONNECTED)) == 2
    assert len(markers(tmp_path, SNAPSHOT_BEGIN)) >= 2 * len(SYMBOLS)
    missing = sum(
        numbers[-1] - numbers[0] + 1 - len(numbers) for numbers in trade_ids(tmp_path).values()
    )
    # Channel 1 is trades; the count of a sequence gap lies at byte 36.
    ledger = sum(
        int.from_bytes(gap[36:40], "little")
        for gap in markers(tmp_path, GAP)
        if gap[33] == SEQUENCE and gap[35] == 1
    )
    assert missing == ledger > 0


@pytest.mark.slow
def test_planned_rotation_loses_nothing(venue, tmp_path):
    # Connections live three seconds here instead of a day. Every swap overlaps, so no trade is
    # missing and none is there twice, and no book breaks.
    async def scenario(newest):
        await until(lambda: newest["rotations"] >= 2, 30)

    status = play(venue.config(rotation_s=3.0), tmp_path, scenario)
    assert status["rotations"] >= 2
    assert status["reconnects"] == 0
    assert_no_trade_is_missing(tmp_path)
    assert len(markers(tmp_path, SNAPSHOT_BEGIN)) == len(SYMBOLS)
    assert not [gap for gap in markers(tmp_path, GAP) if gap[33] == SEQUENCE]


def test_announced_shutdown_is_a_rotation(venue, tmp_path):
    # The venue tells that it goes down: the successor is open before the old one ends.
    async def scenario(newest):
        venue.fault(shutdown="all")
        await until(lambda: newest["rotations"] == 1)
        await asyncio.sleep(0.5)

    status = play(venue.config(), tmp_path, scenario)
    assert status["reconnects"] == 0
    assert venue.fault()["connects"] == 2
    assert_no_trade_is_missing(tmp_path)


def test_two_lines_survive_the_cut_of_one(venue, tmp_path):
    # Every stream twice: the cut of one socket loses nothing, and every copy is dropped.
    async def scenario(newest):
        await until(lambda: len(newest["connections"]) == 2)
        await asyncio.sleep(0.5)
        venue.fault(cut="first")
        await until(lambda: newest["reconnects"] == 1)
        await until(lambda: len(newest["connections"]) == 2)
        await asyncio.sleep(1.0)

    status = play(venue.config(connections=2), tmp_path, scenario)
    assert status["duplicates"] > 100
    assert_no_trade_is_missing(tmp_path)
    assert not [gap for gap in markers(tmp_path, GAP) if gap[33] == SEQUENCE]


def test_line_that_is_down_at_the_end_is_an_open_gap_of_its_streams(venue, tmp_path):
    # Two lines of one symbol each. One is cut and never let in again; the other records on.
    async def scenario(newest: dict[str, Any]) -> None:
        await until(lambda: len(newest["connections"]) == 2)
        await until(lambda: all(len(ids) > 50 for ids in trade_ids(tmp_path).values()))
        venue.fault(closed_to_new=1, cut="first")
        await until(lambda: newest["outcome"]["down"] != [])
        count = newest["frames"]
        await until(lambda: newest["frames"] > count + 50)

    status = play(venue.config(channels=("trade",), streams_max=1), tmp_path, scenario)
    outcome = status["outcome"]
    assert outcome["verdict"] == "part"
    [down] = outcome["down"]
    found = Outcome(**{name: value for name, value in outcome.items() if name != "verdict"})
    assert found.exit_code == EXIT_INCOMPLETE
    assert f"connection down at the end, an open gap: {down}" in "\n".join(found.lines())
    lost, kept = sorted(SYMBOLS, key=lambda symbol: not down.startswith(symbol.lower()))
    catch_up(replace(load(None), data=tmp_path, feeds={"binance-spot": None}))
    lake = tw.open(tmp_path)
    [gap] = lake.gaps().to_pylist()
    assert (gap["symbol"], gap["channel"]) == (lost, "trade")
    assert (gap["cause"], gap["state"]) == ("disconnect", "open")
    # It begins with the last trade that came.
    assert gap["ts_from"] == lake.trades(lost).to_pylist()[-1]["ts_event"]
    [recorded] = lake.coverage().recorded
    start = recorded.ranges[0][0] + 10**9
    after = lake.coverage(lost, gap["ts_detected"], recorded.ranges[-1][1])
    assert "gap" in [row["finding"] for row in after.to_pylist()]
    assert not lake.coverage(lost, start, recorded.ranges[-1][1]).is_complete
    assert lake.gaps(kept).to_pylist() == []


def test_lost_book_event_resynchronises_that_book_alone(venue, tmp_path):
    # One depth event of one symbol is never sent: one more snapshot, of that symbol.
    async def scenario(newest):
        before = len(venue.fault()["requests"])
        venue.fault(skip_depth=1)
        await until(lambda: len(venue.fault()["requests"]) > before)
        await until(lambda: not newest["unsynchronised"])
        await asyncio.sleep(1.5)

    play(venue.config(), tmp_path, scenario)
    depth = [path for _, path in venue.fault()["requests"] if "depth" in path]
    assert len(depth) == len(SYMBOLS) + 1
    lost = [gap for gap in markers(tmp_path, GAP) if gap[33] == SEQUENCE and gap[35] == 4]
    assert [int.from_bytes(gap[36:40], "little") for gap in lost] == [1]


def test_stale_snapshot_is_asked_for_again(venue, tmp_path):
    # The first snapshot is older than the buffered events, as in fast markets.
    venue.fault(stale=60)

    async def scenario(newest):
        await asyncio.sleep(0.2)

    play(venue.config(symbols=("BTCUSDT",)), tmp_path, scenario)
    depth = [path for _, path in venue.fault()["requests"] if "depth" in path]
    assert len(depth) >= 2


@pytest.mark.slow
def test_book_that_never_updates_is_fetched_all_the_same(venue, tmp_path):
    # Depth is silent from the start while trades flow. Each book is asked for once, after some
    # seconds; the first update, whose ids have moved on, shows whether it continues it.
    venue.fault(quiet_depth=1)

    async def scenario(newest):
        await until(lambda: len(markers(tmp_path, SNAPSHOT_BEGIN)) == len(SYMBOLS))
        await asyncio.sleep(3)
        assert len(markers(tmp_path, SNAPSHOT_BEGIN)) == len(SYMBOLS)
        assert not newest["unsynchronised"]
        venue.fault(quiet_depth=0)
        await until(lambda: len(markers(tmp_path, SNAPSHOT_BEGIN)) == 2 * len(SYMBOLS))
        await until(lambda: not newest["unsynchronised"])

    play(venue.config(channels=("trade", "depth")), tmp_path, scenario)


def test_stop_does_not_wait_for_a_venue_that_does_not_answer(venue, tmp_path):
    # The definitions are asked for first, and never come. SIGTERM after a second ends it at once.
    venue.fault(hang=60)
    config = venue.config()

    async def main():
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(1, stop.set)
        started = time.monotonic()
        await recorder.record(config, tmp_path, stop)
        return time.monotonic() - started

    assert asyncio.run(main()) < 4
    assert len(markers(tmp_path, END_OF_SESSION)) == 1


@pytest.mark.parametrize("status", [429, 418])
def test_refusal_stops_all_requests_until_its_time(venue, tmp_path, status):
    # Retry-After of two seconds on the very first request: nothing at all is asked meanwhile,
    # while the streams are recorded as ever.
    venue.fault(refuse=status, after=2)

    async def scenario(newest):
        await asyncio.sleep(0.2)

    play(venue.config(), tmp_path, scenario)
    times = [moment for moment, _ in venue.fault()["requests"]]
    assert len(times) >= 4
    assert times[1] - times[0] >= 2.0
    assert_no_trade_is_missing(tmp_path)


def test_silent_connection_is_noted_and_replaced(venue, tmp_path):
    # The socket stays open and says nothing. After the limit there is a gap of cause silence, and
    # a new connection.
    async def scenario(newest):
        venue.fault(mute="all")
        await until(lambda: newest["reconnects"] == 1)
        await asyncio.sleep(1.5)

    play(venue.config(idle_timeout_s=2.0), tmp_path, scenario)
    assert [gap for gap in markers(tmp_path, GAP) if gap[33] == SILENCE]
    assert venue.fault()["connects"] == 2


def test_a_slow_disk_of_states_hides_no_silence(venue, tmp_path):
    async def scenario(newest):
        newest["slow disk"] = threading.Event()
        venue.fault(mute="all")
        await until(lambda: venue.fault()["connects"] == 2)
        newest.pop("slow disk").set()

    play(venue.config(idle_timeout_s=2.0), tmp_path, scenario)
    assert [gap for gap in markers(tmp_path, GAP) if gap[33] == SILENCE]


def start_worker(venue: Venue, data: Path) -> "subprocess.Popen[bytes]":
    """Starts a recorder as a process, and returns when it records."""
    config = venue.config()
    fields = {"symbols": SYMBOLS, "ws_url": config.ws_url, "rest_url": config.rest_url}
    status = data / "state" / "binance-spot" / "recorder.json"
    status.unlink(missing_ok=True)
    worker = subprocess.Popen([sys.executable, "-c", WORKER, str(data), json.dumps(fields)])
    deadline = time.monotonic() + 20
    while not (status.exists() and json.loads(status.read_text())["frames"] > 100):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return worker


WORKER = """
import json, sys
from tapeworks.feeds.binance import BinanceConfig
from tapeworks.feeds.session import run_worker
fields = json.loads(sys.argv[2])
fields["symbols"] = tuple(fields["symbols"])
sys.exit(run_worker(BinanceConfig(**fields), sys.argv[1]))
"""


def test_worker_ends_in_good_order_on_sigterm(venue, tmp_path):
    # The signal of a supervisor: the end is noted, all is on disk, the exit code is 0.
    worker = start_worker(venue, tmp_path)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(10) == 0
    assert_no_trade_is_missing(tmp_path)
    assert len(markers(tmp_path, END_OF_SESSION)) == 1
    last = json.loads((tmp_path / "state" / "binance-spot" / "recorder.json").read_text())
    assert last["raw_end"] == last["raw_durable"]


def test_killed_recorder_goes_on_and_its_absence_is_in_the_ledger(venue, tmp_path):
    # SIGKILL, and a new process on the same tapes: no trade is there twice, and each one that is
    # missing is counted by a gap.
    for _ in range(2):
        worker = start_worker(venue, tmp_path)
        worker.kill()
        worker.wait(10)
    worker = start_worker(venue, tmp_path)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(10) == 0
    gaps = markers(tmp_path, GAP)
    for instrument, numbers in trade_ids(tmp_path).items():
        assert numbers == sorted(set(numbers))
        missing = numbers[-1] - numbers[0] + 1 - len(numbers)
        own = [gap for gap in gaps if int.from_bytes(gap[4:8], "little") == instrument]
        counts = [
            int.from_bytes(gap[36:40], "little")
            for gap in own
            if gap[33] == SEQUENCE and gap[35] == 1
        ]
        assert len(counts) == 2
        assert sum(counts) == missing
        # Quotes have no sequence without holes: their outages are told by the kills.
        assert len([gap for gap in own if gap[33] == DISCONNECT and gap[35] == 3]) >= 2
