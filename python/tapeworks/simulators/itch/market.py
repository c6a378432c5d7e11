"""The stocks of a simulated market, its file, and what is known of its end."""

import gzip
from pathlib import Path
from typing import Any

from tapeworks._core import ItchMarket

BATCH_MESSAGES = 20_000
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def stock_names(count: int) -> list[str]:
    """Returns symbols of `count` stocks: SAAA, SAAB and so on."""
    names = []
    for at in range(count):
        high, low = divmod(at, 26)
        names.append(f"S{LETTERS[high // 26 % 26]}{LETTERS[high % 26]}{LETTERS[low]}")
    return names


def write_day(market: ItchMarket, path: Path) -> None:
    """Writes all messages of a day to a file, gzipped if its name says so."""
    with gzip.open(path, "wb", 1) if path.suffix == ".gz" else path.open("wb") as file:
        while not market.is_over:
            file.write(market.take(BATCH_MESSAGES)[0])


def oracle_of(market: ItchMarket) -> dict[str, Any]:
    """Returns what is known of a market: `messages`, `types`, and the open `orders` by symbol.

    An order is its id, its side, its price with four decimals as an integer, and its shares; the
    best price comes first, at one price the oldest.
    """
    return {
        "messages": market.sent,
        "types": dict(market.counts()),
        "orders": {
            symbol: [
                [order, "bid" if is_bid else "ask", price, shares]
                for order, is_bid, price, shares in market.orders(symbol)
            ]
            for symbol in market.symbols
        },
    }
