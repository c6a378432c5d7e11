"""What the mid was some time after each trade, at several horizons in one call."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tapeworks.errors import QueryError
from tapeworks.lake import TABLES
from tapeworks.views.conditions import parse_range, time_condition
from tapeworks.views.joins import Joins
from tapeworks.views.opened import Symbols
from tapeworks.views.past_books import Clock
from tapeworks.views.query import Scope
from tapeworks.views.result import Result
from tapeworks.views.symbols import Chosen
from tapeworks.views.times import TIME_MAX, TimeLike

UNITS_NS = {"us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
DAY_NS = 86_400_000_000_000
SIGNS = {"buy": 1, "sell": -1}
BOTH = (*TABLES["trades"].channels, *TABLES["quotes"].channels)


class Markouts(Joins):
    """What `Lake` says of the time behind a trade."""

    def markouts(
        self,
        horizons: str | Sequence[str],
        symbols: Symbols | None = None,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        *,
        source: str | None = None,
        exchange: str | None = None,
        product: str | None = None,
        clock: Clock | None = None,
    ) -> Result:
        """Returns trades with the quote before each, and for each horizon the mid behind it.

        A horizon is a length such as `"100ms"`, `"1s"` or `"250us"`. `mid_100ms` is the mid after
        the last quote up to and with the time of the trade and the horizon; `markout_100ms` is what
        the taker gained by then, in the currency of the price: the mid less the price of the trade
        where the buyer took, the price less the mid where the seller did. Both are null where no
        quote so late is held, and where it has one side; a markout also where the venue does not
        tell who took. Trades are joined to quotes by `clock`, as `trades_and_quotes` does.

        Raises:
            QueryError: there is no such horizon, or as for `trades_and_quotes`.
        """
        wanted = [horizons] if isinstance(horizons, str) else list(dict.fromkeys(horizons))
        lengths = {name: _length(name) for name in wanted}
        if not lengths:
            raise QueryError("expected a horizon or more, such as '1s'")
        if clock is None:
            chosen = self._instruments.choose(symbols, source, exchange, product)
            clocks = {self.time_column("trades", "quotes", source=one) for one in chosen.sources}
            clock = "receipt" if "ts_recv" in clocks else "event"
        joined = self.trades_and_quotes(
            symbols, start, end, source=source, exchange=exchange, product=product, clock=clock
        ).to_arrow()
        field = "ts_recv" if clock == "receipt" else "ts_event"
        first, last = parse_range(start, end)
        chosen = self._instruments.choose(symbols, source, exchange, product)
        quotes = self._quotes_behind(joined, chosen, field, max(lengths.values()))
        found = _with_markouts(joined, quotes, field, lengths)
        until = last if last is None else min(last + max(lengths.values()), TIME_MAX)
        return Result(
            found,
            " ".join(["markouts", *chosen.names]),
            lambda: self._ledger.coverage(chosen, first, until, BOTH),
        )

    def _quotes_behind(
        self, joined: pa.Table, chosen: Chosen, field: str, longest: int
    ) -> pa.Table:
        """Returns the quotes that a trade can meet, by instrument and time."""
        instants = _instants(joined, field)
        if not len(instants):
            return joined.slice(0, 0)
        low, high = int(instants.min()), min(int(instants.max()) + longest + 1, TIME_MAX)
        where = " and ".join([chosen.condition(), *time_condition(field, low, high)])
        return self._engine.run(
            f"select venue, symbol, {field}, {field}_ns, bid_price, ask_price from quotes where "
            f"{where} order by venue, symbol, {field}, {field}_ns, tape_offset",
            ["quotes"],
            Scope(chosen.sources),
        )


def _length(name: str) -> int:
    """Returns a horizon in ns."""
    found = re.fullmatch(r"([1-9]\d*)(us|ms|s)", name) if isinstance(name, str) else None
    length = int(found[1]) * UNITS_NS[found[2]] if found else 0
    if not 0 < length <= DAY_NS:
        raise QueryError(
            f"expected a horizon such as '250us', '100ms' or '1s', of up to a day, got {name!r}"
        )
    return length


def _instants(table: pa.Table, field: str) -> npt.NDArray[np.int64]:
    whole = table[field].cast(pa.int64()).to_numpy(zero_copy_only=False)
    rest = table[f"{field}_ns"].to_numpy(zero_copy_only=False)
    return np.asarray(whole.astype(np.int64) * 1_000 + rest.astype(np.int64), np.int64)


def _with_markouts(
    joined: pa.Table, quotes: pa.Table, field: str, lengths: dict[str, int]
) -> pa.Table:
    count = joined.num_rows
    mids = {name: np.full(count, np.nan) for name in lengths}
    if count and quotes.num_rows:
        at, times = _instants(joined, field), _instants(quotes, field)
        mid = _mid(quotes)
        keys, places = (_instrument(table) for table in (joined, quotes))
        for key in np.unique(keys):
            of_key = np.flatnonzero(places == key)
            rows = np.flatnonzero(keys == key)
            if not len(of_key):
                continue
            for name, length in lengths.items():
                due = at[rows] + length
                behind = np.searchsorted(times[of_key], due, "right") - 1
                # What comes after the last quote that is held, nobody knows.
                known = (behind >= 0) & (due <= times[of_key[-1]])
                mids[name][rows[known]] = mid[of_key[behind[known]]]
    price = joined["price"].cast(pa.float64()).to_numpy(zero_copy_only=False)
    sides = joined["side"].to_pylist()
    sign = np.array([SIGNS.get(side, np.nan) for side in sides], np.float64)
    for name, values in mids.items():
        markout = sign * (values - price)
        for column, numbers in ((f"mid_{name}", values), (f"markout_{name}", markout)):
            joined = joined.append_column(
                column, pa.array(numbers, pa.float64(), mask=np.isnan(numbers))
            )
    return joined


def _mid(quotes: pa.Table) -> npt.NDArray[np.float64]:
    sides = [quotes[name].cast(pa.float64()) for name in ("bid_price", "ask_price")]
    # Numbers of numpy: `pyarrow.compute` would be loaded for every question.
    bid, ask = (one.to_numpy(zero_copy_only=False) for one in sides)
    mid = (bid + ask) / 2.0
    return np.asarray(mid, np.float64)


def _instrument(table: pa.Table) -> npt.NDArray[np.str_]:
    pairs = zip(table["venue"].to_pylist(), table["symbol"].to_pylist(), strict=True)
    return np.array([f"{venue}/{symbol}" for venue, symbol in pairs])
