"""A user's program, as strict type checkers must accept it: answers have the types they say."""

# pyright: strict

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, assert_type

import duckdb
import numpy as np
import polars as pl

import tapeworks as tw


def answers(lake: tw.Lake) -> list[tw.Result]:
    """Asks every question that is answered with rows."""
    assert_type(lake, tw.Lake)
    start, end = datetime(2024, 3, 1), np.datetime64("2024-03-02")
    assert_type(lake.trades("BTCUSDT", start, end, source="binance-spot"), tw.Result)
    assert_type(lake.sources(), list[str])
    assert_type(lake.symbols(source="binance-spot"), list[str])
    return [
        lake.trades(["BTCUSDT", "ETHUSDT"], "2024-03-01"),
        lake.quotes("BTCUSDT", end="2024-03-02T00:00:00Z"),
        lake.ticks("BTCUSDT", 1_709_251_200_000_000_000),
        lake.bars("BTCUSDT", interval="1m"),
        lake.bars("BTCUSDT", interval=timedelta(seconds=1), partial=True),
        lake.bars("BTCUSDT", volume="12.5"),
        lake.trades_and_quotes("BTCUSDT"),
        lake.snapshots("BTCUSDT"),
        lake.rows("marks", "BTCUSDT"),
        lake.asof("trades", "quotes", "BTCUSDT", clock="receipt"),
        lake.gaps("BTCUSDT"),
        lake.instruments(),
        lake.contents(),
        lake.dead_letters(),
        lake.sql("select count(*) as n from trades"),
        lake.sql("select count(*) as n from trades where symbol = ?", ["BTCUSDT"]),
    ]


def shapes(result: tw.Result) -> Iterator[Decimal]:
    """Takes rows in every form."""
    assert_type(len(result), int)
    assert_type(result.columns, list[str])
    assert_type(result.to_polars(decimals=True), pl.DataFrame)
    assert_type(result[0], dict[str, Any])
    assert_type(result[:10], list[dict[str, Any]])
    assert_type(result.to_pylist(), list[dict[str, Any]])
    assert_type(result.coverage(), tw.Coverage)
    for row in result:
        yield row["price"] * row["size"]


def completeness(lake: tw.Lake) -> str:
    """Says what is missing."""
    found = lake.coverage("BTCUSDT", channel="trade")
    assert_type(found, tw.Coverage)
    assert_type(found.is_complete, bool)
    return "\n".join(found.summary())


def spread(lake: tw.Lake) -> Decimal:
    """Looks at a book."""
    try:
        book = lake.book("BTCUSDT", "2024-03-01T12:00:00Z", source="binance-spot", last=True)
    except tw.QueryError as error:
        raise SystemExit(str(error)) from error
    assert_type(book, tw.BookAt)
    assert_type(book.ts_event, int | None)
    assert_type(book.mid, Decimal | None)
    assert_type(book.to_polars(), pl.DataFrame)
    assert_type(book.cost("buy", Decimal("0.5")), Decimal)
    assert_type(book.depth(10), tuple[Decimal, Decimal])
    bids, asks = book.top(5)
    assert_type(bids, list[tuple[Decimal, Decimal]])
    return asks[0][0] - bids[0][0]


def replayed(lake: tw.Lake) -> int:
    """Plays the past."""
    total = 0
    for batch in lake.replay("BTCUSDT", kinds=["trades"], speed=None):
        total += len(batch)
        assert_type(batch, tw.Batch)
        assert_type(batch["trades"], tw.Result)
        assert_type(batch.counts(), dict[str, int])
        total += sum(record["size"] > 1 for record in batch)
    return total


def followed(lake: tw.Lake) -> int:
    """Takes what comes, until ten records came."""
    total = 0
    with lake.follow("BTCUSDT", kinds=["trades"], offset=0) as follow:
        for batch in follow:
            assert_type(batch, tw.Batch)
            total += len(batch)
            if total > 10:
                break
        assert_type(follow.position, dict[str, dict[str, int | str | None]])
    return total


async def awaited(follow: tw.Follow) -> int:
    """Takes what comes, without blocking others."""
    return sum([len(batch) async for batch in follow])


def scanned(lake: tw.Lake) -> pl.DataFrame:
    """Lets other libraries read a table."""
    scan = lake.scan("trades", "BTCUSDT")
    assert_type(scan, tw.Scan)
    assert_type(scan.lazy(), pl.LazyFrame)
    connection = lake.connect()
    assert_type(connection, duckdb.DuckDBPyConnection)
    return scan.lazy().filter(pl.col("price") > 1).collect()


lake = tw.open("demo", external_access=False)
print([list(shapes(result)) for result in answers(lake)])
print(completeness(lake), spread(lake), replayed(lake), followed(lake), scanned(lake))
