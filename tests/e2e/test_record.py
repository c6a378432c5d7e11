"""`tape record` against a simulated exchange: what goes wrong is said in one line."""

import os
import subprocess
import sys
from pathlib import Path

from tapeworks.simulators import start_simulator

START = "from tapeworks.cli import main; main()"


def test_wrong_symbol_stops_the_recording_at_once(tmp_path: Path):
    # No restart would help: the venue's answer, the exit code of a recording without anything, no
    # traceback.
    with start_simulator("--symbols", "BTCUSDT", log=tmp_path / "simulator.log") as simulator:
        shown = subprocess.run(
            [
                *(sys.executable, "-c", START, "record", "binance", "NOSUCHUSDT"),
                *("--set", f"ws_url={simulator.ws_url}", "--set", f"rest_url={simulator.rest_url}"),
                *("--seconds", "60"),
            ],
            cwd=tmp_path,
            env={**os.environ, "NO_COLOR": "1"},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
    assert shown.returncode == 3, shown.stderr
    assert "Invalid symbol" in shown.stderr
    assert "check the symbols" in shown.stderr
    assert "Traceback" not in shown.stderr
