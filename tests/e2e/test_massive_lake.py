"""Massive from its simulator to the lake: by the command line, and through faults."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tapeworks as tw
from tapeworks.simulators.base import Simulator
from tapeworks.simulators.proof import prove

SETTINGS = """\
[feeds.stocks]
kind = "massive"
symbols = ["AAPL", "MSFT"]
ws_url = "{url}"

[feeds.coins]
kind = "massive"
product = "crypto"
symbols = ["BTC-USD"]
ws_url = "{url}"

[sinks.parquet]
flush_seconds = 1
"""
STREAMS = 6
RUN = (
    *("--symbols", "AAPL", "MSFT", "BTC-USD"),
    *("--seed", 5, "--rate", 100, "--levels", 50, "--wait", "--settle", 60),
)


def part_of(oracle: dict[str, Any], is_pair: bool) -> dict[str, Any]:
    """The oracle of one feed: that of crypto has the pairs."""
    return oracle | {
        name: {key: of for key, of in oracle[name].items() if ("-" in key) == is_pair}
        for name in ("delivered", "symbols")
    }


def wait_until(is_so: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 60
    while not is_so():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < until
        time.sleep(0.1)


def record(simulator: Simulator, folder: Path) -> dict[str, Any]:
    """Lets `tape up` record both feeds from the first event to the last; returns the oracle."""
    (folder / "tapeworks.toml").write_text(SETTINGS.format(url=simulator.ws_url))
    process = subprocess.Popen(
        [sys.executable, "-c", "from tapeworks.cli import main; main()", "up"],
        cwd=folder,
        env={**os.environ, "MASSIVE_API_KEY": "any"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        wait_until(lambda: simulator.state()["streams"] == STREAMS, process)
        simulator.start()
        wait_until(lambda: is_over(simulator), process)
        time.sleep(1.0)
        oracle = simulator.oracle()
    finally:
        process.send_signal(signal.SIGINT)
        shown = process.communicate(timeout=60)[0]
    assert process.returncode == 0, shown
    return oracle


def is_over(simulator: Simulator) -> bool:
    state = simulator.state()
    return bool(state["done"] and not state["unread_bytes"])


@pytest.mark.slow
def test_every_event_is_stored_once(start, tmp_path: Path):
    simulator = start(*RUN, "--duration", 3, venue="massive")
    oracle = record(simulator, tmp_path)
    oracles = {"stocks": part_of(oracle, False), "coins": part_of(oracle, True)}
    proof = prove(tmp_path / "data", oracles)
    assert len(proof.streams) == STREAMS
    assert all(stream.sent > 10 for stream in proof.streams), proof
    assert proof.holds, proof
    assert proof.gaps == 0


@pytest.mark.slow
def test_what_a_cut_lost_is_in_the_ledger_and_nothing_is_lost_beside(start, tmp_path: Path):
    # Both connections are cut: what was sent until then and after it is stored, once, and what
    # nobody was given lies within a gap of its stream.
    simulator = start(*RUN, "--duration", 8, venue="massive")
    simulator.fault("cut", at_s=3)
    simulator.fault("malformed", at_s=6, stream="Q.*", count=3)
    oracle = record(simulator, tmp_path)
    oracles = {"stocks": part_of(oracle, False), "coins": part_of(oracle, True)}
    proof = prove(tmp_path / "data", oracles)
    assert proof.holds, proof
    with tw.open(tmp_path / "data") as lake:
        gaps = lake.gaps().to_pylist()
        dead = lake.dead_letters().to_pylist()
    assert len(dead) == 3
    unheard = [loss for loss in oracle["losses"] if loss["cause"] == "unheard"]
    assert unheard
    for loss in unheard:
        channel, _, symbol = loss["stream"].partition(".")
        channel = {"T": "trade", "Q": "quote", "XT": "trade", "XQ": "quote"}[channel]
        found = [gap for gap in gaps if (gap["channel"], gap["cause"]) == (channel, "disconnect")]
        assert any(str(gap["symbol"]).startswith(symbol) for gap in found), (loss, gaps)
