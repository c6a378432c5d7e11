"""Being asked to stop: `Stop`, which main loops look at, and SIGTERM to a worker that still loads.

A worker takes a second to load, more on a busy machine. Ended by the signal itself in that time, it
could not say what it achieved. So the signal is kept until the worker can end in good order: its
supervisor starts it with the signal blocked; it unblocks it as its first act, so that no process
that it starts itself inherits the block.
"""

import contextlib
import queue
import signal
from collections.abc import Callable, Iterator
from types import FrameType

from tapeworks.heartbeat import BEAT_S, beat

STOP = {signal.SIGTERM}
_asked: list[int] = []


class Stop:
    """Whether to stop. To look at it in the main thread is a sign of life of its loop.

    A handler of signals runs in the main thread, between any two of its steps. So `set` takes no
    lock that `wait` holds, as that of `threading.Event` does: the two would wait for each other for
    ever. Of `queue.SimpleQueue` Python promises that `put` may come while another call has begun.
    """

    def __init__(self) -> None:
        self._is_asked = False
        self._wakes: queue.SimpleQueue[None] = queue.SimpleQueue()

    def __bool__(self) -> bool:
        beat()
        return self._is_asked

    def set(self, *_: object) -> None:
        """Asks to stop. Fit to be a signal handler."""
        self._is_asked = True
        self._wakes.put(None)

    def wait(self, timeout_s: float) -> bool:
        """Waits until asked to stop, at most `timeout_s`; returns whether it was asked."""
        beat()
        while timeout_s > BEAT_S and not self._wait(BEAT_S):
            timeout_s -= BEAT_S
            beat()
        return self._wait(timeout_s)

    def _wait(self, timeout_s: float) -> bool:
        if not self._is_asked:
            with contextlib.suppress(queue.Empty):
                self._wakes.get(timeout=max(0.0, timeout_s))
                # Whoever else waits is woken as well.
                self._wakes.put(None)
        return self._is_asked


@contextlib.contextmanager
def blocked() -> Iterator[None]:
    """Starts the processes of this block with SIGTERM blocked, until they call `note`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def note() -> None:
    """Notes SIGTERM from now on, and one that came before, for `on_stop`."""
    signal.signal(signal.SIGTERM, lambda number, frame: _asked.append(number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP)


def is_asked() -> bool:
    """Whether SIGTERM was noted: who sets a handler later asks this then."""
    return bool(_asked)


def on_stop(handler: Callable[[int, FrameType | None], object]) -> None:
    """Calls `handler` on SIGTERM from now on, and for one that was noted."""
    signal.signal(signal.SIGTERM, handler)
    if is_asked():
        handler(signal.SIGTERM, None)
