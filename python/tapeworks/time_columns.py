"""Times as columns: microseconds of UTC, and beside them `<name>_ns`, the rest, 0 to 999.

The core makes such columns of records. Here is how one knows them, and how columns that hold
nanoseconds, as files of an earlier version do, become such.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

REST = "_ns"


def is_split_time(schema: pa.Schema, name: str) -> bool:
    """Whether column `name` is a time whose nanoseconds stand in a column beside it."""
    at, rest = schema.get_field_index(name), schema.get_field_index(name + REST)
    if at < 0 or rest < 0:
        return False
    types = (schema.field(at).type, schema.field(rest).type)
    return types == (pa.timestamp("us", "UTC"), pa.int16())


def distinct_names(names: Sequence[str]) -> list[str]:
    """Returns names of which each is there once: a second `price` becomes `price_1`.

    The rest of a time goes by the time before it: `ts_event_1` has `ts_event_1_ns`.
    """
    found: list[str] = []
    newest: dict[str, str] = {}
    for name in names:
        time = newest.get(name.removesuffix(REST)) if name.endswith(REST) else None
        wanted = name if time is None else time + REST
        stem, number = wanted, 0
        while wanted in found or (number and wanted in names):
            number += 1
            wanted = f"{stem}_{number}"
        found.append(wanted)
        newest[name] = wanted
    return found


def nanosecond_times(schema: pa.Schema) -> list[str]:
    """Returns the times of `schema` that hold nanoseconds in one column."""
    return [field.name for field in schema if field.type == pa.timestamp("ns", "UTC")]


def split_schema(schema: pa.Schema) -> pa.Schema:
    """Returns `schema` as `split_sql` makes it: microseconds, and nanoseconds beside them."""
    times = set(nanosecond_times(schema))
    fields = []
    for field in schema:
        if field.name in times:
            fields.append(field.with_type(pa.timestamp("us", "UTC")))
            fields.append(pa.field(field.name + REST, pa.int16(), field.nullable))
        else:
            fields.append(field)
    return pa.schema(fields)


def split_sql(names: Iterable[str], nanoseconds: Iterable[str]) -> str:
    """Returns the SQL that makes of columns `names` those that files have now.

    `nanoseconds` are times that hold nanoseconds in one column. DuckDB would round them.
    """
    times, columns = set(nanoseconds), []
    for name in names:
        if name in times:
            rest = f"((epoch_ns({name}) % 1000 + 1000) % 1000)"
            columns += [
                f"make_timestamptz((epoch_ns({name}) - {rest}) // 1000) as {name}",
                f"{rest}::smallint as {name}{REST}",
            ]
        else:
            columns.append(f'"{name}"')
    return ", ".join(columns)


def split_times(rows: pa.Table) -> pa.Table:
    """Returns `rows` with the columns that files have now: `split_sql`, without DuckDB."""
    for name in nanosecond_times(rows.schema):
        nanoseconds = rows[name].cast(pa.int64())
        # Rounded down, before 1970 too; whole numbers stay whole.
        values = nanoseconds.fill_null(0).to_numpy()
        absent = nanoseconds.is_null().to_numpy()
        at, is_nullable = rows.schema.get_field_index(name), rows.schema.field(name).nullable
        whole = pa.array(values // 1_000, pa.timestamp("us", "UTC"), mask=absent)
        rest = pa.array((values % 1_000).astype(np.int16), mask=absent)
        rows = rows.set_column(at, pa.field(name, whole.type, is_nullable), whole)
        rows = rows.add_column(at + 1, pa.field(name + REST, rest.type, is_nullable), rest)
    return rows
