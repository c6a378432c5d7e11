"""What users give as columns, as arrays that the core reads."""

from typing import TypeVar

import numpy as np
import numpy.typing as npt

from tapeworks.errors import QueryError

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Number = TypeVar("Number", np.float64, np.int64)


def floats(name: str, values: npt.ArrayLike) -> Floats:
    """Returns a column of doubles; missing values are NaN.

    Raises:
        QueryError: it is no column of numbers.
    """
    try:
        found = np.ascontiguousarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise QueryError(f"{name}: expected numbers: {error}") from None
    return _column(name, found)


def integers(name: str, values: npt.ArrayLike) -> Integers:
    """Returns a column of 64-bit integers; times may be of `datetime64`.

    Raises:
        QueryError: it is no column of whole numbers.
    """
    found = np.asarray(values)
    if found.dtype.kind == "M":
        found = found.astype("datetime64[ns]")
    if found.dtype.kind not in "iuM" and not (
        found.dtype.kind == "f" and np.array_equal(found, np.trunc(found))
    ):
        raise QueryError(f"{name}: expected whole numbers, got {found.dtype}")
    return _column(name, np.ascontiguousarray(found.astype(np.int64)))


def _column(name: str, found: npt.NDArray[Number]) -> npt.NDArray[Number]:
    if found.ndim != 1:
        raise QueryError(f"{name}: expected one column, got {found.ndim} dimensions")
    return found


def same_length(**columns: npt.NDArray[np.generic]) -> int:
    """Returns the length that all columns have.

    Raises:
        QueryError: they differ.
    """
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) != 1:
        raise QueryError(f"expected columns of one length, got {lengths}")
    return next(iter(lengths.values()))


def rising(name: str, values: npt.NDArray[np.generic], *, strictly: bool = False) -> None:
    """Refuses times that run back; with `strictly`, those that repeat as well.

    Raises:
        QueryError: they do.
    """
    steps = np.diff(values)
    if np.any(steps <= 0 if strictly else steps < 0):
        at = int(np.argmax(steps <= 0 if strictly else steps < 0)) + 1
        told = "rise: merge what has one time" if strictly else "not run back"
        raise QueryError(f"{name}: expected times that {told}; row {at} does not")
