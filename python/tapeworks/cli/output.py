"""How commands print: tables for people, JSON, CSV and JSON lines for programs."""

import csv
import io
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum

from rich.console import Console
from rich.table import Table

console = Console()
problems = Console(stderr=True)


class Format(StrEnum):
    """How rows are written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    JSONL = "jsonl"


def plain(value: object) -> object:
    """Makes `value` fit for JSON: exact decimals as text, times as ISO 8601 in UTC."""
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat() if value.tzinfo else value.isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value


def as_json(value: object) -> str:
    """Returns `value` as one JSON text."""
    return json.dumps(plain(value), ensure_ascii=False)


def write_rows(columns: Sequence[str], rows: Iterable[Sequence[object]], form: Format) -> None:
    """Writes `rows` to standard output."""
    if form is Format.TABLE:
        table = Table(box=None, header_style="bold", pad_edge=False)
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*(text(value) for value in row))
        console.print(table)
    elif form is Format.CSV:
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([plain(value) for value in row] for row in rows)
        sys.stdout.write(buffer.getvalue())
    elif form is Format.JSONL:
        for row in rows:
            print(as_json(dict(zip(columns, row, strict=True))))
    else:
        print(as_json([dict(zip(columns, row, strict=True)) for row in rows]))


def text(value: object) -> str:
    """Returns `value` as a person reads it in a table; nothing for an absent value."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="microseconds").removesuffix("+00:00")
    if isinstance(value, Decimal):
        digits = format(value, "f")
        return digits.rstrip("0").rstrip(".") if "." in digits else digits
    return str(plain(value))


def amount(value: float) -> str:
    """Returns a count with a unit: 1234567 is `1.23 M`."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (limit if unit != 'k' else 1e3):.2f} {unit}"
    return f"{value:,.0f}"


def size(value: float) -> str:
    """Returns a number of bytes with a unit."""
    for limit, unit in ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if value >= limit:
            return f"{value / limit:.1f} {unit}"
    return f"{value:.0f} B"
