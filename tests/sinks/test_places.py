"""Whose place a store has of a tape: two sinks are not taken for one, and their rows are seen."""

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from tests.conformance import test_sinks as sinks

from conftest import SpineFolder
from tapeworks._core import numbers
from tapeworks.errors import SinkError, SinkUnavailable
from tapeworks.registry import load_member
from tapeworks.sinks.base import FlushPolicy, SinkContext
from tapeworks.sinks.feeder import Feeder
from tapeworks.topics import GAPS, NORMALIZED

SLOW = {"clickhouse", "questdb"}
KINDS = [
    pytest.param(kind, marks=pytest.mark.slow if kind in SLOW else ())
    for kind in ("postgres", "redis", "clickhouse", "questdb")
]


@pytest.fixture
def name(request: pytest.FixtureRequest, server: Any, monkeypatch: Any) -> Iterator[str]:
    """A sink with its server; of PostgreSQL with a database of its own."""
    kind: str = getattr(request, "param", "postgres")
    service = server(kind)
    sinks.PORTS[kind] = service.port
    if kind != "postgres":
        yield kind
        return
    database = f"places_{time.monotonic_ns()}"
    with psycopg.connect(service.url(), autocommit=True) as connection:
        connection.execute(f"create database {database}")
        monkeypatch.setenv("STORE_OF_THE_TEST", service.url(database))
        yield kind
        connection.execute(f"drop database {database} with (force)")


OPEN: list[Feeder] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    """Closes what a test leaves open."""
    yield
    while OPEN:
        OPEN.pop().close()


def feeder_of(spine: SpineFolder, kind: str, sink: str, **settings: Any) -> Feeder:
    """A sink of that name, in the store of the test."""
    config = replace(sinks.MEMBERS[kind][0](spine.path), **settings)
    made = load_member("sink", kind)(config, SinkContext(sink, spine.path))
    [topic] = config.topics
    partition = made.partition(spine.source, topic)
    feeder = Feeder(partition, spine.tape(topic), FlushPolicy(seconds=0.0), name=f"sink-{sink}")
    OPEN.append(feeder)
    return feeder


def stored(query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(os.environ["STORE_OF_THE_TEST"]) as connection:
        connection.execute("set search_path to tapeworks")
        return connection.execute(query).fetchall()


@pytest.mark.parametrize("name", KINDS, indirect=True)
def test_a_place_of_another_sink_is_refused(name, spine, maker):
    # What it left out would never come. The sink itself goes on, also where its symbols change.
    spine.append(maker.definitions())
    for first, symbols in ((0, ("BTCUSDT",)), (100, ())):
        spine.append(maker.trades(100, first))
        one = feeder_of(spine, name, "one", topics=(NORMALIZED,), symbols=symbols)
        assert one.drain(30)
        one.close()
    two = feeder_of(spine, name, "two", topics=(NORMALIZED,), symbols=("ETHUSDT",))
    with pytest.raises(SinkError, match=r"of the sink two.*, got one of the sink one"):
        two.drain(30)


def test_places_of_an_earlier_version_are_taken_over(name, spine, maker):
    # It did not say whose they are.
    spine.append(maker.definitions())
    one = feeder_of(spine, name, "one", topics=(NORMALIZED,))
    assert one.drain(30)
    one.close()
    url = os.environ["STORE_OF_THE_TEST"]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("update tapeworks.places set sink = null")
    spine.append(maker.trades(100))
    two = feeder_of(spine, name, "two", topics=(NORMALIZED,))
    assert two.drain(30)
    assert stored("select sink from places") == [("two",)]
    assert stored("select count(*) from trades") == [(100,)]


def test_sinks_of_other_topics_share_a_schema(name, spine, maker):
    # Both at the same time: neither waits for the other.
    spine.append(maker.definitions())
    spine.append(maker.trades(100))
    spine.append(maker.rows("gap", 5, instrument=1, code=numbers("marker_code")["gap"]), GAPS)
    both = [
        feeder_of(spine, name, sink, topics=(topic,))
        for sink, topic in (("one", NORMALIZED), ("two", GAPS))
    ]
    for feeder in both:
        assert feeder.drain(30)
    assert stored("select count(*) from trades") == [(100,)]
    assert stored("select count(*) from gaps") == [(5,)]


def test_nothing_is_stored_in_a_partition_that_was_taken_off(name, spine, maker):
    # By a sink that runs, and by one that starts; attached again, or removed, it goes on.
    def change(action: str) -> None:
        url = os.environ["STORE_OF_THE_TEST"]
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("set search_path to tapeworks")
            connection.execute(action)

    spine.append(maker.definitions())
    spine.append(maker.trades(100))
    feeder = feeder_of(spine, name, "one", topics=(NORMALIZED,))
    assert feeder.drain(30)
    [(part, bound)] = stored(
        "select trades.tableoid::regclass::text, pg_get_expr(relpartbound, trades.tableoid) "
        "from trades join pg_class found on found.oid = trades.tableoid "
        "group by trades.tableoid, relpartbound"
    )
    change(f"alter table trades detach partition {part}")
    spine.append(maker.trades(100, 100))
    for _ in range(2):
        with pytest.raises(SinkUnavailable, match=f"{part} is no partition of trades: attach"):
            feeder.drain(2)
        feeder.close()
        feeder = feeder_of(spine, name, "one", topics=(NORMALIZED,))
    change(f"alter table trades attach partition {part} {bound}")
    assert feeder.drain(30)
    assert stored("select count(*) from trades") == [(200,)]
    change(f"drop table {part}")
    spine.append(maker.trades(100, 200))
    assert feeder.drain(30)
    assert stored("select count(*) from trades") == [(100,)]
