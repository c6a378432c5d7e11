"""Retention and compression under a whole pipeline: nothing is taken that was not stored.

`tape up` records a simulated exchange with segments of 64 KiB, so that in seconds as much happens
to closed segments as otherwise in days. Processes are killed while segments are compressed and
removed.
"""

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.arrivals import told

from conftest import check_exact
from tapeworks.simulators import Simulator, start_simulator
from tapeworks.tape import TapeReader
from tapeworks.views.lake import Lake

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

SYMBOLS = ("BTCUSDT", "ETHUSDT")
TOPICS = ("market-data.raw", "market-data.normalized", "market-data.book")
KILLS, SEED = 12, 4
WAIT_S_MAX = 60.0


@pytest.fixture(scope="module")
def exchange() -> Iterator[Simulator]:
    """An exchange that is asked for books again and again."""
    arguments = ("--rate", "300", "--levels", "50", "--weight-per-minute", "100000000")
    with start_simulator("binance", "--symbols", *SYMBOLS, *arguments) as simulator:
        yield simulator


def settings(folder: Path, exchange: Simulator, tape: str, sink: str = "") -> None:
    symbols = json.dumps(SYMBOLS)
    (folder / "tapeworks.toml").write_text(
        f"[feeds.binance-spot]\nsymbols = {symbols}\n"
        f'ws_url = "{exchange.ws_url}"\nrest_url = "{exchange.rest_url}"\n'
        f"[tape]\nsegment_bytes = 65536\n{tape}\n"
        f"[sinks.parquet]\nflush_seconds = 0.2\n{sink}\n"
        "[supervisor]\nrestart_ms = 10\nrestart_ms_max = 100\nhealthy_ms = 500\n"
    )


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def source(folder: Path) -> Path:
    return folder / "data" / "tape" / "binance-spot"


def first(folder: Path, topic: str) -> int:
    """Returns the first offset of a tape; 0 of one that is not there yet."""
    tape = source(folder) / topic
    return TapeReader(tape).first if any(tape.glob("*.seg*")) else 0


def wait(process: "subprocess.Popen[str]", what: Callable[[], Any], name: str) -> None:
    """Waits until `what` holds while `tape up` runs."""
    until = time.monotonic() + WAIT_S_MAX
    while not what():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until, f"waited in vain for {name}"
        time.sleep(0.05)


def records_all(pid: int, folder: Path) -> bool:
    """Whether the recorder that runs says that it records all that was asked for."""
    state = told(folder / "data", "binance-spot")
    return state.get("pid") in children(pid) and state["outcome"]["verdict"] == "all"


def sound(tape: Any) -> Lake:
    """Checks tapes and lake; returns the lake."""
    for report in tape.answer("verify", "--json"):
        assert report["fault"] is None, report
    check_exact(tape.folder / "data")
    return Lake(tape.folder / "data")


def unaccounted(lake: Lake, symbol: str) -> list[int]:
    """Returns the trades between the first and the last that neither lake nor ledger knows."""
    where = f"symbol = '{symbol}' and channel = 'trade'"
    table = lake.sql(f"select trade_id from trades where {where} order by 1").to_arrow()
    ids = [int(number) for number in table.column(0).to_pylist()]
    assert len(ids) == len(set(ids)), f"{symbol}: stored twice"
    gaps = lake.sql(
        f"select first_missing, last_missing from gaps where {where} and cause = 'sequence'"
    ).to_arrow()
    excused = [(int(gap["first_missing"]), int(gap["last_missing"])) for gap in gaps.to_pylist()]
    missing = set(range(ids[0], ids[-1] + 1)) - set(ids)
    return [id_ for id_ in missing if not any(low <= id_ <= high for low, high in excused)]


def test_age_takes_nothing_that_is_not_stored(
    exchange: Simulator, command: Callable[[Path], Any], tmp_path: Path
):
    # Two seconds are kept, all but one closed segment are compressed, and any child is killed at
    # any instant. Afterwards the front of the tapes is gone, what is left is whole, and the lake
    # holds every trade once, but for those in the ledger.
    chance = random.Random(SEED)
    settings(tmp_path, exchange, "keep_hours = 0.0006\ncompress_after = 1")
    tape = command(tmp_path)
    process = tape.start("up")
    wait(process, lambda: all(first(tmp_path, topic) > 0 for topic in TOPICS), "retention")
    wait(process, lambda: any(source(tmp_path).glob("*/*.lz4")), "compression")
    for _ in range(KILLS):
        wait(process, lambda: children(process.pid), "a worker")
        os.kill(chance.choice(children(process.pid)), signal.SIGKILL)
        # At any instant of what a worker does after its start.
        time.sleep(chance.uniform(0.2, 1.5))
    marks = {topic: first(tmp_path, topic) for topic in TOPICS}
    for topic, mark in marks.items():
        wait(process, lambda t=topic, m=mark: first(tmp_path, t) > m, f"retention of {topic} again")
    wait(process, lambda: records_all(process.pid, tmp_path), "a recorder of everything")
    shown, errors = tape.interrupt(process)
    assert process.returncode == 0, shown + errors
    assert list(source(tmp_path).glob("*/*.aside")) == []
    lake = sound(tape)
    for symbol in SYMBOLS:
        assert unaccounted(lake, symbol) == []
    causes = lake.sql("select distinct cause from gaps").to_arrow().column(0).to_pylist()
    assert "retention" not in causes
    readable(tape, lake)


def readable(tape: Any, lake: Lake) -> None:
    """Asks everything that reads tapes, across compressed segments and a removed front."""
    reports = tape.answer("verify", "--json")
    compressed = sum(report.get("segments_compressed", 0) for report in reports)
    assert compressed > 0
    trades = lake.trades("BTCUSDT").to_arrow()
    first = lake.sql("select min(ts_recv) as ts from trades where symbol = 'BTCUSDT'").to_pylist()
    replayed = lake.replay("BTCUSDT", kinds=["trades"], start=first[0]["ts"])
    assert sum(len(batch) for batch in replayed) == len(trades)
    assert "BTCUSDT" in tape.run("book", "BTCUSDT")
    status = tape.answer("status", "--json")
    assert status["free_bytes"] > 0
    [named] = [
        f for f in json.loads(tape.run("doctor", "--json", code=None)) if f["name"] == "tapes"
    ]
    assert "7 tapes take" in named["found"]


def test_what_the_limit_takes_from_a_sink_is_in_the_ledger(
    exchange: Simulator, command: Callable[[Path], Any], tmp_path: Path
):
    # The sink is there, then away while the tapes pass their limit, then back: it goes on by
    # itself, and the hole is in the ledger, with its cause and its times, and in the coverage of
    # every query that it touches.
    tape = command(tmp_path)
    limit = "keep_bytes = 262144\ncompress_after = -1"
    settings(tmp_path, exchange, limit)
    tape.run("up", "--seconds", "6")
    settings(tmp_path, exchange, limit, "enabled = false")
    tape.run("up", "--seconds", "12")
    settings(tmp_path, exchange, limit)
    tape.run("up", "--seconds", "8")
    lake = sound(tape)
    gaps = lake.sql(
        "select first_missing, last_missing, missing, ts_from, ts_to from gaps "
        "where cause = 'retention' and ts_from is not null"
    ).to_arrow()
    assert len(gaps) >= 1, (tmp_path / "data" / "log" / "sink-parquet.log").read_text()
    for gap in gaps.to_pylist():
        assert gap["missing"] == gap["last_missing"] - gap["first_missing"] + 1
        assert gap["ts_from"] < gap["ts_to"]
    names = [row["cause"] for row in lake.trades("BTCUSDT").coverage().to_arrow().to_pylist()]
    assert "retention" in names
    assert "retention" in tape.run("gaps")
    trades = lake.sql("select count(*) from trades where date = current_date").to_arrow()
    assert trades is not None
    assert list((tmp_path / "data" / "state" / "binance-spot" / "losses").glob("*")) == []
