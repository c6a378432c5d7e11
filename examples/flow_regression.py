"""How far order-flow imbalance moved the mid: a regression over the buckets of a recorded day.

As Cont, Kukanov & Stoikov (2014) have it: the change of the mid in ticks on the flow of the best
prices, by buckets of time. Run after `make demo`: examples/flow_regression.py [DATA SYMBOL TICK].
"""

import sys

import numpy as np

import tapeworks as tw
from tapeworks import research


def ofi_regression(
    lake: tw.Lake, symbol: str, tick: float, seconds: int = 10
) -> research.Regression | None:
    names = ["mid", f"ofi_{seconds}s"]
    rows = lake.metrics(symbol, names, make={"interval_ms": seconds * 1_000}).to_arrow()
    mid, flow = (rows[name].to_numpy(zero_copy_only=False) for name in names)
    bucket = rows["ts_event"].to_numpy().astype("datetime64[s]").astype(int) // seconds
    # A bucket in which nothing happened has no row: no flow, and the mid as it stood.
    every = np.arange(bucket[0], bucket[-1] + 1)
    last = np.searchsorted(bucket, every, "right") - 1
    flow = np.where(bucket[last] == every, flow[last], 0.0)
    change = np.diff(mid[last]) / tick
    return research.regression(flow[1:], change)


if __name__ == "__main__":
    data, symbol, tick = (*sys.argv[1:], *("demo", "BTCUSDT", "0.01")[len(sys.argv) - 1 :])
    with tw.open(data) as lake:
        found = ofi_regression(lake, symbol, float(tick), 10 if len(sys.argv) > 1 else 1)
    if found is None:
        sys.exit("the flow does not vary")
    print(f"{found.n} buckets: mid = {found.intercept:+.4g} {found.slope:+.4g} ofi")
    print(f"t {found.t:.2f}, R2 {found.r2:.4f}")
