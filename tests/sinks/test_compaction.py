"""Compaction: fewer files, the same rows, at any crash."""

import random
import threading
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tapeworks as tw
from conftest import restate_lake
from tapeworks import _core, commits, lake
from tapeworks.errors import LakeError
from tapeworks.sinks import commit_log, compaction
from tapeworks.sinks.commit_log import CommitLog
from tapeworks.sinks.compaction import Compaction, choose
from tapeworks.sinks.parquet import ParquetConfig, ParquetPartition
from tapeworks.views.query import Engine

TOPIC = "market-data.normalized"
TODAY = "2023-11-18"


@pytest.fixture
def many(spine, maker):
    """Twenty small files over two days, and a tail."""
    spine.append(maker.definitions())
    for first in range(0, 40_000, 2_000):
        spine.append(maker.trades(2_000, first))
        spine.drain()
    spine.append(maker.trades(500, 40_000))
    return spine


def compact(spine, today: str = TODAY) -> int:
    log = CommitLog(spine.path / "lake", spine.source, TOPIC)
    log.recover()
    work = Compaction(log, 1_000, 1)
    steps = 0
    while work.step(today):
        steps += 1
    return steps


def in_lake(spine) -> list[int]:
    pattern = str(spine.path / "lake" / "trades" / "*" / "*" / "*.parquet")
    found = duckdb.sql(f"select trade_id from '{pattern}' order by 1").fetchall()
    return [row[0] for row in found]


def seen(spine) -> list[int]:
    return tw.open(spine.path).trades().to_arrow()["trade_id"].to_pylist()


def days(spine) -> dict[str, int]:
    root = spine.path / "lake"
    return {
        day: len(lake.files_of_day(root, "trades", spine.source, day))
        for day in lake.days(root, "trades", spine.source)
    }


@pytest.mark.parametrize("chunk_rows", [1_000, 20_000, 4_000_000])
def test_a_day_that_is_over_becomes_one_sorted_file(many, chunk_rows, monkeypatch):
    # Small chunks cut by symbol and by time; the file must be sorted all the same.
    monkeypatch.setattr(compaction, "CHUNK_ROWS", chunk_rows)
    assert days(many) == {"2023-11-17": 18, "2023-11-18": 2}
    assert compact(many) == 1
    assert days(many) == {"2023-11-17": 1, "2023-11-18": 2}
    assert in_lake(many) == list(range(40_000))
    assert seen(many) == list(range(40_500))
    path = next((many.path / "lake").glob("trades/*/date=2023-11-17/*.parquet"))
    rows = duckdb.sql(f"select symbol, ts_event, ts_event_ns, tape_offset from '{path}'").fetchall()
    assert rows == sorted(rows)
    assert len({row[0] for row in rows}) == 3


@pytest.mark.slow
def test_a_day_that_goes_on_is_merged_by_tiers(many, maker):
    # Forty flushes more, merged after each: the files of a day stay few.
    for first in range(40_500, 60_500, 500):
        many.append(maker.trades(500, first))
        many.drain()
        compact(many, today="2023-11-17")
    for count in days(many).values():
        assert count <= compaction.files_max(60_500)
    assert seen(many) == list(range(60_500))


@pytest.mark.parametrize("shape", ["small", "alternating", "falling", "rising", "random"])
def test_number_of_files_is_bounded_whatever_their_sizes(shape):
    # Add one file after the other and merge whenever it is due, without a disk: the number of
    # files stays below the bound, and a row is merged about once a tier at most.
    chance = random.Random(1)
    rows = {
        "small": lambda n: 5,
        "alternating": lambda n: 10 if n % 2 else 10_000,
        "falling": lambda n: max(1, 1 << (20 - n % 20)),
        "rising": lambda n: 1 << (n % 20),
        "random": lambda n: 1 << chance.randrange(20),
    }[shape]
    files, merged, total, at = [], 0, 0, 0
    for at in range(5_000):
        files.append(lake.LakeFile(None, "s", "d", at, at, rows=rows(at)))
        total += rows(at)
        while chosen := choose(files, is_over=False):
            assert files[-len(chosen) :] == chosen
            size = sum(file.rows for file in chosen)
            merged += size
            wide = lake.LakeFile(None, "s", "d", chosen[0].first, chosen[-1].last, rows=size)
            files[-len(chosen) :] = [wide]
        assert len(files) <= compaction.files_max(max(file.rows for file in files))
    assert merged <= total * (total.bit_length() // compaction.TIER_BITS + 1)


@pytest.mark.parametrize("removed", [0, 1, 5])
def test_crash_while_files_are_swapped_is_finished(many, removed, monkeypatch):
    # Stop before the rename, or after some old files are gone: views see each row once, and the
    # next start finishes the swap.
    finish = commit_log.finish_commit
    delete = Path.unlink
    left = [removed]

    def half(*place):
        if not removed:
            raise InterruptedError
        finish(*place)

    def unlink(path, **more):
        if path.suffix == ".parquet":
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
        delete(path, **more)

    monkeypatch.setattr(commit_log, "finish_commit", half)
    monkeypatch.setattr(Path, "unlink", unlink)
    with pytest.raises((InterruptedError, KeyboardInterrupt)):
        compact(many)
    assert seen(many) == list(range(40_500))
    monkeypatch.undo()
    compact(many)
    assert days(many) == {"2023-11-17": 1, "2023-11-18": 2}
    assert in_lake(many) == list(range(40_000))
    assert seen(many) == list(range(40_500))


def test_files_that_are_merged_before_they_are_read_are_found_again(many, monkeypatch):
    # A question has listed its files when a merge replaces them: it lists them again, and gives
    # each row once.
    body, merged = Engine._body, []

    def then_merge(*arguments):
        sql = body(*arguments)
        if not merged:
            merged.append(compact(many))
        return sql

    monkeypatch.setattr(Engine, "_body", then_merge)
    assert seen(many) == list(range(40_500))
    assert merged == [1]


def test_rows_without_time_are_kept(spine, maker, monkeypatch):
    # Each tenth row has no time, and each symbol more rows than one chunk: no condition may leave
    # such rows out.
    monkeypatch.setattr(compaction, "CHUNK_ROWS", 1_000)
    spine.append(maker.definitions())
    for first in (0, 6_000):
        rows = maker.trades(6_000, first)
        rows["instrument"], rows["ts_event"][::10] = 1, _core.NONE
        spine.append(rows)
        spine.drain()
    assert len(listed_files(spine)) > 1
    assert compact(spine, today="2999-01-01") > 0
    assert len(listed_files(spine)) == 1
    assert in_lake(spine) == list(range(12_000))


def test_merge_that_loses_a_row_replaces_nothing(many, monkeypatch):
    # A merge whose query leaves rows out is found out when the file is read again.
    monkeypatch.setattr(compaction, "_chunks", lambda *_: iter(["trade_id <> 77"]))
    with pytest.raises(LakeError, match="expected 36000 rows"):
        compact(many)
    assert days(many) == {"2023-11-17": 18, "2023-11-18": 2}
    assert in_lake(many) == list(range(40_000))
    assert not list((many.path / "lake" / lake.STAGING).rglob("*.parquet"))


def test_damaged_file_is_never_merged(many):
    # One bit in the data of one of the files: it stays where it is, so that it can be found.
    path = sorted((many.path / "lake" / "trades").glob("*/date=2023-11-17/*.parquet"))[3]
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 4
    path.write_bytes(data)
    compact(many)
    assert path.read_bytes() == data
    assert path in [f.path for f in listed_files(many)]


def listed_files(spine):
    state = commits.TopicReader(spine.path / "lake", spine.source, TOPIC).read()
    return [file for day in state.tables["trades"].values() for file in day]


def add_column(path: Path, name: str, values) -> None:
    """Rewrites a file of the lake with one column more, as a newer version would have."""
    table = pq.ParquetFile(path).read()
    pq.write_table(table.append_column(name, pa.array([values] * table.num_rows)), path)


@pytest.mark.parametrize("which", [0, 1])
def test_unknown_column_survives_a_merge(spine, maker, which):
    # The first or the second of two files has a column more: both are read together, and the file
    # that replaces them has it, absent where it was not there.
    spine.append(maker.definitions())
    for first in (0, 500):
        spine.append(maker.trades(500, first))
        spine.drain()
    path = sorted((spine.path / "lake" / "trades").rglob("*.parquet"))[which]
    add_column(path, "is_block", True)
    restate_lake(spine.path / "lake", spine.source, TOPIC)
    for _ in range(2):
        shown = tw.open(spine.path).sql(
            "select count(*) n, count(is_block) b, min(trade_id) filter (is_block) f from trades"
        )
        assert shown.to_pylist() == [{"n": 1_000, "b": 500, "f": 500 * which}]
        compact(spine, today="2999-01-01")
    assert len(list((spine.path / "lake" / "trades").rglob("*.parquet"))) == 1


def test_wider_type_wins_and_types_that_do_not_fit_are_left_alone(spine, maker):
    # The same unknown column as a small and as a large number becomes the large one; as a number
    # and as a text, nothing is merged.
    spine.append(maker.definitions())
    for first in (0, 500):
        spine.append(maker.trades(500, first))
        spine.drain()
    one, two = sorted((spine.path / "lake" / "trades").rglob("*.parquet"))
    add_column(one, "lot", pa.scalar(5, pa.int16()))
    add_column(two, "lot", pa.scalar(2**40, pa.int64()))
    restate_lake(spine.path / "lake", spine.source, TOPIC)
    compact(spine, today="2999-01-01")
    [merged] = (spine.path / "lake" / "trades").rglob("*.parquet")
    assert pq.read_schema(merged).field("lot").type == pa.int64()
    spine.append(maker.trades(500, 1_000))
    spine.drain()
    [newest] = set((spine.path / "lake" / "trades").rglob("*.parquet")) - {merged}
    add_column(newest, "lot", "a dozen")
    restate_lake(spine.path / "lake", spine.source, TOPIC)
    assert compact(spine, today="2999-01-01") == 0
    assert merged.exists()
    assert newest.exists()


def test_flush_does_not_wait_for_a_merge(spine, maker):
    # A merge of eight files runs in a thread; while it runs, flushes go on and stay short. The
    # merge is held in its middle until three of them are done, so that it cannot be over before.
    spine.append(maker.definitions())
    for first in range(0, 8_000, 1_000):
        spine.append(maker.trades(1_000, first))
        spine.drain()
    sink = ParquetPartition(ParquetConfig(), spine.path, spine.source, TOPIC)
    reader = _core.TapeReader(spine.tape())
    reader.seek(sink.open())
    begun, go_on = threading.Event(), threading.Event()
    compare = compaction.compare

    def held(*files):
        begun.set()
        assert go_on.wait(60)
        compare(*files)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compaction, "compare", held)
        patch.setattr(compaction, "FAN_IN", 2)
        merging = threading.Thread(target=sink.run_maintenance)
        merging.start()
        assert begun.wait(60)
        for first in range(8_000, 11_000, 1_000):
            spine.append(maker.trades(1_000, first))
            sink.write(reader.read())
            sink.flush()
        assert seen(spine) == list(range(11_000))
        go_on.set()
        merging.join()
    sink.close()
    assert in_lake(spine) == list(range(11_000))
    assert seen(spine) == list(range(11_000))
    assert len(list((spine.path / "lake" / "trades").rglob("*.parquet"))) == 4
