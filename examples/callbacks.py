"""Callbacks: one call a record, as it comes; here until each was called a hundred times.

Run after `make demo`, or beside `tape record binance BTCUSDT`, which goes on meanwhile:
.venv/bin/python examples/callbacks.py [DATA]. Without `offset=0` it begins now, not with the tape.
"""

import sys
from collections import Counter

import tapeworks as tw

called: Counter[str] = Counter()


def on_trade(trade: dict[str, object]) -> None:
    called["trade"] += 1
    print("trade", trade["side"], trade["size"], "at", trade["price"])


def on_quote(quote: dict[str, object]) -> None:
    called["quote"] += 1
    print("quote", quote["bid_price"], quote["ask_price"])


CALLBACKS = {"trades": on_trade, "quotes": on_quote}

lake = tw.open(sys.argv[1] if len(sys.argv) > 1 else "demo")
for batch in lake.follow("BTCUSDT", offset=0, source="binance-spot", kinds=["trades", "quotes"]):
    for record in batch:
        CALLBACKS[record["kind"]](record)
    if min(called["trade"], called["quote"]) >= 100:
        break
