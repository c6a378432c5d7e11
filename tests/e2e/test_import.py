"""Captured frames through `tape import`: the same path as live ones, asked by the same commands."""

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tapeworks._core import numbers
from tapeworks.cli.held import RECORDS
from tapeworks.tape import TapeReader

START = "from tapeworks.cli import main; main()"
STARTED_NS = 1_723_161_255_000_000_000


def tape(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", START, *words],
        cwd=cwd,
        env={**os.environ, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def write_capture(path: Path, trades: list[int]) -> None:
    lines = []
    for number in trades:
        ts = STARTED_NS + number * 1_000_000
        data = (
            f'{{"e":"trade","E":{ts // 10**6},"s":"BTCUSDT","t":{number},"p":"61837.63000000",'
            f'"q":"0.00100000","T":{ts // 10**6},"m":true,"M":true}}'
        )
        lines.append(f'{ts} {{"stream":"btcusdt@trade","data":{data}}}')
    path.write_text("\n".join(lines) + "\n")


def test_imported_trades_are_asked_like_live_ones(tmp_path: Path):
    # A hundred trades of which three are missing: they are counted, and the hole is in the ledger.
    write_capture(tmp_path / "capture.txt", [n for n in range(1, 104) if n not in (50, 51, 52)])
    shown = tape("import", "binance-spot", "capture.txt", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "imported 100 frames" in shown.stdout
    sql = "select count(*) as n, sum(price * size)::varchar as turnover from trades"
    shown = tape("query", sql, "--format", "json", cwd=tmp_path)
    (row,) = json.loads(shown.stdout)
    assert row["n"] == 100
    assert row["turnover"].startswith("6183.763")
    assert "gaps" in shown.stderr
    gaps = json.loads(tape("gaps", "BTCUSDT", "--json", cwd=tmp_path).stdout)
    found = [gap for gap in gaps if gap["cause"] == "sequence"]
    assert [(gap["first_missing"], gap["last_missing"]) for gap in found] == [(50, 52)]


@pytest.mark.slow
def test_import_of_trades_alone_is_not_complete_of_books(tmp_path: Path):
    # `--check` of a channel: what nobody imported is not known.
    write_capture(tmp_path / "capture.txt", list(range(1, 101)))
    imported(tmp_path, "capture.txt")
    assert tape("gaps", "--channel", "trade", "--check", cwd=tmp_path).returncode == 0
    for channel in ("depth", "quote", "mark"):
        shown = tape("gaps", "--channel", channel, "--check", cwd=tmp_path)
        assert shown.returncode == 3
        assert shown.stdout.startswith("not known from "), shown.stdout
    assert tape("gaps", "--check", cwd=tmp_path).returncode == 0


@pytest.mark.slow
def test_second_import_goes_on_where_the_first_ended(tmp_path: Path):
    # Two files in two calls: no hole between them, nothing twice.
    write_capture(tmp_path / "one.txt", list(range(1, 51)))
    write_capture(tmp_path / "two.txt", list(range(51, 101)))
    for name in ("one.txt", "two.txt"):
        shown = tape("import", "binance-spot", name, cwd=tmp_path)
        assert shown.returncode == 0, shown.stderr
    sql = "select count(*) as n, count(distinct trade_id) as ids from trades"
    shown = tape("query", sql, "--format", "json", cwd=tmp_path)
    assert json.loads(shown.stdout) == [{"n": 100, "ids": 100}]


def test_lines_that_are_no_frames_are_named(tmp_path: Path):
    # One line on stderr with file and line number, and the exit code of a feed error.
    (tmp_path / "bad.txt").write_text("time,price\n1,2\n")
    shown = tape("import", "binance-spot", "bad.txt", cwd=tmp_path)
    assert shown.returncode == 1
    assert "bad.txt:1: expected" in shown.stderr
    assert "Traceback" not in shown.stderr


def test_missing_file_is_named(tmp_path: Path):
    # Before anything is written.
    shown = tape("import", "binance-spot", "none.gz", cwd=tmp_path)
    assert shown.returncode == 2
    assert "none.gz" in shown.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.slow
def test_frames_of_another_feed_are_no_success(tmp_path: Path):
    # Sixty lines of JSON that no Binance stream holds: kept as dead letters, and not "imported"
    # as if all were well. A few such lines among good ones are told.
    lines = [f'{STARTED_NS + n} {{"topic":"trades","price":{n}}}' for n in range(60)]
    (tmp_path / "other.txt").write_text("\n".join(lines) + "\n")
    shown = tape("import", "binance-spot", "other.txt", cwd=tmp_path)
    assert shown.returncode == 3, shown.stdout
    assert "none of them could be decoded as binance-spot" in " ".join(shown.stderr.split())
    write_capture(tmp_path / "good.txt", list(range(1, 51)))
    with (tmp_path / "good.txt").open("a") as file:
        file.write("\n".join(lines[:5]) + "\n")
    shown = tape("import", "binance-spot", "good.txt", "--data", "more", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "5 of them could not be decoded" in " ".join(shown.stderr.split())


@pytest.mark.slow
def test_a_channel_that_is_of_another_feed_is_no_success(tmp_path: Path):
    # Trades of spot and futures look alike, their depth does not: a book is missing, and all else
    # stands under the wrong feed. A cut line at the end is told, and no more.
    write_capture(tmp_path / "spot.txt", list(range(1, 51)))
    with (tmp_path / "spot.txt").open("a") as file:
        for n in range(60, 90):
            ts = STARTED_NS + n * 1_000_000
            data = (
                f'{{"e":"depthUpdate","E":{ts // 10**6},"s":"BTCUSDT","U":{n},"u":{n},'
                '"b":[["61837.63000000","1.00000000"]],"a":[]}'
            )
            file.write(f'{ts} {{"stream":"btcusdt@depth@100ms","data":{data}}}\n')
    shown = tape("import", "binance-usdm", "spot.txt", cwd=tmp_path)
    assert shown.returncode == 3, shown.stderr
    told = " ".join(shown.stderr.split())
    assert "no frame of 30 of depthUpdate could be decoded as binance-usdm" in told
    assert "is this a capture of binance-spot?" in told
    shown = tape("import", "binance-spot", "spot.txt", "--data", "spot", cwd=tmp_path)
    assert (shown.returncode, shown.stderr) == (0, "")
    # The letters of before count no more.
    write_capture(tmp_path / "later.txt", list(range(100, 150)))
    with (tmp_path / "later.txt").open("a") as file:
        file.write(f'{STARTED_NS + 10**9} {{"stream":"btcusdt@trade","data":{{"e":"tra\n')
    shown = tape("import", "binance-usdm", "later.txt", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "1 of them could not be decoded" in " ".join(shown.stderr.split())


@pytest.mark.slow
def test_line_without_end_and_time_without_bounds_are_refused(tmp_path: Path):
    # A small packed file of one endless line, and a stamp of the year 2286: each is one line on
    # stderr, and takes no memory.
    with gzip.open(tmp_path / "bomb.gz", "wb") as file:
        for _ in range(80):
            file.write(b"{" * (1 << 20))
    (tmp_path / "late.txt").write_text('9999999999999999999 {"stream":"x"}\n')
    for name, told in (("bomb.gz", "a line of over"), ("late.txt", "up to the year 2262")):
        shown = tape("import", "binance-spot", name, cwd=tmp_path)
        assert shown.returncode == 1, shown.stderr
        assert told in shown.stderr
        assert "Traceback" not in shown.stderr


def stored(folder: Path) -> list[tuple[int, int]]:
    sql = "select count(*) as n, count(distinct sequence) as ids from quotes"
    (row,) = json.loads(tape("query", sql, "--format", "json", cwd=folder).stdout)
    return [(row["n"], row["ids"])]


def write_quotes(path: Path, count: int) -> None:
    lines = []
    for number in range(count):
        ts = STARTED_NS + number * 50_000_000
        data = (
            f'{{"u":{1_000 + number * 7},"s":"BTCUSDT","b":"1","B":"{number + 1}","a":"2","A":"2"}}'
        )
        lines.append(f'{ts} {{"stream":"btcusdt@bookTicker","data":{data}}}')
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.slow
def test_capture_that_is_imported_twice_is_stored_once(tmp_path: Path):
    # Half a minute of quotes, then the same again, then with more behind it: no quote twice, no
    # reset that was none.
    write_quotes(tmp_path / "half.txt", 600)
    write_quotes(tmp_path / "whole.txt", 1_200)
    for name, count in (("half.txt", 600), ("half.txt", 600), ("whole.txt", 1_200)):
        shown = tape("import", "binance-spot", name, cwd=tmp_path)
        assert shown.returncode == 0, shown.stderr
        assert stored(tmp_path) == [(count, count)]
    assert "600 frames were there already" in shown.stderr
    causes = {gap["cause"] for gap in json.loads(tape("gaps", "--json", cwd=tmp_path).stdout)}
    assert "reset" not in causes


@pytest.mark.slow
def test_capture_that_is_older_than_its_source_is_refused(tmp_path: Path):
    # Quotes of an hour later are there: those of before are not taken for repeats of them.
    write_quotes(tmp_path / "late.txt", 4_000)
    lines = (tmp_path / "late.txt").read_text().splitlines()
    (tmp_path / "early.txt").write_text("\n".join(lines[:100]) + "\n")
    (tmp_path / "late.txt").write_text("\n".join(lines[2_000:]) + "\n")
    assert tape("import", "binance-spot", "late.txt", cwd=tmp_path).returncode == 0
    shown = tape("import", "binance-spot", "early.txt", cwd=tmp_path)
    assert shown.returncode == 2
    assert "--source NAME" in shown.stderr
    assert stored(tmp_path) == [(2_000, 2_000)]


def on_tape(folder: Path) -> tuple[int, int]:
    """Returns the frames on the raw tape, and how many of them differ."""
    reader = TapeReader(folder / "data/tape/binance-spot/market-data.raw")
    bodies, newest = [], 0
    while blobs := reader.read_blobs():
        for blob in blobs:
            assert blob.ts_recv >= newest
            newest = blob.ts_recv
        bodies += [bytes(blob.body) for blob in blobs if blob.kind != RECORDS]
    return len(bodies), len(set(bodies))


def imported(folder: Path, *names: str) -> None:
    shown = tape("import", "binance-spot", *names, cwd=folder)
    assert shown.returncode == 0, (names, shown.stderr)


@pytest.mark.slow
def test_captures_of_the_same_minute_are_each_stored_once(tmp_path: Path):
    # Two captures whose frames alternate, and a third with some of both; each again, alone and
    # together with the others, in any order.
    write_capture(tmp_path / "odd", list(range(1, 400, 2)))
    write_capture(tmp_path / "even", list(range(2, 401, 2)))
    write_capture(tmp_path / "both", list(range(300, 451)))
    names = ("odd", "even", "both")
    for name, count in zip(names, (200, 400, 450), strict=True):
        imported(tmp_path, name)
        assert on_tape(tmp_path) == (count, count)
    for again in (["even"], ["odd"], ["both"], ["both", "odd"], ["odd", "even", "both", "even"]):
        imported(tmp_path, *again)
        assert on_tape(tmp_path) == (450, 450), again
    sql = "select count(*) as n, count(distinct trade_id) as ids from trades"
    shown = tape("query", sql, "--format", "json", cwd=tmp_path)
    assert json.loads(shown.stdout) == [{"n": 450, "ids": 450}]


@pytest.mark.slow
def test_files_that_overlap_are_stored_once_in_one_import_or_in_several(tmp_path: Path):
    # The second begins with the last frames of the first. Both at once, then each alone; and a
    # frame that a capture holds twice is there twice.
    write_quotes(tmp_path / "all", 1_200)
    lines = (tmp_path / "all").read_text().splitlines()
    ack = f'{STARTED_NS + 700 * 50_000_000} {{"result":null,"id":1}}'
    (tmp_path / "a").write_text("\n".join(lines[:700]) + "\n")
    (tmp_path / "b").write_text("\n".join([*lines[300:701], ack, ack, *lines[701:]]) + "\n")
    for given in (["a", "b"], ["b"], ["a"], ["a", "b"]):
        imported(tmp_path, *given)
        assert on_tape(tmp_path) == (1_202, 1_201), given
    assert stored(tmp_path) == [(1_200, 1_200)]


@pytest.mark.slow
def test_frames_that_stand_in_another_order_are_stored_once(tmp_path: Path):
    # Of two writers on one line: a receive time that would go back is that of the line before.
    write_capture(tmp_path / "a", list(range(1, 60)))
    lines = (tmp_path / "a").read_text().splitlines()
    for at in range(0, 50, 3):
        lines[at], lines[at + 1] = lines[at + 1], lines[at]
    (tmp_path / "b").write_text("\n".join(lines) + "\n")
    for name in ("a", "b", "a"):
        imported(tmp_path, name)
        assert on_tape(tmp_path) == (59, 59)


@pytest.mark.slow
def test_file_that_is_older_than_the_one_before_it_is_refused(tmp_path: Path):
    # What is before it is imported, and says so; nothing of it gets a receive time of later.
    write_quotes(tmp_path / "all", 4_000)
    lines = (tmp_path / "all").read_text().splitlines()
    (tmp_path / "early").write_text("\n".join(lines[:100]) + "\n")
    (tmp_path / "late").write_text("\n".join(lines[2_000:]) + "\n")
    shown = tape("import", "binance-spot", "late", "early", cwd=tmp_path)
    assert shown.returncode == 2
    assert "--source NAME" in shown.stderr
    assert "the 2,000 frames before it are imported as binance-spot" in shown.stderr
    assert stored(tmp_path) == [(2_000, 2_000)]


@pytest.mark.slow
def test_import_that_was_killed_goes_on_when_it_is_run_again(tmp_path: Path):
    # Killed as soon as there are frames on the tape, and long before all are.
    write_quotes(tmp_path / "capture.txt", 60_000)
    words = [sys.executable, "-c", START, "import", "binance-spot", "capture.txt"]
    raw = tmp_path / "data/tape/binance-spot/market-data.raw"
    deadline = time.monotonic() + 60
    with subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.DEVNULL) as running:
        try:
            while not (any(raw.glob("*.seg")) and TapeReader(raw).end > 10):
                assert running.poll() is None
                assert time.monotonic() < deadline
        finally:
            running.kill()
    assert running.returncode == -signal.SIGKILL
    kept = TapeReader(raw).end
    assert 10 < kept < 50_000
    shown = tape("import", "binance-spot", "capture.txt", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "frames were there already" in shown.stderr
    assert stored(tmp_path) == [(60_000, 60_000)]
    gaps = json.loads(tape("gaps", "--json", cwd=tmp_path).stdout)
    assert all(gap["ts_from"] <= gap["ts_to"] for gap in gaps)


@pytest.mark.slow
def test_frame_alone_of_another_year_moves_no_receive_time(tmp_path: Path):
    # Trades without receive times, one of them of the year 2200: that one alone is a dead letter.
    write_capture(tmp_path / "capture.txt", list(range(1, 61)))
    lines = [line.split(" ", 1)[1] for line in (tmp_path / "capture.txt").read_text().splitlines()]
    ms = (STARTED_NS + 30 * 1_000_000) // 10**6
    lines[29] = lines[29].replace(str(ms), "7258118400000")
    (tmp_path / "capture.txt").write_text("\n".join(lines) + "\n")
    shown = tape("import", "binance-spot", "capture.txt", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    sql = "select count(*) as n, max(ts_recv) < '2100-01-01' as sane from trades"
    (row,) = json.loads(tape("query", sql, "--format", "json", cwd=tmp_path).stdout)
    assert row == {"n": 59, "sane": True}
    sql = "select reason from dead_letters"
    dead = json.loads(tape("query", sql, "--format", "json", cwd=tmp_path).stdout)
    assert dead == [{"reason": "implausible_time"}]


@pytest.mark.slow
def test_a_bad_line_leaves_no_empty_source(tmp_path: Path):
    # Among the first frames: nothing is imported, and there is no folder. Behind them: what is
    # before it is imported, derived and stored, and counted.
    write_capture(tmp_path / "short.txt", [1])
    write_capture(tmp_path / "long.txt", list(range(1, 1_001)))
    for name in ("short.txt", "long.txt"):
        with (tmp_path / name).open("a") as file:
            file.write("configuration: {}\n")
    shown = tape("import", "binance-spot", "short.txt", cwd=tmp_path)
    assert shown.returncode == 1
    assert "short.txt:2: expected" in shown.stderr
    assert "; nothing was imported" in shown.stderr
    assert not (tmp_path / "data").exists()
    shown = tape("import", "binance-spot", "long.txt", cwd=tmp_path)
    assert shown.returncode == 1
    assert "the 1,000 frames before it are imported as binance-spot" in shown.stderr
    shown = tape("query", "select count(*) as n from trades", "--format", "json", cwd=tmp_path)
    assert json.loads(shown.stdout) == [{"n": 1_000}]
    shown = tape("gaps", cwd=tmp_path)
    assert shown.stdout.startswith("complete from "), shown.stdout


@pytest.mark.slow
def test_the_end_of_an_import_tells_it_from_the_whole_folder(tmp_path: Path):
    # What is in the ledger, once; the folder's frames are those of both imports.
    write_capture(tmp_path / "first.txt", list(range(1, 51)))
    write_capture(tmp_path / "second.txt", list(range(61, 101)))
    for name, told in (("first.txt", "0 new gaps"), ("second.txt", "1 new gap")):
        shown = tape("import", "binance-spot", name, cwd=tmp_path)
        assert shown.returncode == 0, shown.stderr
        assert f"binance-spot: this import: {told}; on tape in all: " in shown.stdout
    assert shown.stdout.rstrip().endswith("frames, 1 gap"), shown.stdout
    found = tape("gaps", cwd=tmp_path)
    assert "missing" in found.stdout, found.stdout


@pytest.mark.slow
def test_capture_of_another_feed_than_its_source_is_refused(tmp_path: Path):
    # Imported with the wrong feed, then with the right one, the same lines and one more: nothing
    # of it is there under that name already, and nobody is told that all is well.
    write_capture(tmp_path / "capture.txt", list(range(1, 51)))
    imported(tmp_path, "capture.txt")
    write_capture(tmp_path / "more.txt", list(range(1, 52)))
    for name in ("capture.txt", "more.txt"):
        shown = tape("import", "binance-usdm", name, "--source", "binance-spot", cwd=tmp_path)
        assert (shown.returncode, shown.stdout) == (2, ""), shown.stderr
        assert "binance-spot in data holds frames of binance-spot, not of binance-usdm" in (
            shown.stderr
        )
        assert "--source NAME" in shown.stderr
    assert on_tape(tmp_path) == (50, 50)


@pytest.mark.slow
def test_frames_that_were_not_normalized_are_when_they_are_imported_again(tmp_path: Path):
    # A raw tape alone, as an import that was stopped can leave it.
    write_capture(tmp_path / "capture.txt", list(range(1, 51)))
    imported(tmp_path, "capture.txt")
    raw = "tape/binance-spot/market-data.raw"
    shutil.copytree(tmp_path / "data" / raw, tmp_path / "more" / raw)
    imported(tmp_path, "capture.txt", "--data", "more")
    assert TapeReader(tmp_path / "more" / raw).end == TapeReader(tmp_path / "data" / raw).end
    words = ("query", "select count(*) as n from trades", "--format", "json", "--data", "more")
    assert json.loads(tape(*words, cwd=tmp_path).stdout) == [{"n": 50}]


@pytest.mark.slow
def test_wrong_receive_time_moves_no_other_and_is_flagged(tmp_path: Path):
    # One line of 400 is of two hours later: all others keep theirs. Again, nothing is there twice.
    write_capture(tmp_path / "capture.txt", list(range(1, 401)))
    lines = (tmp_path / "capture.txt").read_text().splitlines()
    stamp, frame = lines[100].split(" ", 1)
    lines[100] = f"{int(stamp) + 7_200 * 10**9} {frame}"
    (tmp_path / "capture.txt").write_text("\n".join(lines) + "\n")
    shown = tape("import", "binance-spot", "capture.txt", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "frames whose receive time others contradict: 1;" in shown.stderr
    imported(tmp_path, "capture.txt")
    assert on_tape(tmp_path) == (400, 400)
    sql = (
        "select count(*) as n, count(distinct ts_recv) as times, sum((flags & 64) // 64)::int as "
        "suspect, epoch_ms(max(ts_recv) - min(ts_recv)) as ms from trades"
    )
    shown = tape("query", sql, "--format", "json", cwd=tmp_path)
    assert json.loads(shown.stdout) == [{"n": 400, "times": 399, "suspect": 1, "ms": 399}]


@pytest.mark.slow
def test_clock_that_was_set_back_in_a_capture_is_a_marker_on_its_tape(tmp_path: Path):
    # By an hour in the middle: said with its line, stored at seven eighths of its time, flagged.
    write_capture(tmp_path / "capture.txt", list(range(1, 401)))
    lines = (tmp_path / "capture.txt").read_text().splitlines()
    for at in range(200, 400):
        stamp, frame = lines[at].split(" ", 1)
        lines[at] = f"{int(stamp) - 3_600 * 10**9} {frame}"
    (tmp_path / "capture.txt").write_text("\n".join(lines) + "\n")
    shown = tape("import", "binance-spot", "capture.txt", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "capture.txt:201: receive times go back by 3,600 s" in shown.stderr
    assert on_tape(tmp_path) == (400, 400)
    sql = (
        "select count(*) as n, sum((flags & 64) // 64)::int as suspect, "
        "epoch_ms(max(ts_recv) - min(ts_recv)) as ms from trades"
    )
    shown = tape("query", sql, "--format", "json", cwd=tmp_path)
    assert json.loads(shown.stdout) == [{"n": 400, "suspect": 200, "ms": 199 + 199 * 7 // 8}]
    reader = TapeReader(tmp_path / "data/tape/binance-spot/market-data.raw")
    codes = []
    while blobs := reader.read_blobs():
        codes += [blob.body[32] for blob in blobs if blob.kind == RECORDS]
    assert codes.count(numbers("marker_code")["clock_step"]) == 1


@pytest.mark.slow
def test_import_whose_errors_nobody_reads_stores_all(tmp_path: Path):
    # The rest of a capture, while what reads standard error is gone.
    write_quotes(tmp_path / "half.txt", 600)
    write_quotes(tmp_path / "whole.txt", 1_200)
    imported(tmp_path, "half.txt")
    reader, writer = os.pipe()
    os.close(reader)
    words = ("import", "binance-spot", "whole.txt")
    try:
        done = subprocess.run(
            [sys.executable, "-c", START, *words],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=writer,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(writer)
    assert (done.returncode, "imported 600 frames" in done.stdout) == (0, True)
    assert stored(tmp_path) == [(1_200, 1_200)]


@pytest.mark.slow
def test_captures_of_two_hosts_whose_clocks_differ_are_each_stored_once(tmp_path: Path):
    # The second host's clock is 35 s ahead, and it begins with quotes that the first has as well:
    # repeats of them are no venue that counts anew.
    write_quotes(tmp_path / "a", 1_800)
    lines = (tmp_path / "a").read_text().splitlines()
    (tmp_path / "a").write_text("\n".join(lines[:900]) + "\n")
    moved = (line.split(" ", 1) for line in lines[600:])
    text = "".join(f"{int(stamp) + 35 * 10**9} {frame}\n" for stamp, frame in moved)
    (tmp_path / "b").write_text(text)
    imported(tmp_path, "a", "b")
    assert stored(tmp_path) == [(1_800, 1_800)]
    assert json.loads(tape("gaps", "--json", cwd=tmp_path).stdout) == []
    imported(tmp_path, "b", "--data", "apart")
    imported(tmp_path, "a", "b")
    assert stored(tmp_path) == [(1_800, 1_800)]


@pytest.mark.slow
def test_files_that_follow_each_other_are_as_one(tmp_path: Path):
    # Trades and a book in one file, and in four: nothing is lost between them, and a trade that is
    # missing between two files is told as it is within one.
    lines = []
    for n in range(1, 401):
        ts = STARTED_NS + n * 100_000_000
        update = (
            f'{{"e":"depthUpdate","E":{ts // 10**6},"s":"BTCUSDT","U":{2 * n},"u":{2 * n + 1},'
            f'"b":[["61837.63000000","{n}.00000000"]],"a":[["61838.00000000","{n}.00000000"]]}}'
        )
        lines.append(f'{ts} {{"stream":"btcusdt@depth@100ms","data":{update}}}')
        if n == 3:
            lines.append(
                f'{ts} {{"lastUpdateId":6,"bids":[["61837.00","1.0"]],"asks":[["61839.00","1.0"]]}}'
            )
        if n != 201:
            trade = (
                f'{{"e":"trade","E":{ts // 10**6},"s":"BTCUSDT","t":{n},"p":"61837.63000000",'
                f'"q":"0.00100000","T":{ts // 10**6},"m":true,"M":true}}'
            )
            lines.append(f'{ts} {{"stream":"btcusdt@trade","data":{trade}}}')
    (tmp_path / "all").write_text("\n".join(lines) + "\n")
    cuts = [0, 150, 402, 650, len(lines)]
    for number in range(4):
        text = "\n".join(lines[cuts[number] : cuts[number + 1]]) + "\n"
        (tmp_path / f"part{number}").write_text(text)
    imported(tmp_path, "all", "--data", "one")
    imported(tmp_path, *(f"part{number}" for number in range(4)), "--data", "four")
    told = []
    for data in ("one", "four"):
        rows = [
            json.loads(tape("query", sql, "--format", "json", "--data", data, cwd=tmp_path).stdout)
            for sql in (
                "select * exclude tape_offset from trades order by trade_id",
                "select * exclude tape_offset from book_levels order by sequence, side, price",
            )
        ]
        gaps = json.loads(tape("gaps", "--json", "--data", data, cwd=tmp_path).stdout)
        told.append((rows, gaps))
    assert told[0] == told[1]
    [gap] = told[0][1]
    assert (gap["first_missing"], gap["last_missing"]) == (201, 201)
    assert len(told[0][0][1]) > 790
