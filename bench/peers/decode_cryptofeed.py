"""Binance frames through cryptofeed's own message handler, with its own books.

Single trades are left out: cryptofeed subscribes to aggregates and does not know `@trade`.
"""

import asyncio
import json
import sys
import time
from decimal import Decimal

from cryptofeed.defines import L2_BOOK, TICKER, TRADES
from cryptofeed.exchanges.binance import Binance
from cryptofeed.symbols import Symbols
from cryptofeed.types import OrderBook


async def received(*_: object) -> None:
    return None


async def run(frames: list[str], books: dict[str, dict]) -> None:
    Symbols.set(Binance.id, {s[:-4] + "-USDT": s for s in books}, {"instrument_type": {}})
    names = [s[:-4] + "-USDT" for s in books]
    feed = Binance(
        symbols=names,
        channels=[TRADES, TICKER, L2_BOOK],
        callbacks={TRADES: received, TICKER: received, L2_BOOK: received},
    )
    feed._reset()
    for symbol, snapshot in books.items():
        pair = symbol[:-4] + "-USDT"
        feed._l2_book[pair] = OrderBook(
            feed.id,
            pair,
            bids={Decimal(p): Decimal(q) for p, q in snapshot["bids"]},
            asks={Decimal(p): Decimal(q) for p, q in snapshot["asks"]},
        )
        feed.last_update_id[pair] = snapshot["lastUpdateId"]
    started = time.process_time()
    for frame in frames:
        await feed.message_handler(frame, None, 0.0)
    took = time.process_time() - started
    print(json.dumps({"value": len(frames) / took}))


def main() -> None:
    with open(sys.argv[1], "rb") as file:
        frames = [f.decode() for f in file.read().splitlines() if b'"e":"trade"' not in f]
    with open(sys.argv[2]) as file:
        books = json.load(file)
    asyncio.run(run(frames, books))


main()
