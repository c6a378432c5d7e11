"""Trades, each with the quote before it, by DuckDB or Polars straight on the files of the lake.

The same rows, times to the microsecond (those of these files have no more), all columns, as Arrow.
They know no order of rows of one instant, no gap, and read what they are pointed at.
"""

import json
import sys
import time
from pathlib import Path

COLUMNS = ("bid_price", "bid_size", "ask_price", "ask_size", "ts_event", "ts_recv", "sequence")


def in_duckdb(trades: str, quotes: str):
    import duckdb

    database = duckdb.connect()
    database.execute("set timezone = 'UTC'")
    columns = ", ".join(f"r.{name} as quotes_{name}" for name in COLUMNS)
    return database.sql(
        f"select l.*, {columns} from read_parquet('{trades}') l "
        f"asof left join read_parquet('{quotes}') r "
        "on l.symbol = r.symbol and l.ts_event > r.ts_event order by l.ts_event"
    ).to_arrow_table()


def in_polars(trades: str, quotes: str):
    import polars as pl

    left = pl.scan_parquet(trades, hive_partitioning=False)
    right = pl.scan_parquet(quotes, hive_partitioning=False).select("symbol", *COLUMNS)
    right = right.rename({name: f"quotes_{name}" for name in COLUMNS})
    found = left.sort("ts_event").join_asof(
        right.sort("quotes_ts_event"),
        left_on="ts_event",
        right_on="quotes_ts_event",
        by="symbol",
        strategy="backward",
        allow_exact_matches=False,
        coalesce=False,
        check_sortedness=False,
    )
    return found.collect().to_arrow()


def main() -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    join = {"duckdb": in_duckdb, "polars": in_polars}[sys.argv[1]]
    lake = Path(sys.argv[2]) / "lake"
    files = [f"{lake}/{table}/*/*/*.parquet" for table in ("trades", "quotes")]
    began, started = time.perf_counter(), time.process_time()
    found = join(*files)
    wall, used = time.perf_counter() - began, time.process_time() - started
    bids = pc.drop_null(found["quotes_bid_price"]).cast(pa.float64())
    figures = {
        "wall": found.num_rows / wall,
        "core": found.num_rows / used,
        "met": len(bids),
        "sum": round(pc.sum(bids).as_py()),
    }
    print(json.dumps(figures))


main()
