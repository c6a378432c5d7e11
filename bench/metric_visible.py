"""From the venue's send to a metric that another process reads, by `tape up`.

Sketch: behind `visible.py` (100 us from the send to the normalised tape) the derive worker wakes
(up to 50 us on a guest), measures a message (1 us), writes 22 values of 128 bytes (3 us; 56 MB/s at
20 k/s) after what its other stages take, and wakes the reader. See `open_loop.py`.

Quotes and trades of ten symbols, and the sets `l1`, `ofi` and `flow` behind each of them, so that
each message makes metrics of its own.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable

import numpy as np
from open_loop import OpenLoop, Seen, main
from recorder import SYMBOLS, frame

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


def numbers() -> Seen:
    """Returns what tells messages by how many values there are: each has as many, in order."""
    each, values = values_of_a_message(), 0

    def of(records: _core.Records) -> Iterable[int]:
        nonlocal values
        before, values = values // each, values + len(records)
        return range(before, values // each)

    return of


def values_of_a_message() -> int:
    """Returns how many values the sets have."""
    quote = np.zeros(1, np.dtype(_core.dtype_descr("quote")))
    quote["length"], quote["kind"] = quote.dtype.itemsize // 8, _core.kind_of("quote")
    quote["feed"] = quote["instrument"] = 1
    settings = {"sets": "l1,ofi,flow", "windows_ms": [1000], "interval_ms": 0}
    made = _core.Processor("metrics", settings).process(_core.Records.from_bytes(quote.tobytes()))
    return len(made)


def measure(count: int, rate: float) -> dict[str, float]:
    """Returns the figures of one run."""
    tape = "data/tape/binance-spot/market-data.metrics"
    with OpenLoop(messages, numbers, tape, count, rate) as loop:
        settings = _SETTINGS.format(port=loop.port, symbols=json.dumps(SYMBOLS))
        path = loop.folder / "tapeworks.toml"
        path.write_text(settings)
        words = [sys.executable, "-c", _COMMAND, "up", "--config", str(path)]
        with (loop.folder / "up.log").open("w") as log:
            pipeline = subprocess.Popen(
                words, stdout=log, stderr=log, cwd=loop.folder, env=os.environ
            )
        try:
            loop.run()
            loop.end()
        finally:
            pipeline.send_signal(signal.SIGTERM)
            pipeline.wait(30)
    return loop.figures("metric")


if __name__ == "__main__":
    sys.exit(main(__doc__, "metric", measure))
