"""What type checkers and editors see of the package: whole signatures, and no more names."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy", reason="part of the lint extra; .ci/run installs it")
pytest.importorskip("pyright", reason="part of the lint extra; .ci/run installs it")

pytestmark = pytest.mark.types

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "tests" / "typing"
CHECKERS = {
    "mypy": ("-m", "mypy", "--strict", "--cache-dir", str(ROOT / ".mypy_cache" / "user")),
    "pyright": ("-m", "pyright", "--pythonpath", sys.executable),
}
LINE = re.compile(r"script\.py:(\d+)(?::\d+)?:? (?:- )?error")


def complaints(checker: str, script: str, folder: Path) -> tuple[list[int], str]:
    """Returns the lines of which a type checker complains, and all that it says.

    It runs in another folder, so that the package is found as a user's is, and no settings apply.
    """
    copy = folder / "script.py"
    shutil.copy(SCRIPTS / script, copy)
    shown = subprocess.run(
        [sys.executable, *CHECKERS[checker], copy.name],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    told = shown.stdout + shown.stderr
    assert shown.returncode in (0, 1), told
    return sorted({int(found) for found in LINE.findall(told)}), told


@pytest.mark.parametrize("checker", CHECKERS)
def test_script_of_a_user_is_accepted(checker: str, tmp_path: Path):
    # With every question and every form of an answer, each asserted to be of the type it says.
    found, told = complaints(checker, "user_script.py", tmp_path)
    assert found == [], told
    assert "0 errors" in told or "no issues found" in told, told


@pytest.mark.parametrize("checker", CHECKERS)
def test_mistakes_of_a_user_are_named(checker: str, tmp_path: Path):
    # Unknown names, wrong types and words that are none: nothing is hidden behind `Any`.
    lines = (SCRIPTS / "wrong_script.py").read_text(encoding="utf-8").splitlines()
    wrong = [number for number, line in enumerate(lines, 1) if line.endswith("# wrong")]
    found, told = complaints(checker, "wrong_script.py", tmp_path)
    assert found == wrong, told
