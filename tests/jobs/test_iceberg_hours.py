"""Iceberg tables that are cut by the hour: each hour once it is over, its rows once."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from tests.e2e.test_engines import add_rest
from tests.jobs.test_iceberg import check, publish, published, stored, tables_of

import tapeworks as tw
from conftest import RecordMaker, SpineFolder
from tapeworks.errors import ConfigError, LakeError
from tapeworks.jobs.iceberg import publisher
from tapeworks.jobs.iceberg.closed import Closed
from tapeworks.jobs.iceberg.config import IcebergConfig
from tapeworks.published import PublishedFile
from tapeworks.sinks.compaction import Compaction
from tapeworks.sinks.parquet import ParquetConfig, ParquetPartition
from tapeworks.views.iceberg import open_table, state_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

EVENING = datetime(2023, 11, 17, 20, tzinfo=UTC)
HOUR_NS = 3_600_000_000_000
ROWS = 18_000
BY_HOUR = {"now": False, "partition": "hour", "tables": ("trades",)}


def evening_trades(maker: RecordMaker) -> Any:
    """Returns trades of six hours, up to two in the morning."""
    trades = maker.trades(ROWS)
    trades["ts_event"] = int(EVENING.timestamp()) * 10**9 + np.arange(ROWS) * (6 * HOUR_NS // ROWS)
    trades["ts_recv"] = trades["ts_event"] + 1_000_000
    return trades


def store(spine: SpineFolder, *rows: Any) -> None:
    for one in rows:
        spine.append(one)
    spine.drain(flush_rows=4_000)


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets the clock that says what is over: hours and minutes after the evening began."""

    def set_clock(hours: float, minutes: float = 0.0) -> None:
        now = EVENING + timedelta(hours=hours, minutes=minutes)
        clock = SimpleNamespace(time=now.timestamp, monotonic=time.monotonic)
        monkeypatch.setattr(publisher, "time", clock)

    return set_clock


def ids(rows: pa.Table) -> list[int]:
    return sorted(rows["trade_id"].to_pylist())


def of_hours(data: Path, until: datetime) -> list[int]:
    """Returns the ids of the trades of the lake before an instant."""
    rows = stored(data, "trades")
    return ids(rows.filter(pc.less(rows["ts_event"], pa.scalar(until, pa.timestamp("us", "UTC")))))


def merge(spine: SpineFolder) -> None:
    partition = ParquetPartition(
        ParquetConfig(), spine.path, spine.source, "market-data.normalized"
    )
    partition.open()
    compaction = Compaction(partition._log, 131_072, 1)
    while compaction.step("2030-01-01"):
        pass
    partition.close()


def test_an_hour_is_published_once_it_is_over_and_holds_what_the_lake_holds(spine, maker, at):
    # Files with rows of up to two hours, looked at as the evening goes on: an hour comes with the
    # grace after its end, once. Rows that come late, and merged files, are replaced in one commit
    # for all hours that are there; the files of each snapshot hold each row once.
    trades = evening_trades(maker)
    store(spine, maker.definitions(), trades[:9_500])
    steps = [((2, 14), 1), ((2, 16), 2), ((2, 50), 2), ((3, 16), 3)]
    for when, hours in steps:
        at(*when)
        told = publish(spine.path, **BY_HOUR)
        assert publish(spine.path, **BY_HOUR) == []
        assert bool(told) == (when != (2, 50))
        expected = of_hours(spine.path, EVENING + timedelta(hours=hours))
        assert ids(published(spine.path, "trades")) == expected
    late = maker.trades(300, ROWS)
    late["ts_event"] = trades["ts_event"][500] + np.arange(300)
    store(spine, trades[9_500:], late)
    merge(spine)
    at(5, 20)
    [*_, line] = publish(spine.path, **BY_HOUR)
    assert "instead of" in line
    expected = of_hours(spine.path, EVENING + timedelta(hours=5))
    assert ids(published(spine.path, "trades")) == expected
    at(30)
    publish(spine.path, **BY_HOUR)
    assert check_trades(spine.path) == ROWS + 300
    table = open_table(tables_of(spine.path), "tapeworks/trades")
    assert table is not None
    for snapshot in table.metadata.snapshots:
        found = ids(table.scan(snapshot_id=snapshot.snapshot_id).to_arrow())
        assert len(found) == len(set(found))


def check_trades(data: Path) -> int:
    lake, table = stored(data, "trades"), published(data, "trades")
    names, key = sorted(lake.column_names), [("tape_offset", "ascending")]
    assert sorted(table.column_names) == names
    rows = lake.sort_by(key).select(names).to_pylist()
    assert table.sort_by(key).select(names).to_pylist() == rows
    return len(rows)


def test_engines_skip_by_the_hour_and_each_file_is_of_one(spine, maker):
    # Iceberg's own transform: a scan of one hour plans the files of that hour alone, whose rows are
    # all of it. A file of the lake that is of one hour is there byte for byte.
    store(spine, maker.definitions(), evening_trades(maker)[:4_500])
    publish(spine.path, **BY_HOUR)
    table = open_table(tables_of(spine.path), "tapeworks/trades")
    assert table is not None
    assert [(one.name, str(one.transform)) for one in table.spec().fields] == [
        ("venue", "identity"),
        ("ts_event_hour", "hour"),
    ]
    hour = "ts_event >= '2023-11-17T20:00:00+00:00' and ts_event < '2023-11-17T21:00:00+00:00'"
    planned = [one.file for one in table.scan(hour).plan_files()]
    files = state_of(table).files
    assert {one.file_path for one in planned} == {
        data.file_path for one, data in files.items() if one.hour == "20"
    }
    assert table.scan(hour).to_arrow().num_rows == 3_000
    assert {one.hour for one in files} == {"20", "21"}
    whole = [one for one in files if not one.origin]
    for one in whole:
        [path] = (spine.path / "lake" / "trades").rglob(f"{one.first:012d}-{one.last:012d}*")
        file = tables_of(spine.path).read(f"tapeworks/trades/{one.name}")
        assert file is not None
        assert file.startswith(path.read_bytes())
    assert len(whole) == 1
    assert len(files) == 3
    assert all(PublishedFile.parse(data.file_path) == one for one, data in files.items())


def test_every_table_is_cut_as_it_is_and_the_history_answers(spine, maker, tmp_path):
    # All tables, with times that are not known, hashes and frames. A history with late rows whose
    # files overlap gives each record once, in the order of the tape, from any instant on.
    data = tmp_path / "rest"
    add_rest(data)
    publish(data, partition="hour")
    assert check(data) > 400
    trades = evening_trades(maker)
    trades["ts_event"][4_000] = trades["ts_event"][10]
    trades["ts_event"][17_999] = trades["ts_event"][20]
    store(spine, maker.definitions(), trades)
    merge(spine)
    publish(spine.path, **{**BY_HOUR, "tables": ("trades", "instruments")})
    address, cache = str(spine.path / "iceberg" / "warehouse"), tmp_path / "cache"
    with tw.open(spine.path) as local, tw.open(address, cache=cache) as remote:
        for start in (0, 1, 4_000, 17_998, 17_999):
            window = {"start": int(trades["ts_recv"][start]), "kinds": "trades"}
            expected = b"".join(bytes(one.records) for one in local.replay(**window))
            found = b"".join(bytes(one.records) for one in remote.replay(**window))
            assert len(found) == 64 * (ROWS - start)
            assert found == expected
        day = ("BTCUSDT", "2023-11-17", "2023-11-18")
        expected = local.trades(*day).to_arrow()
        assert remote.trades(*day).to_arrow().equals(expected)


def test_another_partition_is_refused_and_the_table_stays(spine, maker):
    # Tables by day, then a setting of hours, and the other way round: each is refused by name
    # before anything is written; tables of another namespace may be cut otherwise.
    store(spine, maker.definitions(), evening_trades(maker))
    for was, later in (("day", "hour"), ("hour", "day")):
        place = {"namespace": f"by_{was}", "tables": ("trades",)}
        publish(spine.path, partition=was, **place)
        held = sorted((spine.path / "iceberg" / "warehouse").rglob("*"))
        with pytest.raises(
            ConfigError, match=rf"trades: expected partitions by {later}.* got {was}"
        ):
            publish(spine.path, partition=later, **place)
        assert sorted((spine.path / "iceberg" / "warehouse").rglob("*")) == held


def test_a_damaged_file_is_told_before_its_hours_are_looked_for(spine, maker):
    # Its footer cannot be read any more: the error names the file, and nothing is published of it.
    store(spine, maker.definitions(), evening_trades(maker)[:100])
    [path] = (spine.path / "lake" / "trades").rglob("*.parquet")
    content = path.read_bytes()
    for wrong in (content[:-40] + bytes(40), content[:999] + bytes(9) + content[1_008:]):
        path.write_bytes(wrong)
        with pytest.raises(LakeError, match="damaged"):
            publish(spine.path, **BY_HOUR)
    path.write_bytes(content)
    publish(spine.path, **BY_HOUR)
    assert check_trades(spine.path) == 100


def test_an_hour_is_closed_by_the_clock_of_utc_after_the_grace():
    # By default what closes is what tables are cut by.
    late = EVENING + timedelta(hours=1, minutes=14)
    for now, is_over in ((late, False), (late + timedelta(minutes=1), True)):
        closed = Closed.at(now.timestamp(), IcebergConfig(partition="hour"))
        assert closed.has("2023-11-17", "20") is is_over
        assert closed.has("2023-11-17", "19")
        assert not closed.has("2023-11-17", "21")
        assert closed.has("1677-09-21", "")
    by_day = Closed.at(late.timestamp(), IcebergConfig(partition="hour", period="day"))
    assert by_day.choose(["2023-11-16", "2023-11-17"], None) == ["2023-11-16"]
