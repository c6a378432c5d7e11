"""The example of the settings shows every member of the registry, each setting with its default."""

import dataclasses
import re
import tomllib
from importlib.resources import files
from typing import Any

import pytest

from tapeworks.registry import MEMBERS, load_settings

TEXT = files("tapeworks").joinpath("tapeworks.example.toml").read_text()
# What is run by a command of its own needs no table.
COMMANDS = {"catch-up", "lake-rebuild", "repair"}
KINDS = ("feed", "sink", "view", "job")
NAMED = [(kind, name) for kind in KINDS for name in MEMBERS[kind] if name not in COMMANDS]
# What has no default that could run, and what names the member and its source.
OWN = {"symbols", "lines", "source", "kind"}


def written(kind: str, name: str) -> str:
    """Returns the settings of the table of a member, commented out or not."""
    head = rf"^(?:# )?\[{kind}s\.{name}(?:-\w+)?\]$"
    found = re.search(rf"{head}\n((?:^.+$\n)*)", TEXT, re.MULTILINE)
    assert found is not None, f"expected a table [{kind}s.{name}] in tapeworks.example.toml"
    lines = [line.removeprefix("# ") for line in found[1].splitlines()]
    # Of a table that belongs to it, such as that of a client library, the lines are an example.
    end = next((n for n, line in enumerate(lines) if line.startswith("[")), len(lines))
    return "\n".join(line for line in lines[:end] if re.match(r"\w+ = ", line))


def default(field: "dataclasses.Field[Any]") -> object:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return list(field.default) if isinstance(field.default, tuple) else field.default


@pytest.mark.parametrize(("kind", "name"), NAMED, ids=[f"{kind}-{name}" for kind, name in NAMED])
def test_the_example_shows_the_defaults_of_every_member(kind: str, name: str):
    # Without its signs a table changes nothing; no secret stands in it.
    shown = tomllib.loads(written(kind, name))
    settings = {one.name: one for one in dataclasses.fields(load_settings(kind, name))}
    secret = {name for name, one in settings.items() if one.metadata.get("secret")}
    defaults = {one: default(field) for one, field in settings.items() if one not in secret | OWN}
    tables = {name for name, value in defaults.items() if value == {}}
    assert all(f"[{kind}s.{name}.{table}]" in TEXT for table in tables)
    expected = {one: value for one, value in defaults.items() if one not in tables}
    assert {one: value for one, value in shown.items() if one not in OWN} == expected
    assert not secret & shown.keys()
