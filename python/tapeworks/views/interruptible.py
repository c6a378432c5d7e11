"""Long work of native code that Ctrl-C ends.

Python sees a signal between two of its own instructions, and native code that runs for minutes has
none. So the work is done by another thread while the main one waits, which a signal ends.
"""

import threading
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")
AGAIN_S = 0.1


def run_interruptibly(work: Callable[[], Value], interrupt: Callable[[], object]) -> Value:
    """Returns what `work` returns, or raises what it raises.

    On a KeyboardInterrupt (or whatever else a signal's handler raises) `interrupt` is called, which
    must make `work` end, again and again until it has, and the exception goes on. A second one does
    not wait.
    """
    if threading.current_thread() is not threading.main_thread():
        # Signals are the main thread's.
        return work()
    values: list[Value] = []
    errors: list[BaseException] = []
    # An event, and not `join`: of a thread whose `join` was interrupted, Python believes that it
    # has ended.
    begun, stopped, ended = threading.Event(), threading.Event(), threading.Event()

    def run() -> None:
        begun.set()
        if not stopped.is_set():
            try:
                values.append(work())
            except BaseException as error:
                errors.append(error)
        ended.set()

    # A daemon: where the work does not end, the process can.
    thread = threading.Thread(target=run, name="query", daemon=True)
    try:
        thread.start()
        ended.wait()
    except BaseException:
        # What has not begun by now never will.
        stopped.set()
        while begun.is_set():
            # DuckDB forgets one that comes before the work begins.
            interrupt()
            if ended.wait(AGAIN_S):
                break
        raise
    if errors:
        raise errors[0]
    return values[0]
