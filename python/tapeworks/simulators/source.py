"""Where the frames of a simulated venue come from: the contract of a market or a recording."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from tapeworks._core import Frames
from tapeworks.errors import ConfigError, TapeworksError

NS_PER_S = 1_000_000_000


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
