"""A metric of the user's own as a function over windows: the trades of each, in, a number out.

    class Vwap(WindowMetric):
        name = "vwap_10ms"
        window_ms = 10

        def value(self, rows):
            return np.average(rows["price"] / 1e9, weights=rows["size"])

In the settings it is a processor, `[processors.vwap]` with `kind = "my_package:Vwap"`. A window is
[kW, (k+1)W) of the venue's time; it is over with the first row behind it. Live and in replay, at
any batch size and across restarts, the values are the same: `value` must look at its rows alone.
"""

import io
from abc import abstractmethod
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tapeworks._core import NONE, Records, dtype_descr, kind_of
from tapeworks.processors.base import Processor

METRIC = np.dtype(dtype_descr("metric"))
NAME_MAX = 32
NS_PER_MS = 1_000_000
STATE_VERSION = 1

Rows = npt.NDArray[np.void]


class WindowMetric(Processor):
    """A number for each window of each instrument in which something of `records` happened.

    A row that comes behind its window changes nothing, and gives a row of `name` and `_late`, which
    holds how many there were. A value of None, NaN or infinity is null. Of a window, the first
    `rows_max` rows are kept.
    """

    name: ClassVar[str]
    """What the metric is called."""
    window_ms: ClassVar[int]
    records: ClassVar[str] = "trade"
    """The kind of records that windows hold: `trade` or `quote`."""
    rows_max: ClassVar[int] = 1 << 20

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)
        if not 1 <= len(self.name.encode()) <= NAME_MAX or self.window_ms < 1:
            raise ValueError(
                f"expected a name of up to {NAME_MAX} bytes and a window of 1 ms or more, got "
                f"{self.name!r}, {self.window_ms}"
            )
        self._dtype = np.dtype(dtype_descr(self.records))
        self._length = self.window_ms * NS_PER_MS
        self._open: dict[int, Rows] = {}
        self._late: dict[int, int] = {}

    @abstractmethod
    def value(self, rows: Rows) -> float | None:
        """Returns the value of a window of one instrument; rows are in the order of the tape."""

    def process(self, batch: Records) -> bytes:
        """Returns a record for each window that is over, and for each row that is late."""
        rows = np.frombuffer(batch.numpy(self.records), self._dtype)
        rows = rows[rows["ts_event"] != NONE]
        made: list[tuple[int, bytes]] = []
        for number in np.unique(rows["instrument"]):
            places = np.flatnonzero(rows["instrument"] == number)
            made += self._of_instrument(int(number), rows[places], places)
        # In the order of the rows that ended them, whatever batch they came in.
        made.sort(key=lambda one: one[0])
        return b"".join(data for _, data in made)

    def _of_instrument(
        self, number: int, rows: Rows, places: npt.NDArray[np.intp]
    ) -> list[tuple[int, bytes]]:
        made = []
        held = self._open.get(number, rows[:0])
        newest = int(held["ts_event"][0]) // self._length if len(held) else None
        windows = rows["ts_event"] // self._length
        reached = np.maximum.accumulate(windows if newest is None else np.maximum(windows, newest))
        for late in np.flatnonzero(windows < reached):
            self._late[number] = count = self._late.get(number, 0) + 1
            row, name = rows[late], f"{self.name}_late"
            made.append(
                (int(places[late]), self._record(row, name, int(row["ts_event"]), count, 1))
            )
        in_time = np.flatnonzero(windows == reached)
        rows, windows, places = rows[in_time], windows[in_time], places[in_time]
        for at, part in _runs(windows, rows):
            if len(held) and windows[at] > int(held["ts_event"][0]) // self._length:
                made.append((int(places[at]), self._closed(held, part[0])))
                held = rows[:0]
            held = np.concatenate([held, part])[: self.rows_max]
        self._open[number] = held
        return made

    def _closed(self, held: Rows, following: np.void) -> bytes:
        end = (int(held["ts_event"][0]) // self._length + 1) * self._length
        value = self.value(held)
        number = np.nan if value is None or not np.isfinite(value) else float(value)
        return self._record(following, self.name, end, number, len(held))

    def _record(self, shown: np.void, name: str, ts: int, value: float, count: int) -> bytes:
        row = np.zeros((), METRIC)
        for field in ("flags", "feed", "instrument", "ts_recv"):
            row[field] = shown[field]
        row["length"], row["kind"] = METRIC.itemsize // 8, kind_of("metric")
        row["ts_event"], row["window"], row["metric"] = ts, self._length, name.encode()
        row["value"], row["count"] = value, count
        return row.tobytes()

    def snapshot(self) -> bytes:
        """Returns the rows of all open windows."""
        out = io.BytesIO()
        for array in (
            np.array([STATE_VERSION, self._length]),
            np.array(list(self._late.items()), np.int64).reshape(-1, 2),
            np.concatenate([np.zeros(0, self._dtype), *self._open.values()]),
        ):
            np.lib.format.write_array(out, array, allow_pickle=False)
        return out.getvalue()

    def restore(self, state: bytes) -> None:
        """Takes in the rows of all open windows.

        Raises:
            ValueError: they are of another window or version.
        """
        stored = io.BytesIO(state)
        version, late, rows = (
            np.lib.format.read_array(stored, allow_pickle=False) for _ in range(3)
        )
        if version.tolist() != [STATE_VERSION, self._length] or rows.dtype != self._dtype:
            raise ValueError(f"expected a state of windows of {self.window_ms} ms")
        self._late = {int(number): int(count) for number, count in late}
        numbers = np.unique(rows["instrument"])
        self._open = {int(number): rows[rows["instrument"] == number] for number in numbers}


def _runs(windows: npt.NDArray[np.int64], rows: Rows) -> Iterator[tuple[int, Rows]]:
    """Yields the rows of each window, and where they begin."""
    edges = [0, *(np.flatnonzero(np.diff(windows)) + 1).tolist(), len(rows)]
    for begin, end in pairwise(edges):
        if begin < end:
            yield begin, rows[begin:end]
