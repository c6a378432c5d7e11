"""`repair_tape` where the disk refuses one call: it fails and changes nothing, or does its work."""

import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.disk import Disk

from tapeworks.tape import TapeReader, TapeWriter

EMFILE = 24
ITEMS, FRAME = 4_000, 50
PROGRAM = """
import sys
from tapeworks._core import repair_tape
try:
    repair_tape(sys.argv[1])
except OSError as error:
    raise SystemExit(f"refused: {error}")
"""


def trade(number: int) -> bytes:
    """One trade of random content: a flipped bit of its compressed form shows."""
    body = random.Random(number).randbytes(32)
    return bytes([8, 1, 0, 0, 1, 0, 0, 0]) + number.to_bytes(8, "little") * 3 + body


def until(done: Callable[[], bool]) -> None:
    """Waits for `done`."""
    deadline = time.monotonic() + 30
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def content(tape: Path) -> dict[str, bytes]:
    """The files of a tape that hold items."""
    return {path.name: path.read_bytes() for path in tape.glob("*.seg*")}


@pytest.fixture(params=[None, 1], ids=["plain", "compressed"])
def damaged(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A tape of many segments, of which the first has a flipped bit."""
    path = tmp_path / "disk" / "tape"
    with TapeWriter(path, segment_bytes=64 << 10, compress_after=request.param) as tape:
        for first in range(0, ITEMS, FRAME):
            tape.append(b"".join(map(trade, range(first, first + FRAME))))
        until(lambda: request.param is None or len(list(path.glob("*.seg"))) == 2)
    first = sorted(path.glob("*.seg*"))[0]
    data = bytearray(first.read_bytes())
    data[-2000] ^= 1
    first.write_bytes(data)
    return path


@pytest.mark.slow
def test_file_that_cannot_be_opened_once_is_not_given_up(damaged: Path, tmp_path: Path):
    # Another segment, which is whole, cannot be opened at one moment, whichever: what is lost is of
    # the damaged one alone, or nothing has happened.
    whole = sorted(damaged.glob("*.seg*"))[1]
    end = int(whole.name.partition(".")[0])
    refused = 0
    for skip in range(40):
        copy = tmp_path / "data" / "tape"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(damaged, copy)
        before = content(copy)
        disk = Disk(copy.parent, tmp_path / "state")
        disk.plan(f"open {skip} 1 {EMFILE} {whole.name}")
        command = [sys.executable, "-c", PROGRAM, str(copy)]
        done = subprocess.run(
            command, env=disk.environment(), capture_output=True, text=True, timeout=60
        )
        if done.returncode:
            assert done.stderr.startswith("refused: "), done.stderr
            assert content(copy) == before
            refused += 1
            continue
        [(_, last)] = TapeReader(copy).lost_ranges()
        assert last < end, f"after {skip} calls"
    assert refused > 0
    assert refused < 40, "the last ones find nothing that fails"
