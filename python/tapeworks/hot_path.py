"""What a worker does whose main thread data waits for."""

import gc
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from tapeworks._core import request_slice

# A thread that runs Python gives way to another one after so long.
_GIVES_WAY_S = 0.0005


def prepare(slice_us: int) -> None:
    """Prepares this thread, once all is loaded, for a loop that data waits for.

    It then gets a processor soon where many want one, for at most `slice_us` at a time.
    """
    # The collector would otherwise walk all modules again and again while frames wait.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    sys.setswitchinterval(_GIVES_WAY_S)
    request_slice(slice_us)


class Aside:
    """A thread for what data need not wait for, however slow the disk is."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "aside")
        self._running: Future[None] | None = None

    @property
    def is_free(self) -> bool:
        """Whether nothing runs that was begun before."""
        return self._running is None or self._running.done()

    def begin(self, work: Callable[[], None]) -> bool:
        """Begins `work` unless what was begun before still runs; returns whether it did.

        Raises what that raised.
        """
        if self._running is not None:
            if not self.is_free:
                return False
            self._running.result()
        self._running = self._thread.submit(work)
        return True

    def close(self) -> None:
        """Waits for what still runs."""
        self._thread.shutdown()
