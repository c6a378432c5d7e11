"""The package as users install it: a wheel, made from the source distribution alone."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from conftest import ROOT

pytestmark = [pytest.mark.wheel, pytest.mark.timeout(900)]

SIZE_MAX = 4 << 20
"""In bytes: half of it is compiled code without its symbols."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that `scripts/wheel` builds."""
    folder = tmp_path_factory.mktemp("dist")
    run([ROOT / "scripts" / "wheel", folder], ROOT)
    [source] = folder.glob("*.tar.gz")
    assert source.stat().st_size < SIZE_MAX
    [built] = folder.glob("*.whl")
    return built


def run(words: list[object], folder: Path) -> str:
    """Runs a command in a folder, with nothing of this environment; returns what it printed."""
    dropped = ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME")
    shown = subprocess.run(
        [str(word) for word in words],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name not in dropped},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert shown.returncode == 0, shown.stdout + shown.stderr
    return shown.stdout


def test_wheel_is_small_and_holds_the_package_alone(wheel: Path):
    # For each Python from 3.11 on, on Linux for any glibc from 2.17 on; types and the example file
    # are in it, tests and sources of the core are not.
    assert "-cp311-abi3-" in wheel.name
    if sys.platform == "linux":
        assert "manylinux_2_17" in wheel.name
    assert wheel.stat().st_size < SIZE_MAX
    names = zipfile.ZipFile(wheel).namelist()
    for name in ("py.typed", "_core.pyi", "_core.abi3.so", "tapeworks.example.toml"):
        assert f"tapeworks/{name}" in names
    folders = {name.partition("/")[0].partition("-")[0] for name in names}
    assert folders == {"tapeworks"}
    assert not [name for name in names if name.endswith((".rs", ".pyc"))]


def test_fresh_environment_passes_the_demo(wheel: Path, tmp_path: Path):
    # Nothing but the wheel and what it depends on, outside of the repository: the demo proves
    # itself, and Python and SQL answer from what it recorded.
    run([sys.executable, "-m", "venv", "fresh"], tmp_path)
    programs = tmp_path / "fresh" / "bin"
    run([programs / "pip", "install", "--quiet", "--disable-pip-version-check", wheel], tmp_path)
    proof = json.loads(run([programs / "tape", "demo", "--seconds", "6", "--json"], tmp_path))
    assert proof["holds"]
    script = (
        "import tapeworks as tw; print(tw.__file__); "
        "print(len(tw.open('demo').trades('BTCUSDT', source='binance-spot')))"
    )
    place, count = run([programs / "python", "-c", script], tmp_path).split()
    assert Path(place).is_relative_to(tmp_path / "fresh")
    sql = "select count(*) as n from trades where symbol = 'BTCUSDT' and venue = 'binance-spot'"
    told = run([programs / "tape", "query", sql, "--data", "demo", "-f", "json"], tmp_path)
    assert json.loads(told) == [{"n": int(count)}]
