"""What an exchange sent, and what a recorder says that it has: tests wait until both are the same.

An exchange that is done has given all to the other side's kernel; the recorder reads it a moment
later, or under load much later. The counts tell, where a pause would guess.
"""

import contextlib
import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tapeworks.simulators.base import Simulator

ARRIVAL_S_MAX = 60.0
# Faults that send a frame beside those that count; others send one later.
FRAMES_MORE = ("malformed", "duplicate")


def frames_sent(simulator: Simulator, is_drained: bool = False) -> int:
    """Returns how many frames of its streams the exchange sent on all its connections.

    With `is_drained`, on those alone that gave all to the other side: a cut may take what is on its
    way.
    """
    return sum(
        sum(stream["count"] for stream in link["streams"].values())
        + sum(link["extra"].get(kind, 0) for kind in FRAMES_MORE)
        for link in simulator.oracle()["connections"]
        if link["drained"] or not is_drained
    )


def told(data: Path, source: str) -> dict[str, Any]:
    """Returns what the recorder of a source says of itself; nothing before it does."""
    with contextlib.suppress(OSError, ValueError):
        found: dict[str, Any] = json.loads((data / "state" / source / "recorder.json").read_text())
        return found
    return {}


def records_all(data: Path, pid: int | None = None, source: str = "binance-spot") -> bool:
    """Whether the recorder of a source, or `pid` alone, says that it records all it was asked."""
    state = told(data, source)
    is_meant = bool(state) and pid in (None, state.get("pid"))
    return is_meant and state.get("outcome", {}).get("verdict") == "all"


def wait(what: Callable[[], bool], process: "subprocess.Popen[str]", seconds: float = 60) -> None:
    """Waits until something is so, while a process goes on."""
    deadline = time.monotonic() + seconds
    while not what():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def wait_until_recorded(simulator: Simulator, data: Path, source: str) -> None:
    """Waits until the recorder has all books of an exchange that is done, and all its frames.

    Where a cut took some, it has the others, and no more of them in two reports one after another.
    """
    sent, least = frames_sent(simulator), frames_sent(simulator, is_drained=True)
    until, reports = time.monotonic() + ARRIVAL_S_MAX, {}
    while True:
        state = told(data, source)
        outcome = state.get("outcome", {})
        frames = outcome.get("frames", 0)
        reports.setdefault(frames, set()).add(state.get("ts"))
        is_all = frames == sent or (frames >= least and len(reports[frames]) > 1)
        if is_all and outcome["verdict"] == "all":
            return
        assert time.monotonic() < until, f"expected all of {least} to {sent} frames, got {outcome}"
        time.sleep(0.05)
