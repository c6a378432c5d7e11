"""The types of the native module, as written by hand, against the module itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy", reason="part of the lint extra; .ci/run installs it")

PACKAGE_ROOT = Path(__file__).resolve().parents[1] / "python"


def test_stub_matches_the_native_module():
    # stubtest imports the module and compares names, arguments and defaults.
    shown = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "tapeworks._core"],
        env={**os.environ, "MYPYPATH": str(PACKAGE_ROOT)},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert shown.returncode == 0, shown.stdout + shown.stderr
