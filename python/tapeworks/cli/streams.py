"""Standard output and error of a command: what becomes of it where they cannot be written.

A command that answers a question ends once its reader has seen enough (`tape query ... | head`).
Every other one does its work to the end: what nobody reads is discarded, and its exit code is that
of the work. What a full disk or the like did not take of standard output is told at the end.
Errors are told where they can be; where not, the exit code says it.
"""

import errno
import io
import os
import select
import sys
from typing import Any

OUTPUT, ERRORS = "standard output", "standard error"


class Stream(io.FileIO):
    """Standard output or error, whose errors say that they are its own."""

    def __init__(self, descriptor: int, told: str) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._told = told
        # Of a terminal that was closed nothing else can be asked.
        self._is_terminal = self.isatty()
        self.ends_command = False
        """Whether the command ends where this cannot be written."""
        self.failure: OSError | None = None
        """Why something was discarded that somebody would have read."""

    def write(self, data: Any, /) -> int:
        """Writes `data`, or discards it.

        Raises:
            OSError: the reader is gone, or the disk is full, and that is to end the command.
        """
        try:
            while (count := super().write(data)) is None:
                # A pipe that was made not to block, by whoever holds its other end: it is full.
                select.select((), (self,), ())
            return count
        except OSError as error:
            error.filename = self._told
            if self.ends_command:
                raise
            if error.errno != errno.EPIPE and not self._is_terminal:
                self.failure = error
            return memoryview(data).nbytes


def open_streams() -> None:
    """Makes standard output and error streams of this kind."""
    sys.stdout = _opened(sys.stdout, 1, OUTPUT)
    sys.stderr = _opened(sys.stderr, 2, ERRORS)


def _opened(file: Any, descriptor: int, told: str) -> Any:
    if not isinstance(file, io.TextIOWrapper):
        return file
    return io.TextIOWrapper(
        io.BufferedWriter(Stream(descriptor, told)),
        file.encoding,
        file.errors,
        line_buffering=file.line_buffering,
    )


def end_without_reader() -> None:
    """Makes the command end once what it prints cannot be written: it does nothing else."""
    if (stream := _stream()) is not None:
        stream.ends_command = True


def close_output() -> OSError | None:
    """Writes what is left of standard output; returns why not all of it could be written."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        discard_output()
    except OSError as error:
        discard_output()
        return error
    stream = _stream()
    return None if stream is None else stream.failure


def _stream() -> Stream | None:
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return raw if isinstance(raw, Stream) else None


def is_of_output(error: BaseException | None) -> bool:
    """Whether what we print failed to be written: what else breaks is no end of its reader."""
    return isinstance(error, OSError) and error.filename in (OUTPUT, ERRORS)


def discard_output() -> None:
    """Lets go of what is still buffered and cannot be written: it must not complain at exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)
