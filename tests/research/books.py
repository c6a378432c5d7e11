"""Whole books: at an instant, and along the day."""

from functools import cache
from typing import Any

import polars as pl
from tests.research.base import (
    BID,
    PRICE,
    SIZE,
    TURNOVER,
    Answer,
    Question,
    Records,
    decimal,
    ints,
    ratio,
    rows,
)
from tests.research.base import scalar as only
from tests.research.market import MIDNIGHT, SPOT

import tapeworks as tw

SYMBOL = "SOLUSDT"
SOL = f"venue = '{SPOT}' and symbol = '{SYMBOL}'"
SNAPSHOT = 9
BOOK_SQL = f"""
with begun as (
    select max(tape_offset) as place from book_markers
    where {SOL} and code = 'checkpoint_begin' and epoch_ns(ts_event) <= {MIDNIGHT}
), levels as (
    select side, price, arg_max(size, tape_offset) as size from book_levels, begun
    where {SOL} and tape_offset > place and epoch_ns(ts_event) + ts_event_ns <= {MIDNIGHT}
    group by all having arg_max(size, tape_offset) > 0
), bids as (
    select price, size, row_number() over (order by price desc) as level
    from levels where side = 'bid'
), asks as (
    select price, size, row_number() over (order by price) as level
    from levels where side = 'ask'
), middle as (
    select (select max(price) from bids) + (select min(price) from asks) as twice
)
"""
"""The book of SOLUSDT at midnight: the last whole book before, and what changed since."""

Levels = list[tuple[int, int]]


class Ladder:
    """A book that is kept by the venue's own rule: a whole book, and the updates behind it."""

    def __init__(self) -> None:
        self.sides: tuple[dict[int, int], dict[int, int]] = {}, {}
        self.sequence = 0

    def apply(self, level: Any) -> None:
        """Sets one level, unless the whole book had it already."""
        price, size, sequence = int(level["price"]), int(level["size"]), int(level["sequence"])
        if level["channel"] == SNAPSHOT:
            if sequence != self.sequence:
                self.sides = {}, {}
        elif sequence < self.sequence:
            return
        self.sequence = sequence
        side = self.sides[0 if level["side"] == BID else 1]
        if size:
            side[price] = size
        else:
            side.pop(price, None)

    def best(self) -> tuple[Levels, Levels]:
        """Returns bids and asks, best first."""
        bids, asks = self.sides
        return sorted(bids.items(), reverse=True), sorted(asks.items())


def at_midnight(records: Records) -> tuple[Levels, Levels]:
    """Returns bids and asks of SOLUSDT at midnight, in integers."""
    ladder = Ladder()
    for level in records.of("depth", SYMBOL, SPOT):
        if level["ts_event"] > MIDNIGHT:
            break
        ladder.apply(level)
    return ladder.best()


@cache
def tops(records: Records) -> list[tuple[int, Levels, Levels]]:
    """Returns update and best five levels a side of each snapshot, from the updates alone."""
    snapshots = records.lake.snapshots(SYMBOL, source=SPOT).to_arrow()
    wanted = set(snapshots.column("sequence").to_pylist())
    ladder, found = Ladder(), []
    levels = records.of("depth", SYMBOL, SPOT)
    ends = [*(levels["sequence"][1:] != levels["sequence"][:-1]), True]
    for level, is_last in zip(levels, ends, strict=True):
        ladder.apply(level)
        if is_last and ladder.sequence in wanted:
            wanted.remove(ladder.sequence)
            bids, asks = ladder.best()
            found.append((ladder.sequence, bids[:5], asks[:5]))
    assert not wanted
    return found


class BookAtAnInstant(Question):
    """What did the best ten levels of SOLUSDT look like at midnight?"""

    def python(self, lake: tw.Lake) -> Answer:
        return list(lake.book(SYMBOL, MIDNIGHT, source=SPOT).top(10))

    def sql(self, lake: tw.Lake) -> Answer:
        sides = (
            f"{BOOK_SQL} select price, size from {side} where level <= 10 order by level"
            for side in ("bids", "asks")
        )
        return [rows(lake.sql(sql)) for sql in sides]

    def truth(self, records: Records) -> Answer:
        return [
            [(decimal(price, PRICE), decimal(size, SIZE)) for price, size in levels[:10]]
            for levels in at_midnight(records)
        ]


class DepthWithinTenBasisPoints(Question):
    """How much stood within ten basis points of the mid at midnight, on each side?"""

    def python(self, lake: tw.Lake) -> Answer:
        return list(lake.book(SYMBOL, MIDNIGHT, source=SPOT).depth(10))

    def sql(self, lake: tw.Lake) -> Answer:
        near = "from {} where abs(2 * price - twice) * 1000 <= twice"
        sql = (
            f"{BOOK_SQL} select (select sum(size) {near.format('bids, middle')}), "
            f"(select sum(size) {near.format('asks, middle')})"
        )
        return rows(lake.sql(sql))[0]

    def truth(self, records: Records) -> Answer:
        sides = at_midnight(records)
        twice = sides[0][0][0] + sides[1][0][0]
        return [
            decimal(
                sum(size for price, size in levels if abs(2 * price - twice) * 1000 <= twice), SIZE
            )
            for levels in sides
        ]


class CostOfBuying(Question):
    """What would it have cost to buy 2,000 SOL at once at midnight?"""

    def python(self, lake: tw.Lake) -> Answer:
        return lake.book(SYMBOL, MIDNIGHT, source=SPOT).cost("buy", 2_000)

    def sql(self, lake: tw.Lake) -> Answer:
        sql = (
            f"{BOOK_SQL}, summed as (select price, size, sum(size) over (order by price) - size "
            "as before from asks) select sum(price * least(size, 2000 - before)) from summed "
            "where before < 2000"
        )
        return only(lake.sql(sql))

    def truth(self, records: Records) -> Answer:
        left, cost = 2_000 * SIZE, 0
        for price, size in at_midnight(records)[1]:
            taken = min(left, size)
            left, cost = left - taken, cost + taken * price
        return decimal(cost, TURNOVER)


class LevelsOfTheBook(Question):
    """How many levels had the whole book at midnight, and how far apart are the outermost?"""

    def python(self, lake: tw.Lake) -> Answer:
        book = lake.book(SYMBOL, MIDNIGHT, source=SPOT)
        return [len(book.bids), len(book.asks), book.asks[-1][0] - book.bids[-1][0]]

    def sql(self, lake: tw.Lake) -> Answer:
        sql = (
            f"{BOOK_SQL} select (select count(*) from bids), (select count(*) from asks), "
            "(select max(price) from asks) - (select min(price) from bids)"
        )
        return rows(lake.sql(sql))[0]

    def truth(self, records: Records) -> Answer:
        bids, asks = at_midnight(records)
        return [len(bids), len(asks), decimal(asks[-1][0] - bids[-1][0], PRICE)]


class SizeByLevel(Question):
    """How much stands on average at each of the best five bids?"""

    def python(self, lake: tw.Lake) -> Answer:
        found = lake.snapshots(SYMBOL, source=SPOT).to_polars(decimals=True)
        sizes = [found["bid_size"].list.get(level) for level in range(5)]
        return [(level + 1, size.sum() / len(size)) for level, size in enumerate(sizes)]

    def sql(self, lake: tw.Lake) -> Answer:
        sql = (
            "with levels as (select unnest(bid_size[:5]) as size, "
            f"generate_subscripts(bid_size[:5], 1) as level from book_snapshots where {SOL}) "
            "select level, avg(size) from levels group by 1 order by 1"
        )
        return rows(lake.sql(sql))

    def truth(self, records: Records) -> Answer:
        books = [bids for _, bids, _ in tops(records)]
        return [
            (level + 1, ratio(sum(bids[level][1] for bids in books), len(books) * SIZE))
            for level in range(5)
        ]


class ImbalanceOfFiveLevels(Question):
    """How uneven are the best five levels in each snapshot?"""

    def python(self, lake: tw.Lake) -> Answer:
        found = lake.snapshots(SYMBOL, source=SPOT).to_polars()
        bids = pl.col("bid_size").list.head(5).list.sum()
        asks = pl.col("ask_size").list.head(5).list.sum()
        return found.select("sequence", (bids - asks) / (bids + asks)).rows()

    def sql(self, lake: tw.Lake) -> Answer:
        sql = (
            "with sums as (select sequence, list_sum(bid_size[:5]) as bids, list_sum(ask_size[:5]) "
            f"as asks from book_snapshots where {SOL}) "
            "select sequence, (bids - asks) / (bids + asks) from sums order by 1"
        )
        return rows(lake.sql(sql))

    def truth(self, records: Records) -> Answer:
        found = []
        for sequence, bids, asks in tops(records):
            bid, ask = (sum(size for _, size in levels) for levels in (bids, asks))
            found.append((sequence, ratio(bid - ask, bid + ask)))
        return found


class BookAgainstQuotes(Question):
    """How many snapshots begin with the prices of the last quote up to their update?"""

    def python(self, lake: tw.Lake) -> Answer:
        tops = lake.snapshots(SYMBOL, source=SPOT).to_polars(decimals=True).sort("sequence")
        tops = tops.with_columns(
            pl.col("bid_price").list.first().alias("bid"),
            pl.col("ask_price").list.first().alias("ask"),
        ).select("sequence", "bid", "ask")
        quotes = lake.quotes(SYMBOL, source=SPOT).to_polars(decimals=True).sort("sequence")
        both = tops.join_asof(quotes, on="sequence")
        same = (both["bid"] == both["bid_price"]) & (both["ask"] == both["ask_price"])
        return [same.sum(), len(tops)]

    def sql(self, lake: tw.Lake) -> Answer:
        where = SOL.replace("venue", "s.venue").replace("symbol", "s.symbol")
        sql = (
            "select count(*) filter (s.bid_price[1] = q.bid_price and s.ask_price[1] = "
            "q.ask_price), count(*) from book_snapshots s asof left join quotes q on s.venue = "
            f"q.venue and s.symbol = q.symbol and s.sequence >= q.sequence where {where}"
        )
        return rows(lake.sql(sql))[0]

    def truth(self, records: Records) -> Answer:
        quotes = records.of("quotes", SYMBOL, SPOT)
        names = ("sequence", "bid_price", "ask_price")
        entries = list(zip(*(ints(quotes[name]) for name in names), strict=True))
        at = -1
        same = total = 0
        for sequence, bids, asks in tops(records):
            while at + 1 < len(entries) and entries[at + 1][0] <= sequence:
                at += 1
            total += 1
            same += at >= 0 and entries[at][1:] == (bids[0][0], asks[0][0])
        return [same, total]
