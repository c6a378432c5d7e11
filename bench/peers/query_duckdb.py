"""One hour of one symbol with DuckDB alone, straight on one file sorted by symbol and time.

The file is made by hand before the clock starts: one read, nothing to look up, no tape behind it.
"""

import json
import statistics
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

HOURS, HOUR = 15, 3_600_000_000_000


def main() -> None:
    data = Path(sys.argv[1])
    file = data.parent / "sorted.parquet"
    database = duckdb.connect()
    database.execute("set timezone = 'UTC'")
    if not file.exists():
        database.execute("set preserve_insertion_order = false")
        database.execute(
            f"copy (select * from read_parquet('{data}/lake/trades/*/*/*.parquet') "
            f"order by symbol, ts_event) to '{file}.new' "
            "(format parquet, compression zstd, row_group_size 122880)"
        )
        Path(f"{file}.new").rename(file)
    database.execute("set parquet_metadata_cache = true")
    [[first, last]] = database.sql(
        f"select epoch_ns(min(ts_event)), epoch_ns(max(ts_event)) from '{file}'"
    ).fetchall()
    hours = (last - first) // HOUR
    wall, used = [], []
    for number in range(HOURS + 1):
        start = datetime.fromtimestamp((first + number * 7 % max(1, hours) * HOUR) / 1e9, UTC)
        sql = (
            f"select * from '{file}' where symbol = 'BNBUSDT' and "
            f"ts_event >= '{start}' and ts_event < '{start + timedelta(hours=1)}'"
        )
        began, started = time.perf_counter(), time.process_time()
        database.sql(sql).to_arrow_table()
        wall.append(time.perf_counter() - began)
        used.append(time.process_time() - started)
    figures = {"wall_ms": statistics.median(wall[1:]), "cpu_ms": statistics.median(used[1:])}
    print(json.dumps({name: value * 1e3 for name, value in figures.items()}))


main()
