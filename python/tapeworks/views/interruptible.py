"""Long work of native code that Ctrl-C ends.

Python sees a signal between two of its own instructions, and native code that runs for minutes has
none. So the work is done by another thread while the main one waits, which a signal ends.
"""

import threading
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")


def run_interruptibly(work: Callable[[], Value], interrupt: Callable[[], object]) -> Value:
    """Returns what `work` returns, or raises what it raises.

    On a KeyboardInterrupt (or whatever else a signal's handler raises) `interrupt` is called, which
    must make `work` end, and the exception goes on once it has. A second one does not wait.
    """
    if threading.current_thread() is not threading.main_thread():
        # Signals are the main thread's.
        return work()
    values: list[Value] = []
    errors: list[BaseException] = []
    # An event, and not `join`: of a thread whose `join` was interrupted, Python believes that it
    # has ended.
    ended = threading.Event()

    def run() -> None:
        try:
            values.append(work())
        except BaseException as error:
            errors.append(error)
        ended.set()

    # A daemon: where the work does not end, the process can.
    thread = threading.Thread(target=run, name="query", daemon=True)
    thread.start()
    try:
        ended.wait()
    except BaseException:
        interrupt()
        ended.wait()
        raise
    if errors:
        raise errors[0]
    return values[0]
