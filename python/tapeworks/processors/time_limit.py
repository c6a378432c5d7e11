"""How a call of the user's code may end, and how long it may take."""

import contextlib
import math
import signal
import threading
import time
from collections.abc import Iterator

from tapeworks.heartbeat import beat

# Seconds that a call of a processor in Python may take.
CALL_S_MAX = 20.0
# It is looked at this often, also behind the end of its time: code may catch what ended it.
LOOK_S = 1.0


class CallTimeoutError(TimeoutError):
    """A call did not return in time."""


class CallError(Exception):
    """A call raised what is no `Exception`: it exited, or a library in Rust panicked."""


@contextlib.contextmanager
def ended_after(seconds: float) -> Iterator[None]:
    """Raises in what takes longer: in Python code of the main thread, as derivation has it.

    Until then the worker gives signs of life. A call of C that never returns cannot be ended: the
    supervisor kills the worker for it. Whatever it raises but Ctrl-C is an `Exception`.

    Raises:
        CallTimeoutError: it did not return within `seconds`.
        CallError: it raised what is no `Exception`, which is the cause.
    """
    try:
        with _ended_after(seconds):
            yield
    except (Exception, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise CallError from error


def told_by(error: BaseException) -> str:
    """Returns the kind of an error and what it says, if it can say it."""
    error = error.__cause__ or error if isinstance(error, CallError) else error
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return type(error).__name__


@contextlib.contextmanager
def _ended_after(seconds: float) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread() or math.isinf(seconds):
        yield
        return
    deadline, is_over = time.monotonic() + seconds, False

    def look(*_: object) -> None:
        if time.monotonic() >= deadline and not is_over:
            raise CallTimeoutError(f"it did not return within {seconds:g} s")
        beat()

    before = signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, min(seconds, LOOK_S), LOOK_S)
    try:
        try:
            yield
        finally:
            is_over = True
    finally:
        # Also where the signal came right before it was over: the next one is a second away.
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
