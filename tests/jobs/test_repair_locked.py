"""What is told to a repair, or to what writes a source, while a repair of the source runs."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.jobs.damages import SOURCE, flip, frames_of, import_trades, segments

from tapeworks.pipeline import lock_source
from tapeworks.register import registered


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def held(data: Path, kind: str) -> Iterator[None]:
    """Holds the source as `kind` does, in this process."""
    with registered(data, kind, SOURCE), lock_source(data, SOURCE, repairing=kind == "repair"):
        yield


@pytest.mark.slow
def test_what_runs_beside_a_repair_is_told_of_it(command, tmp_path: Path):
    # A second repair, and an import: no word of recording, which is not what goes on.
    tape, data = command(tmp_path), tmp_path / "data"
    import_trades(tape, 100)
    path = segments(data / "tape" / SOURCE / "market-data.normalized")[0]
    flip(path, frames_of(path)[0] + 60)
    process = f"by process {os.getpid()}; nothing was"
    repaired = f"tape: {SOURCE} in data is being repaired, {process}"
    with held(data, "repair"):
        second = tape.start("repair", "--yes")
        _, told = second.communicate(timeout=60)
        assert second.returncode == 1
        assert told == f"{repaired} changed: it says what is left\n"
        told = tape.refuse("import", SOURCE, "capture.txt", code=1)
        assert told == f"{repaired} started: start again when it has ended"
    with held(data, "recorder"):
        second = tape.start("repair", "--yes")
        _, told = second.communicate(timeout=60)
        assert second.returncode == 1
        assert told.startswith(f"tape: {SOURCE} in data is written already, {process} changed. ")
        assert "`tape down --data data` stops it" in told
    tape.run("repair", "--yes")


@pytest.mark.slow
def test_repair_goes_on_where_nobody_reads_what_it_says(command, tmp_path: Path):
    # `tape repair --yes | head -1`, of two sources: both are whole then.
    tape = command(tmp_path)
    import_trades(tape, 100)
    tape.run("import", SOURCE, "capture.txt", "--source", "other")
    for source in (SOURCE, "other"):
        path = segments(tmp_path / "data/tape" / source / "market-data.normalized")[0]
        flip(path, frames_of(path)[0] + 60)
    for yes, code in (([], 1), (["--yes", "--feed", SOURCE], 0)):
        process = tape.start("repair", *yes)
        process.stdout.close()
        assert process.wait(timeout=60) == code
    tape.run("verify")
