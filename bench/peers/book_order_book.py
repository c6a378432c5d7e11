"""order-book, a ladder in C, with Decimal prices as cryptofeed uses it."""

import time
from decimal import Decimal

import numpy as np
from book_workload import measure
from order_book import OrderBook


def run(rows: np.ndarray, n_snapshot: int) -> tuple[float, float | None]:
    book = OrderBook(max_depth=10_000)
    sides = (book.bids, book.asks)
    prices = [Decimal(p) / 100 for p in rows["px"].tolist()]
    changes = list(zip(rows["side"].tolist(), prices, rows["qty"].tolist(), strict=True))

    def apply(part: list[tuple[int, Decimal, int]]) -> None:
        for side, price, size in part:
            levels = sides[side]
            if size:
                levels[price] = size
            elif price in levels:
                del levels[price]

    apply(changes[:n_snapshot])
    started = time.process_time()
    apply(changes[n_snapshot:])
    update = (time.process_time() - started) / (len(changes) - n_snapshot)
    started = time.process_time()
    for _ in range(2000):
        for levels in sides:
            [levels.index(i) for i in range(10)]
    return update * 1e9, (time.process_time() - started) / 2000 * 1e9


measure(run)
