"""Trades from the tape into QuestDB, exactly once, beside its own client.

Argument 1: how many, as a multiple of two million; 2: `sink`; or `client`, which is a peer: the
same columns, taken apart into a pandas frame before, sent by the official client's bulk call. It
keeps no place, and its prices are doubles, as it sends no exact ones from a frame of numbers. Both
go into tables with the same keys, on a real server on this machine, until readers see all rows.

Sketch: 64 bytes a trade become a line of 230; to encode one takes 150 ns, to read it the server
takes 1 to 2 us of its one thread for a connection, and as long again to sort it into its partition.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from questdb.ingress import Protocol, Sender

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]

import market  # noqa: E402
from tests.services import QuestDBService  # noqa: E402

from tapeworks import _core  # noqa: E402
from tapeworks.sinks.base import SinkContext  # noqa: E402
from tapeworks.sinks.feeder import Feeder  # noqa: E402
from tapeworks.sinks.questdb import QuestDBConfig, QuestDBSink  # noqa: E402

FLUSH_ROWS = 200_000
DOUBLES = (
    "create table trades (symbol symbol, side symbol, channel symbol, provider symbol, id long, "
    "price double, size double, trade_id long, sequence long, conditions int, flags int, "
    "ts_recv timestamp_ns, ts timestamp_ns) timestamp(ts) partition by day wal "
    "dedup upsert keys(ts, provider, id)"
)


def main() -> None:
    """Stores all trades, checks that they are there, and prints rows a second."""
    count, mode = max(10_000, int(2e6 * float(sys.argv[1]))), sys.argv[2]
    with tempfile.TemporaryDirectory() as folder, QuestDBService() as server:
        data = Path(folder)
        work = sink(server, data, count) if mode == "sink" else client(server, count)
        began, started = time.perf_counter(), time.process_time()
        work()
        query = "select writerTxn = sequencerTxn from wal_tables() where name = 'trades'"
        while server.ask(query) != [[True]]:
            time.sleep(0.01)
        cpu, took = time.process_time() - started, time.perf_counter() - began
        assert server.ask("select count(), count_distinct(id) from trades") == [[count, count]]
        size = server.ask("select diskSize from table_storage() where tableName = 'trades'")[0][0]
    told = {"value": count / took, "core": count / cpu, "bytes_a_row": float(size) / count}
    print(json.dumps(told))


def trades_of(count: int) -> "np.ndarray":
    """Returns trades of one day."""
    return market.trades(count, seed=7)


def sink(server: QuestDBService, data: Path, count: int) -> Callable[[], object]:
    """Returns what stores all of a tape; connected, with its tables made."""
    tape = data / "tape" / market.SOURCE / market.TOPIC
    tape.mkdir(parents=True)
    with _core.TapeWriter(tape, durability="never") as writer:
        writer.append(market.definitions().tobytes())
        rows = trades_of(count)
        for at in range(0, count, 1_000):
            part = rows[at : at + 1_000]
            writer.append(part.tobytes(), ts=int(part["ts_recv"].max()))
        writer.sync()
    config = QuestDBConfig(
        url=server.url(),
        topics=(market.TOPIC,),
        kinds=("trade",),
        flush_rows=FLUSH_ROWS,
        flush_seconds=600.0,
        timeout_seconds=60.0,
    )
    partition = QuestDBSink(config, SinkContext("questdb", data)).partition(
        market.SOURCE, market.TOPIC
    )
    feeder = Feeder(partition, tape, config.policy)
    while feeder.stored is None:
        feeder.step()

    def work() -> None:
        assert feeder.drain(600)
        feeder.close()

    return work


def client(server: QuestDBService, count: int) -> Callable[[], object]:
    """Returns what sends a frame by the official client."""
    server.ask(DOUBLES)
    rows = trades_of(count)
    names = np.array(["", *market.SYMBOLS])
    sides = np.array(["none", "buy", "sell"])
    frame = pd.DataFrame(
        {
            "symbol": pd.Categorical(names[rows["instrument"]]),
            "side": pd.Categorical(sides[rows["side"]]),
            "channel": pd.Categorical(["trade"] * count),
            "provider": pd.Categorical([market.SOURCE] * count),
            "id": np.arange(count),
            "price": rows["price"] / 1e9,
            "size": rows["size"] / 1e8,
            "trade_id": rows["trade_id"].astype(np.int64),
            "sequence": rows["sequence"].astype(np.int64),
            "conditions": 0,
            "flags": rows["flags"].astype(np.int64),
            "ts_recv": rows["ts_recv"].view("datetime64[ns]"),
            "ts": rows["ts_event"].view("datetime64[ns]"),
        }
    )

    def work() -> None:
        with Sender(Protocol.Http, "127.0.0.1", server.port, auto_flush=False) as sender:
            for start in range(0, count, FLUSH_ROWS):
                part = frame.iloc[start : start + FLUSH_ROWS]
                sender.dataframe(part, table_name="trades", symbols="auto", at="ts")
                sender.flush()

    return work


main()
