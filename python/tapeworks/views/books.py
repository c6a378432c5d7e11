"""Order books of the past: the proven book of a symbol at any instant."""

from decimal import Decimal
from pathlib import Path
from typing import Literal

import pyarrow as pa

from tapeworks._core import Book, BookHistory, Unproven
from tapeworks.errors import QueryError
from tapeworks.views.times import format_time

TOPIC = "market-data.book"
PRICE_PLACES = 9
SIZE_PLACES = 8
LEVELS_SHOWN = 5

Clock = Literal["event", "receipt"]


class BookAt:
    """The book of one symbol at one instant. Prices and sizes are exact decimals."""

    def __init__(self, book: Book, symbol: str, source: str) -> None:
        self.native = book
        self.symbol = symbol
        self.source = source

    @property
    def bids(self) -> list[tuple[Decimal, Decimal]]:
        """Price and size of all bids, best first."""
        return [_exact(pair) for pair in self.native.levels("bid")]

    @property
    def asks(self) -> list[tuple[Decimal, Decimal]]:
        """Price and size of all asks, best first."""
        return [_exact(pair) for pair in self.native.levels("ask")]

    @property
    def sequence(self) -> int:
        """The venue's id of the last update in the book."""
        return self.native.sequence

    @property
    def ts_event(self) -> int | None:
        """When that update happened, by the venue's clock, in ns."""
        return self.native.ts_event

    @property
    def ts_recv(self) -> int | None:
        """When it was received, in ns."""
        return self.native.ts_recv

    def top(
        self, count: int = 10
    ) -> tuple[list[tuple[Decimal, Decimal]], list[tuple[Decimal, Decimal]]]:
        """Returns the best `count` bids and asks."""
        bids, asks = self.native.top(count)
        return [_exact(pair) for pair in bids], [_exact(pair) for pair in asks]

    def to_arrow(self) -> pa.Table:
        """Returns side, level (1 is the best), price and size as a table."""
        columns: dict[str, list[object]] = {"side": [], "level": [], "price": [], "size": []}
        for side, levels in (("bid", self.bids), ("ask", self.asks)):
            columns["side"] += [side] * len(levels)
            columns["level"] += range(1, len(levels) + 1)
            columns["price"] += [price for price, _ in levels]
            columns["size"] += [size for _, size in levels]
        types = [
            ("side", pa.string()),
            ("level", pa.uint32()),
            ("price", pa.decimal128(19, PRICE_PLACES)),
            ("size", pa.decimal128(19, SIZE_PLACES)),
        ]
        return pa.table(columns, schema=pa.schema(types))

    def __repr__(self) -> str:
        bids, asks = self.top(LEVELS_SHOWN)
        when = "" if self.ts_event is None else f" at {format_time(self.ts_event)}"
        lines = [f"{self.symbol} of {self.source}{when}, update {self.sequence}"]
        lines += [f"  ask {_plain(price):>20} {_plain(size):>20}" for price, size in asks[::-1]]
        lines += [f"  bid {_plain(price):>20} {_plain(size):>20}" for price, size in bids]
        return "\n".join(lines)


class Books:
    """The book tapes of a data folder; remembers their checkpoints between questions."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._histories: dict[str, BookHistory] = {}

    def at(self, source: str, symbol: str, ids: list[int], at: int | None, clock: Clock) -> BookAt:
        """Returns the book of `symbol` as of `at`, or now.

        Raises:
            QueryError: there is no book tape, or the book was not proven at that instant.
        """
        history = self._history(source)
        ts = 2**63 - 2 if at is None else at
        refusals = []
        for instrument in reversed(ids):
            if clock == "event":
                found = history.at(instrument, ts_event=ts)
            else:
                found = history.at(instrument, ts_recv=ts)
            if not isinstance(found, Unproven):
                return BookAt(found, symbol, source)
            refusals.append(found)
        last = self._last_proven(history, ids, refusals)
        raise _refusal(source, symbol, at, refusals, last)

    def _last_proven(
        self, history: BookHistory, ids: list[int], refusals: list[Unproven]
    ) -> int | None:
        """Returns the newest instant before the refusal at which the book was proven."""
        since = refusals[0].ts_event if refusals else None
        if since is None:
            return None
        found = history.at(ids[-1], ts_event=since - 1)
        return None if isinstance(found, Unproven) else since - 1

    def _history(self, source: str) -> BookHistory:
        tape = self._data / "tape" / source / TOPIC
        if not tape.is_dir():
            raise QueryError(
                f"{source} has no book tape: record depth, and run `tape up` to derive books"
            )
        if source not in self._histories:
            self._histories[source] = BookHistory(tape)
        return self._histories[source]


def _refusal(
    source: str, symbol: str, at: int | None, refusals: list[Unproven], last: int | None
) -> QueryError:
    when = "now" if at is None else f"at {format_time(at)}"
    if not refusals:
        return QueryError(f"{source} never recorded {symbol}")
    state, since = refusals[0].state, refusals[0].ts_event
    text = f"the book of {symbol} on {source} is not proven {when}: it is {state}"
    if since is not None:
        text += f" since {format_time(since)}"
    if last is not None:
        return QueryError(f"{text}; the last proven one is at {format_time(last)}")
    return QueryError(f"{text}; `tape gaps` shows what was lost")


def _exact(pair: tuple[int, int]) -> tuple[Decimal, Decimal]:
    return Decimal(pair[0]).scaleb(-PRICE_PLACES), Decimal(pair[1]).scaleb(-SIZE_PLACES)


def _plain(value: Decimal) -> str:
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
