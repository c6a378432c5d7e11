"""Compaction: fewer files, the same rows, at any crash."""

import duckdb
import pytest

import tapeworks as tw
from tapeworks import lake
from tapeworks.sinks import compaction
from tapeworks.sinks.base import Feeder
from tapeworks.sinks.compaction import Compaction, choose
from tapeworks.sinks.parquet import ParquetConfig, ParquetSink

TOPIC = "market-data.normalized"
TODAY = "2023-11-18"


@pytest.fixture
def many(spine, maker):
    """Twenty small files over two days, and a tail."""
    spine.append(maker.definitions())
    for first in range(0, 40_000, 2_000):
        spine.append(maker.trades(2_000, first))
        drain(spine)
    spine.append(maker.trades(500, 40_000))
    return spine


def drain(spine) -> None:
    config = ParquetConfig()
    feeder = Feeder(
        ParquetSink(config, spine.path, spine.source, TOPIC), spine.tape(), config.policy
    )
    feeder.drain(seconds_max=30)
    feeder.close()


def compact(spine, today: str = TODAY) -> int:
    work = Compaction(spine.path / "lake", spine.source, TOPIC, 1_000, 1)
    work.recover()
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


def test_a_day_that_goes_on_is_merged_by_tiers(many):
    # Of files of like size sixteen become one; fewer stay.
    assert compact(many, today="2023-11-17") == 1
    assert days(many)["2023-11-17"] == 3
    assert seen(many) == list(range(40_500))


def test_choice_wants_neighbours_of_like_size():
    # A large file between small ones breaks the run: ranges must not overlap.
    files = [lake.LakeFile(None, "s", "d", n, n) for n in range(33)]
    assert choose(files, [10] * 16 + [10_000] + [10] * 16, is_over=False) == files[:16]
    assert choose(files[:16], [10] * 8 + [10_000] + [10] * 7, is_over=False) == []


@pytest.mark.parametrize("removed", [0, 1, 5])
def test_crash_while_files_are_swapped_is_finished(many, removed, monkeypatch):
    # Stop before the rename, or after some old files are gone: views see each row once, and the
    # next start finishes the swap.
    settle = lake.settle

    def half(root, source, topic, commit):
        if not commit.removes:
            settle(root, source, topic, commit)
        elif removed:
            settle(root, source, topic, lake.Commit(0, commit.files, commit.removes[:removed]))
            raise InterruptedError
        else:
            raise InterruptedError

    monkeypatch.setattr(lake, "settle", half)
    with pytest.raises(InterruptedError):
        compact(many)
    assert seen(many) == list(range(40_500))
    monkeypatch.undo()
    compact(many)
    assert days(many) == {"2023-11-17": 1, "2023-11-18": 2}
    assert in_lake(many) == list(range(40_000))
    assert seen(many) == list(range(40_500))
