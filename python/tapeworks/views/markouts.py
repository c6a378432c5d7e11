"""What the mid was some time after each trade, at several horizons in one call."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tapeworks.errors import QueryError
from tapeworks.lake import TABLES
from tapeworks.views.conditions import parse_range, time_condition
from tapeworks.views.joins import HISTORICAL, WAY_NS, Joins, from_history, parse_length, since_met
from tapeworks.views.opened import Symbols
from tapeworks.views.past_books import Clock
from tapeworks.views.query import Scope
from tapeworks.views.result import Result, noting
from tapeworks.views.symbols import Chosen
from tapeworks.views.times import TIME_MAX, TIME_MIN, TimeLike

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
        tell who took. Trades are joined to quotes by `clock`, as `trades_and_quotes` does; coverage
        is from the oldest quote on that is met.

        Raises:
            QueryError: there is no such horizon, or as for `trades_and_quotes`.
        """
        wanted = [horizons] if isinstance(horizons, str) else list(dict.fromkeys(horizons))
        lengths = {name: parse_length(name, "horizon") for name in wanted}
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
        quotes, held = self._quotes_behind(joined, chosen, field, max(lengths.values()))
        table = _with_markouts(joined, quotes, held, field, lengths)
        until = last if last is None else min(last + max(lengths.values()), TIME_MAX)
        found = Result(
            table,
            " ".join(["markouts", *chosen.names]),
            lambda: self._ledger.coverage(chosen, since_met(joined, "quote", first), until, BOTH),
        )
        return noting(found, lambda: from_history(joined, "trades") if clock == "receipt" else [])

    def _quotes_behind(
        self, joined: pa.Table, chosen: Chosen, field: str, longest: int
    ) -> tuple[pa.Table, set[str]]:
        """Returns the quotes that a trade can meet, by instrument and time, and the instruments of
        which there are some behind all of them."""
        instants = _instants(joined, field)[_is_timed(joined, field)]
        if not len(instants):
            return joined.slice(0, 0), set()
        timed = f"flags & {HISTORICAL} = 0" if field == "ts_recv" else "true"

        def read(columns: str, low: int, high: int | None, rest: str) -> pa.Table:
            where = " and ".join([timed, chosen.condition(), *time_condition(field, low, high)])
            return self._engine.run(
                f"select venue, symbol{columns} from quotes where {where} {rest}",
                ["quotes"],
                Scope(chosen.sources),
            )

        low, high = int(instants.min()), min(int(instants.max()) + longest + 1, TIME_MAX)
        quotes = read(
            f", {field}, {field}_ns, bid_price, ask_price",
            low,
            high,
            f"order by venue, symbol, {field}, {field}_ns, tape_offset",
        )
        held: set[str] = set()
        wanted, since = set(_instrument(joined)), high
        for span in (*WAY_NS, None):
            until = None if span is None else min(high + span, TIME_MAX)
            held |= set(_instrument(read("", since, until, "group by all")))
            if wanted <= held or until in (None, TIME_MAX):
                break
            since = until
        return quotes, held


def _instants(table: pa.Table, field: str) -> npt.NDArray[np.int64]:
    whole = table[field].cast(pa.int64()).to_numpy(zero_copy_only=False)
    rest = table[f"{field}_ns"].to_numpy(zero_copy_only=False)
    return np.asarray(whole.astype(np.int64) * 1_000 + rest.astype(np.int64), np.int64)


def _with_markouts(
    joined: pa.Table, quotes: pa.Table, held: set[str], field: str, lengths: dict[str, int]
) -> pa.Table:
    count = joined.num_rows
    mids = {name: np.full(count, np.nan) for name in lengths}
    if count:
        at, times = _instants(joined, field), _instants(quotes, field)
        # Of a trade behind which none came by then, it is that of the quote before it.
        before, mid = _mid(joined), np.append(_mid(quotes), np.nan)
        keys, places = (_instrument(table) for table in (joined, quotes))
        is_timed = _is_timed(joined, field)
        for key in np.unique(keys):
            of_key = np.flatnonzero(places == key)
            rows = np.flatnonzero((keys == key) & is_timed)
            # What comes after the last quote that is held, nobody knows.
            newest = times[of_key[-1]] if len(of_key) else TIME_MIN
            newest = TIME_MAX if key in held else newest
            for name, length in lengths.items():
                due = at[rows] + length
                behind = np.searchsorted(times[of_key], due, "right") - 1
                met = np.append(of_key, -1)[behind]
                found = np.where(behind >= 0, mid[met], before[rows])
                mids[name][rows] = np.where(due <= newest, found, np.nan)
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


def _is_timed(trades: pa.Table, field: str) -> npt.NDArray[np.bool_]:
    """Returns of which trades the time by `field` tells when they happened."""
    flags = trades["flags"].to_numpy(zero_copy_only=False)
    is_told = flags.astype(np.int64) & (HISTORICAL if field == "ts_recv" else 0) == 0
    return np.asarray(is_told, np.bool_)


def _mid(quotes: pa.Table) -> npt.NDArray[np.float64]:
    sides = [quotes[name].cast(pa.float64()) for name in ("bid_price", "ask_price")]
    # Numbers of numpy: `pyarrow.compute` would be loaded for every question.
    bid, ask = (one.to_numpy(zero_copy_only=False) for one in sides)
    mid = (bid + ask) / 2.0
    return np.asarray(mid, np.float64)


def _instrument(table: pa.Table) -> npt.NDArray[np.str_]:
    pairs = zip(table["venue"].to_pylist(), table["symbol"].to_pylist(), strict=True)
    return np.array([f"{venue}/{symbol}" for venue, symbol in pairs])
