"""Where the frames come from: the seeded market, or a recording (see `playback.py`)."""

import json
from abc import abstractmethod
from collections.abc import Sequence

from tapeworks._core import BinanceMarket, Frames
from tapeworks.simulators.binance.config import SimulatorConfig
from tapeworks.simulators.source import NS_PER_S, Source

REST_NS = 100_000_000
"""Depth streams tell what changed at every multiple of this, or of more."""


class BinanceSource(Source):
    """What Binance could say, and the answers of its REST interface."""

    def ask(self, symbol: str) -> bool:
        """Says that somebody asks for the book of `symbol`; returns whether it is due."""
        return True

    @abstractmethod
    def depth(self, symbol: str, limit: int, micros: bool) -> bytes:
        """Returns the answer to a request for the book."""

    @abstractmethod
    def exchange_info(self, limits: str, micros: bool) -> bytes:
        """Returns the answer to a request for all definitions."""

    @abstractmethod
    def trades(
        self,
        symbol: str,
        limit: int,
        from_id: int | None,
        window_ns: tuple[int | None, int | None],
        aggregates: bool,
        micros: bool,
    ) -> bytes:
        """Returns the answer to a request for trades or aggregates."""

    @abstractmethod
    def klines(
        self,
        symbol: str,
        interval: str,
        limit: int,
        window_ns: tuple[int | None, int | None],
        micros: bool,
    ) -> bytes:
        """Returns the answer to a request for bars.

        Raises:
            ValueError: there are no bars of that interval.
        """

    @abstractmethod
    def book_tickers(self, symbols: Sequence[str], micros: bool) -> bytes:
        """Returns the answer to a request for best bids and offers: a JSON array."""

    def stale_book(self, symbol: str) -> bytes:
        """Returns the book as it is now."""
        return self.depth(symbol, 1000, micros=False)


class MarketSource(BinanceSource):
    """The seeded market."""

    rest_ns = REST_NS

    def __init__(self, config: SimulatorConfig, now_ns: int) -> None:
        self.symbols = config.symbols
        self.start_ns = config.start_ns or now_ns
        # At its end every depth stream has told all, so that books can be compared.
        end_ns = -(-(self.start_ns + int(config.duration_s * NS_PER_S)) // REST_NS) * REST_NS
        self.end_ns = end_ns if config.duration_s else None
        self._market = BinanceMarket(
            config.feed,
            list(config.symbols),
            config.seed,
            self.start_ns,
            rate=config.rate,
            levels=config.levels,
        )

    @property
    def now(self) -> int:
        """The market's own time."""
        return self._market.now

    def stream(self, name: str) -> int | None:
        """Asks the market."""
        return self._market.stream(name)

    def want(self, stream: int) -> None:
        """Tells the market."""
        self._market.want(stream, True)

    def advance(self, to_ns: int, other: bool) -> Frames:
        """Moves the market; the other form has microseconds."""
        return self._market.advance(to_ns, other)

    def depth(self, symbol: str, limit: int, micros: bool) -> bytes:
        """Returns the book as it is now."""
        return self._market.depth(self.listed(symbol), limit, micros)

    def exchange_info(self, limits: str, micros: bool) -> bytes:
        """Returns what the market lists."""
        return self._market.exchange_info(limits, micros)

    def trades(
        self,
        symbol: str,
        limit: int,
        from_id: int | None,
        window_ns: tuple[int | None, int | None],
        aggregates: bool,
        micros: bool,
    ) -> bytes:
        """Returns what the market remembers."""
        symbol = self.listed(symbol)
        return self._market.trades(symbol, limit, from_id, *window_ns, aggregates, micros)

    def klines(
        self,
        symbol: str,
        interval: str,
        limit: int,
        window_ns: tuple[int | None, int | None],
        micros: bool,
    ) -> bytes:
        """Returns what the market remembers."""
        return self._market.klines(self.listed(symbol), interval, limit, *window_ns, micros)

    def book_tickers(self, symbols: Sequence[str], micros: bool) -> bytes:
        """Returns the best prices as they are now."""
        return self._market.book_tickers([self.listed(symbol) for symbol in symbols], micros)

    def skip_trades(self, symbol: str, count: int) -> None:
        """Lets the ids of the next trades be so much higher."""
        self._market.skip_trades(self.listed(symbol), count)

    def facts(self, symbol: str) -> dict[str, int]:
        """Returns the market's own facts."""
        update, trade, aggregate, checksum, bids, asks = self._market.facts(self.listed(symbol))
        return {
            "update_id": update,
            "trade_id": trade,
            "aggregate_id": aggregate,
            "checksum": checksum,
            "bids": bids,
            "asks": asks,
        }


def filter_symbols(body: bytes, wanted: Sequence[str]) -> bytes:
    """Keeps of an exchangeInfo answer only the symbols that were asked for."""
    info = json.loads(body)
    info["symbols"] = [entry for entry in info["symbols"] if entry["symbol"] in wanted]
    return json.dumps(info, separators=(",", ":"), ensure_ascii=False).encode()
