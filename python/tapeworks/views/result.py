"""What a question gives: a table that becomes Arrow, Polars or pandas, and knows its gaps."""

import importlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, overload

import pyarrow as pa

from tapeworks.errors import ArgumentError, QueryError, TapeworksError
from tapeworks.time_columns import REST, is_split_time
from tapeworks.views.frames import (
    structured,
    unshadowed,
    unshadowed_name,
    with_floats,
    with_index_times,
)
from tapeworks.views.picture import draw_html, draw_text

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas
    import polars

    from tapeworks.views.coverage import Coverage

ROWS_SHOWN = 10
ROWS_AT_ONCE = 8_192
EPOCH = datetime(1970, 1, 1)
UNITS_PER_S = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


class Result:
    """Rows of one question, held as Arrow, in which prices and sizes are exact decimals.

    Whatever reads the Arrow C stream takes a result as it is: `polars.DataFrame(result)`,
    `pyarrow.table(result)`, or DuckDB's `from result`.
    """

    def __init__(
        self,
        table: pa.Table,
        title: str,
        coverage: "Callable[[], Coverage] | None" = None,
        *,
        keeps_names: bool = False,
        notices: Callable[[], list[str]] | None = None,
    ) -> None:
        self._table = table
        self._title = title
        self._coverage = coverage
        self._keeps_names = keeps_names
        self._notices = notices

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yields one dictionary a row, with all columns and the types of Arrow.

        Times are datetimes in UTC, of microseconds, and `<name>_ns` holds the rest of 0 to 999 ns.
        A time that no datetime holds is text, as in `to_pylist`.
        """
        for batch in self.batches(ROWS_AT_ONCE):
            yield from _rows(batch)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...
    @overload
    def __getitem__(self, index: str) -> pa.ChunkedArray: ...
    @overload
    def __getitem__(self, index: list[str]) -> "Result": ...
    def __getitem__(self, index: int | slice | str | list[str]) -> Any:
        """Returns a row as it is iterated over, the rows of a slice, a column, or some columns.

        `result["price"]` is a `pyarrow.ChunkedArray`; `result[["price", "size"]]` is a `Result`.

        Raises:
            IndexError: there is no such row.
            KeyError: there is no such column; the message names those that there are.
        """
        if isinstance(index, str):
            self._check_columns([index])
            return self._table.column(index)
        if isinstance(index, list):
            self._check_columns(index)
            chosen = self._table.select(index)
            return Result(
                chosen,
                self._title,
                self._coverage,
                keeps_names=self._keeps_names,
                notices=self._notices,
            )
        if isinstance(index, slice):
            rows = pa.array(range(*index.indices(len(self))), pa.int64())
            return list(_rows(self._table.take(rows)))
        if not -len(self) <= index < len(self):
            raise IndexError(f"expected a row below {len(self)}, got {index}")
        [row] = _rows(self._table.slice(index % len(self), 1))
        return row

    def _check_columns(self, names: list[str]) -> None:
        for name in names:
            if name not in self.columns:
                raise KeyError(f"expected a column of {', '.join(self.columns)}, got {name!r}")

    @property
    def title(self) -> str:
        """What it is of, in a few words."""
        return self._title

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return list(self._table.column_names)

    @property
    def schema(self) -> pa.Schema:
        """Names and types of the columns, as Arrow has them."""
        return self._table.schema

    def batches(self, rows: int = 65_536) -> Iterator[pa.RecordBatch]:
        """Yields the rows as record batches of Arrow, each of up to so many rows.

        Raises:
            QueryError: it is no number of rows.
        """
        if rows < 1:
            raise QueryError(f"expected batches of 1 row or more, got {rows}")
        yield from self._table.to_batches(max_chunksize=rows)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Gives the rows to any library that takes the Arrow C stream, exact, without a copy."""
        return self._table.__arrow_c_stream__(requested_schema)

    def to_arrow(self) -> pa.Table:
        """Returns a `pyarrow.Table`, without a copy."""
        return self._table

    def to_numpy(self, *, units: bool = False) -> "npt.NDArray[np.void]":
        """Returns a structured array, one field a column.

        Prices and sizes are float64; with `units` they are integers of the smallest step of their
        column, exact: 1e-9 for prices, 1e-8 for sizes. Absent ones are NaN, or the greatest number
        of 64 bits. Times are those of NumPy in ns, UTC, exact, or NaT; absent text is empty.
        """
        return structured(self._table, units)

    def to_polars(self, *, decimals: bool = False) -> "polars.DataFrame":
        """Returns a Polars data frame. Prices and sizes are float64, or exact with `decimals`.

        A float is the nearest to the decimal: 15 digits are exact. Times are UTC.

        Raises:
            QueryError: Polars is not installed.
        """
        try:
            # Loading it takes a tenth of a second: only who wants a frame waits for it.
            library = importlib.import_module("polars")
        except ImportError:
            raise QueryError("polars is not installed: pip install 'tapeworks[polars]'") from None
        frame: polars.DataFrame = library.from_arrow(self._frame(decimals))
        return frame

    def to_pandas(
        self, *, index: str | list[str] | None = None, decimals: bool = False
    ) -> "pandas.DataFrame":
        """Returns a pandas data frame. Prices and sizes are float64, or exact with `decimals`.

        A float is the nearest to the decimal: 15 digits are exact. Decimals are objects in pandas:
        slow, and refused by `resample().ohlc()` and the like. Times are UTC. A column that would be
        hidden by an attribute of the frame ends in `_`: `size_`, `count_`, `flags_`; those of a
        query are named as it names them.

        `index` names the columns of the index, such as `"ts_event"`: a time in it is exact to the
        nanosecond and needs no `ts_event_ns`. Without it rows are numbered.

        Raises:
            QueryError: pandas is not installed, or there is no such column.
        """
        names = [index] if isinstance(index, str) else [] if index is None else index
        if not isinstance(names, list | tuple) or not all(isinstance(one, str) for one in names):
            raise ArgumentError(f"expected an index of names of columns, got {index!r}")
        table = with_index_times(self._frame(decimals), names)
        try:
            frame = (table if self._keeps_names else unshadowed(table)).to_pandas()
        except ImportError:
            raise QueryError("pandas is not installed: pip install 'tapeworks[pandas]'") from None
        if not names:
            return frame
        kept = names if self._keeps_names else [unshadowed_name(name) for name in names]
        return frame.set_index(list(kept))

    def _frame(self, decimals: bool) -> pa.Table:
        return self._table if decimals else with_floats(self._table)

    def to_pylist(self) -> list[dict[str, Any]]:
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

    def notices(self) -> list[str]:
        """Returns sentences on what is missing in the answer, as it is shown and as commands tell.

        None mean that all of what was asked for was recorded, with no gap. A query of SQL counts as
        narrowed only by comparisons with constants that hold of every row it reads; it is also told
        which names in it match nothing, or several instruments. Where that cannot be looked up, as
        the folder was closed or its ledger cannot be read, a sentence says so. Looked up now, in
        some 30 ms.
        """
        try:
            if self._notices is not None:
                return self._notices()
            return [] if self._coverage is None else self._coverage().notices()
        except (TapeworksError, OSError) as error:
            return [f"what is missing is not known: {error}"]

    def __repr__(self) -> str:
        return draw_text(self._title, len(self), self._head(), self.notices())

    def _repr_html_(self) -> str:
        return draw_html(self._title, len(self), self._head(), self.notices())

    def _head(self) -> list[tuple[str, list[object]]]:
        return list(text_columns(self._table.slice(0, ROWS_SHOWN)))


def noting(result: Result, more: Callable[[], list[str]]) -> Result:
    """Returns `result` with what `more` gives behind its own notices."""
    return Result(
        result._table,
        result._title,
        result._coverage,
        keeps_names=result._keeps_names,
        notices=lambda: [*result.notices(), *more()],
    )


def _rows(table: pa.Table | pa.RecordBatch) -> Iterator[dict[str, Any]]:
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
