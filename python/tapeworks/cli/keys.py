"""The keyboard of a terminal on which a screen is shown: what is typed does not appear on it.

A key is read without Enter. Ctrl-C stays a signal, but neither shows as `^C`, which would move the
cursor away from where the screen believes it to be, nor throws away what is being drawn.
"""

import os
import select
import sys
import termios
import time
from types import TracebackType
from typing import Any

BYTES_READ = 64
LOCAL = 3
"""The local modes among the attributes of a terminal."""


class Keys:
    """Reads keys while it is entered; there are none in the background or without a terminal."""

    def __init__(self) -> None:
        self._before: list[Any] | None = None

    def __enter__(self) -> "Keys":
        if _owns_terminal():
            self._before = termios.tcgetattr(0)
            now = list(self._before)
            now[LOCAL] = now[LOCAL] & ~(termios.ECHO | termios.ICANON) | termios.NOFLSH
            termios.tcsetattr(0, termios.TCSANOW, now)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._before is not None and _owns_terminal():
            termios.tcsetattr(0, termios.TCSADRAIN, self._before)

    def wait(self, seconds: float) -> str:
        """Returns the key that is pressed within `seconds`; nothing if none is."""
        if self._before is None:
            time.sleep(seconds)
        elif select.select([0], [], [], seconds)[0]:
            # What an arrow and the like send is one key of several bytes.
            return os.read(0, BYTES_READ).decode("utf-8", "replace")
        return ""


def _owns_terminal() -> bool:
    # A process in the background would be stopped for changing the terminal.
    return sys.stdin.isatty() and os.tcgetpgrp(0) == os.getpgrp()
