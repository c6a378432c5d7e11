"""What a merge replaces: only files whose every value it read, never a name that is in use."""

import threading
import time
from datetime import date
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tapeworks as tw
from conftest import SpineFolder
from tapeworks import commits, lake
from tapeworks.errors import LakeError
from tapeworks.lake_rebuild import rebuild
from tapeworks.sinks import commit_log, compaction
from tapeworks.sinks.base import FlushPolicy
from tapeworks.sinks.commit_log import CommitLog
from tapeworks.sinks.compaction import Compaction
from tapeworks.sinks.feeder import Feeder
from tapeworks.sinks.parquet import ParquetConfig, ParquetPartition
from tapeworks.sinks.worker import Member
from tapeworks.views.lake_check import verify_lake

TOPIC = "market-data.normalized"
TODAY = "2999-01-01"
# Names that mean something to DuckDB, to SQL, to Hive, or to a format; and a folder beside each
# that the name would match as a pattern.
NAMES = {
    "run[1]": "run1",
    "a*b": "axb",
    "a?b": "axb",
    "[!a]": "b",
    "it's": "its",
    "{a}%s": "a",
    "new\nline": "new line",
    "back\\slash": "backslash",
    "venue=other": "other",
    "x=1": "x",
}


def store(spine: SpineFolder, maker, counts=(500, 500), seed: int = 1) -> None:
    """Fills the lake of a data folder with one file for each of `counts`."""
    spine.append(maker.definitions())
    first = 0
    for count in counts:
        spine.append(maker.trades(count, first, seed))
        first += count
        spine.drain()


def merge(spine: SpineFolder) -> int:
    log = CommitLog(spine.path / "lake", spine.source, TOPIC)
    log.recover()
    work = Compaction(log, 1_000, 1)
    # A step that refuses a file merges nothing; the next one leaves that file out.
    return sum(work.step(TODAY) > 0 for _ in range(6))


def rows_of(spine: SpineFolder) -> list[dict[str, object]]:
    return tw.open(spine.path).sql("from trades order by tape_offset").to_pylist()


def files(spine: SpineFolder, table: str = "trades"):
    state = commits.TopicReader(spine.path / "lake", spine.source, TOPIC).read()
    return [file for day in state.tables.get(table, {}).values() for file in day]


def faults(spine: SpineFolder):
    return [fault for report in verify_lake(spine.path) for fault in report.faults]


@pytest.mark.parametrize("name", NAMES)
def test_path_of_the_data_folder_is_literal(name, tmp_path, maker):
    # Beside the folder lies one with as many rows of other prices, whose name it matches as a
    # pattern. Whatever reads the lake reads its own rows, and the columns are those of any lake.
    plain = SpineFolder(tmp_path / "plain" / "data")
    store(plain, maker)
    expected = rows_of(plain)
    decoy, spine = (SpineFolder(tmp_path / one / "data") for one in (NAMES[name], name))
    store(decoy, maker, seed=2)
    store(spine, maker)
    assert rows_of(spine) == expected != rows_of(decoy)
    assert merge(spine) > 0
    assert len(files(spine)) == 1
    assert rows_of(spine) == expected
    assert expected[0]["venue"] == spine.source
    assert isinstance(expected[0]["date"], date)
    assert not faults(spine)
    files(spine)[0].path.unlink()
    for _ in rebuild(spine.path, spine.source):
        pass
    assert rows_of(spine) == expected
    assert not faults(spine)
    for one in (plain, decoy, spine):
        one.close()


@pytest.mark.parametrize("column", ["price", "trade_id", "ts_recv_ns", "side"])
def test_merge_that_changes_a_value_replaces_nothing(spine, maker, column, monkeypatch):
    # The rows are as many, at the same offsets; one column has the value of another row.
    store(spine, maker)
    before, source = rows_of(spine), compaction._source

    def shifted(*arguments):
        value = f"coalesce(lead({column}) over (order by tape_offset), {column})"
        return f"(select * replace ({value} as {column}) from {source(*arguments)})"

    monkeypatch.setattr(compaction, "_source", shifted)
    with pytest.raises(LakeError, match="or other values"):
        merge(spine)
    assert len(files(spine)) == 2
    assert rows_of(spine) == before


def test_file_that_changes_while_it_is_merged_is_kept(spine, maker, monkeypatch):
    # Its bytes are right when the merge begins, and others when it is read: nothing is replaced.
    store(spine, maker)
    changed = files(spine)[0].path
    source = compaction._source

    def change(*arguments):
        rows = pq.ParquetFile(changed).read()
        pq.write_table(rows.set_column(0, rows.field(0), rows.column(0)), changed)
        return source(*arguments)

    monkeypatch.setattr(compaction, "_source", change)
    with pytest.raises(LakeError, match="not those that were written"):
        merge(spine)
    assert len(files(spine)) == 2


def split_by_name(spine: SpineFolder) -> None:
    """Makes of one file three: the name of the first reaches around the two others."""
    [file] = files(spine)
    table = pq.ParquetFile(file.path).read()
    offsets = table["tape_offset"].to_pylist()
    ends = min(offsets), max(offsets)
    parts = [
        ([o not in ends for o in offsets], ends),
        *(([o == e for o in offsets], (e, e)) for e in ends),
    ]
    file.path.unlink()
    for chosen, (first, last) in parts:
        path = lake.file_path("trades", spine.source, file.day, first, last)
        pq.write_table(table.filter(pa.array(chosen)), spine.path / "lake" / path)
    names = [*files_of_lake(spine)]
    place = spine.path / "lake", spine.source, TOPIC
    commit = commits.read_commit(*place)
    stored = [commit_log.describe_file(spine.path / "lake", name) for name in names]
    commit_log.start_log(
        *place, stored, commit.place, commit.context, number=commit.number + 1, generation=9
    )


def files_of_lake(spine: SpineFolder):
    return lake.files_on_disk(spine.path / "lake", spine.source, TOPIC)


@pytest.mark.parametrize("is_damaged", [False, True])
def test_merge_never_takes_a_name_that_is_in_use(spine, maker, is_damaged):
    # The file whose name the merge would choose is one that counts: damaged, it stays as it is, and
    # the others become one; whole, it becomes a part of the one that replaces all.
    store(spine, maker, counts=(500,))
    expected = rows_of(spine)
    split_by_name(spine)
    assert rows_of(spine) == expected
    wide = max(files(spine), key=lambda file: file.last - file.first)
    data = bytearray(wide.path.read_bytes())
    data[200] ^= is_damaged
    wide.path.write_bytes(data)
    assert merge(spine) == 1
    if is_damaged:
        merged = [file for file in files(spine) if file.path != wide.path]
        assert wide.path.read_bytes() == data
        assert len(files(spine)) == 2
        assert [fault.path for fault in faults(spine)] == [str(wide.path)]
    else:
        merged = files(spine)
        assert rows_of(spine) == expected
        assert not faults(spine)
    [file] = merged
    assert file.path.name != wide.path.name
    assert (file.first, file.last) == (wide.first, wide.last)


@pytest.mark.parametrize("is_changed", [False, True])
def test_merge_that_outlives_its_sink_changes_nothing(spine, maker, is_changed, monkeypatch):
    # A sink fails and is closed while a merge runs in the thread of upkeep. It is opened again
    # before the merge is through, or another process merges the same files meanwhile: the first
    # merge is given up, and each row is there once.
    store(spine, maker)
    expected = rows_of(spine)
    sink = ParquetPartition(ParquetConfig(), spine.path, spine.source, TOPIC)
    sink.open()
    sink._compaction.quiet_s = 0.0
    begun, go_on, merged = threading.Event(), threading.Event(), []
    compare = compaction.compare

    def held(*arguments):
        compare(*arguments)
        if threading.current_thread() is merging:
            begun.set()
            assert go_on.wait(60)

    def work():
        merged.append(sink.run_maintenance())

    monkeypatch.setattr(compaction, "compare", held)
    merging = threading.Thread(target=work, daemon=True)
    merging.start()
    assert begun.wait(60)
    sink.close()
    if is_changed:
        assert merge(spine) > 0
    sink.open()
    go_on.set()
    merging.join(60)
    assert not merging.is_alive()
    sink.close()
    assert merged == [False]
    assert rows_of(spine) == expected
    assert not faults(spine)
    spine.drain()


@pytest.mark.parametrize("step", ["file_sha256", "sum_file", "compare"])
def test_merge_of_a_closed_sink_is_given_up_at_once(spine, maker, step, monkeypatch, caplog):
    # A stop waits for the merge: it hashes and compares no whole day to its end before it looks.
    # Whenever it comes, upkeep did not fail: nobody has to look into anything.
    store(spine, maker)
    expected = rows_of(spine)
    sink = ParquetPartition(ParquetConfig(), spine.path, spine.source, TOPIC)
    member = Member(Feeder(sink, spine.tape(TOPIC), FlushPolicy()))
    member.step()
    sink._compaction.quiet_s = 0.0
    real, begun, finished = getattr(compaction, step), [], []

    def closing(*arguments):
        begun.append(step)
        if step != "compare":
            member.close()
        real(*arguments)
        finished.append(step)
        # Nothing is left but to commit.
        member.close()

    monkeypatch.setattr(compaction, step, closing)
    member.run_maintenance(threading.Event())
    assert (begun, finished) == ([step], [step] if step == "compare" else [])
    assert (member.upkeep.failures, caplog.text) == (0, "")
    assert list(spine.path.glob("lake/**/merge-*")) == []
    monkeypatch.undo()
    assert rows_of(spine) == expected
    assert not faults(spine)


def test_row_that_comes_late_does_not_rewrite_its_day(spine, maker, monkeypatch):
    # A day that is over is one file. Single rows come for it again and again, each long enough
    # after the last: the day is not written anew for each, but once they are an eighth of it, or
    # once none came for a day.
    store(spine, maker, counts=(1_000, 1_000))
    log = CommitLog(spine.path / "lake", spine.source, TOPIC)
    log.recover()
    now = [time.time()]
    monkeypatch.setattr(compaction, "clock", SimpleNamespace(time=lambda: now[0]))
    work = Compaction(log, 1_000, 1, quiet_s=300.0)
    now[0] += 301
    assert work.step(TODAY) == 2
    [whole] = files(spine)
    for number in range(5):
        spine.append(maker.trades(1, 2_000 + number))
        spine.drain()
        log.recover()
        now[0] += 600
        work.step(TODAY)
        assert whole.path.exists()
    now[0] += 86_401
    assert work.step(TODAY) > 0
    assert len(files(spine)) == 1
    assert len(rows_of(spine)) == 2_005
