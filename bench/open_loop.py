"""A venue and a reader around a pipeline, each a process: when a message left, and when its last
effect could be read.

Open loop: the venue sends number N at N / rate, whether or not the ones before were read, and notes
when. All processes read the same clock. Without as many idle processors each takes its turn.
"""

import argparse
import ctypes
import json
import multiprocessing
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

import numpy as np
from recorder import drain, handshake

from tapeworks import _core

# Makes so many frames.
Messages = Callable[[int], list[bytes]]
# Says which messages, from 0 on, are seen by a batch: of those it is called for in order.
Seen = Callable[[_core.Records], Iterable[int]]

_PR_SET_TIMERSLACK = 29
_READER_S_MAX = 60.0


def _venue(pipe: Pipe, sent: Any, messages: Messages, count: int, rate: float) -> None:
    """Sends `count` messages at `rate` a second, and notes when each left."""
    # A sleep ends within microseconds of its time, so that no processor is held by waiting.
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
    made = messages(count)
    server = socket.create_server(("127.0.0.1", 0))
    pipe.send(server.getsockname()[1])
    sock, _ = server.accept()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    handshake(sock)
    threading.Thread(target=drain, args=(sock,), daemon=True).start()
    pipe.send("connected")
    pipe.recv()
    start = time.perf_counter()
    for number, message in enumerate(made):
        early = start + number / rate - time.perf_counter()
        if early > 0:
            time.sleep(early)
        sent[number] = time.perf_counter()
        sock.sendall(message)
    pipe.recv()


def _reader(pipe: Pipe, tape: str, seen: Any, make: Callable[[], Seen], count: int) -> None:
    """Notes when each message is seen; tells how many were not, or -1 if there were more."""
    end = time.monotonic() + _READER_S_MAX
    while not any(Path(tape).glob("*.seg")):
        time.sleep(0.01)
    follow = _core.TapeReader(tape)
    numbers, left = make(), count
    pipe.send("ready")
    while left > 0 and time.monotonic() < end:
        if (records := follow.read()) is None:
            follow.wait(100)
            continue
        now = time.perf_counter()
        for number in numbers(records):
            seen[number] = now
            left -= 1
    pipe.send(left if follow.read() is None else -1)


class OpenLoop:
    """Venue and reader, until the end of the `with`. `folder` is there for the pipeline between."""

    def __init__(
        self, messages: Messages, make: Callable[[], Seen], tape: str, count: int, rate: float
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._count = count
        self._sent, self._seen = context.RawArray("d", count), context.RawArray("d", count)
        self.folder = Path(tempfile.mkdtemp(prefix="bench-open-loop-"))
        self._venue, theirs = context.Pipe()
        self._reader, told = context.Pipe()
        path, start = str(self.folder / tape), context.Process
        self._children = [
            start(target=_venue, args=(theirs, self._sent, messages, count, rate), daemon=True),
            start(target=_reader, args=(told, path, self._seen, make, count), daemon=True),
        ]
        for child in self._children:
            child.start()
        self.port = int(self._venue.recv())
        self._left = count

    def __enter__(self) -> "OpenLoop":
        return self

    def __exit__(self, *raised: object) -> None:
        for child in self._children:
            child.join(5)
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self) -> None:
        """Has all messages sent once the pipeline is connected, and waits until they are read."""
        self._venue.recv()
        self._reader.recv()
        time.sleep(1.0)
        self._venue.send("go")
        self._left = int(self._reader.recv())

    def end(self) -> None:
        """Lets the venue go."""
        self._venue.send("done")

    def figures(self, what: str) -> dict[str, float]:
        """Returns the figures of the run, named for what is read."""
        times = np.sort(np.array(self._seen) - np.array(self._sent)) * 1e6
        return {
            f"sent_to_{what}_p50_us": round(float(times[self._count // 2]), 1),
            f"sent_to_{what}_p99_us": round(float(times[self._count * 99 // 100]), 1),
            f"{what}_lost": self._left,
        }


def main(text: str | None, what: str, measure: Callable[[int, float], dict[str, float]]) -> int:
    """Prints the figures of `measure`, which is told messages and rate; fails if any was lost."""
    parser = argparse.ArgumentParser(description=text, allow_abbrev=False)
    parser.add_argument("--rate", type=float, default=20_000)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--scale", type=float, default=1, help="of seconds")
    options = parser.parse_args()
    seconds = max(0.2, options.seconds * options.scale)
    figures = measure(max(1_000, int(options.rate * seconds)), options.rate)
    print(json.dumps(figures))
    return 1 if figures[f"{what}_lost"] else 0
