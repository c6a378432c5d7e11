"""Pages that are made of the code lack nothing of it, and the picture is that of the screen."""

import dataclasses
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

import tapeworks as tw
from tapeworks import errors
from tapeworks.jobs.base import WholeSourcesConfig

FOLDER = Path(__file__).resolve().parents[2] / "scripts" / "pages"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"pages_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_setting_is_on_its_page_with_its_default_and_meaning():
    # The top level holds tables but for `data`; every field of the others is a row.
    reference = load("reference")
    page = reference.config()
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| `")]
    parts = dict(part.split("\n", 1) for part in page.split("\n## ")[1:])
    names = {
        title: {line.split(" | ")[0].strip("| `") for line in part.splitlines()}
        for title, part in parts.items()
    }
    assert "data" in names["Top level"]
    for section, target in reference.SECTIONS.items():
        for field in dataclasses.fields(target):
            # A built-in one is of the kind that its name says.
            is_plain = field.name != "kind" and not field.metadata.get("inline")
            # A job on whole sources refuses symbols.
            is_taken = field.name != "symbols" or not issubclass(target, WholeSourcesConfig)
            if section and is_plain and is_taken:
                assert field.name in names[f"[{section}]"], (section, field.name)
    assert all(len(row) == 4 and row[3].strip("| ") for row in rows)
    assert "# [processors.large]" in page


def test_every_public_name_and_error_is_in_the_reference():
    # Exceptions are on a page of their own, in the tree and one by one.
    reference = load("reference")
    told = reference.python() + reference.errors_page()
    for name in set(tw.__all__) - {"__version__"}:
        assert f".{name}\n" in told or hasattr(errors, name)
    for name, one in vars(errors).items():
        if isinstance(one, type) and issubclass(one, errors.TapeworksError):
            assert re.search(rf"^ *{name}\b", told, re.MULTILINE), name
    assert "  3  it ran" in told


def test_help_of_a_command_is_what_the_command_prints():
    # One of them: all take half a minute, and are built with the site.
    assert "tape gaps --json" in load("reference")._help("gaps")


@pytest.mark.parametrize("recorded", [False, True])
def test_picture_is_the_screen_and_fetches_nothing(tmp_path: Path, recorded: bool):
    # Of an empty folder, and of one with a lake alone.
    if recorded:
        (tmp_path / "lake").mkdir()
    svg = load("picture").draw(tmp_path, 1, 0)
    assert svg.startswith("<svg")
    assert "tape&#160;demo" in svg or "tape demo" in svg
    assert "@font-face" not in svg
    assert "url(http" not in svg
