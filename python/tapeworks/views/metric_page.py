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

`lake.metrics("BTCUSDT", ["mid", "ofi_10s"], start, end)` gives a row for each moment and a column
for each metric; the table `metrics` has one value a row, with its window, the number of
observations in it, and the state of the best prices.

- **A value holds as of `ts_event`**: with all events up to and with that time, in the order of the
  tape. Values lie on a grid, every `interval_ms` by the venue's clock; with `interval_ms = 0` there
  is one after every event. `ts_recv` is when it was known.
- **A rolling window** of length W at t is (t - W, t]: the event at t is in, the one exactly W old
  is out. W is in the name: `ofi_10s`. Windows are `windows_ms`, multiples of `interval_ms`. A
  horizon is one of `horizons_ms`: a value that needs the price so much later is final, and counts,
  only then.
- **A null means that there is no value**: the window is not covered since the stream began
  (`partial = true` shows it all the same), a side is empty, the book is not known, or what the
  table below says. It is never 0, and never the last value carried on.
- **What breaks the stream** (a gap in quotes or trades, the end of a session, a halt or its end)
  empties all windows, and writes nulls. Best prices are known again with the next quote.
- **A crossed quote** has its mid, spread and sizes; what is made of imbalances or means over time
  leaves it out, and `crossed_or_empty` says for how long.
- **Late**: an event behind the sample that should have held it counts in the next one, and is
  counted. Trades from history or out of order change nothing, and are counted.
- **A silent instrument** has values until its longest window has drained, and once more right
  before its next event. The clock closes an interval `grace_ms` after its end.
- **`depth` and `mlofi`** are of the verified book: of feeds with changes of levels. Where it is not
  verified, they are null, and their windows are empty from then on.
- Sums are exact integers: none drifts, and the same tape gives the same bits at any batch size.
  Values are 64-bit floats, in the currency of the price and the unit of the size.
- Where a venue sends quotes without a time (Binance spot), they have that of their receipt: see
  [clocks](explanation/clocks.md).
"""


def page() -> str:
    """Returns the page of all metrics."""
    parts = [PAGE_START]
    told = dict(metric_sets())
    for name, lines in groupby(metric_table(), key=lambda line: line[0]):
        parts.append(f"\n## {name}\n\n{told[name][0].upper()}{told[name][1:]}.\n\n")
        parts.append("| metric | formula | unit | null when | window |\n|---|---|---|---|---|\n")
        for _, metric, window, formula, unit, null in lines:
            parts.append(f"| `{metric}` | {formula} | {unit} | {null} | {window} |\n")
    return "".join(parts)
