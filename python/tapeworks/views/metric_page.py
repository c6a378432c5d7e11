"""The page of metrics: what each is, from the core's own table."""

from itertools import groupby

from tapeworks._core import metric_sets, metric_table

PAGE_START = """\
<!-- Made by tests/views/test_metric_page.py from the table of crates/core; to make it anew:
     TAPEWORKS_WRITE=1 python -m pytest tests/views/test_metric_page.py -->

# Metrics

Numbers of market microstructure, of each instrument, over time: live, and the same from the tape.
They are made where the settings name their sets:

```toml title="tapeworks.toml"
[metrics]
sets = ["l1", "ofi", "flow"]
```

Where nothing was measured, `lake.metrics(..., make=True)` makes them of what is recorded, as they
would have been made live: with the settings that the source had when the range ended (`channel`,
`step_ms`, `bar_ms` and the like; a source of aggregate trades alone has those), unless `make=` has
others. Records begin a minute before the values of the range begin to remember, by the venue's
clock, wherever that of this host stood:

- of most sets that is the longest window, and the horizon before it; twice the window of
  `volatility` and `resilience`, 41 times that of `ewma_vol`, 40 times that of `rate_ewma_trade`;
- `impact`, `noise` and `ofi_beta` are of bars by time; `range` and the drift of `clocks` are of
  bars that had an event, and `microprice` of the last day that had quotes: these are looked for in
  the eight days before (of up to sixteen symbols);
- of feeds that tell single orders, the day is read from its beginning, in New York: the book is
  empty then. Narrow `symbols` of a large venue;
- `vpin`, `hawkes`, `dependence`, `orders`, `stamp_resolution`, `latency_negative`, windows of
  `count` trades and `late_trades` remember all since the stream began or broke.

Where that is not enough, the answer says so: `coverage()` is not complete (`not_measured`, with the
cause `begun_anew`), and a notice names the metrics. Ask for a longer range then, and leave out its
beginning; without `start` all is taken in. What stood when records begin is known: the definition
with its tick size, the status, the best prices, and which way the price moved last. What filled a
gap later, from the venue's history or by a line that was late, is measured where it happened, by
the venue's time, as if it had come live; the gap breaks nothing then. Of windows of trades,
sessions that began earlier are null. `depth`, `mlofi` and `ofi_integrated` cannot be made so: the
book that they are of is on tapes alone.

`lake.metrics("BTCUSDT", ["mid", "ofi_10s"], start, end)` gives a row for each moment and a column
for each metric; the table `metrics` has one value a row, with its window, the number of
observations in it, and the state of the best prices. `lake.asof("trades", "metrics",
metric="ofi_10s")` puts the last value before it beside each trade, and `lake.markouts` what the mid
was some time after it: see [join clocks](how-to/join-clocks.md).

- **A value holds as of `ts_event`**: with all events up to and with that time, in the order of the
  tape. Values lie on a grid, every `interval_ms` by the venue's clock; with `interval_ms = 0` there
  is one after every event. `ts_recv` is when it was known.
- **Silence closes** what no event does: once `grace_ms` more have passed on this host since the
  newest event of the instrument than lie between that event and the time of the value. So a host
  whose clock is ahead of the venue's leaves nothing out. Where the receipts of one session leap, up
  to the longest window is closed too early.
- **A rolling window** of length W at t is (t - W, t]: the event at t is in, the one exactly W old
  is out. W is in the name: `ofi_10s`. Windows are `windows_ms`, multiples of `interval_ms`. A
  horizon is one of `horizons_ms`: a value that needs the price so much later is final, and counts,
  only then.
- **Full names**: of a window `ofi_10s` (in s, or ms where it is no whole number of them), of a band
  `depth_bid_5bps`, of best levels `depth_bid_L5`, of a size `cost_buy_1`, of a rank `mlofi_3_10s`,
  of a lag `acf_sign_1`, of a horizon and a window `realized_spread_5s_mean_60s`.
- **A null means that there is no value**: the window is not covered since the stream began
  (`partial = true` shows it all the same), a side is empty, the book is not known, or what the
  table below says. It is never 0, and never the last value carried on. Of a metric that has no
  value at all in an answer, `lake.metrics(...).notices()` says why.
- **Metrics of several grids in one frame**: samples and windows of trades have moments of their
  own. A row of one has nulls in the columns of the other; ask for each in a frame of its own.
- **Complete is what was measured**: where the metrics are behind what is recorded, or a metric or a
  symbol was not in the settings for a part of the range, `coverage()` is not complete, and
  `notices()` says which metric was not measured from when to when. `make=True` makes it. The lake
  keeps when settings of metrics held (`state/<source>/metric-sets.json`); where that file does not
  say it, rows of the range do, except of windows of trades.
- **A gap that was filled later was open when its time was measured**: values that are stored lack
  what it cost, and may be 0; and as all windows began anew when it was told, so do those behind it,
  also of metrics of something else, for as long as they remember. They stay as they are;
  `coverage()` is not complete (`not_measured`, with the cause `filled_later`), a notice says of
  which metrics from when to when, and `make=True` measures them with all that is there by now.
- **What breaks the stream** (a gap in quotes or trades, the end of a session, a halt or its end)
  empties all windows, and writes nulls at its time, behind what was known until then. Best prices
  are known again with the next quote. The first halt that is told of an instrument is one, and so
  is the next behind a gap or the end of a session, whatever was told before: what that was may
  have ended unseen.
- **A crossed quote** has its mid, spread and sizes; what is made of imbalances or means over time
  leaves it out, and `crossed_or_empty` says for how long. `volatility`, `noise` and `dependence`
  have no price while quotes are crossed or a side is empty: that before them stands for less than
  `step_ms` (of `ewma_vol` for less than the window), and then there is no return, from or to it.
- **Late**: an event behind the sample that should have held it counts in the next one, and is
  counted. What is out of order changes nothing, and is counted. Changes of books and single orders
  that are out of order count at the time of the event before them. None of it says how far the
  venue's time has come.
- **History**, live: of what fills a gap later, or comes from files, trades count in windows of
  trades alone (below). A quote counts while it is the newest event of its instrument and behind the
  last sample; else it changes nothing, and is counted. Its latency is not measured.
- **A silent instrument** has values until its longest window has drained, the same again from the
  end of each horizon that comes later, and once more right before its next event. The clock closes
  an interval `grace_ms` after its end.
- **`depth`, `mlofi` and `ofi_integrated`** are of the verified book: of feeds with changes of
  levels or of single orders. Where it is not verified, they are null, and their windows are empty
  from then on.
- **A book is known as far as the snapshot reached that it began with** (`snapshot_limit` of
  Binance: 5,000 levels a side of spot, 1,000 of futures, which is 0.2 % of BTCUSDT). What `depth`
  makes of levels behind that is a bound, as more may stand there: a lower one of depth and fills,
  an upper one of costs. Its rows are flagged (`flags & 32`), `notices()` says how many there are,
  `depth_complete_bid_25bps` and `depth_complete_ask_25bps` when, and rules of alerts leave them
  out. The reach stands still while prices move, until a snapshot is fetched for a book that broke.
- **Feeds that tell single orders** (ITCH, LOBSTER) have their best prices, and all that is made of
  them, from the book that the orders add up to. A gap in the orders, or an order that never came,
  leaves that book unknown until the venue's numbers begin anew, with its next day. Of LOBSTER it is
  the book that the rows of the file derive: levels that left its window are in no row, and soon
  cross the others. The state of the values says so, and what skips crossed quotes is null.
- **What is made of bars, buckets or days** (`impact`, `range`, `noise`, `ofi_beta`, `clocks`,
  `microprice`) is that of the last ones that are over, and is used from then on: never on what it
  is made of.
- Sums are exact integers: none drifts, and the same tape gives the same bits at any batch size.
  Values are 64-bit floats, in the currency of the price and the unit of the size.
- Where a venue sends quotes without a time (Binance spot), they have that of their receipt: see
  [clocks](explanation/clocks.md).

## Windows of trades

`trade_windows` takes trades together by the venue's own time, whatever the grid of the samples is:

```toml title="tapeworks.toml"
[metrics]
trade_windows = ["tumbling 10ms", "sliding 1s 100ms", "session 5s", "count 100"]
window_lateness_ms = 10000
```

Each has `open`, `high`, `low`, `close`, `vwap`, `volume`, `buy_volume` and `trades`, named by its
shape: `tumbling_10ms_vwap`, `sliding_1s_100ms_volume`, `session_5s_close`, `count_100_high`. A row
stands at the end of its window, [start, end). That of a count stands at the time of its last trade,
or one nanosecond behind the count before where that is no earlier, as in a sweep of one time: each
has a row of its own. There is none of a window without a trade.

- **A window is final** once the venue's time has come `window_delay_ms` behind its end, or
  `grace_ms` later by receipt where nothing comes, at the next time of `interval_ms` (of 100 ms
  where that is 0).
- **A late trade corrects** what is final, for `window_lateness_ms`: the row of that moment is
  written again, flagged as out of order (`flags & 8`), and `lake.metrics` shows the newest. A
  session that two others become is one row, and those that are none any more are null.
- **A trade that is later still** changes nothing: it is a row of `late_trades`, which counts them,
  at its own time. So is one of before the stream began or broke, unless its window was whole by
  then, and one that a session may need which is over for good. Trades that the venue sent late or
  again count as late; copies are dropped before.
- **What is out of order says nothing of the time**: it corrects a window that is over, or is late,
  also where it is stamped ahead of all that came. Nor does a trade of the venue's history once
  something came live: it is in the window of its own time.
- **A window that a gap cuts**, or the start of the stream, is null: so is one that begins with the
  very first event, as others of its time may be missing. A session needs the pause before it as
  well. What was final when a gap in trades was told is taken back by a correction: for
  `window_lateness_ms`, and the windows of the last trade for as long as none follows. With
  `partial = true` they have what came.
- A count takes trades in the order of the tape, and is never corrected.
- **Conditions of trades** do what they do in bars: what sets no price, such as an odd lot or an
  average price of US stocks, is in the sizes alone, and a window of nothing else has no prices.
  What is no trade by its conditions, such as an official close, is in none.
- **What the venue cancels or corrects later** stays in all metrics, also in those that are made of
  history. `lake.trades` and `lake.bars` show what stands.
"""


COSTS_START = """
## A metric of your own

A number for each window of the venue's time: a class derived from `WindowMetric` of
`tapeworks.processors.window_metric`, given the trades or quotes of each window as an array.

```bash
cat examples/own_metric.py
PYTHONPATH=examples python examples/own_metric.py demo
```

In the settings it is a processor; `tape config check` lists it, and which tape it writes. Without
`output` that is `market-data.` and the name of its table, here `market-data.vwap`:

```toml title="not run: it goes on with settings of yours"
[processors.vwap]
kind = "own_metric:Vwap"
```

Start `tape up` with the folder of the module in `PYTHONPATH`. What it makes is on that tape only:
it is in no table, so that `lake.metrics`, SQL, rules of alerts and sinks do not know it. Its values
are records `metric`, read as an array:

```python title="not run: it goes on with settings of yours"
import numpy as np
from tapeworks import _core
from tapeworks.tape import TapeReader

reader = TapeReader("data/tape/binance-spot/market-data.vwap")
while (batch := reader.read()) is not None:
    rows = np.frombuffer(batch.numpy("metric"), np.dtype(_core.dtype_descr("metric")))
    print(rows[["ts_event", "instrument", "metric", "value"]])
```

A rule about it is [a rule of your own](alerts.md#a-rule-of-your-own) that computes it from the same
records; [a processor of your own](tutorial/own-processor.md) is the general form.

## What sets cost

What an event costs with a set alone, relative to `l1` alone: medians of `scripts/bench metrics
--rounds 3`, of quotes and trades of ten instruments. Much of it is what all sets need, so that sets
together cost less than their sum: all of these cost 8.0. Sets of verified
books and of single orders are not measured, as there are none among these events.

| set | relative cost |
|---|---|
"""
COSTS = {
    "l1": 1.0,
    "ofi": 0.8,
    "flow": 0.8,
    "sign": 0.9,
    "cost": 1.9,
    "impact": 0.9,
    "vpin": 0.9,
    "volatility": 0.9,
    "latency": 1.3,
    "microprice": 0.9,
    "ofi_beta": 0.9,
    "range": 0.8,
    "noise": 0.9,
    "rates": 1.3,
    "hawkes": 0.9,
    "dependence": 1.1,
    "clocks": 1.4,
    "resilience": 0.9,
    "decayed": 1.4,
}
"""As `COSTS_START` says."""


def page() -> str:
    """Returns the page of all metrics."""
    parts = [PAGE_START, COSTS_START]
    parts += [f"| `{name}` | {COSTS.get(name, 'not measured')} |\n" for name, _ in metric_sets()]
    told = dict(metric_sets())
    for name, lines in groupby(metric_table(), key=lambda line: line[0]):
        parts.append(f"\n## {name}\n\n{told[name][0].upper()}{told[name][1:]}.\n\n")
        parts.append("| metric | formula | unit | null when | window |\n|---|---|---|---|---|\n")
        for _, metric, window, formula, unit, null in lines:
            parts.append(f"| `{metric}` | {formula} | {unit} | {null} | {window} |\n")
    return "".join(parts)
