"""Blobs of a tape as rows of a table: what the lake stores and views show of them."""

from abc import ABC, abstractmethod
from typing import ClassVar

import pyarrow as pa

from tapeworks._core import Blob, Symbols

DAY_NS = 86_400_000_000_000
# What a row takes in memory beside the bytes of its blob.
ROW_BYTES = 1_024


class BlobRows(ABC):
    """Rows gathered from a tape of blobs; used as `Rows` of the core is."""

    SCHEMA: ClassVar[pa.Schema]
    """Names and types of the columns."""
    resume = None

    def __init__(self) -> None:
        self._rows: list[dict[str, object]] = []
        self._times: list[int] = []
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._rows)

    @abstractmethod
    def _row(self, blob: Blob) -> tuple[int, dict[str, object]]:
        """Returns the time by which the row of `blob` is stored, in ns, and its columns."""

    def extend(self, blobs: list[Blob], from_offset: int = 0) -> int:
        """Takes the blobs from `from_offset` on; returns how many it took."""
        found = [self._row(blob) for blob in blobs if blob.offset >= from_offset]
        self._times += [ts for ts, _ in found]
        self._rows += [row for _, row in found]
        self.nbytes += sum(len(blob.body) + len(blob.context) + ROW_BYTES for blob in blobs)
        return len(found)

    def sort(self, symbols: Symbols) -> list[tuple[int, int, int]]:
        """Orders by day and time. Returns day since the epoch, first row, end row."""
        order = sorted(range(len(self._rows)), key=self._times.__getitem__)
        self._rows = [self._rows[at] for at in order]
        self._times = [self._times[at] for at in order]
        parts: list[tuple[int, int, int]] = []
        for at, ts in enumerate(self._times):
            day = ts // DAY_NS
            start = parts.pop()[1] if parts and parts[-1][0] == day else at
            parts.append((day, start, at + 1))
        return parts

    def arrow(self, symbols: Symbols, start: int, end: int) -> pa.RecordBatch:
        """Returns rows `start` to `end` as columns."""
        return pa.RecordBatch.from_pylist(self._rows[start:end], schema=self.SCHEMA)

    def clear(self) -> None:
        """Removes all rows."""
        self._rows, self._times, self.nbytes = [], [], 0


def time_columns(name: str, ts: int) -> dict[str, object]:
    """Returns a time in ns as the two columns that the lake has for it."""
    microseconds, rest = divmod(ts, 1_000)
    return {name: microseconds, f"{name}_ns": rest}
