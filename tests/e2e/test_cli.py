"""The first path through the command line, against a simulated exchange in another process."""

import csv
import json
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tapeworks.simulators import Simulator, start_simulator

pytestmark = pytest.mark.timeout(180)

SYMBOLS = ("BTCUSDT", "ETHUSDT")
SECONDS = 5


@pytest.fixture(scope="module")
def exchange() -> Iterator[Simulator]:
    """An exchange that goes on for as long as the tests do."""
    with start_simulator(
        "binance", "--symbols", *SYMBOLS, "--rate", "60", "--levels", "100"
    ) as simulator:
        yield simulator


def at(exchange: Simulator) -> list[str]:
    """The settings that name the exchange."""
    return ["--set", f"ws_url={exchange.ws_url}", "--set", f"rest_url={exchange.rest_url}"]


@pytest.fixture(scope="module")
def recorded(
    exchange: Simulator,
    command: Callable[[Path], Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Any:
    """The command line in a folder in which `tape record` has run for some seconds."""
    tape = command(tmp_path_factory.mktemp("first"))
    shown = tape.run("record", "binance", *SYMBOLS, *at(exchange), "--seconds", SECONDS)
    first, *_, whole, last = shown.splitlines()
    assert first.startswith("recording into data")
    assert whole.startswith("binance-spot: on tape in all: ")
    assert whole.endswith(" frames, no gaps")
    assert last.startswith("binance-spot: this run: ")
    assert "6 of 6 streams received data" in last
    assert "2 of 2 books verified; 0 new gaps" in last
    return tape


def test_status_says_what_is_there(recorded: Any):
    # For people and for programs; nothing has to run.
    screen = recorded.run("status", "--once")
    assert "normalized" in screen
    assert "not recording" in screen
    [source] = recorded.answer("status", "--json")["sources"]
    assert {tape["topic"] for tape in source["tapes"]} >= {"market-data.raw", "market-data.book"}
    assert source["gaps"] == {}


@pytest.mark.slow
def test_query_in_every_format(recorded: Any):
    # The same rows as a table, as JSON, as CSV and in a Parquet file.
    sql = "select symbol, count(*) as n from trades group by symbol order by symbol"
    rows = recorded.answer("query", sql, "--format", "json")
    assert [row["symbol"] for row in rows] == sorted(SYMBOLS)
    head, *lines = recorded.run("query", sql).splitlines()
    assert head.split() == ["symbol", "n"]
    assert [line.split() for line in lines] == [[row["symbol"], str(row["n"])] for row in rows]
    table = list(csv.DictReader(recorded.run("query", sql, "--format", "csv").splitlines()))
    assert table == [{"symbol": row["symbol"], "n": str(row["n"])} for row in rows]
    recorded.run("query", sql, "--format", "parquet", "--output", "counts.parquet")
    assert pq.read_table(recorded.folder / "counts.parquet").to_pylist() == rows


def test_book_then_and_now(recorded: Any):
    # The recorder has ended, so the newest book is the last one, which says so.
    process = recorded.start("book", "BTCUSDT")
    _, told = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "the recording ended at" in told
    when = told.strip().rpartition(", of ")[2]
    for words in ((), ("--last",)):
        newest = recorded.answer("book", "BTCUSDT", *words, "--levels", 3, "--format", "json")
        assert newest["ts_event"] == when
        assert newest["notice"] in told
    assert "expected an instant up to" in recorded.refuse(
        "book", "BTCUSDT", "--at", "2100-01-01", code=1
    )
    book = recorded.answer("book", "btcusdt", "--at", when, "--levels", 3, "--format", "json")
    assert len(book["bids"]) == len(book["asks"]) == 3
    # The same document in a file, which is told.
    words = ("book", "BTCUSDT", "--at", when, "--levels", 3)
    assert "6 levels in book.json\n" in recorded.told(*words, "-o", "book.json")
    assert json.loads((recorded.folder / "book.json").read_text()) == book
    assert recorded.answer(*words, "-f", "json", "-o", "-") == book
    shown = recorded.run("book", "BTC-USDT", "--at", when)
    assert book["bids"][0][0].rstrip("0").rstrip(".") in shown


@pytest.mark.slow
def test_replay_gaps_and_verify(recorded: Any):
    # All trades once, nothing missing, all tapes whole.
    rows = recorded.answer("query", "select count(*) as n from trades", "--format", "json")
    lines = recorded.run("replay", "--kinds", "trades").splitlines()
    assert len(lines) == rows[0]["n"] > 0
    assert all(json.loads(line)["symbol"] in SYMBOLS for line in lines)
    [line] = recorded.run("gaps").splitlines()
    assert line.startswith("complete from ")
    assert line.endswith(": no gaps")
    recorded.run("gaps", "--check")
    shown = recorded.run("gaps", "--from", "2020-01-01", "--check", code=3)
    assert shown.startswith("not complete from 2020-01-01")
    assert "not recorded: 2020-01-01T00:00:00" in shown
    assert recorded.run("verify").count("whole") == 8


def test_replay_into_a_reader_that_has_seen_enough(recorded: Any):
    # `tape replay | head -1`: no traceback, no error.
    process = recorded.start("replay")
    assert process.stdout.readline().startswith("{")
    process.stdout.close()
    assert process.wait(30) == 0
    # A short recording fits into the pipe, and is counted.
    assert re.fullmatch(r"([0-9,]+ records\n)?", process.stderr.read())


@pytest.mark.slow
def test_export_and_import_give_the_same_trades(recorded: Any):
    # A table as CSV; and frames written by hand, brought into another folder.
    recorded.run("export", "trades", "trades.csv", "--symbol", "BTCUSDT")
    with (recorded.folder / "trades.csv").open() as file:
        trades = list(csv.DictReader(file))
    lines = []
    for trade in trades:
        ts_ms = 1_763_700_000_000 + int(trade["trade_id"])
        data = {"e": "trade", "E": ts_ms, "s": "BTCUSDT", "t": int(trade["trade_id"])}
        data |= {"p": trade["price"], "q": trade["size"], "T": ts_ms, "m": trade["side"] == "sell"}
        message = {"stream": "btcusdt@trade", "data": data}
        lines.append(f"{ts_ms}000000 {json.dumps(message, separators=(',', ':'))}\n")
    (recorded.folder / "capture.txt").write_text("".join(lines))
    shown = recorded.run("import", "binance-spot", "capture.txt", "--data", "again")
    assert f"imported {len(trades):,} frames" in shown
    sql = "select trade_id, price, size, side from trades order by trade_id"
    again = recorded.answer("query", sql, "--format", "json", "--data", "again")
    assert [{key: str(row[key]) for key in row} for row in again] == [
        {key: trade[key] for key in ("trade_id", "price", "size", "side")} for trade in trades
    ]


def test_doctor_and_config(recorded: Any):
    # The doctor says something of each matter; the example is a right config file.
    shown = recorded.run("doctor", code=None)
    assert all(word in shown for word in ("settings", "disk sync", "open files", "disk space"))
    example = recorded.run("config", "example")
    (recorded.folder / "example.toml").write_text(example)
    assert "configuration OK" in recorded.run("config", "check", "--config", "example.toml")


BAD: list[tuple[list[str], int, str]] = [
    (["query", "select * from tradez"], 1, "tradez"),
    (["query", "select 1", "--data", "nowhere"], 1, "tape record binance"),
    (["book", "BTCUSD"], 2, "near it are BTCUSDT"),
    (["book", "BTCUSDT", "--at", "yesterday"], 2, "'yesterday'"),
    (["replay", "--kinds", "candles"], 2, "'candles'"),
    (["record", "kraken", "XBTUSD"], 2, "expected a venue of alpaca, binance, itch"),
    (["record", "binance", "BTC/USDT"], 2, "symbols"),
    (["record", "binance", "BTCUSDT", "--set", "color=blue"], 2, "color is not a setting"),
    (["record", "binance", "BTCUSDT", "--set", "connections=9"], 2, "connections"),
    (["export", "candles", "out.csv"], 2, "'candles'"),
    (["export", "trades", "out.csv", "--symbol", "BTCUSD"], 2, "'BTCUSD' was never recorded"),
    (["replay", "--from", "2026-11-21", "--to", "2026-11-20"], 2, "expected start before end"),
    (["gaps", "--from", "2026-11-21", "--to", "2026-11-20"], 2, "expected start before end"),
    (["import", "binance-spot", "none.gz"], 2, "none.gz"),
    (["up", "--config", "none.toml"], 2, "none.toml"),
]


@pytest.mark.parametrize(("words", "code", "said"), BAD, ids=lambda value: str(value)[:40])
def test_bad_input_gets_one_clear_line(recorded: Any, words: list[str], code: int, said: str):
    # No traceback and nothing on standard output: the line says what was wanted and found.
    assert said in recorded.refuse(*words, code=code)


def test_unknown_symbol_of_the_venue_ends_the_recording(exchange: Simulator, tape: Any):
    # The venue says so; a recorder that went on would record nothing for ever.
    process = tape.start("record", "binance", "NOSUCH", *at(exchange))
    shown, errors = process.communicate(timeout=60)
    assert process.returncode == 3, shown + errors
    assert "Invalid symbol" in shown + errors
    assert "NOSUCH" in errors
    assert "Traceback" not in errors


@pytest.mark.slow
def test_a_symbol_that_the_venue_does_not_know_is_named_and_the_others_recorded(
    exchange: Simulator, tape: Any
):
    # One that is delisted, among others: they are recorded, and the exit code says that not all is.
    words = ["record", "binance", "NOSUCH", *SYMBOLS, "NEITHER", "--seconds", 4]
    process = tape.start(*words, *at(exchange))
    shown, errors = process.communicate(timeout=60)
    assert process.returncode == 3, shown + errors
    assert "binance-spot: no symbol of the venue: NOSUCH, NEITHER" in shown + errors
    assert "refused by the venue: nosuch@" in shown + errors
    stored = tape.answer("query", "select distinct symbol from trades order by 1", "-f", "json")
    assert [row["symbol"] for row in stored] == sorted(SYMBOLS)
    assert "Traceback" not in errors


@pytest.mark.slow
def test_venue_that_does_not_answer_is_told(tape: Any):
    # Nobody listens there: each line says why nothing comes, until Ctrl-C ends it in good order.
    nowhere = ["--set", "ws_url=ws://127.0.0.1:9", "--set", "rest_url=http://127.0.0.1:9"]
    process = tape.start("record", "binance", "BTCUSDT", *nowhere)
    said = ""
    until = time.monotonic() + 60
    while "cannot connect to ws://127.0.0.1:9" not in said and time.monotonic() < until:
        said = process.stdout.readline()
    assert "cannot connect to ws://127.0.0.1:9" in said
    shown, _ = tape.interrupt(process)
    assert process.returncode == 3
    assert "nothing of what was asked for was recorded" in shown


@pytest.mark.parametrize(
    "delay_s",
    [
        0.5,
        pytest.param(1.0, marks=pytest.mark.slow),
        2.0,
        pytest.param(3.5, marks=pytest.mark.slow),
    ],
)
def test_interrupt_at_any_time_ends_in_good_order(exchange: Simulator, tape: Any, delay_s: float):
    # Ctrl-C while modules load, while it connects, and while it records: never a traceback, what
    # was recorded by then is whole, and the exit code says whether that was all.
    process = tape.start("record", "binance", *SYMBOLS, *at(exchange))
    time.sleep(delay_s)
    shown, errors = tape.interrupt(process)
    # Ended while its worker was still loading, nobody can say what it achieved.
    unknown = 1 if "what it achieved is unknown" in shown else 0
    assert process.returncode in (0, unknown, 3, 130, -signal.SIGINT), shown + errors
    assert "Traceback" not in errors or process.returncode == -signal.SIGINT
    if (tape.folder / "data" / "tape").is_dir():
        assert "whole" in tape.run("verify")
