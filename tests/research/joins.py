"""Several tables at once: trades with quotes, and one venue with the other.

Quotes of spot have no time of event, so that the venues are put side by side by time of receipt.
"""

import statistics
from bisect import bisect_left, bisect_right
from decimal import Decimal
from functools import cache
from typing import Any

import numpy as np
import polars as pl
from tests.research.base import (
    BUY,
    PRICE,
    SIZE,
    Answer,
    Question,
    Records,
    decimal,
    ints,
    ratio,
    rows,
)
from tests.research.market import END, NS, PERP, SPOT, START

import tapeworks as tw

WHERE = "venue = 'binance-usdm' and symbol = 'BTCUSDT'"
MET_SQL = f"""
with t as (select *, epoch_ns(ts_event) + ts_event_ns as instant from trades where {WHERE}),
q as (select *, epoch_ns(ts_event) + ts_event_ns as instant from quotes where {WHERE}),
lasts as (select instant, last(bid_price order by tape_offset) as bid, last(ask_price order by
    tape_offset) as ask from q group by 1),
met as (select t.*, bid, ask from t asof join lasts on t.instant > lasts.instant)
"""
"""Trades of the perpetual, each with the best prices before it."""
FIRST_S, LAST_S = START // NS + 10, END // NS - 10


def met(lake: tw.Lake, *, decimals: bool = False) -> pl.DataFrame:
    """Returns trades of the perpetual, each with the quote before it, where there is one."""
    found = lake.asof("trades", "quotes", "BTCUSDT", source=PERP).to_polars(decimals=decimals)
    return found.rename({"quotes_bid_price": "bid", "quotes_ask_price": "ask"}).drop_nulls("bid")


@cache
def with_quotes(records: Records) -> list[tuple[Any, int, int]]:
    """Returns the same trades as records, with bid and ask."""
    quotes = records.quotes("BTCUSDT", PERP)
    times = list(ints(quotes["ts_event"]))
    found = []
    for trade in records.trades("BTCUSDT", PERP):
        at = bisect_left(times, int(trade["ts_event"])) - 1
        if at >= 0:
            found.append((trade, int(quotes["bid_price"][at]), int(quotes["ask_price"][at])))
    return found


class EffectiveSpread(Question):
    """What did takers pay over the mid, in basis points, weighted by size?"""

    def python(self, lake: tw.Lake) -> Answer:
        found = met(lake)
        mid = (found["bid"] + found["ask"]) / 2
        paid = 20_000 * (found["price"] - mid).abs() / mid
        return (paid * found["size"]).sum() / found["size"].sum()

    def sql(self, lake: tw.Lake) -> Answer:
        sql = (
            f"{MET_SQL} select sum(20000 * abs(2 * price - bid - ask) / (bid + ask) * size) / "
            "sum(size) from met"
        )
        return rows(lake.sql(sql))[0][0]

    def truth(self, records: Records) -> Answer:
        paid, sizes = 0.0, 0
        for trade, bid, ask in with_quotes(records):
            size, twice = int(trade["size"]), bid + ask
            paid += 20_000 * ratio(abs(2 * int(trade["price"]) - twice), twice) * size
            sizes += size
        return paid / sizes


class WhereTradesHappen(Question):
    """How many trades were at the bid, at the ask, between them, and outside of both?"""

    def python(self, lake: tw.Lake) -> Answer:
        found = met(lake, decimals=True)
        price, bid, ask = found["price"], found["bid"], found["ask"]
        inside = (price > bid) & (price < ask)
        outside = (price < bid) | (price > ask)
        return [int(part.sum()) for part in (price == bid, price == ask, inside, outside)]

    def sql(self, lake: tw.Lake) -> Answer:
        sql = (
            f"{MET_SQL} select count(*) filter (price = bid), count(*) filter (price = ask), "
            "count(*) filter (price > bid and price < ask), "
            "count(*) filter (price < bid or price > ask) from met"
        )
        return rows(lake.sql(sql))[0]

    def truth(self, records: Records) -> Answer:
        told = [(int(trade["price"]), bid, ask) for trade, bid, ask in with_quotes(records)]
        return [
            sum(price == bid for price, bid, _ in told),
            sum(price == ask for price, _, ask in told),
            sum(bid < price < ask for price, bid, ask in told),
            sum(price < bid or price > ask for price, bid, ask in told),
        ]


class SidesByTheQuoteRule(Question):
    """How often does the quote rule name the side that the venue names?"""

    def python(self, lake: tw.Lake) -> Answer:
        found = met(lake, decimals=True).filter(
            2 * pl.col("price") != pl.col("bid") + pl.col("ask")
        )
        is_buy = 2 * found["price"] > found["bid"] + found["ask"]
        return [int((is_buy == (found["side"] == "buy")).sum()), len(found)]

    def sql(self, lake: tw.Lake) -> Answer:
        sql = (
            f"{MET_SQL} select count(*) filter ((2 * price > bid + ask) = (side = 'buy')), "
            "count(*) from met where 2 * price <> bid + ask"
        )
        return rows(lake.sql(sql))[0]

    def truth(self, records: Records) -> Answer:
        agreed = []
        for trade, bid, ask in with_quotes(records):
            over = 2 * int(trade["price"]) - bid - ask
            if over:
                agreed.append((over > 0) == (trade["side"] == BUY))
        return [sum(agreed), len(agreed)]


class Markouts(Question):
    """How far has the mid moved for the taker 1 and 5 seconds after a trade, on average?"""

    def python(self, lake: tw.Lake) -> Answer:
        trades = met(lake)
        quotes = lake.quotes("BTCUSDT", source=PERP).to_polars()
        mids = quotes.select(
            "ts_event", ((pl.col("bid_price") + pl.col("ask_price")) / 2).alias("after")
        )
        found = []
        for seconds in (1, 5):
            later = trades.with_columns(pl.col("ts_event") + pl.duration(seconds=seconds))
            moved = later.join_asof(mids, on="ts_event")
            sign = (moved["side"] == "buy").cast(pl.Int8) * 2 - 1
            found.append((sign * (moved["after"] - (moved["bid"] + moved["ask"]) / 2)).mean())
        return found

    def sql(self, lake: tw.Lake) -> Answer:
        sql = (
            f"{MET_SQL} select avg(if(side = 'buy', 1, -1) * "
            "(lasts.bid + lasts.ask - met.bid - met.ask) / 2) "
            "from met asof join lasts on met.instant + {}::bigint * 1000000000 >= lasts.instant"
        )
        return [rows(lake.sql(sql.format(seconds)))[0][0] for seconds in (1, 5)]

    def truth(self, records: Records) -> Answer:
        quotes = records.quotes("BTCUSDT", PERP)
        times = list(ints(quotes["ts_event"]))
        found = []
        for seconds in (1, 5):
            moves = []
            for trade, bid, ask in with_quotes(records):
                at = bisect_right(times, int(trade["ts_event"]) + seconds * NS) - 1
                after = int(quotes["bid_price"][at]) + int(quotes["ask_price"][at])
                moves.append((after - bid - ask) * (1 if trade["side"] == BUY else -1))
            found.append(ratio(sum(moves), 2 * len(moves) * PRICE))
        return found


def mids_sql(source: str) -> str:
    """Returns the SQL of twice the mid of BTCUSDT by the receipt of its quotes."""
    return (
        "select epoch_ns(ts_recv) + ts_recv_ns as instant, last(bid_price + ask_price order by "
        f"tape_offset) as twice from quotes where venue = '{source}' and symbol = 'BTCUSDT' "
        "group by 1"
    )


GRID_SQL = f"""
with seconds as (select unnest(range({FIRST_S}, {LAST_S})) as second),
spot as ({mids_sql(SPOT)}), perp as ({mids_sql(PERP)}),
grid as (select second, spot.twice as spot, perp.twice as perp from seconds
    asof join spot on second * 1000000000 >= spot.instant
    asof join perp on second * 1000000000 >= perp.instant)
"""
"""Twice the mid of both venues at every second."""


def grid(lake: tw.Lake) -> pl.DataFrame:
    """Returns the mid of both venues at every second."""
    found = pl.DataFrame({"second": range(FIRST_S, LAST_S)}).with_columns(
        pl.from_epoch("second", "s").cast(pl.Datetime("us", "UTC")).alias("ts_recv")
    )
    for name, source in (("spot", SPOT), ("perp", PERP)):
        quotes = lake.quotes("BTCUSDT", source=source).to_polars()
        mid = ((pl.col("bid_price") + pl.col("ask_price")) / 2).alias(name)
        found = found.join_asof(quotes.select("ts_recv", mid).sort("ts_recv"), on="ts_recv")
    return found


@cache
def twice_mids(records: Records) -> list[tuple[int, int]]:
    """Returns twice the mid of both venues, in integers, at every second."""
    found = []
    for source in (SPOT, PERP):
        quotes = records.of("quotes", "BTCUSDT", source)
        places = np.searchsorted(quotes["ts_recv"], np.arange(FIRST_S, LAST_S) * NS, "right") - 1
        assert places.min() >= 0
        found.append([int(a) + int(b) for a, b in quotes[["bid_price", "ask_price"]][places]])
    return list(zip(*found, strict=True))


class CrossVenueSpread(Question):
    """How far is the perpetual over spot in each minute, in basis points?"""

    def python(self, lake: tw.Lake) -> Answer:
        found = grid(lake)
        basis = 1e4 * (pl.col("perp") / pl.col("spot") - 1)
        minutes = found.group_by(pl.col("second") // 60).agg(basis.mean().alias("basis"))
        return minutes.sort("second").rows()

    def sql(self, lake: tw.Lake) -> Answer:
        sql = (
            f"{GRID_SQL} select second // 60, avg(1e4 * (perp - spot) / spot) from grid "
            "group by 1 order by 1"
        )
        return rows(lake.sql(sql))

    def truth(self, records: Records) -> Answer:
        minutes: dict[int, list[float]] = {}
        for second, (spot, perp) in enumerate(twice_mids(records), FIRST_S):
            minutes.setdefault(second // 60, []).append(ratio((perp - spot) * 10_000, spot))
        return [(minute, statistics.fmean(values)) for minute, values in minutes.items()]


class LeadAndLag(Question):
    """Do the two venues move together, or one a second after the other?"""

    # A price differs from the next in its last digits alone, so that a float keeps few of them.
    RELATIVE = 1e-6

    def python(self, lake: tw.Lake) -> Answer:
        found = grid(lake)
        moved = found.select(pl.col("spot", "perp").log().diff()).drop_nulls()
        lags = [moved.select(pl.col("spot"), pl.col("perp").shift(lag)) for lag in (-1, 0, 1)]
        return [lag.drop_nulls().select(pl.corr("spot", "perp")).item() for lag in lags]

    def sql(self, lake: tw.Lake) -> Answer:
        sql = (
            f"{GRID_SQL}, moved as (select second, ln(spot / lag(spot) over (order by second)) as "
            "spot, ln(perp / lag(perp) over (order by second)) as perp from grid), shifted as "
            "(select spot, perp, lead(perp) over (order by second) as after, lag(perp) over "
            "(order by second) as before from moved) "
            "select corr(spot, after), corr(spot, perp), corr(spot, before) from shifted"
        )
        return rows(lake.sql(sql))[0]

    def truth(self, records: Records) -> Answer:
        mids = np.log(np.array(twice_mids(records), dtype=float))
        spot, perp = np.diff(mids, axis=0).T
        pairs = ((spot[:-1], perp[1:]), (spot, perp), (spot[1:], perp[:-1]))
        return [float(np.corrcoef(a, b)[0, 1]) for a, b in pairs]


class Funding(Question):
    """What would a long position of 2 BTC pay at the next funding, by the newest mark?"""

    def python(self, lake: tw.Lake) -> Answer:
        mark = lake.rows("marks", "BTCUSDT", source=PERP)[-1]
        return [int(mark["ts_funding"].timestamp()), 2 * mark["mark_price"] * mark["funding_rate"]]

    def sql(self, lake: tw.Lake) -> Answer:
        sql = (
            "select epoch(ts_funding)::bigint, 2 * mark_price * funding_rate from marks "
            f"where {WHERE} order by tape_offset desc limit 1"
        )
        return rows(lake.sql(sql))[0]

    def truth(self, records: Records) -> Answer:
        mark = records.of("marks", "BTCUSDT", PERP)[-1]
        paid = Decimal(2 * int(mark["mark_price"]) * int(mark["funding_rate"])).scaleb(-18)
        return [int(mark["ts_funding"]) // NS, paid]


class Premium(Question):
    """How far is the mark price over the index in each minute, in basis points?"""

    def python(self, lake: tw.Lake) -> Answer:
        found = lake.rows("marks", "BTCUSDT", source=PERP).to_polars()
        premium = 1e4 * (pl.col("mark_price") / pl.col("index_price") - 1)
        minute = pl.col("ts_event").dt.epoch("s") // 60
        return found.group_by(minute).agg(premium.mean().alias("mean")).sort("ts_event").rows()

    def sql(self, lake: tw.Lake) -> Answer:
        sql = (
            "select epoch(ts_event)::bigint // 60, avg(1e4 * (mark_price - index_price) / "
            f"index_price) from marks where {WHERE} group by 1 order by 1"
        )
        return rows(lake.sql(sql))

    def truth(self, records: Records) -> Answer:
        minutes: dict[int, list[float]] = {}
        for row in records.of("marks", "BTCUSDT", PERP):
            mark, index = int(row["mark_price"]), int(row["index_price"])
            minute = int(row["ts_event"]) // (60 * NS)
            minutes.setdefault(minute, []).append(ratio((mark - index) * 10_000, index))
        return [(minute, statistics.fmean(values)) for minute, values in minutes.items()]


class UniformView(Question):
    """Does the uniform view hold all that was traded, and the last price of it?"""

    def python(self, lake: tw.Lake) -> Answer:
        ticks = lake.ticks("BTCUSDT", source=PERP).to_polars(decimals=True)
        return [ticks["volume"].sum(), ticks["last"].drop_nulls()[-1]]

    def sql(self, lake: tw.Lake) -> Answer:
        sql = f"select sum(volume), last(last order by tape_offset) from ticks where {WHERE}"
        return rows(lake.sql(sql))[0]

    def truth(self, records: Records) -> Answer:
        trades = records.of("trades", "BTCUSDT", PERP)
        return [decimal(trades["size"].sum(), SIZE), decimal(trades["price"][-1], PRICE)]
