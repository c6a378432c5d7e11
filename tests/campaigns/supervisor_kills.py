"""Supervisors and workers are killed with SIGKILL at random instants: nothing is lost or left.

`tape up` is started again after each kill of the supervisor, at once or later, so that it meets the
workers of the dead one, which stop by themselves. At the end nothing runs, every frame that was
seen published is there, each record is once in the lake, and each trade is there or in the ledger.
"""

import contextlib
import os
import random
import signal
import time
from pathlib import Path

from tests.campaigns.base import Outcome
from tests.campaigns.pipelines import Pipeline, check_end, pipeline


def run(seed: int, folder: Path) -> Outcome:
    """Runs it once."""
    chance, outcome = random.Random(seed), Outcome()
    with pipeline(seed, folder) as one:
        one.start()
        outcome.expect(one.grows(), "nothing is recorded")
        for _ in range(chance.randint(2, 5)):
            one.wait_until(lambda: False, chance.uniform(0, 2.0))
            if chance.random() < 0.6:
                _kill_supervisor(one, chance, outcome)
            else:
                _kill_worker(one, chance, outcome)
        outcome.expect(one.grows(), "nothing is recorded any more after a kill")
        check_end(one, outcome)
    return outcome


def _kill_supervisor(one: Pipeline, chance: random.Random, outcome: Outcome) -> None:
    assert one.process is not None
    one.process.kill()
    one.process.wait()
    outcome.figures["supervisors killed"] += 1
    if chance.random() < 0.5:
        time.sleep(chance.uniform(0, 3.0))
    one.start()


def _kill_worker(one: Pipeline, chance: random.Random, outcome: Outcome) -> None:
    if workers := one.workers():
        with contextlib.suppress(ProcessLookupError):
            os.kill(chance.choice(workers), signal.SIGKILL)
            outcome.figures["workers killed"] += 1
