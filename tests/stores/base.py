"""What the campaign has to know of a store. A new one is a class derived from `Store`.

Its sink is given trades of several sources, as records of `RecordMaker`; the campaign compares what
`rows` returns with what is on the tapes.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

from tests.services import Service

from .worker import run_sink


class Store(ABC):
    """One store, with a real server that only the campaign uses."""

    NAME: ClassVar[str]
    """What the table of sinks calls it."""

    service: Service
    """Its server; the campaign starts, kills, pauses and stops it."""
    RUN: ClassVar[Callable[..., None]] = staticmethod(run_sink)
    """What its worker runs: data folder, name, settings and log are given."""
    STAGE: ClassVar[str] = ""
    """The name of its offset on the tapes; none: that of a sink of its name."""
    PACE: ClassVar[float] = 1.0
    """How many times as long as others it takes to store something: it is killed as rarely."""
    SHARED: ClassVar[tuple[str, ...]] = ("tape",)
    """What of the data folder a second instance has as well."""
    WITHOUT: ClassVar[frozenset[str]] = frozenset()
    """Faults that its server cannot have."""

    @property
    def stage(self) -> str:
        """The name of the offset up to which it has stored a tape."""
        return self.STAGE or f"sink-{self.NAME}"

    @property
    def proxied(self) -> tuple[int, int]:
        """The port that the proxy forwards to, and the one that it listens on; 0: any."""
        return self.service.port, 0

    @abstractmethod
    def settings(self, port: int) -> Any:
        """Returns the settings of a sink that reaches the server by `port`, a proxy before it.

        A server that is silent should count as gone after about a second, and what was written be
        final after a few milliseconds.
        """

    @abstractmethod
    def prepare(self) -> None:
        """Makes in the server, which has just been started, what the sink needs."""

    @abstractmethod
    def rows(self, source: str) -> list[tuple[int, int]]:
        """Returns tape offset and id of all trades of a source that readers see, in their order.

        It asks the server directly; what it raises while the server is down is passed over.
        """

    def poison(self, trade_ids: frozenset[int]) -> bool:
        """Makes the store refuse these trades for good; returns whether it can."""
        return False

    def revoke(self) -> bool:
        """Takes the rights to write from the sink; returns whether it can."""
        return False

    def restore(self) -> None:
        """Gives them back.

        Raises:
            NotImplementedError: nothing was revoked.
        """
        raise NotImplementedError
