"""What a folder holds, at a look: sources, symbols, tables, rows, and from when to when."""

import csv
from pathlib import Path

import numpy as np

import tapeworks as tw
from conftest import START, Command, RecordMaker, SpineFolder

SECOND = 10**9


def test_contents_are_those_of_files_and_tape(spine: SpineFolder, maker: RecordMaker):
    # Half in files, half behind them; another source, of which nothing came yet, is a row, too.
    spine.append(maker.definitions())
    spine.append(maker.trades(300))
    spine.drain()
    spine.append(maker.trades(300, 300))
    quotes = maker.rows("quote", 5, instrument=2)
    quotes["ts_event"] = quotes["ts_recv"] = START + np.arange(5) * SECOND
    spine.append(quotes)
    other = SpineFolder(spine.path, "other")
    other.append(maker.definitions())
    lake = tw.open(spine.path)
    rows = lake.contents().to_pylist()
    sql = "select symbol, count(*) as n, min(ts_event) as a, max(ts_event) as b from trades"
    wanted = lake.sql(f"{sql} group by all order by all").to_pylist()
    trades = [row for row in rows if row["table"] == "trades"]
    assert sum(row["rows"] for row in trades) == 600
    assert [(row["symbol"], row["rows"], row["ts_first"], row["ts_last"]) for row in trades] == [
        tuple(row.values()) for row in wanted
    ]
    assert rows[2] == {
        "source": "binance-spot",
        "symbol": "ETHUSDT",
        "table": "quotes",
        "rows": 5,
        "ts_first": "2023-11-17T23:00:00.000000Z",
        "ts_last": "2023-11-17T23:00:04.000000Z",
    }
    assert (rows[-1]["source"], rows[-1]["symbol"], rows[-1]["rows"]) == ("other", None, 0)
    assert len(lake.contents(source="other")) == 1
    other.close()


def test_sources_are_listed_and_wrong_ones_refused(
    spine: SpineFolder, maker: RecordMaker, tmp_path: Path
):
    # As every command that looks: of one source, as CSV, and nothing recorded is one line.
    spine.append(maker.definitions())
    spine.append(maker.trades(30))
    command = Command(tmp_path)
    shown = command.run("sources", "--data", spine.path, "--format", "csv")
    rows = list(csv.DictReader(shown.splitlines()))
    assert sum(int(row["rows"]) for row in rows) == 30
    line = command.refuse("sources", "--data", spine.path, "--source", "nope", code=2)
    assert "expected a source of binance-spot" in line
    assert "expected recorded data" in command.refuse("sources", "--data", tmp_path / "x", code=1)
