"""The venues of the campaign of kills: how each is simulated, recorded, and held to its trades.

The trades of a simulated symbol have ids that rise by one, at every venue. Only the first venue's
feed may go by that: at the others an id proves nothing, and the ledger names times.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from tapeworks.config import Section, Value
from tapeworks.settings import resolve_feed
from tapeworks.simulators import Simulator
from tapeworks.views.lake import Lake

KEYS = {"MASSIVE_API_KEY": "any", "APCA_API_KEY_ID": "any", "APCA_API_SECRET_KEY": "any"}
"""The simulators take any."""


@dataclass(frozen=True)
class Venue:
    """One venue, as a lane records it."""

    name: str
    """Of its simulator, and of the feed."""
    source: str
    symbols: tuple[str, ...]
    has_ids: bool
    """Whether the ledger names the ids of the trades that are missing; else their times."""
    arguments: tuple[str, ...] = ()
    """Of its simulator."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of the feed."""

    def simulated(self, seed: int, rate: float) -> list[str]:
        """Returns the arguments of the simulator."""
        market = ["--symbols", *self.symbols, "--seed", str(seed), "--rate", str(rate)]
        return [*market, "--levels", "200", *self.arguments]

    def feed(self, simulator: Simulator) -> Any:
        """Returns the configuration of the feed."""
        written: dict[str, Any] = {
            "kind": self.name,
            "symbols": list(self.symbols),
            "ws_url": simulator.ws_url,
            **self.settings,
        }
        if self.has_ids:
            written["rest_url"] = simulator.rest_url
        values: dict[str, Value | Section] = {
            name: Value(value, "the campaign") for name, value in written.items()
        }
        return resolve_feed(self.source, Section(f"feeds.{self.source}", values))

    def trades_unaccounted(self, data: Path) -> list[str]:
        """Returns what the lake and the ledger together do not say of the trades, by symbol."""
        lake = Lake(data)
        told = by_id if self.has_ids else by_time
        return [finding for symbol in self.symbols for finding in told(lake, symbol)]


# Every restart asks for both books: at any other limit the campaign would test back-off.
BINANCE = Venue(
    "binance",
    "binance-spot",
    ("BTCUSDT", "ETHUSDT"),
    has_ids=True,
    arguments=("--weight-per-minute", "100000000"),
)
MASSIVE = Venue("massive", "massive-stocks", ("AAPL", "MSFT"), has_ids=False)
# With books, which its decoder numbers, and whose numbers must outlive it.
ALPACA = Venue(
    "alpaca",
    "alpaca-crypto",
    ("BTC/USD", "ETH/USD"),
    has_ids=False,
    settings={
        "product": "crypto",
        "channels": ["trades", "quotes", "orderbooks"],
        "encoding": "msgpack",
    },
)
VENUES = (BINANCE, MASSIVE, ALPACA)


def set_keys() -> None:
    """Sets the keys that the feeds want, for this process and its children."""
    os.environ.update(KEYS)


def stored_trades(lake: Lake, symbol: str) -> tuple[list[int], list[int]]:
    """Returns the ids of the stored trades, in order, and their times in ns."""
    found = lake.sql(
        "select trade_id, epoch_us(ts_event) * 1000 + ts_event_ns as ts from trades "
        f"where symbol = '{symbol}' and channel = 'trade' order by 1"
    ).to_arrow()
    ids, times = (found.column(name).to_pylist() for name in ("trade_id", "ts"))
    return [int(number) for number in ids], times


def doubled(symbol: str, stored: list[int]) -> list[str]:
    """Returns whether a trade is stored twice."""
    twice = len(stored) - len(set(stored))
    return [f"{symbol}: {twice} trade ids twice"] if twice else []


def by_id(lake: Lake, symbol: str) -> list[str]:
    """Holds what is missing against the ids in the ledger."""
    stored, _ = stored_trades(lake, symbol)
    wrong = doubled(symbol, stored)
    gaps = lake.sql(
        f"select first_missing, last_missing, state from gaps where symbol = '{symbol}' "
        "and channel = 'trade' and cause = 'sequence' order by tape_offset"
    ).to_pylist()
    excused: set[int] = set()
    for gap in gaps:
        ids = range(int(gap["first_missing"]), int(gap["last_missing"]) + 1)
        # What the venue's history gave is lost no more.
        excused = excused - set(ids) if gap["state"] == "repaired" else excused | set(ids)
    missing = sorted(set(range(stored[0], stored[-1] + 1)) - set(stored)) if stored else []
    silent = [id_ for id_ in missing if id_ not in excused]
    if silent:
        wrong.append(f"{symbol}: {len(silent)} trades missing, not in the ledger: {silent[:5]}")
    false = len(excused & set(stored))
    if false:
        wrong.append(f"{symbol}: {false} trades in the ledger that are stored")
    return wrong


def by_time(lake: Lake, symbol: str) -> list[str]:
    """Holds what is missing against the times in the ledger, in which no trade may be stored."""
    stored, times = stored_trades(lake, symbol)
    wrong = doubled(symbol, stored)
    if not stored:
        return [*wrong, f"{symbol}: no trade is stored"]
    gaps = lake.sql(
        "select epoch_us(ts_from) * 1000 + coalesce(ts_from_ns, 0) as low, "
        "epoch_us(ts_to) * 1000 + coalesce(ts_to_ns, 0) as high "
        f"from gaps where symbol = '{symbol}' and channel = 'trade'"
    ).to_pylist()
    ends = [(gap["low"] or 0, gap["high"] or 1 << 62) for gap in gaps]
    pairs = list(zip(stored, times, strict=True))
    for (before, low), (after, high) in pairwise(pairs):
        if after > before + 1 and not any(a <= high and low <= b for a, b in ends):
            wrong.append(f"{symbol}: trades after {before} to {after} missing, not in the ledger")
    for low, high in ends:
        if within := sum(low < ts < high for ts in times):
            wrong.append(f"{symbol}: {within} trades stored within the ledger's {low} to {high}")
    return wrong
