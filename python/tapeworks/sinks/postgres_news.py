"""News in PostgreSQL: each word of a venue on a story is a row, with the symbols that it names."""

from collections.abc import Collection, Sequence
from typing import Any

from psycopg import Connection

from tapeworks._core import Blob, Symbols
from tapeworks.news import NewsRows

KIND = "story"
# Columns of the table -> those of the lake.
COLUMNS = {
    "id": "tape_offset",
    "story": "id",
    "ts": "ts_event",
    "ts_updated": "ts_updated",
    "symbols": "symbols",
    "headline": "headline",
    "summary": "summary",
    "author": "author",
    "source": "source",
    "url": "url",
    "raw": "raw",
    "flags": "flags",
    "ts_recv": "ts_recv",
}


def copy_news(
    connection: "Connection[Any]", provider: str, blobs: Sequence[Blob], symbols: Collection[str]
) -> None:
    """Copies the stories among `blobs` that name any of `symbols`; none: all."""
    found = NewsRows()
    found.extend(list(blobs))
    stories = found.arrow(Symbols(), 0, len(found)).to_pylist()
    query = f"copy news_revisions ({', '.join(COLUMNS)}, provider) from stdin"
    with connection.cursor() as cursor, cursor.copy(query.encode()) as copy:
        for story in stories:
            named = story["symbols"] or []
            if symbols and not set(symbols) & set(named):
                continue
            values = [story[column] for column in COLUMNS.values()]
            values[list(COLUMNS).index("symbols")] = named
            copy.write_row([*values, provider])
