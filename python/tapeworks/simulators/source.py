"""Where the frames of a simulated venue come from: the contract of a market or a recording."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from tapeworks._core import Frames
from tapeworks.errors import ConfigError, TapeworksError
from tapeworks.simulators.config import ServerConfig

NS_PER_S = 1_000_000_000
REST_NS = 100_000_000
"""At every multiple of this a seeded market has told what changed in its books."""
FACTS = ("update_id", "trade_id", "checksum", "bids", "asks")


class UnknownSymbolError(TapeworksError):
    """The venue does not list that symbol."""


class Source(ABC):
    """Everything that the venue could say, and when."""

    symbols: Sequence[str]
    start_ns: int
    end_ns: int | None
    rest_ns: int | None = None
    """At every multiple of this all that happened was told; none: at any time."""

    @property
    @abstractmethod
    def now(self) -> int:
        """The simulated time up to which everything has happened, in ns."""

    @abstractmethod
    def stream(self, name: str) -> int | None:
        """Returns the number of the stream called `name`; none where the venue stays silent."""

    @abstractmethod
    def want(self, stream: int) -> None:
        """Makes the frames of a stream from now on."""

    @abstractmethod
    def advance(self, to_ns: int, other: bool) -> Frames:
        """Lets everything happen up to and including `to_ns`.

        `other` asks for each frame in the other form that connections may have as well.
        """

    def clip(self, to_ns: int) -> int:
        """Returns how far time may go now, at most `to_ns`."""
        return to_ns

    def stale_book(self, symbol: str) -> bytes:
        """Returns the answer to a request for the book, to be given again later.

        Raises:
            ConfigError: the venue has no such answer.
        """
        raise ConfigError(f"no book of {symbol} is asked for at this venue")

    def skip_trades(self, symbol: str, count: int) -> None:
        """Skips trade ids, as a venue does that lost trades.

        Raises:
            ConfigError: this source's trades have their ids already.
        """
        raise ConfigError(f"a recording keeps its trade ids: no gap of {count} in {symbol}")

    @abstractmethod
    def facts(self, symbol: str) -> dict[str, int]:
        """Returns how `symbol` stands: last ids, and the checksum of its book."""

    def listed(self, symbol: str) -> str:
        """Returns `symbol` if it is listed.

        Raises:
            UnknownSymbolError: it is not.
        """
        if symbol not in self.symbols:
            raise UnknownSymbolError(symbol)
        return symbol


class SeededMarket(Protocol):
    """What the markets of the core have in common."""

    @property
    def now(self) -> int:
        """Its time, in ns."""

    def stream(self, name: str) -> int | None:
        """Returns the number of a stream."""

    def want(self, stream: int, wanted: bool) -> None:
        """Says whether the events of a stream are to be made."""

    def facts(self, symbol: str) -> tuple[int, ...]:
        """Returns the facts of a symbol, in the order of the venue's names of them."""


Market = TypeVar("Market", bound=SeededMarket)


class SeededSource(Source, Generic[Market]):
    """The seeded market of the core that speaks as a venue does."""

    rest_ns = REST_NS
    fact_names: Sequence[str] = FACTS

    def __init__(self, make: Callable[[int], Market], config: ServerConfig, now_ns: int) -> None:
        """Makes the market by its start, in ns: that of the settings, or now."""
        self.symbols = config.symbols
        self.start_ns = config.start_ns or now_ns
        # At its end every book has told all, so that books can be compared.
        end_ns = -(-(self.start_ns + int(config.duration_s * NS_PER_S)) // REST_NS) * REST_NS
        self.end_ns = end_ns if config.duration_s else None
        self.market = make(self.start_ns)

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

    def facts(self, symbol: str) -> dict[str, int]:
        """Returns the market's own facts."""
        return dict(zip(self.fact_names, self.market.facts(self.listed(symbol)), strict=True))
