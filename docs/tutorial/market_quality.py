# %% [markdown]
"""
# Market quality: a notebook

Spread, depth, imbalance and markouts of a recording. It runs on what `tape demo` left in the
folder `demo`; with another folder and `symbol`, on yours. In Jupyter, with the extension
Jupytext, this file opens as a notebook (`docs/tutorial/market_quality.py`); as a script it runs
too. It needs Polars and Matplotlib: `pip install polars matplotlib`.
"""

# %%
import os

import matplotlib.pyplot as plt
import polars as pl

import tapeworks as tw

lake = tw.open(os.environ.get("DEMO", "demo"))
source, symbol = "binance-spot", "BTCUSDT"

# %% [markdown]
"""
## First: is it complete?

A spread that is computed across a hole is wrong, and nothing in the numbers shows it. So ask
before anything else.
"""

# %%
print(lake.coverage(symbol, source=source))

# %% [markdown]
"""
## Which clock

Quotes of Binance spot have no event time, so that only the receive time puts trades and quotes on
one axis:
"""

# %%
clock = lake.time_column("trades", "quotes", source=source)
print(clock)

# %% [markdown]
"""
## Quoted spread

In basis points of the mid price. Each quote counts for as long as it stood.
"""

# %%
quotes = lake.quotes(symbol, source=source).to_polars()
quotes = quotes.with_columns(
    mid=(pl.col("bid_price") + pl.col("ask_price")) / 2,
    spread=pl.col("ask_price") - pl.col("bid_price"),
    seconds=pl.col(clock).diff().shift(-1).dt.total_microseconds() / 1e6,
).with_columns(spread_bp=pl.col("spread") / pl.col("mid") * 1e4)

stood = quotes.drop_nulls("seconds")
weighted = (stood["spread_bp"] * stood["seconds"]).sum() / stood["seconds"].sum()
print(f"{len(quotes):,} quotes, time-weighted spread {weighted:.3f} bp")

figure, (above, below) = plt.subplots(2, sharex=True, figsize=(9, 5))
above.step(quotes[clock], quotes["mid"], where="post", linewidth=0.8)
above.set_ylabel("mid, USDT")
below.step(quotes[clock], quotes["spread_bp"], where="post", linewidth=0.8)
below.set_ylabel("spread, bp")
figure.autofmt_xdate()
plt.show()

# %% [markdown]
"""
## Depth and imbalance

`book_snapshots` holds the best 20 levels of each side about once a second. They come from
verified books only: while a book is not known to be continuous, there is no row. Depth here is
what stands in the best five levels, in quote currency.
"""

# %%
LEVELS = 5


def value(side: str) -> pl.Expr:
    """The price times the size of the best levels of a side, added up."""
    prices, sizes = pl.col(f"{side}_price"), pl.col(f"{side}_size")
    return sum(
        prices.list.get(k, null_on_oob=True) * sizes.list.get(k, null_on_oob=True)
        for k in range(LEVELS)
    )


books = lake.snapshots(symbol, source=source).to_polars()
books = books.with_columns(bids=value("bid"), asks=value("ask")).with_columns(
    imbalance=(pl.col("bids") - pl.col("asks")) / (pl.col("bids") + pl.col("asks"))
)
print(books.select("bids", "asks", "imbalance").describe())

figure, (above, below) = plt.subplots(2, sharex=True, figsize=(9, 5))
above.plot(books[clock], books["bids"] / 1e3, label="bids")
above.plot(books[clock], books["asks"] / 1e3, label="asks")
above.set_ylabel("depth, thousand USDT")
above.legend()
below.bar(books[clock], books["imbalance"], width=5e-6)
below.axhline(0, color="grey", linewidth=0.8)
below.set_ylabel("imbalance")
figure.autofmt_xdate()
plt.show()

# %% [markdown]
"""
## Markouts

What a trade is worth to its taker some time later: the side (+1 bought, -1 sold) times the move
of the mid from the price of the trade, in basis points. At horizon 0 it is minus half the
effective spread.

`trades_and_quotes` gives each trade the quote that stood right before it. One read of a socket
brings a trade and the quote that it causes with the same receive time; the join goes by the order
of the tape among those, so that no trade meets its own future.
"""

# %%
joined = lake.trades_and_quotes(symbol, source=source).to_polars()
trades = joined.with_columns(
    mid=(pl.col("bid_price") + pl.col("ask_price")) / 2,
    sign=pl.when(pl.col("side") == "buy").then(1.0).otherwise(-1.0),
).drop_nulls("mid")

HORIZONS_MS = [0, 50, 100, 250, 500, 1_000, 2_000]
mids = quotes.select(pl.col(clock).alias("at"), pl.col("mid").alias("later")).sort("at")
last = quotes[clock].max()
rows = []
for horizon in HORIZONS_MS:
    shifted = trades.with_columns(at=pl.col(clock) + pl.duration(milliseconds=horizon)).sort("at")
    # Beyond the end of the recording there is no mid that could be met.
    within = shifted.filter(pl.col("at") <= last).join_asof(mids, on="at")
    later = pl.col("mid") if horizon == 0 else pl.col("later")
    markout = pl.col("sign") * (later - pl.col("price")) / pl.col("price") * 1e4
    mean = within.select(markout.mean().alias("mean"), markout.std().alias("std"), pl.len())
    rows.append({"horizon_ms": horizon, **mean.row(0, named=True)})
markouts = pl.DataFrame(rows).with_columns(error=pl.col("std") / pl.col("len").sqrt())
print(markouts.select("horizon_ms", "len", "mean", "error"))

figure, axis = plt.subplots(figsize=(9, 3.5))
axis.errorbar(markouts["horizon_ms"], markouts["mean"], yerr=markouts["error"], marker="o")
axis.axhline(0, color="grey", linewidth=0.8)
axis.set_xlabel("horizon, ms")
axis.set_ylabel("markout, bp")
plt.show()

# %% [markdown]
"""
The simulated market is no model of a real one: in yours, look at markouts by size, by time of day
and by imbalance before the trade. The same joins work in SQL: see *Join clocks* below How-to.
"""

# %% [markdown]
"""
## Bars

Bars of one second that were built while recording, with what takers bought:
"""

# %%
bars = lake.bars(symbol, source=source, interval="1s").to_polars()
bars = bars.with_columns(bought=pl.col("buy_volume") / pl.col("volume"))
print(bars.select("ts_event", "open", "high", "low", "close", "volume", "bought", "partial"))
