"""A tape of trades to the Parquet lake: sorted by symbol and time, exact decimals, each row once.

Sketch: 64 bytes a row are read, sorted, taken apart into 15 columns, encoded, and packed by zstd to
8 bytes: at 4 M rows/s that is 256 MB/s in and 32 MB/s to the disk. Encoding a column takes pyarrow
5 to 30 ns a row. The time is that of the process on a processor: waiting for the disk is not in it.
"""

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tapeworks import _core
from tapeworks.sinks.feeder import Feeder
from tapeworks.sinks.parquet import ParquetConfig, ParquetPartition

SOURCE, TOPIC = "binance-spot", "market-data.normalized"


def main() -> None:
    rows, definitions = np.load(sys.argv[1]), np.load(sys.argv[2])
    data = Path(tempfile.mkdtemp(prefix="bench-lake-", dir=Path(sys.argv[1]).parent))
    tape = data / "tape" / SOURCE / TOPIC
    tape.mkdir(parents=True)
    with _core.TapeWriter(tape, durability="never") as writer:
        writer.append(definitions.tobytes())
        for at in range(0, len(rows), 1000):
            part = rows[at : at + 1000]
            writer.append(part.tobytes(), ts=int(part["ts_recv"].max()))
        writer.sync()
    config = ParquetConfig()
    feeder = Feeder(ParquetPartition(config, data, SOURCE, TOPIC), tape, config.policy)
    began, started = time.perf_counter(), time.process_time()
    feeder.drain(seconds_max=600)
    took, wall = time.process_time() - started, time.perf_counter() - began
    feeder.close()
    files = list((data / "lake" / "trades").rglob("*.parquet"))
    size = sum(file.stat().st_size for file in files)
    shutil.rmtree(data)
    figures = {"value": len(rows) / took, "bytes_a_row": size / len(rows)}
    print(json.dumps({**figures, "wall": len(rows) / wall, "files": len(files)}))


main()
