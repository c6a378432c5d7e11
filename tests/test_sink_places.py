"""A sink is everywhere where CONTRIBUTING.md says that one has to be."""

import re
import tomllib

import pytest
from tests.stores.campaign import STORES
from tests.test_layout import ROOT

from tapeworks.registry import MEMBERS

# The lake has a page and campaigns of its own, and notifications are messages: no store of rows.
PAGES = {"parquet": "formats/lake.md", "notify": "alerts.md"}
# What needs a library is an extra of its name; the line protocol of QuestDB needs none.
BUILT_IN = {"parquet", "questdb"}


@pytest.mark.parametrize("sink", MEMBERS["sink"])
def test_a_sink_has_its_page_its_campaign_and_its_extra(sink: str):
    # The page is in the navigation and names the table of settings; the store is attacked. Which
    # sinks the conformance suite lacks it says by itself.
    page = PAGES.get(sink, f"stores/{sink}.md")
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert re.search(rf"^ +- (?:.*: )?{re.escape(page)}$", nav, re.MULTILINE), page
    if sink != "parquet":
        assert f"[sinks.{sink}]" in (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert sink in STORES or sink in PAGES
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert sink in project["optional-dependencies"] or sink in BUILT_IN
    assert (ROOT / "tests" / "sinks" / f"test_{sink}.py").is_file()
