"""Trades from the tape into QuestDB or ClickHouse, exactly once, beside the store's own client.

Argument 1: how many, as a multiple of two million; 2: `questdb` or `clickhouse`; 3: `sink`; or
`client`, which is a peer: the same columns, made ready before, by the bulk call of the official
client, in batches of as many. It keeps no place and no claim. That of QuestDB sends a pandas frame,
whose prices are doubles, into a table with the same keys; that of ClickHouse an Arrow table. The
server is a real one on this machine (of ClickHouse: the engine behind its HTTP interface), and is
waited for until readers see all rows.

Sketch: 64 bytes a trade become a line of 230 for QuestDB; to encode one takes 150 ns, to read it
the server takes 1 to 2 us of its one thread for a connection, and as long again to sort it into its
partition. ClickHouse reads columns, 0.3 us a row, and sorts and packs them, as long again.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import clickhouse_connect
import numpy as np
import pandas as pd
from questdb.ingress import Protocol, Sender

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]

import market  # noqa: E402
from tests.services import SERVICES, QuestDBService  # noqa: E402

from tapeworks import _core  # noqa: E402
from tapeworks.registry import load_member, load_settings  # noqa: E402
from tapeworks.sinks.base import SinkContext  # noqa: E402
from tapeworks.sinks.clickhouse_tables import rows_of, statements  # noqa: E402
from tapeworks.sinks.feeder import Feeder  # noqa: E402
from tapeworks.sinks.store_tables import TABLES  # noqa: E402

FLUSH_ROWS = {"questdb": 200_000, "clickhouse": 500_000}
"""What the sinks are set to by default."""
DOUBLES = (
    "create table trades (symbol symbol, side symbol, channel symbol, provider symbol, id long, "
    "price double, size double, trade_id long, sequence long, conditions int, flags int, "
    "ts_recv timestamp_ns, ts timestamp_ns) timestamp(ts) partition by day wal "
    "dedup upsert keys(ts, provider, id)"
)


def main() -> None:
    """Stores all trades, checks that they are there, and prints rows a second."""
    count, name, mode = max(10_000, int(2e6 * float(sys.argv[1]))), sys.argv[2], sys.argv[3]
    with tempfile.TemporaryDirectory() as folder, SERVICES[name]() as server:
        if mode == "sink":
            work = sink(name, server, Path(folder), count)
        else:
            work = (quest_client if name == "questdb" else click_client)(server, count)
        began, started = time.perf_counter(), time.process_time()
        work()
        (check_quest if name == "questdb" else check_click)(server, count)
        cpu, took = time.process_time() - started, time.perf_counter() - began
        size = size_quest(server) if name == "questdb" else size_click(server)
    told = {"value": count / took, "core": count / cpu, "bytes_a_row": size / count}
    print(json.dumps(told))


def check_quest(server: Any, count: int) -> None:
    """Waits until readers see all, and counts."""
    query = "select writerTxn = sequencerTxn from wal_tables() where name = 'trades'"
    while server.ask(query) != [[True]]:
        time.sleep(0.01)
    assert server.ask("select count(), count_distinct(id) from trades") == [[count, count]]


def size_quest(server: Any) -> float:
    """Returns the bytes of the table on disk."""
    query = "select diskSize from table_storage() where tableName = 'trades'"
    return float(server.ask(query)[0][0])


def ask_click(server: Any, query: str) -> Any:
    """Asks ClickHouse for one row."""
    with clickhouse_connect.get_client(dsn=server.url(), compress=False) as client:
        return client.query(query).result_rows[0]


def check_click(server: Any, count: int) -> None:
    """Counts what readers see."""
    found = ask_click(server, "select count(), uniqExact(id) from tapeworks.trades")
    assert found == (count, count)


def size_click(server: Any) -> float:
    """Returns the bytes of the table on disk."""
    query = "select sum(bytes_on_disk) from system.parts where active and table = 'trades'"
    return float(ask_click(server, query)[0])


def trades_of(count: int) -> "np.ndarray":
    """Returns trades of one day."""
    return market.trades(count, seed=7)


def sink(name: str, server: Any, data: Path, count: int) -> Callable[[], object]:
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
    config = load_settings("sink", name)(
        url=server.url(),
        topics=(market.TOPIC,),
        kinds=("trade",),
        flush_rows=FLUSH_ROWS[name],
        flush_seconds=600.0,
        timeout_seconds=60.0,
    )
    partition = load_member("sink", name)(config, SinkContext(name, data)).partition(
        market.SOURCE, market.TOPIC
    )
    feeder = Feeder(partition, tape, config.policy)
    while feeder.stored is None:
        feeder.step()

    def work() -> None:
        assert feeder.drain(600)
        feeder.close()

    return work


def quest_client(server: QuestDBService, count: int) -> Callable[[], object]:
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
            for start in range(0, count, FLUSH_ROWS["questdb"]):
                part = frame.iloc[start : start + FLUSH_ROWS["questdb"]]
                sender.dataframe(part, table_name="trades", symbols="auto", at="ts")
                sender.flush()

    return work


def click_client(server: Any, count: int) -> Callable[[], object]:
    """Returns what sends Arrow tables by the official client, into the same table."""
    [trades] = [table for table in TABLES if table.name == "trades"]
    symbols = _core.Symbols()
    symbols.load(_core.Records.from_bytes(market.definitions().tobytes()))
    records = _core.Records.from_bytes(trades_of(count).tobytes())
    parts = []
    for start in range(0, count, FLUSH_ROWS["clickhouse"]):
        part = [records.slice(start, min(count, start + FLUSH_ROWS["clickhouse"]))]
        parts.append(rows_of(trades, part, symbols, market.SOURCE, None)[0])
    client = clickhouse_connect.get_client(dsn=server.url(), compress=False)
    for text in statements("tapeworks", (market.TOPIC,)):
        client.command(text)

    def work() -> None:
        for part in parts:
            client.insert_arrow("tapeworks.trades", part)
        client.close()

    return work


main()
