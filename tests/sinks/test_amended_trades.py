"""The view `amended_trades` of PostgreSQL: what it shows is what queries of the lake show."""

import os
import random

import psycopg
import pytest

import tapeworks as tw
from conftest import START, SpineFolder
from tapeworks._core import NONE
from tapeworks.sinks.base import FlushPolicy, SinkContext
from tapeworks.sinks.feeder import Feeder
from tapeworks.sinks.postgres import PostgresConfig, PostgresSink
from tapeworks.topics import NORMALIZED

MS = 10**6
CANCEL, CORRECT = 1, 2


@pytest.fixture
def database(server, request):
    """The address of an empty database of its own."""
    name = f"amended_{os.getpid()}"
    with psycopg.connect(server("postgres").url(), autocommit=True) as connection:
        connection.execute(f"create database {name}")
        yield server("postgres").url(name)
        connection.execute(f"drop database {name} with (force)")


def trade(maker, at_ns: int, number: int, sequence: int, price: int, size: int):
    """Returns a trade of the time `at_ns` after START."""
    at = START + at_ns
    row = maker.rows("trade", 1, instrument=1, ts_event=at, ts_recv=at + 1_000, channel=1, flags=1)
    row["trade_id"], row["sequence"], row["count"] = number, sequence, 1
    row["price"], row["size"] = price * 10**9, size * 10**8
    return row


def correction(maker, at_ns: int, number: int, sequence: int, price: int | None = None):
    """Returns a correction to another price; without one the trade is void."""
    row = maker.rows("correction", 1, instrument=1, ts_event=START + at_ns, flags=1)
    row["ts_recv"], row["trade_id"], row["sequence"] = START + 10**15, number, sequence
    row["action"] = CANCEL if price is None else CORRECT
    row["price"] = NONE if price is None else price * 10**9
    row["size"] = NONE if price is None else 10**8
    return row


def both_views(spine: SpineFolder, url: str) -> list[list[tuple]]:
    """Returns the trades that stand as PostgreSQL and as the lake have them."""
    config = PostgresConfig(url=url, topics=(NORMALIZED,))
    sink = PostgresSink(config, SinkContext("postgres", spine.path))
    partition = sink.partition(spine.source, NORMALIZED)
    feeder = Feeder(partition, spine.tape(), FlushPolicy(), name="sink-postgres")
    try:
        assert feeder.drain(30)
    finally:
        feeder.close()
    spine.drain()
    names = "{}, symbol, price, size, trade_id, sequence"
    with psycopg.connect(url) as connection:
        query = f"select {names.format('id')} from tapeworks.amended_trades"
        stored = connection.execute(query).fetchall()
    with tw.open(spine.path) as lake:
        queried = lake.sql(f"select {names.format('tape_offset as id')} from trades").to_pylist()
    return [sorted(stored), sorted(tuple(row.values()) for row in queried)]


def test_what_the_history_tells_means_the_trade_that_came_live(spine, maker, database):
    # Trades of the live stream, in whole ms, and what the history says of them, to the ns: of two
    # exchanges that share an id, without an id, and two of one id that differ in price.
    spine.append(maker.definitions())
    told = [
        *((100 * MS, 7, 501, 10, 3), (200 * MS, 7, 502, 10, 3), (300 * MS, 0, 601, 11, 4)),
        *((400 * MS, 9, 701, 20, 1), (450 * MS, 9, 702, 21, 1)),
        # These are not meant: of another ms, and with nanoseconds of their own.
        *((500 * MS, 8, 801, 30, 1), (501 * MS, 8, 802, 31, 1), (501 * MS + 5, 8, 802, 32, 1)),
    ]
    for one in told:
        spine.append(trade(maker, *one))
    for at, number, sequence in (
        *((200 * MS + 123_456, 7, 502), (300 * MS + 77_000, 0, 601), (450 * MS + 5, 9, 702)),
        (501 * MS + 6, 8, 802),
    ):
        spine.append(correction(maker, at, number, sequence))
    stored, queried = both_views(spine, database)
    assert [int(row[-1]) for row in stored] == [501, 701, 801, 802]
    assert stored == queried


@pytest.mark.slow
def test_any_corrections_leave_the_same_trades(spine, maker, database):
    # Few ids, prices, sequences and times, so that much is ambiguous, live or told exactly, over
    # two days in New York; corrections under new ids chain.
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)

    def at() -> int:
        exact = chance.choice([0, 0, chance.randrange(3), 456_789])
        return chance.choice([0, 30_000_000]) * MS + chance.randrange(1_500) * MS + exact

    spine.append(maker.definitions())
    times = [at() for _ in range(600)]
    for time in times:
        number, sequence = chance.randrange(60), chance.randrange(300)
        price, size = chance.randint(1, 2), chance.randint(1, 2)
        spine.append(trade(maker, time, number, sequence, price, size))
        if not chance.randrange(3):
            later = time + chance.choice([0, 1, 456, 999_999, MS, 50 * MS])
            of = chance.choice([0, sequence, sequence, chance.randrange(60)])
            new = chance.choice([None, None, 7, 8])
            spine.append(correction(maker, later, number, of, new))
    stored, queried = both_views(spine, database)
    assert stored == queried
