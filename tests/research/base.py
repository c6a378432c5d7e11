"""What a question is, the records that its answer is calculated from, and when two answers agree.

An answer is a number, a text, or a list of tuples of such. Counts, identifiers, times and money are
compared exactly; floats, as statistics give, by their relative difference.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

import tapeworks as tw
from tapeworks import _core

Answer = Any
PRICE, SIZE, TURNOVER = 10**9, 10**8, 10**17
"""Units of the integers of the records in one."""
NONE = _core.NONE
LAYOUTS = {
    "trades": "trade",
    "quotes": "quote",
    "depth": "level",
    "marks": "mark",
    "gaps": "gap",
    "definitions": "definition",
}
BUY, BID = 1, 1
ABSOLUTE = 1e-12


class Records:
    """All records of a data folder as they were recorded, as arrays of integers."""

    def __init__(self, lake: tw.Lake) -> None:
        self.lake = lake
        self._known: dict[tuple[str, str, str], npt.NDArray[Any]] = {}

    def of(self, kind: str, symbol: str, source: str) -> npt.NDArray[Any]:
        """Returns records in the order of their tape; prices in 1e-9, sizes in 1e-8, times in ns.

        Those of the book and of trades that a venue dates are in the order of their events.
        """
        key = kind, symbol, source
        if key not in self._known:
            batches = self.lake.replay(symbol, kinds=[kind], source=source)
            content = b"".join(map(bytes, batches))
            self._known[key] = np.frombuffer(content, _core.dtype_descr(LAYOUTS[kind]))
        return self._known[key]

    def trades(self, symbol: str, source: str) -> npt.NDArray[Any]:
        """Returns trades by time of event, and those of one instant as they came."""
        return by_event(self.of("trades", symbol, source))

    def quotes(self, symbol: str, source: str) -> npt.NDArray[Any]:
        """Returns quotes by time of event, and those of one instant as they came."""
        return by_event(self.of("quotes", symbol, source))


def by_event(records: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Returns records by time of event, and those of one instant as they came."""
    return records[np.argsort(records["ts_event"], kind="stable")]


class Question(ABC):
    """One question: its first line asks it, and the three methods answer it."""

    ALL: ClassVar[list[type["Question"]]] = []
    RELATIVE: ClassVar[float] = 1e-9
    """By so much may floats differ."""

    def __init_subclass__(cls) -> None:
        Question.ALL.append(cls)

    @abstractmethod
    def python(self, lake: tw.Lake) -> Answer:
        """Answers by the methods of `Lake`, and pandas or Polars behind them."""

    @abstractmethod
    def sql(self, lake: tw.Lake) -> Answer:
        """Answers by SQL alone."""

    @abstractmethod
    def truth(self, records: Records) -> Answer:
        """Answers from the integers of the records."""

    def check(self, lake: tw.Lake, records: Records) -> list[str]:
        """Answers in all three ways; returns where one differs from the records."""
        expected = self.truth(records)
        answers = {"Python": self.python(lake), "SQL": self.sql(lake)}
        told = {way: difference(found, expected, self.RELATIVE) for way, found in answers.items()}
        return [f"{way}: {where}" for way, where in told.items() if where is not None]

    @classmethod
    def text(cls) -> str:
        """Returns the question."""
        return (cls.__doc__ or "").strip().splitlines()[0]


def rows(result: tw.Result) -> list[tuple[Any, ...]]:
    """Returns the rows of a result as tuples."""
    return [tuple(row.values()) for row in result]


def scalar(result: tw.Result) -> Any:
    """Returns the only value of a result."""
    [[value]] = rows(result)
    return value


def ints(values: Iterable[Any]) -> Iterator[int]:
    """Yields Python's own integers, which do not overflow."""
    return map(int, values)


def decimal(units: int, scale: int) -> Decimal:
    """Returns the exact decimal of an integer in units of `1 / scale`."""
    return Decimal(int(units)).scaleb(1 - len(str(scale)))


def ratio(above: int | Fraction, below: int | Fraction) -> float:
    """Returns the float that is nearest to the quotient."""
    return float(Fraction(above) / Fraction(below))


def difference(found: Answer, expected: Answer, relative: float, place: str = "") -> str | None:
    """Returns where two answers differ; none where they agree."""
    if isinstance(expected, list | tuple):
        if not isinstance(found, list | tuple) or len(found) != len(expected):
            size = len(found) if isinstance(found, list | tuple) else repr(found)
            return f"{place or 'answer'}: expected {len(expected)} entries, got {size}"
        parts = zip(found, expected, strict=True)
        told = (difference(a, b, relative, f"{place}[{at}]") for at, (a, b) in enumerate(parts))
        return next((one for one in told if one is not None), None)
    if _is_same(found, expected, relative):
        return None
    return f"{place or 'answer'}: expected {expected!r}, got {found!r}"


def _is_same(found: Any, expected: Any, relative: float) -> bool:
    if _is_null(found) or _is_null(expected):
        return _is_null(found) and _is_null(expected)
    if isinstance(found, float | np.floating) or isinstance(expected, float | np.floating):
        return math.isclose(found, expected, rel_tol=relative, abs_tol=ABSOLUTE)
    return bool(found == expected)


def _is_null(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
