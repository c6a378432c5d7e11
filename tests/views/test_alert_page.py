"""The page of alerts is what the core's table says, and says all of each rule."""

import os
from pathlib import Path

from tapeworks._core import detector_table
from tapeworks.views.alert_page import page

WRITES = "TAPEWORKS_WRITE" in os.environ
PAGE = Path(__file__).resolve().parents[2] / "docs" / "alerts.md"


def test_page_is_made_of_the_table():
    if WRITES:
        PAGE.write_text(page(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page(), "its first lines say how to make it anew"


def test_every_rule_says_all():
    # A rule without a word, a name twice, a default out of its range: each would be a riddle.
    names = [head[0] for head, _, _ in detector_table()]
    assert len(names) == len(set(names))
    for head, numbers, texts in detector_table():
        assert all(head[:3])
        assert all(name and about and "|" not in about for name, _, about in texts)
        for name, default, least, most, about in numbers:
            assert name, head
            assert about, name
            assert "|" not in about, name
            assert least <= default <= most, name
