"""Arrow tables as data frames want them: floats for decimals, an index of times, plain names."""

import importlib
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tapeworks._core import NONE
from tapeworks.errors import QueryError
from tapeworks.time_columns import REST, is_split_time

Words: TypeAlias = npt.NDArray[np.int64]

# Loaded for an index of times alone: most questions need none, and it takes a while.
COMPUTE = "pyarrow.compute"
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
    low, high, absent = _words(column)
    # Both are exact, so that the quotient is rounded once: to the nearest float.
    found = low / float(10**kind.scale)
    is_wide = ((high != low >> 63) | (low > UNITS_MAX) | (low < -UNITS_MAX)) & ~absent
    if is_wide.any():
        found[is_wide] = np.asarray(_by_text(column.filter(pa.array(is_wide))))
    return pa.array(found, pa.float64(), mask=absent)


def _words(column: pa.Array) -> tuple[Words, Words, npt.NDArray[np.bool_]]:
    """Returns the low and the high halves of decimals of 128 bits, and which are absent."""
    absent = np.asarray(column.is_null())
    if not len(column):
        return np.empty(0, np.int64), np.empty(0, np.int64), absent
    words = np.frombuffer(column.buffers()[1], "<i8").reshape(-1, 2)
    words = words[column.offset : column.offset + len(column)]
    return words[:, 0], words[:, 1], absent


def _lists(column: pa.Array) -> pa.Array:
    if column.null_count:
        return column.cast(pa.list_(pa.string())).cast(pa.list_(pa.float64()))
    return pa.ListArray.from_arrays(column.offsets, _floats(column.values))


def _by_text(column: pa.Array) -> pa.Array:
    # Arrow's own cast of decimals misses the nearest float for every third.
    return column.cast(pa.string()).cast(pa.float64())


def structured(table: pa.Table, units: bool) -> npt.NDArray[np.void]:
    """Returns `table` as a structured array, one field a column; see `Result.to_numpy`."""
    fields: dict[str, npt.NDArray[Any]] = {}
    for name in table.column_names:
        if is_split_time(table.schema, name):
            fields[name] = np.asarray(_exact_time(table, name).cast(pa.timestamp("ns")))
        elif not (name.endswith(REST) and is_split_time(table.schema, name.removesuffix(REST))):
            fields[name] = _field(table.column(name), units)
    found = np.empty(len(table), [(name, values.dtype) for name, values in fields.items()])
    for name, values in fields.items():
        found[name] = values
    return found


def _field(column: pa.ChunkedArray, units: bool) -> npt.NDArray[Any]:
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _field(column.cast(kind.value_type), units)
    if pa.types.is_string(kind):
        return np.array(column.fill_null("").to_pylist(), np.str_)
    if units and pa.types.is_decimal128(kind):
        whole = [_units(chunk) for chunk in column.chunks]
        return np.concatenate(whole) if whole else np.empty(0, np.int64)
    values: npt.NDArray[Any] = with_floats(pa.table([column], ["x"])).column(0).to_numpy()
    return values


def _units(column: pa.Array) -> npt.NDArray[Any]:
    low, high, absent = _words(column)
    if ((high == low >> 63) | absent).all():
        found = low.copy()
        found[absent] = NONE
        return found
    wide: npt.NDArray[Any] = high.astype(object) * 2**64 + low.view(np.uint64).astype(object)
    wide[absent] = None
    return wide


def _exact_time(table: pa.Table, name: str) -> pa.ChunkedArray:
    """Returns a time that is two columns as one of ns.

    Raises:
        QueryError: one is beyond the years 1677 to 2262.
    """
    pc = importlib.import_module(COMPUTE)
    kind, rest = pa.timestamp("ns", "UTC"), table.column(name + REST).cast(pa.int64())
    try:
        # Numbers of Python instead would load pandas.
        whole = table.column(name).cast(kind).cast(pa.int64())
        exact: pa.ChunkedArray = pc.add_checked(whole, rest).cast(kind)
    except pa.ArrowInvalid:
        raise QueryError(
            f"{name} has times beyond the years 1677 to 2262, which 64 bits of ns do not hold"
        ) from None
    return exact


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
        if is_split_time(table.schema, name):
            table = table.set_column(at, name, _exact_time(table, name))
            table = table.drop_columns([name + REST])
    return table
