"""nautilus_trader (Rust): a book of single orders, a delta at a time as its Python users do.

Sketch: 32 bytes an action x 1 M actions = 32 MB, read once; the deltas are made before the clock
starts, 200,000 at a time, as all of them would fill the memory.
"""

import json
import sys
import time

import numpy as np
from nautilus_trader.core import nautilus_pyo3 as n

ACTION = np.dtype(
    [
        ("action", "u1"),
        ("side", "u1"),
        ("pad", "<u2"),
        ("pad2", "<u4"),
        ("oid", "<u8"),
        ("px", "<i8"),
        ("qty", "<i8"),
    ]
)
PIECE = 200_000


def main() -> None:
    rows = np.fromfile(sys.argv[1], ACTION)
    instrument = n.InstrumentId.from_str("BTCUSDT.BINANCE")
    book = n.OrderBook(instrument, n.BookType.L3_MBO)
    sides = (n.OrderSide.BUY, n.OrderSide.SELL)
    actions = (n.BookAction.ADD, n.BookAction.UPDATE, n.BookAction.DELETE)
    took = 0.0
    for begin in range(0, len(rows), PIECE):
        part = rows[begin : begin + PIECE]
        columns = (part[name].tolist() for name in ("action", "side", "oid", "px", "qty"))
        deltas = []
        for index, (action, side, number, price, size) in enumerate(zip(*columns, strict=True)):
            quantity = n.Quantity(float(size), 0)
            order = n.BookOrder(sides[side], n.Price(price / 100, 2), quantity, number)
            ts = begin + index
            deltas.append(n.OrderBookDelta(instrument, actions[action], order, 0, ts, ts, ts))
        started = time.process_time()
        for delta in deltas:
            book.apply_delta(delta)
        took += time.process_time() - started
    print(json.dumps({"update_ns": took / len(rows) * 1e9}))


main()
