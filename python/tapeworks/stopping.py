"""Being asked to stop: `Stop`, which main loops look at, and SIGTERM to a worker that still loads.

A worker takes a second to load, more on a busy machine. Ended by the signal itself in that time, it
could not say what it achieved. So the signal is kept until the worker can end in good order: its
supervisor starts it with the signal blocked; it unblocks it as its first act, so that no process
that it starts itself inherits the block.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from tapeworks.heartbeat import BEAT_S, beat

STOP = {signal.SIGTERM}
_asked: list[int] = []


class Stop:
    """Whether to stop. To look at it is a sign of life of the main loop that does so."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def __bool__(self) -> bool:
        beat()
        return self._event.is_set()

    def set(self, *_: object) -> None:
        """Asks to stop. Fit to be a signal handler."""
        self._event.set()

    def wait(self, timeout_s: float) -> bool:
        """Waits until asked to stop, at most `timeout_s`; returns whether it was asked."""
        beat()
        while timeout_s > BEAT_S and not self._event.wait(BEAT_S):
            timeout_s -= BEAT_S
            beat()
        return self._event.wait(timeout_s)


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
