"""Option symbols of the OCC: what `O:AAPL251219C00200000` says, in Python and in SQL.

Root, day of expiry, call or put, and the strike in thousandths; `O:` in front, as Massive writes
it, and the blanks that fill the root to six characters, as the OCC does, may stand there or not. A
root is the underlying's symbol without its dot, and may end in a digit where the contract was
adjusted.
"""

import re
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Literal

from tapeworks.errors import ArgumentError

PATTERN = "^(?:O:)?([A-Z][A-Z0-9.]{0,5}) *([0-9]{6})([CP])([0-9]{8})$"
EXPECTED = "expected an option symbol of the OCC such as O:AAPL251219C00200000"
# Of a text that is none, null: a column may hold symbols of all kinds.
MACRO = f"""
create or replace macro occ(symbol) as (
    select if(day is null, null, {{
        'underlying': part.root, 'expiry': day,
        'option_right': if(part.kind = 'C', 'call', 'put'),
        'strike': (left(part.strike, 5) || '.' || right(part.strike, 3))::decimal(19, 9)
    }})
    from (select part, try_strptime('20' || part.day, '%Y%m%d')::date as day from (
        select regexp_extract(symbol, '{PATTERN}', ['root', 'day', 'kind', 'strike']) as part
    ))
)
"""
# What a table with a column `symbol` shows beside it.
COLUMNS = ", ".join(
    f"occ(symbol).{name} as {name}" for name in ("underlying", "expiry", "option_right", "strike")
)


@dataclass(frozen=True)
class Option:
    """What an option symbol says."""

    underlying: str
    """Root of the symbol: that of the underlying, without its dot."""
    expiry: date
    """Day of expiry, in New York."""
    right: Literal["call", "put"]
    strike: Decimal
    """Exact, in the currency of the underlying."""


def option(symbol: str) -> Option:
    """Returns what an option symbol of the OCC says, such as `O:AAPL251219C00200000`.

    Raises:
        QueryError: it is none, or its day is no day.
    """
    found = re.fullmatch(PATTERN, symbol) if isinstance(symbol, str) else None
    if found is None:
        raise ArgumentError(f"{EXPECTED}, got {symbol!r}")
    root, day, kind, strike = found.groups()
    try:
        expiry = date(2000 + int(day[:2]), int(day[2:4]), int(day[4:]))
    except ValueError:
        raise ArgumentError(f"{EXPECTED}, got {symbol!r}: {day} is no day") from None
    return Option(root, expiry, "call" if kind == "C" else "put", Decimal(strike).scaleb(-3))
