"""What a message says of an alert."""

from collections.abc import Mapping
from typing import Any

from tapeworks.printable import printable


def body_of(source: str, row: Mapping[str, Any]) -> str:
    """Returns what an alert says, a line a fact."""
    value = "" if row["value"] is None else f"{row['value']:.6g}"
    limit = "" if row["threshold"] is None else f"{row['threshold']:.6g}"
    facts = {
        "what": f"{row['detector']} {row['subject'] or ''}".strip(),
        "since": _time(row["ts_start"]),
        "until": "" if row["ts_end"] is None else _time(row["ts_end"]),
        "value": value,
        "limit": limit,
        "price": "" if row["price"] is None else f"{row['price'].normalize():f}",
        "size": "" if row["size"] is None else f"{row['size'].normalize():f}",
        "evidence": row["detail"] or "",
        "records": f"{row['first_offset']} to {row['last_offset']}",
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


def _time(value: Any) -> str:
    return str(value)[:26]
