"""When a venue trades, so that the silence of a closed market is no loss.

`ExchangeHours` knows the sessions of an exchange, with its holidays, early closes and breaks, by
the library exchange_calendars (`pip install "tapeworks[calendars]"`).
"""

import time
import warnings
from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from tapeworks.errors import ConfigError
from tapeworks.registry import load_name

LIBRARY = "exchange_calendars"
DAYS_BEFORE, DAYS_AHEAD = 10, 400
"""Sessions from so many days ago to so many days ahead are known at a time."""
EXTENDED_S_MAX = 12 * 3600.0


class TradingHours(Protocol):
    """When a venue trades."""

    def is_open(self, wall_ns: int) -> bool:
        """Says whether the market is open at a time since the Unix epoch."""
        ...


class ExchangeHours:
    """The sessions of one exchange, longer by `before_s` and `after_s` of extended hours.

    Raises:
        ConfigError: the library is not installed, or knows no such exchange.
    """

    def __init__(self, calendar: str, before_s: float = 0.0, after_s: float = 0.0) -> None:
        for name, value in (("before_s", before_s), ("after_s", after_s)):
            if not 0 <= value <= EXTENDED_S_MAX:
                raise ConfigError(f"{name}: expected 0 to {EXTENDED_S_MAX:.0f}, got {value}")
        try:
            self._make: Any = load_name(f"{LIBRARY}:get_calendar")
        except ModuleNotFoundError:
            raise ConfigError(
                f"calendar: {calendar!r} needs the library {LIBRARY}: "
                '`pip install "tapeworks[calendars]"`'
            ) from None
        self._calendar = calendar
        self._before_ns, self._after_ns = int(before_s * 1e9), int(after_s * 1e9)
        self._opens: list[int] = []
        self._closes: list[int] = []
        self._load(time.time_ns())

    def is_open(self, wall_ns: int) -> bool:
        """Says whether a session is on at a time since the Unix epoch."""
        if not self._opens or not self._since <= wall_ns < self._until:
            self._load(wall_ns)
        at = bisect_right(self._opens, wall_ns) - 1
        return at >= 0 and wall_ns < self._closes[at]

    def _load(self, wall_ns: int) -> None:
        """Takes in the sessions about a time."""
        day = datetime.fromtimestamp(wall_ns / 1e9, UTC).date()
        first, last = day - timedelta(DAYS_BEFORE), day + timedelta(DAYS_AHEAD)
        try:
            with warnings.catch_warnings():
                # What the library says of its own libraries is no matter of ours.
                warnings.simplefilter("ignore")
                found = self._make(self._calendar, start=first.isoformat(), end=last.isoformat())
        except Exception as error:
            raise ConfigError(
                f"calendar: expected one of {LIBRARY} such as XNYS, got {self._calendar!r}: {error}"
            ) from error
        spans: list[tuple[int, int]] = []
        for opens, closes, begins, ends in zip(
            *map(_nanoseconds, (found.opens, found.closes)),
            *map(_nanoseconds, (found.break_starts, found.break_ends)),
            strict=True,
        ):
            if opens is None or closes is None:
                continue
            if begins is None or ends is None:
                spans.append((opens - self._before_ns, closes + self._after_ns))
            else:
                spans.append((opens - self._before_ns, begins))
                spans.append((ends, closes + self._after_ns))
        self._opens = [start for start, _ in spans]
        self._closes = [end for _, end in spans]
        # A day is left at both ends for sessions that begin on the day before.
        day_ns = 86_400 * 10**9
        self._since = wall_ns - (DAYS_BEFORE - 1) * day_ns
        self._until = wall_ns + (DAYS_AHEAD - 1) * day_ns


def _nanoseconds(times: Any) -> list[int | None]:
    """Returns the times of a column, since the Unix epoch; none where there is none."""
    units = times.dt.as_unit("ns").astype("int64")
    return [None if missing else int(ns) for ns, missing in zip(units, times.isna(), strict=True)]
