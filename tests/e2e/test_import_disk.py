"""`tape import` onto a disk that is full: it waits, or fails and says so; no frame is left out."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.disk import Disk
from tests.e2e.test_import import START, stored, tape, write_quotes

ENOSPC = 28
COUNT = 40_000
SETTINGS = "[tape]\nsegment_bytes = 1048576\n"


def importing(disk: Disk, *more: str) -> subprocess.Popen[str]:
    folder = disk.root.parent
    write_quotes(folder / "capture.txt", COUNT)
    (folder / "settings.toml").write_text(SETTINGS)
    words = ("import", "binance-spot", "capture.txt", "--config", "settings.toml", *more)
    return subprocess.Popen(
        [sys.executable, "-c", START, *words, "--data", "data"],
        cwd=folder,
        env={**disk.environment(), "NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "topic", ["market-data.raw", pytest.param("market-data.normalized", marks=pytest.mark.slow)]
)
def test_import_waits_until_the_disk_has_room(tmp_path: Path, topic: str):
    # The second segment of a tape finds no room. The import says that it waits; then there is room.
    # A file waits as no socket does: each frame is there, and no gap is.
    disk = Disk(tmp_path / "data", tmp_path / "disk")
    disk.plan(f"allocate 4 1000000 {ENOSPC} {topic}")
    with importing(disk) as running:
        assert running.stderr is not None
        told = running.stderr.readline()
        assert topic in told, told
        assert "waiting for up to 60 s" in told
        disk.plan()
        told, complaints = running.communicate(timeout=120)
    assert running.returncode == 0, complaints
    assert f"imported {COUNT:,} frames" in told
    assert stored(tmp_path) == [(COUNT, COUNT)]
    assert json.loads(tape("gaps", "--json", cwd=tmp_path).stdout) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "topic",
    ["market-data.raw", pytest.param("market-data.normalized", marks=pytest.mark.slow)],
)
def test_import_that_finds_no_room_fails_and_goes_on_when_run_again(tmp_path: Path, topic: str):
    # The disk stays full: the error names the tape, and says how far it came. With room, the same
    # command brings the rest.
    disk = Disk(tmp_path / "data", tmp_path / "disk")
    disk.plan(f"allocate 4 1000000 {ENOSPC} {topic}")
    with importing(disk, "--wait", "0") as running:
        told, complaints = running.communicate(timeout=120)
    assert (running.returncode, told) == (1, ""), complaints
    assert topic in complaints, complaints
    assert "frames of this import are on the tape of binance-spot" in complaints
    disk.plan()
    with importing(disk) as running:
        told, complaints = running.communicate(timeout=120)
    assert (running.returncode, "frames were there already" in complaints) == (0, True), told
    assert stored(tmp_path) == [(COUNT, COUNT)]
    # The first import could not note its end: what was received last before the second is as if it
    # had been killed, and nothing was shed.
    gaps = json.loads(tape("gaps", "--json", cwd=tmp_path).stdout)
    assert {gap["cause"] for gap in gaps} <= {"disconnect", "not_recorded"}, gaps


@pytest.mark.slow
def test_import_whose_lake_has_no_room_fails_and_goes_on_when_run_again(tmp_path: Path):
    # The tapes found room, the files of the lake do not: after as long as it was told to wait.
    disk = Disk(tmp_path / "data", tmp_path / "disk")
    disk.plan(f"write 0 1000000 {ENOSPC} lake/")
    with importing(disk, "--wait", "2") as running:
        told, complaints = running.communicate(timeout=60)
    assert (running.returncode, told) == (1, ""), complaints
    assert "No space left on device" in complaints
    assert f"all {COUNT:,} frames of this import are on the tape of binance-spot" in complaints
    disk.plan()
    with importing(disk) as running:
        told, complaints = running.communicate(timeout=120)
    assert running.returncode == 0, complaints
    assert stored(tmp_path) == [(COUNT, COUNT)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "topic", ["market-data.bars", pytest.param("market-data.book", marks=pytest.mark.slow)]
)
def test_import_whose_frames_cannot_be_derived_says_what_is_there(tmp_path: Path, topic: str):
    # All frames found room, and what is made of them did not. With room, the same command goes on.
    disk = Disk(tmp_path / "data", tmp_path / "disk")
    disk.plan(f"allocate 0 1000000 {ENOSPC} {topic}")
    with importing(disk) as running:
        told, complaints = running.communicate(timeout=120)
    assert (running.returncode, told) == (1, ""), complaints
    assert topic in complaints
    assert f"all {COUNT:,} frames of this import are on the tape of binance-spot" in complaints
    disk.plan()
    with importing(disk) as running:
        told, complaints = running.communicate(timeout=120)
    assert running.returncode == 0, complaints
    assert stored(tmp_path) == [(COUNT, COUNT)]
