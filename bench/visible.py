"""From the venue's send to another process's reader: how soon a trade can be acted upon.

Sketch: a trade of 190 bytes crosses loopback (10 us), wakes the recorder (up to 50 us on a guest),
is written to two tapes (3 us), and is read by a process that waits on the normalised tape (1 to
50 us). See `open_loop.py`.
"""

import asyncio
import sys
import time
from collections.abc import Iterable

import numpy as np
from open_loop import OpenLoop, Seen, main
from recorder import frame

from tapeworks import _core
from tapeworks.feeds.binance import BinanceConfig
from tapeworks.feeds.session import record

_TRADE = (
    b'{"stream":"btcusdt@trade","data":{"e":"trade","E":%d,"s":"BTCUSDT","t":%d,'
    b'"p":"67000.01000000","q":"0.01230000","T":%d,"m":false,"M":true}}'
)


def messages(count: int) -> list[bytes]:
    """Returns frames of trades, whose ids count from 1."""
    now_us = time.time_ns() // 1000
    return [frame(_TRADE % (now_us, number, now_us)) for number in range(1, count + 1)]


def numbers() -> Seen:
    """Returns what tells trades by their ids."""
    layout = np.dtype(_core.dtype_descr("trade"))

    def of(records: _core.Records) -> Iterable[int]:
        ids = np.frombuffer(records.numpy("trade"), layout)["trade_id"]
        return (ids.astype(np.int64) - 1).tolist()

    return of


async def _record(loop: OpenLoop) -> None:
    """Records until the reader has seen all."""
    stop = asyncio.Event()
    config = BinanceConfig(
        symbols=("BTCUSDT",),
        channels=("trade",),
        ws_url=f"ws://127.0.0.1:{loop.port}",
        rest_url="off",
        idle_timeout_s=600.0,
    )
    task = asyncio.create_task(record(config, str(loop.folder), stop))
    await asyncio.to_thread(loop.run)
    stop.set()
    await task
    loop.end()


def measure(count: int, rate: float) -> dict[str, float]:
    """Returns the figures of one run."""
    tape = "tape/binance-spot/market-data.normalized"
    with OpenLoop(messages, numbers, tape, count, rate) as loop:
        asyncio.run(_record(loop))
    return loop.figures("visible")


if __name__ == "__main__":
    sys.exit(main(__doc__, "visible", measure))
