"""Any process is stopped with SIGSTOP for a random time: hangs are noticed, and nothing is lost.

A worker that is stopped for longer than its supervisor waits is killed and started again; one that
is woken before goes on; a supervisor that is stopped itself goes on where it was. At the end
nothing runs, and all is as in the campaign of kills.
"""

import contextlib
import os
import random
import signal
import time
from pathlib import Path

from tests.campaigns.base import Outcome
from tests.campaigns.pipelines import Pipeline, check_end, pipeline

HANG_S = 2.0
# So long after the limit a hang must have been noticed, on a busy machine.
NOTICED_S_MAX = 60.0


def run(seed: int, folder: Path) -> Outcome:
    """Runs it once."""
    chance, outcome = random.Random(seed), Outcome()
    with pipeline(seed, folder, f"hang_ms = {HANG_S * 1000:.0f}\n") as one:
        one.start()
        outcome.expect(one.grows(), "nothing is recorded")
        for _ in range(chance.randint(2, 4)):
            one.wait_until(lambda: False, chance.uniform(0, 1.0))
            choice = chance.random()
            if choice < 0.3:
                _stop_supervisor(one, chance, outcome)
            elif choice < 0.7:
                _stop_worker_shortly(one, chance, outcome)
            else:
                _stop_worker_for_good(one, chance, outcome)
        if chance.random() < 0.3:
            # The end meets a process that is stopped.
            _send(chance.choice(one.workers() or [0]), signal.SIGSTOP)
        check_end(one, outcome)
    return outcome


def _stop_supervisor(one: Pipeline, chance: random.Random, outcome: Outcome) -> None:
    assert one.process is not None
    _send(one.process.pid, signal.SIGSTOP)
    time.sleep(chance.uniform(0, 3 * HANG_S))
    _send(one.process.pid, signal.SIGCONT)
    outcome.figures["supervisors stopped"] += 1


def _stop_worker_shortly(one: Pipeline, chance: random.Random, outcome: Outcome) -> None:
    workers = one.workers()
    if not workers:
        return
    pid = chance.choice(workers)
    _send(pid, signal.SIGSTOP)
    time.sleep(chance.uniform(0, 1.5 * HANG_S))
    _send(pid, signal.SIGCONT)
    outcome.figures["workers stopped"] += 1


def _stop_worker_for_good(one: Pipeline, chance: random.Random, outcome: Outcome) -> None:
    workers = one.workers()
    if not workers:
        return
    pid = chance.choice(workers)
    if not _send(pid, signal.SIGSTOP):
        return
    noticed = one.wait_until(lambda: pid not in one.running(), HANG_S + NOTICED_S_MAX)
    outcome.expect(noticed, f"worker {pid} hangs, and nobody noticed")
    outcome.figures["hangs"] += 1


def _send(pid: int, number: int) -> bool:
    if pid <= 0:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
        return True
    return False
