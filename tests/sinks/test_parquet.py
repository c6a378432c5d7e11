"""The Parquet lake: exact values for every reader, and each row once whatever is killed when."""

import os
import random
import signal
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from tapeworks import _core, lake
from tapeworks.errors import SinkUnavailable, TapeworksError
from tapeworks.sinks.base import Feeder
from tapeworks.sinks.compaction import Compaction
from tapeworks.sinks.parquet import ParquetConfig, ParquetSink

TOPIC = "market-data.normalized"
WORKER = """
import sys
from pathlib import Path
from types import SimpleNamespace
from tapeworks.sinks.base import run_worker
from tapeworks.sinks.parquet import ParquetConfig
settings = ParquetConfig(flush_rows=700, flush_seconds=0.05, row_group_rows=256)
config = SimpleNamespace(data=Path(sys.argv[1]), feeds=["binance-spot"],
                         sinks={"parquet": settings})
print("ready", flush=True)
run_worker(config, "parquet")
"""


def start_worker(spine) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", WORKER, str(spine.path)]
    worker = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert worker.stdout is not None
    assert worker.stdout.readline() == b"ready\n"
    worker.stdout.close()
    return worker


def drain(spine, topic: str = TOPIC, seconds_max: float = 30, **settings: float) -> None:
    config = ParquetConfig(**settings)
    sink = ParquetSink(config, spine.path, spine.source, topic)
    feeder = Feeder(sink, spine.tape(topic), config.policy)
    feeder.drain(seconds_max=seconds_max)
    feeder.close()


def pattern(spine, table: str = "trades") -> str:
    return str(spine.path / "lake" / table / "*" / "*" / "*.parquet")


def files(spine, table: str = "trades") -> list[Path]:
    return sorted((spine.path / "lake" / table).rglob("*.parquet"))


def test_every_reader_sees_the_exact_values(spine, maker):
    # Extremes of a 64-bit price and size, and an ordinary one: DuckDB, pandas, Polars and pyarrow
    # must give the same exact decimals. Times keep their nanoseconds.
    rows = maker.trades(3)
    rows["price"] = [2**63 - 2, -(2**63), 67_000_120_000_000]
    rows["size"] = [2**63 - 2, 1, 150_000]
    rows["ts_recv"] = 1_700_262_000_123_456_789
    spine.append(maker.definitions())
    spine.append(rows)
    drain(spine)
    prices = [Decimal(int(v)).scaleb(-9) for v in rows["price"]]
    sizes = [Decimal(int(v)).scaleb(-8) for v in rows["size"]]
    found = duckdb.sql(
        "select price, size, epoch_ns(ts_recv) + ts_recv_ns "
        f"from '{pattern(spine)}' order by trade_id"
    ).fetchall()
    assert found == [(p, s, 1_700_262_000_123_456_789) for p, s in zip(prices, sizes, strict=True)]
    folder = str(spine.path / "lake" / "trades")
    frame = pd.read_parquet(folder).sort_values("trade_id")
    assert list(frame["price"]) == prices
    assert list(frame["size"]) == sizes
    scanned = pl.scan_parquet(pattern(spine)).sort("trade_id").collect()
    assert scanned["price"].to_list() == prices
    assert scanned["ts_recv"].cast(pl.Int64).to_list() == [1_700_262_000_123_456] * 3
    assert scanned["ts_recv_ns"].to_list() == [789] * 3
    table = ds.dataset(folder, partitioning="hive").to_table().sort_by("trade_id")
    assert table["size"].to_pylist() == sizes


def test_price_times_size_does_not_overflow(spine, maker):
    # DuckDB multiplies decimals of 18 digits within 18 digits and fails; ours have 19.
    spine.append(maker.definitions())
    rows = maker.trades(1)
    rows["price"], rows["size"] = 60_000 * 10**9, 10**8
    spine.append(rows)
    drain(spine)
    assert duckdb.sql(f"select sum(price * size) from '{pattern(spine)}'").fetchall()[0] == (
        Decimal(60_000),
    )


def test_files_are_sorted_and_ties_keep_the_order_of_the_tape(spine, maker):
    # Times that differ by nanoseconds are in order; equal ones of one symbol stay in the order of
    # their offsets.
    rows = maker.trades(1_000)
    rows["ts_event"] = np.repeat(rows["ts_event"][::10], 10) + np.tile([5, 5, 7, 6, 2], 200)
    spine.append(maker.definitions())
    spine.append(rows)
    drain(spine)
    for path in files(spine):
        table = pq.ParquetFile(path).read().to_pylist()
        keys = [
            (row["symbol"], row["ts_event"], row["ts_event_ns"], row["tape_offset"])
            for row in table
        ]
        assert keys == sorted(keys)


def test_only_columns_with_absent_values_are_nullable_and_all_files_read_as_one(spine, maker):
    # One file lacks no time, the next lacks one after a whole row group: it is begun anew with that
    # column nullable. Every reader takes both together, and compaction makes one of them.
    spine.append(maker.definitions())
    spine.append(maker.trades(40))
    drain(spine)
    rows = maker.trades(40)
    rows["ts_event"][35:] = _core.NONE
    spine.append(rows)
    drain(spine, row_group_rows=16)
    fields = [pq.read_schema(path).field("ts_event").nullable for path in files(spine)]
    assert fields == [False, True]
    schema = pq.read_schema(files(spine)[1])
    assert [field.name for field in schema if field.nullable] == ["ts_event", "ts_event_ns"]
    count = f"select count(*), count(ts_event) from '{pattern(spine)}'"
    assert duckdb.sql(count).fetchall() == [(80, 75)]
    folder = str(spine.path / "lake" / "trades")
    assert pd.read_parquet(folder)["ts_event"].isna().sum() == 5
    assert pl.scan_parquet(pattern(spine)).collect()["ts_event"].null_count() == 5
    assert ds.dataset(folder).to_table()["ts_event"].null_count == 5
    compaction = Compaction(spine.path / "lake", spine.source, TOPIC, 16, 1)
    while compaction.step("2999-01-01"):
        pass
    assert len(files(spine)) == 1
    assert duckdb.sql(count).fetchall() == [(80, 75)]


def test_each_day_has_its_folder_and_absent_values_are_null(spine, maker):
    # The workload crosses midnight; a quote without a bid has no bid price.
    spine.append(maker.definitions())
    spine.append(maker.trades(40_000))
    quotes = maker.rows("quote", 1, instrument=1, ts_event=1, ts_recv=1, ask_price=5)
    quotes["bid_price"] = _core.NONE
    spine.append(quotes)
    drain(spine)
    days = {path.parent.name for path in files(spine)}
    assert days == {"date=2023-11-17", "date=2023-11-18"}
    for path in files(spine):
        day = path.parent.name.removeprefix("date=")
        found = duckdb.sql(f"select distinct ts_event::date::varchar from '{path}'").fetchall()
        assert found == [(day,)]
    shown = duckdb.sql(f"select bid_price, ask_price from '{pattern(spine, 'quotes')}'").fetchall()[
        0
    ]
    assert shown == (None, Decimal("5E-9"))


def test_statistics_let_a_reader_skip(spine, maker):
    # Row groups of 1,000 rows: each must know its least and greatest symbol and time.
    spine.append(maker.definitions())
    spine.append(maker.trades(5_000))
    drain(spine, row_group_rows=1_000)
    footer = pq.read_metadata(files(spine)[0])
    assert footer.num_row_groups == 5
    for column in ("symbol", "ts_event", "price"):
        index = footer.schema.names.index(column)
        assert footer.row_group(0).column(index).statistics.has_min_max


def test_instrument_without_definition_waits(spine, maker):
    # Trades of an unknown instrument are not written under no symbol: the sink says why, and
    # goes on when the definition comes.
    spine.append(maker.trades(10))
    sink = ParquetSink(ParquetConfig(), spine.path, spine.source, TOPIC)
    reader = _core.TapeReader(spine.tape())
    reader.seek(sink.open())
    sink.write(reader.read())
    with pytest.raises(SinkUnavailable, match="no definition"):
        sink.flush()
    spine.append(maker.definitions())
    sink.write(reader.read())
    sink.flush()
    assert sum(pq.read_metadata(path).num_rows for path in files(spine)) == 10


@pytest.mark.parametrize("moved", [0, 1, 2])
def test_crash_between_commit_and_rename_is_finished(spine, maker, moved, monkeypatch):
    # Stop after `moved` of the files were renamed: the next open renames the others.
    spine.append(maker.definitions())
    spine.append(maker.trades(40_000))
    settle = lake.settle

    def half(path, source, topic, commit):
        part = lake.Commit(commit.offset, commit.files[:moved])
        settle(path, source, topic, part)
        if commit.files:
            raise InterruptedError

    monkeypatch.setattr(lake, "settle", half)
    # It fails however often it is tried: half a second is enough for the second attempt.
    with pytest.raises(SinkUnavailable):
        drain(spine, seconds_max=0.5)
    monkeypatch.undo()
    drain(spine)
    found = duckdb.sql(f"select count(*), count(distinct trade_id) from '{pattern(spine)}'")
    assert found.fetchall()[0] == (40_000, 40_000)
    assert not list((spine.path / "lake" / lake.STAGING).rglob("*.parquet"))


def test_commit_of_a_newer_version_is_refused(spine, maker):
    # Going on from an offset that this build does not understand would write rows twice.
    spine.append(maker.definitions())
    drain(spine)
    path = lake.commit_path(spine.path / "lake", spine.source, TOPIC)
    path.write_text(path.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(TapeworksError, match="update Tapeworks"):
        drain(spine)


def test_tops_of_books_become_rows(spine, maker):
    # Two tops, the second cut by a flush in its middle: each is one row, best level first.
    topic = "market-data.book"
    spine.append(maker.definitions())
    drain(spine)
    begin = maker.rows("marker", 1, instrument=1, ts_event=5, code=1, channel=5)
    end = maker.rows("marker", 1, instrument=1, ts_event=6, code=2, channel=5)
    levels = maker.rows("level", 4, instrument=1, ts_event=6, channel=5, size=7)
    levels["price"], levels["side"] = [10, 9, 11, 12], [1, 1, 2, 2]
    for part in (begin, levels, end, begin, levels[:2]):
        spine.append(part, topic)
    drain(spine, topic)
    spine.append(levels[2:], topic)
    spine.append(end, topic)
    drain(spine, topic)
    rows = duckdb.sql(
        f"select symbol, bid_price, ask_price from '{pattern(spine, 'book_snapshots')}'"
    ).fetchall()
    bids, asks = [Decimal("1E-8"), Decimal("9E-9")], [Decimal("1.1E-8"), Decimal("1.2E-8")]
    assert rows == [("BTCUSDT", bids, asks)] * 2


def test_killed_sink_neither_loses_nor_doubles(spine, maker):
    # A real process is killed at random instants while the tape grows; readers that know nothing
    # of commits never see a row twice, and in the end the lake is the tape.
    seed = int.from_bytes(os.urandom(4))
    print("seed", seed)
    chance = random.Random(seed)
    spine.append(maker.definitions())
    first = 0
    for _ in range(12):
        count = chance.randrange(500, 3_000)
        spine.append(maker.trades(count, first))
        first += count
        worker = start_worker(spine)
        time.sleep(chance.uniform(0, 0.3))
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        if files(spine):
            seen = duckdb.sql(f"select count(*), count(distinct trade_id) from '{pattern(spine)}'")
            total, distinct = seen.fetchall()[0]
            assert total == distinct, seed
    worker = start_worker(spine)
    time.sleep(0.2)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=30) == 0
    ids = duckdb.sql(f"select trade_id from '{pattern(spine)}' order by 1").fetchall()
    assert [row[0] for row in ids] == list(range(first)), seed
