"""A disk that refuses once: nothing is shed, and what is called durable is on the disk."""

import random
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.disk import Disk

from tapeworks import tape

EIO, ENOSPC = 5, 28

RECORD = """
import sys, time
from pathlib import Path
from tapeworks._core import Ingest, TapeReader

data, plan = Path(sys.argv[1]), Path(sys.argv[2])
ingest = Ingest(data, "s", "binance-spot", pending_bytes_max=1 << 20, durability_ms=5,
                segment_bytes=64 << 10)
START = 1_700_000_000_000_000_000
number = 0

def put():
    global number
    number += 1
    ms = START // 1_000_000 + number
    body = (b'{"stream":"btcusdt@trade","data":{"e":"trade","E":%d,"s":"BTCUSDT","t":%d,"p":"1.0",'
            b'"q":"2.0","T":%d,"m":true,"M":true}}') % (ms, number, ms)
    ingest.receive(0, 1, START + number * 1_000_000, body)
    ingest.flush()

def until(done):
    for _ in range(10_000):
        if done():
            return
        time.sleep(0.002)
        ingest.flush()
    raise SystemExit("never: " + str(ingest.stats()))

for _ in range(100):
    put()
path = data / "tape/s/market-data.raw"
until(lambda: TapeReader(path).durable == TapeReader(path).end)
plan.write_text(sys.argv[3] + "\\n")
failed = False
for _ in range(3000):
    put()
    failed = failed or ingest.stats()["failure"] is not None
plan.unlink()
for topic in ("raw", "normalized"):
    reader = TapeReader(data / f"tape/s/market-data.{topic}")
    until(lambda: reader.durable == reader.end)
stats = ingest.stats()
assert stats["shed"] == 0, stats
assert stats["pending_bytes"] == 0, stats
assert stats["failure"] is None, stats
assert number == 3100
print("failed" if failed else "quiet", stats["write_failures"])
ingest.close()
"""


def trades(path: Path) -> Iterator[tuple[int, int]]:
    """Yields sequence and trade id of every trade on the tape at `path`."""
    reader = tape.TapeReader(path)
    while (batch := reader.read()) is not None:
        data, at = bytes(batch), 0
        while at < len(data):
            if data[at + 1] == 1:
                (sequence,), (trade,) = (struct.unpack_from("<Q", data, at + n) for n in (24, 48))
                yield sequence, trade
            at += data[at] * 8


def run(disk: Disk, program: str, *arguments: object) -> str:
    """Runs `program` on `disk`; what it prints."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(
        command, env=disk.environment(), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout
    return done.stdout


@pytest.mark.parametrize("topic", ["market-data.raw", "market-data.normalized"])
@pytest.mark.parametrize(
    "fault",
    [f"sync 0 1 {EIO}", f"sync 3 4 {EIO}", f"sync 0 2 {ENOSPC}", f"allocate 0 3 {EIO}"],
)
def test_recorder_goes_on_after_the_disk_refused(tmp_path: Path, topic: str, fault: str) -> None:
    # A few calls on one tape fail while 3,000 trades come: no frame is shed, nothing waits in the
    # end, both tapes are whole and durable to their end, and no gap is in the ledger.
    disk = Disk(tmp_path / "data", tmp_path / "disk")
    run(disk, RECORD, disk.root, tmp_path / "disk/plan", f"{fault} {topic}")
    tapes = disk.root / "tape/s"
    for name in ("market-data.raw", "market-data.normalized"):
        report = tape.verify(tapes / name)
        assert report["fault"] is None
        assert report["durable"] == report["end"]
    assert [trade for _, trade in trades(tapes / "market-data.normalized")] == [*range(1, 3101)]


WRITE = """
import sys, time
from pathlib import Path
from tapeworks._core import TapeWriter

path, plan, durability = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
writer = TapeWriter(path, durability=durability, interval_ms=2, segment_bytes=64 << 10)

def record(number):
    return bytes([8, 1, 0, 0, 1, 0, 0, 0]) + number.to_bytes(8, "little") * 3 + bytes(32)

def frame(tries=2000):
    first = writer.end
    for _ in range(tries):
        try:
            return writer.append(b"".join(record(first + n) for n in range(20)))
        except OSError:
            time.sleep(0.002)
            try:
                writer.reopen()
            except OSError:
                pass
    raise SystemExit("the disk never took it")

for _ in range(40):
    frame()
    time.sleep(0.0005)
plan.write_text(sys.argv[4] + "\\n")
for _ in range(40):
    frame()
    time.sleep(0.001)
for _ in range(2000):
    try:
        if writer.needs_reopen:
            writer.reopen()
        if writer.sync() == writer.end:
            break
    except OSError:
        pass
    time.sleep(0.002)
assert not writer.needs_reopen
print(writer.durable, writer.end, flush=True)
import os
os._exit(0)
"""


@pytest.mark.parametrize("durability", ["interval", "every_frame"])
@pytest.mark.parametrize("skip", range(3))
def test_durable_is_on_the_disk_after_a_failed_sync(
    tmp_path: Path, durability: str, skip: int
) -> None:
    # A sync fails and drops the dirty pages, as Linux does; later ones succeed. Then power is lost:
    # of all that was called durable nothing is missing or changed.
    disk = Disk(tmp_path / "data", tmp_path / "disk")
    path = disk.root / "tape"
    fault = f"sync {skip} 1 {EIO} .seg"
    told = run(disk, WRITE, path, tmp_path / "disk/plan", durability, fault)
    durable, end = map(int, told.split())
    assert durable == end == 1600
    chance = random.Random(skip)
    for turn in range(5):
        left = tmp_path / f"left-{turn}"
        disk.lose_power(left, chance)
        with tape.TapeWriter(left / "tape") as writer:
            end = writer.end
        assert end >= durable
        assert [sequence for sequence, _ in trades(left / "tape")] == [*range(end)]


SLOW = """
import os, sys, time
from pathlib import Path
from tapeworks._core import TapeWriter

path, disk = Path(sys.argv[1]), Path(sys.argv[2])
head, zeros = bytes([8, 1, 0, 0, 1, 0, 0, 0]), bytes(32)

def put(count):
    numbers = range(writer.end, writer.end + count)
    writer.append(b"".join(head + n.to_bytes(8, "little") * 3 + zeros for n in numbers))

def published_word(file):
    return int.from_bytes(file.read_bytes()[128:136], "little")

def synced_frame():
    # What ends with .new is about to be renamed.
    files = (file for file in (disk / "shadow").glob("[0-9]*") if file.suffix != ".new")
    return any(map(published_word, files))

writer = TapeWriter(path, durability="interval", interval_ms=1, segment_bytes=64 << 10)
(disk / "plan").write_text("sync 0 1 -1000 .seg\\n")
put(1)
for _ in range(10_000):
    if synced_frame():
        break
    time.sleep(0.001)
else:
    raise SystemExit("the first frame was never synced")
for _ in range(20):
    put(100)
assert len(list(path.glob("*.seg"))) > 1
print(writer.sync(), writer.end, flush=True)
os._exit(0)
"""


def test_segment_that_is_closed_while_it_is_synced_is_synced_again(tmp_path: Path) -> None:
    # A sync of the newest segment takes a second; meanwhile more is written to it, and it is
    # closed. Then all is synced, and power is lost: what came after the slow sync is there as well.
    disk = Disk(tmp_path / "data", tmp_path / "disk")
    told = run(disk, SLOW, disk.root / "tape", tmp_path / "disk")
    durable, end = map(int, told.split())
    assert durable == end == 2001
    chance = random.Random(1)
    for turn in range(8):
        left = tmp_path / f"left-{turn}"
        disk.lose_power(left, chance)
        with tape.TapeWriter(left / "tape") as writer:
            assert writer.end >= durable
