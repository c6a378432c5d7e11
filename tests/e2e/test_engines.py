"""The lake as other engines read it, at their default settings: all see the same rows."""

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from tests.services.spark import spark_session

from conftest import START, Command, RecordMaker, SpineFolder
from tapeworks import _core, lake
from tapeworks.sinks.feeder import Feeder
from tapeworks.sinks.parquet import ParquetConfig, ParquetPartition

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

KEY = ("venue", "tape_offset")

Table = dict[str, list[Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lake of a demo of both venues."""
    command = Command(tmp_path_factory.mktemp("engines"))
    # Whether the demo proves what it should is its own test.
    command.run("demo", "--seconds", 8, "--json", code=None)
    add_rest(command.folder / "demo")
    return command.folder / "demo" / "lake"


def add_rest(data: Path) -> None:
    """Adds a source with what a demo has not: of derivatives and equities, gaps, dead letters."""
    maker, spine = RecordMaker(), SpineFolder(data, "made")
    ts = START + np.arange(50) * 10**9 + np.arange(50)
    times = {"instrument": 1, "ts_event": ts, "ts_recv": ts + 7}
    marks = maker.rows("mark", 50, mark_price=5, index_price=6, funding_rate=-7, **times)
    marks["ts_funding"] = np.where(np.arange(50) % 2, ts + 10**12, _core.NONE)
    gaps = maker.rows("marker", 50, code=3, cause=1, channel=1, count=7, state=2, **times)
    gaps["ts_start"] = ts - 999
    spine.append(maker.definitions())
    spine.append(marks)
    spine.append(maker.rows("bar", 50, interval_ms=60_000, closed=1, channel=6, **times))
    spine.append(maker.rows("order", 50, order_id=ts, price=5, size=7, **times))
    spine.append(maker.rows("status", 50, status=1, price_low=4, price_high=6, **times))
    spine.append(maker.rows("imbalance", 50, paired_size=5, near_price=6, side=1, **times))
    spine.append(maker.rows("correction", 50, trade_id=ts, action=2, price=5, size=7, **times))
    spine.append(maker.rows("corporate_action", 50, action=1, split_from=1, split_to=2, **times))
    spine.append(maker.rows("metric", 50, metric=b"mid", value=0.5, **times), "market-data.metrics")
    spine.append(gaps, "market-data.gaps")
    alerts = maker.rows(
        "alert", 50, rule=b"wide", id=np.arange(50), ts_start=ts, value=0.5, **times
    )
    spine.append(alerts, "market-data.alerts")
    append_blobs(spine, "market-data.dead", [(b"", bytes([at, 255]) * at) for at in range(20)])
    story = np.zeros(1, _core.dtype_descr("news"))
    story["ts_event"], story["ts_start"] = START, START + 7
    text = b'{"id":"7","headline":"\xc3\xa9","symbols":["A","B"],"raw":{"id":7}}'
    append_blobs(spine, "market-data.news", [(story.tobytes(), text)] * 20)
    spine.close()
    for name in ("normalized", "metrics", "alerts", "gaps", "dead", "news"):
        topic = f"market-data.{name}"
        config = ParquetConfig()
        sink = ParquetPartition(config, data, spine.source, topic)
        feeder = Feeder(sink, spine.tape(topic), config.policy)
        feeder.drain(seconds_max=30)
        feeder.close()


def append_blobs(spine: SpineFolder, topic: str, blobs: list[tuple[bytes, bytes]]) -> None:
    """Writes a tape of blobs, each of a context and a body."""
    spine.tape(topic).mkdir(parents=True)
    with _core.TapeWriter(spine.tape(topic), "blobs") as writer:
        for at, (context, body) in enumerate(blobs):
            writer.append_blob(1, body, context=context, ts=START + at)


@pytest.fixture(scope="module")
def spark() -> Iterator[Any]:
    """Spark with nothing set that concerns reading."""
    if shutil.which("java") is None or importlib.util.find_spec("pyspark") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("expected Java and `scripts/build spark` in CI")
        pytest.skip("Java or PySpark is missing: scripts/build spark")
    with spark_session() as session:
        yield session


def with_spark(session: Any) -> Callable[[Path], Table]:
    def read(path: Path) -> Table:
        rows = [row.asDict() for row in session.read.parquet(str(path)).collect()]
        return {name: [row[name] for row in rows] for name in rows[0]}

    return read


def with_duckdb(path: Path) -> Table:
    return of_arrow(
        duckdb.sql(
            f"select * from read_parquet('{path}/*/*/*.parquet', hive_partitioning = true)"
        ).to_arrow_table()
    )


def with_polars(path: Path) -> Table:
    return of_arrow(pl.read_parquet(path, hive_partitioning=True).to_arrow())


def with_pandas(path: Path) -> Table:
    frame = pd.read_parquet(path)
    return {name: frame[name].tolist() for name in frame.columns}


def of_arrow(table: pa.Table) -> Table:
    return {name: table[name].to_pylist() for name in table.column_names}


def plain(value: Any) -> Any:
    """Returns a value as all engines mean it: instants in us, exact numbers, nothing for absent."""
    if isinstance(value, list | tuple) or type(value).__name__ == "ndarray":
        return [plain(inner) for inner in value]
    if value is None or value is pd.NaT or value != value:
        return None
    if isinstance(value, datetime):
        # Of Spark an instant in the zone of this machine, without naming it.
        return round(value.timestamp() * 1e6)
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    if isinstance(value, float) and value.is_integer():
        return Decimal(int(value))
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return Decimal(value)
    return str(value)


def in_order(table: Table) -> dict[str, list[Any]]:
    columns = {name: [plain(value) for value in values] for name, values in table.items()}
    order = sorted(range(len(columns[KEY[1]])), key=lambda at: [columns[name][at] for name in KEY])
    return {name: [values[at] for at in order] for name, values in columns.items()}


def test_every_engine_reads_every_table_alike(folder: Path, spark: Any) -> None:
    # Value by value against pyarrow's own reading of the same files.
    readers = {
        "spark": with_spark(spark),
        "duckdb": with_duckdb,
        "polars": with_polars,
        "pandas": with_pandas,
    }
    for name in lake.TABLES:
        path = folder / name
        expected = in_order(of_arrow(ds.dataset(path, partitioning="hive").to_table()))
        assert expected["tape_offset"], name
        for engine, read in readers.items():
            found = in_order(read(path))
            assert set(found) == set(expected), (engine, name)
            for column, values in expected.items():
                assert found[column] == values, (engine, name, column)


def test_spark_reads_times_as_times(folder: Path, spark: Any) -> None:
    # Its own functions work on them, and the nanoseconds are beside.
    frame = spark.read.parquet(str(folder / "trades"))
    types = dict(frame.dtypes)
    assert (types["ts_event"], types["ts_event_ns"]) == ("timestamp", "smallint")
    frame.createOrReplaceTempView("trades")
    [row] = spark.sql(
        "select count(*) as n, count(distinct date_trunc('second', ts_recv)) as seconds, "
        "min(ts_recv_ns) as low, max(ts_recv_ns) as high from trades"
    ).collect()
    assert row["n"] > 100
    assert row["seconds"] > 3
    assert 0 <= row["low"] <= row["high"] <= 999
