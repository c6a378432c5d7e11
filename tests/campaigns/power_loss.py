"""Power is lost while a tape and one made from it are written: what was durable is there.

A process writes both on a watched disk (`tests/disk.py`) with random settings, and tells what it
calls durable; syncs of it fail now and then and drop their pages. It is killed at a random instant,
and of what was not synced only a random part is kept. Both tapes must open, hold all that was
called durable, unchanged and in order, and take more.
"""

import random
import subprocess
import sys
from pathlib import Path

from tests.campaigns.base import Outcome
from tests.disk import Disk

from tapeworks.errors import TapeworksError
from tapeworks.tape import TapeReader, TapeWriter, verify

PROGRAM = """
import os, random, sys, time
from pathlib import Path
from tapeworks._core import TapeWriter

root, told, seed = Path(sys.argv[1]), open(sys.argv[2], "w"), int(sys.argv[3])
chance = random.Random(seed)

def settings():
    return {
        "durability": chance.choice(("interval", "interval", "every_frame", "never")),
        "interval_ms": chance.choice((1, 5, 20)),
        "segment_bytes": chance.choice((64 << 10, 128 << 10, 1 << 20)),
        "compress_after": chance.choice((None, 0, 1, 2)),
        "retention_bytes": chance.choice((None, None, 400_000)),
    }

def items(first, count):
    head, zeros = bytes([8, 1, 0, 0, 1, 0, 0, 0]), bytes(32)
    numbers = range(first, first + count)
    return b"".join(head + n.to_bytes(8, "little") * 3 + zeros for n in numbers)

def attempt(action, writer):
    for _ in range(40_000):
        try:
            return action()
        except OSError:
            time.sleep(0.001)
            try:
                writer.reopen()
            except OSError:
                pass
    raise SystemExit("the disk never took it")

def opened(*where, **named):
    for _ in range(40_000):
        try:
            return TapeWriter(*where, **named, **settings())
        except OSError:
            time.sleep(0.001)
    raise SystemExit("it never opened")

print("start", flush=True)
while True:
    raw = opened(root / "raw")
    made = opened(root / "made", source=root / "raw")
    for _ in range(chance.randint(1, 400)):
        count = chance.choice((1, 3, 20, 100, 300))
        attempt(lambda: raw.append(items(raw.end, count)), raw)
        if chance.random() < 0.5:
            share = chance.randint(1, 50)
            attempt(lambda: made.append(items(made.end, share), input_offset=raw.end), made)
        if chance.random() < 0.02:
            attempt(raw.sync, raw)
        if chance.random() < 0.02:
            attempt(made.sync, made)
        told.write(f"{raw.durable} {made.durable}\\n")
        told.flush()
        if chance.random() < 0.1:
            time.sleep(0.002)
    if chance.random() < 0.5:
        made.close()
        raw.close()
    else:
        os._exit(7)
"""


def run(seed: int, folder: Path) -> Outcome:
    """Writes, loses power, opens; see above."""
    outcome, chance = Outcome(), random.Random(seed)
    disk = Disk(folder / "data", folder / "disk")
    if chance.random() < 0.5:
        disk.plan(f"sync {chance.randint(0, 60)} {chance.randint(1, 3)} 5 .seg")
    told = folder / "told"
    _write(disk, told, seed, chance.uniform(0.1, 2.5), outcome)
    left = folder / "left"
    disk.lose_power(left, chance)
    durable = [0, 0]
    for line in told.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("\n"):
            durable = [max(a, int(b)) for a, b in zip(durable, line.split(), strict=True)]
    outcome.figures["items durable"] += sum(durable)
    _check(left, "raw", None, durable[0], outcome)
    if (left / "made").exists() and (left / "raw").exists():
        _check(left, "made", left / "raw", durable[1], outcome)
    else:
        outcome.expect(durable[1] == 0, f"made: gone, and {durable[1]} was durable")
    return outcome


def _write(disk: Disk, told: Path, seed: int, seconds: float, outcome: Outcome) -> None:
    command = [sys.executable, "-c", PROGRAM, str(disk.root), str(told), str(seed)]
    environment = disk.environment()
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
        code = process.wait()
        outcome.expect(code in (7, -9), f"the writer ended with {code}: {process.stderr.read()}")


def _check(folder: Path, name: str, source: Path | None, durable: int, outcome: Outcome) -> None:
    path = folder / name
    try:
        with TapeWriter(path, source=source) as writer:
            end, recovery = writer.end, writer.recovery
            outcome.expect(end >= durable, f"{name}: ends at {end}, and {durable} was durable")
            outcome.figures["cut"] += recovery["cut_bytes"] > 0
            outcome.figures["taken back"] += recovery["undone"] > 0
            writer.append(_item(end), input_offset=None if source is None else 1 << 40)
        reader = TapeReader(path)
        expected = reader.first
        while (batch := reader.read()) is not None:
            found = _sequences(bytes(batch))
            outcome.expect(
                found == [*range(expected, expected + len(found))], f"{name}: items changed"
            )
            expected += len(found)
        outcome.expect(expected == end + 1, f"{name}: read up to {expected} of {end + 1}")
        fault = verify(path)["fault"]
        outcome.expect(fault is None, f"{name}: {fault}")
    except (TapeworksError, OSError) as error:
        outcome.complaints.append(f"{name}: {type(error).__name__}: {error}")


def _item(number: int) -> bytes:
    return bytes([8, 1, 0, 0, 1, 0, 0, 0]) + number.to_bytes(8, "little") * 3 + bytes(32)


def _sequences(data: bytes) -> list[int]:
    return [int.from_bytes(data[at + 24 : at + 32], "little") for at in range(0, len(data), 64)]
