"""The types of the native module, as written by hand, against the module itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy", reason="part of the lint extra; .ci/run installs it")

pytestmark = pytest.mark.types

PACKAGE_ROOT = Path(__file__).resolve().parents[1] / "python"
# The buffer protocol has a method from Python 3.12 on; PyO3 lists all names by itself.
ALLOWED = Path(__file__).with_name("stub_allowed.txt")


def test_stub_matches_the_native_module():
    # stubtest imports the module and compares names, arguments and defaults.
    shown = subprocess.run(
        [
            *(sys.executable, "-m", "mypy.stubtest", "tapeworks._core"),
            *("--allowlist", str(ALLOWED), "--ignore-unused-allowlist"),
        ],
        env={**os.environ, "MYPYPATH": str(PACKAGE_ROOT)},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert shown.returncode == 0, shown.stdout + shown.stderr
