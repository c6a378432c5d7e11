"""The Parquet lake: exact values for every reader, and each row once whatever is killed when."""

import contextlib
import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

import tapeworks as tw
from conftest import SYMBOLS, as_version_1
from tapeworks import _core, commits, durable, lake
from tapeworks.errors import (
    LakeError,
    LakeVersionError,
    SinkUnavailable,
    TapeLockedError,
    TapeReplacedError,
)
from tapeworks.sinks import commit_log, compaction, parquet
from tapeworks.sinks.commit_log import CommitLog
from tapeworks.sinks.compaction import Compaction
from tapeworks.sinks.parquet import ParquetConfig, ParquetPartition

TOPIC = "market-data.normalized"
INCOMPLETE = 3
WORKER = """
import sys
from pathlib import Path
from types import SimpleNamespace
from tapeworks.sinks.worker import run_worker
from tapeworks.sinks.parquet import ParquetConfig
settings = ParquetConfig(flush_rows=700, flush_seconds=0.05, row_group_rows=256)
config = SimpleNamespace(data=Path(sys.argv[1]), feeds=["binance-spot"],
                         sinks={"parquet": settings})
print("ready", flush=True)
sys.exit(run_worker(config, "parquet"))
"""


def start_worker(spine) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", WORKER, str(spine.path)]
    worker = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert worker.stdout is not None
    assert worker.stdout.readline() == b"ready\n"
    worker.stdout.close()
    return worker


def holds_lock(spine, worker: "subprocess.Popen[bytes]") -> bool:
    """Whether the worker was the last that had the lake open."""
    lock = spine.path / "lake" / "_commits" / spine.source / "LOCK"
    return lock.exists() and lock.read_text().strip() == str(worker.pid)


def committed(spine) -> int:
    """Returns the offset up to which all is in the lake."""
    commit = commits.read_commit(*topic_of(spine))
    return 0 if commit is None else commit.offset


def wait_for_lock(spine, worker: "subprocess.Popen[bytes]") -> None:
    """Waits until the worker writes the lake: from then on SIGTERM ends it in good order."""
    until = time.monotonic() + 30
    while not holds_lock(spine, worker):
        assert worker.poll() is None
        assert time.monotonic() < until
        time.sleep(0.005)


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
    spine.drain()
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
    spine.drain()
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
    spine.drain()
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
    spine.drain()
    rows = maker.trades(40)
    rows["ts_event"][35:] = _core.NONE
    spine.append(rows)
    spine.drain(row_group_rows=16)
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
    log = CommitLog(spine.path / "lake", spine.source, TOPIC)
    log.recover()
    compaction = Compaction(log, 16, 1)
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
    spine.drain()
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
    spine.drain(row_group_rows=1_000)
    footer = pq.read_metadata(files(spine)[0])
    assert footer.num_row_groups == 5
    for column in ("symbol", "ts_event", "price"):
        index = footer.schema.names.index(column)
        assert footer.row_group(0).column(index).statistics.has_min_max


def test_columns_of_one_value_are_plain_and_may_vary_later(spine, maker):
    # All counts of the first row group are equal, so that none is looked up in a dictionary; those
    # of the second are not.
    spine.append(maker.definitions())
    early, later = maker.trades(1_000), maker.trades(1_000, first=1_000)
    early["instrument"] = later["instrument"] = 1
    later["count"] = range(1_000)
    spine.append(early)
    spine.append(later)
    spine.drain(row_group_rows=1_000)
    footer = pq.read_metadata(files(spine)[0])
    columns = {footer.schema.column(i).path: i for i in range(footer.num_columns)}
    for group in range(2):
        count, size = (footer.row_group(group).column(columns[name]) for name in ("count", "size"))
        assert "RLE_DICTIONARY" not in count.encodings
        assert "RLE_DICTIONARY" in size.encodings
    counts = sorted(pq.read_table(files(spine)[0])["count"].to_pylist())
    assert counts == sorted([1] * 1_000 + list(range(1_000)))


def test_instrument_without_definition_waits(spine, maker):
    # Trades of an unknown instrument are not written under no symbol: the sink says why, and
    # goes on when the definition comes.
    spine.append(maker.trades(10))
    sink = ParquetPartition(ParquetConfig(), spine.path, spine.source, TOPIC)
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
    finish = commit_log.finish_commit

    def half(root, source, topic, commit):
        finish(root, source, topic, replace(commit, files=commit.files[:moved]))
        if commit.files:
            raise InterruptedError

    monkeypatch.setattr(commit_log, "finish_commit", half)
    # It fails however often it is tried: half a second is enough for the second attempt.
    with pytest.raises(SinkUnavailable):
        spine.drain(seconds_max=0.5)
    monkeypatch.undo()
    assert seen(spine) == list(range(40_000))
    spine.drain()
    found = duckdb.sql(f"select count(*), count(distinct trade_id) from '{pattern(spine)}'")
    assert found.fetchall()[0] == (40_000, 40_000)
    assert not list((spine.path / "lake" / lake.STAGING).rglob("*.parquet"))


def seen(spine) -> list[int]:
    return tw.open(spine.path).trades().to_arrow()["trade_id"].to_pylist()


def test_commit_of_a_newer_version_is_refused(spine, maker):
    # Going on from an offset that this build does not understand would write rows twice.
    spine.append(maker.definitions())
    spine.drain()
    path = commits.commit_path(spine.path / "lake", spine.source, TOPIC)
    path.write_text('{"version": 3, "sha256": "", "something": "else"}')
    with pytest.raises(LakeVersionError, match="update Tapeworks"):
        spine.drain()
    with pytest.raises(LakeVersionError, match="update Tapeworks"):
        tw.open(spine.path).trades()


def open_sink(spine) -> tuple[ParquetPartition, _core.TapeReader]:
    """Returns an open sink, to which everything on the tape was written."""
    sink = ParquetPartition(ParquetConfig(), spine.path, spine.source, TOPIC)
    reader = _core.TapeReader(spine.tape())
    reader.seek(sink.open())
    while (batch := reader.read()) is not None:
        sink.write(batch)
    return sink, reader


def test_second_sink_on_one_lake_is_refused(spine, maker):
    # Both would write rows of the same offsets, move the commit back, and clear each other's
    # staging folder. The message names the process that holds the lock; when that sink is closed,
    # another may go on.
    spine.append(maker.definitions())
    spine.append(maker.trades(1_000))
    first, _ = open_sink(spine)
    with pytest.raises(TapeLockedError, match=str(os.getpid())):
        spine.drain()
    first.flush()
    first.close()
    spine.append(maker.trades(500, 1_000))
    spine.drain()
    assert seen(spine) == list(range(1_500))


def test_rows_stay_until_their_files_are_in_place(spine, maker, monkeypatch):
    # What was staged is gone between commit and rename. The flush fails, the rows are still there
    # and on the next try final, also those that came in between; nothing is doubled.
    spine.append(maker.definitions())
    spine.append(maker.trades(1_000))
    sink, reader = open_sink(spine)
    finish = commit_log.finish_commit

    def robbed(root, source, topic, commit):
        shutil.rmtree(commits.staging_folder(root, source, topic))
        finish(root, source, topic, commit)

    monkeypatch.setattr(commit_log, "finish_commit", robbed)
    with pytest.raises(SinkUnavailable, match="not final"):
        sink.flush()
    assert sink.committed is None
    assert sink.pending[0] > 0
    monkeypatch.undo()
    spine.append(maker.trades(500, 1_000))
    sink.write(reader.read())
    sink.flush()
    sink.close()
    assert seen(spine) == list(range(1_500))
    ids = duckdb.sql(f"select trade_id from '{pattern(spine)}' order by 1").fetchall()
    assert [row[0] for row in ids] == list(range(1_500))


@pytest.mark.parametrize("step", ["staging", "manifest", "commit", "rename"])
def test_full_disk_leaks_nothing_and_loses_nothing(spine, maker, step, monkeypatch):
    # The disk refuses at one step of four flushes, then has room again: what was staged in vain is
    # gone, and each row is in the lake once.
    spine.append(maker.definitions())
    spine.append(maker.trades(1_000))
    sink, reader = open_sink(spine)
    sink.flush()

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    place = {
        "staging": (parquet, "write_table_file"),
        "manifest": (CommitLog, "_append"),
        "commit": (durable, "replace_file"),
        "rename": (commit_log, "finish_commit"),
    }[step]
    for first in range(1_000, 5_000, 1_000):
        spine.append(maker.trades(1_000, first))
        sink.write(reader.read())
        with monkeypatch.context() as patch:
            patch.setattr(*place, refuse)
            with pytest.raises(SinkUnavailable):
                sink.flush()
        staged = list((spine.path / "lake" / lake.STAGING).rglob("*.parquet"))
        assert len(staged) <= 2
        assert seen(spine) == list(range(first + 1_000))
    sink.flush()
    assert not list((spine.path / "lake" / lake.STAGING).rglob("*.parquet"))
    sink.close()
    assert seen(spine) == list(range(5_000))
    assert sum(pq.read_metadata(path).num_rows for path in files(spine)) == 5_000


def test_second_refusal_of_the_disk_harms_nothing_that_the_first_left(spine, maker, monkeypatch):
    # A commit is written and its files cannot be put into place; then the next commits cannot even
    # be written. The one on the disk must be such that a restart finishes it, and the sink that
    # runs goes on by itself when there is room again.
    spine.append(maker.definitions())
    spine.append(maker.trades(1_000))
    sink, reader = open_sink(spine)
    sink.flush()

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    steps = [(commit_log, "finish_commit"), (durable, "replace_file"), (durable, "replace_file")]
    for number, step in enumerate(steps, start=1):
        spine.append(maker.trades(1_000, number * 1_000))
        sink.write(reader.read())
        with monkeypatch.context() as patch:
            patch.setattr(*step, refuse)
            with pytest.raises(SinkUnavailable):
                sink.flush()
        assert seen(spine) == list(range((number + 1) * 1_000))
    copy = spine.path.with_name("restarted")
    shutil.copytree(spine.path, copy)
    assert CommitLog(copy / "lake", spine.source, TOPIC).recover() is not None
    sink.flush()
    sink.close()
    assert seen(spine) == list(range(4_000))
    assert sum(pq.read_metadata(path).num_rows for path in files(spine)) == 4_000


def test_lake_that_was_removed_under_a_sink_is_noticed(spine, maker):
    # The folder of the commits is another one: to go on would mix two lakes.
    spine.append(maker.definitions())
    spine.append(maker.trades(100))
    sink, reader = open_sink(spine)
    sink.flush()
    (spine.path / "lake").rename(spine.path / "elsewhere")
    spine.append(maker.trades(100, 100))
    sink.write(reader.read())
    with pytest.raises(TapeReplacedError):
        sink.flush()
    sink.close()
    (spine.path / "elsewhere").rename(spine.path / "lake")
    spine.drain()
    assert seen(spine) == list(range(200))


@pytest.mark.parametrize("fault", ["deleted", "cut", "longer"])
def test_file_that_is_not_as_committed_fails_every_question_of_its_table(spine, maker, fault):
    # A file that is missing halves a count in silence if nobody compares. Other tables are
    # answered.
    spine.append(maker.definitions())
    for first in (0, 500):
        spine.append(maker.trades(500, first))
        spine.drain()
    path = files(spine)[0]
    data = path.read_bytes()
    {
        "deleted": path.unlink,
        "cut": lambda: path.write_bytes(data[:-100]),
        "longer": lambda: path.write_bytes(data + b"x"),
    }[fault]()
    opened = tw.open(spine.path)
    with pytest.raises(LakeError, match=path.name):
        opened.trades()
    with pytest.raises(LakeError, match=path.name):
        opened.sql("select count(*) from trades")
    assert len(opened.instruments()) == 3
    path.write_bytes(data)
    assert len(opened.trades()) == 1_000


@pytest.mark.slow
@pytest.mark.parametrize("step", [37, pytest.param(3, marks=pytest.mark.slow)])
def test_flip_in_a_footer_fails_every_question_that_opens_the_file(spine, maker, step):
    # The footer says which pages and row groups there are; Parquet has no checksum for it. One bit
    # in each byte of it that is `step` after another.
    spine.append(maker.definitions())
    spine.append(maker.trades(500))
    spine.drain()
    [path] = files(spine)
    data = path.read_bytes()
    length = int.from_bytes(data[-8:-4], "little") + 8
    for at in range(len(data) - length, len(data), step):
        path.write_bytes(data[:at] + bytes([data[at] ^ (1 << at % 8)]) + data[at + 1 :])
        with pytest.raises(LakeError, match=path.name):
            seen(spine)
    path.write_bytes(data)
    assert seen(spine) == list(range(500))


def test_file_that_no_commit_knows_is_not_counted(spine, maker):
    # A copy of a file beside it, under a name that would do.
    spine.append(maker.definitions())
    spine.append(maker.trades(500))
    spine.drain()
    path = files(spine)[0]
    shutil.copy(path, path.with_name("000000000900-000000000999.parquet"))
    assert seen(spine) == list(range(500))
    with pytest.raises(LakeError, match="000000000900"):
        spine.drain()


@pytest.mark.slow
def test_flip_in_the_head_of_a_page_is_an_error_in_replay_or_changes_nothing(spine, maker):
    # The checksum of a page leaves out its head, which says how many values a dictionary has. Flip
    # one bit of each byte in the heads of all dictionaries, and replay without the tape.
    spine.append(maker.definitions())
    spine.append(maker.trades(60))
    spine.drain()
    spine.close()
    shutil.rmtree(spine.path / "tape")

    def replayed() -> bytes:
        return b"".join(map(bytes, tw.open(spine.path).replay(kinds=["trades"])))

    expected = replayed()
    path = next((spine.path / "lake" / "trades").rglob("*.parquet"))
    data = path.read_bytes()
    with pq.ParquetFile(path) as file:
        group = file.metadata.row_group(0)
    columns = [group.column(at) for at in range(group.num_columns)]
    heads = [column.dictionary_page_offset for column in columns]
    errors = 0
    for head in filter(None, heads):
        for at in range(head, head + 16):
            path.write_bytes(data[:at] + bytes([data[at] ^ 128]) + data[at + 1 :])
            try:
                assert replayed() == expected, (head, at)
            except LakeError:
                errors += 1
    assert errors > 10


def test_every_flip_in_a_commit_is_an_error_or_changes_nothing(spine, maker):
    # Each byte of commit and manifest, one bit of it: never another answer, never a traceback.
    spine.append(maker.definitions())
    for first in (0, 50):
        spine.append(maker.trades(50, first))
        spine.drain()
    topic = commits.TopicReader(spine.path / "lake", spine.source, TOPIC)
    before = topic.read().live
    errors = 0
    for path in (spine.path / "lake" / lake.COMMITS / spine.source).iterdir():
        if path.name == "LOCK":
            continue
        data = path.read_bytes()
        for at in range(len(data)):
            path.write_bytes(data[:at] + bytes([data[at] ^ (1 << at % 8)]) + data[at + 1 :])
            with contextlib.suppress(LakeError):
                errors += 1
                reader = commits.TopicReader(spine.path / "lake", spine.source, TOPIC)
                assert reader.read().live == before
                commits.load_symbols(spine.path / "lake", spine.source)
                errors -= 1
        path.write_bytes(data)
    assert errors > 1_000


@pytest.mark.slow
def test_manifest_grows_by_the_files_of_a_commit_and_is_written_anew(spine, maker, monkeypatch):
    # A commit costs its own files, however many there are; what was replaced leaves the manifest
    # when it is most of it. Readers follow, and a sink that starts again.
    monkeypatch.setattr(commit_log, "ENTRIES_MAX", 20)
    spine.append(maker.definitions())
    topic = commits.TopicReader(spine.path / "lake", spine.source, TOPIC)
    generations, first = set(), 0
    for _ in range(40):
        spine.append(maker.trades(20, first))
        first += 20
        sink, _ = open_sink(spine)
        sink.flush()
        with monkeypatch.context() as patch:
            patch.setattr(compaction, "FAN_IN", 3)
            sink.run_maintenance()
        sink.close()
        state = topic.read()
        assert state.commit is not None
        generations.add(state.commit.manifest.generation)
        assert sum(f.rows for f in state.live.values() if f.table == "trades") == first
        assert state.live == commits.TopicReader(*topic_of(spine)).read().live
    assert len(generations) > 1
    folder = commits.commit_folder(spine.path / "lake", spine.source)
    assert len(list(folder.glob("*.manifest.*"))) == 1
    assert seen(spine) == list(range(first))


def topic_of(spine) -> tuple[Path, str, str]:
    return spine.path / "lake", spine.source, TOPIC


def test_lake_of_the_first_version_is_read_and_upgraded(spine, maker):
    # Before: two files of the first version, one of them still staged, and a compaction that was
    # killed before it removed the file that it had replaced.
    spine.append(maker.definitions())
    for first in (0, 500):
        spine.append(maker.trades(500, first))
        spine.drain()
    as_version_1(*topic_of(spine))
    root = spine.path / "lake"
    last = files(spine)[1]
    staged = root / lake.STAGING / spine.source / TOPIC
    staged.mkdir(parents=True, exist_ok=True)
    last.rename(staged / last.relative_to(root).as_posix().replace("/", "!"))
    narrow = files(spine)[0].with_name("000000000001-000000000002.parquet")
    shutil.copy(files(spine)[0], narrow)
    compact = {"version": 1, "offset": 0, "files": [], "context": {}}
    compact["removes"] = [narrow.relative_to(root).as_posix()]
    commits.commit_path(root, spine.source, f"compact-{TOPIC}").write_text(json.dumps(compact))
    assert seen(spine) == list(range(1_000))
    spine.append(maker.trades(500, 1_000))
    spine.drain()
    assert seen(spine) == list(range(1_500))
    assert commits.read_commit(*topic_of(spine)).version == commits.COMMIT_VERSION
    assert not list((root / lake.COMMITS / spine.source).glob("compact-*"))
    rows = duckdb.sql(f"select count(*) from '{pattern(spine)}'").fetchall()
    assert rows == [(1_500,)]


def test_commit_of_the_first_version_that_says_less_than_its_files_is_refused(spine, maker):
    # What lies between would be stored a second time.
    spine.append(maker.definitions())
    spine.append(maker.trades(500))
    spine.drain()
    as_version_1(*topic_of(spine))
    path = commits.commit_path(*topic_of(spine))
    written = json.loads(path.read_text())
    path.write_text(json.dumps({**written, "offset": written["offset"] - 100}))
    with pytest.raises(LakeError, match="one of them was changed"):
        seen(spine)
    with pytest.raises(LakeError, match="tape lake rebuild"):
        spine.drain()
    assert len(files(spine)) == 1


def test_lost_commit_is_told_from_a_new_sink(spine, maker):
    # Files without a commit: nothing says which of them count, so nothing is read or written.
    spine.append(maker.definitions())
    spine.append(maker.trades(500))
    spine.drain()
    commits.commit_path(*topic_of(spine)).unlink()
    with pytest.raises(LakeError, match="tape lake rebuild"):
        spine.drain()
    with pytest.raises(LakeError, match="tape lake rebuild"):
        seen(spine)
    assert len(files(spine)) == 1


def test_tops_of_books_become_rows(spine, maker):
    # Two tops, the second cut by a flush in its middle: each is one row, best level first.
    topic = "market-data.book"
    spine.append(maker.definitions())
    spine.drain()
    begin = maker.rows("marker", 1, instrument=1, ts_event=5, code=1, channel=5)
    end = maker.rows("marker", 1, instrument=1, ts_event=6, code=2, channel=5)
    levels = maker.rows("level", 4, instrument=1, ts_event=6, channel=5, size=7)
    levels["price"], levels["side"] = [10, 9, 11, 12], [1, 1, 2, 2]
    for part in (begin, levels, end, begin, levels[:2]):
        spine.append(part, topic)
    spine.drain(topic)
    spine.append(levels[2:], topic)
    spine.append(end, topic)
    spine.drain(topic)
    rows = duckdb.sql(
        f"select symbol, bid_price, ask_price from '{pattern(spine, 'book_snapshots')}'"
    ).fetchall()
    bids, asks = [Decimal("1E-8"), Decimal("9E-9")], [Decimal("1.1E-8"), Decimal("1.2E-8")]
    assert rows == [("BTCUSDT", bids, asks)] * 2


@pytest.mark.slow
def test_killed_sink_neither_loses_nor_doubles(spine, maker):
    # A real process is killed at random instants while the tape grows; readers that know nothing
    # of commits never see a row twice, and in the end the lake is the tape. Rounds go on until
    # enough of them were killed in the middle: the lake was open, and something was not in it. How
    # soon that is depends on what else the machine does.
    seed = int.from_bytes(os.urandom(4))
    print("seed", seed)
    chance = random.Random(seed)
    spine.append(maker.definitions())
    first, rounds, met, grew = 0, 0, 0, 0
    while (met < 4 or grew < 2) and rounds < 40:
        rounds += 1
        count = chance.randrange(500, 3_000)
        spine.append(maker.trades(count, first))
        first += count
        before = committed(spine)
        worker = start_worker(spine)
        try:
            if chance.randrange(4):
                wait_for_lock(spine, worker)
            time.sleep(chance.uniform(0, 0.1))
        finally:
            worker.kill()
        assert worker.wait() == -signal.SIGKILL
        in_the_middle = holds_lock(spine, worker) and committed(spine) < first + len(SYMBOLS)
        met += in_the_middle
        grew += in_the_middle and committed(spine) > before
        if files(spine):
            seen = duckdb.sql(f"select count(*), count(distinct trade_id) from '{pattern(spine)}'")
            total, distinct = seen.fetchall()[0]
            assert total == distinct, seed
    assert met, (seed, rounds)
    # On a busy machine there may be no time for all before it ends: then its exit code says so.
    code = INCOMPLETE
    for _ in range(10):
        if code == INCOMPLETE:
            worker = start_worker(spine)
            wait_for_lock(spine, worker)
            worker.send_signal(signal.SIGTERM)
            code = worker.wait(timeout=60)
    assert code == 0
    ids = duckdb.sql(f"select trade_id from '{pattern(spine)}' order by 1").fetchall()
    assert [row[0] for row in ids] == list(range(first)), seed
