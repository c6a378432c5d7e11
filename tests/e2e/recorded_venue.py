"""A venue's simulator recorded by the command line from its first event to its last."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tapeworks as tw
from tapeworks.simulators.base import Simulator

WAIT_S_MAX = 60.0
KEYS = {"MASSIVE_API_KEY": "any", "APCA_API_KEY_ID": "any", "APCA_API_SECRET_KEY": "any"}


def parts_of(oracle: dict[str, Any], mark: str) -> dict[str, dict[str, Any]]:
    """The oracle of each source: `coins` has the symbols that hold `mark`, `stocks` all others."""
    return {
        source: oracle
        | {
            name: {key: of for key, of in oracle[name].items() if (mark in key) == is_pair}
            for name in ("delivered", "symbols")
        }
        for source, is_pair in (("stocks", False), ("coins", True))
    }


def record(simulator: Simulator, folder: Path, settings: str, streams: int) -> dict[str, Any]:
    """Lets `tape up` record all `streams` of `settings`; returns the oracle."""
    (folder / "tapeworks.toml").write_text(settings.format(url=simulator.ws_url))
    process = subprocess.Popen(
        [sys.executable, "-c", "from tapeworks.cli import main; main()", "up"],
        cwd=folder,
        env={**os.environ, **KEYS},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        wait_until(lambda: simulator.state()["streams"] == streams, process)
        simulator.start()
        wait_until(lambda: is_over(simulator), process)
        time.sleep(1.0)
        oracle = simulator.oracle()
    finally:
        process.send_signal(signal.SIGINT)
        shown = process.communicate(timeout=60)[0]
    assert process.returncode == 0, shown
    return oracle


def wait_until(is_so: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Waits until something is so, while the recorder runs."""
    until = time.monotonic() + WAIT_S_MAX
    while not is_so():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < until
        time.sleep(0.1)


def is_over(simulator: Simulator) -> bool:
    """Whether all was sent, and taken."""
    state = simulator.state()
    return bool(state["done"] and not state["unread_bytes"])


def check_cut(data: Path, oracle: dict[str, Any], malformed: int) -> None:
    """Checks that what a cut lost is in the ledger, and `malformed` frames are dead letters."""
    with tw.open(data) as lake:
        gaps = lake.gaps().to_pylist()
        dead = lake.dead_letters().to_pylist()
    assert len(dead) == malformed
    cut = [loss for loss in oracle["losses"] if loss["cause"] == "unheard"]
    assert cut
    for loss in cut:
        told = oracle["delivered"][loss["stream"]]
        wanted = (told["symbol"], told["channel"], "disconnect")
        found = [(gap["symbol"], gap["channel"], gap["cause"]) for gap in gaps]
        assert wanted in found, (loss, gaps)
