"""Starts and stops real servers by hand: scripts/services install|start|stop|env NAME...

What runs is noted below the cache: `stop` ends exactly those processes, by any later command.
"""

import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from . import SERVICES
from .base import STOP_S_MAX, ServiceUnavailable, cache
from .flink_build import FlinkBuild
from .iceberg_spark import IcebergSparkJar

# What is installed: servers, and what no server is of.
NO_SERVERS = (FlinkBuild, IcebergSparkJar)
INSTALLED: dict[str, Any] = {**SERVICES, **{each.NAME: each for each in NO_SERVERS}}
ACTIONS = ("install", "start", "stop", "env")
USAGE = f"usage: scripts/services install|start|stop|env NAME... of {', '.join(SERVICES)}"


def started_at(pid: int) -> str | None:
    """Returns when a process started, which tells it from another of the same number."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return None


def note(name: str) -> Path:
    """Returns the file that says what runs."""
    return cache() / "run" / f"{name}.json"


def running(name: str) -> dict[str, object] | None:
    """Returns what was noted of a server, if it still runs."""
    try:
        found: dict[str, object] = json.loads(note(name).read_text())
    except FileNotFoundError:
        return None
    is_alive = started_at(int(str(found["pid"]))) == found["started"]
    return found if is_alive else None


def start(name: str) -> None:
    """Starts a server, unless it runs."""
    if running(name) is not None:
        return
    service = SERVICES[name]()
    service.start()
    path = note(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "pid": service.pid,
        "started": started_at(service.pid),
        "folder": str(service.folder),
        "environment": service.environment(),
        "stop": int(service.STOP),
    }
    path.write_text(json.dumps(content))


def stop(name: str) -> None:
    """Stops a server that `start` started, and removes what it stored."""
    found = running(name)
    if found is not None:
        pid = int(str(found["pid"]))
        os.kill(pid, int(str(found["stop"])))
        deadline = time.monotonic() + STOP_S_MAX
        while running(name) is not None:
            if time.monotonic() > deadline:
                os.killpg(pid, signal.SIGKILL)
            time.sleep(0.05)
    with contextlib.suppress(FileNotFoundError):
        service = SERVICES[name]()
        service.folder = Path(json.loads(note(name).read_text())["folder"])
        service.remove()
        note(name).unlink()


def main(words: list[str]) -> int:
    """Does what is asked; prints the variables of what runs."""
    action, names = (words[0], words[1:]) if words else ("", [])
    if (
        action not in ("install", "start", "stop", "env")
        or not set(names) <= set(INSTALLED if action == "install" else SERVICES)
        or not names
    ):
        print(USAGE, file=sys.stderr)
        return 2
    for name in names:
        try:
            if action == "install":
                INSTALLED[name]().install()
                continue
            if action == "start":
                start(name)
            elif action == "stop":
                stop(name)
        except ServiceUnavailable as error:
            print(error, file=sys.stderr)
            return 1
        found = running(name)
        environment = found["environment"] if found is not None else {}
        assert isinstance(environment, dict)
        for variable, value in environment.items():
            print(f"export {variable}={value!r}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
