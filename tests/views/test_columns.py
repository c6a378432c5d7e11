"""What columns hold is said of every one of them, in SQL and on a page."""

import os
from pathlib import Path

import pytest

import tapeworks as tw
from tapeworks import lake
from tapeworks.views.columns import COLUMNS, OWN, describe, page

PAGE = Path(__file__).resolve().parents[2] / "docs" / "formats" / "columns.md"
# Read here: no test sees such a variable.
WRITES = "TAPEWORKS_WRITE" in os.environ
# What fits beside name, type, unit and origin.
MEANING_MAX = 90


@pytest.mark.parametrize("table", lake.TABLES.values(), ids=lambda table: table.name)
def test_every_column_is_described_and_no_other(table: lake.Table):
    # A new column is told of; one that is gone is not.
    names = {*lake.empty_rows(table).schema.names, "venue", "date"}
    assert [name for name in sorted(names) if not describe(table, name).meaning] == []
    assert set(OWN.get(table.name, {})) <= names
    assert [name for name in names if len(describe(table, name).meaning) > MEANING_MAX] == []
    for name in names:
        if name.startswith("ts_") and not name.endswith("_ns"):
            assert describe(table, name).unit == "UTC"


def test_common_columns_are_in_some_table():
    # Those of views apart.
    names = {name for table in lake.TABLES.values() for name in lake.empty_rows(table).schema.names}
    of_options = {"underlying", "expiry", "option_right", "strike"}
    assert set(COLUMNS) - names == {"venue", "date", "partial", *of_options}


def test_the_page_of_columns_is_made_of_the_tables():
    # Make the page and compare it with the one in docs/formats.
    if WRITES:
        PAGE.write_text(page(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page(), "columns.md is old: make it anew"


@pytest.mark.parametrize("name", ["trades", "bars", "bar_revisions"])
def test_describe_says_what_columns_hold(spine, maker, name):
    # All that the table shows, in its order.
    spine.append(maker.definitions())
    opened = tw.open(spine.path)
    told = opened.sql(f"describe {name};").to_pylist()
    assert [row["column_name"] for row in told] == opened.sql(f"select * from {name}").columns
    assert all(row["meaning"] for row in told)
    units = {row["column_name"]: row["unit"] for row in told}
    assert (units["ts_event"], units["ts_event_ns"]) == ("UTC", "ns")
    assert units["size" if name == "trades" else "volume"] == "base"


def test_describe_of_a_query_is_that_of_duckdb(spine, maker):
    # Its columns may be anything.
    spine.append(maker.definitions())
    told = tw.open(spine.path).sql("describe select price as ts_event from trades").to_pylist()
    assert [(row["column_name"], row["column_type"]) for row in told] == [
        ("ts_event", "DECIMAL(19,9)")
    ]
