"""Lakes of the first version: times in one column, commits without hashes."""

import json

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import tapeworks as tw
from conftest import as_version_1
from tapeworks import commits, lake
from tapeworks.errors import QueryError, SinkUnavailable
from tapeworks.lake_rebuild import rebuild
from tapeworks.sinks.feeder import Feeder
from tapeworks.sinks.parquet import ParquetConfig, ParquetPartition
from tapeworks.sinks.worker import Member
from tapeworks.time_columns import split_times
from tapeworks.views.lake_check import verify_lake

NORMALIZED, BOOK = "market-data.normalized", "market-data.book"


def member_of(spine, topic: str = NORMALIZED) -> Member:
    config = ParquetConfig()
    sink = ParquetPartition(config, spine.path, spine.source, topic)
    return Member(Feeder(sink, spine.tape(topic), config.policy))


@pytest.fixture
def old(spine, maker):
    """A lake of version 1, with two files of trades."""
    spine.append(maker.definitions())
    for first in (0, 100):
        rows = maker.trades(100, first)
        rows["ts_recv"] += 123
        spine.append(rows)
        member = member_of(spine)
        member.feeder.drain(30)
        member.feeder.close()
    for path in (spine.path / "lake").glob("*/venue=*/*/*.parquet"):
        rows = pq.ParquetFile(path).read()
        columns = {}
        for name in rows.column_names:
            values = rows[name]
            if name.endswith("_ns"):
                continue
            if f"{name}_ns" in rows.column_names:
                rest = rows[f"{name}_ns"].cast(pa.int64())
                whole = pc.add(pc.multiply(values.cast(pa.int64()), 1_000), rest)
                values = whole.cast(pa.timestamp("ns", "UTC"))
            columns[name] = values
        pq.write_table(pa.table(columns), path)
    as_version_1(spine.path / "lake", spine.source, NORMALIZED)
    return spine


def trades(spine):
    found = (spine.path / "lake" / "trades").rglob("*.parquet")
    return sorted(found, key=lambda path: path.name)


def rows_of(spine):
    return tw.open(spine.path).sql("from trades order by tape_offset").to_arrow().to_pylist()


@pytest.mark.parametrize("fault", ["cut", "empty", "text"])
def test_damaged_file_of_version_1_fails_its_topic_alone(old, fault, maker, caplog):
    # The upgrade meets a file that is no Parquet file: the error names it, other topics go on, and
    # a rebuild brings back from the tape what it held.
    expected = rows_of(old)
    path = trades(old)[-1]
    data = {"cut": path.read_bytes()[:-20], "empty": b"", "text": b"not Parquet at all"}[fault]
    path.write_bytes(data)
    old.append(maker.rows("level", 1, instrument=1, ts_event=6, channel=5, size=7), BOOK)
    failed, other = member_of(old), member_of(old, BOOK)
    assert failed.step() == 0
    assert path.name in str(failed.failure)
    assert "tape lake rebuild" in str(failed.failure)
    assert other.step() == 1
    for member in (failed, other):
        member.feeder.close()
    assert path.name in caplog.text
    [report] = [one for one in rebuild(old.path, old.source) if one.topic == NORMALIZED]
    assert len(report.aside) == 1
    assert rows_of(old) == expected
    assert [fault for report in verify_lake(old.path) for fault in report.faults] == []


def test_rebuild_of_rows_twice_gives_columns_of_today(old):
    # Two files of version 1 overlap: the rows of the second that no other holds are written as a
    # file of today, whose times are two columns, to the nanosecond.
    expected = rows_of(old)
    assert any(row["ts_recv_ns"] for row in expected)
    first, second = trades(old)
    both = pa.concat_tables([pq.ParquetFile(first).read().slice(40), pq.ParquetFile(second).read()])
    offsets = both["tape_offset"].to_pylist()
    day = second.parent.name.removeprefix("date=")
    name = lake.file_path("trades", old.source, day, min(offsets), max(offsets))
    second.unlink()
    pq.write_table(both, old.path / "lake" / name)
    for _ in rebuild(old.path, old.source):
        pass
    versions = []
    for path in trades(old):
        schema = pq.read_schema(path)
        version = int((pq.read_metadata(path).metadata or {}).get(commits.VERSION_KEY, b"1"))
        kind = pa.timestamp("ns", "UTC") if version == 1 else pa.timestamp("us", "UTC")
        assert schema.field("ts_recv").type == kind
        assert ("ts_recv_ns" in schema.names) == (version > 1)
        versions.append(version)
    assert sorted(versions) == [1, commits.TABLE_VERSION]
    assert rows_of(old) == expected


def test_split_of_times_rounds_down():
    # Before 1970 too; an absent time is absent in both columns.
    values = [0, 999, 1_000, -1, -1_000, -1_001, 2**62, None]
    times = pa.array(values, pa.timestamp("ns", "UTC"))
    rows = split_times(pa.table({"a": [1] * len(values), "ts": times, "b": [2] * len(values)}))
    assert rows.column_names == ["a", "ts", "ts_ns", "b"]
    whole, rest = rows["ts"].cast(pa.int64()).to_pylist(), rows["ts_ns"].to_pylist()
    found = [None if w is None else w * 1_000 + r for w, r in zip(whole, rest, strict=True)]
    assert found == values
    assert [r for r in rest if r is not None and not 0 <= r < 1_000] == []


def test_offset_behind_the_definitions_is_an_error_and_no_wait(spine, maker):
    # A commit of version 1 has no checksum: one without files, whose offset is changed to one
    # behind the definitions. What stores all and ends, as an import does, would wait for them
    # until its day is over; a question is an error of ours; a rebuild makes good both.
    spine.append(maker.definitions())
    spine.append(maker.trades(100))
    folder = commits.commit_folder(spine.path / "lake", spine.source)
    folder.mkdir(parents=True)
    written = {"version": 1, "offset": 50, "files": [], "removes": [], "context": {}}
    (folder / f"{NORMALIZED}.json").write_text(json.dumps(written))
    with pytest.raises(QueryError, match=r"no definition .* `tape lake rebuild`"):
        tw.open(spine.path).trades()
    with pytest.raises(SinkUnavailable, match=r"no definition .* `tape lake rebuild`"):
        spine.drain(seconds_max=3_600)
    for _ in rebuild(spine.path, spine.source):
        pass
    spine.drain()
    assert len(rows_of(spine)) == 100
    assert [fault for report in verify_lake(spine.path) for fault in report.faults] == []
