"""What a data folder holds: of which source and symbol which tables, from when to when."""

from collections.abc import Sequence

import pyarrow as pa

from tapeworks.lake import TABLES
from tapeworks.views.query import Engine, Scope, time_of
from tapeworks.views.view_sql import REVISIONS

SCHEMA = pa.schema(
    [
        ("source", pa.string()),
        ("symbol", pa.string()),
        ("table", pa.string()),
        ("rows", pa.int64()),
        ("ts_first", pa.timestamp("us", "UTC")),
        ("ts_last", pa.timestamp("us", "UTC")),
    ]
)


def contents(engine: Engine, sources: Sequence[str]) -> pa.Table:
    """Returns the rows of each table of market data by source and symbol, with their event times.

    A source without any is a row by itself: its records are not derived yet, or none came.
    """
    # Of bars all that was written: to find the last revision of each would read them all.
    written = {table: view for view, table in REVISIONS.items()}
    names = [written.get(name, name) for name, table in TABLES.items() if table.channels]
    parts = [
        f"select venue as source, symbol, {at} as place, '{name}' as table_name, count(*) as n, "
        f"min({time_of(name)}) as first, max({time_of(name)}) as last from {name} group by all"
        for at, name in enumerate(names)
    ]
    sql = (
        "select source, symbol, table_name, n, first, last from "
        f"({' union all '.join(parts)}) order by source, symbol, place"
    )
    found = engine.run(sql, names, Scope(sources)).rename_columns(SCHEMA.names).cast(SCHEMA)
    for name in sorted(set(sources) - set(found.column("source").to_pylist())):
        empty = pa.table([[name], [None], [None], [0], [None], [None]], schema=SCHEMA)
        found = pa.concat_tables([found, empty])
    return found
