"""`tape record itch` beside `tape simulate itch`: lines that lose packets, and one lake."""

import json
import socket

import pytest
from tests.arrivals import told, wait
from tests.campaigns.itch_kills import run
from tests.feeds.test_itch_live import free_ports
from tests.simulators.test_itch_simulator import assert_books_are

import tapeworks as tw


def connections(tape) -> int:
    return len(told(tape.folder / "data", "itch").get("connections", []))


@pytest.mark.slow
def test_two_lines_that_lose_packets_are_recorded_whole(tape):
    # Both lose some, repeat and reorder; a server has what both lost. Every order is there.
    a, b, server = (f"127.0.0.1:{port}" for port in free_ports(3))
    recorder = tape.start(
        *("record", "itch", "--set", f"lines={a},{b}", "--set", f"requests={server}"),
        *("--set", "hold_ms=60000"),
    )
    data, oracle = tape.folder / "data", tape.folder / "oracle.json"
    wait(lambda: connections(tape) == 3, recorder)
    simulator = tape.start(
        *("simulate", "itch", "--line", a, "--line", b, "--requests", server, "--rate", 0),
        *("--messages", 6000, "--stocks", 4, "--packet-bytes", 300, "--seed", 5),
        *("--drop", "0.05,0.1", "--duplicate", 0.02, "--reorder", 0.05, "--oracle", oracle),
    )
    _, errors = simulator.communicate(timeout=60)
    assert simulator.returncode == 0, errors
    report = json.loads(oracle.read_text())
    sent = sum(line["sent"] for line in report["lines"]) + report["answered"]
    assert report["answered"] > 0
    wait(lambda: told(data, "itch").get("frames", 0) >= sent, recorder)
    out, errors = tape.interrupt(recorder, timeout_s=60)
    assert recorder.returncode == 0, out + errors
    assert "1 of 1 streams received data" in " ".join((out + errors).split())
    lake = tw.open(data)
    assert lake.gaps().to_pylist() == []
    assert_books_are(lake, report["orders"])


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_recorder_that_is_killed_goes_on_without_a_loss(tmp_path):
    # SIGKILL in the midst: what was sent meanwhile is asked for, and replay gives the same bytes.
    assert run(3, tmp_path).complaints == []


@pytest.mark.slow
def test_a_port_that_is_taken_is_told(tape):
    # By whatever holds it: nothing is recorded, and the exit code says so.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        line = f"127.0.0.1:{taken.getsockname()[1]}"
        process = tape.start("record", "itch", "--set", f"lines={line}")
        wait(lambda: "in use" in told(tape.folder / "data", "itch").get("trouble", ""), process)
        out, errors = tape.interrupt(process, timeout_s=60)
    assert process.returncode == 3
    assert "the port is in use" in " ".join((out + errors).split())


def test_what_makes_no_sense_is_refused(tape):
    assert "itch takes no symbols" in tape.refuse(
        "record", "itch", "AAPL", "--set", "lines=127.0.0.1:1", code=2
    )
    assert tape.refuse("record", "itch", code=2).startswith("tape: [feeds.itch]: lines: expected")
    assert "expected a venue of alpaca, binance, itch" in tape.refuse("simulate", "nosuch", code=2)
    wrong = tape.refuse("simulate", "itch", "--line", "somewhere:1", code=2)
    assert wrong.startswith("tape simulate itch: --line: expected an IPv4 address")


def test_its_settings_are_checked(tape):
    (tape.folder / "tapeworks.toml").write_text('[feeds.itch]\nlines = ["239.255.1.1:26400"]\n')
    assert "feed itch: all symbols, 1 streams" in tape.run("config", "check")
