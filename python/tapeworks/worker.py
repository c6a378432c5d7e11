"""A worker's own side: how it starts, logs, gives signs of life, and ends.

Under a supervisor it is told through standard input what to run, and that pipe's end tells it that
its supervisor is gone, by whatever death: it then stops as if asked to. Alone, in a container, it
runs in the foreground and stops on Ctrl-C and SIGTERM. Its exit code says whether a restart helps.
"""

import contextlib
import faulthandler
import logging
import os
import pickle
import select
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from tapeworks import heartbeat, stopping
from tapeworks.config import redact
from tapeworks.errors import (
    ConfigError,
    CorruptTapeError,
    TapeReplacedError,
    TapeVersionError,
    TapeworksError,
    VenueError,
)
from tapeworks.exits import EXIT_CONFIG, EXIT_DAMAGED, EXIT_FAILED, EXIT_REFUSED
from tapeworks.printable import PrintableFormatter
from tapeworks.registry import load_name

log = logging.getLogger("tapeworks.worker")

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
LOOK_S = 1.0
NEEDS_A_PERSON = (CorruptTapeError, TapeReplacedError, TapeVersionError)
REPAIR_ADVICE = (
    "everything is kept as it is; `tape verify` shows what is damaged, and `tape repair` moves it "
    "aside, declares the gap and goes on"
)


@dataclass(frozen=True)
class Order:
    """What a worker is told to run. It holds no more than the worker needs."""

    name: str
    target: str
    arguments: tuple[object, ...]
    named: dict[str, object] = field(default_factory=dict)
    stop_s_max: float = 15.0
    hang_s: float = 30.0
    log_path: Path | None = None
    log_bytes_max: int = 8 << 20
    heartbeat: int = -1


class LogFormatter(PrintableFormatter):
    """Formats log records for a file that others read: nothing acts, and nothing is secret."""

    def format(self, record: logging.LogRecord) -> str:
        """Formats a record and its traceback."""
        return redact(super().format(record))


class LogFile:
    """The file behind standard output and error of this process, closed at a size.

    Whatever is written, by Python or not, goes through these two descriptors: to put another file
    behind them caps the log of any worker, however long it lives.
    """

    def __init__(self, path: Path, bytes_max: int) -> None:
        self._path = path
        self._bytes_max = bytes_max
        self._lock = threading.Lock()

    def rotate_if_full(self) -> None:
        """Keeps what was written as the older file, and begins a new one, if it is time to."""
        if os.fstat(2).st_size < self._bytes_max:
            return
        with self._lock:
            if os.fstat(2).st_size >= self._bytes_max:
                self._rotate()

    def _rotate(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        try:
            with contextlib.suppress(FileNotFoundError):
                # Another process of this name may have begun a new one.
                if os.path.samestat(os.stat(self._path), os.fstat(2)):
                    self._path.replace(self._path.with_suffix(".log.1"))
            descriptor = os.open(self._path, flags, 0o644)
        except OSError:
            # No room for a new file: what is in this one is less than what is to come.
            os.ftruncate(2, 0)
            return
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.close(descriptor)


class _LogHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to standard error, and keeps the file behind it within its size."""

    def __init__(self, file: LogFile | None) -> None:
        super().__init__()
        self._file = file
        self.setFormatter(LogFormatter(LOG_FORMAT))

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one record."""
        super().emit(record)
        if self._file is not None:
            self._file.rotate_if_full()


def run_child() -> None:
    """The main function of a child process. What it runs comes through standard input."""
    stopping.note()
    order: Order = pickle.load(sys.stdin.buffer)
    file = None if order.log_path is None else LogFile(order.log_path, order.log_bytes_max)
    logging.basicConfig(handlers=[_LogHandler(file)], level="INFO")
    if order.heartbeat >= 0:
        heartbeat.connect(order.heartbeat)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _arm(order)
    threading.Thread(target=_watch_parent, args=(order, file), daemon=True).start()
    sys.exit(_run(order))


def run_alone(order: Order, stopped_early: int = 0) -> int:
    """Runs `order` as the whole of this process, in the foreground; returns its exit code.

    Ctrl-C and SIGTERM end it in good order, at any moment; with `stopped_early` where it is still
    being loaded.
    """
    stopping: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        # Until what runs has set its own handler, there is nothing to end in good order.
        if stopping:
            return
        stopping.append(number)
        raise SystemExit(stopped_early)

    def pass_on(number: int, frame: FrameType | None) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGINT, pass_on)
    logging.basicConfig(handlers=[_LogHandler(None)], level="INFO")
    return _run(order)


def _run(order: Order) -> int:
    try:
        return int(load_name(order.target)(*order.arguments, **order.named) or 0)
    except ConfigError as error:
        log.error("%s: %s", order.name, error)
        return EXIT_CONFIG
    except VenueError as error:
        log.error("%s: %s", order.name, error)
        return EXIT_REFUSED
    except NEEDS_A_PERSON as error:
        log.error("%s: %s: %s", order.name, error, REPAIR_ADVICE)
        return EXIT_DAMAGED
    except TapeworksError as error:
        log.error("%s: %s", order.name, error)
        return EXIT_FAILED
    except Exception:
        # Logged, not printed: it may quote what a venue sent, or a password.
        log.exception("%s failed", order.name)
        return EXIT_FAILED


def _arm(order: Order) -> None:
    """Lets this process end by itself, with its stacks in the log, if this is not called again.

    Where no thread of Python can run any more, nobody would notice that the supervisor is gone.
    """
    faulthandler.dump_traceback_later(2 * order.hang_s, exit=True)


def _watch_parent(order: Order, file: LogFile | None) -> None:
    # The pipe ends when the parent does. Then stop as if asked to; and if that takes too long, stop
    # at once: the tape keeps everything that was published.
    armed = time.monotonic()
    while True:
        if time.monotonic() - armed >= order.hang_s / 2:
            armed = time.monotonic()
            _arm(order)
        readable, _, _ = select.select([0], [], [], LOOK_S)
        if readable and not os.read(0, 4096):
            break
        if file is not None:
            # What is printed by other means than the log counts as well.
            file.rotate_if_full()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(order.stop_s_max)
    os._exit(1)
