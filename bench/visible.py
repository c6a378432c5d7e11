"""From the venue's send to another process's reader: how soon a trade can be acted upon.

Sketch: a trade of 190 bytes crosses loopback (10 us), wakes the recorder (up to 50 us on a guest),
is written to two tapes (3 us), and is read by a process that waits on the normalised tape (1 to
50 us).

Open loop: the venue sends number N at N / rate, whether or not the ones before were read, and notes
when. All three processes read the same clock. Without three idle processors each takes its turn.
"""

import argparse
import asyncio
import ctypes
import json
import multiprocessing
import shutil
import socket
import sys
import tempfile
import threading
import time
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

import numpy as np
from recorder import drain, frame, handshake

from tapeworks import _core
from tapeworks.feeds.binance import BinanceConfig
from tapeworks.feeds.session import record

_TRADE = (
    b'{"stream":"btcusdt@trade","data":{"e":"trade","E":%d,"s":"BTCUSDT","t":%d,'
    b'"p":"67000.01000000","q":"0.01230000","T":%d,"m":false,"M":true}}'
)
_PR_SET_TIMERSLACK = 29
_READER_S_MAX = 60.0


def venue(pipe: Pipe, sent: Any, count: int, rate: float) -> None:
    """Sends `count` trades at `rate` a second, and notes when each left."""
    # A sleep ends within microseconds of its time, so that no processor is held by waiting.
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
    now_us = time.time_ns() // 1000
    made = [frame(_TRADE % (now_us, number, now_us)) for number in range(1, count + 1)]
    server = socket.create_server(("127.0.0.1", 0))
    pipe.send(server.getsockname()[1])
    sock, _ = server.accept()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    handshake(sock)
    threading.Thread(target=drain, args=(sock,), daemon=True).start()
    pipe.recv()
    start = time.perf_counter()
    for number, message in enumerate(made):
        early = start + number / rate - time.perf_counter()
        if early > 0:
            time.sleep(early)
        sent[number] = time.perf_counter()
        sock.sendall(message)
    pipe.recv()


def reader(pipe: Pipe, tape: str, seen: Any, count: int) -> None:
    """Notes when each trade can be read."""
    end = time.monotonic() + _READER_S_MAX
    while not any(Path(tape).glob("*.seg")):
        time.sleep(0.01)
    follow = _core.TapeReader(tape)
    layout = np.dtype(_core.dtype_descr("trade"))
    left = count
    pipe.send("ready")
    while left and time.monotonic() < end:
        if (records := follow.read()) is None:
            follow.wait(100)
            continue
        now = time.perf_counter()
        for number in np.frombuffer(records.numpy("trade"), layout)["trade_id"].tolist():
            seen[number - 1] = now
            left -= 1
    pipe.send(left)


async def _record(url: str, folder: str, pipe: Pipe, ready: Pipe) -> int:
    """Records until the reader has seen all; returns how many it has not."""
    stop = asyncio.Event()
    config = BinanceConfig(
        symbols=("BTCUSDT",), channels=("trade",), ws_url=url, rest_url="off", idle_timeout_s=600.0
    )
    task = asyncio.create_task(record(config, folder, stop))
    await asyncio.to_thread(ready.recv)
    await asyncio.sleep(0.5)
    pipe.send("go")
    left = await asyncio.to_thread(ready.recv)
    stop.set()
    await task
    pipe.send("done")
    return int(left)


def measure(rate: float, seconds: float) -> dict[str, float]:
    """Returns the figures of one run."""
    count = max(1_000, int(rate * seconds))
    context = multiprocessing.get_context("spawn")
    sent, seen = context.RawArray("d", count), context.RawArray("d", count)
    folder = tempfile.mkdtemp(prefix="bench-visible-")
    tape = f"{folder}/tape/binance-spot/market-data.normalized"
    ours, theirs = context.Pipe()
    ready, told = context.Pipe()
    children = [
        context.Process(target=venue, args=(theirs, sent, count, rate), daemon=True),
        context.Process(target=reader, args=(told, tape, seen, count), daemon=True),
    ]
    for child in children:
        child.start()
    try:
        left = asyncio.run(_record(f"ws://127.0.0.1:{ours.recv()}", folder, ours, ready))
    finally:
        for child in children:
            child.join(5)
        shutil.rmtree(folder, ignore_errors=True)
    times = np.sort(np.array(seen) - np.array(sent)) * 1e6
    return {
        "sent_to_visible_p50_us": round(float(times[count // 2]), 1),
        "sent_to_visible_p99_us": round(float(times[count * 99 // 100]), 1),
        "visible_lost": left,
    }


def main() -> int:
    """Prints the figures; fails if a trade was not seen."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--rate", type=float, default=20_000)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--scale", type=float, default=1, help="of seconds")
    options = parser.parse_args()
    figures = measure(options.rate, max(0.2, options.seconds * options.scale))
    print(json.dumps(figures))
    return 1 if figures["visible_lost"] else 0


if __name__ == "__main__":
    sys.exit(main())
