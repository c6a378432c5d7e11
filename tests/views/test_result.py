"""Answers as frames, streams, columns and pictures: exact where asked, and never in the way."""

import re
from decimal import Decimal
from textwrap import wrap

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import tapeworks as tw
from conftest import START
from tapeworks import lake
from tapeworks.errors import QueryError
from tapeworks.views.frames import SHADOWED, unshadowed
from tapeworks.views.result import Result

# Arrow's own cast of decimals misses the nearest float of some; the last ones are beyond 53 bits.
UNITS = [337_641_740_000_000, 61_801_160_000_000, 1, -5, 2**63 - 2, -(2**53) - 1]
ZONE = "datetime64[us, UTC]"


@pytest.fixture
def opened(spine, maker):
    """Trades of BTCUSDT a second and a nanosecond apart, and one of ETHUSDT without a price."""
    spine.append(maker.definitions())
    ts = START + np.arange(len(UNITS)) * 1_000_000_001
    spine.append(
        maker.rows("trade", len(UNITS), instrument=1, price=UNITS, size=UNITS, ts_event=ts)
    )
    return tw.open(spine.path)


def floats(places: int) -> list[float]:
    return [float(Decimal(unit).scaleb(-places)) for unit in UNITS]


def test_frames_hold_the_nearest_floats(opened):
    # Plain and within lists, in files of either library; the result itself stays exact.
    result = opened.trades("BTCUSDT")
    pandas, polars = result.to_pandas(), result.to_polars()
    for column, places in (("price", 9), ("size", 8)):
        assert pandas["size_" if column == "size" else column].tolist() == floats(places)
        assert polars[column].to_list() == floats(places)
    assert polars.schema["price"] == pl.Float64
    assert str(pandas["ts_event"].dtype) == ZONE
    assert polars.schema["ts_event"] == pl.Datetime("us", "UTC")
    sql = "select list(price order by tape_offset) as prices, sum(price) as total from trades"
    listed = opened.sql(sql)
    assert listed.to_pandas()["prices"][0].tolist() == floats(9)
    assert listed.to_polars()["prices"][0].to_list() == floats(9)
    assert listed.to_pandas()["total"][0] == float(listed["total"][0].as_py())


def test_absent_values_stay_absent_in_frames(opened):
    # NaN in pandas and null in Polars, also within lists, and in lists that are absent themselves.
    sql = "select {0} as x from (values (1.5::decimal(19,9)), (null), (2.5)) t(x)"
    plain = opened.sql(sql.format("x"))
    assert plain.to_polars()["x"].to_list() == [1.5, None, 2.5]
    assert np.isnan(plain.to_pandas()["x"][1])
    listed = opened.sql(sql.format("case when x < 2 then [x, null] when x > 2 then [x] end"))
    assert listed.to_polars()["x"].to_list() == [[1.5, None], None, [2.5]]


def test_decimals_are_exact_where_asked(opened):
    # The very units of the tape.
    result = opened.trades("BTCUSDT")
    exact = [Decimal(unit).scaleb(-9) for unit in UNITS]
    assert result["price"].to_pylist() == exact
    assert result.to_pandas(decimals=True)["price"].tolist() == exact
    assert result.to_polars(decimals=True)["price"].to_list() == exact


def test_no_column_is_hidden_by_a_frame(opened):
    # Whatever a table has can be had as an attribute; what a query names keeps its name.
    for name in lake.TABLES:
        columns = opened.sql(f"select * from {name}").columns
        renamed = unshadowed(pa.table({column: pa.array([0]) for column in columns}))
        assert not [one for one in renamed.column_names if hasattr(pd.DataFrame, one)], name
    frame = opened.trades("BTCUSDT").to_pandas()
    assert frame.size_.tolist() == floats(8)
    assert frame.size == len(frame) * len(frame.columns)
    assert all(hasattr(pd.DataFrame, name) for name in SHADOWED)
    asked = opened.sql("select symbol, count(*) as count from trades group by all").to_pandas()
    assert asked["count"].tolist() == [len(UNITS)]


def test_an_index_of_times_is_exact(opened):
    # To the nanosecond, in UTC, and the rows can be resampled by it.
    result = opened.trades("BTCUSDT")
    frame = result.to_pandas(index="ts_event")
    assert str(frame.index.dtype) == "datetime64[ns, UTC]"
    assert frame.index.asi8.tolist() == [START + n * 1_000_000_001 for n in range(len(UNITS))]
    assert "ts_event_ns" not in frame
    assert frame["price"].resample("1s").ohlc()["open"].tolist() == floats(9)
    both = result.to_pandas(index=["symbol", "ts_event"])
    assert both.index.names == ["symbol", "ts_event"]
    assert both.loc["BTCUSDT"].index.equals(frame.index)
    assert result.to_pandas(index="count").index.name == "count_"
    with pytest.raises(QueryError, match=r"expected an index of symbol, .* got 'time'"):
        result.to_pandas(index="time")
    for wrong in (True, 5, [5]):
        with pytest.raises(QueryError, match="expected an index of names of columns, got"):
            result.to_pandas(index=wrong)


def test_a_result_is_an_arrow_stream(opened):
    # Taken by each library as it is, exact, as often as one likes.
    result = opened.trades("BTCUSDT")
    for _ in range(2):
        assert pa.table(result).equals(result.to_arrow())
    assert pl.DataFrame(result)["price"].to_list() == result["price"].to_pylist()
    total = duckdb.sql("select sum(price) from result").fetchall()
    assert total == [(sum(result["price"].to_pylist()),)]
    assert pa.schema(result.schema) == result.to_arrow().schema


def test_columns_of_one_name_are_told_apart(opened):
    # As a join of two tables has them: none is lost, in rows, frames or JSON, and the rest of a
    # time stays with its time.
    pair = "from trades a join trades b on a.tape_offset = b.tape_offset - 1 order by a.tape_offset"
    result = opened.sql(f"select a.price, b.price, a.size as price_1 {pair}")
    assert result.columns == ["price", "price_2", "price_1"]
    assert list(result[0].values()) == [row[0] for row in result.to_arrow().to_pydict().values()]
    assert result.to_polars().columns == result.to_pandas().columns.tolist() == result.columns
    every = opened.sql(f"select a.ts_event, b.ts_event, b.ts_event_ns, a.*, b.* {pair}")
    assert len(set(every.columns)) == len(every.columns)
    assert every.columns[:3] == ["ts_event", "ts_event_1", "ts_event_1_ns"]
    row = every.to_pylist()[0]
    assert row["ts_event_1"] == "2023-11-17T23:00:01.000000001Z"
    assert row["ts_event_2"] == "2023-11-17T23:00:00.000000000Z"
    assert row["ts_event_3"] == row["ts_event_1"]


def test_a_result_is_read_in_batches_and_by_column(opened):
    # All rows once, in order; a wrong name or number says what there is.
    result = opened.trades("BTCUSDT")
    sizes = [batch.num_rows for batch in result.batches(4)]
    assert sizes == [4, 2]
    assert pa.Table.from_batches(result.batches(4)).equals(result.to_arrow())
    some = result[["price", "symbol"]]
    assert some.columns == ["price", "symbol"]
    assert len(some) == len(result)
    assert some.coverage().to_pylist() == result.coverage().to_pylist()
    for wrong in ("pric", ["price", "pric"]):
        with pytest.raises(KeyError, match=r"expected a column of symbol, .* got 'pric'"):
            result[wrong]
    with pytest.raises(QueryError, match="expected batches of 1 row or more, got 0"):
        list(result.batches(0))


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120, 400])
def test_a_result_is_shown_within_the_terminal(opened, monkeypatch, width):
    # Prices are there wherever there is room for them, and what is not shown is named.
    monkeypatch.setenv("COLUMNS", str(width))
    result = opened.trades("BTCUSDT")
    lines = repr(result).splitlines()
    assert max(map(len, lines)) <= width
    told = [line for notice in result.notices() for line in wrap(notice, width)]
    assert lines[-len(told) :] == told
    lines = lines[: -len(told)]
    assert lines[0].startswith(f"trades BTCUSDT: {len(UNITS)} rows"[: width - 3])
    if width >= 120:
        assert {"symbol", "ts_event", "price", "size"} <= set(lines[1].split())
        assert "2023-11-17T23:00:01.000000001Z" in lines[3]
        assert "337641.74" in lines[2]
    hidden = " ".join(lines).partition("not shown: ")[2].split(", ")
    if width >= 40:
        assert {*lines[1].split(), *hidden} - {""} == set(result.columns) - {
            "ts_event_ns",
            "ts_recv_ns",
        }


def test_a_join_shows_what_it_joined(opened, monkeypatch):
    # The columns of the other table before the places of either on the tape.
    monkeypatch.setenv("COLUMNS", "190")
    shown = repr(opened.asof("trades", "quotes", "BTCUSDT")).splitlines()[1].split()
    assert {"quotes_bid_price", "quotes_ask_price"} <= set(shown)
    assert "quotes_tape_offset" not in shown


def test_what_makes_the_answer_is_shown_first(opened, monkeypatch):
    # In a narrow terminal, whatever stands where in the table; one row is no `rows`.
    monkeypatch.setenv("COLUMNS", "90")
    shown = repr(opened.asof("trades", "quotes", "BTCUSDT")).splitlines()[1].split()
    assert shown == ["ts_event", "price", "quotes_bid_price", "quotes_ask_price"]
    assert "symbol" in repr(opened.instruments()).splitlines()[1].split()
    monkeypatch.setenv("COLUMNS", "80")
    wide = {"filler": ["x" * 39] * 2, "more": ["y" * 30] * 2}
    two = pa.table({"symbol": ["A", "A"], **wide, "venue": ["p", "q"]})
    assert repr(Result(two, "two")).splitlines()[1].split() == ["symbol", "filler", "venue"]
    levels = pa.table({"ts_event": ["t"], "bid_price": [[155.17] * 20], "ask_price": [[1.5] * 20]})
    lines = repr(Result(levels, "books")).splitlines()
    assert lines[0] == "books: 1 row"
    assert "[155.17, 155.17, ..." in lines[2]
    assert "[1.5, 1.5, 1.5, 1..." in lines[2]


def test_a_coverage_is_no_truth_value(opened):
    # Without findings it would be false, which is what is complete.
    with pytest.raises(QueryError, match="ask for its is_complete"):
        bool(opened.coverage("BTCUSDT"))


def test_a_result_is_a_table_in_a_notebook(opened, monkeypatch):
    # With ten rows at most, and nothing of the data taken for markup.
    result = opened.sql("select '<b>&' as \"<i>\", n from generate_series(1, 12) t(n)")
    html = result._repr_html_()
    assert "<th>&lt;i&gt;</th>" in html
    assert len(re.findall("<td>&lt;b&gt;&amp;</td>", html)) == 10
    assert "query: 12 rows" in html
    assert "... 2 more" in html
    assert "<b>" not in html
    assert opened.sql("select 1 as n where false")._repr_html_().count("<td>") == 0
