"""Trades, each with the quote before it, by `lake.asof`: all symbols and columns of the range.

Sketch: 2 M trades of 15 columns and 6 M quotes of 13 are decoded from 100 MB of Parquet (1 s of a
core), partitioned by symbol and sorted by time (1 s), and stand as Arrow at the end. The join
itself is that of DuckDB: what is ours is what it may read, the exact time in ns, the order of the
tape for rows of one instant, and the coverage of the answer.

`make` writes the lake, through tape and sink; `ask` asks. The first figure is wall clock, the
second that of processors; the last two say that all contenders found the same.
"""

import json
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import tapeworks
from tapeworks import _core
from tapeworks.sinks.feeder import Feeder
from tapeworks.sinks.parquet import ParquetConfig, ParquetPartition

SOURCE, TOPIC = "binance-spot", "market-data.normalized"
TRADES, QUOTES_A_TRADE, FRAME = 2_000_000, 3, 1_000
TICK = 10_000_000


def quotes_of(trades: "np.ndarray") -> "np.ndarray":
    """Returns quotes around the trades, some of them at the very instant of one."""
    random = np.random.default_rng(11)
    count = QUOTES_A_TRADE * len(trades)
    rows = np.zeros(count, np.dtype(_core.dtype_descr("quote")))
    rows["length"], rows["kind"] = rows.dtype.itemsize // 8, _core.kind_of("quote")
    rows["feed"] = rows["flags"] = 1
    near = np.repeat(trades, QUOTES_A_TRADE)
    rows["instrument"] = near["instrument"]
    away = random.integers(-5, 6, count) * 1_000_000
    rows["ts_event"] = np.sort(near["ts_event"] + away)
    rows["ts_recv"] = np.maximum.accumulate(rows["ts_event"] + 2_000_000)
    rows["sequence"] = np.arange(1, count + 1)
    rows["bid_price"] = near["price"] - random.integers(1, 9, count) * TICK
    rows["ask_price"] = near["price"] + random.integers(1, 9, count) * TICK
    rows["bid_size"], rows["ask_size"] = random.integers(1, 10**9, (2, count))
    return rows


def make(trades: "np.ndarray", definitions: "np.ndarray", data: Path) -> None:
    """Writes the lake of a range, its days merged."""
    tape = data / "tape" / SOURCE / TOPIC
    tape.mkdir(parents=True)
    quotes = quotes_of(trades)
    ends = np.searchsorted(quotes["ts_recv"], trades["ts_recv"][FRAME - 1 :: FRAME], "right")
    config = ParquetConfig()
    sink = ParquetPartition(config, data, SOURCE, TOPIC)
    feeder = Feeder(sink, tape, config.policy)
    with _core.TapeWriter(tape, durability="never") as writer:
        writer.append(definitions.tobytes())
        begun = 0
        for number, end in enumerate(ends):
            part = trades[number * FRAME : (number + 1) * FRAME]
            ts = int(part["ts_recv"].max())
            writer.append(quotes[begun:end].tobytes(), ts=ts)
            writer.append(part.tobytes(), ts=ts)
            begun = end
        writer.sync()
        feeder.drain(seconds_max=600)
    while sink.run_maintenance():
        pass
    feeder.close()
    shutil.rmtree(data / "tape")


def ask(data: Path) -> dict[str, float]:
    """Asks for all trades, each with its quote."""
    lake = tapeworks.open(data)
    lake.asof("trades", "quotes", "UNIUSDT", clock="event").to_arrow()
    began, started = time.perf_counter(), time.process_time()
    found = lake.asof("trades", "quotes", clock="event").to_arrow()
    wall, used = time.perf_counter() - began, time.process_time() - started
    bids = pc.drop_null(found["quotes_bid_price"]).cast(pa.float64())
    return {
        "wall": found.num_rows / wall,
        "core": found.num_rows / used,
        "met": len(bids),
        "sum": round(pc.sum(bids).as_py()),
    }


def main() -> None:
    what, data = sys.argv[1], Path(sys.argv[2])
    if what == "make":
        trades, definitions = np.load(sys.argv[3]), np.load(sys.argv[4])
        count = max(10 * FRAME, int(TRADES * float(sys.argv[5])) // FRAME * FRAME)
        make(trades[:count], definitions, data)
    else:
        print(json.dumps(ask(data)))


main()
