"""What the campaign has to know of a store. A new one is a class derived from `Store`.

Its sink is given trades of several sources, as records of `RecordMaker`; the campaign compares what
`rows` returns with what is on the tapes.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from tests.services import Service


class Store(ABC):
    """One store, with a real server that only the campaign uses."""

    NAME: ClassVar[str]
    """What the table of sinks calls it."""

    service: Service
    """Its server; the campaign starts, kills, pauses and stops it."""

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
