"""Recordings played back over a real WebSocket into `tape record`; then asked of the lake."""

import csv
import gzip
import json
import os
import re
import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

import tapeworks as tw
from tapeworks.simulators import start_simulator
from tapeworks.views.lake import Lake

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

START = "from tapeworks.cli import main; main()"
RECORDINGS = ("spot_btcusdt_20240808.gz", "spot_btcusdt_20240809.gz")
SPEED = "60"
# Opening times in ms of the five-minute windows that the recordings hold whole.
WINDOWS = (1_723_161_300_000, 1_723_161_600_000)
EQUAL_UPDATES_MIN = 1_000


@pytest.fixture(scope="module")
def recorded(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of a `tape record` that listened to both recordings."""
    folder = tmp_path_factory.mktemp("record")
    files = [real_data / "binance" / "hftbacktest" / name for name in RECORDINGS]
    log = folder / "simulator.log"
    with start_simulator("--speed", SPEED, playback=files, log=log) as simulator:
        recorder = subprocess.Popen(
            [
                *(sys.executable, "-c", START, "record", "binance", "BTCUSDT", "--data", "data"),
                *("--set", f"ws_url={simulator.ws_url}", "--set", f"rest_url={simulator.rest_url}"),
                *("--set", "time_unit=millisecond"),
            ],
            cwd=folder,
            env={**os.environ, "NO_COLOR": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            simulator.wait_done(120)
        finally:
            recorder.send_signal(signal.SIGINT)
            shown, _ = recorder.communicate(timeout=60)
    assert recorder.returncode == 0, shown
    return folder / "data"


@pytest.fixture(scope="module")
def lake(recorded: Path) -> Lake:
    """The lake of the recording."""
    return tw.open(recorded)


def test_trades_are_those_of_the_recording(lake: Lake, real_data: Path):
    # Ids, prices and sizes, all of them, in order, from the lines of the files themselves.
    wanted = []
    for name in RECORDINGS:
        with gzip.open(real_data / "binance" / "hftbacktest" / name, "rt") as lines:
            for line in lines:
                if '@trade"' in line[:60]:
                    data = json.loads(line.partition(" ")[2])["data"]
                    wanted.append((data["t"], Decimal(data["p"]), Decimal(data["q"])))
    columns = lake.trades("BTCUSDT").to_arrow().select(["trade_id", "price", "size"]).to_pydict()
    assert list(zip(*columns.values(), strict=True)) == wanted
    assert len(wanted) == 9_757 + 10_147


def test_book_equals_the_best_quotes_of_the_venue(lake: Lake):
    # At every update id that a bookTicker and a depth event both carry: price and size, both sides.
    sql = (
        "select q.sequence as u, any_value(q.bid_price) as bid_price, "
        "any_value(q.bid_size) as bid_size, any_value(q.ask_price) as ask_price, "
        "any_value(q.ask_size) as ask_size, epoch_ns(any_value(b.ts_event)) as at "
        "from quotes q join book_levels b on q.sequence = b.sequence group by q.sequence"
    )
    rows = lake.sql(sql).to_pylist()
    for row in rows:
        book = lake.book("BTCUSDT", at=row["at"])
        bids, asks = book.top(1)
        assert book.sequence == row["u"]
        assert bids == [(row["bid_price"], row["bid_size"])]
        assert asks == [(row["ask_price"], row["ask_size"])]
    assert len(rows) >= EQUAL_UPDATES_MIN


def test_bars_equal_the_klines_of_the_venue(lake: Lake, real_data: Path):
    # Every column of the five-minute windows that the recordings hold whole.
    path = real_data / "binance" / "klines" / "BTCUSDT-spot-5m-2024-08.csv.gz"
    with gzip.open(path, "rt") as file:
        venue = {int(row[0]): row for row in csv.reader(file)}
    table = lake.bars("BTCUSDT", interval="5m").to_arrow()
    times = table.column("ts_event").cast("int64").to_pylist()
    names = ("open", "high", "low", "close", "volume", "turnover", "count")
    names += ("buy_volume", "buy_turnover")
    rows = zip(*(table.column(name).to_pylist() for name in names), strict=True)
    bars = {ts // 1_000_000: row for ts, row in zip(times, rows, strict=True)}
    for window in WINDOWS:
        kline = venue[window]
        wanted = tuple(Decimal(kline[at]) for at in (1, 2, 3, 4, 5, 7, 8, 9, 10))
        assert tuple(Decimal(value) for value in bars[window]) == wanted


def test_nothing_but_the_end_is_in_the_ledger(lake: Lake):
    # The recordings have no hole: what is open is that the recorder stopped.
    gaps = lake.gaps().to_arrow().select(["cause", "state"]).to_pylist()
    assert all((gap["cause"], gap["state"]) == ("disconnect", "open") for gap in gaps), gaps


def test_tapes_are_whole(recorded: Path):
    # The command that a user would run.
    shown = subprocess.run(
        [sys.executable, "-c", START, "verify", "--data", str(recorded)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert shown.returncode == 0, shown.stdout
    assert len(re.findall("whole", shown.stdout)) == 7
