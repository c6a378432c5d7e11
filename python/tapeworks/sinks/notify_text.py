"""What a message says of an alert."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from tapeworks.alert_watches import UNITS
from tapeworks.printable import printable
from tapeworks.topics import NORMALIZED

NS_PER_S = 1_000_000_000
# What rules of the user's own are called where the core's rules say what they look for.
OWN = "own"


def body_of(source: str, row: Mapping[str, Any]) -> str:
    """Returns what an alert says, a line a fact."""
    unit = UNITS.get(row["detector"], "")
    value = "" if row["value"] is None else f"{row['value']:.6g} {unit}".strip()
    limit = "" if row["threshold"] is None else f"{row['threshold']:.6g} {unit}".strip()
    looked_for = row["rule"] if row["detector"] == OWN else row["detector"]
    first, last = row["first_offset"], row["last_offset"]
    offsets = f"offset {last}" if first == last else f"offsets {first} to {last}"
    facts = {
        "what": f"{looked_for} {row['subject'] or ''}".strip(),
        "since": _time(row["ts_start"]),
        "until": "" if row["ts_end"] is None else _time(row["ts_end"]),
        "value": value,
        "limit": limit,
        "price": "" if row["price"] is None else f"{row['price'].normalize():f}",
        "size": "" if row["size"] is None else f"{row['size'].normalize():f}",
        "evidence": row["detail"] or "",
        "records": f"{offsets} of {NORMALIZED}",
        "alert": f"{source}#{row['id']}",
    }
    return "\n".join(f"{name}: {fact}" for name, fact in facts.items() if fact)


def line_of(source: str, row: Mapping[str, Any]) -> str:
    """Returns an alert in one line."""
    about = row["symbol"] or source
    return f"{source}#{row['id']} {row['rule']} {row['state']}: {about} {row['detail'] or ''}"


def printable_lines(text: str) -> str:
    """Returns `text` with what cannot be shown replaced, line by line."""
    return "\n".join(map(printable, text.split("\n")))


def counted(count: int, one: str, many: str) -> str:
    """Returns a number of things in words."""
    return f"1 {one}" if count == 1 else f"{count:,} {many}"


def _time(value: datetime) -> str:
    return f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"


def seconds(value: datetime | float) -> float:
    """Returns a time, which may be in ns, in seconds since 1970."""
    return value.timestamp() if isinstance(value, datetime) else value / NS_PER_S
