"""Signed trade flow, computed while the past is played back as it came.

Run after `make demo`: .venv/bin/python examples/replay_imbalance.py [DATA]
"""

import sys
from collections import defaultdict
from decimal import Decimal

import tapeworks as tw

lake = tw.open(sys.argv[1] if len(sys.argv) > 1 else "demo")
flow: dict[str, Decimal] = defaultdict(Decimal)
for batch in lake.replay("BTCUSDT", kinds=["trades"], source="binance-spot"):
    trades = batch["trades"]
    for side, size in zip(trades["side"].to_pylist(), trades["size"].to_pylist(), strict=True):
        flow[side] += size

print(f"bought {flow['buy']}, sold {flow['sell']}, net {flow['buy'] - flow['sell']} BTC")
missing = lake.trades("BTCUSDT", source="binance-spot").coverage()
print(*missing.summary(), sep="\n")
