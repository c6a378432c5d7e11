"""Where the frames come from: the seeded market, or a recording (see `playback.py`)."""

import json
from abc import abstractmethod
from collections.abc import Sequence

from tapeworks._core import BinanceMarket, Frames
from tapeworks.simulators.binance.config import SimulatorConfig
from tapeworks.simulators.source import SeededSource, Source


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


class MarketSource(SeededSource[BinanceMarket], BinanceSource):
    """The seeded market."""

    fact_names = ("update_id", "trade_id", "aggregate_id", "checksum", "bids", "asks")

    def __init__(self, config: SimulatorConfig, now_ns: int) -> None:
        def market(start_ns: int) -> BinanceMarket:
            return BinanceMarket(
                config.feed,
                list(config.symbols),
                config.seed,
                start_ns,
                rate=config.rate,
                levels=config.levels,
            )

        super().__init__(market, config, now_ns)

    def advance(self, to_ns: int, other: bool) -> Frames:
        """Moves the market; the other form has microseconds."""
        return self.market.advance(to_ns, other)

    def depth(self, symbol: str, limit: int, micros: bool) -> bytes:
        """Returns the book as it is now."""
        return self.market.depth(self.listed(symbol), limit, micros)

    def exchange_info(self, limits: str, micros: bool) -> bytes:
        """Returns what the market lists."""
        return self.market.exchange_info(limits, micros)

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
        return self.market.trades(symbol, limit, from_id, *window_ns, aggregates, micros)

    def klines(
        self,
        symbol: str,
        interval: str,
        limit: int,
        window_ns: tuple[int | None, int | None],
        micros: bool,
    ) -> bytes:
        """Returns what the market remembers."""
        return self.market.klines(self.listed(symbol), interval, limit, *window_ns, micros)

    def book_tickers(self, symbols: Sequence[str], micros: bool) -> bytes:
        """Returns the best prices as they are now."""
        return self.market.book_tickers([self.listed(symbol) for symbol in symbols], micros)

    def skip_trades(self, symbol: str, count: int) -> None:
        """Lets the ids of the next trades be so much higher."""
        self.market.skip_trades(self.listed(symbol), count)


def filter_symbols(body: bytes, wanted: Sequence[str]) -> bytes:
    """Keeps of an exchangeInfo answer only the symbols that were asked for."""
    info = json.loads(body)
    info["symbols"] = [entry for entry in info["symbols"] if entry["symbol"] in wanted]
    return json.dumps(info, separators=(",", ":"), ensure_ascii=False).encode()
