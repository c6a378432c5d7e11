"""Calls of the tape fail in every way: what was appended is there once, and nothing else.

A process writes a tape on a disk (`tests/disk.py`) on which calls fail at random: EIO, ENOSPC and
short writes at opening, making, growing, writing, syncing, naming, cutting and removing files. It
tries again, opens the tape anew where it has to, and ends when the disk works again. Every item
must be there once, in order and unchanged, durable to the end, also after a loss of power.
"""

import random
import subprocess
import sys
from pathlib import Path

from tests.campaigns.base import Outcome
from tests.disk import Disk

from tapeworks.errors import TapeworksError
from tapeworks.tape import TapeReader, TapeWriter, verify

EIO, ENOSPC = 5, 28
CALLS = ("sync", "write", "allocate", "punch", "cut", "create", "rename", "unlink", "open")

PROGRAM = """
import random, sys, time
from pathlib import Path
from tapeworks._core import TapeWriter
from tapeworks.errors import DiskFullError

path, plan, seed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
chance = random.Random(seed)
settings = {
    "durability": chance.choice(("interval", "every_frame", "never")),
    "interval_ms": 1,
    "segment_bytes": chance.choice((64 << 10, 128 << 10)),
    "compress_after": chance.choice((None, 0, 1)),
}
faults = 0

def opened():
    global faults
    for _ in range(40_000):
        try:
            return TapeWriter(path, **settings)
        except (OSError, DiskFullError):
            faults += 1
            time.sleep(0.001)
    raise SystemExit("it never opened")

def items(first, count):
    head, zeros = bytes([8, 1, 0, 0, 1, 0, 0, 0]), bytes(32)
    numbers = range(first, first + count)
    return b"".join(head + n.to_bytes(8, "little") * 3 + zeros for n in numbers)

def appended(count):
    global writer, faults
    first = writer.end
    for _ in range(40_000):
        try:
            assert writer.append(items(first, count)) == first
            return
        except (OSError, DiskFullError):
            faults += 1
            assert writer.end == first, "an append that failed published"
            time.sleep(0.001)
            try:
                writer.reopen()
            except (OSError, DiskFullError):
                pass
    raise SystemExit("the disk never took it")

writer = opened()
for number in range(300):
    if number == 250:
        plan.unlink(missing_ok=True)
    appended(chance.choice((1, 7, 40, 100, 300)))
    if chance.random() < 0.02:
        writer.close()
        writer = opened()
for _ in range(40_000):
    try:
        writer.reopen()
        if writer.sync() == writer.end:
            break
    except OSError:
        pass
    time.sleep(0.001)
assert writer.durable == writer.end
print(writer.end, faults, flush=True)
if chance.random() < 0.5:
    writer.close()
import os
os._exit(0)
"""


def run(seed: int, folder: Path) -> Outcome:
    """Writes while calls fail, then reads all; see above."""
    outcome, chance = Outcome(), random.Random(seed)
    disk = Disk(folder / "data", folder / "disk")
    lines = []
    for _ in range(chance.randint(1, 6)):
        call, code = chance.choice(CALLS), chance.choice((EIO, ENOSPC))
        if call == "write" and chance.random() < 0.5:
            code = 0
        skip, times = chance.choice((0, 1, 3, 10, 40)), chance.choice((1, 1, 2, 5))
        word = "-" if call in ("open", "create", "rename", "unlink") else ".seg"
        lines.append(f"{call} {skip} {times} {code} {word}")
    disk.plan(*lines)
    path = disk.root / "tape"
    command = [sys.executable, "-c", PROGRAM, str(path), str(folder / "disk/plan"), str(seed)]
    done = subprocess.run(
        command, env=disk.environment(), capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode:
        outcome.complaints.append(f"{lines}: {done.stderr[-1500:]}{done.stdout}")
        return outcome
    end, faults = map(int, done.stdout.split())
    outcome.figures["items"] += end
    outcome.figures["calls that failed"] += faults
    left = folder / "left"
    disk.lose_power(left, chance)
    _check(path, end, outcome)
    _check(left / "tape", end, outcome)
    return outcome


def _check(path: Path, end: int, outcome: Outcome) -> None:
    try:
        with TapeWriter(path) as writer:
            outcome.expect(writer.end == end, f"{path}: ends at {writer.end}, not at {end}")
        reader, expected = TapeReader(path), 0
        while (batch := reader.read()) is not None:
            data = bytes(batch)
            for at in range(0, len(data), 64):
                found = int.from_bytes(data[at + 24 : at + 32], "little")
                outcome.expect(found == expected, f"{path}: {found} in the place of {expected}")
                expected += 1
        outcome.expect(expected == end, f"{path}: {expected} of {end} items")
        fault = verify(path)["fault"]
        outcome.expect(fault is None, f"{path}: {fault}")
    except (TapeworksError, OSError) as error:
        outcome.complaints.append(f"{path}: {type(error).__name__}: {error}")
