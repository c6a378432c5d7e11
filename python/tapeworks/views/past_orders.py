"""Books of single orders of the past: the events of a day, replayed up to an instant."""

from dataclasses import replace
from pathlib import Path

from tapeworks._core import OrderBook
from tapeworks.errors import QueryError
from tapeworks.new_york import day_at, midnight_of
from tapeworks.views.conditions import time_condition
from tapeworks.views.coverage import Ledger
from tapeworks.views.order_books import OrderBookAt
from tapeworks.views.order_checkpoints import Basis, OrderCheckpoints
from tapeworks.views.past_books import Clock
from tapeworks.views.query import Engine, Scope
from tapeworks.views.reach import newest_receipt, unknown_at
from tapeworks.views.replay import tapes_of
from tapeworks.views.stream import open_stream
from tapeworks.views.symbols import Chosen
from tapeworks.views.times import format_time

LATE_NS = 60_000_000_000
"""So long after an event of an order its receipt is awaited, if others show that none is later."""
LATE_NS_MAX = 86_400_000_000_000
"""So long after it at most: a feed may be delayed, and a line may begin with what was long ago."""
KINDS = ("orders", "statuses")
READ_RECORDS = 65_536


class PastOrders:
    """The books of single orders of a data folder, at any instant."""

    def __init__(self, data: Path, engine: Engine, ledger: Ledger) -> None:
        self._data = data
        self._engine = engine
        self._ledger = ledger

    def at(self, symbol: str, source: str, at: int | None, clock: Clock) -> OrderBookAt:
        """Returns the book of `symbol` as of `at`, or of what was received last.

        Raises:
            QueryError: nothing was received of that instant yet, or there are no orders by then.
        """
        tail = self._engine.tail(source)
        newest = newest_receipt(tail)
        ts = newest if at is None else at
        if newest is None or ts is None or ts > newest:
            known = "nothing" if newest is None else f"the last record of {format_time(newest)}"
            got = "none" if at is None else format_time(at)
            raise QueryError(f"expected an instant up to {known} of {source}, got {got}")
        start = midnight_of(day_at(ts))
        book, is_late = self._read(symbol, source, start, ts, clock)
        # Without an instant asked for, it is that of what was received.
        is_late &= at is not None and newest < ts + book.lag()
        if not book.events:
            raise QueryError(
                f"{source} has no orders of {symbol} from {format_time(start)} to "
                f"{format_time(ts)}: feeds of single orders are itch and lobster"
            )
        chosen = Chosen([source], {source: [symbol]})
        gaps = self._ledger.gaps(chosen, start, ts + 1)
        sql = "select count(*) as n from dead_letters where " + " and ".join(
            time_condition("ts_recv", start, max(ts, book.ts_recv or ts) + LATE_NS)
        )
        [letters] = self._engine.run(sql, ["dead_letters"], Scope([source])).column(0).to_pylist()
        unknown = unknown_at(tail, ts)
        hole = self._ledger.hole(chosen, start, ts + 1)
        late = book.lag() if is_late else 0
        return OrderBookAt(book, symbol, source, len(gaps), letters, unknown, hole, late)

    def _read(
        self, symbol: str, source: str, start: int, ts: int, clock: Clock
    ) -> tuple[OrderBook, bool]:
        """Makes the book of `ts`, and says whether events by then may come later."""
        if clock == "receipt":
            book, _ = self._replay(symbol, source, start, None, ts + 1)
            return book, False
        # What happened by then may have been received later.
        for late in (LATE_NS, LATE_NS_MAX):
            book, may_go_on = self._replay(symbol, source, start, ts, ts + late)
            if not may_go_on or self._is_passed(source, ts, ts + late):
                return book, False
        return book, book.lag() > LATE_NS

    def _is_passed(self, source: str, ts: int, end: int) -> bool:
        """Says whether events of orders later than `ts`, of any symbol, were received by `end`."""
        [(_, topic, selected)] = tapes_of(Chosen([source], None), ("orders",), ts, end)
        stream = open_stream(self._engine.tail(source), source, topic, selected)
        past = OrderBook()
        while stream is not None and (batch := stream.read(READ_RECORDS)) is not None:
            if not past.apply(batch, ts):
                return True
        return False

    def _replay(
        self, symbol: str, source: str, start: int, until: int | None, before: int
    ) -> tuple[OrderBook, bool]:
        """Returns the book of what happened up to `until` and was received from `start` up to
        `before`, and whether more may have happened by then.

        It goes on from a checkpoint, and leaves others on its way.
        """
        chosen = Chosen([source], {source: [symbol]})
        [(_, topic, selected)] = tapes_of(chosen, KINDS, start, before)
        tail = self._engine.tail(source)
        stream = open_stream(tail, source, topic, replace(selected, overruns=True))
        if stream is None:
            return OrderBook(), True
        basis = Basis(tail, selected.tables, stream.older)
        of = self._data, source, symbol, start
        checkpoints = OrderCheckpoints(*of, basis, stream.position)
        book, at = checkpoints.restore(until, before) or (OrderBook(), None)
        if at is not None:
            stream.resume(at)
        while (batch := stream.step(READ_RECORDS)) is not None:
            if len(batch) and not book.apply(batch, until, before):
                break
            if stream.is_between:
                checkpoints.keep(book, stream.position)
        checkpoints.close()
        return book, batch is None
