"""From the venue's send to a metric that another process reads, by `tape up`.

Sketch: behind `visible.py` (100 us from the send to the normalised tape) the derive worker wakes
(up to 50 us on a guest), measures a message (1 us), writes 22 values of 128 bytes (3 us; 56 MB/s at
20 k/s) after what its other stages take, and wakes the reader.

Quotes and trades of ten symbols, and the sets `l1`, `ofi` and `flow` behind each of them, so that
each message makes metrics of its own. Open loop: the venue sends number N at N / rate, whether or
not the ones before were read, and notes when. Venue and reader read the same clock. Without as many
idle processors as processes each takes its turn.
"""

import argparse
import ctypes
import json
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

import numpy as np
from recorder import SYMBOLS, drain, frame, handshake

from tapeworks import _core

_QUOTE = (
    b'{"stream":"%b@bookTicker","data":{"u":%d,"s":"%b","b":"67000.%02d000000","B":"1.23456000",'
    b'"a":"67001.%02d000000","A":"2.34567000"}}'
)
_TRADE = (
    b'{"stream":"%b@trade","data":{"e":"trade","E":%d,"s":"%b","t":%d,"p":"67000.50000000",'
    b'"q":"0.01230000","T":%d,"m":false,"M":true}}'
)
_SETTINGS = """
[feeds.binance-spot]
kind = "binance"
symbols = {symbols}
channels = ["trade", "bookTicker"]
ws_url = "ws://127.0.0.1:{port}"
rest_url = "off"
idle_timeout_s = 600.0

[metrics]
sets = ["l1", "ofi", "flow"]
windows_ms = [1000]
interval_ms = 0

[sinks.parquet]
enabled = false
"""
_COMMAND = "from tapeworks.cli import main; main()"
_PR_SET_TIMERSLACK = 29
_READER_S_MAX = 60.0
# Quotes of ten messages, as in the job `metrics`.
_QUOTES_OF_TEN = 7


def messages(count: int) -> list[bytes]:
    """Returns frames of quotes and trades."""
    now_us, made = time.time_ns() // 1000, []
    numbers = dict.fromkeys(SYMBOLS, 0)
    for number in range(count):
        symbol = SYMBOLS[number % len(SYMBOLS)]
        low, up = symbol.lower().encode(), symbol.encode()
        if number // len(SYMBOLS) % 10 < _QUOTES_OF_TEN:
            cents = number % 97
            made.append(frame(_QUOTE % (low, number + 1, up, cents, cents)))
        else:
            numbers[symbol] += 1
            made.append(frame(_TRADE % (low, now_us, up, numbers[symbol], now_us)))
    return made


def venue(pipe: Pipe, sent: Any, count: int, rate: float) -> None:
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


def reader(pipe: Pipe, tape: str, seen: Any, count: int) -> None:
    """Notes when the metrics of each message can be read."""
    end = time.monotonic() + _READER_S_MAX
    while not any(Path(tape).glob("*.seg")):
        time.sleep(0.01)
    follow = _core.TapeReader(tape)
    each, left, values = values_of_a_message(), count, 0
    pipe.send("ready")
    while left and time.monotonic() < end:
        if (records := follow.read()) is None:
            follow.wait(100)
            continue
        now = time.perf_counter()
        # Each message makes so many values, in the order of the messages.
        values += len(records)
        done = min(count, values // each)
        seen[count - left : done] = [now] * (done - (count - left))
        left = count - done
    pipe.send(left if follow.read() is None and values == count * each else -1)


def values_of_a_message() -> int:
    """Returns how many values the sets have."""
    quote = np.zeros(1, np.dtype(_core.dtype_descr("quote")))
    quote["length"], quote["kind"] = quote.dtype.itemsize // 8, _core.kind_of("quote")
    quote["feed"] = quote["instrument"] = 1
    settings = {"sets": "l1,ofi,flow", "windows_ms": [1000], "interval_ms": 0}
    made = _core.Processor("metrics", settings).process(_core.Records.from_bytes(quote.tobytes()))
    return len(made)


def measure(rate: float, seconds: float) -> dict[str, float]:
    """Returns the figures of one run."""
    count = max(1_000, int(rate * seconds))
    context = multiprocessing.get_context("spawn")
    sent, seen = context.RawArray("d", count), context.RawArray("d", count)
    folder = Path(tempfile.mkdtemp(prefix="bench-metric-visible-"))
    tape = str(folder / "data" / "tape" / "binance-spot" / "market-data.metrics")
    ours, theirs = context.Pipe()
    ready, told = context.Pipe()
    children = [
        context.Process(target=venue, args=(theirs, sent, count, rate), daemon=True),
        context.Process(target=reader, args=(told, tape, seen, count), daemon=True),
    ]
    for child in children:
        child.start()
    settings = _SETTINGS.format(port=ours.recv(), symbols=json.dumps(SYMBOLS))
    (folder / "tapeworks.toml").write_text(settings)
    words = [sys.executable, "-c", _COMMAND, "up", "--config", str(folder / "tapeworks.toml")]
    with (folder / "up.log").open("w") as log:
        pipeline = subprocess.Popen(words, stdout=log, stderr=log, cwd=folder, env=os.environ)
    try:
        ours.recv()
        ready.recv()
        time.sleep(1.0)
        ours.send("go")
        left = int(ready.recv())
        ours.send("done")
    finally:
        pipeline.send_signal(signal.SIGTERM)
        pipeline.wait(30)
        for child in children:
            child.join(5)
        shutil.rmtree(folder, ignore_errors=True)
    times = np.sort(np.array(seen) - np.array(sent)) * 1e6
    return {
        "sent_to_metric_p50_us": round(float(times[count // 2]), 1),
        "sent_to_metric_p99_us": round(float(times[count * 99 // 100]), 1),
        "metric_lost": left,
    }


def main() -> int:
    """Prints the figures; fails if the metrics of a message were not seen."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--rate", type=float, default=20_000)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--scale", type=float, default=1, help="of seconds")
    options = parser.parse_args()
    figures = measure(options.rate, max(0.2, options.seconds * options.scale))
    print(json.dumps(figures))
    return 1 if figures["metric_lost"] else 0


if __name__ == "__main__":
    sys.exit(main())
