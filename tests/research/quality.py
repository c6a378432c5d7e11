"""How good the data are: what is missing, how late it came, what was not understood."""

import math
from itertools import pairwise
from typing import Any

import polars as pl
from tests.research.base import PRICE, SIZE, Answer, Question, Records, decimal, ints, rows
from tests.research.market import BROKEN_FRAMES, END, NS, PERP, SPOT, START
from tests.research.trades import LISTED

import tapeworks as tw

MINUTE = 60 * NS


def lost_trades(records: Records) -> list[tuple[str, str, Any, Any]]:
    """Returns source, symbol and the trades around each hole in the ids."""
    found = []
    for symbol, source in LISTED:
        for before, after in pairwise(records.of("trades", symbol, source)):
            if after["trade_id"] != before["trade_id"] + 1:
                found.append((source, symbol, before, after))
    return found


class MissingTrades(Question):
    """How many trades are missing, of which instrument, and which are they?"""

    def python(self, lake: tw.Lake) -> Answer:
        found = lake.gaps().to_polars(decimals=True).filter(pl.col("channel") == "trade")
        names = ("venue", "symbol", "missing", "first_missing", "last_missing")
        return found.select(names).sort("venue", "symbol").rows()

    def sql(self, lake: tw.Lake) -> Answer:
        sql = (
            "select venue, symbol, missing, first_missing, last_missing from gaps "
            "where channel = 'trade' qualify row_number() over (partition by venue, symbol, "
            "first_missing order by tape_offset desc) = 1 order by 1, 2"
        )
        return rows(lake.sql(sql))

    def truth(self, records: Records) -> Answer:
        found = []
        for source, symbol, before, after in lost_trades(records):
            first, last = int(before["trade_id"]) + 1, int(after["trade_id"]) - 1
            found.append((source, symbol, last - first + 1, first, last))
        return sorted(found)


class Latency(Question):
    """How late do trades come: half of them, one in a hundred, the latest (in ns)?"""

    def python(self, lake: tw.Lake) -> Answer:
        found = []
        for source in (SPOT, PERP):
            trades = lake.trades("BTCUSDT", source=source).to_polars(decimals=True)
            late = (trades["ts_recv"] - trades["ts_event"]).dt.total_microseconds() * 1_000
            late = (late + trades["ts_recv_ns"] - trades["ts_event_ns"]).sort()
            places = [math.ceil(len(late) * part) - 1 for part in (0.5, 0.99, 1)]
            found.append((source, *(int(late[place]) for place in places)))
        return found

    def sql(self, lake: tw.Lake) -> Answer:
        sql = (
            "with late as (select venue, epoch_ns(ts_recv) + ts_recv_ns - epoch_ns(ts_event) - "
            "ts_event_ns as ns from trades where symbol = 'BTCUSDT') "
            "select venue, quantile_disc(ns, 0.5), quantile_disc(ns, 0.99), max(ns) from late "
            "group by 1 order by 1"
        )
        return rows(lake.sql(sql))

    def truth(self, records: Records) -> Answer:
        found = []
        for source in (SPOT, PERP):
            trades = records.of("trades", "BTCUSDT", source)
            late = sorted(ints(trades["ts_recv"] - trades["ts_event"]))
            half, rare = -(-len(late) // 2) - 1, -(-len(late) * 99 // 100) - 1
            found.append((source, late[half], late[rare], late[-1]))
        return found


class LongestSilence(Question):
    """For how long did no trade of an instrument come at most (in us)?"""

    def python(self, lake: tw.Lake) -> Answer:
        found = lake.trades().to_polars(decimals=True).sort("venue", "symbol", "ts_recv")
        waits = pl.col("ts_recv").diff().max().dt.total_microseconds()
        longest = found.group_by("venue", "symbol").agg(waits.alias("us"))
        return longest.sort("venue", "symbol").rows()

    def sql(self, lake: tw.Lake) -> Answer:
        sql = (
            "with waits as (select venue, symbol, epoch_us(ts_recv) - lag(epoch_us(ts_recv)) over "
            "(partition by venue, symbol order by ts_recv) as us from trades) "
            "select venue, symbol, max(us) from waits group by all order by all"
        )
        return rows(lake.sql(sql))

    def truth(self, records: Records) -> Answer:
        found = []
        for symbol, source in LISTED:
            times = [ts // 1_000 for ts in ints(records.of("trades", symbol, source)["ts_recv"])]
            found.append((source, symbol, max(after - before for before, after in pairwise(times))))
        return sorted(found)


class BrokenFrames(Question):
    """How many frames could not be understood, and why?"""

    def python(self, lake: tw.Lake) -> Answer:
        found = lake.dead_letters().to_polars(decimals=True)
        return found.group_by("venue", "reason").agg(pl.len()).sort("venue").rows()

    def sql(self, lake: tw.Lake) -> Answer:
        sql = "select venue, reason, count(*) from dead_letters group by all order by all"
        return rows(lake.sql(sql))

    def truth(self, records: Records) -> Answer:
        # They hold no record: the market says how many it sent, which lacked their time.
        return [(source, "missing_field", BROKEN_FRAMES) for source in (SPOT, PERP)]


class CleanMinutes(Question):
    """Which minutes of BTCUSDT on spot lack no trade?"""

    def python(self, lake: tw.Lake) -> Answer:
        missing = lake.coverage("BTCUSDT", source=SPOT, channel="trade").to_polars(decimals=True)
        # Of a broken frame in a capture, nobody knows of which channel it was.
        gaps = missing.filter(pl.col("finding") == "gap", pl.col("channel") == "trade")
        touched = set[int]()
        for first, last in gaps.select(pl.col("ts_from", "ts_to").dt.epoch("s") // 60).rows():
            touched.update(range(first, last + 1))
        every = range(START // MINUTE, END // MINUTE)
        return [minute * 60 for minute in every if minute not in touched]

    def sql(self, lake: tw.Lake) -> Answer:
        sql = (
            f"select start from unnest(range({START // NS}, {END // NS}, 60)) as minutes(start) "
            "where not exists (select * from gaps where channel = 'trade' and symbol = 'BTCUSDT' "
            f"and venue = '{SPOT}' and epoch_us(ts_from) < (start + 60) * 1000000 "
            "and epoch_us(ts_to) >= start * 1000000) order by 1"
        )
        return [start for (start,) in rows(lake.sql(sql))]

    def truth(self, records: Records) -> Answer:
        touched = set[int]()
        for source, symbol, before, after in lost_trades(records):
            if (source, symbol) == (SPOT, "BTCUSDT"):
                first, last = (int(trade["ts_event"]) // MINUTE for trade in (before, after))
                touched.update(range(first, last + 1))
        every = range(START // MINUTE, END // MINUTE)
        return [minute * 60 for minute in every if minute not in touched]


class Listing(Question):
    """In which steps are prices and sizes of the instruments quoted?"""

    def python(self, lake: tw.Lake) -> Answer:
        names = ("venue", "symbol", "canonical", "tick_size", "lot_size")
        return (
            lake.instruments().to_polars(decimals=True).select(names).sort("venue", "symbol").rows()
        )

    def sql(self, lake: tw.Lake) -> Answer:
        sql = (
            "select venue, symbol, canonical, tick_size, lot_size from instruments qualify "
            "row_number() over (partition by venue, symbol order by tape_offset desc) = 1 "
            "order by 1, 2"
        )
        return rows(lake.sql(sql))

    def truth(self, records: Records) -> Answer:
        found = []
        for symbol, source in LISTED:
            last = records.of("definitions", symbol, source)[-1]
            steps = decimal(last["tick_size"], PRICE), decimal(last["lot_size"], SIZE)
            found.append((source, symbol, last["canonical"].decode(), *steps))
        return sorted(found)


class Repetitions(Question):
    """Is any trade there twice, and did any come after a later one?"""

    def python(self, lake: tw.Lake) -> Answer:
        found = []
        for symbol, source in sorted(LISTED, key=lambda entry: entry[::-1]):
            trades = lake.trades(symbol, source=source).to_polars(decimals=True).sort("tape_offset")
            twice = len(trades) - trades["trade_id"].n_unique()
            late = (trades["ts_event"].diff().dt.total_microseconds() < 0).sum()
            found.append((source, symbol, twice, late))
        return found

    def sql(self, lake: tw.Lake) -> Answer:
        sql = (
            "with marked as (select venue, symbol, trade_id, ts_event < lag(ts_event) over "
            "(partition by venue, symbol order by tape_offset) as is_late from trades) "
            "select venue, symbol, count(*) - count(distinct trade_id), "
            "count(*) filter (is_late) from marked group by all order by 1, 2"
        )
        return rows(lake.sql(sql))

    def truth(self, records: Records) -> Answer:
        found = []
        for symbol, source in LISTED:
            trades = records.of("trades", symbol, source)
            times = list(ints(trades["ts_event"]))
            late = sum(after < before for before, after in pairwise(times))
            found.append((source, symbol, len(trades) - len(set(ints(trades["trade_id"]))), late))
        return sorted(found)


class Share(Question):
    """Which part of what was sent was recorded, by the numbers of the trades?"""

    def python(self, lake: tw.Lake) -> Answer:
        found = []
        for symbol, source in sorted(LISTED, key=lambda entry: entry[::-1]):
            ids = lake.trades(symbol, source=source).to_arrow().column("trade_id").to_pylist()
            found.append((source, symbol, len(ids) / (max(ids) - min(ids) + 1)))
        return found

    def sql(self, lake: tw.Lake) -> Answer:
        sql = (
            "select venue, symbol, count(*) / (max(trade_id) - min(trade_id) + 1) from trades "
            "group by all order by 1, 2"
        )
        return rows(lake.sql(sql))

    def truth(self, records: Records) -> Answer:
        lost: dict[tuple[str, str], int] = {}
        for source, symbol, before, after in lost_trades(records):
            count = int(after["trade_id"] - before["trade_id"]) - 1
            lost[source, symbol] = lost.get((source, symbol), 0) + count
        found = []
        for symbol, source in LISTED:
            count = len(records.of("trades", symbol, source))
            found.append((source, symbol, count / (count + lost.get((source, symbol), 0))))
        return sorted(found)
