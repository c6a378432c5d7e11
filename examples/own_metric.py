"""A metric of one's own: the VWAP of each 10 ms of the venue's time in which something was traded.

In the settings it is `[processors.vwap]` with `kind = "own_metric:Vwap"`; live and in replay it is
the same, on the tape `market-data.vwap`. Run after `make demo`: examples/own_metric.py [DATA].
"""

import json
import sys
from pathlib import Path

import numpy as np

from tapeworks._core import Records, dtype_descr, kind_of
from tapeworks.processors.base import Processor, ProcessorConfig
from tapeworks.tape import TapeReader

TRADE, METRIC = np.dtype(dtype_descr("trade")), np.dtype(dtype_descr("metric"))
WINDOW_NS = 10_000_000


class Vwap(Processor):
    """Holds of each instrument the open window: its end, price times size, size, trades."""

    def __init__(self, config: ProcessorConfig | None = None) -> None:
        super().__init__(config)
        self.restore(b"{}")

    def process(self, batch: Records) -> bytes:
        values = []
        for trade in np.frombuffer(batch.numpy("trade"), TRADE):
            key, ts = str(trade["instrument"]), int(trade["ts_event"])
            end, turnover, size, count = self.open.get(key, (0, 0, 0, 0))
            if count and ts >= end:
                values.append(value(trade, end, turnover / size / 1e9, count))
                count = 0
            if not count:
                end, turnover, size = ts - ts % WINDOW_NS + WINDOW_NS, 0, 0
            turnover += int(trade["price"]) * int(trade["size"])
            self.open[key] = (end, turnover, size + int(trade["size"]), count + 1)
        return b"".join(values)

    def snapshot(self) -> bytes:
        return json.dumps(self.open).encode()

    def restore(self, state: bytes) -> None:
        self.open: dict[str, tuple[int, int, int, int]] = json.loads(state)


def value(trade: np.void, end: int, vwap: float, count: int) -> bytes:
    """Returns the record of a window that is over, as `trade`, the first behind it, shows."""
    row = np.zeros((), METRIC)
    for name in ("flags", "feed", "instrument", "ts_recv"):
        row[name] = trade[name]
    row["length"], row["kind"] = METRIC.itemsize // 8, kind_of("metric")
    row["ts_event"], row["window"], row["metric"] = end, WINDOW_NS, b"vwap_10ms"
    row["value"], row["count"] = vwap, count
    return row.tobytes()


if __name__ == "__main__":
    tapes = Path(sys.argv[1] if len(sys.argv) > 1 else "demo") / "tape" / "binance-spot"
    reader, vwap, found = TapeReader(tapes / "market-data.normalized"), Vwap(), 0
    while (batch := reader.read()) is not None:
        found += len(Records.from_bytes(vwap.process(batch)))
    print(f"{found} windows of 10 ms of binance-spot")
