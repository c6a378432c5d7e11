"""Signs of life of a worker: its main loop calls `beat`, and its supervisor sees them come.

A worker that is deadlocked, stopped, or waits for something that never comes gives none; that its
process is alive says nothing. Without a supervisor `beat` does nothing.
"""

import contextlib
import os
import time

BEAT_S = 0.5


class _Pulse:
    """Where the signs of life of this process go."""

    descriptor = -1
    last_s = 0.0


def connect(descriptor: int) -> None:
    """Sends the signs of life of this process to the pipe `descriptor`."""
    os.set_blocking(descriptor, False)
    _Pulse.descriptor = descriptor
    _Pulse.last_s = 0.0


def beat() -> None:
    """Gives a sign of life, unless the last one was just before. Cheap, and never waits."""
    now = time.monotonic()
    if _Pulse.descriptor < 0 or now - _Pulse.last_s < BEAT_S:
        return
    _Pulse.last_s = now
    # A supervisor that is gone, or that does not read, is no concern of the worker's.
    with contextlib.suppress(OSError):
        os.write(_Pulse.descriptor, b".")


def received(descriptor: int) -> bool:
    """Takes all signs of life that have come; returns whether there were any."""
    found = False
    while True:
        try:
            if not os.read(descriptor, 4096):
                return found
        except BlockingIOError:
            return found
        found = True


def main_thread_ticks(pid: int) -> int | None:
    """Returns the processor time that the main thread of `pid` has used; none if it is not known.

    One that waits for a disk counts as busy: to kill it would not help.
    """
    try:
        with open(f"/proc/{pid}/task/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    waits_for_disk = fields[0] == "D"
    return time.monotonic_ns() if waits_for_disk else int(fields[11]) + int(fields[12])
