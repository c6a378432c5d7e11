"""One hour of one symbol out of the lake, all columns, by `lake.sql` and by the command.

Sketch: a symbol-hour has 31 k rows of 15 columns in one or two row groups of 131 k: what must be
decoded takes DuckDB 20 ms on one core. Finding it in the footers should cost a millisecond.

The first figure is a question in an open process (median of 15 hours), the second its time on
processors, the third the whole command with the start of Python.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import tapeworks

HOURS = 15
SQL = (
    "select * from trades where symbol = 'BNBUSDT' and ts_event >= '{} {:02}:00:00+00' "
    "and ts_event < '{} {:02}:00:00+00'"
)


def questions(days: list[str]) -> list[str]:
    hours = [(days[n % len(days)], n * 7 % 22 + 1) for n in range(HOURS)]
    return [SQL.format(day, hour, day, hour + 1) for day, hour in hours]


def main() -> None:
    data = Path(sys.argv[1])
    folders = (data / "lake" / "trades" / "venue=binance-spot").iterdir()
    days = sorted(folder.name.removeprefix("date=") for folder in folders)
    lake = tapeworks.open(data)
    asked = questions(days[1:-1] or days[:1])
    lake.sql(asked[-1])
    wall, used, rows = [], [], 0
    for sql in asked:
        began, started = time.perf_counter(), time.process_time()
        found = lake.sql(sql).to_arrow()
        wall.append(time.perf_counter() - began)
        used.append(time.process_time() - started)
        rows += found.num_rows
    start = "from tapeworks.cli import main; main()"
    command = [sys.executable, "-c", start, "query", "--data", str(data)]
    began = time.perf_counter()
    command += ["--format", "parquet", "--output", os.devnull, asked[0]]
    subprocess.run(command, check=True, stdout=sys.stderr)
    figures = {
        "wall_ms": statistics.median(wall) * 1e3,
        "cpu_ms": statistics.median(used) * 1e3,
        "command_ms": (time.perf_counter() - began) * 1e3,
        "rows": rows / HOURS,
    }
    print(json.dumps(figures))


main()
