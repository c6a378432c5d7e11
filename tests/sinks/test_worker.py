"""The process of a sink: bounded memory, no failure that spreads, and no input left in silence."""

import contextlib
import errno
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pyarrow.parquet as pq
import pytest

import tapeworks as tw
from conftest import SpineFolder
from tapeworks.cli.formats import Format
from tapeworks.cli.latency import latency
from tapeworks.cli.settings import load
from tapeworks.commits import read_commit
from tapeworks.errors import SinkError, SinkUnavailable
from tapeworks.jobs import catch_up
from tapeworks.lake_rebuild import rebuild
from tapeworks.sinks import compaction, feeder, worker
from tapeworks.sinks.base import FlushPolicy
from tapeworks.sinks.feeder import Feeder
from tapeworks.sinks.parquet import ParquetConfig, ParquetPartition
from tapeworks.sinks.worker import Member, step_all
from tapeworks.stage_times import worker_times, write_times
from tapeworks.tape import TapeWriter
from tapeworks.views.audit import audit
from tapeworks.views.status import Status

NORMALIZED, DEAD = "market-data.normalized", "market-data.dead"
# Where the head of a segment says in which boot it was written.
BOOT = 264


def settings(*folders: SpineFolder):
    return replace(
        load(None), data=folders[0].path, feeds={folder.source: None for folder in folders}
    )


def member_of(spine: SpineFolder, topic: str = NORMALIZED, policy: FlushPolicy | None = None):
    config = ParquetConfig()
    sink = ParquetPartition(config, spine.path, spine.source, topic)
    return Member(Feeder(sink, spine.tape(topic), policy or config.policy, name="sink-parquet"))


def members_of(spine: SpineFolder, *, live: bool) -> list[Member]:
    """Returns what the process of the lake's sink feeds from the tape that `spine` has."""
    made = worker.feeders(settings(spine), "parquet", live=live)
    return [Member(feeder) for feeder in made if feeder.topic == NORMALIZED]


class Refused(ParquetPartition):
    """A sink whose disk refuses everything while `refuses` is set."""

    refuses = True

    def flush(self, place=None):
        """Refuses, or flushes."""
        if self.refuses:
            raise SinkUnavailable("the disk is full", retry_after_ms=1)
        super().flush(place)


@contextlib.contextmanager
def unreadable(tape: Path, how: str) -> Iterator[None]:
    """Makes a tape one that is there and cannot be opened, whoever tries."""
    target = tape if how != "segment" else next(tape.glob("*.seg"))
    aside = target.with_name("aside")
    target.rename(aside)
    if how == "file":
        target.write_bytes(b"")
    else:
        target.symlink_to(target.name)
    yield
    target.unlink()
    aside.rename(target)


@pytest.mark.parametrize(
    ("how", "number"), [("loop", errno.ELOOP), ("file", errno.ENOTDIR), ("segment", errno.ELOOP)]
)
def test_tape_that_cannot_be_read_is_an_error_that_names_it(spine, maker, how, number):
    # What lies behind the lake is on a tape that is there and cannot be opened. No answer leaves
    # its rows out, no sink says that it is done, and no rebuild takes it for gone.
    spine.append(maker.definitions())
    spine.append(maker.trades(50))
    member_of(spine).feeder.drain(30)
    spine.append(maker.trades(50, 50))
    spine.close()
    assert len(tw.open(spine.path).trades().to_arrow()) == 100
    with unreadable(spine.tape(), how):
        for attempt in (
            lambda: tw.open(spine.path).sql("from trades"),
            lambda: member_of(spine).feeder.drain(1),
            lambda: list(rebuild(spine.path, spine.source)),
            lambda: list(audit(spine.path)),
        ):
            with pytest.raises(OSError, match=NORMALIZED) as raised:
                attempt()
            assert raised.value.errno == number
        if how == "segment":
            [source] = Status(spine.path).sample().sources
            assert any(NORMALIZED in trouble for trouble in source.troubles)
    assert len(tw.open(spine.path).trades().to_arrow()) == 100


def test_sink_reports_what_it_does_not_store(spine, maker, caplog):
    # Its tape cannot be read for a while: the log and the status say so, and it is stored after.
    spine.append(maker.definitions())
    member = member_of(spine)
    with unreadable(spine.tape(), "loop"):
        assert member.step() == 0
        assert NORMALIZED in str(member.failure)
        worker.tell(spine.path / "state", "parquet", [member])
    assert "not stored until this is mended" in caplog.text
    [source] = Status(spine.path).sample().sources
    assert any("sink-parquet: market-data.normalized: not stored" in t for t in source.troubles)
    member.retry_at = 0.0
    assert member.step() == 3
    member.step(is_full=True)
    assert member.failure is None
    worker.tell(spine.path / "state", "parquet", [member])
    assert Status(spine.path).sample().sources[0].troubles == []
    member.feeder.close()


def test_tapes_of_a_source_count_their_times_together_and_each_store_has_its_own(
    spine, maker, capsys
):
    # What was counted only grows, whichever tape was slow of late; a store that has stored nothing
    # is a row of no times, and hides behind no other.
    other = SpineFolder(spine.path, "binance-futures")
    both = settings(spine, other)
    timers = {one.source: set() for one in (spine, other)}
    for one in worker.feeders(both, "parquet"):
        timers[one.source].add(one.together)
    assert [len(one) for one in timers.values()] == [1, 1]
    spine.append(maker.definitions())
    # A tape that is slow is told, however much another one stores in time.
    fast, slow = [one for one in worker.feeders(both, "parquet") if one.source == spine.source][:2]
    for one, ns, count in ((fast, 10**6, 100_000), (slow, 60 * 10**9, 500)):
        one.timer.record(ns, count)
        one.together.record(ns, count)
    worker.tell(spine.path / "state", "parquet", [Member(fast), Member(slow)])
    [(_, _, times)] = worker_times(spine.path, spine.source)
    assert times.total.count == 100_500
    assert times.total.p99 < 10**9 < 50 * 10**9 < times.recent.p99
    (spine.path / "state" / spine.source / "times-sink-parquet.json").unlink()
    for store, times in (("near", (9, 1_000, 2_000, 3_000)), ("far", (0, 0, 0, 0))):
        write_times(spine.path, spine.source, f"sink-{store}", {"sink": (times, times)})
    latency(form=Format.JSON, data=spine.path)
    rows = json.loads(capsys.readouterr().out)
    assert [(row["store"], row["records"], row["p50_us"]) for row in rows] == [
        ("far", 0, None),
        ("near", 9, 1.0),
    ]
    other.close()


def test_store_that_is_down_is_told_until_it_takes_something(spine, maker, caplog):
    # It opens, and refuses every flush: to read on from the tape is no success. The reason is
    # there once, beside how much waits and for how long; what is stored at last ends it.
    class Down(ParquetPartition):
        is_down = True

        def flush(self, place=None):
            if self.is_down:
                raise SinkUnavailable("Redis at localhost: connection refused", retry_after_ms=1)
            super().flush(place)

    def told():
        worker.tell(spine.path / "state", "parquet", [member])
        [source] = Status(spine.path).sample().sources
        [sink] = [one for one in source.sinks if one.topic == NORMALIZED]
        return source.troubles, sink

    spine.append(maker.definitions())
    config = ParquetConfig()
    partition = Down(config, spine.path, spine.source, NORMALIZED)
    member = Member(Feeder(partition, spine.tape(), config.policy))
    assert member.step() == 3
    for is_full in (True, False):
        member.step(is_full=is_full)
        member.feeder._retry_at = 0.0
        troubles, sink = told()
        assert troubles == [
            "sink-parquet: market-data.normalized: not stored yet: Redis at localhost: connection "
            "refused"
        ]
        assert (sink.lag, sink.refusal) == (3, "Redis at localhost: connection refused")
        assert sink.lag_s > 86_400
    partition.is_down = False
    member.step(is_full=True)
    troubles, sink = told()
    assert (troubles, sink.lag, sink.lag_s, sink.refusal) == ([], 0, 0, "")
    member.feeder.close()


def test_error_that_nobody_foresaw_stops_one_feeder_alone(spine, maker, tmp_path, caplog):
    # The sink of one source raises what no sink should; that of another stores on.
    class Broken(ParquetPartition):
        def write(self, batch):
            raise ZeroDivisionError("no such thing")

    other = SpineFolder(spine.path, "binance-futures")
    for folder in (spine, other):
        folder.append(maker.definitions())
        folder.append(maker.trades(50))
    config = ParquetConfig()
    broken = Broken(config, spine.path, spine.source, NORMALIZED)
    members = [Member(Feeder(broken, spine.tape(), config.policy)), member_of(other)]
    for _ in range(3):
        step_all(members)
    assert "ZeroDivisionError: no such thing" in caplog.text
    assert "Traceback" in caplog.text
    assert isinstance(members[0].failure, ZeroDivisionError)
    members[1].feeder.flush()
    assert members[1].feeder.partition.committed.offset == 53
    for member in members:
        member.feeder.close()
    other.close()


def test_what_was_only_read_is_not_stored_again(spine, maker, caplog):
    # Every flush raises: to read once more is no success, and the status goes on telling it.
    class Broken(ParquetPartition):
        is_broken = True

        def flush(self, place=None):
            if self.is_broken:
                raise ZeroDivisionError("no such thing")
            super().flush(place)

    spine.append(maker.definitions())
    sink = Broken(ParquetConfig(), spine.path, spine.source, NORMALIZED)
    member = Member(Feeder(sink, spine.tape(), FlushPolicy()))
    for _ in range(3):
        member.retry_at = 0.0
        assert member.step() == 3
        assert member.step(is_full=True) == 0
        assert member.troubles() != []
    assert caplog.text.count("not stored until this is mended") == 1
    sink.is_broken, member.retry_at = False, 0.0
    assert member.step() == 3
    assert member.troubles() != []
    member.step(is_full=True)
    assert member.troubles() == []
    assert sink.committed.offset == 3
    member.feeder.close()


def test_quiet_tape_that_is_mended_is_told_no_more(spine, maker):
    # All of it is stored, it cannot be opened for a while, and nothing comes after.
    spine.append(maker.definitions())
    spine.drain()
    member = member_of(spine)
    with unreadable(spine.tape(), "loop"):
        member.step()
        assert member.troubles() != []
    member.retry_at = 0.0
    assert member.step() == 0
    assert member.troubles() == []
    member.feeder.close()


def test_upkeep_goes_on_whatever_is_raised(spine, maker, monkeypatch, caplog):
    # DuckDB has no memory for a merge, again and again: each failure is logged and counted, the
    # next try waits longer, and once there is memory the files are merged, by the same thread.
    for first in range(0, 16_000, 2_000):
        spine.append(maker.definitions() if not first else maker.trades(2_000, first))
        member = member_of(spine)
        member.feeder.drain(30)
        member.feeder.close()
    member.step()
    member.feeder.partition._compaction.quiet_s = 0.0
    real, fails = compaction.duckdb.connect, [3]

    def connect(*arguments):
        if fails[0]:
            fails[0] -= 1
            raise duckdb.OutOfMemoryException("no memory")
        return real(*arguments)

    class Stopping(threading.Event):
        def wait(self, timeout=None):
            member.upkeep.retry_at, before = 0.0, member.upkeep.retry_at
            waits.append(before - time.monotonic() if before else 0.0)
            if len(waits) > 5:
                self.set()
            return self.is_set()

    waits: list[float] = []
    stopping = Stopping()
    monkeypatch.setattr(compaction, "duckdb", SimpleNamespace(connect=connect))
    upkeep = threading.Thread(target=worker._maintain, args=([member], stopping), daemon=True)
    upkeep.start()
    upkeep.join(60)
    assert not upkeep.is_alive()
    assert caplog.text.count("OutOfMemoryException: no memory") == 3
    assert "upkeep failed, 3 in a row" in caplog.text
    assert 0 < waits[1] < waits[2] < waits[3]
    assert member.upkeep.failures == 0
    assert len(list((spine.path / "lake/trades").rglob("*.parquet"))) == 1
    member.feeder.close()


def test_feeding_goes_on_while_upkeep_takes_its_time(spine, maker, monkeypatch):
    # A merge is held until what came meanwhile is in the lake: it runs beside the feeding.
    begun, go_on, stops = threading.Event(), threading.Event(), []

    def held(sink):
        begun.set()
        assert go_on.wait(60)
        return False

    monkeypatch.setattr(ParquetPartition, "run_maintenance", held)
    monkeypatch.setattr(ParquetPartition, "MAINTENANCE_S", 0.01)
    monkeypatch.setattr(worker, "on_stop", stops.append)
    sinks = {"parquet": ParquetConfig(flush_seconds=0.01)}
    spine.append(maker.definitions())
    arguments = replace(settings(spine), sinks=sinks), "parquet"
    running = threading.Thread(target=worker.run_worker, args=arguments)
    running.start()
    try:
        assert begun.wait(20)
        spine.append(maker.trades(10))
        deadline = time.monotonic() + 20
        while (found := read_commit(spine.path / "lake", spine.source, NORMALIZED)) is None or (
            found.offset < 13
        ):
            assert time.monotonic() < deadline, "nothing was stored while the merge ran"
            time.sleep(0.01)
    finally:
        go_on.set()
        stops[0](signal.SIGTERM, None)
        running.join(60)
    assert not running.is_alive()


def test_stop_with_input_left_says_so(spine, maker, monkeypatch, caplog):
    # There is no time for what is on the tape: the log names how much is not stored, and the code
    # of the worker is that of an incomplete end. The next one stores it.
    spine.append(maker.definitions())
    spine.append(maker.trades(5_000))
    members = [member_of(spine, policy=FlushPolicy(rows=100))]
    monkeypatch.setattr(worker, "DRAIN_S_MAX", 0.0)
    members[0].step()
    assert worker._drain_all(members) is False
    assert "items that are not stored" in caplog.text
    monkeypatch.setattr(worker, "DRAIN_S_MAX", 60.0)
    assert worker._drain_all(members) is True
    assert members[0].feeder.partition.committed.offset == 5_003
    members[0].feeder.close()


@pytest.mark.parametrize("is_stored", [False, True])
def test_tape_that_is_not_opened_is_not_done(spine, maker, monkeypatch, caplog, is_stored):
    # A tape of an earlier boot that no writer has opened since is not read: what is on it is left,
    # and no end is a good one, unless all of it is stored.
    spine.append(maker.definitions())
    if is_stored:
        spine.drain(name="sink-parquet")
    spine.close()
    [segment] = spine.tape().glob("*.seg")
    image = bytearray(segment.read_bytes())
    image[BOOT] ^= 1
    segment.write_bytes(image)
    monkeypatch.setattr(worker, "DRAIN_S_MAX", 0.1)
    [member] = members_of(spine, live=True)
    assert worker._drain_all([member]) is is_stored
    assert ("stopped with 3 items that are not stored" in caplog.text) is not is_stored
    member.feeder.close()


def test_stop_has_one_time_for_all_feeders(spine, maker, monkeypatch):
    # Four sinks refuse to the end: together they take no longer than one, and one behind them
    # still stores what is on its tape.
    spine.append(maker.definitions())
    refused = [
        Member(Feeder(sink, spine.tape(), FlushPolicy()))
        for sink in (
            Refused(ParquetConfig(), spine.path, f"source-{number}", NORMALIZED)
            for number in range(4)
        )
    ]
    member = member_of(spine)
    monkeypatch.setattr(worker, "DRAIN_S_MAX", 3.0)
    began = time.monotonic()
    with pytest.raises(SinkUnavailable, match="the disk is full"):
        worker._drain_all([*refused, member])
    assert time.monotonic() - began < 9.0
    assert member.feeder.partition.committed.offset == 3
    for one in (*refused, member):
        one.feeder.close()


def test_close_that_fails_leaves_nothing_open_and_hides_no_error(spine, maker, monkeypatch, caplog):
    # Of three sinks one cannot be closed, and one cannot be flushed: all are closed, the thread of
    # upkeep has ended, and what is raised is why nothing was stored.
    closed = []

    class Sticky(ParquetPartition):
        def flush(self, place=None):
            raise ZeroDivisionError("cannot be flushed")

        def close(self):
            super().close()
            closed.append(self)
            raise RuntimeError("cannot be closed either")

    spine.append(maker.definitions())
    sinks = [
        Sticky(ParquetConfig(), spine.path, f"source-{number}", NORMALIZED) for number in range(3)
    ]
    made = [Feeder(sink, spine.tape(), FlushPolicy()) for sink in sinks]
    monkeypatch.setattr(worker, "feeders", lambda *_, **__: made)
    monkeypatch.setattr(worker, "on_stop", lambda stop: stop(15, None))
    with pytest.raises(ZeroDivisionError, match="cannot be flushed"):
        worker.run_worker(settings(spine), "parquet")
    assert closed == sinks
    assert caplog.text.count("cannot be closed either") == 3
    assert "maintenance" not in [thread.name for thread in threading.enumerate()]


def test_import_without_time_for_all_is_no_success(spine, maker, monkeypatch):
    # `catch_up`, which imports and repairs end with, has no time: it fails and says what is left.
    # Given some, it goes on for as long as each piece of it stores something.
    spine.append(maker.definitions())
    spine.append(maker.trades(5_000))
    spine.close()
    monkeypatch.setattr(catch_up, "STEP_S_MIN", 0.0)
    with pytest.raises(SinkError, match="items are not stored"):
        catch_up.catch_up(settings(spine), steps=(), stalled_s=0.0)
    monkeypatch.setattr(feeder, "BATCH_RECORDS", 1)
    catch_up.catch_up(settings(spine), steps=(), stalled_s=0.02)
    assert len(tw.open(spine.path).trades().to_arrow()) == 5_000


@pytest.mark.slow
def test_large_dead_letters_are_moved_and_merged_in_small_pieces(spine):
    # Sixteen frames of 6 MiB, sixteen would be read at once by number: a step moves few of them, a
    # file is written, and merged, in row groups of few, and every byte is kept.
    frames = [os.urandom(6 << 20) for _ in range(16)]
    tape = spine.tape(DEAD)
    tape.mkdir(parents=True)
    with TapeWriter(tape, kind="blobs") as writer:
        for number, frame in enumerate(frames):
            writer.append_blob(1, frame, ts=1_780_000_000_000_000_000 + number * 1_000)
        writer.sync()
    member = member_of(spine, DEAD, FlushPolicy(bytes=40 << 20))
    moved = []
    while count := member.step():
        moved.append(count)
        assert member.feeder.held_bytes < 40 << 20
    assert sum(moved) == 16
    assert max(moved) <= 3
    member.feeder.flush()
    member.feeder.partition._compaction.quiet_s = 0.0
    assert len(files_of(spine)) > 1
    assert member.feeder.run_maintenance()
    member.feeder.close()
    [path] = files_of(spine)
    metadata = pq.read_metadata(path)
    groups = [metadata.row_group(at).num_rows for at in range(metadata.num_row_groups)]
    assert sum(groups) == 16
    assert max(groups) <= 6
    shown = tw.open(spine.path).sql("from dead_letters order by tape_offset").to_arrow()
    assert shown["frame"].to_pylist() == frames


def files_of(spine: SpineFolder) -> list[Path]:
    return list((spine.path / "lake/dead_letters").rglob("*.parquet"))


def test_sinks_of_one_process_hold_a_bounded_sum(spine, maker, monkeypatch):
    # Five sources, each below the limit of its own: together they stay below that of the process,
    # and while a disk refuses all of them, no more is read.
    monkeypatch.setattr(worker, "HELD_BYTES_MAX", 1 << 20)
    config, members, folders = ParquetConfig(), [], []
    for number in range(5):
        folder = SpineFolder(spine.path, f"source-{number}")
        folder.append(maker.definitions())
        for first in range(0, 20_000, 5_000):
            folder.append(maker.trades(5_000, first))
        sink = Refused(config, folder.path, folder.source, NORMALIZED)
        members.append(Member(Feeder(sink, folder.tape(), FlushPolicy())))
        folders.append(folder)
    monkeypatch.setattr(feeder, "BATCH_RECORDS", 2_000)
    largest = 0
    for refuses in (True, False):
        for member in members:
            member.feeder.partition.refuses, member.feeder._retry_at = refuses, 0.0
        for _ in range(60):
            step_all(members)
            largest = max(largest, sum(member.feeder.held_bytes for member in members))
    assert 1 << 20 <= largest < 2 << 20
    assert worker._drain_all(members) is True
    for member, folder in zip(members, folders, strict=True):
        assert member.feeder.partition.committed.offset == 20_003
        member.feeder.close()
        folder.close()
