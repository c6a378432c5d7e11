"""Bars as they would be if the splits, or all corporate actions, had happened before them.

Factors are exact fractions. All that apply to a bar are multiplied first, and each price and size
is rounded once, half to even, in its own unit: 1e-9 of a price, 1e-8 of a size. A bar is before an
action if it ends by midnight in New York of the day of the action.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any

import pyarrow as pa

from tapeworks.errors import ArgumentError, QueryError
from tapeworks.new_york import midnight_of

ADJUSTMENTS = ("splits", "all")
DAY_MS = 86_400_000
CURRENCY = "USD"
"""That of the prices of the stocks whose dividends are told."""
PRICES = ("open", "high", "low", "close")
SIZES = ("volume", "buy_volume")
TURNOVERS = ("turnover", "buy_turnover")
PLACES = {**dict.fromkeys(PRICES, 9), **dict.fromkeys(SIZES, 8), **dict.fromkeys(TURNOVERS, 17)}
# Turnovers have more digits than decimals usually keep.
WIDE = Context(prec=60)
CloseBefore = Callable[[str, str, int], Decimal | None]
"""The last price of a source and symbol before an instant in ns; none if none is held."""


@dataclass(frozen=True)
class Factor:
    """What the prices and sizes of all bars are multiplied by that end by `until`, in ns."""

    until: int
    price: Fraction
    size: Fraction


def check_adjust(adjust: str | None, length_ms: int | None) -> None:
    """Refuses what cannot be adjusted.

    Raises:
        ArgumentError: it is no adjustment, or bars may begin before an action and end behind it.
    """
    if adjust is None:
        return
    if adjust not in ADJUSTMENTS:
        raise ArgumentError(f"expected adjust of {' or '.join(ADJUSTMENTS)}, got {adjust!r}")
    if length_ms is None or length_ms > DAY_MS:
        raise ArgumentError("only bars of time, up to a day long, can be adjusted")


def check_follow(follow: bool, adjust: str | None, length_ms: int | None) -> None:
    """Refuses to follow stocks where bars would span two of their symbols.

    Raises:
        QueryError: says with what bars they can be followed.
    """
    if follow and (length_ms is None or adjust is not None):
        raise QueryError("follow: expected bars of an interval that are not to be adjusted")


def factors(
    actions: Iterable[Mapping[str, Any]],
    adjust: str,
    close_before: CloseBefore,
    now_ns: int | None = None,
) -> dict[tuple[str, str], list[Factor]]:
    """Returns the factors of each source and symbol from rows of `corporate_actions`.

    What is announced, and whose day has not begun by `now_ns` (none: the host's clock), has
    happened to no price yet, and is left out. A stock splits once a day: of several rows the last
    counts, as it does of dividends of one id, or without ids of one kind and day. The dividends of
    a day take from the prices before it the part that they are of the last price before that day.

    Raises:
        QueryError: no price is held before a dividend, it is no less than that, or is of another
            currency.
    """
    splits: dict[tuple[str, str, date], Fraction] = {}
    dividends: dict[tuple[str, str, date], dict[Any, Fraction]] = {}
    now_ns = time.time_ns() if now_ns is None else now_ns
    for row in actions:
        place = row["venue"], row["symbol"], row["ts_event"].date()
        if midnight_of(place[2]) > now_ns:
            continue
        if row["action"] == "split":
            splits[place] = Fraction(row["split_to"]) / Fraction(row["split_from"])
        elif adjust == "all":
            _check_currency(row)
            cash = Fraction(row["cash_amount"])
            dividends.setdefault(place, {})[row["sequence"] or row["subtype"]] = cash
    found: dict[tuple[str, str], list[Factor]] = {}
    for (venue, symbol, day), ratio in splits.items():
        factor = Factor(midnight_of(day), 1 / ratio, ratio)
        found.setdefault((venue, symbol), []).append(factor)
    for (venue, symbol, day), told in dividends.items():
        until, cash = midnight_of(day), sum(told.values(), Fraction(0))
        close = close_before(venue, symbol, until)
        if close is None or cash >= close:
            held = "no price is held" if close is None else f"the last price is {close}"
            raise QueryError(
                f"{symbol} of {venue}: {held} before its dividend of {float(cash)} on {day}: "
                "import the trades of the day before, or adjust='splits'"
            )
        part = 1 - cash / Fraction(close)
        found.setdefault((venue, symbol), []).append(Factor(until, part, Fraction(1)))
    return found


def _check_currency(row: Mapping[str, Any]) -> None:
    if row["currency"] not in (None, "", CURRENCY):
        raise QueryError(
            f"{row['symbol']} of {row['venue']}: its dividend on {row['ts_event'].date()} is in "
            f"{row['currency']}, its prices are in {CURRENCY}: expected adjust='splits'"
        )


def told_of(
    adjust: str, names: Sequence[str], found: Mapping[tuple[str, str], Sequence[Factor]]
) -> str:
    """Returns what bars of `names` are adjusted for, as nothing else tells that none was known."""
    count = sum(map(len, found.values()))
    of = "splits" if adjust == "splits" else "splits and dividends"
    known = f"{count} of them" if count else "none of them is known"
    return f"bars of {' '.join(names) or 'all'} adjusted for {of} ({known})"


def adjusted(
    bars: pa.Table, found: Mapping[tuple[str, str], Sequence[Factor]], length_ms: int
) -> pa.Table:
    """Returns `bars` of `length_ms` with their prices and sizes multiplied by what applies."""
    if not found:
        return bars
    instruments = zip(bars["venue"].to_pylist(), bars["symbol"].to_pylist(), strict=True)
    ends = [start + length_ms * 1_000 for start in bars["ts_event"].cast(pa.int64()).to_pylist()]
    applied = []
    for instrument, end in zip(instruments, ends, strict=True):
        price = size = Fraction(1)
        for factor in found.get(instrument, ()):
            if end * 1_000 <= factor.until:
                price, size = price * factor.price, size * factor.size
        applied.append((price, size))
    for name, places in PLACES.items():
        at = bars.schema.get_field_index(name)
        values = [
            value if value is None else _times(value, _factor(name, *both), places)
            for value, both in zip(bars[name].to_pylist(), applied, strict=True)
        ]
        try:
            bars = bars.set_column(at, name, pa.array(values, bars.schema.field(at).type))
        except pa.ArrowInvalid as error:
            raise QueryError(f"adjusted, {name} does not fit its column: {error}") from error
    return bars


def _factor(name: str, price: Fraction, size: Fraction) -> Fraction:
    if name in PRICES:
        return price
    return size if name in SIZES else price * size


def _times(value: Decimal, factor: Fraction, places: int) -> Decimal:
    if factor == 1:
        return value
    # `round` of a fraction is exact, and half to even.
    return Decimal(round(Fraction(value) * factor * 10**places)).scaleb(-places, WIDE)
