"""Times as people write them, and as the tape holds them: nanoseconds since the epoch, UTC."""

import re
from datetime import UTC, date, datetime, timedelta
from typing import Protocol, TypeAlias

import numpy as np
import pyarrow as pa

from tapeworks.errors import ArgumentError


class ArrowScalar(Protocol):
    """A value of Arrow. PyArrow has no types: by its own class, any value would pass for a time."""

    def as_py(self, *, maps_as_pydicts: str | None = None) -> object:
        """Returns it as a value of Python."""


TimeLike: TypeAlias = str | int | date | datetime | np.integer | np.datetime64 | ArrowScalar
IntervalLike: TypeAlias = str | int | timedelta | np.integer | np.timedelta64

# What 64 bits of nanoseconds hold; the greatest value means that there is no time.
TIME_MIN, TIME_MAX = -(2**63), 2**63 - 2
# Of 1990: as a number, an earlier time is one of seconds, milliseconds or microseconds.
NUMBER_MIN = 631_152_000 * 10**9
UNITS_NS = {
    "D": 86_400 * 10**9,
    "h": 3_600 * 10**9,
    "m": 60 * 10**9,
    "s": 10**9,
    "ms": 10**6,
    "us": 10**3,
    "ns": 1,
}
PARTS_OF_NS = {"ps": 10**3, "fs": 10**6, "as": 10**9}

EPOCH, MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
# The fraction of a second, behind date, separator and a whole time. That of an hour, a minute or an
# offset from UTC is refused: Python reads it as one of the second.
FRACTION = re.compile(r"\A(.{8,11}?\d\d(:?)\d\d\2\d\d)[.,](\d+)", re.ASCII)
INTERVAL = re.compile(r"(\d+)\s*(ms|s|m|h|d|w)")
UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}


def moment_ns(moment: datetime, rest: int | None = None) -> int:
    """Returns the time of a row in ns: `rest` is what a datetime does not hold, in ns."""
    return (moment - EPOCH) // MICROSECOND * 1_000 + (rest or 0)


def parse_time(value: TimeLike) -> int:
    """Returns `value` as ns since the epoch. Text and datetimes without a zone are UTC.

    A number is ns already, whatever its type, and of 1990 or later: a lesser one means seconds,
    milliseconds or microseconds, and is refused. All other forms are read to the nanosecond.

    Raises:
        ArgumentError: it is no time, or beyond the years 1677 to 2262; the message shows the forms.
    """
    try:
        ts = _parse(value)
    except OverflowError:
        raise _wrong(value) from None
    if not TIME_MIN <= ts <= TIME_MAX:
        raise ArgumentError(
            f"expected a time from {format_time(TIME_MIN)} to {format_time(TIME_MAX)}; "
            f"got {value!r}"
        )
    return ts


def _parse(value: object) -> int:
    if isinstance(value, pa.Scalar):
        return _parse_arrow(value)
    # A length of time is an integer of NumPy, too.
    if isinstance(value, bool | np.bool_ | np.timedelta64):
        raise _wrong(value)
    if isinstance(value, int | np.integer):
        return _parse_number(int(value), value)
    if isinstance(value, np.datetime64):
        return _parse_numpy(value)
    if isinstance(value, datetime):
        # Of pandas, NaT is a datetime that is no time, and others hold nanoseconds.
        if value != value:
            raise _wrong(value)
        exact = getattr(value, "nanosecond", 0)
        plain = getattr(value, "to_pydatetime", None)
        return _nanoseconds(value if plain is None else plain(warn=False)) + exact
    if isinstance(value, date):
        return _nanoseconds(datetime(value.year, value.month, value.day))
    if isinstance(value, str):
        return _parse_text(value)
    raise _wrong(value)


def _parse_number(ts: int, value: object) -> int:
    if ts < NUMBER_MIN:
        raise ArgumentError(
            f"expected a number of ns since the epoch, of 1990 or later, such as {NUMBER_MIN}, or "
            f"a datetime or text such as '2026-11-20T14:03:07Z', got {value!r}"
        )
    return ts


def _parse_arrow(value: pa.Scalar) -> int:
    if not value.is_valid:
        raise _wrong(value)
    if pa.types.is_timestamp(value.type):
        return int(value.value) * UNITS_NS[value.type.unit]
    return _parse(value.as_py())


def _parse_numpy(value: np.datetime64) -> int:
    unit, step = np.datetime_data(value.dtype)
    if np.isnat(value):
        raise _wrong(value)
    if unit in ("Y", "M", "W"):
        value, unit, step = value.astype("datetime64[D]"), "D", 1
    # Counted in Python: NumPy wraps around silently.
    count = int(value.astype(np.int64)) * step
    if unit in UNITS_NS:
        return count * UNITS_NS[unit]
    return count // PARTS_OF_NS[unit]


def parse_interval(value: IntervalLike) -> int:
    """Returns a length of time such as `1s`, `5m`, `1h` in ms; a number is ms.

    A timedelta may be that of Python, NumPy or pandas.

    Raises:
        ArgumentError: it is no length of time, or no whole number of ms.
    """
    length = 0
    # Of pandas, one holds nanoseconds.
    exact = getattr(value, "nanoseconds", 0)
    if isinstance(value, timedelta):
        length, rest = divmod(value, timedelta(milliseconds=1))
        length = 0 if rest or exact else length
    elif isinstance(value, np.timedelta64):
        length = _parse_numpy_length(value)
    elif isinstance(value, int | np.integer) and not isinstance(value, bool):
        length = int(value)
    elif isinstance(value, str) and (match := INTERVAL.fullmatch(value.strip())):
        length = int(match[1]) * UNITS_MS[match[2]]
    if not 0 < length < 2**32:
        raise ArgumentError(
            f"expected an interval such as '1s', '5m', '1h', a timedelta, or a number of ms, got "
            f"{value!r}"
        )
    return length


def _parse_numpy_length(value: np.timedelta64) -> int:
    """Returns a length in ms; 0 if it is none of a whole number of them."""
    unit, step = np.datetime_data(value.dtype)
    days = 7 if unit == "W" else 1
    unit_ns = UNITS_NS.get("D" if unit == "W" else unit, 0)
    if np.isnat(value):
        return 0
    length, rest = divmod(int(value.astype(np.int64)) * step * days * unit_ns, UNITS_NS["ms"])
    return 0 if rest else length


def format_interval(length: int) -> str:
    """Writes ms as `parse_interval` reads it, in the greatest unit of which it is a multiple."""
    for unit in ("d", "h", "m", "s"):
        if not length % UNITS_MS[unit]:
            return f"{length // UNITS_MS[unit]}{unit}"
    return f"{length}ms"


def format_time(ts: int) -> str:
    """Writes ns since the epoch as ISO 8601; of a second as many of 3, 6 or 9 digits as needed."""
    seconds, rest = divmod(ts, 1_000_000_000)
    text = (EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    digits = f".{rest:09d}" if rest else ""
    while digits.endswith("000"):
        digits = digits[:-3]
    return f"{text}{digits}Z"


def _parse_text(text: str) -> int:
    written = text.strip()
    if written.endswith("z"):
        written = f"{written[:-1]}Z"
    digits = written.lstrip("-")
    if digits.isdecimal() and len(digits) != 8:
        return _parse_number(int(written), text)
    # A datetime holds microseconds: digits beyond them are read by hand.
    match = FRACTION.match(written)
    fraction = match[3] if match else ""
    whole = FRACTION.sub(r"\1", written)
    if len(fraction) > 9:
        raise ArgumentError(f"expected a time with up to 9 digits of a second, got {text!r}")
    if re.search(r"[.,]", whole):
        raise _wrong(text)
    try:
        moment = datetime.fromisoformat(whole)
    except ValueError:
        raise _wrong(text) from None
    return _nanoseconds(moment) + int(fraction.ljust(9, "0") or 0)


def _nanoseconds(moment: datetime) -> int:
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return (aware - EPOCH) // timedelta(microseconds=1) * 1_000


def _wrong(value: object) -> ArgumentError:
    return ArgumentError(
        "expected a time such as '2026-11-20', '2026-11-20T14:03:07.123Z', a datetime, or ns since "
        f"the epoch, got {value!r}"
    )
