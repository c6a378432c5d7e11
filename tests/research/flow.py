"""Returns, volatility and order flow."""

import math
import statistics
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
from tests.research.base import (
    BUY,
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
from tests.research.market import NS, SPOT
from tests.research.trades import BTC, MINUTE, btc, btc_trades, turnover, windows

import tapeworks as tw

ORDER = "order by ts_event, ts_event_ns, tape_offset"


def minute_bars(lake: tw.Lake) -> pl.DataFrame:
    """Returns the recorded bars of a minute."""
    return lake.bars("BTCUSDT", interval="1m", source=SPOT).to_polars()


def whole_minutes(records: Records) -> list[Any]:
    """Returns the trades of each minute but the first, in which the recording began."""
    return [trades for _, trades in windows(btc(records), MINUTE)[1:]]


def changes(values: list[int]) -> list[float]:
    """Returns the logarithms of the quotients of neighbours."""
    return [math.log(after / before) for before, after in pairwise(values)]


class SignedFlowByMinute(Question):
    """By how much did buying exceed selling in each minute?"""

    def python(self, lake: tw.Lake) -> Answer:
        found = lake.trades("BTCUSDT", source=SPOT).to_polars(decimals=True)
        signed = pl.when(pl.col("side") == "buy").then(pl.col("size")).otherwise(-pl.col("size"))
        minute = pl.col("ts_event").dt.epoch("s") // 60 * 60
        return found.group_by(minute).agg(signed.sum().alias("net")).sort("ts_event").rows()

    def sql(self, lake: tw.Lake) -> Answer:
        sql = (
            "select epoch(date_trunc('minute', ts_event))::bigint, "
            "sum(case side when 'buy' then size else -size end) "
            f"from trades where {BTC} group by 1 order by 1"
        )
        return rows(lake.sql(sql))

    def truth(self, records: Records) -> Answer:
        found = []
        for start, trades in windows(btc(records), MINUTE):
            signed = np.where(trades["side"] == BUY, trades["size"], -trades["size"])
            found.append((start // NS, decimal(signed.sum(), SIZE)))
        return found


class ShareOfBuyers(Question):
    """Which share of the money was spent by takers who bought?"""

    def python(self, lake: tw.Lake) -> Answer:
        found = btc_trades(lake)
        value = found["price"] * found["size"]
        return value.filter(found["side"] == "buy").sum() / value.sum()

    def sql(self, lake: tw.Lake) -> Answer:
        sql = (
            "select sum(price * size) filter (side = 'buy') / sum(price * size) "
            f"from trades where {BTC}"
        )
        return scalar(lake.sql(sql))

    def truth(self, records: Records) -> Answer:
        trades = btc(records)
        return ratio(turnover(trades[trades["side"] == BUY]), turnover(trades))


class SignAutocorrelation(Question):
    """How much does the side of a trade say of the side of the next?"""

    def python(self, lake: tw.Lake) -> Answer:
        sign = (btc_trades(lake)["side"] == "buy").cast(pl.Int8) * 2 - 1
        frame = pl.DataFrame({"sign": sign, "next": sign.shift(-1)}).drop_nulls()
        return frame.select(pl.corr("sign", "next")).item()

    def sql(self, lake: tw.Lake) -> Answer:
        sql = (
            f"with signs as (select if(side = 'buy', 1, -1) as sign, lag(sign) over ({ORDER}) "
            f"as before from trades where {BTC}) select corr(sign, before) from signs"
        )
        return scalar(lake.sql(sql))

    def truth(self, records: Records) -> Answer:
        signs = [1 if side == BUY else -1 for side in ints(btc(records)["side"])]
        return statistics.correlation(signs[:-1], signs[1:])


class RealizedVolatility(Question):
    """How volatile was BTCUSDT, by the closes of minutes?"""

    def python(self, lake: tw.Lake) -> Answer:
        returns = minute_bars(lake)["close"].log().diff().drop_nulls()
        return math.sqrt((returns**2).sum())

    def sql(self, lake: tw.Lake) -> Answer:
        sql = (
            "with returns as (select ln(close / lag(close) over (order by ts_event)) as r "
            f"from bars_1m where {BTC}) select sqrt(sum(r * r)) from returns"
        )
        return scalar(lake.sql(sql))

    def truth(self, records: Records) -> Answer:
        closes = [int(trades["price"][-1]) for trades in whole_minutes(records)]
        return math.sqrt(math.fsum(change**2 for change in changes(closes)))


class RangeVolatility(Question):
    """How volatile was it by the highest and lowest price of each minute (Parkinson)?"""

    def python(self, lake: tw.Lake) -> Answer:
        bars = minute_bars(lake)
        spans = (bars["high"] / bars["low"]).log() ** 2
        return math.sqrt(spans.sum() / (4 * math.log(2) * len(bars)))

    def sql(self, lake: tw.Lake) -> Answer:
        sql = (
            "select sqrt(sum(ln(high / low) ** 2) / (4 * ln(2) * count(*))) "
            f"from bars_1m where {BTC}"
        )
        return scalar(lake.sql(sql))

    def truth(self, records: Records) -> Answer:
        minutes = whole_minutes(records)
        spans = [
            math.log(int(trades["price"].max()) / int(trades["price"].min())) ** 2
            for trades in minutes
        ]
        return math.sqrt(math.fsum(spans) / (4 * math.log(2) * len(minutes)))


class TimeWeightedPrice(Question):
    """What was the mean of the last prices at the end of every second (TWAP)?"""

    def python(self, lake: tw.Lake) -> Answer:
        found = lake.trades("BTCUSDT", source=SPOT).to_pandas()
        return found.set_index("ts_event")["price"].resample("1s").last().ffill().mean()

    def sql(self, lake: tw.Lake) -> Answer:
        sql = (
            f"with prices as (select ts_event, last(price {ORDER}) as price from trades "
            f"where {BTC} group by 1), seconds as (select unnest(range("
            "(select date_trunc('second', min(ts_event)) from prices), "
            "(select date_trunc('second', max(ts_event)) from prices) + interval 1 second, "
            "interval 1 second)) as start) select avg(price) from seconds asof join prices "
            "on ts_event < start + interval 1 second"
        )
        return scalar(lake.sql(sql))

    def truth(self, records: Records) -> Answer:
        trades = btc(records)
        times, prices = list(ints(trades["ts_event"])), list(ints(trades["price"]))
        held, at = [], 0
        for second in range(times[0] // NS, times[-1] // NS + 1):
            while at < len(times) and times[at] < (second + 1) * NS:
                at += 1
            held.append(prices[at - 1])
        return ratio(sum(held), len(held) * 10**9)


class BusiestSecond(Question):
    """In which second were the most trades, and how many?"""

    def python(self, lake: tw.Lake) -> Answer:
        second = pl.col("ts_event").dt.epoch("s")
        counts = btc_trades(lake).group_by(second).agg(pl.len())
        return counts.sort(["len", "ts_event"], descending=[True, False]).row(0)

    def sql(self, lake: tw.Lake) -> Answer:
        sql = (
            "select epoch(date_trunc('second', ts_event))::bigint as second, count(*) as n "
            f"from trades where {BTC} group by 1 order by n desc, second limit 1"
        )
        return rows(lake.sql(sql))[0]

    def truth(self, records: Records) -> Answer:
        seconds, counts = np.unique(btc(records)["ts_event"] // NS, return_counts=True)
        return int(seconds[counts.argmax()]), int(counts.max())


class Drawdown(Question):
    """What was the largest loss from a highest price so far?"""

    def python(self, lake: tw.Lake) -> Answer:
        price = btc_trades(lake)["price"]
        return (1 - price / price.cum_max()).max()

    def sql(self, lake: tw.Lake) -> Answer:
        sql = (
            f"with held as (select price, max(price) over ({ORDER} rows unbounded preceding) "
            f"as top from trades where {BTC}) select max((top - price) / top) from held"
        )
        return scalar(lake.sql(sql))

    def truth(self, records: Records) -> Answer:
        top, worst = 0, 0.0
        for price in ints(btc(records)["price"]):
            top = max(top, price)
            worst = max(worst, ratio(top - price, top))
        return worst


class Illiquidity(Question):
    """How far does the price of a minute move for a million (Amihud)?"""

    def python(self, lake: tw.Lake) -> Answer:
        bars = minute_bars(lake)
        moved = (bars["close"] / bars["open"] - 1).abs()
        return (moved / (bars["turnover"] / 1e6)).mean()

    def sql(self, lake: tw.Lake) -> Answer:
        sql = f"select avg(abs(close / open - 1) / (turnover / 1e6)) from bars_1m where {BTC}"
        return scalar(lake.sql(sql))

    def truth(self, records: Records) -> Answer:
        found = []
        for trades in whole_minutes(records):
            first, last = int(trades["price"][0]), int(trades["price"][-1])
            found.append(ratio(abs(last - first) * 10**6 * TURNOVER, first * turnover(trades)))
        return statistics.fmean(found)


class PriceChanges(Question):
    """Do changes of the price tend to be taken back (the covariance in Roll's spread)?"""

    def python(self, lake: tw.Lake) -> Answer:
        change = btc_trades(lake)["price"].diff()
        frame = pl.DataFrame({"now": change, "before": change.shift(1)}).drop_nulls()
        return frame.select(pl.cov("now", "before")).item()

    def sql(self, lake: tw.Lake) -> Answer:
        sql = (
            f"with moved as (select price - lag(price) over ({ORDER}) as change, tape_offset, "
            f"ts_event, ts_event_ns from trades where {BTC}), pairs as (select change, "
            f"lag(change) over ({ORDER}) as before from moved) "
            "select covar_samp(change, before) from pairs"
        )
        return scalar(lake.sql(sql))

    def truth(self, records: Records) -> Answer:
        moved = [after - before for before, after in pairwise(ints(btc(records)["price"]))]
        return statistics.covariance(moved[1:], moved[:-1]) / 1e18


class TimeBetweenTrades(Question):
    """How long is it from one trade to the next: on average, one time in a hundred, at most?"""

    def python(self, lake: tw.Lake) -> Answer:
        waits = btc_trades(lake)["ts_event"].diff().drop_nulls().dt.total_microseconds()
        return [waits.mean(), waits.quantile(0.99, "linear"), waits.max()]

    def sql(self, lake: tw.Lake) -> Answer:
        sql = (
            f"with waits as (select epoch_us(ts_event) - epoch_us(lag(ts_event) over ({ORDER})) "
            f"as wait from trades where {BTC}) "
            "select avg(wait), quantile_cont(wait, 0.99), max(wait) from waits"
        )
        return rows(lake.sql(sql))[0]

    def truth(self, records: Records) -> Answer:
        times = list(ints(btc(records)["ts_event"]))
        waits = sorted((after - before) // 1000 for before, after in pairwise(times))
        place, part = divmod(99 * (len(waits) - 1), 100)
        rare = waits[place] + (waits[place + 1] - waits[place]) * part / 100
        return [ratio(sum(waits), len(waits)), rare, waits[-1]]
