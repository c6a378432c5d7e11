"""SIGTERM to a process that is still loading: it waits until the process can end in good order.

A worker takes a second to load, more on a busy machine. Ended by the signal itself in that time, it
could not say what it achieved.
"""

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType

STOP = {signal.SIGTERM}


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Lets processes that are started in this block keep SIGTERM waiting, until they `admit` it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def admit() -> None:
    """Lets SIGTERM through, one that came before as well; its handler is in place."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP)


def on_stop(handler: Callable[[int, FrameType | None], object]) -> None:
    """Calls `handler` on SIGTERM from now on, and for one that came before."""
    signal.signal(signal.SIGTERM, handler)
    admit()
