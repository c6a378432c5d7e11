"""A rule of one's own: trades above a size. In the settings:

[[alerts]]
name = "large"
kind = "own_rule:LargeTrades"
size = 2.5

Run after `make demo`: .venv/bin/python examples/own_rule.py [DATA] finds them on the tape.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pyarrow as pa

from tapeworks._core import Records
from tapeworks.processors.alerts import AlertRule
from tapeworks.processors.own_alerts import Finding, Rule
from tapeworks.tape import TapeReader

PRICE_SCALE, SIZE_SCALE = 10**9, 10**8
# Of a record that the venue's history gave: it is no news, however large it is.
HISTORICAL = 4


class LargeTrades(Rule):
    """It remembers nothing, so it has no state."""

    defaults: ClassVar = {"size": 1.0}

    def process(self, batch: Records) -> Iterator[Finding]:
        limit = float(self.parameters["size"])
        trades = pa.record_batch(batch.arrow("trade", offsets=True))
        # Whole microseconds, and beside them the nanoseconds that are left.
        times = trades.column("ts_event").cast(pa.int64()).to_pylist()
        for time_us, trade in zip(times, trades.to_pylist(), strict=True):
            is_of_now = not trade["flags"] & HISTORICAL
            if is_of_now and (size := float(trade["size"])) >= limit:
                yield Finding(
                    offset=trade["tape_offset"],
                    ts=time_us * 1_000 + trade["ts_event_ns"],
                    state="instant",
                    instrument=trade["instrument"],
                    value=size,
                    threshold=limit,
                    price=int(trade["price"] * PRICE_SCALE),
                    size=int(trade["size"] * SIZE_SCALE),
                )


if __name__ == "__main__":
    tapes = Path(sys.argv[1] if len(sys.argv) > 1 else "demo") / "tape" / "binance-spot"
    if not tapes.exists():
        sys.exit(f"nothing is recorded in {tapes}: `make demo` makes an example")
    reader, found = TapeReader(tapes / "market-data.normalized"), 0
    large = LargeTrades(AlertRule("large", kind="own_rule:LargeTrades"))
    while (batch := reader.read()) is not None:
        found += sum(1 for _ in large.process(batch))
    print(f"{found} large trades of binance-spot")
