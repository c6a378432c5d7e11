"""One value as text: as a person reads it, as JSON, and as a cell of CSV.

No form of Python shows: an interval is `2 days 01:00:00`, a list `[1.5, null]`, and what JSON has
no number for, such as NaN, is null in it. Exact decimals have no zeros that say nothing.
"""

import contextlib
import json
import math
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import pyarrow as pa

from tapeworks.printable import one_line, printable_json

NUMBERS = (int, float, Decimal)
NS_PER_S = 1_000_000_000
GAP_STATES = {"closed": "ended, data lost", "open": "open, losing data"}


def gap_state(name: str) -> str:
    """Returns the state of a gap as a person reads it; SQL and other formats have its name."""
    return GAP_STATES.get(name, name)


def digits(value: Decimal) -> str:
    """Returns all digits of an exact decimal that are not zeros at its end."""
    shown = format(value, "f")
    return shown.rstrip("0").rstrip(".") if "." in shown else shown


def interval(months: int, days: int, nanoseconds: int) -> str:
    """Returns an interval as SQL writes it, such as `1 year 2 months 3 days 04:05:06.789`."""
    years, months = divmod(abs(months), 12)[0] * _sign(months), abs(months) % 12 * _sign(months)
    words = [
        f"{count} {name}{'' if abs(count) == 1 else 's'}"
        for count, name in ((years, "year"), (months, "month"), (days, "day"))
        if count
    ]
    if nanoseconds or not words:
        seconds, rest = divmod(abs(nanoseconds), NS_PER_S)
        clock = f"{seconds // 3_600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        fraction = f".{rest:09}".rstrip("0") if rest else ""
        words.append(f"{'-' if nanoseconds < 0 else ''}{clock}{fraction}")
    return " ".join(words)


def _sign(value: int) -> int:
    return -1 if value < 0 else 1


def plain(value: object) -> object:
    """Makes `value` fit for JSON: exact decimals as text, times as ISO 8601, no NaN."""
    if isinstance(value, Decimal):
        return digits(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat() if value.tzinfo else value.isoformat()
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, pa.MonthDayNano):
        return interval(*value)
    if isinstance(value, timedelta):
        # Native ones have no more than microseconds.
        return interval(0, value.days, (value.seconds * 1_000_000 + value.microseconds) * 1_000)
    if isinstance(value, bytes):
        return _bytes_as_text(value)
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if value is None or isinstance(value, str | int):
        return value
    return str(value)


def _bytes_as_text(value: bytes) -> str:
    r"""Returns the text that bytes are, or `\x` and their digits, from which they can be had again.

    Text that begins with `\x` itself is written by its digits as well.
    """
    with contextlib.suppress(UnicodeDecodeError):
        if not (decoded := value.decode()).startswith("\\x"):
            return decoded
    return "\\x" + value.hex()


def as_json(value: object) -> str:
    """Returns `value` as one JSON text."""
    return printable_json(json.dumps(plain(value), ensure_ascii=False, allow_nan=False))


def csv_cell(value: object) -> object:
    """Makes `value` fit for CSV, which has no lists: they are JSON, with decimals as numbers."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return value
    if is_nested(value):
        return _nested(value)
    return plain(value)


def is_nested(value: object) -> bool:
    """Whether `value` holds others."""
    return isinstance(value, list | tuple | Mapping) and not isinstance(value, pa.MonthDayNano)


def _nested(value: object) -> str:
    """Returns JSON whose decimals are numbers, with all their digits."""
    if isinstance(value, Mapping):
        pairs = (f"{as_json(str(key))}: {_nested(inner)}" for key, inner in value.items())
        return f"{{{', '.join(pairs)}}}"
    if is_nested(value):
        assert isinstance(value, list | tuple)
        return f"[{', '.join(map(_nested, value))}]"
    return digits(value) if isinstance(value, Decimal) else as_json(value)


def text(value: object) -> str:
    """Returns `value` as a person reads it in a table; nothing for an absent value."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="microseconds").removesuffix("+00:00")
    if isinstance(value, bytes):
        return one_line(value.decode("utf-8", "backslashreplace"))
    return one_line(str(csv_cell(value)))
