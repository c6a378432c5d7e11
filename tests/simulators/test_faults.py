"""What the oracle says of each fault, against what a reader at the other end received."""

import asyncio
import itertools
import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from picows import WSError, WSListener, WSMsgType, ws_connect

from tapeworks.simulators.alpaca.server import AlpacaServer
from tapeworks.simulators.binance.ledger import expected_gaps, outages
from tapeworks.simulators.faults import KINDS, SEEDED_KINDS, seeded_faults
from tapeworks.simulators.massive.server import MassiveServer
from tapeworks.simulators.server import Server

STREAMS = ("btcusdt@trade", "btcusdt@aggTrade", "btcusdt@bookTicker", "btcusdt@depth@100ms")
RUN = ("--symbols", "BTCUSDT", "--rate", 300, "--speed", 8, "--duration", 16, "--wait")


class Reader(WSListener):
    """Keeps every frame, and connects again when it is cut off."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.frames: list[dict[str, Any]] = []
        self.bad = 0
        self.connects = 0
        self.stopping = False
        self.transport: Any = None

    def on_ws_frame(self, transport: Any, frame: Any) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()
        if frame.msg_type != WSMsgType.TEXT:
            return
        try:
            self.frames.append(json.loads(frame.get_payload_as_bytes()))
        except json.JSONDecodeError:
            self.bad += 1

    async def run(self) -> None:
        while not self.stopping:
            try:
                self.transport, _ = await ws_connect(lambda: self, self.url)
                self.connects += 1
                await self.transport.wait_disconnected()
            except (OSError, WSError):
                await asyncio.sleep(0.02)

    def ids(self, stream: str) -> list[int]:
        key = {"trade": "t", "aggTrade": "a"}.get(stream.split("@")[1], "u")
        return [frame["data"][key] for frame in self.frames if frame["stream"] == stream]


async def listen(simulator: Any, readers: Sequence[Reader]) -> dict[str, Any]:
    """Lets readers listen until all was sent; returns the oracle's report."""
    tasks = [asyncio.create_task(reader.run()) for reader in readers]
    while True:
        state = await asyncio.to_thread(simulator.state)
        if state["done"] and not state["unread_bytes"]:
            break
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.3)
    report: dict[str, Any] = await asyncio.to_thread(simulator.oracle)
    for reader in readers:
        reader.stopping = True
        reader.transport.disconnect()
    await asyncio.gather(*tasks)
    return report


def run(start: Any, tmp_path: Path, faults: Any, copies: int = 1) -> tuple[Any, list[Reader]]:
    path = tmp_path / "faults.json"
    path.write_text(json.dumps(faults))
    simulator = start(*RUN, "--faults", path)
    url = f"{simulator.ws_url}/stream?streams={'/'.join(STREAMS)}"
    readers = [Reader(url) for _ in range(copies)]
    return asyncio.run(listen(simulator, readers)), readers


def holes(ids: Sequence[int]) -> list[tuple[int, int]]:
    """First and last of each range that is missing between ids."""
    seen = sorted(set(ids))
    return [(a + 1, b - 1) for a, b in itertools.pairwise(seen) if b > a + 1]


def gaps(report: Any, channel: str) -> list[tuple[int, int]]:
    return [(g.first, g.last) for g in expected_gaps(report) if g.channel == channel]


def test_without_faults_everything_arrives(start, tmp_path: Path):
    report, (reader,) = run(start, tmp_path, [])
    assert report["losses"] == []
    for stream in STREAMS:
        ids = reader.ids(stream)
        sent = report["connections"][0]["streams"][stream]
        assert (len(ids), ids[0]) == (sent["count"], ids[0])
        assert ids[-1] == sent["last"]
    assert holes(reader.ids("btcusdt@trade")) == []
    assert report["frames"] == len(reader.frames)


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "drop", "at_s": 3, "stream": "*@trade", "count": 3},
        {"kind": "mute", "at_s": 3, "stream": "*@trade", "duration_s": 1.5},
        {"kind": "malformed", "at_s": 3, "stream": "*@trade", "count": 2},
        {"kind": "gap", "at_s": 3, "stream": "btcusdt@trade", "count": 4},
        {"kind": "cut", "at_s": 3},
        {"kind": "close", "at_s": 3},
    ],
    ids=lambda fault: fault["kind"],
)
def test_what_was_lost_is_what_the_oracle_says(start, tmp_path: Path, fault: Any):
    # The ids that the reader lacks are the expected gaps, neither more nor less.
    report, (reader,) = run(start, tmp_path, [fault])
    missing = holes(reader.ids("btcusdt@trade"))
    assert missing == gaps(report, "trade")
    assert len(missing) == 1 or fault["kind"] in ("cut", "close")
    assert holes(reader.ids("btcusdt@aggTrade")) == gaps(report, "agg_trade")
    assert all(link["drained"] for link in report["connections"])
    bad = sum(link["extra"].get("malformed", 0) for link in report["connections"])
    assert reader.bad == bad == (2 if fault["kind"] == "malformed" else 0)
    if fault["kind"] in ("cut", "close"):
        assert reader.connects == 2
        assert {outage.stream for outage in outages(report) if outage.end_ns} == set(STREAMS)


@pytest.mark.slow
def test_depth_loss_is_the_ids_between_its_neighbours(start, tmp_path: Path):
    # Five depth events withheld: the next one names the first id that is there again.
    fault = {"kind": "gap", "at_s": 3, "stream": "*@depth*", "count": 5}
    report, (reader,) = run(start, tmp_path, [fault])
    events = [f["data"] for f in reader.frames if f["stream"] == "btcusdt@depth@100ms"]
    missing = [
        (one["u"] + 1, other["U"] - 1)
        for one, other in itertools.pairwise(events)
        if other["U"] > one["u"] + 1
    ]
    assert missing == gaps(report, "depth")
    assert len(missing) == 1
    assert report["losses"][0]["count"] == 5


@pytest.mark.parametrize(
    ("kind", "more"),
    [("duplicate", {"count": 3}), ("reorder", {"count": 1}), ("delay", {"duration_s": 1.0})],
)
def test_what_is_only_disturbed_is_not_lost(start, tmp_path: Path, kind: str, more: Any):
    report, (reader,) = run(
        start, tmp_path, [{"kind": kind, "at_s": 3, "stream": "*@trade", **more}]
    )
    ids = reader.ids("btcusdt@trade")
    assert holes(ids) == gaps(report, "trade") == []
    extra = report["connections"][0]["extra"][kind]
    if kind == "duplicate":
        assert len(ids) - len(set(ids)) == extra == 3
    elif kind == "reorder":
        assert sum(b < a for a, b in itertools.pairwise(ids)) == extra == 1
    else:
        assert ids == sorted(ids)
        assert extra > 1


def test_fault_of_one_connection_loses_nothing_to_two(start, tmp_path: Path):
    # Frames are dropped on connection 1 only, which is then cut; the other has them all.
    faults = [
        {"kind": "drop", "at_s": 3, "stream": "*@trade", "count": 50, "connection": 1},
        {"kind": "cut", "at_s": 6, "connection": 1},
    ]
    report, readers = run(start, tmp_path, faults, copies=2)
    assert expected_gaps(report) == []
    assert sum(len(holes(reader.ids("btcusdt@trade"))) > 0 for reader in readers) == 1
    both = set(readers[0].ids("btcusdt@trade")) | set(readers[1].ids("btcusdt@trade"))
    assert holes(sorted(both)) == []


def test_slow_network_delays_and_loses_nothing(start, tmp_path: Path):
    fault = {"kind": "slow", "at_s": 3, "duration_s": 4, "amount": 20_000}
    report, (reader,) = run(start, tmp_path, [fault])
    assert report["losses"] == []
    assert report["frames"] == len(reader.frames)


def test_shutdown_is_announced(start, tmp_path: Path):
    fault = {"kind": "shutdown", "at_s": 3, "duration_s": 0.3}
    _, (reader,) = run(start, tmp_path, [fault])
    told = [frame["data"] for frame in reader.frames if frame["stream"] == "!serverShutdown"]
    assert [event["e"] for event in told] == ["serverShutdown"]
    assert reader.connects == 2


def book(simulator: Any) -> tuple[int, dict[str, Any]]:
    url = f"{simulator.rest_url}/api/v3/depth?symbol=BTCUSDT&limit=5"
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_books_on_request_are_stale_late_or_refused(start):
    simulator = start("--symbols", "BTCUSDT", "--rate", 300)
    simulator.fault("stale_snapshot", duration_s=1.0)
    first, second = book(simulator)[1], book(simulator)[1]
    assert first["lastUpdateId"] == second["lastUpdateId"]
    while book(simulator)[1]["lastUpdateId"] == first["lastUpdateId"]:
        pass
    simulator.fault("late_snapshot", duration_s=0.5)
    before = simulator.state()["now_ns"]
    late = book(simulator)[1]
    assert simulator.state()["now_ns"] - before > 400_000_000
    assert late["lastUpdateId"] < book(simulator)[1]["lastUpdateId"]
    simulator.fault("rest_500")
    assert book(simulator)[0] == 500
    simulator.fault("rest_429", count=2)
    assert [book(simulator)[0] for _ in range(3)] == [429, 429, 200]


def test_plan_of_a_seed_is_always_the_same():
    # And each kind but the refusals comes up somewhere.
    plans = [seeded_faults(seed, 6, 30.0, STREAMS) for seed in range(100)]
    assert plans == [seeded_faults(seed, 6, 30.0, STREAMS) for seed in range(100)]
    kinds = {fault.kind for plan in plans for fault in plan}
    assert kinds == {kind for kind in KINDS if not kind.startswith("rest_")} - {"shutdown"}
    assert all(0 <= fault.at_s <= 22.5 for plan in plans for fault in plan)


@pytest.mark.parametrize("server", [AlpacaServer, MassiveServer])
def test_plan_of_a_seed_has_only_what_can_go_wrong_at_the_venue(server: type[Server]):
    plans = [seeded_faults(seed, 6, 30.0, STREAMS, server.fault_kinds) for seed in range(100)]
    kinds = {fault.kind for plan in plans for fault in plan}
    assert kinds == set(server.fault_kinds) & set(SEEDED_KINDS)
    assert "cut" in kinds


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_seeded_run_is_explained_in_full(start, seed: int):
    # Whatever a seed brings: ids that the reader lacks are the expected ones.
    simulator = start(*RUN, "--seed", seed, "--faults", "seed:6")
    reader = Reader(f"{simulator.ws_url}/stream?streams={'/'.join(STREAMS)}")
    report = asyncio.run(listen(simulator, [reader]))
    assert len(report["faults"]) >= 6
    for stream, channel in (("btcusdt@trade", "trade"), ("btcusdt@aggTrade", "agg_trade")):
        assert holes(reader.ids(stream)) == gaps(report, channel), report["faults"]
