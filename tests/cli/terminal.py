"""A command at a terminal of its own: what is typed, and what is then on the screen."""

import codecs
import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pyte

START = "from tapeworks.cli import main; main()"
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[=>]|\x1b\][^\x07]*\x07")
WAIT_S = 60


class Terminal:
    """`tape`, or `program`, with `words` at a terminal of `rows` and `columns`."""

    def __init__(
        self,
        folder: Path,
        *words: str,
        rows: int = 24,
        columns: int = 80,
        program: str = START,
        **environment: str,
    ) -> None:
        ours, theirs = pty.openpty()
        self.screen = pyte.HistoryScreen(columns, rows, history=1_000)
        """What a person sees."""
        self._stream = pyte.Stream(self.screen)
        self._ours = ours
        self.resize(rows, columns)
        more = {"TERM": "xterm-256color", "PROMPT_TOOLKIT_NO_CPR": "1", "NO_COLOR": "1"}
        # Of the terminal around the tests, not of this one.
        inherited = {key: at for key, at in os.environ.items() if key not in ("COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, *words],
            cwd=folder,
            env={**inherited, **more, "XDG_STATE_HOME": str(folder / "state"), **environment},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._unread = ""
        self.raw = ""
        """All that came, with what moves and colours on the screen."""

    def resize(self, rows: int, columns: int) -> None:
        """Makes the terminal larger or smaller."""
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.screen.resize(rows, columns)

    def shown(self) -> list[str]:
        """Returns the lines on the screen and above it, without the empty ones at its end."""
        above = ["".join(cell.data for cell in line.values()) for line in self.screen.history.top]
        return (
            "\n".join(line.rstrip() for line in [*above, *self.screen.display]).rstrip().split("\n")
        )

    def type(self, text: str) -> None:
        """Types `text`."""
        os.write(self._ours, text.encode())

    def until(self, pattern: str) -> str:
        """Returns what comes on the screen up to and with `pattern`, without what moves there."""
        deadline = time.monotonic() + WAIT_S
        while not (found := re.search(pattern, self._unread)):
            assert time.monotonic() < deadline, f"no {pattern!r} in {self._unread!r}"
            assert self._read(), f"ended without {pattern!r}: {self._unread!r}"
        shown, self._unread = self._unread[: found.end()], self._unread[found.end() :]
        return shown

    def interrupt(self, pattern: str) -> None:
        """Presses Ctrl-C, once a second, until `pattern` is on the screen."""
        deadline = time.monotonic() + WAIT_S
        while pattern not in self._unread:
            assert time.monotonic() < deadline, f"no {pattern!r} in {self._unread!r}"
            # One that comes before the command works at all is lost, as a person sees.
            self.type("\x03")
            again = time.monotonic() + 1.5
            while pattern not in self._unread and time.monotonic() < again:
                assert self._read(), f"ended without {pattern!r}: {self._unread!r}"

    def end(self) -> tuple[int, str]:
        """Waits for the end of the command; returns its exit code and the rest of the screen."""
        deadline = time.monotonic() + WAIT_S
        while self._read():
            assert time.monotonic() < deadline, f"does not end: {self._unread!r}"
        return self.process.wait(WAIT_S), self._unread

    def close(self) -> None:
        """Ends what still runs."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        os.close(self._ours)

    def _read(self) -> bool:
        """Reads what came; false once nothing can come any more."""
        if not select.select([self._ours], [], [], 1)[0]:
            return True
        try:
            read = os.read(self._ours, 1 << 16)
        except OSError:
            return False
        text = self._decoder.decode(read)
        self.raw += text
        self._stream.feed(text)
        self._unread += ESCAPES.sub("", text).replace("\r", "")
        return bool(read)
