"""What tests build from. Tests build components through this file only."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Recordings lie beside the repository, where they are there at all.
REAL_DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps the developer's own TAPEWORKS_ variables out of the tests."""
    for name in list(os.environ):
        if name.startswith("TAPEWORKS_"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of recordings: a skip without it, a failure in CI."""
    if not REAL_DATA.is_dir():
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI wanted the recordings at {REAL_DATA}, found none")
        pytest.skip(f"no recordings at {REAL_DATA}")
    return REAL_DATA
