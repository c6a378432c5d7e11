"""The seeded market of stocks and pairs as Massive tells of it."""

from tapeworks._core import Frames, MassiveMarket
from tapeworks.simulators.massive.config import SimulatorConfig
from tapeworks.simulators.source import SeededSource


class MarketSource(SeededSource[MassiveMarket]):
    """The seeded market."""

    def __init__(self, config: SimulatorConfig, now_ns: int) -> None:
        def market(start_ns: int) -> MassiveMarket:
            return MassiveMarket(
                list(config.symbols), config.seed, start_ns, rate=config.rate, levels=config.levels
            )

        super().__init__(market, config, now_ns)

    def advance(self, to_ns: int, other: bool) -> Frames:
        """Moves the market; there is one form of each event."""
        return self.market.advance(to_ns)
