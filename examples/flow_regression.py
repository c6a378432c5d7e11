"""How far order-flow imbalance moved the mid: a regression over the buckets of a recorded day.

As Cont, Kukanov & Stoikov (2014) have it: the change of the mid in ticks on the flow of the best
prices, by buckets of time.

Run after `make demo`: examples/flow_regression.py [DATA SYMBOL TICK [SOURCE]].
"""

import sys

import numpy as np

import tapeworks as tw
from tapeworks import research

BUCKETS_MIN = 30


def ofi_regression(
    lake: tw.Lake, symbol: str, tick: float, seconds: int = 10, source: str | None = None
) -> research.Regression | None:
    names = ["mid", f"ofi_{seconds}s"]
    grid = {"interval_ms": seconds * 1_000}
    rows = lake.metrics(symbol, names, source=source, make=grid).to_arrow()
    mid, flow = (rows[name].to_numpy(zero_copy_only=False) for name in names)
    bucket = rows["ts_event"].to_numpy().astype("datetime64[s]").astype(int) // seconds
    # A bucket in which nothing happened has no row: no flow, and the mid as it stood.
    every = np.arange(bucket[0], bucket[-1] + 1)
    last = np.searchsorted(bucket, every, "right") - 1
    flow = np.where(bucket[last] == every, flow[last], 0.0)
    change, flow = np.diff(mid[last]) / tick, flow[1:]
    # Where a recording ends, or was interrupted, neither is known.
    known = np.isfinite(change) & np.isfinite(flow)
    return research.regression(flow[known], change[known])


if __name__ == "__main__":
    # A demo is too short for buckets of ten seconds.
    words = sys.argv[1:] or ["demo", "BTCUSDT", "0.01", "binance-spot"]
    if len(words) < 3:
        sys.exit("expected DATA SYMBOL TICK [SOURCE], or nothing for the demo")
    data, symbol, tick, *source = words
    if not tick.replace(".", "", 1).isdecimal() or float(tick) == 0:
        sys.exit(f"expected the size of a tick, such as 0.01, got {tick!r}")
    with tw.open(data) as lake:
        seconds = 10 if sys.argv[1:] else 1
        found = ofi_regression(lake, symbol, float(tick), seconds, source[0] if source else None)
    if found is None:
        sys.exit("there are too few buckets, or the flow does not vary")
    print(f"{symbol}: {found.n} buckets of {seconds} s; mid in ticks, flow in units of size")
    print(f"mid = {found.intercept:+.4g} {found.slope:+.4g} ofi")
    print(f"t {found.t:.2f}, R2 {found.r2:.4f}")
    if found.n < BUCKETS_MIN:
        print(f"of fewer than {BUCKETS_MIN} buckets: t and R2 say little")
