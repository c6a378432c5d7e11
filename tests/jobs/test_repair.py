"""`tape repair`: what is damaged is found, kept and made again; what is lost is told."""

import hashlib
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.jobs.damages import FRAME, SOURCE, bodies, import_trades

from conftest import check_exact
from tapeworks._core import FolderLock, TapeReader

pytestmark = pytest.mark.timeout(180)

TAPES = Path("data/tape") / SOURCE
RAW = TAPES / "market-data.raw"
FRAMES = 3_000


@pytest.fixture(scope="module")
def imported(command: Callable[[Path], Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which captured trades were imported, derived and stored."""
    folder = tmp_path_factory.mktemp("imported")
    import_trades(command(folder), FRAMES)
    return folder


@pytest.fixture
def damaged(imported: Path, tape: Any) -> Any:
    """The command line in a copy of that folder, which the test damages."""
    shutil.copytree(imported, tape.folder, dirs_exist_ok=True)
    return tape


def everything(data: Path) -> dict[str, str]:
    """A hash of each file, but for those that say who holds a lock."""
    return {
        str(path.relative_to(data)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(data.rglob("*"))
        if path.is_file() and path.name != "LOCK"
    }


def flip(path: Path, seed: int, first: int, last: int | None = None) -> None:
    """Flips one bit of a file, between two bytes of it."""
    content = bytearray(path.read_bytes())
    at = random.Random(seed).randrange(first, last or len(content))
    content[at] ^= 1 << seed % 8
    path.write_bytes(content)


def test_a_raw_tape_that_is_gone_is_told_and_nothing_is_changed(damaged: Any):
    # What readers keep beside it may still be there. It is made of no other tape.
    for path in (damaged.folder / RAW).glob("*.seg"):
        path.unlink()
    before = everything(damaged.folder / "data")
    shown = damaged.run("verify", code=1)
    assert f"{RAW}: none of its segments is left" in shown
    process = damaged.start("repair", "--yes")
    _, told = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"restore {RAW} from a backup" in told
    assert everything(damaged.folder / "data") == before


def segment(topic: str, folder: Path) -> Path:
    [path] = (folder / TAPES / topic).glob("*.seg")
    return path


def frames(path: Path) -> list[int]:
    """Where the frames of a segment lie."""
    content, at, found = path.read_bytes(), 16_384, []
    while at + FRAME.size <= len(content):
        length, checksum, *_ = FRAME.unpack_from(content, at)
        if not checksum:
            break
        found.append(at)
        at += FRAME.size + length
    return found


def damage_raw_item(folder: Path) -> None:
    path = segment("market-data.raw", folder)
    _, second, third, *_ = frames(path)
    flip(path, 1, second + FRAME.size, third)


def damage_raw_head(folder: Path) -> None:
    path = segment("market-data.raw", folder)
    content = bytearray(path.read_bytes())
    second = frames(path)[1]
    content[second : second + FRAME.size] = bytes(FRAME.size)
    path.write_bytes(content)


def damage_derived(topic: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = segment(topic, folder)
        at = frames(path)
        flip(path, 3, at[0] + FRAME.size, at[1] if len(at) > 1 else at[0] + FRAME.size + 64)

    return damage


def damage_state(folder: Path) -> None:
    flip(sorted((folder / "data/state" / SOURCE / "bars").glob("*.state"))[-1], 4, 8)


def damage_offset(folder: Path) -> None:
    (folder / TAPES / "market-data.normalized" / "offsets" / "stage-bars").write_text("many\n")


def damage_lake(folder: Path) -> None:
    flip(next((folder / "data/lake/trades").rglob("*.parquet")), 5, 100)


OF_TAPES = ("raw item", "raw head", "normalized", "bars")
# The others are slow tests.
QUICK = ("raw item",)
DAMAGES: dict[str, tuple[Callable[[Path], None], bool]] = {
    "raw item": (damage_raw_item, True),
    "raw head": (damage_raw_head, True),
    "normalized": (damage_derived("market-data.normalized"), False),
    "bars": (damage_derived("market-data.bars"), False),
    "state": (damage_state, False),
    "offset": (damage_offset, False),
    "lake": (damage_lake, False),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "what",
    [one if one in QUICK else pytest.param(one, marks=pytest.mark.slow) for one in DAMAGES],
)
def test_what_is_damaged_is_found_and_made_good(damaged: Any, what: str):
    # Found by `verify`, shown and not touched by `repair`, made good by `repair --yes`: everything
    # is whole then, the lake is exact, and each frame of the venue is there, or is told as lost.
    damage, loses = DAMAGES[what]
    data = damaged.folder / "data"
    before, whole = bodies(damaged.folder / RAW), everything(data)
    damage(damaged.folder)
    held = everything(data)
    damaged.run("verify", code=1)
    shown = damaged.run("repair", code=1)
    assert "damaged: " in shown
    assert "nothing was changed" in shown
    assert everything(data) == held
    shown = damaged.run("repair", "--yes")
    assert (f"{SOURCE}: lost: " in shown) is loses
    # What was done is told: where each damaged file is now, and what was made again.
    assert f"{SOURCE}: repaired" in shown
    assert f"{SOURCE}: moved " in shown, shown
    moved = re.findall(r": moved (\S+)(?: to (\S+)|:)", shown)
    assert moved, shown
    for path, to in moved:
        # Without the folder, it is the path where it lies now.
        assert (damaged.folder / (f"{to}/{Path(path).name}" if to else path)).exists(), shown
    folders = list((damaged.folder / TAPES).glob("*/damaged-*"))
    assert bool(folders) == (what in OF_TAPES), shown
    for folder in folders:
        assert re.fullmatch(r"damaged-\d{8}T\d{6}Z(-\d+)?", folder.name)
    damaged.run("verify")
    assert damaged.run("repair") == "nothing is damaged in data\n"
    check_exact(data)
    after = bodies(damaged.folder / RAW)
    told = damaged.answer("gaps", "--json")
    [trades] = damaged.answer("query", "select count(*) as n from trades", "--format", "json")
    # What was made of the raw frames that are lost is held further on.
    assert trades["n"] == FRAMES
    assert len(after) == len(set(after))
    if loses:
        # One tape frame of six: those before it and behind it are as they were.
        gone = len(before) - len(after)
        assert 0 < gone < FRAMES // 4
        start = next(at for at, body in enumerate(after) if body != before[at])
        assert after == before[:start] + before[start + gone :]
        [damage_gap] = [gap for gap in told if gap["cause"] == "damage"]
        [lost] = TapeReader(damaged.folder / RAW).lost_ranges()
        assert (damage_gap["first_missing"], damage_gap["last_missing"]) == lost
        assert damage_gap["missing"] == gone
    else:
        assert after == before
        assert [gap for gap in told if gap["cause"] == "damage"] == []
    # What was damaged is kept, byte for byte.
    kept = set(everything(data).values())
    assert all(digest in kept for name, digest in held.items() if whole[name] != digest)


@pytest.mark.slow
def test_start_on_a_damaged_tape_refuses_and_keeps_everything(damaged: Any):
    # At once, with what to do, exit code 1; and `verify` says afterwards what it said before.
    damage_raw_item(damaged.folder)
    held = everything(damaged.folder / RAW)
    told = damaged.run("verify", code=1)
    nowhere = ("--set", "ws_url=ws://127.0.0.1:9", "--set", "rest_url=off")
    process = damaged.start("record", "binance", "BTCUSDT", *nowhere, "--seconds", 60)
    shown, errors = process.communicate(timeout=60)
    assert process.returncode == 1, shown + errors
    assert "`tape repair`" in errors
    assert "Traceback" not in errors
    assert everything(damaged.folder / RAW) == held
    assert damaged.run("verify", code=1) == told


def test_repair_refuses_while_something_writes(damaged: Any):
    # The recorder of the source, or the writer of any of its tapes.
    damage_raw_item(damaged.folder)
    data = damaged.folder / "data"
    for folder in (data / "state" / SOURCE, data / "tape" / SOURCE / "market-data.bars"):
        held = everything(data)
        with FolderLock(folder):
            process = damaged.start("repair", "--yes")
            shown, errors = process.communicate(timeout=60)
            assert process.returncode == 1, shown + errors
            assert "process" in errors
        assert everything(data) == held


def test_repair_refuses_a_tape_of_which_no_head_is_left(damaged: Any):
    # Nothing says which tape it was: nothing is changed, and a recorder may still be started.
    path = segment("market-data.raw", damaged.folder)
    path.write_bytes(bytes(16_384) + path.read_bytes()[16_384:])
    held = everything(damaged.folder / "data")
    process = damaged.start("repair", "--yes")
    shown, errors = process.communicate(timeout=60)
    assert process.returncode == 1, shown
    assert "move the folder away" in errors
    assert everything(damaged.folder / "data") == held


@pytest.mark.slow
def test_nothing_to_repair_is_no_failure(damaged: Any):
    # For a script that runs it after every `verify`.
    assert damaged.run("repair") == "nothing is damaged in data\n"
    assert damaged.run("repair", "--yes") == "nothing is damaged in data\n"
