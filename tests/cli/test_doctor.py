"""`tape doctor`: each thing is looked at, each trouble comes with what to do."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import RecordMaker, SpineFolder
from tapeworks.tape import TapeWriter
from tapeworks.views.status import folder_bytes, growth_per_s

START = "from tapeworks.cli import main; main()"
# A port on which nothing listens: the check must warn, not hang and not fail.
CLOSED = {
    "TAPEWORKS_FEEDS__BINANCE_SPOT__WS_URL": "ws://127.0.0.1:1",
    "TAPEWORKS_FEEDS__BINANCE_SPOT__REST_URL": "off",
}


def doctor(cwd: Path, **environment: str) -> tuple[int, dict[str, dict[str, str]]]:
    shown = subprocess.run(
        [sys.executable, "-c", START, "doctor", "--json"],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in shown.stderr, shown.stderr
    return shown.returncode, {finding["name"]: finding for finding in json.loads(shown.stdout)}


def test_everything_is_looked_at(tmp_path: Path):
    # The list of the help text: clock, disk, limits, ports, settings, versions.
    code, findings = doctor(tmp_path, TAPEWORKS_VIEWS__METRICS__PORT="0", **CLOSED)
    wanted = {"settings", "versions", "processors", "memory", "clock sync", "clock steady"}
    wanted |= {
        "disk sync",
        "disk space",
        "tapes",
        "open files",
        "locked memory",
        "memory maps",
        "reach",
    }
    assert set(findings) == wanted
    assert code == (1 if any(found["state"] == "fail" for found in findings.values()) else 0)
    assert findings["settings"]["state"] == "ok"
    assert "; sinks parquet; views metrics; data in" in findings["settings"]["found"]


def test_trouble_comes_with_advice(tmp_path: Path):
    # The closed port: a warning that names host and port, and says when it matters.
    _, findings = doctor(tmp_path, **CLOSED)
    assert findings["reach"]["state"] == "warn"
    assert "127.0.0.1:1" in findings["reach"]["found"]
    assert all(found["advice"] for found in findings.values() if found["state"] != "ok")


def test_wrong_settings_fail_and_the_rest_is_still_looked_at(tmp_path: Path):
    # One misspelt key: exit code 1, its message, and all other findings.
    (tmp_path / "tapeworks.toml").write_text("dat = 3\n")
    code, findings = doctor(tmp_path)
    assert code == 1
    assert findings["settings"]["state"] == "fail"
    assert "did you mean data?" in findings["settings"]["found"]
    assert "disk sync" in findings


def test_nothing_is_told_of_a_day_where_nothing_records(tmp_path: Path):
    # After an import of a capture: the tapes do not grow, however fast they were written.
    spine = SpineFolder(tmp_path / "data")
    spine.append(RecordMaker().definitions())
    spine.append(RecordMaker().trades(2_000))
    spine.close()
    _, findings = doctor(tmp_path, **CLOSED)
    assert findings["tapes"]["found"].startswith("1 tapes take ")
    assert "a day" not in findings["tapes"]["found"]
    # By the time of receipt: 200 s in all, 50 s in the newest quarter are too few to tell.
    assert growth_per_s(spine.tape()) == 0
    with TapeWriter(spine.tape()) as writer:
        writer.append(RecordMaker().trades(4_000, 2_000).tobytes())
        writer.sync()
    per_s = folder_bytes(spine.tape()) / 600
    assert growth_per_s(spine.tape()) == pytest.approx(per_s, rel=0.1)


def test_advice_is_shown_as_it_is(tmp_path: Path):
    # What looks like markup is part of a path, or a table of the settings.
    data = tmp_path / "[bold]x"
    data.mkdir()
    shown = subprocess.run(
        [sys.executable, "-c", START, "doctor", "--data", str(data)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "[bold]x" in "".join(shown.stdout.split())
