"""A metric of one's own: the VWAP of each 10 ms of the venue's time in which something was traded.

In the settings it is `[processors.vwap]` with `kind = "own_metric:Vwap"`; live and in replay it is
the same, on the tape `market-data.vwap`. Run after `make demo`: examples/own_metric.py [DATA].
"""

import sys
from pathlib import Path

import numpy as np

from tapeworks._core import Records
from tapeworks.processors.window_metric import Rows, WindowMetric
from tapeworks.tape import TapeReader


class Vwap(WindowMetric):
    """The mean price of the trades of a window, weighted by their sizes."""

    name = "vwap_10ms"
    window_ms = 10

    def value(self, rows: Rows) -> float:
        return float(np.average(rows["price"] / 1e9, weights=rows["size"]))


if __name__ == "__main__":
    tapes = Path(sys.argv[1] if len(sys.argv) > 1 else "demo") / "tape" / "binance-spot"
    if not tapes.exists():
        sys.exit(f"nothing is recorded in {tapes}: `make demo` makes an example")
    reader, vwap, found = TapeReader(tapes / "market-data.normalized"), Vwap(), 0
    while (batch := reader.read()) is not None:
        found += len(Records.from_bytes(vwap.process(batch)))
    print(f"{found} windows of 10 ms of binance-spot")
