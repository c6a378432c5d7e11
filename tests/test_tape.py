"""The tape from Python: the same bytes come back, from any process."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tapeworks import tape
from tapeworks._core import FolderLock
from tapeworks.errors import (
    CorruptTapeError,
    TapeLockedError,
    TapeRangeError,
    TapeReplacedError,
)


def record(number: int) -> bytes:
    # A trade of 64 bytes whose sequence and receive time are `number`.
    head = bytes([8, 1, 0, 0, 1, 0, 0, 0])
    times = number.to_bytes(8, "little") * 3
    return head + times + bytes(32)


@pytest.fixture
def tape_path(tmp_path: Path) -> Path:
    return tmp_path / "tape"


def test_records_come_back_over_frames(tape_path: Path) -> None:
    # Three frames, read with limits that cut frames and that span them.
    with tape.TapeWriter(tape_path) as writer:
        assert writer.append(record(0), input_offset=1) == 0
        assert writer.append(record(1) + record(2), input_offset=3) == 1
        assert writer.append(b"".join(map(record, range(3, 10))), 7, input_offset=9, ts=99) == 3
        assert (writer.end, writer.covered) == (10, 9)
    assert tape.verify(tape_path)["frames"] == 3
    whole = b"".join(map(record, range(10)))
    for limit in (1, 4, 100):
        reader = tape.TapeReader(tape_path)
        parts = []
        while (batch := reader.read(limit)) is not None:
            assert batch.next_offset - batch.first_offset == len(batch) <= limit
            parts.append(bytes(memoryview(batch)))
        assert b"".join(parts) == whole
        assert (reader.position, reader.end, reader.first, reader.covered) == (10, 10, 0, 9)


def test_blobs_come_back(tape_path: Path) -> None:
    # Blobs of odd lengths with and without context.
    with tape.TapeWriter(tape_path, "blobs", durability="every_frame") as writer:
        for number in range(20):
            writer.append_blob(
                1, b"x" * number, ts=number, context=b"c" * (number % 3), feed=1, connection=2
            )
        assert writer.durable == 20
    reader = tape.TapeReader(tape_path, 5)
    blobs = reader.read_blobs()
    assert blobs is not None
    assert [blob.offset for blob in blobs] == list(range(5, 20))
    assert all(blob.body == b"x" * blob.ts_recv for blob in blobs)
    assert all(blob.context == b"c" * (blob.ts_recv % 3) for blob in blobs)
    assert reader.read_blobs() is None
    with pytest.raises(ValueError, match="holds blobs"):
        reader.read()


def test_seeking_by_offset_and_time(tape_path: Path) -> None:
    # One frame per record: the time leads to the very record.
    with tape.TapeWriter(tape_path) as writer:
        for number in range(100):
            writer.append(record(number))
    reader = tape.TapeReader(tape_path)
    reader.seek(40)
    assert reader.position == 40
    reader.seek_time(77)
    assert reader.position == 77
    with pytest.raises(TapeRangeError) as raised:
        reader.seek(101)
    assert (raised.value.wanted, raised.value.first, raised.value.end) == (101, 0, 100)


def test_a_second_writer_is_refused(tape_path: Path) -> None:
    # While the first is open, and no longer once it is closed.
    with tape.TapeWriter(tape_path):
        with pytest.raises(TapeLockedError, match=str(os.getpid())):
            tape.TapeWriter(tape_path)
    tape.TapeWriter(tape_path).close()


def test_bytes_that_change_while_they_are_appended_leave_whole_frames(tape_path: Path) -> None:
    # Another thread writes into the buffer all the time: each frame is one state of it. Python lets
    # the two take turns by the millisecond, if it is not told otherwise: that is too seldom.
    shared, done, changes = bytearray(record(0) * 40_000), threading.Event(), [0]

    def change() -> None:
        while not done.is_set():
            changes[0] += 1
            shared[changes[0] * 7 % 40_000 * 64 + 40] ^= 255

    changing = threading.Thread(target=change)
    interval, appended, met = sys.getswitchinterval(), 0, 0
    sys.setswitchinterval(1e-5)
    changing.start()
    try:
        with tape.TapeWriter(tape_path, durability="never") as writer:
            while met < 30:
                assert appended < 300
                before, appended = changes[0], appended + 1
                writer.append(shared)
                met += changes[0] > before
    finally:
        done.set()
        changing.join()
        sys.setswitchinterval(interval)
    report = tape.verify(tape_path)
    assert report["fault"] is None
    assert (report["frames"], report["items"]) == (appended, appended * 40_000)
    reader, frames = tape.TapeReader(tape_path), []
    while (batch := reader.read(40_000)) is not None:
        frames.append(bytes(memoryview(batch)))
    assert len(frames) == appended
    assert len(set(frames)) > 20
    for frame in frames:
        changed = bytearray(frame)
        changed[40::64] = bytes(40_000)
        assert changed == record(0) * 40_000


def test_a_flipped_bit_names_file_and_byte(tape_path: Path) -> None:
    # Flip a bit in the first of two frames.
    with tape.TapeWriter(tape_path) as writer:
        writer.append(record(0))
        writer.append(record(1))
    path = tape_path / f"{0:020}.seg"
    content = bytearray(path.read_bytes())
    content[16_384 + 60] ^= 4
    path.write_bytes(content)
    with pytest.raises(CorruptTapeError) as raised:
        tape.TapeReader(tape_path).read()
    assert (raised.value.path, raised.value.byte) == (str(path), 16_384)


def test_a_reader_in_another_process_is_woken(tape_path: Path) -> None:
    # The other process sleeps at the end of an empty tape until the record is there.
    program = (
        "import sys; from tapeworks.tape import TapeReader\n"
        "reader = TapeReader(sys.argv[1]); print('ready', flush=True)\n"
        "print(reader.wait(30_000), len(reader.read()), flush=True)\n"
    )
    with tape.TapeWriter(tape_path) as writer:
        with subprocess.Popen(
            [sys.executable, "-c", program, tape_path], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            writer.append(record(0))
            assert process.stdout.readline() == "True 1\n"


def test_what_was_published_survives_kill(tape_path: Path) -> None:
    # The other process prints each end after its append; kill it in the middle.
    program = (
        "import sys; from tapeworks.tape import TapeWriter\n"
        "writer = TapeWriter(sys.argv[1], durability='never')\n"
        "record = bytes.fromhex(sys.argv[2])\n"
        "while True: writer.append(record); print(writer.end, flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, tape_path, record(7).hex()],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        for _ in range(500):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        printed = process.stdout.read().split("\n")
        process.wait()
    said = int(printed[-2]) if len(printed) > 1 else 500
    assert tape.TapeReader(tape_path).end >= said
    with tape.TapeWriter(tape_path) as writer:
        assert writer.end >= said
        writer.append(record(7))
    reader = tape.TapeReader(tape_path)
    batch = reader.read(1_000_000)
    assert batch is not None
    assert bytes(memoryview(batch)) == record(7) * len(batch)


def test_hash_does_not_depend_on_frames(tmp_path: Path) -> None:
    # The same records in one frame and in ten.
    records = [record(number) for number in range(10)]
    with tape.TapeWriter(tmp_path / "one") as writer:
        writer.append(b"".join(records))
    with tape.TapeWriter(tmp_path / "ten") as writer:
        for each in records:
            writer.append(each)
    assert [tape.verify(tmp_path / name)["frames"] for name in ("one", "ten")] == [1, 10]
    assert tape.tape_hash(tmp_path / "one") == tape.tape_hash(tmp_path / "ten")
    with tape.TapeWriter(tmp_path / "other") as writer:
        writer.append(b"".join(reversed(records)))
    assert tape.tape_hash(tmp_path / "one") != tape.tape_hash(tmp_path / "other")


def test_named_offsets_are_kept(tape_path: Path) -> None:
    # Saved, changed, listed; a name that could leave the folder is refused.
    with tape.TapeWriter(tape_path) as writer:
        for number in range(3):
            writer.append(record(number))
    assert tape.load_offset(tape_path, "lake") is None
    tape.save_offset(tape_path, "lake", 1)
    tape.save_offset(tape_path, "lake", 2)
    tape.save_offset(tape_path, "kafka", 0)
    assert tape.list_offsets(tape_path) == {"kafka": 0, "lake": 2}
    assert tape.open_at(tape_path, "lake").position == 2
    assert tape.open_at(tape_path, "new").position == 0
    with pytest.raises(ValueError, match="expected a name"):
        tape.save_offset(tape_path, "../lake", 1)


def test_a_full_disk_is_an_error_and_loses_nothing(tape_path: Path) -> None:
    # A limit on the size of files stands for the full disk: appending must fail with the error
    # that names the file, keep all that was published, and go on once there is room.
    program = """
import resource, signal, sys
from tapeworks.errors import DiskFullError
from tapeworks.tape import TapeReader, TapeWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
record = bytes.fromhex(sys.argv[2]) * 100
writer = TapeWriter(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (2_500_000, resource.RLIM_INFINITY))
for _ in range(3):
    try:
        while True:
            writer.append(record)
    except DiskFullError as error:
        assert ".seg" in str(error), error
full = writer.end
assert 2_300_000 < full * 64 < 2_500_000, full
assert TapeReader(sys.argv[1]).end == full
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert writer.append(record) == full
writer.close()
reader, count = TapeReader(sys.argv[1]), 0
while (batch := reader.read()) is not None:
    count += len(batch)
assert count == full + 100, count
"""
    command = [sys.executable, "-c", program, tape_path, record(5).hex()]
    subprocess.run(command, check=True, timeout=60)


def test_verify_reports_what_is_there_and_what_is_wrong(tape_path: Path) -> None:
    # Many small segments, some compressed; then a flipped bit in one of them.
    with tape.TapeWriter(tape_path, segment_bytes=65_536, compress_after=2) as writer:
        for number in range(100):
            writer.append(record(number) * 100)
        for _ in range(1000):
            if len(list(tape_path.glob("*.seg"))) == 3:
                break
            time.sleep(0.01)
        assert writer.upkeep_failure is None
    report = tape.verify(tape_path)
    assert report["fault"] is None
    assert (report["items"], report["frames"], report["bytes"]) == (10_000, 100, 640_000)
    assert report["segments_compressed"] == report["segments"] - 3 > 5
    assert report["links"] == report["segments"] - 1
    path = min(tape_path.glob("*.seg"))
    content = bytearray(path.read_bytes())
    content[16_384 + 77] ^= 1
    path.write_bytes(content)
    fault = tape.verify(tape_path)["fault"]
    assert (fault["path"], fault["byte"]) == (str(path), 16_384)


def test_folder_lock_names_its_holder_and_outlives_its_file(tape_path: Path) -> None:
    # A lock that another process holds is refused with its pid, also without the file that says
    # so; when that process is killed, the lock is free.
    program = "import sys, time; from tapeworks._core import FolderLock as L; l = L(sys.argv[1]);"
    program += "print('held', flush=True); time.sleep(60)"
    command = [sys.executable, "-c", program, tape_path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(TapeLockedError) as refused:
            FolderLock(tape_path)
        assert (refused.value.holder, refused.value.path) == (holder.pid, str(tape_path))
        (tape_path / "LOCK").unlink()
        with pytest.raises(TapeLockedError, match="another process"):
            tape.TapeWriter(tape_path)
        holder.kill()
    with FolderLock(tape_path) as lock:
        lock.check()
        tape_path.rename(tape_path.with_name("elsewhere"))
        with pytest.raises(TapeReplacedError, match="got nothing"):
            lock.check()
    with pytest.raises(ValueError, match="released"):
        lock.check()


def test_places_are_compared_by_id_and_fingerprint(tape_path: Path) -> None:
    # A place is right on its own tape, and an error on one that was made anew in the same folder.
    with tape.TapeWriter(tape_path) as writer:
        writer.append(record(1) * 5)
        made_of = tape.TapeWriter(tape_path.with_name("derived"), source=tape_path)
        assert (made_of.origin, writer.origin) == (writer.id, None)
        made_of.close()
    reader = tape.TapeReader(tape_path)
    kept = {"tape_id": reader.id, "fingerprint": reader.fingerprint(5)}
    assert (len(reader.id or ""), len(reader.fingerprint(5) or "")) == (32, 16)
    assert (reader.origin, reader.fingerprint(0)) == (None, None)
    reader.check_place(5, **kept)
    reader.check_place(3)
    assert tape.verify(tape_path)["id"] == reader.id
    shutil.rmtree(tape_path)
    with tape.TapeWriter(tape_path) as writer:
        writer.append(record(1) * 5)
    reader = tape.TapeReader(tape_path)
    with pytest.raises(TapeReplacedError, match=r"expected the tape .* got the tape"):
        reader.check_place(5, **kept)
    with pytest.raises(TapeReplacedError, match="ends at 5"):
        reader.check_place(6)
    with pytest.raises(TapeReplacedError, match="fingerprint"):
        reader.check_place(5, fingerprint="00ff00ff00ff00ff")
    with pytest.raises(ValueError, match="16 hexadecimal"):
        reader.check_place(5, fingerprint="word")


ZEROS = bytes(64)
TRADE = record(1)


@pytest.mark.parametrize(
    ("kind", "items", "count", "reason"),
    [
        ("records", ZEROS, 1, "item 0 at byte 0: expected a known kind of record, got kind 0"),
        ("records", TRADE + ZEROS, 2, "item 1 at byte 64: expected a known kind of record"),
        ("records", TRADE[:40], 1, "expected a trade of 64 bytes, got 40 bytes"),
        ("records", bytes([16]) + TRADE[1:] + TRADE, 1, "expected a trade of 64 bytes, got 128"),
        (
            "records",
            bytes([8, 200]) + TRADE[2:],
            1,
            "expected a known kind of record, got kind 200",
        ),
        ("records", TRADE, 2, "expected 2 items, got 1"),
        ("records", b"", 1, "expected 1 items, got 0"),
        ("blobs", bytes(24), 1, "expected a known kind of blob, got kind 0"),
        ("blobs", b"\x01" + bytes(5) + b"\x01" + bytes(25), 1, "expected 32 bytes, got 32"),
        ("blobs", TRADE, 1, "item 0 at byte 0: expected"),
    ],
)
def test_append_takes_whole_items_of_known_layout_only(
    tape_path: Path, kind: str, items: bytes, count: int, reason: str
) -> None:
    # Bytes that are no items, with and without the count and time that spare the tape to look.
    if kind == "blobs" and len(items) == 32:
        items = items[:8] + b"\x07" + items[9:]  # One byte of body, and padding that is not zero.
        items = items[:25] + b"\x07" + items[26:]
        reason = "expected zeros behind the body"
    with tape.TapeWriter(tape_path, kind) as writer:
        with pytest.raises(ValueError, match=reason):
            writer.append(items, count, ts=5)
        if items and "items, got" not in reason:
            with pytest.raises(ValueError, match="expected"):
                writer.append(items)
        assert writer.end == 0


def test_append_blob_takes_known_kinds_only(tape_path: Path) -> None:
    # A kind that no reader could tell apart.
    with tape.TapeWriter(tape_path, "blobs") as writer:
        with pytest.raises(ValueError, match="known kind of blob, got kind 77"):
            writer.append_blob(77, b"x", ts=1)
        assert writer.append_blob(1, b"x", ts=1) == 0


def test_a_file_that_is_cut_while_it_is_read_does_not_end_the_process(tape_path: Path) -> None:
    # In a process of its own, with Python's own handler of faults on, before and after the tape was
    # opened: the cut file is an exception, and another tape is read on.
    program = """
import faulthandler, os, sys
from pathlib import Path
from tapeworks.errors import CorruptTapeError
from tapeworks.tape import TapeReader, TapeWriter
folder = Path(sys.argv[1])
faulthandler.enable()
for name in ("one", "other"):
    with TapeWriter(folder / name) as writer:
        for _ in range(50):
            writer.append(bytes.fromhex(sys.argv[2]) * 100)
for late in (False, True):
    reader, other = TapeReader(folder / "one"), TapeReader(folder / "other")
    assert len(reader.read(100)) == 100
    if late:
        faulthandler.disable()
        faulthandler.enable()
        other = TapeReader(folder / "other")
    path = min((folder / "one").glob("*.seg"))
    whole = path.read_bytes()
    os.truncate(path, 30_000)
    try:
        while reader.read(100) is not None:
            pass
    except CorruptTapeError as error:
        assert "cut" in str(error), error
    else:
        raise SystemExit("the cut was not noticed")
    assert len(other.read(5000)) == 5000
    path.write_bytes(whole)
"""
    command = [sys.executable, "-c", program, tape_path, record(5).hex()]
    subprocess.run(command, check=True, timeout=60)


def test_what_is_gone_is_passed_over_while_it_is_read(tape_path: Path) -> None:
    # Retention takes what comes next, while a tape is read from its front: what it has by then
    # comes, each record once.
    settings = {"durability": "never", "segment_bytes": 1 << 16, "retention_bytes": 1 << 17}
    with tape.TapeWriter(tape_path, **settings) as writer:
        writer.append(b"".join(map(record, range(500))))
        batches = tape.read_from(tape.TapeReader(tape_path), 0, 100)
        found = [next(batches)]
        for first in range(500, 10_000, 500):
            writer.append(b"".join(map(record, range(first, first + 500))))
    first = tape.TapeReader(tape_path).first
    found += batches
    offsets = [at for batch in found for at in range(batch.first_offset, batch.next_offset)]
    before = next(at for at, offset in enumerate(offsets) if offset >= first)
    assert 100 <= before < first
    assert offsets == [*range(before), *range(first, 10_000)]
    assert b"".join(map(bytes, found)) == b"".join(map(record, offsets))
