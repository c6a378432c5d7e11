"""What was traded: volumes, prices and bars."""

from decimal import Decimal
from itertools import groupby
from typing import Any

import numpy as np
import polars as pl
from tests.research.base import (
    BUY,
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
    scalar,
)
from tests.research.market import NS, PERP, SPOT

import tapeworks as tw

BTC = "venue = 'binance-spot' and symbol = 'BTCUSDT'"
MINUTE = 60 * NS
LISTED = (("BTCUSDT", SPOT), ("SOLUSDT", SPOT), ("BTCUSDT", PERP))


def btc_trades(lake: tw.Lake) -> pl.DataFrame:
    """Returns the trades of BTCUSDT on spot, with floats for prices and sizes."""
    return lake.trades("BTCUSDT", source=SPOT).to_polars()


def btc(records: Records) -> Any:
    """Returns the same trades as records."""
    return records.trades("BTCUSDT", SPOT)


def turnover(trades: Any) -> int:
    """Returns the sum of price times size, in units of 1e-17."""
    return sum(p * s for p, s in zip(ints(trades["price"]), ints(trades["size"]), strict=True))


def windows(trades: Any, length: int) -> list[tuple[int, Any]]:
    """Returns the windows of `length` ns that hold trades: the start of each, and its trades."""
    starts = trades["ts_event"] // length * length
    return [(int(start), trades[starts == start]) for start in np.unique(starts)]


class VolumeByInstrument(Question):
    """How often and how much was traded of each instrument?"""

    def python(self, lake: tw.Lake) -> Answer:
        found = lake.trades(source="*").to_polars(decimals=True)
        totals = found.group_by("venue", "symbol").agg(pl.len(), pl.col("size").sum())
        return totals.sort("venue", "symbol").rows()

    def sql(self, lake: tw.Lake) -> Answer:
        return rows(
            lake.sql(
                "select venue, symbol, count(*), sum(size) from trades group by all order by all"
            )
        )

    def truth(self, records: Records) -> Answer:
        found = []
        for symbol, source in LISTED:
            sizes = list(ints(records.trades(symbol, source)["size"]))
            found.append((source, symbol, len(sizes), decimal(sum(sizes), SIZE)))
        return sorted(found)


class Vwap(Question):
    """At what volume-weighted average price was BTCUSDT traded?"""

    def python(self, lake: tw.Lake) -> Answer:
        found = btc_trades(lake)
        return (found["price"] * found["size"]).sum() / found["size"].sum()

    def sql(self, lake: tw.Lake) -> Answer:
        return scalar(lake.sql(f"select sum(price * size) / sum(size) from trades where {BTC}"))

    def truth(self, records: Records) -> Answer:
        trades = btc(records)
        return ratio(turnover(trades), sum(ints(trades["size"])) * PRICE)


class TurnoverByMinute(Question):
    """How much money changed hands in each minute, to the last digit?"""

    def python(self, lake: tw.Lake) -> Answer:
        found = lake.trades("BTCUSDT", source=SPOT)
        totals: dict[int, Decimal] = {}
        for row in found:
            start = int(row["ts_event"].timestamp()) // 60 * 60
            totals[start] = totals.get(start, Decimal(0)) + row["price"] * row["size"]
        return sorted(totals.items())

    def sql(self, lake: tw.Lake) -> Answer:
        sql = (
            "select epoch(time_bucket(interval 1 minute, ts_event))::bigint, sum(price * size) "
            f"from trades where {BTC} group by 1 order by 1"
        )
        return rows(lake.sql(sql))

    def truth(self, records: Records) -> Answer:
        return [
            (start // NS, decimal(turnover(trades), TURNOVER))
            for start, trades in windows(btc(records), MINUTE)
        ]


class VolumeProfile(Question):
    """How much was traded at each price, in steps of a quarter?"""

    def python(self, lake: tw.Lake) -> Answer:
        found = btc_trades(lake)
        step = (found["price"] * 4).floor().cast(pl.Int64)
        profile = found.group_by(step.alias("step")).agg(pl.col("size").sum()).sort("step")
        return profile.rows()

    def sql(self, lake: tw.Lake) -> Answer:
        sql = (
            "select floor(price * 4)::bigint, sum(size) from trades "
            f"where {BTC} group by 1 order by 1"
        )
        return rows(lake.sql(sql))

    def truth(self, records: Records) -> Answer:
        trades = btc(records)
        steps = trades["price"] * 4 // PRICE
        return [
            (int(step), decimal(int(trades["size"][steps == step].sum()), SIZE))
            for step in np.unique(steps)
        ]


class PointOfControl(Question):
    """At which single price was most traded?"""

    def python(self, lake: tw.Lake) -> Answer:
        found = lake.trades("BTCUSDT", source=SPOT).to_polars(decimals=True)
        profile = found.group_by("price").agg(pl.col("size").sum())
        return profile.sort("size", descending=True).row(0)

    def sql(self, lake: tw.Lake) -> Answer:
        sql = (
            f"select price, sum(size) as volume from trades where {BTC} "
            "group by 1 order by volume desc limit 1"
        )
        return rows(lake.sql(sql))[0]

    def truth(self, records: Records) -> Answer:
        trades = btc(records)
        profile = {
            int(price): int(trades["size"][trades["price"] == price].sum())
            for price in np.unique(trades["price"])
        }
        price, size = max(profile.items(), key=lambda entry: entry[1])
        return decimal(price, PRICE), decimal(size, SIZE)


class LargestTrades(Question):
    """Which ten trades were the largest, and who took?"""

    def python(self, lake: tw.Lake) -> Answer:
        found = lake.trades("BTCUSDT", source=SPOT).to_polars(decimals=True)
        largest = found.sort(["size", "trade_id"], descending=[True, False]).head(10)
        return largest.select("trade_id", "price", "size", "side").rows()

    def sql(self, lake: tw.Lake) -> Answer:
        sql = (
            f"select trade_id, price, size, side from trades where {BTC} "
            "order by size desc, trade_id limit 10"
        )
        return rows(lake.sql(sql))

    def truth(self, records: Records) -> Answer:
        trades = btc(records)
        first = np.lexsort((trades["trade_id"], -trades["size"]))[:10]
        return [
            (
                int(trade["trade_id"]),
                decimal(trade["price"], PRICE),
                decimal(trade["size"], SIZE),
                "buy" if trade["side"] == BUY else "sell",
            )
            for trade in trades[first]
        ]


class RecordedBars(Question):
    """Do the recorded bars of a minute hold what the trades say?"""

    def python(self, lake: tw.Lake) -> Answer:
        found = lake.bars("BTCUSDT", interval="1m", source=SPOT).to_polars(decimals=True)
        names = ("open", "high", "low", "close", "volume", "buy_volume", "turnover", "count")
        return found.select(pl.col("ts_event").dt.epoch("s"), *names).rows()

    def sql(self, lake: tw.Lake) -> Answer:
        sql = (
            "select epoch(ts_event)::bigint, open, high, low, close, volume, buy_volume, turnover, "
            f"count from bars_1m where {BTC} order by 1"
        )
        return rows(lake.sql(sql))

    def truth(self, records: Records) -> Answer:
        # The recording began within the first minute.
        return [bar(start, trades) for start, trades in windows(btc(records), MINUTE)[1:]]


def bar(start: int, trades: Any) -> tuple[Any, ...]:
    """Returns start in s, open, high, low, close, volume, bought volume, turnover, and count."""
    prices = trades["price"]
    bought = trades["size"][trades["side"] == BUY]
    return (
        start // NS,
        *(decimal(price, PRICE) for price in (prices[0], prices.max(), prices.min(), prices[-1])),
        decimal(trades["size"].sum(), SIZE),
        decimal(bought.sum(), SIZE),
        decimal(turnover(trades), TURNOVER),
        len(trades),
    )


class OddBars(Question):
    """What are open, high, low, close and volume of each 37 seconds?"""

    def python(self, lake: tw.Lake) -> Answer:
        bars = lake.bars("BTCUSDT", interval="37s", source=SPOT, partial=True)
        names = ("open", "high", "low", "close", "volume")
        start = pl.col("ts_event").dt.epoch("s")
        return bars.to_polars(decimals=True).select(start, *names).rows()

    def sql(self, lake: tw.Lake) -> Answer:
        order = "order by ts_event, tape_offset"
        sql = (
            "select epoch(time_bucket(interval 37 seconds, ts_event, 'epoch'::timestamptz))"
            f"::bigint, first(price {order}), max(price), min(price), last(price {order}), "
            f"sum(size) from trades where {BTC} group by 1 order by 1"
        )
        return rows(lake.sql(sql))

    def truth(self, records: Records) -> Answer:
        return [bar(start, trades)[:6] for start, trades in windows(btc(records), 37 * NS)]


class TickBars(Question):
    """What are the closes and volumes of bars of a hundred trades?"""

    def python(self, lake: tw.Lake) -> Answer:
        bars = lake.bars("BTCUSDT", ticks=100, source=SPOT, partial=True)
        frame = bars.to_polars(decimals=True).with_row_index("number")
        return frame.select("number", "close", "volume").rows()

    def sql(self, lake: tw.Lake) -> Answer:
        sql = (
            "with numbered as (select *, row_number() over (order by ts_event, ts_event_ns, "
            f"tape_offset) - 1 as number from trades where {BTC}) "
            "select number // 100, last(price order by number), sum(size) from numbered "
            "group by 1 order by 1"
        )
        return rows(lake.sql(sql))

    def truth(self, records: Records) -> Answer:
        trades = btc(records)
        parts = [trades[first : first + 100] for first in range(0, len(trades), 100)]
        return [
            (at, decimal(part["price"][-1], PRICE), decimal(part["size"].sum(), SIZE))
            for at, part in enumerate(parts)
        ]


class VolumeBars(Question):
    """How long does it take until another 20 BTC were traded, and what is the price then?"""

    def python(self, lake: tw.Lake) -> Answer:
        found = lake.trades("BTCUSDT", source=SPOT).to_polars(decimals=True)
        before = pl.col("size").cum_sum() - pl.col("size")
        number = (before.cast(pl.Float64) / 20).floor().cast(pl.Int64).alias("number")
        bars = found.group_by(number).agg(
            (pl.col("ts_event").last() - pl.col("ts_event").first()).dt.total_microseconds(),
            pl.col("price").last(),
        )
        return bars.sort("number").rows()

    def sql(self, lake: tw.Lake) -> Answer:
        sql = (
            "with summed as (select *, sum(size) over (order by ts_event, ts_event_ns, "
            f"tape_offset rows unbounded preceding) - size as before from trades where {BTC}) "
            "select floor(before / 20)::bigint, epoch_us(max(ts_event)) - epoch_us(min(ts_event)), "
            "last(price order by ts_event, tape_offset) from summed group by 1 order by 1"
        )
        return rows(lake.sql(sql))

    def truth(self, records: Records) -> Answer:
        found, traded = [], 0
        marked = []
        for trade in btc(records):
            marked.append((traded // (20 * SIZE), trade))
            traded += int(trade["size"])
        for number, part in groupby(marked, key=lambda entry: entry[0]):
            trades = [trade for _, trade in part]
            took = int(trades[-1]["ts_event"]) - int(trades[0]["ts_event"])
            found.append((number, took // 1000, decimal(trades[-1]["price"], PRICE)))
        return found


class ValueBars(Question):
    """How many trades does each million of USDT take?"""

    def python(self, lake: tw.Lake) -> Answer:
        found = btc_trades(lake)
        value = found["price"] * found["size"]
        number = ((value.cum_sum() - value) / 1e6).floor().cast(pl.Int64).alias("number")
        return found.group_by(number).agg(pl.len()).sort("number").rows()

    def sql(self, lake: tw.Lake) -> Answer:
        sql = (
            "with summed as (select sum(price * size) over (order by ts_event, ts_event_ns, "
            f"tape_offset rows unbounded preceding) - price * size as before from trades "
            f"where {BTC}) select floor(before / 1e6)::bigint, count(*) from summed "
            "group by 1 order by 1"
        )
        return rows(lake.sql(sql))

    def truth(self, records: Records) -> Answer:
        counts: dict[int, int] = {}
        total = 0
        for trade in btc(records):
            number = total // (1_000_000 * TURNOVER)
            counts[number] = counts.get(number, 0) + 1
            total += int(trade["price"]) * int(trade["size"])
        return sorted(counts.items())
