"""A recorder that starts while the host's clock says what cannot be."""

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from tests.disk import library

from conftest import Command
from tapeworks.feeds.recording_clock import EARLIEST

SHIM = Path(__file__).parents[1] / "clock.c"
START = "from tapeworks.cli import main; main()"
YEAR_S = 365 * 86_400
# Nobody answers there.
SETTINGS = """
[feeds.binance-spot]
symbols = ["BTCUSDT"]
ws_url = "ws://127.0.0.1:9"
rest_url = "http://127.0.0.1:9"
"""


def log_of(folder: Path, moved_s: int) -> list[str]:
    """Starts a recorder whose clock is `moved_s` off; returns its log up to the first trouble."""
    (folder / "tapeworks.toml").write_text(SETTINGS)
    (folder / "clock").write_bytes(struct.pack("<q", moved_s))
    environment = {**os.environ, "LD_PRELOAD": str(library(folder, SHIM))}
    environment["CLOCK_OFFSET"] = str(folder / "clock")
    lines = []
    with subprocess.Popen(
        [sys.executable, "-c", START, "worker", "recorder", "binance-spot"],
        cwd=folder,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            lines.append(line)
            if "127.0.0.1:9" in line:
                process.terminate()
    return lines


def warnings(lines: list[str]) -> list[str]:
    return [line for line in lines if "the host's clock must be wrong" in line]


@pytest.mark.slow
def test_clock_that_cannot_be_right_is_told_at_the_start(tmp_path: Path):
    # The true time; a year before 1970; a year before what is on the tape.
    assert not warnings(log_of(tmp_path, 0))
    (tmp_path / "other").mkdir()
    [told] = warnings(log_of(tmp_path / "other", -60 * YEAR_S))
    assert "it says 196" in told
    (tmp_path / "later").mkdir()
    tape = Command(tmp_path / "later")
    ts = int(EARLIEST.timestamp()) + 3 * YEAR_S
    (tmp_path / "later" / "capture.txt").write_text(f'{ts}000000000 {{"stream":"x"}}\n')
    tape.run("import", "binance-spot", "capture.txt", code=3)
    tape.close()
    now = int((tmp_path / "clock").stat().st_mtime)
    [told] = warnings(log_of(tmp_path / "later", ts - 2 * YEAR_S - now))
    assert "it says 2020-12-31" in told
    assert "receive times go on from 2022-12-31" in told
