"""Measures quotes and trades of ten instruments: events a second of one core, by sets of metrics.

Sketch: an event is 64 bytes, read once from memory that fits the cache of a batch. It adds some
integers of 128 bits to the open bucket of each family; windows move once a second. So l1 and flow
should take some 100 ns an event, below 250 for 4 M events/s.
"""

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np

from tapeworks import _core
from tapeworks._core import Processor, Records, metric_sets

EVENTS, BATCH, INSTRUMENTS = 2_000_000, 4_096, 10
# Instruments whose state is weighed.
MANY = 20_000
START = 1_717_761_600_000_000_000
# There are no changes of levels among the events: these would measure nothing.
BOOK_SETS = ("depth", "mlofi", "ofi_integrated")
# Of ten events of the best prices and trades, on a busy venue.
TRADES_OF_TEN = 3
NS_BETWEEN = 50_000


def events(count: int) -> bytes:
    """Returns records of quotes and trades: 20 k/s, prices and sizes that walk."""
    random = np.random.default_rng(7)
    rows = np.zeros(count, np.dtype(_core.dtype_descr("quote")))
    rows["length"], rows["flags"], rows["feed"] = rows.dtype.itemsize // 8, 1, 1
    rows["instrument"] = random.integers(1, INSTRUMENTS + 1, count)
    rows["ts_event"] = START + np.cumsum(random.integers(1, 2 * NS_BETWEEN, count))
    rows["ts_recv"] = rows["ts_event"] + 1_000_000
    rows["sequence"] = np.arange(count)
    mid = 60_000 * 10**9 + np.cumsum(random.integers(-1, 2, count)) * 10**8
    bid_size, ask_size = random.integers(1, 10**9, (2, count))
    is_trade = random.integers(0, 10, count) < TRADES_OF_TEN
    rows["kind"] = np.where(is_trade, _core.kind_of("trade"), _core.kind_of("quote"))
    rows["bid_price"], rows["bid_size"] = mid - 10**8, bid_size
    rows["ask_price"], rows["ask_size"] = mid + 10**8, ask_size
    trades = rows.view(np.dtype(_core.dtype_descr("trade")))
    trades["price"][is_trade] = mid[is_trade]
    trades["size"][is_trade] = bid_size[is_trade]
    trades["trade_id"][is_trade] = np.flatnonzero(is_trade)
    trades["count"][is_trade] = 1
    trades["side"][is_trade] = random.integers(1, 3, int(is_trade.sum()))
    trades["channel"][is_trade] = 1
    trades["conditions"][is_trade] = 0
    return rows.tobytes()


def rate(batches: list[Records], count: int, sets: str, windows: str = "") -> float:
    """Returns events a second of processor time."""
    settings = {"sets": sets, "trade_windows": windows, "hawkes": "0.2,0.5,1.0"}
    processor, written = Processor("metrics", settings), 0
    started = time.process_time()
    for batch in batches:
        written += len(processor.process(batch))
    taken = time.process_time() - started
    assert written > 0
    return count / taken


def keyed_rate(batches: list[Records], count: int) -> float:
    """Returns events a second of what peers keep: best prices and order flow, bars of a second."""
    kept = [
        Processor("metrics", {"sets": "l1,ofi", "windows_ms": [1_000]}),
        Processor("bars", {"intervals_ms": [1_000]}),
    ]
    written = 0
    started = time.process_time()
    for batch in batches:
        written += sum(len(processor.process(batch)) for processor in kept)
    taken = time.process_time() - started
    assert written > 0
    return count / taken


def bytes_of_many(sets: str) -> float:
    """Returns what the state of each of many instruments takes, by what the process grows."""
    rows = np.frombuffer(events(10 * MANY), np.dtype(_core.dtype_descr("quote"))).copy()
    # Of each instrument ten events, a second apart, so that its windows hold as many buckets.
    rows["instrument"] = 1 + np.arange(len(rows)) % MANY
    rows["ts_event"] = START + np.arange(len(rows)) // MANY * 1_000_000_000
    rows["ts_recv"] = rows["ts_event"]
    processor, before = Processor("metrics", {"sets": sets}), resident()
    width = 4 * BATCH
    for at in range(0, len(rows), width):
        processor.process(Records.from_bytes(rows[at : at + width].tobytes()))
    return max(1.0, (resident() - before) / MANY)


def resident() -> int:
    """Returns the bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def main() -> None:
    count = max(20_000, int(EVENTS * float(sys.argv[1])))
    data, width = events(count), 64 * BATCH
    batches = [Records.from_bytes(data[at : at + width]) for at in range(0, len(data), width)]
    names = [name for name, _ in metric_sets() if name not in BOOK_SETS]
    together = {"l1_flow": "l1,flow", "all": ",".join(names)}
    figures = {name: rate(batches, count, sets) for name, sets in together.items()}
    figures |= {f"set_{name}": rate(batches, count, name) for name in names}
    figures["keyed"] = keyed_rate(batches, count)
    figures["windows"] = rate(batches, count, "l1,ofi", "tumbling 1s")
    figures["instrument_bytes"] = bytes_of_many("l1,ofi,flow")
    print(json.dumps(figures))


main()
