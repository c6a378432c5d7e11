"""Single keys from a terminal, without Enter, for screens that show something meanwhile."""

import os
import select
import sys
import termios
import time
import tty
from types import TracebackType
from typing import Any

BYTES_READ = 64


class Keys:
    """Reads keys while it is entered; where standard input is no terminal there are none."""

    def __init__(self) -> None:
        self._before: list[Any] | None = None

    def __enter__(self) -> "Keys":
        if sys.stdin.isatty():
            self._before = termios.tcgetattr(0)
            # Keys come one by one and are not shown; Ctrl-C stays a signal.
            tty.setcbreak(0, termios.TCSANOW)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._before is not None:
            termios.tcsetattr(0, termios.TCSADRAIN, self._before)

    def wait(self, seconds: float) -> str:
        """Returns the key that is pressed within `seconds`; nothing if none is."""
        if self._before is None:
            time.sleep(seconds)
        elif select.select([0], [], [], seconds)[0]:
            # What an arrow and the like send is one key of several bytes.
            return os.read(0, BYTES_READ).decode("utf-8", "replace")
        return ""
