"""Arrow tables as data frames want them: floats for decimals, an index of times, plain names."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tapeworks.errors import QueryError
from tapeworks.time_columns import REST, is_split_time

# Whole numbers up to it, and powers of ten up to this one, are floats without rounding.
UNITS_MAX = 2**53
PLACES_MAX = 22
# Columns of the lake that pandas would hide behind an attribute of every frame: `frame.size` is the
# number of its cells. A test holds this against all columns of all tables.
SHADOWED = ("size", "count", "flags")


def with_floats(table: pa.Table) -> pa.Table:
    """Returns `table` with the float nearest to each decimal, also within lists."""
    for at, field in enumerate(table.schema):
        if pa.types.is_decimal(field.type):
            convert, kind = _floats, pa.float64()
        elif pa.types.is_list(field.type) and pa.types.is_decimal(field.type.value_type):
            convert, kind = _lists, pa.list_(pa.float64())
        else:
            continue
        chunks = [convert(chunk) for chunk in table.column(at).chunks]
        column = pa.chunked_array(chunks, kind)
        table = table.set_column(at, pa.field(field.name, kind, field.nullable), column)
    return table


def _floats(column: pa.Array) -> pa.Array:
    kind = column.type
    if not len(column) or kind.bit_width != 128 or not 0 <= kind.scale <= PLACES_MAX:
        return _by_text(column)
    words = np.frombuffer(column.buffers()[1], "<i8").reshape(-1, 2)
    low, high = words[column.offset : column.offset + len(column)].T
    absent = np.asarray(column.is_null()) if column.null_count else None
    # Both are exact, so that the quotient is rounded once: to the nearest float.
    found = low / float(10**kind.scale)
    is_wide = (high != low >> 63) | (low > UNITS_MAX) | (low < -UNITS_MAX)
    if absent is not None:
        is_wide &= ~absent
    if is_wide.any():
        found[is_wide] = np.asarray(_by_text(column.filter(pa.array(is_wide))))
    return pa.array(found, pa.float64(), mask=absent)


def _lists(column: pa.Array) -> pa.Array:
    if column.null_count:
        return column.cast(pa.list_(pa.string())).cast(pa.list_(pa.float64()))
    return pa.ListArray.from_arrays(column.offsets, _floats(column.values))


def _by_text(column: pa.Array) -> pa.Array:
    # Arrow's own cast of decimals misses the nearest float for every third.
    return column.cast(pa.string()).cast(pa.float64())


def unshadowed(table: pa.Table) -> pa.Table:
    """Returns `table` with names that are no attribute of a frame: `size_` for `size`."""
    return table.rename_columns([unshadowed_name(name) for name in table.column_names])


def unshadowed_name(name: str) -> str:
    """Returns what a column is called in a frame of pandas."""
    return f"{name}_" if name in SHADOWED else name


def with_index_times(table: pa.Table, index: Sequence[str]) -> pa.Table:
    """Returns `table` with the times of `index` exact to the ns, each in one column.

    Raises:
        QueryError: there is no such column, or a time is beyond the years 1677 to 2262.
    """
    for name in index:
        at = table.schema.get_field_index(name)
        if at < 0:
            raise QueryError(f"expected an index of {', '.join(table.column_names)}, got {name!r}")
        if not is_split_time(table.schema, name):
            continue
        try:
            us = pc.multiply_checked(table.column(at).cast(pa.int64()), 1_000)
        except pa.ArrowInvalid:
            raise QueryError(
                f"{name} has times beyond the years 1677 to 2262, which no index of ns holds: "
                "expected another index, or none"
            ) from None
        ns = pc.add(us, table.column(name + REST).cast(pa.int64()))
        table = table.set_column(at, name, ns.cast(pa.timestamp("ns", "UTC")))
        table = table.drop_columns([name + REST])
    return table
