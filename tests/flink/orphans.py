"""What is left of `tape flink run` where that is killed: nothing."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.flink.savepoints import until
from tests.services.base import children_of

START = "from tapeworks.cli import main; main()"
SETTINGS = """\
[feeds.binance-spot]
symbols = ["BTCUSDT"]

[flink]
source = "tape"
sink = "none"
"""
PROCESSES = 2
END_S_MAX = 30.0


def orphans(folder: Path) -> list[str]:
    """Kills `tape flink run` while its JobManager and TaskManager start; returns what is wrong."""
    folder.mkdir()
    (folder / "tapeworks.toml").write_text(SETTINGS)
    words = [sys.executable, "-c", START, "flink", "run", "--task-managers", "1"]
    with (folder / "log").open("wb") as log:
        command = subprocess.Popen(words, cwd=folder, stdin=subprocess.DEVNULL, stderr=log)

    def started() -> list[int] | None:
        found = children_of(command.pid)
        return found if len(found) >= PROCESSES else None

    children: list[int] = until("the processes of `tape flink run`", started)
    command.send_signal(signal.SIGKILL)
    command.wait()
    deadline = time.monotonic() + END_S_MAX
    while left := [pid for pid in children if is_alive(pid)]:
        if time.monotonic() > deadline:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            return [f"{len(left)} processes outlive the `tape flink run` that started them"]
        time.sleep(0.1)
    print(f"`tape flink run` killed: none of {len(children)} processes outlives it", flush=True)
    return []


def is_alive(pid: int) -> bool:
    """Returns whether a process runs, and is not merely kept for its parent to see."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
