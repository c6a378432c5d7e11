"""One worker's process as its supervisor sees it: its start, its heartbeat, its last words."""

import contextlib
import os
import pickle
import re
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from tapeworks import heartbeat, stopping
from tapeworks.exits import EXIT_CONFIG, EXIT_DAMAGED, EXIT_REFUSED
from tapeworks.printable import one_line
from tapeworks.worker import Order

# Time, level and logger before a message.
LOG_HEAD = re.compile(r"^\S+ [A-Z]+ [\w.]+: ")
LAST_WORDS_BYTES = 4096
COMMAND = "from tapeworks.worker import run_child; run_child()"
# So many failures one after the other are a loop.
LOOP_FAILURES = 3
STATES = {EXIT_CONFIG: "misconfigured", EXIT_REFUSED: "refused", EXIT_DAMAGED: "damaged"}


@dataclass(frozen=True)
class Worker:
    """One child process: what it runs, and for which source or sink."""

    kind: str
    member: str

    @property
    def name(self) -> str:
        """The name in messages, in log files and in the list of processes."""
        return f"{self.kind}-{self.member}"


@dataclass
class Child:
    """A worker's process, and what became of it so far."""

    worker: Worker
    log: Path
    log_bytes_max: int
    process: "subprocess.Popen[bytes] | None" = None
    started: float = 0.0
    failures: int = 0
    """How often it failed, one time after the other."""
    restarts: int = 0
    restart_at: float = 0.0
    delay_ms: int = 0
    served: bool = False
    """Whether it ever ran for `healthy_ms`."""
    code: int = 0
    """The exit code of its last end."""
    last: str = ""
    """What it said last when it failed."""
    beat_at: float = 0.0
    """When it gave its last sign of life."""
    killed: str = ""
    """Why it was killed, from then on until its process has ended."""
    killed_at: float = 0.0
    _heartbeat: int = -1
    _ticks: int | None = None
    _busy_at: float = 0.0

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self.process is not None and self.process.poll() is None

    @property
    def state(self) -> str:
        """One word for what it does."""
        if self.alive:
            return "hanging" if self.killed else "running"
        failing = "failing" if self.failures >= LOOP_FAILURES else "restarting"
        return STATES.get(self.code, failing)

    @property
    def needs_operator(self) -> bool:
        """Whether no restart would help."""
        is_damaged = self.code == EXIT_DAMAGED and self.worker.kind == "recorder"
        return (self.code == EXIT_CONFIG or is_damaged) and not self.alive

    def spawn(self, order: Order) -> None:
        """Starts the process, and tells it what to run.

        Raises:
            OSError: it cannot be started.
        """
        ours, other_end = os.pipe()
        try:
            os.set_blocking(ours, False)
            with self._open_log() as output, stopping.blocked():
                process = subprocess.Popen(
                    [sys.executable, "-c", COMMAND, self.worker.name],
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=output,
                    pass_fds=(other_end,),
                    # Ctrl-C goes to the whole group of the terminal: only the supervisor may act
                    # on it, or the order of stopping would be lost.
                    start_new_session=True,
                )
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(other_end)
        self.process, self._heartbeat, self._ticks = process, ours, None
        self.started = self.beat_at = self._busy_at = time.monotonic()
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            pickle.dump(replace(order, heartbeat=other_end), process.stdin)
            process.stdin.flush()

    def check_heartbeat(self, now: float, patience_s: float) -> tuple[float, float]:
        """Returns for how long it gave no sign of life, and for how long it was idle as well.

        Whether it is busy is looked at once it is silent for `patience_s`.
        """
        assert self.process is not None
        if heartbeat.received(self._heartbeat):
            self.beat_at = self._busy_at = now
        elif now - self.beat_at >= patience_s:
            ticks = heartbeat.main_thread_ticks(self.process.pid)
            if ticks is not None and ticks != self._ticks:
                self._ticks, self._busy_at = ticks, now
        return now - self.beat_at, now - self._busy_at

    def kill(self, now: float, why: str) -> None:
        """Kills the process; it ends later, or not at all while a device holds it."""
        assert self.process is not None
        self.process.kill()
        self.killed, self.killed_at = why, now

    def close(self) -> None:
        """Lets go of a process, which has ended or will not."""
        if self.process is not None and self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()
        if self._heartbeat >= 0:
            os.close(self._heartbeat)
        self.process, self._heartbeat, self.killed = None, -1, ""

    def last_line(self) -> str:
        """Returns what it wrote last."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - LAST_WORDS_BYTES))
                lines = file.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return ""
        # A worker that fails says why. Where nothing stands, it could not be written.
        return (
            one_line(LOG_HEAD.sub("", lines[-1])) if lines else f"nothing in {self.log}: disk full?"
        )

    def _open_log(self) -> IO[bytes]:
        if self.log.exists() and self.log.stat().st_size > self.log_bytes_max:
            self.log.replace(self.log.with_suffix(".log.1"))
        return self.log.open("ab")
