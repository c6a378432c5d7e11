"""`tape import` of what has trades in one form only."""

import json
import os
import subprocess
import sys
from pathlib import Path

import tapeworks as tw

START = "from tapeworks.cli import main; main()"
STARTED_MS = 1_723_161_255_000


def test_bars_and_ticks_of_aggregate_trades_alone_are_stored(tmp_path: Path):
    # No settings say what was subscribed, as they do for a recording.
    lines = []
    for number in range(120):
        ms = STARTED_MS + number * 100
        data = {"e": "aggTrade", "E": ms, "s": "BTCUSDT", "a": number, "p": "61837.63", "q": "0.5"}
        data |= {"f": number, "l": number, "T": ms, "m": True, "M": True}
        lines.append(f"{ms} {json.dumps({'stream': 'btcusdt@aggTrade', 'data': data})}")
    (tmp_path / "capture.txt").write_text("\n".join(lines))
    shown = subprocess.run(
        [sys.executable, "-c", START, "import", "binance-spot", "capture.txt"],
        cwd=tmp_path,
        env={**os.environ, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr
    lake = tw.open(tmp_path / "data")
    counts = "select count(*) from {} where interval_ms = 1000 and closed = 1"
    [bars] = lake.sql(counts.format("bar_revisions")).to_pylist()
    [ticks] = lake.sql("select count(*) from ticks").to_pylist()
    assert [*bars.values(), *ticks.values()] == [11, 120]
