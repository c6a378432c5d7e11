"""The best bid and offer: spreads, imbalances, and how they change.

Quotes of Binance spot have no time of event: theirs is that of receipt, and flags & 128 says so.
Perpetuals' have both.
"""

from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
from tests.research.base import PRICE, SIZE, Answer, Question, Records, decimal, ints, ratio, rows
from tests.research.base import scalar as only
from tests.research.market import NS, PERP

import tapeworks as tw

WHERE = "venue = 'binance-usdm' and symbol = 'BTCUSDT'"
ORDER = "order by ts_event, ts_event_ns, tape_offset"


def perp_quotes(lake: tw.Lake) -> pl.DataFrame:
    """Returns the quotes of the perpetual, with floats for prices and sizes."""
    return lake.quotes("BTCUSDT", source=PERP).to_polars()


def perp(records: Records) -> list[tuple[int, int, int, int, int]]:
    """Returns time, bid, its size, ask and its size of the same quotes, as integers."""
    quotes = records.quotes("BTCUSDT", PERP)
    names = ("ts_event", "bid_price", "bid_size", "ask_price", "ask_size")
    return list(zip(*(ints(quotes[name]) for name in names), strict=True))


def by_window(quotes: list[Any], length: int) -> dict[int, list[Any]]:
    """Returns quotes by the start of the window of `length` ns that they are in."""
    found: dict[int, list[Any]] = {}
    for quote in quotes:
        found.setdefault(quote[0] // length * length, []).append(quote)
    return found


class SpreadByHour(Question):
    """How wide is the spread on average, by hour of the day?"""

    def python(self, lake: tw.Lake) -> Answer:
        found = lake.quotes("BTCUSDT", source=PERP).to_pandas()
        spread = found["ask_price"] - found["bid_price"]
        return list(spread.groupby(found["ts_event"].dt.hour).mean().items())

    def sql(self, lake: tw.Lake) -> Answer:
        sql = (
            "select hour(ts_event), avg(ask_price - bid_price) from quotes "
            f"where {WHERE} group by 1 order by 1"
        )
        return rows(lake.sql(sql))

    def truth(self, records: Records) -> Answer:
        hours: dict[int, list[int]] = {}
        for ts, bid, _, ask, _ in perp(records):
            hours.setdefault(ts // (3600 * NS) % 24, []).append(ask - bid)
        return [
            (hour, ratio(sum(spreads), len(spreads) * PRICE))
            for hour, spreads in sorted(hours.items())
        ]


class TimeWeightedSpread(Question):
    """How wide is the spread in basis points, each quote as long as it stood?"""

    def python(self, lake: tw.Lake) -> Answer:
        found = perp_quotes(lake)
        stood = found["ts_event"].diff().dt.total_microseconds().shift(-1)
        bid, ask = found["bid_price"], found["ask_price"]
        spread = 20_000 * (ask - bid) / (ask + bid)
        return (spread * stood).sum() / stood.sum()

    def sql(self, lake: tw.Lake) -> Answer:
        sql = (
            f"with held as (select *, epoch_us(lead(ts_event) over ({ORDER})) - epoch_us(ts_event) "
            f"as stood from quotes where {WHERE}) select sum(20000 * (ask_price - bid_price) / "
            "(ask_price + bid_price) * stood) / sum(stood) from held"
        )
        return only(lake.sql(sql))

    def truth(self, records: Records) -> Answer:
        above, below = 0.0, 0
        for (ts, bid, _, ask, _), after in pairwise(perp(records)):
            above += 20_000 * ratio(ask - bid, ask + bid) * (after[0] - ts)
            below += after[0] - ts
        return above / below


class ImbalanceByMinute(Question):
    """Which part of the size at the best prices is bid, on average of each minute?"""

    def python(self, lake: tw.Lake) -> Answer:
        bid, ask = pl.col("bid_size"), pl.col("ask_size")
        minute = pl.col("ts_event").dt.truncate("1m").dt.epoch("s")
        found = perp_quotes(lake).group_by(minute).agg((bid / (bid + ask)).mean())
        return found.sort("ts_event").rows()

    def sql(self, lake: tw.Lake) -> Answer:
        sql = (
            "select epoch(date_trunc('minute', ts_event))::bigint, "
            f"avg(bid_size / (bid_size + ask_size)) from quotes where {WHERE} group by 1 order by 1"
        )
        return rows(lake.sql(sql))

    def truth(self, records: Records) -> Answer:
        found = []
        for start, quotes in by_window(perp(records), 60 * NS).items():
            parts = [ratio(bid, bid + ask) for _, _, bid, _, ask in quotes]
            found.append((start // NS, sum(parts) / len(parts)))
        return found


class MicropriceByMinute(Question):
    """What is the microprice at the end of each minute?"""

    def python(self, lake: tw.Lake) -> Answer:
        found = lake.quotes("BTCUSDT", source=PERP).to_pandas().set_index("ts_event")
        above = found["bid_price"] * found["ask_size"] + found["ask_price"] * found["bid_size"]
        prices = (above / (found["bid_size"] + found["ask_size"])).resample("1min").last()
        return [(int(start.timestamp()), price) for start, price in prices.items()]

    def sql(self, lake: tw.Lake) -> Answer:
        price = "(bid_price * ask_size + ask_price * bid_size) / (bid_size + ask_size)"
        sql = (
            f"select epoch(date_trunc('minute', ts_event))::bigint, last({price} {ORDER}) "
            f"from quotes where {WHERE} group by 1 order by 1"
        )
        return rows(lake.sql(sql))

    def truth(self, records: Records) -> Answer:
        found = []
        for start, quotes in by_window(perp(records), 60 * NS).items():
            _, bid, bid_size, ask, ask_size = quotes[-1]
            above = bid * ask_size + ask * bid_size
            found.append((start // NS, ratio(above, (bid_size + ask_size) * PRICE)))
        return found


class QuotesASecond(Question):
    """How many changes of the best prices come in a second: on average, and at most?"""

    def python(self, lake: tw.Lake) -> Answer:
        second = pl.col("ts_event").dt.epoch("s")
        counts = perp_quotes(lake).group_by(second).agg(pl.len())["len"]
        return [counts.mean(), counts.max()]

    def sql(self, lake: tw.Lake) -> Answer:
        sql = (
            "with counts as (select count(*) as n from quotes "
            f"where {WHERE} group by date_trunc('second', ts_event)) "
            "select avg(n), max(n) from counts"
        )
        return rows(lake.sql(sql))[0]

    def truth(self, records: Records) -> Answer:
        counts = [len(quotes) for quotes in by_window(perp(records), NS).values()]
        return [ratio(sum(counts), len(counts)), max(counts)]


class TimeAtOneTick(Question):
    """For which part of the time is the spread one tick?"""

    def python(self, lake: tw.Lake) -> Answer:
        found = lake.quotes("BTCUSDT", source=PERP).to_polars(decimals=True)
        [tick] = [
            row["tick_size"] for row in lake.instruments(source=PERP) if row["symbol"] == "BTCUSDT"
        ]
        stood = found["ts_event"].diff().dt.total_microseconds().shift(-1)
        narrow = found["ask_price"] - found["bid_price"] == tick
        return stood.filter(narrow).sum() / stood.sum()

    def sql(self, lake: tw.Lake) -> Answer:
        sql = (
            f"with held as (select *, epoch_us(lead(ts_event) over ({ORDER})) - epoch_us(ts_event) "
            f"as stood from quotes where {WHERE}), listed as (select last(tick_size order by "
            f"tape_offset) as tick from instruments where {WHERE}) select sum(stood) filter "
            "(ask_price - bid_price = tick) / sum(stood) from held, listed"
        )
        return only(lake.sql(sql))

    def truth(self, records: Records) -> Answer:
        tick = int(records.of("definitions", "BTCUSDT", PERP)["tick_size"][-1])
        narrow, all_of_it = 0, 0
        for (ts, bid, _, ask, _), after in pairwise(perp(records)):
            all_of_it += after[0] - ts
            narrow += (after[0] - ts) * (ask - bid == tick)
        return ratio(narrow, all_of_it)


class LockedOrCrossed(Question):
    """How many quotes are locked, crossed or without a side?"""

    def python(self, lake: tw.Lake) -> Answer:
        found = lake.quotes("BTCUSDT", source=PERP).to_polars(decimals=True)
        bid, ask = found["bid_price"], found["ask_price"]
        none = bid.null_count() + ask.null_count()
        return [int((bid == ask).sum()), int((bid > ask).sum()), none]

    def sql(self, lake: tw.Lake) -> Answer:
        sql = (
            "select count(*) filter (bid_price = ask_price), count(*) filter (bid_price > "
            "ask_price), count(*) filter (bid_price is null) + count(*) filter (ask_price is null) "
            f"from quotes where {WHERE}"
        )
        return rows(lake.sql(sql))[0]

    def truth(self, records: Records) -> Answer:
        quotes = records.quotes("BTCUSDT", PERP)
        bid, ask = quotes["bid_price"], quotes["ask_price"]
        none = absent(bid) + absent(ask)
        return [int((bid == ask).sum()), int((bid > ask).sum()), none]


def absent(prices: Any) -> int:
    """Returns how many of the prices of records are absent."""
    return int((prices == np.iinfo(np.int64).max).sum())


class OrderFlowImbalance(Question):
    """How large is the order flow imbalance of each ten seconds (Cont, Kukanov, Stoikov)?"""

    def python(self, lake: tw.Lake) -> Answer:
        found = lake.quotes("BTCUSDT", source=PERP).to_polars(decimals=True)
        bid, bids, ask, asks = map(pl.col, ("bid_price", "bid_size", "ask_price", "ask_size"))
        none = pl.lit(0)
        flow = (
            pl.when(bid >= bid.shift(1)).then(bids).otherwise(none)
            - pl.when(bid <= bid.shift(1)).then(bids.shift(1)).otherwise(none)
            - pl.when(ask <= ask.shift(1)).then(asks).otherwise(none)
            + pl.when(ask >= ask.shift(1)).then(asks.shift(1)).otherwise(none)
        )
        window = (pl.col("ts_event").dt.epoch("s") // 10 * 10).alias("window")
        frame = found.select(window, flow.alias("flow")).slice(1)
        return frame.group_by("window").agg(pl.col("flow").sum()).sort("window").rows()

    def sql(self, lake: tw.Lake) -> Answer:
        sql = (
            f"with moved as (select *, lag(bid_price) over w as bid, lag(bid_size) over w as bids, "
            "lag(ask_price) over w as ask, lag(ask_size) over w as asks "
            f"from quotes where {WHERE} window w as ({ORDER})) "
            "select epoch(time_bucket(interval 10 seconds, ts_event))::bigint, "
            "sum(if(bid_price >= bid, bid_size, 0) - if(bid_price <= bid, bids, 0) "
            "- if(ask_price <= ask, ask_size, 0) + if(ask_price >= ask, asks, 0)) "
            "from moved where bid is not null group by 1 order by 1"
        )
        return rows(lake.sql(sql))

    def truth(self, records: Records) -> Answer:
        flows: dict[int, int] = {}
        for (_, bid, bids, ask, asks), now in pairwise(perp(records)):
            ts, bid_now, bids_now, ask_now, asks_now = now
            flow = (bids_now if bid_now >= bid else 0) - (bids if bid_now <= bid else 0)
            flow += (asks if ask_now >= ask else 0) - (asks_now if ask_now <= ask else 0)
            start = ts // (10 * NS) * 10
            flows[start] = flows.get(start, 0) + flow
        return [(start, decimal(flow, SIZE)) for start, flow in sorted(flows.items())]
