"""The seeded market of stocks and pairs as Massive tells of it."""

from tapeworks._core import Frames, MassiveMarket
from tapeworks.simulators.massive.config import SimulatorConfig
from tapeworks.simulators.source import NS_PER_S, Source

REST_NS = 100_000_000
"""Books are told at every multiple of this."""


class MarketSource(Source):
    """The seeded market."""

    rest_ns = REST_NS

    def __init__(self, config: SimulatorConfig, now_ns: int) -> None:
        self.symbols = config.symbols
        self.start_ns = config.start_ns or now_ns
        # At its end every book was told.
        end_ns = -(-(self.start_ns + int(config.duration_s * NS_PER_S)) // REST_NS) * REST_NS
        self.end_ns = end_ns if config.duration_s else None
        self.market = MassiveMarket(
            list(config.symbols),
            config.seed,
            self.start_ns,
            rate=config.rate,
            levels=config.levels,
        )

    @property
    def now(self) -> int:
        """The market's own time."""
        return self.market.now

    def stream(self, name: str) -> int | None:
        """Asks the market."""
        return self.market.stream(name)

    def want(self, stream: int) -> None:
        """Tells the market."""
        self.market.want(stream, True)

    def advance(self, to_ns: int, other: bool) -> Frames:
        """Moves the market; there is one form of each event."""
        return self.market.advance(to_ns)

    def facts(self, symbol: str) -> dict[str, int]:
        """Returns the market's own facts."""
        update, trade, checksum, bids, asks = self.market.facts(self.listed(symbol))
        return {
            "update_id": update,
            "trade_id": trade,
            "checksum": checksum,
            "bids": bids,
            "asks": asks,
        }
