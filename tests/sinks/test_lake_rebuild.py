"""`tape lake`: every fault of a lake is found, and what files and tapes still hold is made good."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import tapeworks as tw
from conftest import as_version_1, check_exact
from tapeworks import _core, commits
from tapeworks.errors import (
    LakeError,
    LakeVersionError,
    SinkError,
    TapeLockedError,
    TapeReplacedError,
)
from tapeworks.lake_rebuild import rebuild
from tapeworks.sinks.commit_log import CommitLog
from tapeworks.sinks.compaction import Compaction
from tapeworks.sinks.parquet import ParquetConfig, ParquetPartition
from tapeworks.tape import TapeWriter, noted_losses
from tapeworks.views.audit import audit
from tapeworks.views.lake_check import verify_lake

TOPIC = "market-data.normalized"


@pytest.fixture
def stored(spine, maker):
    """Three files of trades, and tops of books, all that is on the tapes."""
    spine.append(maker.definitions())
    for first in range(0, 1_500, 500):
        spine.append(maker.trades(500, first))
        spine.drain()
    begin = maker.rows("marker", 1, instrument=1, ts_event=5, code=1, channel=5)
    end = maker.rows("marker", 1, instrument=1, ts_event=6, code=2, channel=5)
    levels = maker.rows("level", 4, instrument=1, ts_event=6, channel=5, size=7)
    levels["price"], levels["side"] = [10, 9, 11, 12], [1, 1, 2, 2]
    for part in (begin, levels, end, begin, levels[:2]):
        spine.append(part, "market-data.book")
    spine.drain("market-data.book")
    assert faults(spine) == []
    return spine


def files(spine, table: str = "trades") -> list[Path]:
    return sorted((spine.path / "lake" / table).rglob("*.parquet"))


def faults(spine) -> list[str]:
    return [fault.path for report in verify_lake(spine.path) for fault in report.faults]


def seen(spine) -> list[int]:
    return tw.open(spine.path).trades().to_arrow()["trade_id"].to_pylist()


def commit_file(spine) -> Path:
    return commits.commit_path(spine.path / "lake", spine.source, TOPIC)


def manifest(spine) -> Path:
    return next(commit_file(spine).parent.glob(f"{TOPIC}.manifest.*"))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def copy_as_other(path: Path) -> None:
    shutil.copy(path, path.with_name("000000000001-000000000007.parquet"))


FAULTS = {
    "file deleted": lambda spine: files(spine)[1].unlink(),
    "file flipped": lambda spine: flip(files(spine)[1]),
    "file cut": lambda spine: cut(files(spine)[1]),
    "file added": lambda spine: copy_as_other(files(spine)[1]),
    "commit deleted": lambda spine: commit_file(spine).unlink(),
    "commit flipped": lambda spine: flip(commit_file(spine)),
    "commit cut": lambda spine: cut(commit_file(spine)),
    "manifest deleted": lambda spine: manifest(spine).unlink(),
    "manifest flipped": lambda spine: flip(manifest(spine)),
    "symbols flipped": lambda spine: flip(commit_file(spine).parent / commits.SYMBOLS_FILE),
    "commits deleted": lambda spine: shutil.rmtree(commit_file(spine).parent),
    "lake deleted": lambda spine: shutil.rmtree(spine.path / "lake"),
    "all files deleted": lambda spine: shutil.rmtree(spine.path / "lake" / "trades"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_found_and_made_good(stored, maker, fault):
    # Each fault: `verify` names it, `rebuild` mends it from files and tape, and what comes after is
    # stored as if nothing had been. Nothing is lost or doubled, and no value differs.
    FAULTS[fault](stored)
    if fault != "lake deleted":
        assert faults(stored) != []
    reports = list(rebuild(stored.path, stored.source))
    assert faults(stored) == []
    assert not any(report.lost for report in reports)
    # A lake of which nothing is left begins anew: the next sink stores what the tape holds.
    check_exact(stored.path, rows_min=fault != "lake deleted")
    stored.append(maker.trades(500, 1_500))
    stored.drain()
    levels = maker.rows("level", 4, instrument=1, ts_event=6, channel=5, size=7)
    levels["price"], levels["side"] = [10, 9, 11, 12], [1, 1, 2, 2]
    end = maker.rows("marker", 1, instrument=1, ts_event=6, code=2, channel=5)
    for part in (levels[2:], end):
        stored.append(part, "market-data.book")
    stored.drain("market-data.book")
    assert seen(stored) == list(range(2_000))
    assert len(tw.open(stored.path).sql("select 1 from book_snapshots")) == 2
    check_exact(stored.path)
    assert sum(pq.read_metadata(path).num_rows for path in files(stored)) == 2_000


def test_rebuild_changes_nothing_of_a_whole_lake(stored):
    # Run twice: the same files, the same place.
    before = {path: path.read_bytes() for path in files(stored)}
    for _ in range(2):
        reports = list(rebuild(stored.path, stored.source))
        assert not any(report.aside or report.restored or report.lost for report in reports)
    assert {path: path.read_bytes() for path in files(stored)} == before


def test_rows_that_overlap_are_kept_once(stored):
    # Two copies of the lake put together: a merged file and the files it was made of.
    root = stored.path / "lake"
    originals = {path: path.read_bytes() for path in files(stored)}
    log = CommitLog(root, stored.source, TOPIC)
    log.recover()
    while Compaction(log, 300, 1).step("2999-01-01"):
        pass
    for path, data in list(originals.items())[:2]:
        path.write_bytes(data)
    commit_file(stored).unlink()
    [report] = [one for one in rebuild(stored.path, stored.source) if one.topic == TOPIC]
    assert len(report.aside) == 2
    assert all(Path(path).exists() for path, _ in report.aside)
    assert seen(stored) == list(range(1_500))
    check_exact(stored.path)


def test_what_is_gone_for_good_is_declared(stored):
    # A file is damaged and the tape is gone: the rows of its offsets are a loss that is noted.
    stored.close()
    shutil.rmtree(stored.path / "tape")
    path = files(stored)[1]
    flip(path)
    reports = list(rebuild(stored.path, stored.source))
    [lost] = [report.lost for report in reports if report.lost]
    assert lost == [(503, 1_002)]
    [(_, loss)] = noted_losses(stored.path, stored.source)
    assert (loss.topic, loss.first, loss.last) == (TOPIC, 503, 1_002)
    # Nobody records here any more: the ledger has it all the same, with its times unknown.
    lake = tw.open(stored.path)
    [gap] = lake.gaps().to_pylist()
    assert (gap["cause"], gap["topic"], gap["ts_from"], gap["ts_to"]) == (
        "damage",
        TOPIC,
        None,
        None,
    )
    assert "gap" in [row["finding"] for row in lake.coverage("BTCUSDT").to_pylist()]
    assert faults(stored) == []
    assert seen(stored) == [*range(500), *range(1_000, 1_500)]


def test_tape_of_another_id_is_refused(stored, maker):
    # The tape was deleted and recorded anew: the sink stores nothing, the views and the audit say
    # why, and to rebuild would mix two tapes.
    stored.close()
    before = {path: path.read_bytes() for path in files(stored)}
    shutil.rmtree(stored.tape())
    with TapeWriter(stored.tape()) as writer:
        writer.append(maker.definitions().tobytes())
        writer.append(maker.trades(4_000, 100_000).tobytes())
        writer.sync()
    for act in (
        lambda: stored.drain(),
        lambda: seen(stored),
        lambda: list(audit(stored.path)),
        lambda: list(rebuild(stored.path, stored.source)),
    ):
        with pytest.raises(TapeReplacedError, match="replaced"):
            act()
    commit_file(stored).unlink()
    with pytest.raises(TapeReplacedError, match="holds rows of tape"):
        list(rebuild(stored.path, stored.source))
    assert {path: path.read_bytes() for path in files(stored)} == before


@pytest.mark.parametrize("longer", [False, True])
def test_tape_that_was_restored_from_a_copy_is_noticed(spine, maker, tmp_path, longer):
    # A copy of the tape, from before the last commit; then, too, when it was written on, beyond the
    # place that the lake has reached: other rows stand at the offsets that are stored.
    spine.append(maker.definitions())
    spine.append(maker.trades(100))
    spine.close()
    shutil.copytree(spine.tape(), tmp_path / "copy")
    with TapeWriter(spine.tape()) as writer:
        writer.append(maker.trades(100, 100).tobytes())
        writer.sync()
    spine.drain()
    shutil.rmtree(spine.tape())
    shutil.copytree(tmp_path / "copy", spine.tape())
    if longer:
        with TapeWriter(spine.tape()) as writer:
            writer.append(maker.trades(150, 700).tobytes())
            writer.sync()
    with pytest.raises(TapeReplacedError):
        spine.drain()
    with pytest.raises(TapeReplacedError):
        seen(spine)
    assert sum(pq.read_metadata(path).num_rows for path in files(spine)) == 200


def test_older_copy_of_the_commits_doubles_nothing(stored, maker):
    # The commits are restored from before the last flush, the files are not.
    folder = commit_file(stored).parent
    shutil.copytree(folder, stored.path / "copy")
    stored.append(maker.trades(500, 1_500))
    stored.drain()
    shutil.rmtree(folder)
    shutil.copytree(stored.path / "copy", folder)
    with pytest.raises(LakeError, match="in no commit"):
        stored.drain()
    list(rebuild(stored.path, stored.source))
    stored.drain()
    assert seen(stored) == list(range(2_000))
    check_exact(stored.path)


def test_lake_that_is_not_mounted_is_told_from_a_new_one(spine, maker, tmp_path):
    # The sink had stored rows that retention then took from the tape; now its folder is empty. To
    # begin at the front of the tape would hide that. Once the folder is back, it goes on.
    spine.append(maker.definitions())
    spine.close()
    with TapeWriter(spine.tape(), segment_bytes=1 << 16, retention_bytes=1 << 17) as writer:
        for first in range(0, 6_000, 500):
            writer.append(maker.trades(500, first).tobytes())
            writer.sync()
            spine.drain(name="sink-parquet")
    assert _core.TapeReader(spine.tape()).first > 0
    (spine.path / "lake").rename(tmp_path / "unmounted")
    with pytest.raises(SinkError, match="not mounted"):
        spine.drain(name="sink-parquet")
    shutil.rmtree(spine.path / "lake")
    (tmp_path / "unmounted").rename(spine.path / "lake")
    spine.drain(name="sink-parquet")
    assert seen(spine) == list(range(6_000))


def test_rebuild_declares_what_retention_took_before_it_was_stored(spine, maker):
    # No sink ran while retention took the front of the tape. A rebuild begins behind what is gone:
    # then nobody else would come to tell of it.
    spine.append(maker.definitions())
    spine.append(maker.trades(500))
    spine.drain()
    stored = _core.TapeReader(spine.tape()).end
    spine.close()
    with TapeWriter(spine.tape(), segment_bytes=1 << 16, retention_bytes=1 << 17) as writer:
        for first in range(500, 6_000, 500):
            writer.append(maker.trades(500, first).tobytes())
            writer.sync()
    front = _core.TapeReader(spine.tape()).first
    assert front > stored
    list(rebuild(spine.path, spine.source))
    told = {(loss.first, loss.last) for _, loss in noted_losses(spine.path, spine.source)}
    assert told == {(stored, front - 1)}
    spine.drain()
    assert len(seen(spine)) == 6_000 - (front - stored)


def test_newer_version_stops_the_rebuild_and_damage_does_not(spine, maker, tmp_path):
    # What a newer build wrote must not be moved aside as damaged. The type of the error says so:
    # words of the message may stand in a path, too, and then say nothing.
    data = tmp_path / "update Tapeworks"
    spine.append(maker.definitions())
    spine.append(maker.trades(500))
    spine.drain()
    spine.path.rename(data)
    files = sorted((data / "lake" / "trades").rglob("*.parquet"))
    flip(files[0])
    reports = list(rebuild(data, spine.source))
    assert sum(len(report.aside) for report in reports) == 1
    assert sum(report.restored for report in reports) == 500
    path = commits.commit_path(data / "lake", spine.source, TOPIC)
    newer = b'{"version": 3, "sha256": "", "something": "else"}'
    path.write_bytes(newer)
    with pytest.raises(LakeVersionError, match="version 3"):
        list(rebuild(data, spine.source))
    assert path.read_bytes() == newer


def test_rebuild_waits_for_no_sink(stored):
    # A sink holds the lock: to change its files under it would be worse than any fault.
    sink = ParquetPartition(ParquetConfig(), stored.path, stored.source, TOPIC)
    sink.open()
    with pytest.raises(TapeLockedError):
        list(rebuild(stored.path, stored.source))
    sink.close()


def test_lake_of_the_first_version_is_checked_and_rebuilt(stored):
    # Without hashes, what can be read is all that is known.
    as_version_1(stored.path / "lake", stored.source, TOPIC, "market-data.book")
    assert faults(stored) == []
    cut(files(stored)[1])
    assert faults(stored) == [str(files(stored)[1])]
    list(rebuild(stored.path, stored.source))
    assert faults(stored) == []
    check_exact(stored.path)


@pytest.mark.slow
def test_command_line_finds_and_mends(stored, tape):
    # Exit code 1 with the file in the answer, then 0.
    stored.path.rename(tape.folder / "data")
    assert "whole" in tape.run("lake", "verify")
    path = next((tape.folder / "data" / "lake" / "trades").rglob("*.parquet"))
    flip(path)
    for words in (["verify"], ["lake", "verify"]):
        shown = json.loads(tape.run(*words, "--json", code=1))
        assert path.name in str(shown)
    assert "500 rows stored again" in tape.run("lake", "rebuild")
    assert "whole" in tape.run("verify")
    tape.refuse("lake", "rebuild", "--source", "binance-sport", code=2)


def test_lake_of_a_recording_without_instruments_is_whole(spine, maker):
    # A recorder that is stopped before the venue says anything leaves the start and the end of a
    # session. There are rows, and there are no symbols to be missed.
    connected = _core.numbers("marker_code")["connected"]
    spine.append(maker.rows("marker", 2, ts_event=5, ts_recv=5, code=connected, first=0xFFFF))
    spine.drain()
    assert files(spine, "sessions")
    assert faults(spine) == []


def test_files_that_are_missing_are_told_in_one_line(stored, caplog):
    # A folder of the lake is gone: one line that counts, and names the first, at each start.
    gone = sorted(files(stored))[:2]
    for path in gone:
        path.unlink()
    stored.drain()
    told = [record.getMessage() for record in caplog.records if "missing" in record.getMessage()]
    assert told == [f"missing: {gone[0]} and 1 more; see `tape lake verify`"]
