"""What a question gives: a table that becomes Arrow, Polars or pandas, and knows its gaps."""

import importlib
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pyarrow as pa

from tapeworks.errors import QueryError

if TYPE_CHECKING:
    import pandas
    import polars

ROWS_SHOWN = 10
EPOCH = datetime(1970, 1, 1)
UNITS_PER_S = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


class Result:
    """Rows of one question, held as Arrow."""

    def __init__(
        self, table: pa.Table, title: str, coverage: "Callable[[], Result] | None" = None
    ) -> None:
        self._table = table
        self._title = title
        self._coverage = coverage

    def __len__(self) -> int:
        return int(self._table.num_rows)

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return list(self._table.column_names)

    def to_arrow(self) -> pa.Table:
        """Returns a `pyarrow.Table`, without a copy."""
        return self._table

    def to_polars(self) -> "polars.DataFrame":
        """Returns a Polars data frame.

        Raises:
            QueryError: Polars is not installed.
        """
        try:
            # Loading it takes a tenth of a second: only who wants a frame waits for it.
            library = importlib.import_module("polars")
        except ImportError:
            raise QueryError("polars is not installed: pip install 'tapeworks[polars]'") from None
        frame: polars.DataFrame = library.from_arrow(self._table)
        return frame

    def to_pandas(self) -> "pandas.DataFrame":
        """Returns a pandas data frame; prices are exact decimals in it.

        Raises:
            QueryError: pandas is not installed.
        """
        try:
            return self._table.to_pandas()
        except ImportError:
            raise QueryError("pandas is not installed: pip install 'tapeworks[pandas]'") from None

    def to_pylist(self) -> list[dict[str, object]]:
        """Returns one dictionary a row. Times are text, exact to the nanosecond, in UTC."""
        columns = map(values, self._table.columns)
        return [dict(zip(self.columns, row, strict=True)) for row in zip(*columns, strict=True)]

    def coverage(self) -> "Result":
        """Returns the gaps that touch the symbols and the range that were asked for.

        No rows mean that nothing is known to be missing.
        """
        if self._coverage is None:
            raise QueryError("this result is not of a symbol and a range: ask lake.gaps(...)")
        return self._coverage()

    def __repr__(self) -> str:
        head = self._table.slice(0, ROWS_SHOWN)
        cells = [[_show(value) for value in values(column)] for column in head.columns]
        widths = [
            max(len(name), *(len(cell) for cell in cell_column), 0) if cell_column else len(name)
            for name, cell_column in zip(self.columns, cells, strict=True)
        ]
        lines = [f"{self._title}: {len(self):,} rows"]
        pad = [name.ljust(width) for name, width in zip(self.columns, widths, strict=True)]
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


def values(column: pa.Array | pa.ChunkedArray) -> list[object]:
    """Returns the values of `column`; a time as text in UTC with all its digits.

    Nanoseconds do not fit a datetime. Arrow itself would load pandas for them, or refuse where
    there is none; every question takes such text as a time.
    """
    if not pa.types.is_timestamp(column.type):
        return list(column.to_pylist())
    if isinstance(column, pa.ChunkedArray):
        return [value for chunk in column.chunks for value in values(chunk)]
    units = UNITS_PER_S[column.type.unit]
    digits = len(str(units)) - 1
    return [
        None if value is None else _iso(value // units, value % units, digits)
        for value in column.view(pa.int64()).to_pylist()
    ]


def _iso(seconds: int, fraction: int, digits: int) -> str:
    try:
        moment = EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        # Before year 1 or after 9999: DuckDB's infinities are there.
        return f"{seconds} s since 1970"
    rest = f".{fraction:0{digits}d}" if digits else ""
    return f"{moment.isoformat()}{rest}Z"
