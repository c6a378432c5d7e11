"""Tables for Polars, DuckDB and PyArrow: files and the tape behind them, and nothing is changed."""

import gc
from datetime import UTC, datetime
from decimal import Decimal

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import tapeworks as tw
from conftest import START
from tapeworks.errors import QueryError

SECOND = 10**9
COUNT = 400
BARS = "market-data.bars"


@pytest.fixture
def stored(spine, maker):
    """Trades and bars of two days, half of each in the lake, half on the tape."""
    spine.append(maker.definitions())
    # An hour before midnight: every ninth trade is of the day after.
    trades = maker.trades(COUNT)
    trades["ts_event"][::9] += 3_600 * SECOND
    trades["ts_event"] += np.arange(COUNT) % 1_000
    bars = maker.rows("bar", 20, instrument=1, closed=1, interval_ms=60_000, close=7 * 10**9)
    bars["ts_event"] = bars["ts_recv"] = START + np.arange(20) // 2 * 60 * SECOND
    bars["closed"][-2:] = 0
    for part in (slice(0, None, 2), slice(1, None, 2)):
        spine.append(trades[part])
        spine.append(bars[part], BARS)
        if part.start == 0:
            spine.drain()
            spine.drain(BARS)
    return spine


def in_order(table):
    """Returns a table of Arrow as rows of the tape, whatever made it."""
    names = sorted(table.column_names)
    return table.select(names).sort_by([("tape_offset", "ascending")]).to_pylist()


@pytest.mark.parametrize(
    "words",
    [
        {},
        {"symbols": "BTCUSDT"},
        {"symbols": ["BTC-USDT", "ETHUSDT"], "source": "binance-spot"},
        {"start": START + 7 * SECOND + 3, "end": START + 20 * SECOND + 5},
        {"symbols": "SOLUSDT", "start": "2023-11-18"},
        {"end": "2001-01-01"},
    ],
)
def test_every_library_reads_what_sql_does(stored, words):
    # Of one table with the same range: the same rows, the same exact values.
    lake = tw.open(stored.path)
    scan = lake.scan("trades", **words)
    wanted = lake.sql("from trades").to_arrow()
    rows = [] if words.get("end") == "2001-01-01" else lake.rows("trades", **words)
    wanted = in_order(wanted.filter(pc.is_in(wanted["tape_offset"], _offsets(rows))))
    assert len(wanted) == len(rows)
    assert in_order(scan.reader(100).read_all()) == wanted
    assert in_order(pa.table(scan)) == wanted
    assert in_order(scan.lazy(decimals=True).collect().to_arrow().cast(_schema(scan))) == wanted
    assert in_order(scan.dataset().to_table()) == wanted
    relation = scan.relation()
    gc.collect()
    assert in_order(relation.to_arrow_table()) == wanted


def _offsets(rows):
    return pa.array([row["tape_offset"] for row in rows], pa.uint64())


def _schema(scan):
    return scan.reader().schema


def test_a_lazy_frame_reads_what_it_needs_when_it_collects(stored, maker):
    # Columns, conditions and counts are those of Polars; what comes later is in the next answer.
    frame = tw.open(stored.path).scan("trades").lazy()
    assert frame.collect_schema()["price"] == pl.Float64
    assert frame.select(pl.len()).collect().item() == COUNT
    assert frame.head(5).collect().height == 5
    bought = frame.filter(pl.col("side") == "buy").group_by("symbol").agg(pl.col("size").sum())
    sql = "select symbol, sum(size)::double as size from trades where side = 'buy' group by all"
    told = {row["symbol"]: row["size"] for row in tw.open(stored.path).sql(sql)}
    assert dict(bought.collect().iter_rows()) == pytest.approx(told)
    stored.append(maker.trades(10, COUNT))
    assert frame.select(pl.len()).collect().item() == COUNT + 10


def test_views_of_bars_are_those_of_sql(stored):
    # The last revision of each, all of them, and the finished ones of a length.
    lake = tw.open(stored.path)
    connection = lake.connect()
    for name, count in (("bars", 10), ("bar_revisions", 20), ("bars_1m", 9)):
        scan = lake.scan(name)
        assert scan.reader().read_all().num_rows == count
        assert scan.lazy().collect().height == count
        assert scan.relation().aggregate("count(*)").fetchall() == [(count,)]
        assert connection.sql(f"select count(*) from {name}").fetchall() == [(count,)]
        assert "partial" in scan.lazy().collect_schema()
        with pytest.raises(QueryError, match="a dataset is of files"):
            scan.dataset()
    for wrong in ("bars_1h", "trade", "x; drop"):
        with pytest.raises(QueryError):
            lake.scan(wrong).reader()


def test_a_connection_has_all_tables_and_reaches_nothing_else(stored, tmp_path):
    # Also by a cursor of it; tables of one's own are in memory.
    lake = tw.open(stored.path)
    connection = lake.connect()
    names = {name for (name,) in connection.sql("show tables").fetchall()}
    assert names >= {row["name"] for row in lake.sql("show tables")}
    sql = "select count(*) from trades where symbol = ? and price > ? and ts_event >= ?"
    params = ["BTCUSDT", Decimal("0.001"), datetime(2023, 11, 18, tzinfo=UTC)]
    told = lake.sql(sql, params)[0]
    assert connection.cursor().execute(sql, params).fetchall() == [tuple(told.values())]
    assert 0 < next(iter(told.values())) < COUNT
    connection.execute("create table mine as select * from trades limit 5")
    assert len(connection.execute("from mine").fetchall()) == 5
    assert duckdb.sql("select count(*) from trades", connection=connection).fetchall() == [(COUNT,)]
    file = next(stored.path.glob("lake/trades/*/*/*.parquet"))
    for escape in (
        f"copy trades to '{tmp_path}/x.parquet'",
        f"copy trades to '{file}' (format parquet)",
        f"from read_parquet('{file}')",
        "from read_text('/etc/passwd')",
        f"attach '{tmp_path}/x.db'",
        "set enable_external_access = true",
        "set threads = 1",
        "load httpfs",
    ):
        with pytest.raises(duckdb.Error):
            connection.execute(escape)
    whole = tw.open(stored.path, external_access=True).connect()
    whole.execute(f"copy (select count(*) from trades) to '{tmp_path}/x.csv'")
    assert (tmp_path / "x.csv").read_text().split() == ["count_star()", str(COUNT)]


def test_parameters_stand_for_values(stored):
    # By place and by name, with any quotes in them; a query that needs others says so.
    lake = tw.open(stored.path)
    count = "select count(*) as n from trades where symbol"
    [one] = lake.sql(f"{count} = ?", ["BTCUSDT"])
    assert [one] == list(lake.sql(f"{count} = $name", {"name": "BTCUSDT"}))
    assert one["n"] > 0
    assert lake.sql(f"{count} = ?", ["x' or true --"])[0] == {"n": 0}
    assert lake.sql(f"{count} in ?", [["BTCUSDT", "ETHUSDT"]])[0]["n"] > one["n"]
    for params, told in (([], "not provided"), ([1, 2], "mismatch"), ("BTCUSDT", "a list or a")):
        with pytest.raises(QueryError, match=told):
            lake.sql(f"{count} = ?", params)


def test_a_folder_that_was_closed_answers_nothing_more(stored):
    # `with` closes it; readers that were begun before do not go on for ever.
    with tw.open(stored.path) as lake:
        assert len(lake.trades()) == COUNT
    for question in (
        *(lake.trades, lake.contents, lake.connect, lake.replay, lake.follow, lake.sources),
        *(lake.symbols, lake.gaps, lake.coverage, lake.trades_and_quotes, lake.bars),
        lambda: lake.book("BTCUSDT"),
        lambda: lake.sql("select 1"),
        lambda: lake.scan("trades").lazy().collect(),
    ):
        with pytest.raises(QueryError, match="was closed: open it anew"):
            question()
    assert repr(lake) == f"Lake({str(stored.path)!r}: closed)"


def test_looking_at_a_folder_changes_nothing_in_it(stored):
    # Not one file, and no time of one: of whatever is asked.
    def state():
        return {
            path: (path.stat().st_mtime_ns, path.stat().st_size)
            for path in [stored.path, *stored.path.rglob("*")]
        }

    stored.close()
    before = state()
    with tw.open(stored.path) as lake:
        lake.trades().coverage()
        lake.scan("trades").lazy().collect()
        lake.scan("trades").dataset().to_table()
        lake.connect().sql("select count(*) from bars").fetchall()
        lake.gaps()
        lake.contents()
        lake.instruments()
        list(lake.replay())
        assert next(lake.follow(offset=0))
        with pytest.raises(QueryError, match="no books"):
            lake.book("BTCUSDT")
    assert state() == before
