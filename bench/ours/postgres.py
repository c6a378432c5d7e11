"""Ticks from the tape into a day partition of PostgreSQL, visible and exactly once.

Argument 1: how many, as a multiple of two million; 2: `index`, `plain`, or `copy`, which is a peer:
binary COPY of the same rows by psycopg, which were encoded before, in transactions of as many rows.
The server is a real one that syncs, on this machine: it shares the processors with us.

Sketch: 64 bytes a tick become 102 of binary COPY, at 10 M rows/s on a core; the server takes them
apart, forms rows of 96 bytes and logs as many: 1 to 1.5 us a row on its core.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psycopg

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]

import market  # noqa: E402
from tests.services import PostgresService  # noqa: E402

from tapeworks import _core  # noqa: E402
from tapeworks.sinks.base import SinkContext  # noqa: E402
from tapeworks.sinks.feeder import Feeder  # noqa: E402
from tapeworks.sinks.postgres import PostgresConfig, PostgresSink  # noqa: E402
from tapeworks.sinks.postgres_tables import encoder_of  # noqa: E402
from tapeworks.sinks.store_tables import TABLES  # noqa: E402
from tapeworks.topics import NORMALIZED, TICKS  # noqa: E402

[TABLE] = [table for table in TABLES if table.name == "ticks"]
FLUSH_ROWS = 200_000


def ticks(count: int) -> "np.ndarray":
    """Returns ticks of one day, with prices in cents and sizes in steps of 1e-5."""
    random = np.random.default_rng(5)
    rows = np.zeros(count, _core.dtype_descr("tick"))
    rows["length"], rows["kind"], rows["feed"] = 8, _core.kind_of("tick"), 1
    rows["instrument"] = random.integers(1, len(market.SYMBOLS) + 1, count)
    rows["ts_event"] = rows["ts_recv"] = market.START + np.arange(count) * 20_000
    rows["bid"] = random.integers(100, 9_000_000, count) * 10_000_000
    rows["ask"] = rows["bid"] + 10_000_000
    rows["last"] = rows["bid"]
    rows["volume"] = random.integers(0, 100_000, count) * 1_000
    return rows


def write_tape(data: Path, topic: str, rows: "np.ndarray") -> Path:
    """Writes a tape of frames of a thousand records."""
    tape = data / "tape" / market.SOURCE / topic
    tape.mkdir(parents=True)
    with _core.TapeWriter(tape, durability="never") as writer:
        for at in range(0, len(rows), 1_000):
            part = rows[at : at + 1_000]
            writer.append(part.tobytes(), ts=int(part["ts_recv"].max()))
        writer.sync()
    return tape


def main() -> None:
    """Stores all ticks, checks that they are there, and prints rows a second."""
    count, mode = max(10_000, int(2e6 * float(sys.argv[1]))), sys.argv[2]
    with tempfile.TemporaryDirectory() as folder, PostgresService() as server:
        data, url = Path(folder), server.url()
        write_tape(data, NORMALIZED, market.definitions())
        tape = write_tape(data, TICKS, ticks(count))
        config = PostgresConfig(
            url=url, index=mode == "index", flush_rows=FLUSH_ROWS, flush_seconds=600.0
        )
        sink = PostgresSink(config, SinkContext("postgres", data))
        feeder = Feeder(sink.partition(market.SOURCE, TICKS), tape, config.policy)
        feeder._move()
        if mode == "copy":
            took = copy(feeder, url)
        else:
            began = time.perf_counter()
            feeder.drain(600)
            took = time.perf_counter() - began
        feeder.close()
        with psycopg.connect(url) as connection:
            query = "select count(*), count(distinct id) from tapeworks.ticks"
            assert connection.execute(query).fetchone() == (count, count)
            query = "select sum(pg_total_relation_size(relid)) from pg_partition_tree(%s)"
            [size] = connection.execute(query, ["tapeworks.ticks"]).fetchone() or (0,)
        print(json.dumps({"value": count / took, "bytes_a_row": float(size) / count}))


def copy(feeder: Feeder, url: str) -> float:
    """Copies rows that were encoded before, by psycopg alone; returns the seconds."""
    partition = feeder.partition
    streams, day = [], 0
    reader = _core.TapeReader(feeder._tape)
    while (batch := reader.read(FLUSH_ROWS)) is not None:
        batches = [batch]
        while (more := reader.read(FLUSH_ROWS - sum(map(len, batches)))) is not None:
            batches.append(more)
            if sum(map(len, batches)) >= FLUSH_ROWS:
                break
        parts, _ = encoder_of(TABLE).encode(batches, partition.symbols, partition.source)
        [(day, _, rows)] = parts
        streams.append(_core.CopyTable.HEAD + rows + _core.CopyTable.END)
    with psycopg.connect(url, options="-c search_path=tapeworks") as connection:
        date = np.datetime64(day, "D").astype(object)
        connection.execute("select make_partition('ticks', %s)", [date])
        connection.commit()
        query = f"copy ticks_{date:%Y%m%d} ({', '.join(TABLE.columns)}) from stdin (format binary)"
        began = time.perf_counter()
        for stream in streams:
            with connection.cursor() as cursor, cursor.copy(query) as target:
                target.write(stream)
            connection.commit()
        return time.perf_counter() - began


main()
