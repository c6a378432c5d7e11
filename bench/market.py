"""Trades like those that a venue sends, as records: what the lake, replay and query jobs work on.

Shaped on the captures of BTCUSDT (spot, August 2024), of which the figures are: event times in
milliseconds; 30 trades a second; orders filled in 2.8 parts on average, at one instant, two thirds
of the parts at the same price; a price that stays in every second order; sizes in steps of 1e-5
with a long tail; a frame for each fill, received milliseconds later by a clock in nanoseconds,
about 0.9 us after the one before. Ten symbols share the flow, the busiest has a third.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tapeworks import _core

SOURCE = "binance-spot"
TOPIC = "market-data.normalized"
START = 1_717_718_400_000_000_000
DAY = 86_400_000_000_000
RATE = 95
COINS = ("BTC", "ETH", "SOL", "BNB", "XRP", "DOGE", "ADA", "AVAX", "DOT", "UNI")
SYMBOLS = tuple(f"{coin}USDT" for coin in COINS)
SHARES = np.array([32, 20, 14, 9, 7, 6, 4, 3, 3, 2]) / 100
FRAME = 1000


def definitions() -> "npt.NDArray[Any]":
    """Returns the definitions of instruments 1, 2, ... by the symbols."""
    rows = _rows("definition", len(SYMBOLS))
    rows["instrument"] = np.arange(1, len(SYMBOLS) + 1)
    rows["symbol"] = [symbol.encode() for symbol in SYMBOLS]
    rows["canonical"] = [f"{symbol[:-4]}-USDT".encode() for symbol in SYMBOLS]
    rows["ts_event"] = rows["ts_recv"] = START
    rows["tick_size"], rows["lot_size"], rows["valid_to"] = 10_000_000, 1000, _core.NONE
    return rows


def trades(count: int, seed: int = 7, start: int = START) -> "npt.NDArray[Any]":
    """Returns `count` trades in the order of their receipt, `RATE` a second from `start` on."""
    random = np.random.default_rng(seed)
    first = random.random(count) < 1 / 2.8
    first[0] = True
    order = np.cumsum(first) - 1
    orders = int(order[-1]) + 1
    heads = np.flatnonzero(first)
    when = start + np.cumsum(random.exponential(2.8e9 / RATE, orders)).astype("i8")
    symbol = random.choice(len(SYMBOLS), size=orders, p=SHARES)
    side = random.integers(1, 3, orders)
    rows = _rows("trade", count)
    rows["instrument"] = 1 + symbol[order]
    rows["ts_event"] = when[order] // 1_000_000 * 1_000_000
    latency = 2_000_000 + np.exp(random.normal(np.log(1.5e6), 1, orders))
    apart = np.cumsum(np.exp(random.normal(np.log(900), 1, count)))
    received = (when + latency)[order] + apart - apart[heads][order]
    rows["ts_recv"] = np.maximum.accumulate(received.astype("i8"))
    rows["price"] = _prices(random, first, heads, order, side) * 10_000_000
    rows["size"] = (
        np.clip(np.exp(random.normal(np.log(67), 2.4, count)), 1, 1e6).astype("i8") * 1000
    )
    for number in range(len(SYMBOLS)):
        own = np.flatnonzero(rows["instrument"] == number + 1)
        ids = 3_000_000_000 + seed * 100_000_000 + np.arange(len(own))
        rows["trade_id"][own] = rows["sequence"][own] = ids
    rows["side"] = side[order]
    rows["count"] = rows["channel"] = rows["flags"] = 1
    return rows


def _prices(random: Any, first: Any, heads: Any, order: Any, side: Any) -> Any:
    moves = random.integers(-60, 61, len(heads)) * (random.random(len(heads)) < 0.46)
    steps = np.cumsum(
        random.integers(0, 40, len(order)) * ~first * (random.random(len(order)) < 1 / 3)
    )
    steps -= steps[heads][order]
    return 6_000_000 + np.cumsum(moves)[order] + np.where(side[order] == 1, steps, -steps)


def tape_folder(data: Path) -> Path:
    """Returns where the trades' tape lies in a data folder."""
    return data / "tape" / SOURCE / TOPIC


def append(writer: "_core.TapeWriter", rows: "npt.NDArray[Any]") -> None:
    """Appends `rows` in frames, as a recorder does under load."""
    for at in range(0, len(rows), FRAME):
        part = rows[at : at + FRAME]
        writer.append(part.tobytes(), ts=int(part["ts_recv"].max()))


def _rows(kind: str, count: int) -> "npt.NDArray[Any]":
    rows = np.zeros(count, dtype=_core.dtype_descr(kind))
    rows["length"] = rows.dtype.itemsize // 8
    rows["kind"] = _core.kind_of(kind)
    rows["feed"] = 1
    return rows
