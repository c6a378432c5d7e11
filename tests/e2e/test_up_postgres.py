"""`tape up` with a database beside the lake: both hold the same, whatever happens to the server."""

import subprocess
import time
from typing import Any

import psycopg
import pytest
from tests.arrivals import wait
from tests.services import PostgresService

import tapeworks as tw
from tapeworks.simulators import start_simulator

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

SOURCE = "binance-spot"
# Table -> column to sum, so that values are compared as well as rows.
TABLES = {"trades": "price", "quotes": "bid_price", "ticks": "volume"}


def test_database_equals_the_lake_after_a_crash_of_the_server(tape: Any):
    # A simulated exchange is recorded; the server is killed in the midst, and comes back. In the
    # end psql, a program of its own, counts and sums what the lake holds, and a bar is the last of
    # its kind.
    with PostgresService() as server, start_simulator("binance", "--rate", "400") as exchange:
        (tape.folder / "tapeworks.toml").write_text(
            f'[feeds.{SOURCE}]\nsymbols = ["BTCUSDT", "ETHUSDT"]\nws_url = "{exchange.ws_url}"\n'
            f'rest_url = "{exchange.rest_url}"\n[processors]\nbars_ms = [1000]\n'
            f'[sinks.parquet]\nflush_seconds = 0.5\n[sinks.postgres]\nurl = "{server.url()}"\n'
            "flush_seconds = 0.1\n"
        )
        process = tape.start("up")
        wait(lambda: count(server, "ticks") > 0, process)
        server.kill()
        time.sleep(1.0)
        server.start()
        before = count(server, "ticks")
        wait(lambda: count(server, "ticks") > before, process)
        tape.interrupt(process)
        lake = tw.open(tape.folder / "data")
        for table, column in TABLES.items():
            query = f"select count(*), count(distinct id), sum({column}) from tapeworks.{table}"
            [row] = lake.sql(f"select count(*) as rows, sum({column}) as total from {table}")
            [rows, distinct, total] = psql(server, query).split("|")
            assert int(rows) == int(distinct) == row["rows"] > 0
            assert float(total) == pytest.approx(float(row["total"]), rel=1e-12)
        key = "(symbol, ts, interval_ms, channel)"
        query = f"select count(*), count(distinct {key}) from tapeworks.bars"
        [rows, distinct] = psql(server, query).split("|")
        assert int(rows) == int(distinct) > 0
        shown = psql(server, "select symbol from tapeworks.instruments order by 1")
        assert shown.split() == ["BTCUSDT", "ETHUSDT"]


def count(server: PostgresService, table: str) -> int:
    """Returns the rows of a table; 0 where it is not there yet."""
    with psycopg.connect(server.url()) as connection:
        name = f"tapeworks.{table}"
        if connection.execute("select to_regclass(%s)", [name]).fetchone() == (None,):
            return 0
        [found] = connection.execute(f"select count(*) from {name}").fetchone() or (0,)
        return int(found)


def psql(server: PostgresService, query: str) -> str:
    """Returns what psql prints."""
    words = ["psql", "-X", "-A", "-t", server.url(), "-c", query]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
