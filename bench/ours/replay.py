"""Replay of a tape of trades to Python, in batches, flat out; each batch is seen as NumPy rows.

Sketch: 64 bytes a record are read from the map with their checksum (12 ns), chosen by kind and
time, and copied once (10 ns): 20 M records/s if nothing else costs. Time on a processor.
"""

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import tapeworks
from tapeworks import _core

SOURCE, TOPIC = "binance-spot", "market-data.normalized"
DTYPE = np.dtype(_core.dtype_descr("trade"))


def main() -> None:
    rows, definitions = np.load(sys.argv[1]), np.load(sys.argv[2])
    data = Path(tempfile.mkdtemp(prefix="bench-replay-", dir=Path(sys.argv[1]).parent))
    tape = data / "tape" / SOURCE / TOPIC
    tape.mkdir(parents=True)
    with _core.TapeWriter(tape, durability="never") as writer:
        writer.append(definitions.tobytes())
        for at in range(0, len(rows), 1000):
            part = rows[at : at + 1000]
            writer.append(part.tobytes(), ts=int(part["ts_recv"].max()))
    lake = tapeworks.open(data)
    figures = {}
    for name, symbols in (("value", None), ("one_symbol", ["ETHUSDT"])):
        started, count = time.process_time(), 0
        for batch in lake.replay(symbols, kinds=["trades"]):
            count += len(np.frombuffer(memoryview(batch.records), dtype=DTYPE))
        # All records were looked at, also those that were not wanted.
        figures[name] = len(rows) / (time.process_time() - started)
        assert symbols or count == len(rows)
    shutil.rmtree(data)
    print(json.dumps(figures))


main()
