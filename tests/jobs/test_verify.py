"""`tape verify`: heads that are kept elsewhere, and states and offsets that are garbage."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.jobs.damages import SOURCE, import_trades, segments

pytestmark = pytest.mark.timeout(180)

FRAMES = 500
RAW = Path("data/tape") / SOURCE / "market-data.raw"
GARBAGE = [b"", b"\0" * 64, b"\xff" * 200, b"TWPYSTAT", b"-1\n", b"9" * 400 + b"\n", b"0x10\n"]


@pytest.fixture(scope="module")
def imported(command: Callable[[Path], Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("imported")
    import_trades(command(folder), FRAMES)
    return folder


@pytest.fixture
def copy(imported: Path, tape: Any) -> Any:
    shutil.copytree(imported, tape.folder, dirs_exist_ok=True)
    return tape


@pytest.mark.slow
def test_head_that_is_kept_proves_what_is_before_it(copy: Any):
    # It agrees with the tape that it is of, also when more was written since; not with another one.
    [line] = copy.run("verify", "--head").splitlines()
    head, path = line.split()
    assert path == str(RAW)
    assert int(head.partition(":")[0]) >= FRAMES
    copy.run("verify", "--source", SOURCE, "--expect", head)
    copy.run("verify", RAW, "--expect", head)
    nowhere = ("--set", "ws_url=ws://127.0.0.1:9", "--set", "rest_url=off")
    copy.run("record", "binance", "BTCUSDT", *nowhere, "--seconds", 1, code=3)
    copy.run("verify", RAW, "--expect", head)
    [newer] = copy.run("verify", "--head").splitlines()
    assert newer.split()[0] != head
    # Recorded anew: whole in itself, and not what the head is of.
    shutil.rmtree(copy.folder / "data")
    import_trades(copy, FRAMES)
    copy.run("verify", RAW)
    shown = copy.run("verify", RAW, "--expect", head, code=1)
    assert "damaged" in shown


@pytest.mark.parametrize(
    "words",
    [
        ("--expect", "12:ab", "--source", SOURCE),
        *(
            pytest.param(words, marks=pytest.mark.slow)
            for words in (
                ("--expect", f"12:{'0' * 64}"),
                ("--expect", f"12:{'0' * 64}", "data"),
                ("--source", SOURCE),
            )
        ),
    ],
)
def test_head_without_its_tape_is_wrong_use(copy: Any, words: tuple[str, ...]):
    assert "--expect: expected" in copy.refuse("verify", *words, code=2)


def test_counts_are_exact_and_named(imported: Path, command: Callable[[Path], Any]):
    # As the query shows them: two numbers of one thing must be comparable.
    shown = command(imported).run("verify")
    assert "hash links" in shown.splitlines()[0]
    raw = next(line for line in shown.splitlines() if "market-data.raw" in line)
    [head] = command(imported).run("verify", "--head").splitlines()
    assert raw.split()[1] == f"{int(head.partition(':')[0]):,}"


@pytest.mark.parametrize(
    "garbage", [GARBAGE[0], *(pytest.param(it, marks=pytest.mark.slow) for it in GARBAGE[1:])]
)
def test_garbage_in_states_and_offsets_is_found(copy: Any, garbage: bytes):
    # Each is named, with what can be done; a repair moves them aside, and nothing else.
    state = sorted((copy.folder / "data/state" / SOURCE / "bars").glob("*.state"))[-1]
    offset = copy.folder / RAW / "offsets" / "stage-normalize"
    assert offset.exists()
    state.write_bytes(garbage)
    offset.write_bytes(garbage)
    shown = copy.run("verify", code=1)
    assert state.name in shown
    assert "offsets/stage-normalize" in shown
    assert "`tape repair`" in shown
    before = [path.read_bytes() for path in segments(copy.folder / RAW)]
    copy.run("repair", "--yes")
    assert [path.read_bytes() for path in segments(copy.folder / RAW)] == before
    copy.run("verify")
    kept = [
        path.read_bytes() for path in (copy.folder / "data/damaged").rglob("*") if path.is_file()
    ]
    assert kept == [garbage, garbage]
