"""Days of the lake into an Iceberg table, committed: ours, and pyiceberg's own append of the rows.

Sketch: a row is 25 bytes in the lake; to copy and hash it takes 1 ns a byte at most, so that the
disk bounds us at some 20 M rows/s. To append, all columns are unpacked and packed again: 15 columns
at 10 to 30 ns a value are 0.3 us a row and more. `value` is by the time of the process on its
processors, `wall` by the clock, with the fsyncs of files and commits.
"""

import importlib
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
from pyiceberg.catalog import load_catalog

from tapeworks import _core
from tapeworks.jobs.iceberg.config import IcebergConfig
from tapeworks.jobs.iceberg.job import PUBLISHER, IcebergJob
from tapeworks.pipeline import Config
from tapeworks.sinks.feeder import Feeder
from tapeworks.sinks.parquet import ParquetConfig, ParquetPartition
from tapeworks.stopping import Stop

SOURCE, TOPIC = "binance-spot", "market-data.normalized"


def make_lake(data: Path, rows: np.ndarray, definitions: np.ndarray) -> None:
    tape = data / "tape" / SOURCE / TOPIC
    tape.mkdir(parents=True)
    with _core.TapeWriter(tape, durability="never") as writer:
        writer.append(definitions.tobytes())
        for at in range(0, len(rows), 1000):
            part = rows[at : at + 1000]
            writer.append(part.tobytes(), ts=int(part["ts_recv"].max()))
        writer.sync()
    config = ParquetConfig(flush_rows=2_000_000, flush_bytes=1 << 30)
    feeder = Feeder(ParquetPartition(config, data, SOURCE, TOPIC), tape, config.policy)
    feeder.drain(seconds_max=600)
    feeder.close()


def publish(data: Path) -> None:
    config = IcebergConfig(tables=("trades",), now=True)
    outcome = IcebergJob(config, Config(data), Stop(), lambda line: None).run()
    assert outcome.exit_code == 0, outcome


def append(data: Path) -> None:
    """Reads the same files, and appends their rows to a table of the same types, in one part."""
    files = sorted(map(str, (data / "lake" / "trades").rglob("*.parquet")))
    rows = ds.dataset(files, format="parquet").to_table()
    signed = {pa.uint8(): pa.int32(), pa.uint16(): pa.int32(), pa.int16(): pa.int32()}
    signed |= {pa.uint32(): pa.int64(), pa.uint64(): pa.int64()}
    kinds = [
        pa.field(one.name, signed.get(one.type, one.type))
        if not pa.types.is_dictionary(one.type)
        else pa.field(one.name, pa.string())
        for one in rows.schema
    ]
    rows = rows.cast(pa.schema(kinds))
    home = data / "peer"
    home.mkdir()
    catalog = load_catalog("peer", type="sql", uri=f"sqlite:///{home}/c.db", warehouse=str(home))
    catalog.create_namespace("peer")
    catalog.create_table("peer.trades", schema=rows.schema).append(rows)


def main() -> None:
    rows, definitions = np.load(sys.argv[1]), np.load(sys.argv[2])
    data = Path(tempfile.mkdtemp(prefix="bench-iceberg-", dir=Path(sys.argv[1]).parent))
    try:
        make_lake(data, rows, definitions)
        # To load the libraries takes as long whatever is published.
        importlib.import_module(PUBLISHER)
        began, started = time.perf_counter(), time.process_time()
        {"publish": publish, "append": append}[sys.argv[3]](data)
        took, wall = time.process_time() - started, time.perf_counter() - began
        print(json.dumps({"value": len(rows) / took, "wall": len(rows) / wall}))
    finally:
        shutil.rmtree(data)


main()
