"""`tape down`: stops what runs on a data folder: supervisors, single workers, imports, jobs."""

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from tapeworks.cli.command import Application, option
from tapeworks.cli.options import DataOption, data_folder
from tapeworks.errors import ConfigError, TapeworksError
from tapeworks.register import Supervised, supervisors

LOOK_S = 0.1

app = Application()

EXAMPLES = """\
Examples:
  tape down
  tape down --data /mnt/fast/data

It stops as Ctrl-C does: what was recorded is derived and stored. It exits with 0 once nothing runs,
and with 1 if something still does.
"""


@app.command(epilog=EXAMPLES)
def down(
    data: DataOption = None,
    seconds: Annotated[
        float, option("--seconds", least=0.1, help="How long to wait for it to stop.")
    ] = 60.0,
) -> None:
    """Stop everything that runs on a data folder, wait for it, and list what was stopped."""
    folder = data_folder(data)
    if data is not None and not folder.is_dir():
        raise ConfigError(f"expected a data folder: --data FOLDER, got {folder}, which is none")
    found = _by_process(supervisors(folder))
    if not found:
        print(f"nothing runs on {folder}")
        return
    deadline = time.monotonic() + seconds
    problems = [problem for one in found for problem in _stop(folder, one, deadline)]
    if problems:
        raise TapeworksError("; ".join(problems))


def _by_process(found: Iterable[Supervised]) -> list[Supervised]:
    """Returns each process once, with all that it does: a job may do more than one thing."""
    merged: dict[int, Supervised] = {}
    for one in found:
        before = merged.get(one.pid)
        known = [] if before is None else before.workers
        merged[one.pid] = replace(one, told={**one.told, "workers": known + one.workers})
    return list(merged.values())


def _stop(folder: Path, one: Supervised, deadline: float) -> Iterator[str]:
    """Stops one supervisor; yields what did not go as it should."""
    if not one.is_here:
        yield f"process {one.pid} runs in another container or on another machine: stop it there"
        return
    names = ", ".join(str(worker.get("name")) for worker in one.workers) or "no worker"
    try:
        asked = _ask_to_stop(folder, one.pid)
    except PermissionError:
        yield f"process {one.pid} is another user's, and still runs: {names}; stop it as that user"
        return
    if not asked:
        print(f"process {one.pid} has ended by itself")
        return
    while _runs(folder, one.pid):
        if time.monotonic() >= deadline:
            yield f"process {one.pid} was asked to stop and still runs: {names}; ask again, or wait"
            return
        time.sleep(LOOK_S)
    print(f"stopped process {one.pid}: {names}")


def _ask_to_stop(folder: Path, pid: int) -> bool:
    """Asks the process to stop; returns whether it was there."""
    if not hasattr(os, "pidfd_open"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
            os.kill(pid, signal.SIGCONT)
        return True
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        # Looked at again, now that the number can no longer become another process's.
        if not _runs(folder, pid):
            return False
        signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        # One that somebody has stopped could not act on it.
        signal.pidfd_send_signal(descriptor, signal.SIGCONT)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def _runs(folder: Path, pid: int) -> bool:
    return any(one.pid == pid for one in supervisors(folder))
