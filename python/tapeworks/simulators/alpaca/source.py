"""The seeded market of stocks and pairs as Alpaca tells of it."""

from tapeworks._core import AlpacaMarket, Frames
from tapeworks.simulators.alpaca.config import SimulatorConfig
from tapeworks.simulators.source import SeededSource


class MarketSource(SeededSource[AlpacaMarket]):
    """The seeded market."""

    def __init__(self, config: SimulatorConfig, now_ns: int) -> None:
        def market(start_ns: int) -> AlpacaMarket:
            return AlpacaMarket(
                list(config.symbols), config.seed, start_ns, rate=config.rate, levels=config.levels
            )

        super().__init__(market, config, now_ns)

    def advance(self, to_ns: int, other: bool) -> Frames:
        """Moves the market; the other form of an event is msgpack."""
        return self.market.advance(to_ns, other)
