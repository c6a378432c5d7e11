"""A loss of power at any sync of the lake: all that was committed is there, and it goes on."""

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.disk import Disk

from tapeworks import commits
from tapeworks.errors import LakeError
from tapeworks.sinks.base import FlushPolicy
from tapeworks.sinks.feeder import Feeder
from tapeworks.sinks.parquet import ParquetConfig, ParquetPartition
from tapeworks.views.audit import audit
from tapeworks.views.lake_check import verify_lake

SOURCE, TOPIC = "binance-spot", "market-data.normalized"

# Stores a tape in four flushes with merges between them. For each number of syncs, a child does so
# on a disk of its own, and ends before that sync; syncs of what `left_out` names are not done.
PROGRAM = """
import os, sys
from pathlib import Path
from tapeworks.sinks import compaction, feeder
from tapeworks.sinks.base import FlushPolicy
from tapeworks.sinks.feeder import Feeder
from tapeworks.sinks.parquet import ParquetConfig, ParquetPartition

folder, left_out = Path(sys.argv[1]), sys.argv[2]
numbers = range(int(sys.argv[3]), int(sys.argv[4]))
real, compaction.FAN_IN, feeder.BATCH_RECORDS = os.fsync, 2, 250

def kind(path):
    name, parent = os.path.basename(path), os.path.dirname(path)
    if os.path.isdir(path):
        if "/_commits" in path:
            return "commit folder"
        if "/_staging" in path:
            return "staging folder"
        return name.partition("=")[0] + " folder" if "=" in name else "other folder"
    if name.endswith(".parquet"):
        return "file"
    return "manifest" if ".manifest." in name else "symbols" if "symbols" in name else "commit"

def run(number, place):
    told, calls = open(place / "told", "w"), 0
    for variable in ("ROOT", "SHADOW", "PLAN"):
        os.environ["DISK_" + variable] = os.environ["LATER_" + variable].replace("@", str(number))

    def fsync(descriptor):
        nonlocal calls
        calls += 1
        if calls == number:
            os._exit(0)
        if kind(os.readlink(f"/proc/self/fd/{descriptor}")) != left_out:
            real(descriptor)

    os.fsync = fsync
    data = place / "data"
    sink = ParquetPartition(ParquetConfig(), data, "binance-spot", "market-data.normalized")
    feeder = Feeder(sink, data / "tape/binance-spot/market-data.normalized", FlushPolicy())
    sink._compaction.quiet_s = 0.0
    for _ in range(4):
        feeder.step()
        feeder.flush()
        told.write(f"{sink.committed.offset}\\n")
        told.flush()
        feeder.run_maintenance()
    os._exit(3)

for number in numbers:
    child = os.fork()
    if not child:
        run(number, folder / str(number))
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) == 3:
        break
    assert os.waitstatus_to_exitcode(status) == 0
else:
    number += 1
print(number)
"""
LEFT_OUT = (
    "file",
    "commit",
    "manifest",
    "symbols",
    "commit folder",
    "staging folder",
    "date folder",
    "venue folder",
)


def write_all(folder: Path, tape: Path, left_out: str, first: int, end: int) -> int:
    """Runs the program for the syncs `first` to `end`; returns the first that there is not."""
    for number in range(first, end):
        data = folder / str(number) / "data"
        Disk(data / "lake", folder / str(number) / "disk")
        (data / "tape").symlink_to(tape, target_is_directory=True)
    later = Disk(folder / "@" / "data" / "lake", folder / "@" / "disk").environment()
    environment = {name.replace("DISK_", "LATER_"): value for name, value in later.items()}
    command = [sys.executable, "-c", PROGRAM, folder, left_out, first, end]
    done = subprocess.run(
        [str(word) for word in command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def complaint_after(place: Path, left: Path, chance: random.Random) -> str | None:
    """Loses power, opens what is left, and lets it go on; returns what was wrong."""
    disk = Disk(place / "data" / "lake", place / "disk")
    disk.lose_power(left / "lake", chance, strict=True)
    (left / "tape").symlink_to(place / "data" / "tape", target_is_directory=True)
    told = [int(line) for line in (place / "told").read_text().split()]
    sink = ParquetPartition(ParquetConfig(), left, SOURCE, TOPIC)
    feeder = Feeder(sink, left / "tape" / SOURCE / TOPIC, FlushPolicy())
    try:
        commit = commits.read_commit(left / "lake", SOURCE, TOPIC)
        if (0 if commit is None else commit.offset) < max(told, default=0):
            return f"{told[-1]} was stored, and {commit} is left"
        feeder.drain(30)
        feeder.close()
        faults = [fault for report in verify_lake(left) for fault in report.faults]
        wrong = [one for one in audit(left) if not one.exact]
    except LakeError as error:
        return str(error)
    return str(faults or wrong) if faults or wrong else None


@pytest.fixture
def stored_tape(spine, maker):
    """A tape of a thousand trades of one day."""
    spine.append(maker.definitions())
    spine.append(maker.trades(997))
    spine.close()
    return spine.path / "tape"


@pytest.mark.timeout(300)
@pytest.mark.slow
@pytest.mark.parametrize("left_out", ["nothing", *LEFT_OUT])
def test_what_was_committed_survives_a_loss_of_power(left_out, stored_tape, tmp_path):
    # Power is lost before each sync, and of what was not synced any part is left. Whatever it is,
    # the lake holds what it said to hold, and takes in the rest. With the syncs of one kind left
    # out, that is not so: each kind matters.
    folder = tmp_path / "runs"
    end = write_all(folder, stored_tape, left_out, 1, 90)
    assert end > 20
    # What is whole must be so by any chance; what is not, by one that is known to show it.
    seed = int.from_bytes(os.urandom(4)) if left_out == "nothing" else 7
    print("seed", seed)
    chance = random.Random(seed)
    numbers = [number for _ in range(6) for number in range(1, end)]
    found = None
    for at, number in enumerate(numbers if left_out != "nothing" else numbers[:end]):
        left = tmp_path / "left"
        found = complaint_after(folder / str(number), left, chance)
        if found:
            found = f"seed {seed}, sync {number}, {at}: {found}"
            break
        shutil.rmtree(left)
    assert (found is None) == (left_out == "nothing"), found
