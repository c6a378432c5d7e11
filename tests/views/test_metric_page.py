"""The page of metrics is what the core's table says, and every metric that is made is on it."""

import os
from pathlib import Path

from tapeworks._core import metric_sets, metric_table
from tapeworks.views.metric_page import COSTS, page

WRITES = "TAPEWORKS_WRITE" in os.environ
PAGE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"


def test_page_is_made_of_the_table():
    if WRITES:
        PAGE.write_text(page(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page(), "its first lines say how to make it anew"


def test_every_metric_says_all():
    # A set without a line, a line without a word, a name twice: each would be a riddle.
    names = [name for _, name, *_ in metric_table()]
    assert len(names) == len(set(names))
    assert {line[0] for line in metric_table()} == {name for name, _ in metric_sets()}
    # What a set costs is measured, but for those of which the benchmark has no events.
    unmeasured = {name for name, _ in metric_sets()} - COSTS.keys()
    assert unmeasured == {"depth", "mlofi", "ofi_integrated", "orders"}
    assert all(text and "|" not in text for line in metric_table() for text in line)
