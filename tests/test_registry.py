"""The registry of members: what is named in the settings, and what is said of a wrong name."""

import dataclasses
import subprocess
import sys

import pytest

from tapeworks.errors import ConfigError
from tapeworks.registry import CONTRACTS, MEMBERS, load_member, load_settings


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, names in MEMBERS.items() for name in names]
)
def test_every_line_of_the_table_leads_to_a_member(kind: str, name: str):
    # Each is there, and its settings are a frozen dataclass beside it.
    assert callable(load_member(kind, name))
    if kind in CONTRACTS:
        settings = load_settings(kind, name)
        assert dataclasses.is_dataclass(settings)
        assert settings.__dataclass_params__.frozen


@pytest.mark.parametrize("kind", MEMBERS)
def test_an_unknown_member_is_told_with_those_that_exist(kind: str):
    # Every name of the table stands in the message.
    with pytest.raises(ConfigError, match=rf"expected a {kind} of .*got 'paper'") as caught:
        load_member(kind, "paper")
    assert all(name in str(caught.value) for name in MEMBERS[kind])


def test_settings_load_no_more_than_they_need():
    # In a fresh interpreter: the settings of the default pipeline and of a view open no module of
    # sockets.
    code = (
        "import sys\n"
        "from tapeworks.config import Section\n"
        "from tapeworks.settings import resolve_config\n"
        "views = Section('views', {'metrics': Section('views.metrics')})\n"
        "assert resolve_config(Section('', {'views': views})).views['metrics'].port\n"
        "print([name for name in ('picows', 'aiohttp') if name in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert told.stdout.strip() == "[]"


def test_a_venue_is_known_by_its_former_name():
    assert load_settings("feed", "polygon") is load_settings("feed", "massive")
    assert load_member("feed", "polygon") is load_member("feed", "massive")
