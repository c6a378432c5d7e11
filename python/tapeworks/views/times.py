"""Times as people write them, and as the tape holds them: nanoseconds since the epoch, UTC."""

import re
from datetime import UTC, date, datetime, timedelta

from tapeworks.errors import QueryError

TimeLike = str | int | date | datetime

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FRACTION = re.compile(r"(:\d\d)\.(\d+)")
INTERVAL = re.compile(r"(\d+)\s*(ms|s|m|h|d|w)")
UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}


def parse_time(value: TimeLike) -> int:
    """Returns `value` as ns since the epoch. Text and datetimes without a zone are UTC.

    Raises:
        QueryError: it is no time; the message shows the forms that are.
    """
    if isinstance(value, bool):
        raise _wrong(value)
    if isinstance(value, int):
        return value
    # pandas and NumPy times hold nanoseconds that a datetime cannot.
    exact = getattr(value, "as_unit", None)
    if exact is not None:
        return int(exact("ns").value)
    if isinstance(value, datetime):
        return _nanoseconds(value)
    if isinstance(value, date):
        return _nanoseconds(datetime(value.year, value.month, value.day))
    if isinstance(value, str):
        return _parse_text(value)
    raise _wrong(value)


def parse_interval(value: str | int) -> int:
    """Returns a length of time such as `1s`, `5m`, `1h` in ms; a number is ms already.

    Raises:
        QueryError: it is no length of time.
    """
    if isinstance(value, int):
        return value
    match = INTERVAL.fullmatch(value.strip())
    if match is None:
        raise QueryError(f"wanted an interval such as 1s, 5m or 1h; found {value!r}")
    return int(match[1]) * UNITS_MS[match[2]]


def format_time(ts: int) -> str:
    """Writes ns since the epoch as ISO 8601 with as many digits as needed."""
    seconds, rest = divmod(ts, 1_000_000_000)
    text = (EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    return text + (f".{rest:09d}".rstrip("0") if rest else "") + "Z"


def _parse_text(text: str) -> int:
    written = text.strip()
    if written.lstrip("-").isdigit() and len(written) > 8:
        return int(written)
    # A datetime holds microseconds: digits beyond them are read by hand.
    match = FRACTION.search(written)
    digits = match[2] if match else ""
    whole = FRACTION.sub(r"\1", written)
    if len(digits) > 9:
        raise QueryError(f"wanted a time with up to 9 digits of a second; found {text!r}")
    try:
        moment = datetime.fromisoformat(whole)
    except ValueError:
        raise _wrong(text) from None
    return _nanoseconds(moment) + int(digits.ljust(9, "0") or 0)


def _nanoseconds(moment: datetime) -> int:
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return (aware - EPOCH) // timedelta(microseconds=1) * 1_000


def _wrong(value: object) -> QueryError:
    return QueryError(
        "wanted a time such as '2026-11-20', '2026-11-20T14:03:07.123Z', a datetime, or ns since "
        f"the epoch; found {value!r}"
    )
