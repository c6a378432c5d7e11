"""The job of Flink in processes of its own that are killed: kept running, and watched."""

import random
import signal
import subprocess
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

from tapeworks.errors import TapeworksError
from tapeworks.flink.cluster import LocalJob, newest_checkpoint
from tapeworks.settings import Config

LEVELS = (1, 2, 4)
SIZES = (1, 7, 4_096)
POLL_S = 0.05
PAUSE_S_MAX = 4.0
AT_ONCE = 0.3
"""Of the kills, those that do not wait until the job goes on after the one before."""
STANDS_S_MAX = 300.0
JOB_MANAGER, TASK_MANAGER = "JobManager", "TaskManager"


class AttackedJob:
    """The job on a JobManager and a TaskManager, either of which is killed.

    A thread keeps both running, so that whoever kills waits for nothing. Where the JobManager was
    killed, the job goes on with another parallelism and another size of batches.
    """

    def __init__(self, config: Config, chance: random.Random) -> None:
        self._chance = chance
        self._config = config
        self._checkpoints = Path(config.flink.checkpoints)
        self._job = LocalJob(config, task_managers=1)
        self._thread = threading.Thread(target=self._keep_running, name="job")
        self._stopping = threading.Event()
        self._due = 0.0
        self._before: Path | None = None
        self._waits = True
        self._moved = time.monotonic()
        self.failure = ""
        """Why it does not run any more."""
        self.killed = Counter[str]()
        self.levels, self.sizes = {config.flink.parallelism}, {config.flink.batch_items}

    def start(self) -> None:
        """Starts both."""
        self._thread.start()

    def _keep_running(self) -> None:
        try:
            while not self._stopping.wait(POLL_S):
                self._job.start()
                if (told := self._job.failure()) is not None:
                    self.failure = told
                    return
        except TapeworksError as error:
            self.failure = str(error)

    def is_due(self) -> bool:
        """Whether it may be killed: it made a checkpoint since, or need not, and a while is over.

        Raises:
            SystemExit: it does not get on.
        """
        newest, now = newest_checkpoint(self._checkpoints), time.monotonic()
        if newest != self._before:
            if self._waits:
                self._due = now + self._chance.uniform(0, PAUSE_S_MAX)
            self._before, self._waits, self._moved = newest, False, now
        if self.failure:
            raise SystemExit(f"the job is over: {self.failure}")
        if now - self._moved > STANDS_S_MAX:
            raise SystemExit(f"the job made no checkpoint in {STANDS_S_MAX:.0f} s")
        return not self._waits and now >= self._due

    def kill(self) -> bool:
        """Kills one of the two at once; returns whether it was there."""
        name = self._chance.choice((JOB_MANAGER, TASK_MANAGER))
        process: subprocess.Popen[bytes] | None = self._job.process
        if name == TASK_MANAGER:
            [process] = self._job.task_managers
        if process is None or process.poll() is not None:
            return False
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.killed[name] += 1
        if name == JOB_MANAGER:
            level, size = self._chance.choice(LEVELS), self._chance.choice(SIZES)
            self._job.change(replace(self._config.flink, parallelism=level, batch_items=size))
            self.levels.add(level)
            self.sizes.add(size)
        self._waits = self._chance.random() >= AT_ONCE
        self._due = time.monotonic() + self._chance.uniform(0, PAUSE_S_MAX)
        return True

    def close(self) -> None:
        """Ends both."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._job.close()
