"""The pages of stores of rows name every table that such a store has."""

from pathlib import Path

import pytest

from tapeworks.sinks.store_tables import TABLES

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "stores"


@pytest.mark.parametrize("store", ["clickhouse", "postgres", "questdb"])
def test_the_first_paragraph_names_all_tables(store: str):
    # What a reader is told of the store before anything else is all that it holds.
    _, first, *_ = (FOLDER / f"{store}.md").read_text().split("\n\n")
    told = first.lower().replace("\n", " ")
    assert [table.name for table in TABLES if table.name not in told] == []
