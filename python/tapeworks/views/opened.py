"""A data folder that is open for reading: what all questions about it share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tapeworks.views.books import Books
from tapeworks.views.coverage import Ledger
from tapeworks.views.past_orders import PastOrders
from tapeworks.views.published import Published, PublishedTails
from tapeworks.views.query import Engine
from tapeworks.views.symbols import Instruments

Symbols = str | Sequence[str]


class Opened:
    """Engine, books, instruments and gap ledger of one data folder."""

    def __init__(
        self, data: Path, *, external_access: bool = False, published: Published | None = None
    ) -> None:
        self._name = str(data)
        tails = None
        if published is not None:
            data, self._name = published.folder, published.address
            tails = PublishedTails(published)
        self._data = data
        self._engine = Engine(data, external_access, tails)
        self._books = Books(data)
        self._instruments = Instruments(self._engine)
        self._ledger = Ledger(self._engine, data)
        self._orders = PastOrders(data, self._engine, self._ledger)

    def close(self) -> None:
        """Closes all files; questions are refused from then on. `with` does it at its end.

        What was begun is the caller's to end: a connection of `connect`, a `follow`, a `replay`.
        """
        self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
