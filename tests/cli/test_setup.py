"""Setting up: what is missing is named with the line that installs it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# What the script itself stands on; every fresh machine has these.
BASIC = ("bash", "dirname", "env", "find", "sort", "xargs", "cat", "sed", "tr", "head", "tail")


def run_build(path: Path, home: Path) -> subprocess.CompletedProcess[str]:
    bash = shutil.which("bash")
    assert bash is not None
    return subprocess.run(
        [bash, str(ROOT / "scripts" / "build")],
        env={"PATH": str(path), "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def bare_path(tmp_path: Path) -> Path:
    """A PATH with the basics and nothing to build with."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in BASIC:
        found = shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(found)
    return folder


def add(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!{shutil.which('bash')}\n{script}\n")
    path.chmod(0o755)


def test_everything_missing_is_named_at_once(bare_path: Path, tmp_path: Path):
    # A user installs all of it in one go, not one failure after the other.
    shown = run_build(bare_path, tmp_path)
    assert shown.returncode == 1
    assert "missing: Python 3.11 or newer" in shown.stderr
    assert "sudo apt-get install -y python3 python3-venv" in shown.stderr
    assert "missing: a Rust toolchain (cargo)" in shown.stderr
    assert "https://sh.rustup.rs" in shown.stderr
    assert "missing: a C compiler (cc)" in shown.stderr
    assert "sudo apt-get install -y gcc" in shown.stderr


def test_old_python_counts_as_missing(bare_path: Path, tmp_path: Path):
    # An interpreter that answers every question about its version with failure.
    add(bare_path, "python3", "exit 1")
    shown = run_build(bare_path, tmp_path)
    assert "missing: Python 3.11 or newer" in shown.stderr


def test_only_what_is_missing_is_named(bare_path: Path, tmp_path: Path):
    # With Python and cargo there, only the compiler is asked for; and brew changes the line.
    add(bare_path, "python3", "exit 0")
    add(bare_path, "cargo", "exit 0")
    add(bare_path, "brew", "exit 0")
    shown = run_build(bare_path, tmp_path)
    assert shown.returncode == 1
    assert "missing: a C compiler (cc)\n  install it with: brew install gcc" in shown.stderr
    assert "Python" not in shown.stderr
    assert "Rust" not in shown.stderr


def test_cargo_is_found_where_rustup_puts_it(bare_path: Path, tmp_path: Path):
    # A shell that is older than the installation does not have ~/.cargo/bin in its PATH.
    add(bare_path, "python3", "exit 0")
    cargo = tmp_path / ".cargo" / "bin"
    cargo.mkdir(parents=True)
    add(cargo, "cargo", "exit 0")
    shown = run_build(bare_path, tmp_path)
    assert "Rust" not in shown.stderr
    assert "missing: a C compiler (cc)" in shown.stderr


def test_nothing_is_done_when_nothing_changed():
    # The tests run in an environment that scripts/build made: a second call must be at once.
    if not (ROOT / ".venv" / "tapeworks.stamp").is_file():
        pytest.skip("this environment was not made by scripts/build")
    shown = subprocess.run(
        [ROOT / "scripts" / "build"],
        env={**os.environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert shown.returncode == 0
    assert "building" not in shown.stderr
