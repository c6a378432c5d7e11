"""A recorder of ITCH lines is killed with SIGKILL in the midst: no message is lost or doubled.

Two lines lose, repeat and reorder packets at random, and a request server has what both lost. The
recorder is killed at random instants and started again by its supervisor; what was sent meanwhile
it asks for. At the end every open order is that of the market, no gap is in the ledger, numbers
only rise, and the raw tape normalised again gives the same bytes.
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.arrivals import told
from tests.campaigns.base import Outcome
from tests.feeds.test_itch_live import assert_replay_is_the_same, free_ports, sequences
from tests.simulators.test_itch_simulator import assert_books_are

import tapeworks as tw

TAPE = (sys.executable, "-c", "from tapeworks.cli import main; main()")
MESSAGES, RATE = 40_000, 8_000
WAIT_S, QUIET_S = 90.0, 4.0


def run(seed: int, folder: Path) -> Outcome:
    """Runs it once."""
    chance, outcome = random.Random(seed), Outcome()
    a, b, server = (f"127.0.0.1:{port}" for port in free_ports(3))
    data, oracle = folder / "data", folder / "oracle.json"
    with open(folder / "log", "w") as log:

        def start(*words: object) -> subprocess.Popen[bytes]:
            texts = [str(word) for word in words]
            return subprocess.Popen([*TAPE, *texts], cwd=folder, stdout=log, stderr=log)

        recorder = start(
            *("record", "itch", "--set", f"lines={a},{b}", "--set", f"requests={server}"),
            *("--set", "hold_ms=60000"),
        )
        simulator = None
        try:
            connected = _wait(lambda: len(told(data, "itch").get("connections", [])) == 3)
            outcome.expect(connected, "the recorder does not start")
            drop = f"{chance.uniform(0, 0.05)},{chance.uniform(0, 0.05)}"
            simulator = start(
                *("simulate", "itch", "--line", a, "--line", b, "--requests", server),
                *("--messages", MESSAGES, "--rate", RATE, "--stocks", 4, "--seed", seed + 1),
                *("--drop", drop, "--duplicate", 0.02, "--reorder", 0.05, "--end-s", 30),
                *("--oracle", oracle),
            )
            for _ in range(chance.randint(1, 3)):
                time.sleep(chance.uniform(0.2, 2.0))
                _kill(data, outcome)
            outcome.expect(simulator.wait(WAIT_S) == 0, "the simulator failed")
            outcome.expect(_wait(lambda: _is_quiet(data)), "the recorder does not come to rest")
            recorder.send_signal(signal.SIGINT)
            recorder.wait(WAIT_S)
        finally:
            for process in filter(None, (recorder, simulator)):
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                process.wait()
    _compare(data, json.loads(oracle.read_text()), outcome)
    return outcome


def _wait(what: Callable[[], bool]) -> bool:
    until = time.monotonic() + WAIT_S
    while not what():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def _kill(data: Path, outcome: Outcome) -> None:
    pid = told(data, "itch").get("pid", 0)
    with contextlib.suppress(ProcessLookupError):
        if pid:
            os.kill(pid, signal.SIGKILL)
            outcome.figures["kills"] += 1
    _wait(lambda: told(data, "itch").get("pid", 0) != pid)


def _is_quiet(data: Path) -> bool:
    """Whether the recorder received nothing for some seconds."""
    before = told(data, "itch").get("frames")
    time.sleep(QUIET_S)
    return told(data, "itch").get("frames") == before


def _compare(data: Path, report: dict[str, object], outcome: Outcome) -> None:
    lake = tw.open(data)
    gaps = lake.gaps().to_pylist()
    outcome.expect(not gaps, f"expected no gap, got {gaps[:3]}")
    numbers = sequences(data)
    outcome.expect(numbers == sorted(set(numbers)), "numbers do not only rise")
    for check in (
        lambda: assert_books_are(lake, report["orders"]),  # type: ignore[arg-type]
        lambda: assert_replay_is_the_same(data),
    ):
        try:
            check()
        except AssertionError as error:
            outcome.complaints.append(str(error)[:500])
    outcome.figures["messages"] += MESSAGES
