"""What a question gives: a table that becomes Arrow, Polars or pandas, and knows its gaps."""

import importlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, overload

import pyarrow as pa

from tapeworks.errors import QueryError
from tapeworks.time_columns import REST, is_split_time

if TYPE_CHECKING:
    import pandas
    import polars

    from tapeworks.views.coverage import Coverage

ROWS_SHOWN = 10
ROWS_AT_ONCE = 8_192
EPOCH = datetime(1970, 1, 1)
UNITS_PER_S = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


class Result:
    """Rows of one question, held as Arrow."""

    def __init__(
        self, table: pa.Table, title: str, coverage: "Callable[[], Coverage] | None" = None
    ) -> None:
        self._table = table
        self._title = title
        self._coverage = coverage

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __iter__(self) -> Iterator[dict[str, object]]:
        """Yields one dictionary a row, with all columns and the types of Arrow.

        Times are datetimes in UTC, of microseconds, and `<name>_ns` holds the rest of 0 to 999 ns.
        A time that no datetime holds is text, as in `to_pylist`.
        """
        for batch in self._table.to_batches(max_chunksize=ROWS_AT_ONCE):
            yield from _rows(batch)

    @overload
    def __getitem__(self, index: int) -> dict[str, object]: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, object]]: ...
    def __getitem__(self, index: int | slice) -> dict[str, object] | list[dict[str, object]]:
        """Returns a row as it is iterated over, or the rows of a slice.

        Raises:
            IndexError: there is no such row.
        """
        if isinstance(index, slice):
            chosen = pa.array(range(*index.indices(len(self))), pa.int64())
            return list(_rows(self._table.take(chosen)))
        if not -len(self) <= index < len(self):
            raise IndexError(f"expected a row below {len(self)}, got {index}")
        [row] = _rows(self._table.slice(index % len(self), 1))
        return row

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return list(self._table.column_names)

    def to_arrow(self) -> pa.Table:
        """Returns a `pyarrow.Table`, without a copy."""
        return self._table

    def to_polars(self, *, floats: bool = False) -> "polars.DataFrame":
        """Returns a Polars data frame; prices and sizes are exact decimals in it, or `floats`.

        Raises:
            QueryError: Polars is not installed.
        """
        try:
            # Loading it takes a tenth of a second: only who wants a frame waits for it.
            library = importlib.import_module("polars")
        except ImportError:
            raise QueryError("polars is not installed: pip install 'tapeworks[polars]'") from None
        frame: polars.DataFrame = library.from_arrow(self._frame(floats))
        return frame

    def to_pandas(self, *, floats: bool = False) -> "pandas.DataFrame":
        """Returns a pandas data frame; prices and sizes are exact decimals in it, or `floats`.

        pandas calculates with decimals as objects, slowly, and refuses them in `resample().ohlc()`
        and the like. A float is the nearest to the decimal: 15 digits are exact.

        Raises:
            QueryError: pandas is not installed.
        """
        try:
            return self._frame(floats).to_pandas()
        except ImportError:
            raise QueryError("pandas is not installed: pip install 'tapeworks[pandas]'") from None

    def _frame(self, floats: bool) -> pa.Table:
        return with_floats(self._table) if floats else self._table

    def to_pylist(self) -> list[dict[str, object]]:
        """Returns one dictionary a row. Times are text, exact to the nanosecond, in UTC."""
        shown = list(text_columns(self._table))
        names = [name for name, _ in shown]
        rows = zip(*(column for _, column in shown), strict=True)
        return [dict(zip(names, row, strict=True)) for row in rows]

    def coverage(self) -> "Coverage":
        """Returns what keeps the range that was asked for from being complete, as rows.

        Gaps that touch it, time that was not recorded, and time whose gaps are not known yet: see
        `tapeworks.views.coverage.Coverage`. No rows mean that it is complete.
        """
        if self._coverage is None:
            raise QueryError("this result is not of a symbol and a range: ask lake.gaps(...)")
        return self._coverage()

    def __repr__(self) -> str:
        head = self._table.slice(0, ROWS_SHOWN)
        shown = list(text_columns(head))
        names = [name for name, _ in shown]
        cells = [[_show(value) for value in column] for _, column in shown]
        widths = [
            max(len(name), *(len(cell) for cell in cell_column), 0) if cell_column else len(name)
            for name, cell_column in zip(names, cells, strict=True)
        ]
        lines = [f"{self._title}: {len(self):,} rows"]
        pad = [name.ljust(width) for name, width in zip(names, widths, strict=True)]
        lines.append("  ".join(pad))
        for row in range(head.num_rows):
            texts = [column[row].ljust(width) for column, width in zip(cells, widths, strict=True)]
            lines.append("  ".join(texts))
        if len(self) > ROWS_SHOWN:
            lines.append(f"... {len(self) - ROWS_SHOWN:,} more")
        return "\n".join(line.rstrip() for line in lines)


def _show(value: object) -> str:
    if value is None:
        return ""
    text = format(value, "f") if type(value).__name__ == "Decimal" else str(value)
    if "." in text and text.replace(".", "").lstrip("-").isdigit():
        text = text.rstrip("0").rstrip(".")
    return text if len(text) <= 40 else text[:37] + "..."


def with_floats(table: pa.Table) -> pa.Table:
    """Returns `table` with the float nearest to each decimal, also within lists."""
    for at, field in enumerate(table.schema):
        # By way of text: Arrow's own cast of decimals misses the nearest float for every third.
        if pa.types.is_decimal(field.type):
            between, wanted = pa.string(), pa.float64()
        elif pa.types.is_list(field.type) and pa.types.is_decimal(field.type.value_type):
            between, wanted = pa.list_(pa.string()), pa.list_(pa.float64())
        else:
            continue
        values = table.column(at).cast(between).cast(wanted)
        table = table.set_column(at, pa.field(field.name, wanted, field.nullable), values)
    return table


def _rows(table: pa.Table | pa.RecordBatch) -> Iterator[dict[str, object]]:
    names = table.schema.names
    for row in zip(*map(_moments, table.columns), strict=True):
        yield dict(zip(names, row, strict=True))


def _moments(column: pa.Array | pa.ChunkedArray) -> list[object]:
    """Returns the values of `column`; a time as a datetime, or as text where there is none."""
    if not pa.types.is_timestamp(column.type) or column.type.unit == "ns":
        return values(column)
    step = UNITS_PER_S["us"] // UNITS_PER_S[column.type.unit]
    epoch = EPOCH if column.type.tz is None else EPOCH.replace(tzinfo=UTC)
    try:
        return [
            None if value is None else epoch + timedelta(microseconds=value * step)
            for value in _integers(column)
        ]
    except OverflowError:
        return values(column)


def text_columns(table: pa.Table | pa.RecordBatch) -> Iterator[tuple[str, list[object]]]:
    """Yields names and values; a time and its nanoseconds become one text with all digits."""
    for name, column in zip(table.schema.names, table.columns, strict=True):
        if name.endswith(REST) and is_split_time(table.schema, name.removesuffix(REST)):
            continue
        if is_split_time(table.schema, name):
            yield name, _exact_times(column, table.column(name + REST))
        else:
            yield name, values(column)


def values(column: pa.Array | pa.ChunkedArray) -> list[object]:
    """Returns the values of `column`; a time as text with all its digits.

    The text ends in Z where the time is UTC; a time without a zone is shown as it is. Arrow itself
    would load pandas for nanoseconds, or refuse; every question takes such text as a time.
    """
    if not pa.types.is_timestamp(column.type):
        return list(column.to_pylist())
    units = UNITS_PER_S[column.type.unit]
    digits, zone = len(str(units)) - 1, "" if column.type.tz is None else "Z"
    return [
        None if value is None else _iso(value // units, value % units, digits, zone)
        for value in _integers(column)
    ]


def _exact_times(whole: pa.ChunkedArray, rest: pa.ChunkedArray) -> list[object]:
    # Rows without a rest come from an outer join or the like: they have no time either.
    pairs = zip(_integers(whole), rest.to_pylist(), strict=True)
    return [
        None if us is None else _iso(us // 1_000_000, us % 1_000_000 * 1_000 + (ns or 0), 9, "Z")
        for us, ns in pairs
    ]


def _integers(column: pa.Array | pa.ChunkedArray) -> list[int | None]:
    if isinstance(column, pa.ChunkedArray):
        return [value for chunk in column.chunks for value in _integers(chunk)]
    found: list[int | None] = column.view(pa.int64()).to_pylist()
    return found


def _iso(seconds: int, fraction: int, digits: int, zone: str) -> str:
    try:
        moment = EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        # Before year 1 or after 9999: DuckDB's infinities are there.
        return f"{seconds} s since 1970"
    rest = f".{fraction:0{digits}d}" if digits else ""
    return f"{moment.isoformat()}{rest}{zone}"
