"""SIGTERM to a worker that is still loading: it is kept until the worker can end in good order.

A worker takes a second to load, more on a busy machine. Ended by the signal itself in that time, it
could not say what it achieved. Its supervisor starts it with the signal blocked; it unblocks it as
its first act, so that no process that it starts itself inherits the block.
"""

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType

STOP = {signal.SIGTERM}
_asked: list[int] = []


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
