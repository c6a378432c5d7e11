"""`tape repair` on tapes of several segments, interrupted, repeated, refused, and what follows."""

import json
import random
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.jobs.damages import (
    SOURCE,
    bodies,
    check_all_is_good,
    flip,
    frames_of,
    import_trades,
    obey_modes,
    segments,
)

from tapeworks._core import Ingest, TapeReader
from tapeworks.cli.settings import load
from tapeworks.jobs.catch_up import catch_up

pytestmark = pytest.mark.timeout(300)

FRAMES = 6_000
RAW = Path("data/tape") / SOURCE / "market-data.raw"
NAME = f"{SOURCE}/market-data.raw"
SETTINGS = "[tape]\nsegment_bytes = 262144\ncompress_after = {}\n"
FEED = """
from pathlib import Path
from tapeworks._core import FolderLock
from tapeworks.errors import TapeLockedError
from tapeworks.feeds.python import PythonFeed

LAKE, LOCKS = Path("data/lake/_commits/own"), Path("locks.txt")

class Plain(PythonFeed):
    lines = subscriptions = control = None

    def decode(self, frame, out):
        out.trade("A", frame.body.decode(), "1", sequence=int(frame.body))
        if LAKE.is_dir():
            try:
                FolderLock(LAKE).release()
                found = "free"
            except TapeLockedError:
                found = "locked"
            with LOCKS.open("a") as file:
                print(found, file=file)
"""


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(-1, id="plain"),
        pytest.param(1, id="compressed", marks=pytest.mark.slow),
    ],
)
def long(
    request: Any, command: Callable[[Path], Any], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with a raw tape of several segments."""
    folder = tmp_path_factory.mktemp("long")
    (folder / "tapeworks.toml").write_text(SETTINGS.format(request.param))
    import_trades(command(folder), FRAMES)
    return folder


@pytest.fixture
def copy(long: Path, tape: Any) -> Any:
    """The command line in a copy of that folder, which the test damages."""
    shutil.copytree(long, tape.folder, dirs_exist_ok=True)
    return tape


def damage_middle(folder: Path) -> None:
    path = segments(folder / RAW)[1]
    if path.suffix == ".seg":
        flip(path, frames_of(path)[0] + 60)
    else:
        flip(path, path.stat().st_size // 2)


def derive_and_store(command: Any) -> None:
    catch_up(replace(load(None), data=command.folder / "data", feeds={SOURCE: None}))


@pytest.mark.slow
def test_middle_segment_of_several(copy: Any):
    # What lies before and behind it stays, at its offsets; twice, at another place.
    before = bodies(copy.folder / RAW)
    assert len(segments(copy.folder / RAW)) > 3
    damage_middle(copy.folder)
    copy.run("verify", code=1)
    copy.run("repair", "--yes")
    lost = TapeReader(copy.folder / RAW).lost_ranges()
    assert len(lost) == 1
    check_all_is_good(copy, {NAME: lost})
    held = bodies(copy.folder / RAW)
    assert 0 < len(held) < len(before)
    assert set(held) < set(before)
    assert held[0] == before[0]
    assert held[-1] == before[-1]
    path = segments(copy.folder / RAW)[-2]
    flip(path, (frames_of(path)[0] + 60) if path.suffix == ".seg" else path.stat().st_size - 9)
    copy.run("verify", code=1)
    copy.run("repair", "--yes")
    lost = TapeReader(copy.folder / RAW).lost_ranges()
    assert len(lost) == 2
    check_all_is_good(copy, {NAME: lost})


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("topic", ["market-data.raw", "market-data.normalized"])
def test_killed_at_any_moment_it_is_run_again(copy: Any, topic: str, seed: int):
    # Until it is finished, nothing else records; then all is as after one run that was not killed.
    chance = random.Random(seed)
    path = segments(copy.folder / "data/tape" / SOURCE / topic)[1]
    flip(path, (frames_of(path)[0] + 60) if path.suffix == ".seg" else path.stat().st_size // 2)
    unfinished = copy.folder / "data/state" / SOURCE / "repair.json"
    interrupted = 0
    for _ in range(3):
        process = copy.start("repair", "--yes")
        deadline = time.monotonic() + 60
        while not unfinished.exists() and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        # At once the first time, then at any moment.
        time.sleep(chance.random() * 0.4 * (interrupted > 0))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if not unfinished.exists():
            break
        interrupted += 1
        told = copy.refuse("import", SOURCE, "capture.txt", code=1)
        assert "was not finished" in told
        assert "`tape repair --yes" in told
    assert interrupted
    copy.run("repair", "--yes")
    assert not unfinished.exists()
    lost = TapeReader(copy.folder / RAW).lost_ranges()
    assert bool(lost) == (topic == "market-data.raw")
    check_all_is_good(copy, {NAME: lost} if lost else {})


def test_read_only_folder_is_refused_and_left(copy: Any):
    damage_middle(copy.folder)
    data = copy.folder / "data"
    changed = [path for path in [data, *data.rglob("*")] if path.is_dir() and not path.is_symlink()]
    held = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    for path in changed:
        path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        process = copy.start("repair", "--yes", preexec_fn=obey_modes)
        shown, errors = process.communicate(timeout=60)
    finally:
        for path in changed:
            path.chmod(stat.S_IRWXU)
    assert process.returncode == 1, shown + errors
    assert "Traceback" not in errors
    assert "ermission" in errors
    after = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    assert {p: c for p, c in after.items() if p.name != "LOCK"} == {
        p: c for p, c in held.items() if p.name != "LOCK"
    }


@pytest.mark.slow
def test_recording_goes_on_behind_a_repair(copy: Any):
    # More frames of the source are taken in, derived and stored, as on a tape without a loss.
    damage_middle(copy.folder)
    copy.run("repair", "--yes")
    lost = TapeReader(copy.folder / RAW).lost_ranges()
    ingest = Ingest(copy.folder / "data", SOURCE, SOURCE)
    assert ingest.degraded() is None
    ts = ingest.now()
    message = json.loads(bodies(copy.folder / RAW)[-1])
    message["data"] |= {"E": ts // 10**6, "T": ts // 10**6, "t": FRAMES + 1}
    ingest.receive(0, 1, ts, json.dumps(message).encode())
    ingest.flush()
    ingest.close()
    nowhere = ("--set", "ws_url=ws://127.0.0.1:9", "--set", "rest_url=off")
    copy.run("record", "binance", "BTCUSDT", *nowhere, "--seconds", 2, code=3)
    derive_and_store(copy)
    [trades] = copy.answer("query", "select count(*) as n from trades", "--format", "json")
    assert trades["n"] == FRAMES + 1
    check_all_is_good(copy, {NAME: lost})


@pytest.mark.slow
def test_a_feed_of_the_users_own(tape: Any, monkeypatch: pytest.MonkeyPatch):
    # Its decoder makes the normalized tape again, and the loss is declared through it. While the
    # tapes change, no sink may store from them: the decoder looks whether one could.
    monkeypatch.setenv("PYTHONPATH", str(tape.folder))
    (tape.folder / "own.py").write_text(FEED)
    (tape.folder / "tapeworks.toml").write_text(
        '[feeds.own]\nkind = "own:Plain"\nsymbols = ["A"]\nws_url = "ws://127.0.0.1:9"\n'
        'rest_url = "http://127.0.0.1:9"\n'
    )
    make = (
        "from tapeworks.cli.settings import load; from tapeworks.feeds.base import build;"
        "from tapeworks._core import Ingest; import sys; feed = build(load(None).feeds['own']);"
        "ingest = Ingest('data', 'own', feed.native, decoder=feed)\n"
        "for number in range(1, 2001):\n"
        "    ingest.receive(0, 1, ingest.now(), b'%d' % number)\n"
        "    number % 100 or ingest.flush()\n"
        "ingest.flush(); ingest.close()"
    )
    subprocess.run([sys.executable, "-c", make], cwd=tape.folder, check=True, timeout=60)
    (tape.folder / "data/lake/_commits/own").mkdir(parents=True)
    raw, normalized = "market-data.raw", "market-data.normalized"
    for topic, ranges in ((normalized, 0), (raw, 1), (normalized, 1)):
        [path] = segments(tape.folder / "data/tape/own" / topic)
        flip(path, frames_of(path)[3] + 60)
        tape.run("verify", code=1)
        tape.run("repair", "--yes")
        lost = TapeReader(tape.folder / "data/tape/own/market-data.raw").lost_ranges()
        assert len(lost) == ranges
    assert set((tape.folder / "locks.txt").read_text().split()) == {"locked"}
