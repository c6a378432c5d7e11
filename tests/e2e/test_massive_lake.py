"""Massive from its simulator to the lake: by the command line, and through faults."""

from pathlib import Path

import pytest
from tests.e2e.recorded_venue import check_cut, parts_of, record

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
pytestmark = pytest.mark.slow


def test_every_event_is_stored_once(start, tmp_path: Path):
    simulator = start(*RUN, "--duration", 3, venue="massive")
    oracle = record(simulator, tmp_path, SETTINGS, STREAMS)
    proof = prove(tmp_path / "data", parts_of(oracle, "-"))
    assert len(proof.streams) == STREAMS
    assert all(stream.sent > 10 for stream in proof.streams), proof
    assert proof.holds, proof
    assert proof.gaps == 0


def test_what_a_cut_lost_is_in_the_ledger_and_nothing_is_lost_beside(start, tmp_path: Path):
    # Both connections are cut: what was sent until then and after it is stored, once, and what
    # nobody was given lies within a gap of its stream.
    simulator = start(*RUN, "--duration", 8, venue="massive")
    simulator.fault("cut", at_s=3)
    simulator.fault("malformed", at_s=6, stream="Q.*", count=3)
    oracle = record(simulator, tmp_path, SETTINGS, STREAMS)
    proof = prove(tmp_path / "data", parts_of(oracle, "-"))
    assert proof.holds, proof
    check_cut(tmp_path / "data", oracle, malformed=3)
