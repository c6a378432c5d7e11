"""nautilus_trader (Rust), driven a delta at a time as its Python users do."""

import time

import numpy as np
from book_workload import measure
from nautilus_trader.core import nautilus_pyo3 as n


def run(rows: np.ndarray, n_snapshot: int) -> tuple[float, float | None]:
    instrument = n.InstrumentId.from_str("BTCUSDT.BINANCE")
    book = n.OrderBook(instrument, n.BookType.L2_MBP)
    sides = (n.OrderSide.BUY, n.OrderSide.SELL)
    part = rows[: n_snapshot + 200_000]
    deltas = []
    for index, (side, price, size) in enumerate(
        zip(part["side"].tolist(), part["px"].tolist(), part["qty"].tolist(), strict=True)
    ):
        action = n.BookAction.UPDATE if size else n.BookAction.DELETE
        order = n.BookOrder(sides[side], n.Price(price / 100, 2), n.Quantity(float(size), 0), price)
        deltas.append(n.OrderBookDelta(instrument, action, order, 0, index, index, index))
    for delta in deltas[:n_snapshot]:
        book.apply_delta(delta)
    started = time.process_time()
    for delta in deltas[n_snapshot:]:
        book.apply_delta(delta)
    update = (time.process_time() - started) / 200_000
    started = time.process_time()
    for _ in range(5000):
        book.bids(10)
        book.asks(10)
    return update * 1e9, (time.process_time() - started) / 5000 * 1e9


measure(run)
