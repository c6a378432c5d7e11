"""Being asked to stop, at any instant: whoever waits ends, whatever it was about to do."""

import subprocess
import sys
import threading
import time

from tapeworks.stopping import Stop

ASKED_AT_ANY_INSTANT = """
import random, signal, sys
from tapeworks.stopping import Stop

seed, times = int(sys.argv[1]), int(sys.argv[2])
chance = random.Random(seed)
for _ in range(times):
    stop = Stop()
    signal.signal(signal.SIGALRM, stop.set)
    signal.setitimer(signal.ITIMER_REAL, chance.uniform(20e-6, 400e-6))
    while not stop.wait(0.0):
        pass
"""


def test_a_signal_at_any_instant_ends_the_loop():
    # The handler runs in the middle of `wait`, which must not wait for the handler.
    seed = time.time_ns() % 1_000_000
    print("seed", seed)
    command = [sys.executable, "-c", ASKED_AT_ANY_INSTANT, str(seed), "3000"]
    subprocess.run(command, check=True, timeout=60)


def test_all_that_wait_are_woken_and_none_before():
    stop = Stop()
    assert not stop
    assert not stop.wait(0.01)
    found: list[bool] = []
    waiting = [threading.Thread(target=lambda: found.append(stop.wait(60))) for _ in range(3)]
    for thread in waiting:
        thread.start()
    stop.set()
    for thread in waiting:
        thread.join(10)
    assert found == [True, True, True]
    assert stop
    assert stop.wait(0)
