"""Makes the lake that the query job asks: 50 M trades of ten symbols, through tape and sink.

Sketch: 50 M rows x 64 bytes go through a tape in 25 parts, 3.2 GB in all, and leave 400 MB of
Parquet: six days, each compacted into one file sorted by symbol and time.
"""

import shutil
import sys
from pathlib import Path

import numpy as np

from tapeworks import _core
from tapeworks.sinks.feeder import Feeder
from tapeworks.sinks.parquet import ParquetConfig, ParquetPartition

SOURCE, TOPIC = "binance-spot", "market-data.normalized"
ROWS = 50_000_000


def main() -> None:
    rows, definitions = np.load(sys.argv[1]), np.load(sys.argv[2])
    data, scale = Path(sys.argv[3]), float(sys.argv[4])
    tape = data / "tape" / SOURCE / TOPIC
    tape.mkdir(parents=True)
    span = int(rows["ts_event"][-1] - rows["ts_event"][0]) + 1_000_000
    config = ParquetConfig()
    sink = ParquetPartition(config, data, SOURCE, TOPIC)
    feeder = Feeder(sink, tape, config.policy)
    with _core.TapeWriter(tape, durability="never") as writer:
        writer.append(definitions.tobytes())
        for _ in range(max(1, round(ROWS * scale / len(rows)))):
            for at in range(0, len(rows), 1000):
                part = rows[at : at + 1000]
                writer.append(part.tobytes(), ts=int(part["ts_recv"].max()))
            writer.sync()
            feeder.drain(seconds_max=600)
            for name in ("ts_event", "ts_recv"):
                rows[name] += span
            for name in ("trade_id", "sequence"):
                rows[name] += len(rows)
    while sink.run_maintenance():
        pass
    feeder.close()
    # All rows are in the lake: what retention would drop is not needed to ask for them.
    shutil.rmtree(data / "tape")


main()
