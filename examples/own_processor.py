"""A processor of one's own: trades that are many times larger than is usual for their instrument.

Run after `make demo`: .venv/bin/python examples/own_processor.py [DATA]. In the settings it is
`[processors.large]` with `kind = "own_processor:LargeTrades"` and `times = 8`.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tapeworks._core import Records, dtype_descr
from tapeworks.processors.base import Processor, ProcessorConfig
from tapeworks.tape import TapeReader

TRADE = np.dtype(dtype_descr("trade"))


@dataclass(frozen=True)
class LargeConfig(ProcessorConfig):
    """A trade of more than so many `times` the mean size before it is large."""

    times: int = 8


class LargeTrades(Processor):
    """Remembers of each instrument how many trades came, and how much in all."""

    Config = LargeConfig

    def __init__(self, config: LargeConfig) -> None:
        super().__init__(config)
        self.restore(b"{}")

    def process(self, batch: Records) -> bytes:
        large = []
        for trade in np.frombuffer(batch.numpy("trade"), TRADE):
            key, size = str(trade["instrument"]), int(trade["size"])
            count, total = self.seen.get(key, (0, 0))
            if count and size * count > self.config.times * total:
                large.append(trade.tobytes())
            self.seen[key] = (count + 1, total + size)
        return b"".join(large)

    def snapshot(self) -> bytes:
        return json.dumps(self.seen).encode()

    def restore(self, state: bytes) -> None:
        self.seen: dict[str, tuple[int, int]] = json.loads(state)


if __name__ == "__main__":
    tapes = Path(sys.argv[1] if len(sys.argv) > 1 else "demo") / "tape" / "binance-spot"
    if not tapes.exists():
        sys.exit(f"nothing is recorded in {tapes}: `make demo` makes an example")
    reader, found = TapeReader(tapes / "market-data.normalized"), 0
    large = LargeTrades(LargeConfig())
    while (batch := reader.read()) is not None:
        found += len(Records.from_bytes(large.process(batch)))
    print(f"{found} large trades of binance-spot")
