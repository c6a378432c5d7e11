"""The lake in Iceberg tables: the same rows, each once, through whatever happens in between."""

import importlib
import json
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import duckdb
import polars as pl
import pyarrow as pa
import pytest
from tests.e2e.test_engines import add_rest, in_order, of_arrow
from tests.services.base import ServiceUnavailable
from tests.services.iceberg_spark import IcebergSparkJar
from tests.services.spark import spark_session

import tapeworks as tw
from conftest import Command, SpineFolder, derive
from tapeworks import _core, commits
from tapeworks.errors import (
    ConfigError,
    LakeError,
    TapeLockedError,
    TapeReplacedError,
    TapeworksError,
)
from tapeworks.jobs.iceberg import tables
from tapeworks.jobs.iceberg.closed import Closed
from tapeworks.jobs.iceberg.config import IcebergConfig
from tapeworks.jobs.iceberg.job import IcebergJob
from tapeworks.jobs.iceberg.upkeep import run_upkeep
from tapeworks.lake import TABLES
from tapeworks.lake_rebuild import rebuild
from tapeworks.pipeline import Config
from tapeworks.published import Coverage, Store, coverage_in
from tapeworks.sinks.compaction import Compaction
from tapeworks.sinks.parquet import ParquetConfig, ParquetPartition
from tapeworks.stopping import Stop
from tapeworks.tape import Place, TapeReader, TapeWriter
from tapeworks.topics import NORMALIZED
from tapeworks.views.iceberg import open_table, state_of
from tapeworks.views.published import Published, PublishedTail

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

TOPICS = ("normalized", "gaps")
KEY = [("venue", "ascending"), ("tape_offset", "ascending")]


def publish(data: Path, **settings: Any) -> list[str]:
    """Publishes a data folder, also what is not over; returns what was told of it."""
    told: list[str] = []
    config = IcebergConfig(**{"now": True, **settings})
    outcome = IcebergJob(config, Config(data), Stop(), told.append).run()
    assert outcome.exit_code == 0, told
    return told


def tables_of(data: Path) -> Store:
    return Store(str(data / "iceberg" / "warehouse"))


def published(data: Path, table: str) -> pa.Table:
    """All rows of a table as pyiceberg reads them, without a catalog."""
    found = open_table(tables_of(data), f"tapeworks/{table}")
    assert found is not None
    return found.scan().to_arrow()


def stored(data: Path, table: str) -> pa.Table:
    """All rows of a table as DuckDB reads them in the files of the lake."""
    pattern = f"{data}/lake/{table}/*/*/*.parquet"
    return duckdb.sql(
        f"select * exclude (date) from read_parquet('{pattern}', hive_partitioning = true)"
    ).to_arrow_table()


def check(data: Path) -> int:
    """Compares all tables with the lake, value by value; returns how many rows they have."""
    rows = 0
    for name in TABLES:
        if not (data / "lake" / name).is_dir():
            continue
        lake, table = stored(data, name).sort_by(KEY), published(data, name)
        columns = sorted(lake.column_names)
        assert sorted(table.column_names) == columns
        # Values, as each has its own types: an integer is one, whatever its width.
        assert table.sort_by(KEY).select(columns).to_pylist() == lake.select(columns).to_pylist()
        rows += lake.num_rows
    return rows


def test_every_table_is_published_as_it_is(tmp_path):
    # All tables of the lake, also with a number that needs all of 32 bits, a time that is not
    # known, hashes of 64 bits and frames. Prices are decimals, times and their rest are exact, the
    # place on the tape is in the snapshot, and what is asked twice is published once.
    data = tmp_path / "data"
    add_rest(data)
    first = publish(data)
    assert first
    rows = check(data)
    assert rows > 400
    table = open_table(tables_of(data), "tapeworks/marks")
    assert table is not None
    kinds = {one.name: str(one.field_type) for one in table.schema().fields}
    assert kinds["mark_price"] == "decimal(19, 9)"
    assert (kinds["ts_event"], kinds["ts_event_ns"]) == ("timestamptz", "int")
    assert [one.name for one in table.spec().fields] == ["venue", "ts_event_day"]
    [covered] = coverage_in(table.current_snapshot().summary.additional_properties).values()
    commit = commits.read_commit(data / "lake", "made", "market-data.normalized")
    assert commit is not None
    assert covered.place == commit.place
    snapshots = len(table.metadata.snapshots)
    assert publish(data) == []
    again = open_table(tables_of(data), "tapeworks/marks")
    assert again is not None
    assert len(again.metadata.snapshots) == snapshots


def test_what_comes_late_or_is_merged_is_replaced_in_one_commit(spine, maker):
    # Days that are over, then late rows of them, then a merge: each time the table equals the lake,
    # a merge is one commit that replaces, and every snapshot between them is whole by itself.
    spine.append(maker.definitions())
    spine.append(maker.trades(37_000))
    spine.drain(flush_rows=20_000)
    told = publish(spine.path, now=False, batch_bytes=1)
    assert sum("trades" in line for line in told) == 2
    late = maker.trades(700, 37_000)
    late["ts_event"] -= 4_000 * 10**9
    spine.append(late)
    spine.drain()
    publish(spine.path, now=False)
    assert published(spine.path, "trades").num_rows == 37_700
    partition = ParquetPartition(
        ParquetConfig(), spine.path, spine.source, "market-data.normalized"
    )
    partition.open()
    merge = Compaction(partition._log, 131_072, 1)
    while merge.step("2030-01-01"):
        pass
    partition.close()
    [line] = [line for line in publish(spine.path, now=False) if "trades" in line]
    assert "instead of" in line
    check(spine.path)
    table = open_table(tables_of(spine.path), "tapeworks/trades")
    assert table is not None
    counts = [table.scan(snapshot_id=one.snapshot_id).count() for one in table.metadata.snapshots]
    assert counts[-1] == 37_700
    assert set(counts) <= {0, 36_000, 37_000, 37_700}


@pytest.mark.parametrize("partition", ["day", "hour"])
def test_rows_that_the_lake_lost_stay_published(spine, maker, partition):
    # A day is removed from the disk, and rebuilt of the part that the tape still has: what was
    # published stays, what is new comes, and a merge of old and new rows changes nothing. New rows
    # that were merged with old ones wait, and are told. By `replace_lost` the table is the lake.
    def write(first: int, end: int, **settings: Any) -> None:
        with TapeWriter(spine.tape(), segment_bytes=1 << 16, **settings) as tape:
            for at in range(first, end, 200):
                tape.append(maker.trades(200, at).tobytes())

    def offsets() -> list[int]:
        return sorted(published(spine.path, "trades")["tape_offset"].to_pylist())

    def merge() -> None:
        sink = ParquetPartition(ParquetConfig(), spine.path, spine.source, NORMALIZED)
        sink.open()
        compaction = Compaction(sink._log, 131_072, 1)
        while compaction.step("2030-01-01"):
            pass
        sink.close()

    spine.append(maker.definitions())
    spine.close()
    write(0, 4_000)
    spine.drain(flush_rows=1_000)
    publish(spine.path, partition=partition)
    assert offsets() == list(range(3, 4_003))
    shutil.rmtree(spine.path / "lake" / "trades" / f"venue={spine.source}")
    write(4_000, 4_200, retention_bytes=1 << 18)
    first = TapeReader(spine.tape()).first
    assert 3 < first < 4_003
    assert list(rebuild(spine.path, spine.source))
    told = publish(spine.path, partition=partition)
    assert any(f"{first - 3:,} published rows are not in the lake any more" in one for one in told)
    assert offsets() == list(range(3, 4_003))
    spine.drain()
    publish(spine.path, partition=partition)
    assert offsets() == list(range(3, 4_203))
    merge()
    publish(spine.path, partition=partition)
    assert offsets() == list(range(3, 4_203))
    write(4_200, 4_400)
    spine.drain()
    merge()
    config = IcebergConfig(now=True, partition=partition)
    outcome = IcebergJob(config, Config(spine.path), Stop(), told.append).run()
    assert (outcome.exit_code, outcome.told) == (3, "1 day was not published")
    assert "200 newer rows of the lake are in files with rows that are published" in told[-1]
    assert offsets() == list(range(3, 4_203))
    publish(spine.path, partition=partition, replace_lost=True)
    assert offsets() == list(range(first, 4_403))


def test_what_was_committed_is_seen_whatever_becomes_of_the_rest(spine, maker):
    # Two days are two commits; a file of the second one is damaged. Readers without a catalog see
    # the first day at once, and the other once the file is mended.
    spine.append(maker.definitions())
    spine.append(maker.trades(37_000))
    spine.drain(flush_rows=20_000)
    *_, last = sorted((spine.path / "lake" / "trades").rglob("*.parquet"))
    content = last.read_bytes()
    last.write_bytes(content[:999] + bytes([content[999] ^ 1]) + content[1_000:])
    with pytest.raises(LakeError, match="damaged"):
        publish(spine.path, batch_bytes=1)
    assert published(spine.path, "trades").num_rows == 36_000
    last.write_bytes(content)
    publish(spine.path)
    assert published(spine.path, "trades").num_rows == 37_000


def test_another_lake_a_second_instance_and_strange_files_are_refused(spine, maker, tmp_path):
    # A tape that was made anew, a lake that was restored from a copy, a process that publishes at
    # the same time, and a lake whose file was changed: each is refused, and the table stays.
    spine.append(maker.definitions())
    spine.append(maker.trades(2_000))
    spine.drain()
    home = str(tmp_path / "warehouse")
    catalog = f"sqlite:///{tmp_path}/catalog.db"
    place = {"warehouse": home, "catalog": catalog}
    publish(spine.path, **place)
    older = spine.path / "lake"
    copy = tmp_path / "copy"
    shutil.copytree(spine.path, copy)
    spine.append(maker.trades(100, 2_000))
    spine.drain()
    publish(spine.path, **place)
    with pytest.raises(LakeError, match="restored from an older copy"):
        publish(copy, **place)
    other = SpineFolder(tmp_path / "other")
    other.append(maker.definitions())
    other.append(maker.trades(9_000))
    other.drain()
    other.close()
    with pytest.raises(TapeReplacedError, match="published from tape"):
        publish(other.path, **place)
    with _core.FolderLock(spine.path / "iceberg"), pytest.raises(TapeLockedError):
        publish(spine.path, **place)
    spine.append(maker.trades(100, 2_100))
    spine.drain()
    newest = max(older.glob("trades/*/*/*.parquet"), key=lambda path: path.name)
    content = bytearray(newest.read_bytes())
    content[100] ^= 1
    newest.write_bytes(content)
    with pytest.raises(LakeError, match="damaged"):
        publish(spine.path, **place)
    table = open_table(Store(home), "tapeworks/trades")
    assert table is not None
    assert table.scan().count() == 2_100
    assert json.loads(state_of(table).covers[spine.source].to_json())["place"][0] == 2_103


def test_a_place_of_another_catalog_is_refused_until_its_metadata_is_registered(spine, maker):
    # A catalog that was lost, one that was restored from an older copy, and another folder with a
    # catalog of its own: none writes where the tables of the place are, or deletes. With the
    # metadata registered, what is left is published. Metadata without rows is nobody's.
    spine.append(maker.definitions())
    spine.append(maker.trades(500))
    spine.drain()
    folder, only = spine.path / "iceberg", {"tables": ("trades",)}
    metadata = folder / "warehouse" / "tapeworks" / "trades" / "metadata"
    metadata.mkdir(parents=True)
    (metadata / "00000-of-one-that-was-killed.metadata.json").write_text("{}")
    publish(spine.path, **only)
    shutil.copy(folder / "catalog.db", folder / "older.db")
    spine.append(maker.trades(500, 500))
    spine.drain()
    publish(spine.path, **only)
    for path in metadata.parent.rglob("*"):
        os.utime(path, (0, 0))
    held = sorted(folder.rglob("warehouse/tapeworks/trades/*/**"))
    warehouse, uri = str(folder / "warehouse"), f"sqlite:///{folder}/older.db"
    with pytest.raises(ConfigError, match="expected metadata that this catalog knows"):
        publish(spine.path, **only, catalog=uri)
    older = tables.open_catalog(IcebergConfig(catalog=uri), Store(warehouse), folder)
    old = older.load_table("tapeworks.trades")
    assert run_upkeep(old, Store(warehouse), IcebergConfig(snapshots_days=0)) == (0, 0)
    (folder / "catalog.db").unlink()
    with pytest.raises(ConfigError, match=r"expected no table, .* got metadata/0000.*--catalog"):
        publish(spine.path, **only)
    hint = metadata / "version-hint.text"
    named = hint.read_bytes()
    hint.unlink()
    with pytest.raises(ConfigError, match="expected no table"):
        publish(spine.path, **only)
    hint.write_bytes(named)
    assert sorted(folder.rglob("warehouse/tapeworks/trades/*/**")) == held
    older.drop_table("tapeworks.trades")
    older.register_table("tapeworks.trades", f"file://{metadata}/{named.decode()}.metadata.json")
    spine.append(maker.trades(500, 1_000))
    spine.drain()
    publish(spine.path, **only, catalog=uri)
    assert published(spine.path, "trades").num_rows == 1_500


def test_published_history_answers_as_the_lake_does(spine, maker, server, monkeypatch):
    # Trades, bars and a book, published to a real object store: opened by its address, every
    # question of a lake has the same answer, also on the command line; what is fetched is the file
    # of the lake. Wrong keys, a place where nothing is, and a changed object are told.
    for name, value in server("s3").environment().items():
        monkeypatch.setenv(name, value)
    boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="market")
    spine.append(maker.definitions())
    spine.append(maker.trades(3_000))
    derive(spine.path, spine.source)
    for topic in ("normalized", "gaps", "bars"):
        spine.drain(f"market-data.{topic}")
    address, cache = "s3://market/history", spine.path.parent / "cache"
    publish(spine.path, warehouse=address, tables=("trades", "bars", "instruments", "gaps"))
    with tw.open(spine.path) as local, tw.open(address, cache=cache) as remote:
        assert repr(remote) == "Lake('s3://market/history': binance-spot)"
        for question in (
            lambda lake: lake.trades("BTCUSDT", "2023-11-17", "2023-11-18"),
            lambda lake: lake.bars("ETH-USDT", interval="1m"),
            lambda lake: lake.instruments(),
            lambda lake: lake.sql("select symbol, sum(price * size) from trades group by all"),
        ):
            expected = question(local).to_arrow()
            assert expected.num_rows
            assert question(remote).to_arrow().sort_by("symbol") == expected.sort_by("symbol")
        assert remote.coverage("BTCUSDT").to_pylist() == local.coverage("BTCUSDT").to_pylist()
        batches = [bytes(one.records) for one in remote.replay(kinds="trades")]
        assert batches == [bytes(one.records) for one in local.replay(kinds="trades")]
    for fetched in cache.rglob("trades/*/*/*.parquet"):
        [same] = (spine.path / "lake" / "trades").rglob(f"{fetched.name[:25]}.parquet")
        assert fetched.read_bytes() == same.read_bytes()
    monkeypatch.setenv("XDG_CACHE_HOME", str(spine.path.parent))
    command = Command(spine.path.parent)
    words = ("query", "select count(*) as n from trades", "--data", address, "--format", "json")
    assert command.answer(*words) == [{"n": 3_000}]
    assert "nothing is published in" in command.refuse(*words[:3], "s3://market/none", code=1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    words = ("publish", "iceberg", "--warehouse", address, "--data", spine.path)
    told = command.refuse(*words, code=1)
    assert "not published: s3://market/history at http://127.0.0.1:1: " in told


def test_gaps_that_are_not_published_yet_are_not_known(spine, maker, monkeypatch):
    # A history with trades alone says nothing of gaps, until their table is published.
    monkeypatch.setenv("XDG_CACHE_HOME", str(spine.path.parent))
    spine.append(maker.definitions())
    spine.append(maker.trades(300))
    derive(spine.path, spine.source)
    for topic in ("normalized", "gaps"):
        spine.drain(f"market-data.{topic}")
    known = []
    for chosen in (("trades",), ("gaps",)):
        publish(spine.path, tables=chosen)
        address = str(spine.path / "iceberg" / "warehouse")
        tail = PublishedTail(Published(address), spine.source)
        known.append([tail.known_until(f"market-data.{topic}") for topic in TOPICS])
    assert known[0] == [None, None]
    assert all(known[1])


def test_a_history_is_known_only_with_what_repairs_and_corrections_told(spine, maker, monkeypatch):
    # Published by its parts, once each: gaps that were told anew while the records before them are
    # not published say nothing; trades alone bring their corrections with them. A run without any
    # news adds no snapshot.
    monkeypatch.setenv("XDG_CACHE_HOME", str(spine.path.parent))
    address = str(spine.path / "iceberg" / "warehouse")

    def record(*parts: Any) -> None:
        for part in parts:
            spine.append(part)
        derive(spine.path, spine.source)
        for topic in TOPICS:
            spine.drain(f"market-data.{topic}")

    def known() -> int | None:
        tail = PublishedTail(Published(address), spine.source)
        return tail.known_until(NORMALIZED)

    record(maker.definitions(), maker.trades(300))
    publish(spine.path, tables=("trades", "gaps"))
    assert known() is not None
    assert published(spine.path, "corrections").num_rows == 0
    codes, states = _core.numbers("marker_code"), _core.numbers("gap_state")
    gap = maker.rows("marker", 1, code=codes["gap"], state=states["repaired"], first=1, last=2)
    gap["ts_event"] = gap["ts_recv"] = maker.trades(1, 310)["ts_recv"]
    record(maker.trades(10, 300), gap)
    publish(spine.path, tables=("gaps",))
    assert known() is None
    publish(spine.path, tables=("trades",))
    assert known() is not None
    folders = [spine.path / f"iceberg/warehouse/tapeworks/{name}" for name in ("trades", "gaps")]
    before = [sorted(folder.rglob("*")) for folder in folders]
    record(maker.definitions())
    publish(spine.path, tables=("trades", "gaps"))
    assert [sorted(folder.rglob("*")) for folder in folders] == before
    corrections = spine.path / "iceberg/warehouse/tapeworks/corrections"
    corrections.rename(spine.path / "apart")
    assert known() is None


@pytest.mark.filterwarnings("ignore::polars.exceptions.PerformanceWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_spark_polars_and_duckdb_read_all_rows(tmp_path, spark):
    # All tables, by each engine with its own settings, against the files of the lake; and some that
    # are cut by the hour.
    data = tmp_path / "data"
    add_rest(data)
    publish(data)
    hourly = ("gaps", "marks", "orders")
    publish(data, partition="hour", namespace="hours", tables=hourly)
    engines = {"polars": with_polars, "duckdb": with_duckdb, "spark": with_spark(spark)}
    every = sorted(one.name for one in (data / "lake").iterdir() if one.name in TABLES)
    for folder in [*(f"tapeworks/{name}" for name in every), *(f"hours/{name}" for name in hourly)]:
        name = folder.partition("/")[2]
        table = open_table(tables_of(data), folder)
        assert table is not None
        expected = in_order(of_arrow(stored(data, name)))
        for engine, read in engines.items():
            found = in_order(read(table))
            assert found.keys() == expected.keys(), (engine, name)
            for column in expected:
                assert found[column] == expected[column], (engine, name, column)


@pytest.fixture
def spark() -> Iterator[Any]:
    """Spark with the runtime of Iceberg, and no setting that concerns reading."""
    jar = IcebergSparkJar()
    try:
        jar.install()
        importlib.import_module("pyspark")
    except (ImportError, ServiceUnavailable) as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"expected Java, Maven and `scripts/build spark` in CI: {error}")
        pytest.skip(f"scripts/build spark: {error}")
    with spark_session(jar.path) as session:
        yield session


def with_spark(session: Any) -> Callable[[Any], dict[str, list[Any]]]:
    def read(table: Any) -> dict[str, list[Any]]:
        frame = session.read.format("iceberg").load(table.metadata_location)
        rows = [row.asDict() for row in frame.collect()]
        return {name: [row[name] for row in rows] for name in frame.columns}

    return read


def with_polars(table: Any) -> dict[str, list[Any]]:
    return of_arrow(pl.scan_iceberg(table).collect().to_arrow())


def with_duckdb(table: Any) -> dict[str, list[Any]]:
    rows = table.scan().to_duckdb("rows").sql("select * from rows").to_arrow_table()
    return of_arrow(rows)


def test_the_past_of_a_table_ends_and_its_schema_grows(spine, maker, monkeypatch):
    # A table of before a column: the next run adds it, and rows of before have none. A disk that
    # is full while a file is copied: nothing is committed, and the next run does the rest. Old
    # snapshots are forgotten, and what none names is deleted, but for what is young.
    spine.append(maker.definitions())
    spine.append(maker.trades(500))
    spine.drain()
    with monkeypatch.context() as older:
        known = tables.fields_of
        older.setattr(
            tables, "fields_of", lambda table: [one for one in known(table) if one[0] != "flags"]
        )
        with pytest.raises(AssertionError, match="has no column flags"):
            publish(spine.path, tables=("trades",))
    publish(spine.path, tables=("trades",))
    assert published(spine.path, "trades").column("flags").to_pylist() == [1] * 500
    spine.append(maker.trades(500, 500))
    spine.drain()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, limit[1]))
    try:
        with pytest.raises(TapeworksError, match="File too large"):
            publish(spine.path, tables=("trades",))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert published(spine.path, "trades").num_rows == 500
    publish(spine.path, tables=("trades",))
    assert published(spine.path, "trades").num_rows == 1_000
    folder = spine.path / "iceberg" / "warehouse" / "tapeworks" / "trades"
    young, old = folder / "data" / "young.parquet", folder / "data" / "old.parquet"
    for path in (young, old):
        path.write_bytes(b"an upload that was killed")
    for path in folder.rglob("*"):
        if path != young:
            os.utime(path, (0, 0))
    publish(spine.path, tables=("trades",), snapshots_days=0)
    assert young.exists()
    assert not old.exists()
    table = open_table(tables_of(spine.path), "tapeworks/trades")
    assert table is not None
    assert len(table.metadata.snapshots) == 1
    assert published(spine.path, "trades").num_rows == 1_000


def test_days_and_hours_are_published_once_they_are_over():
    # By the clock of UTC, after the grace: a day, or with hours the day that is not over as well,
    # once for each hour; and always what has no time.
    undated, noon = "2262-04-11", 1_700_222_400.0
    days = [undated, "2023-11-18", "2023-11-17", "2023-11-16"]
    past = ["2023-11-16", undated]

    def chosen(hours: float, through: str = "", **settings: Any) -> list[str]:
        closed = Closed.at(noon + hours * 3_600, IcebergConfig(**settings))
        return closed.choose(days, Coverage(Place(), through))

    assert chosen(0) == past
    assert chosen(12.2) == past
    assert chosen(12.3) == ["2023-11-16", "2023-11-17", undated]
    assert chosen(0, now=True) == sorted(days)
    assert chosen(0, days=("2023-11-18",)) == ["2023-11-18"]
    assert chosen(0, "2023-11-17T11:00:00Z", period="hour") == past
    assert chosen(0.3, "2023-11-17T11:00:00Z", period="hour") == [past[0], "2023-11-17", undated]
    assert chosen(0.3, "2023-11-17T12:00:00Z", period="hour") == past
