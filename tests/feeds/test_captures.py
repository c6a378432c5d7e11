"""Captured frames: every line form gives its receive time, kind, context and exact bytes."""

import gzip
import itertools
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from tapeworks.errors import FeedError
from tapeworks.feeds.captures import REST, TEXT, Captured, CaptureOptions, Captures

FRAME = b'{"stream":"btcusdt@trade","data":{"e":"trade","E":1723161255123}}'


def read(path: Path, text: bytes, **options: str) -> list[Captured]:
    path.write_bytes(text)
    return list(Captures(CaptureOptions("binance-spot", **options)).read(path))


@pytest.mark.parametrize(
    ("line", "ts"),
    [
        (b"1723161255123456789 " + FRAME, 1_723_161_255_123_456_789),
        (b"1723161255123456 " + FRAME, 1_723_161_255_123_456_000),
        (b"1723161255123 " + FRAME, 1_723_161_255_123_000_000),
        (b"1634000000.1234567: " + FRAME, 1_634_000_000_123_456_700),
        (FRAME, 1_723_161_255_123_000_000),
    ],
)
def test_frame_keeps_its_bytes_and_time(tmp_path: Path, line: bytes, ts: int):
    # Each form of line, alone in a file with an empty line behind it.
    (found,) = read(tmp_path / "a.txt", line + b"\n\n")
    assert (found.ts_recv, found.kind, found.context, found.body) == (ts, TEXT, b"", FRAME)


def test_gzip_is_read_as_well(tmp_path: Path):
    # By the end of the name.
    (found,) = read(tmp_path / "a.gz", gzip.compress(b"1723161255123456789 " + FRAME))
    assert found.body == FRAME


@pytest.mark.parametrize("filler", [b"0", b" ", b"["])
def test_line_that_expands_without_bound_costs_no_memory(tmp_path: Path, filler: bytes):
    # A good line, then 1 GiB without the end of a line in a gzip file of a megabyte: the good one
    # is given, and the other is refused by its number, before it is all unpacked.
    path = tmp_path / "bomb.gz"
    packer = zlib.compressobj(wbits=31)
    with path.open("wb") as file:
        file.write(packer.compress(b"1723161255123456789 " + FRAME + b"\n"))
        file.write(packer.flush(zlib.Z_FULL_FLUSH))
        # From one full flush to the next it depends on nothing before: packed once, written often.
        block = packer.compress(filler * (4 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
        for _ in range(256):
            file.write(block)
    program = """
import resource, sys
from pathlib import Path
from tapeworks.errors import FeedError
from tapeworks.feeds.captures import CaptureOptions, Captures
lines = Captures(CaptureOptions("binance-spot")).read(Path(sys.argv[1]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert next(lines).kind == 1
try:
    next(lines)
except FeedError as error:
    assert "bomb.gz:2: a line of over" in str(error), error
else:
    raise SystemExit("it was taken")
used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
assert used < 300_000, f"{used} KiB"
"""
    subprocess.run([sys.executable, "-c", program, path], check=True, timeout=120)


def test_damaged_gzip_gives_what_was_good(tmp_path: Path):
    # Every kind of damage behind the first block is an error that names the file.
    stamped = b"".join(b"%d " % (1723161255123456789 + n) + FRAME + b"\n" for n in range(2000))
    whole = gzip.compress(stamped)
    path = tmp_path / "a.gz"
    given = 0
    for at in range(len(whole) // 2, len(whole), 97):
        for content in (whole[:at], whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :]):
            path.write_bytes(content)
            found: list[Captured] = []
            with pytest.raises(FeedError, match=r"a\.gz"):
                found.extend(Captures(CaptureOptions("binance-spot")).read(path))
            assert all(captured.body == FRAME for captured in found)
            given += len(found)
    assert given


def test_answer_keeps_path_and_query(tmp_path: Path):
    # The path and query are the context from which the decoder knows what the body is.
    body = b'{"lastUpdateId":5,"bids":[],"asks":[]}'
    url = b"https://api.binance.com/api/v3/depth?symbol=NKNUSDT&limit=1000"
    line = url + b" -> 1634000000.5: " + body
    (found,) = read(tmp_path / "a.txt", b"wss://x/stream <-> 1634000000.1\n" + line)
    assert found.kind == REST
    assert found.context == b"/api/v3/depth?symbol=NKNUSDT&limit=1000"
    assert found.body == body
    assert found.ts_recv == 1_634_000_000_500_000_000


def test_keys_of_a_request_are_not_kept(tmp_path: Path):
    # The line is a log of who asked: what is stored of it tells what was asked for.
    url = b"https://api.massive.com/v3/trades/GOOG?limit=10&apiKey=SECRET&order=asc"
    (found,) = read(tmp_path / "a.txt", url + b' -> 1634000000.5: {"results":[]}')
    assert found.context == b"/v3/trades/GOOG?limit=10&apiKey=***&order=asc"


def test_bare_snapshot_belongs_to_the_symbol_of_the_frames(tmp_path: Path):
    # As in captures of one symbol whose recorder wrote the answer among the frames.
    snapshot = b'1723161255123456790 {"lastUpdateId":5,"bids":[],"asks":[]}'
    found = read(tmp_path / "a.txt", b"1723161255123456789 " + FRAME + b"\n" + snapshot)
    assert found[1].kind == REST
    assert found[1].context == b"/api/v3/depth?symbol=BTCUSDT"


def test_bare_snapshot_in_another_file_belongs_to_the_symbol_of_that_file(tmp_path: Path):
    # What a file before it was of says nothing; among frames of two symbols, nothing does.
    snapshot = b'1723161255123456790 {"lastUpdateId":5,"bids":[],"asks":[]}'
    other = FRAME.replace(b"btcusdt", b"ethusdt").replace(b"BTCUSDT", b"ETHUSDT")
    captures = Captures(CaptureOptions("binance-spot"))
    for frame, symbol in ((FRAME, b"BTCUSDT"), (other, b"ETHUSDT")):
        path = tmp_path / f"{symbol.decode()}.txt"
        path.write_bytes(b"1723161255123456789 " + frame + b"\n" + snapshot)
        assert list(captures.read(path))[1].context == b"/api/v3/depth?symbol=" + symbol
    line, later = b"1723161255123456789 ", b"1723161255123456791 "
    for frames in (
        [line + FRAME, line + other, snapshot],
        [line + FRAME, snapshot, later + other],
    ):
        with pytest.raises(FeedError, match="among frames of BTCUSDT, ETHUSDT"):
            read(tmp_path / "both.txt", b"\n".join(frames))


def test_bare_snapshot_without_symbol_asks_for_it(tmp_path: Path):
    # A guess could put a book under a wrong name.
    with pytest.raises(FeedError, match="--symbol"):
        read(tmp_path / "a.txt", b'1723161255123456790 {"lastUpdateId":5}')
    (found,) = read(tmp_path / "a.txt", b'1723161255123456790 {"lastUpdateId":5}', symbol="ETHUSDT")
    assert found.context == b"/api/v3/depth?symbol=ETHUSDT"


def test_receipt_never_goes_back(tmp_path: Path):
    # Lines of two connections interleave: the later time stands for both.
    found = read(
        tmp_path / "a.txt", b"1723161255123456789 " + FRAME + b"\n1723161255123456000 " + FRAME
    )
    assert [frame.ts_recv for frame in found] == [1_723_161_255_123_456_789] * 2


SECOND = 1_000_000_000
START = 1_723_161_255 * SECOND


def stamped(path: Path, stamps: list[int]) -> list[tuple[int, bool, int | None]]:
    """Returns receive time, suspicion and step of the lines with these stamps."""
    found = read(path, b"".join(b"%d " % stamp + FRAME + b"\n" for stamp in stamps))
    return [(frame.ts_recv, frame.is_suspect, frame.wall) for frame in found]


PLACES = [(0, 1), (1, 1), (300, 1), (998, 1), (0, 20), (1, 20), (300, 20), (900, 20)]


# A capture may well begin with a pause: its first line is not too early.
@pytest.mark.parametrize(
    ("off_s", "at", "count"),
    [
        (off_s, *place)
        for off_s in (7_200, 10 * 365 * 86_400, -7_200)
        for place in PLACES
        if off_s > 0 or place[0] > 0
    ],
)
def test_stamp_that_those_behind_it_contradict_is_not_believed(
    tmp_path: Path, off_s: int, count: int, at: int
):
    # One line, or twenty, with a wrong receive time: at the begin, in the middle, at the end.
    # All others have their own; these have that of a neighbour, and say that it is suspect.
    stamps = [START + n * SECOND for n in range(1_000)]
    wrong = [
        stamp + off_s * SECOND if at <= n < at + count else stamp for n, stamp in enumerate(stamps)
    ]
    found = stamped(tmp_path / "a.txt", wrong)
    near = stamps[max(at - 1, 0)] if at else stamps[count]
    for n, stamp in enumerate(wrong):
        is_wrong = at <= n < at + count
        assert found[n] == ((near if is_wrong else stamp), is_wrong, None), n


def test_lines_of_two_writers_are_moved_by_little_and_say_so(tmp_path: Path):
    # Each writes its lines of five seconds at once: times do not fall, and no clock was set.
    chunk = [START + n * SECOND // 100 for n in range(500)]
    stamps = [stamp + turn * 5 * SECOND for turn in range(20) for _ in (0, 1) for stamp in chunk]
    found = stamped(tmp_path / "a.txt", stamps)
    newest = 0
    for stamp, (ts, is_suspect, wall) in zip(stamps, found, strict=True):
        newest = max(newest, stamp)
        assert (ts, is_suspect, wall) == (newest, newest - stamp > SECOND // 4, None)


def test_clock_of_a_capture_that_is_set_back_is_not_followed(tmp_path: Path):
    # By an hour, for good: receive times go on at seven eighths, suspect until they are together.
    # Two lines say so, the first and the last of them.
    stamps = [START + (n if n < 500 else n - 3_600) * SECOND for n in range(40_000)]
    found = stamped(tmp_path / "a.txt", stamps)
    times = [ts for ts, _, _ in found]
    assert [times[n + 1] - times[n] for n in range(499)] == [SECOND] * 499
    assert all(0 <= after - before <= SECOND for before, after in itertools.pairwise(times))
    assert found[500] == (times[499], True, stamps[500])
    told = [n for n, (_, _, wall) in enumerate(found) if wall is not None]
    assert told[0] == 500
    assert len(told) == 2
    assert 500 + 8 * 3_598 <= told[1] <= 500 + 8 * 3_600
    assert [is_suspect for _, is_suspect, _ in found] == [
        told[0] <= n < told[1] for n in range(len(found))
    ]
    assert times[told[1] :] == stamps[told[1] :]


def test_clock_that_is_set_back_and_right_again_is_told_twice(tmp_path: Path):
    # For ten minutes by an hour.
    stamps = [START + (n - 3_600 if 500 <= n < 1_100 else n) * SECOND for n in range(2_000)]
    found = stamped(tmp_path / "a.txt", stamps)
    assert [n for n, (_, _, wall) in enumerate(found) if wall is not None] == [500, 1_100]
    assert [n for n, (_, is_suspect, _) in enumerate(found) if is_suspect] == [*range(500, 1_100)]
    assert [ts for ts, _, _ in found[1_100:]] == stamps[1_100:]


def test_other_lines_are_an_error_with_their_place(tmp_path: Path):
    # File, line number, and how it starts.
    with pytest.raises(FeedError, match=r"a\.txt:2: expected .* got 'time,price'"):
        read(tmp_path / "a.txt", b"1723161255123456789 " + FRAME + b"\ntime,price\n")


def test_cut_gzip_is_an_error_that_names_the_file(tmp_path: Path):
    # A download that broke off.
    whole = gzip.compress(b"1723161255123456789 " + FRAME * 100)
    with pytest.raises(FeedError, match=r"a\.gz: not whole gzip"):
        read(tmp_path / "a.gz", whole[: len(whole) // 2])


def test_frames_before_the_first_time_have_that_of_the_next(tmp_path: Path):
    # The answer to a subscription says no time: it is not of 1970.
    path = tmp_path / "capture.txt"
    path.write_text('{"result":null,"id":1}\n{"E":1723161255001}\n{"E":1723161255002}\n')
    times = [captured.ts_recv for captured in Captures(CaptureOptions("binance-spot")).read(path)]
    assert times == [1723161255001000000, 1723161255001000000, 1723161255002000000]


def test_frames_of_which_none_tells_a_time_are_refused(tmp_path: Path):
    # They were all of 1970, which no decoder believes.
    path = tmp_path / "capture.txt"
    path.write_text('{"result":null,"id":1}\n{"result":null,"id":2}\n')
    with pytest.raises(FeedError, match=r"capture.txt:1: expected `<receive time> <frame>`, or "):
        list(Captures(CaptureOptions("binance-spot")).read(path))
