"""Order books of the past: the verified book of a symbol at any instant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

from tapeworks._core import Book, BookHistory, Unverified
from tapeworks.errors import QueryError
from tapeworks.tape import open_tape
from tapeworks.topics import BOOK
from tapeworks.views.past_books import Clock, PastBooks
from tapeworks.views.reach import derived_until, first_receipt, newest_receipt
from tapeworks.views.result import Result
from tapeworks.views.tail import SourceTail
from tapeworks.views.times import format_time

if TYPE_CHECKING:
    import pandas
    import polars

PRICE_PLACES = 9
SIZE_PLACES = 8
LEVELS_SHOWN = 5
# States of a book that are passed on the way to the last verified one.
LOOKS_BACK = 16

Origin = Literal["tape", "lake"]
NOW = 2**63 - 2
# A book is emptied by the end of a recording alone.
ENDED = "empty"


class BookAt:
    """The book of one symbol at one instant. Prices and sizes are exact decimals."""

    def __init__(
        self,
        book: Book,
        symbol: str,
        source: str,
        origin: Origin = "tape",
        notice: str | None = None,
    ) -> None:
        self.native = book
        self.symbol = symbol
        self.source = source
        self.origin = origin
        """What it was rebuilt from: the book tape, or the lake where the tape begins later."""
        self.notice = notice
        """Why the book is older than the instant that was asked for; none where it is not."""

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

    @property
    def mid(self) -> Decimal | None:
        """The middle of best bid and best ask, exact; none where a side is empty."""
        best = self._best()
        return None if best is None else (best[0] + best[1]) / 2

    @property
    def spread(self) -> Decimal | None:
        """Best ask minus best bid, exact; none where a side is empty."""
        best = self._best()
        return None if best is None else best[1] - best[0]

    def _best(self) -> tuple[Decimal, Decimal] | None:
        bids, asks = self.top(1)
        return (bids[0][0], asks[0][0]) if bids and asks else None

    def top(
        self, count: int = 10
    ) -> tuple[list[tuple[Decimal, Decimal]], list[tuple[Decimal, Decimal]]]:
        """Returns the best `count` bids and asks."""
        bids, asks = self.native.top(count)
        return [_exact(pair) for pair in bids], [_exact(pair) for pair in asks]

    def depth(self, basis_points: int) -> tuple[Decimal, Decimal]:
        """Returns the sizes of bids and of asks that stand within so much of the mid.

        Raises:
            QueryError: a side is empty, so that there is no mid.
        """
        sides = [self.native.depth(side, basis_points=basis_points) for side in ("bid", "ask")]
        sizes = [Decimal(side[0]).scaleb(-SIZE_PLACES) for side in sides if side is not None]
        if len(sizes) < len(sides):
            raise QueryError(f"a side of the book of {self.symbol} is empty: it has no mid")
        return sizes[0], sizes[1]

    def cost(self, side: Literal["buy", "sell"], size: Decimal | int) -> Decimal:
        """Returns what it costs to buy `size` at once, or what selling it brings, without fees.

        Raises:
            QueryError: so much does not stand there; or `size` has more than 8 places.
        """
        if side not in ("buy", "sell"):
            raise QueryError(f"expected side 'buy' or 'sell', got {side!r}")
        try:
            units = Decimal(size).scaleb(SIZE_PLACES)
            is_size = 0 < units < NOW and units == int(units)
        except (InvalidOperation, TypeError, ValueError):
            is_size = False
        if not is_size:
            raise QueryError(f"expected a size above 0 of up to {SIZE_PLACES} places, got {size!r}")
        filled, cost, _ = self.native.cost("ask" if side == "buy" else "bid", int(units))
        if filled < units:
            held = Decimal(filled).scaleb(-SIZE_PLACES)
            raise QueryError(
                f"expected {_plain(Decimal(size))} of {self.symbol} to {side}, got a book that "
                f"holds {_plain(held)}"
            )
        return Decimal(cost).scaleb(-PRICE_PLACES - SIZE_PLACES)

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

    def to_polars(self, *, decimals: bool = False) -> polars.DataFrame:
        """Returns the same columns as a frame of Polars, as `Result.to_polars` does.

        Raises:
            QueryError: Polars is not installed.
        """
        return self._result().to_polars(decimals=decimals)

    def to_pandas(self, *, decimals: bool = False) -> pandas.DataFrame:
        """Returns the same columns as a frame of pandas, in which `size` is called `size_`.

        Raises:
            QueryError: pandas is not installed.
        """
        return self._result().to_pandas(decimals=decimals)

    def _result(self) -> Result:
        return Result(self.to_arrow(), f"book {self.symbol}")

    def __repr__(self) -> str:
        bids, asks = self.top(LEVELS_SHOWN)
        when = "" if self.ts_event is None else f" at {format_time(self.ts_event)}"
        lines = [
            f"{self.symbol} of {self.source}{when}, update {self.sequence}, from the {self.origin}"
        ]
        lines += [] if self.notice is None else [f"  {self.notice}"]
        lines += [f"  ask {_plain(price):>20} {_plain(size):>20}" for price, size in asks[::-1]]
        lines += [f"  bid {_plain(price):>20} {_plain(size):>20}" for price, size in bids]
        return "\n".join(lines)


@dataclass(frozen=True)
class Refused:
    """A state in which no book is shown, and since when by the venue's clock, in ns."""

    state: str
    ts_event: int | None


class Books:
    """The books of a data folder; remembers their checkpoints between questions."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._histories: dict[str, BookHistory] = {}
        self._past: dict[str, PastBooks] = {}

    def at(
        self,
        tail: SourceTail,
        source: str,
        symbol: str,
        ids: list[int],
        at: int | None,
        clock: Clock,
        last: bool = False,
    ) -> BookAt:
        """Returns the book of `symbol` as of `at`, or now; with `last` the last one up to then.

        Of now, after the end of a recording, it is the last one, which says so.

        Raises:
            QueryError: there is no book tape, the book was not verified at that instant, or nothing
                was received yet that says whether it was.
        """
        past = self._past.setdefault(source, PastBooks(tail))
        ts = NOW if at is None else at
        # Before the question, so that nothing that comes meanwhile counts as known.
        known = _known_until(tail)
        refusals = []
        for instrument in reversed(ids):
            found, origin = self._find(past, source, symbol, instrument, ts, clock)
            if isinstance(found, Book):
                _check_known(source, at, known, clock, [found])
                return BookAt(found, symbol, source, origin)
            refusals.append(found)
        _check_known(source, at, known, clock, refusals)
        since = refusals[0].ts_event if refusals else None
        before, origin = self._last(past, source, symbol, ids[-1], since) if ids else (None, "tape")
        has_ended = at is None and bool(refusals) and refusals[0].state == ENDED
        if before is not None and (last or has_ended):
            return BookAt(before, symbol, source, origin, _notice(at, refusals, before))
        began = first_receipt(tail)
        if since is None and at is not None and began is not None and at < began:
            raise QueryError(
                f"there is no book of {symbol} on {source} at {format_time(at)}: the recording "
                f"began at {format_time(began)}"
            )
        raise _refusal(source, symbol, at, refusals, before, self._held(past, source, symbol))

    def _last(
        self, past: PastBooks, source: str, symbol: str, instrument: int, since: int | None
    ) -> tuple[Book | None, Origin]:
        """Returns the last verified book before one that is not since `since`."""
        for _ in range(LOOKS_BACK):
            if since is None:
                break
            # What broke a book may have happened at any time after its last update: up to then.
            for ts in (since, since - 1):
                found, origin = self._find(past, source, symbol, instrument, ts, "event")
                if isinstance(found, Book):
                    return found, origin
            since = found.ts_event if found.ts_event != since else None
        return None, "tape"

    def _find(
        self, past: PastBooks, source: str, symbol: str, instrument: int, ts: int, clock: Clock
    ) -> tuple[Book | Unverified | Refused, Origin]:
        """Asks the tape; and the lake, if the instant lies before all that the tape holds."""
        history, seam = self._history(source)
        found: Book | Unverified | None = None
        if history is not None:
            by_clock = {"ts_event" if clock == "event" else "ts_recv": ts}
            found = history.at(instrument, **by_clock)
            if not seam or not isinstance(found, Unverified) or found.ts_event is not None:
                return self._since(past, history, symbol, instrument, found, seam), "tape"
        if past.is_held():
            return past.at(symbol, instrument, ts, clock, seam), "lake"
        if found is not None:
            return found, "tape"
        raise QueryError(
            f"{source} has no books, neither on a tape nor in the lake: record depth, and run "
            "`tape up` to derive books"
        )

    def _since(
        self,
        past: PastBooks,
        history: BookHistory,
        symbol: str,
        instrument: int,
        found: Book | Unverified,
        seam: int | None,
    ) -> Book | Unverified | Refused:
        """Looks further back than the tape for when a book was lost that was not verified then."""
        if not seam or isinstance(found, Book) or found.ts_event is None or not past.is_held():
            return found
        before = history.at(instrument, ts_event=found.ts_event - 1)
        if isinstance(before, Book) or before.ts_event is not None:
            return found
        since = past.unverified_since(symbol, instrument, seam)
        return found if since is None else Refused(found.state, since)

    def _held(self, past: PastBooks, source: str, symbol: str) -> int | None:
        """Returns the first instant of which a book is held in the lake."""
        _, seam = self._history(source)
        return past.first(symbol) if seam is None or seam > 0 else None

    def _history(self, source: str) -> tuple[BookHistory | None, int | None]:
        """Returns the tape's books and the first offset that it holds; none without a tape."""
        tape = self._data / "tape" / source / BOOK
        reader = open_tape(tape)
        if reader is None:
            return None, None
        first = reader.first
        if source not in self._histories:
            self._histories[source] = BookHistory(tape)
        return self._histories[source], first


def _known_until(tail: SourceTail) -> int | None:
    """Returns the receive time up to which books are known; none where nothing tells."""
    until = derived_until(tail, BOOK)
    if until is not None:
        return until - 1
    newest = [ts for ts in (newest_receipt(tail), newest_receipt(tail, BOOK)) if ts is not None]
    return max(newest, default=None)


def _check_known(
    source: str,
    at: int | None,
    known: int | None,
    clock: Clock,
    found: Sequence[Book | Unverified | Refused],
) -> None:
    """Refuses an instant of which nothing is known yet; what the venue itself said of it is.

    Raises:
        QueryError: `at` is after `known`, and after the venue's time of all of `found`.
    """
    if at is None or known is None:
        return
    told = [each.ts_event or 0 for each in found if clock == "event"]
    if at > max([known, *told]):
        raise QueryError(
            f"expected an instant up to {format_time(known)}, when the last record of {source} was "
            f"received, got {format_time(at)}"
        )


def outage(last: BookAt, since: int, at: int | None) -> QueryError:
    """Returns why `last` is not the book of `at`, or of now: nothing came since `since`."""
    when = "now" if at is None else f"at {format_time(at)}"
    shown = last.ts_recv if last.ts_event is None else last.ts_event
    return QueryError(
        f"the book of {last.symbol} on {last.source} is not known {when}: its line is down since "
        f"{format_time(since)}; `--last` (last=True) shows the last verified one, of "
        f"{format_time(shown or 0)}"
    )


def _notice(at: int | None, refusals: Sequence[Unverified | Refused], last: Book) -> str:
    """Returns why the book that is shown is that of an earlier instant."""
    state, since = refusals[0].state, refusals[0].ts_event
    why = "the recording ended" if state == ENDED else f"the book is {state}"
    when = "" if since is None else f" {'at' if state == ENDED else 'since'} {format_time(since)}"
    shown = last.ts_recv if last.ts_event is None else last.ts_event
    return f"{why}{when}: this is the last verified book, of {format_time(shown or 0)}"


def _refusal(
    source: str,
    symbol: str,
    at: int | None,
    refusals: list[Unverified | Refused],
    last: Book | None,
    held: int | None,
) -> QueryError:
    when = "now" if at is None else f"at {format_time(at)}"
    if not refusals:
        return QueryError(f"{source} never recorded {symbol}")
    state, since = refusals[0].state, refusals[0].ts_event
    if since is None and held is not None and at is not None and at < held:
        return QueryError(
            f"the book of {symbol} on {source} is not held {when}, neither on the tape nor in the "
            f"lake: the first is that of {format_time(held)}"
        )
    hint = "`tape gaps` shows what was lost"
    if last is not None:
        shown = last.ts_recv if last.ts_event is None else last.ts_event
        hint = f"`--last` (last=True) shows the last verified one, of {format_time(shown or 0)}"
    if state == ENDED and since is not None:
        return QueryError(
            f"there is no book of {symbol} on {source} {when}: the recording ended at "
            f"{format_time(since)}; {hint}"
        )
    text = f"the book of {symbol} on {source} is not verified {when}: it is {state}"
    if since is not None:
        text += f" since {format_time(since)}"
    return QueryError(f"{text}; {hint}")


def _exact(pair: tuple[int, int]) -> tuple[Decimal, Decimal]:
    return Decimal(pair[0]).scaleb(-PRICE_PLACES), Decimal(pair[1]).scaleb(-SIZE_PLACES)


def _plain(value: Decimal) -> str:
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
