"""Books of single orders at any instant: who stands where in which queue."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

import pyarrow as pa

from tapeworks._core import OrderBook
from tapeworks.errors import QueryError
from tapeworks.views.books import PRICE_PLACES, SIZE_PLACES, BookAt
from tapeworks.views.reach import Unknown
from tapeworks.views.times import format_time


@dataclass(frozen=True)
class OpenOrder:
    """One order that is open."""

    order_id: int
    side: Literal["bid", "ask"]
    price: Decimal
    size: Decimal
    """What is left of it."""
    ts_event: int
    """When it took its place in the queue, by the venue's clock, in ns."""


@dataclass(frozen=True)
class QueuePlace:
    """Where an order stands at its price."""

    orders_ahead: int
    size_ahead: Decimal


class OrderBookAt(BookAt):
    """The orders of one symbol at one instant, and all that a book by price answers."""

    def __init__(
        self,
        orders: OrderBook,
        symbol: str,
        source: str,
        gaps: int,
        dead_letters: int,
        unknown: Unknown | None,
        unrecorded: int | None,
        late: int = 0,
    ) -> None:
        super().__init__(orders.levels(), symbol, source)
        self._orders = orders
        self._gaps = gaps
        self._dead_letters = dead_letters
        self._unknown = unknown
        self._unrecorded = unrecorded
        self._late = late
        if not self.is_whole:
            self.notice = self._doubt()

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing since the start of the day, as far as anything tells.

        No gap of the ledger and no dead letter of the source is of that time, all of it was
        recorded and looked through for them, and every event fits to the orders that are known.
        """
        missing = self._orders.suspect or self._gaps or self._dead_letters
        unseen = self._unknown is not None or self._unrecorded is not None
        return not (missing or unseen or self._late or any(self._orders.doubts()))

    @property
    def events(self) -> int:
        """How many events of orders made the book."""
        return self._orders.events

    def orders(self, side: Literal["bid", "ask"]) -> list[OpenOrder]:
        """Returns the orders of a side: the best price first, at a price the first in the queue."""
        if side not in ("bid", "ask"):
            raise QueryError(f"expected side 'bid' or 'ask', got {side!r}")
        return [
            OpenOrder(
                number, side, Decimal(price).scaleb(-PRICE_PLACES),
                Decimal(size).scaleb(-SIZE_PLACES), ts,
            )
            for price, size, number, ts in self._orders.orders(side)
        ]  # fmt: skip

    def place(self, order_id: int) -> QueuePlace:
        """Returns how many orders, and of what size, are executed before this one at its price.

        Raises:
            QueryError: no order of that id is open.
        """
        # Ids are numbers of 64 bits: any other is of no order.
        found = self._orders.place(order_id) if 0 <= order_id < 1 << 64 else None
        if found is None:
            raise QueryError(f"no order {order_id} of {self.symbol} is open then")
        return QueuePlace(found[0], Decimal(found[1]).scaleb(-SIZE_PLACES))

    def orders_to_arrow(self) -> pa.Table:
        """Returns all orders, bids first, each with its `place` in the queue from 1 on."""
        rows, place, last = [], 0, None
        for side in ("bid", "ask"):
            for price, size, number, ts in self._orders.orders(side):
                place = place + 1 if last == (side, price) else 1
                last = (side, price)
                rows.append((side, price, place, size, number, ts))
        columns = list(zip(*rows, strict=True)) or [()] * 6
        price = pa.array([Decimal(one).scaleb(-PRICE_PLACES) for one in columns[1]], PRICE)
        size = pa.array([Decimal(one).scaleb(-SIZE_PLACES) for one in columns[3]], SIZE)
        return pa.table(
            {
                "side": pa.array(columns[0], pa.string()),
                "price": price,
                "place": pa.array(columns[2], pa.uint32()),
                "size": size,
                "order_id": pa.array(columns[4], pa.uint64()),
                "ts_event": pa.array(columns[5], pa.timestamp("ns", "UTC")),
            }
        )

    def _doubt(self) -> str:
        unfit = sum(self._orders.doubts())
        reasons = [
            (self._orders.suspect, "events of a recording that is not whole"),
            (unfit, "events that do not fit to the orders that are known"),
            (self._gaps, "gaps that touch its day"),
            (self._dead_letters, "messages of its day that could not be decoded"),
        ]
        told = [f"{reason}: {count:,}" for count, reason in reasons if count]
        if self._unknown is not None:
            since = self._unknown.after
            after = "" if since is None else f" after {format_time(since)}"
            told.append(f"its gaps are not yet known{after}")
        if self._unrecorded is not None:
            told.append(f"nothing was recorded from {format_time(self._unrecorded)} on")
        if self._late:
            told.append(
                f"its events come {self._late / 1e9:,.0f} s after they happen, and none later was "
                "received yet"
            )
        spread = self.spread
        if spread is not None and spread < 0:
            told.append(f"its best bid is above its best ask, by {-spread.normalize():f}")
        return (
            f"the book of {self.symbol} on {self.source}, of {self._orders.events:,} events, may "
            f"lack orders, or hold some that are gone: {'; '.join(told)}"
        )

    def __repr__(self) -> str:
        when = "" if self.ts_event is None else f" at {format_time(self.ts_event)}"
        kind = "whole" if self.is_whole else "not whole"
        return f"OrderBookAt({self.symbol!r} of {self.source}{when}, {len(self._orders):,}, {kind})"


PRICE, SIZE = pa.decimal128(19, PRICE_PLACES), pa.decimal128(19, SIZE_PLACES)
