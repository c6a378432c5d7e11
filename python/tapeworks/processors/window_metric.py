"""A metric of the user's own as a function over windows: the trades of each, in, a number out.

    class Vwap(WindowMetric):
        name = "vwap_10ms"
        window_ms = 10

        def value(self, rows):
            return np.average(rows["price"] / 1e9, weights=rows["size"])

In the settings it is a processor, `[processors.vwap]` with `kind = "my_package:Vwap"`. A window is
[kW, (k+1)W) of the venue's time; it is over with the first row behind it. Live and in replay, at
any batch size and across restarts, the values are the same: `value` must look at its rows alone.

A row that is out of order says nothing of how far that time has come, nor does one of the venue's
history once one came live.

A window is null that a gap, the end of a session, a halt or a resumption cuts, or the start of an
instrument's rows: not all of it is known. Trades are those that bars and metrics are made of.
"""

import io
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from tapeworks._core import NONE, Records, dtype_descr, held_back, kind_of, numbers
from tapeworks.processors.base import Processor, ProcessorConfig

METRIC = np.dtype(dtype_descr("metric"))
MARKER = np.dtype(dtype_descr("marker"))
STATUS = np.dtype(dtype_descr("status"))
CHANNELS, CODES = numbers("channel"), numbers("marker_code")
REPAIRED = numbers("gap_state")["repaired"]
HISTORICAL, OUT_OF_ORDER = 4, 8
NAME_MAX = 32
NS_PER_MS = 1_000_000
NO_WINDOW = -(2**63)
TRADING = 1
STATE_VERSION = 4

Rows = npt.NDArray[np.void]
Table = dict[int, int]


@dataclass(frozen=True)
class WindowMetricConfig(ProcessorConfig):
    """The settings of a metric over windows."""

    trades: Literal["auto", "trade", "agg_trade"] = "auto"
    """Which stream of trades windows hold; `auto`: that of `[processors]`."""


class WindowMetric(Processor):
    """A number for each window of each instrument in which something of `records` happened.

    A row that comes when its window is over, or ahead of its time, changes nothing, and gives a row
    of `name` and `_late`, which holds how many there were. A value of None, NaN or infinity is
    null. Of a window, the first `rows_max` rows are kept. A trade without a price or size is left
    out; of a quote, a side on which there is nothing has the price `NONE`.
    """

    Config = WindowMetricConfig
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
        trades = "agg_trade" if getattr(config, "trades", "") == "agg_trade" else "trade"
        self._channel = CHANNELS.get(trades if self.records == "trade" else self.records, 0)
        self._open: dict[int, Rows] = {}
        self._late: Table = {}
        self._since: Table = {}
        """From when on the rows of an instrument are known; none: from its next one on."""
        self._live: Table = {}
        """Instruments of which a row came live since then."""
        self._broken: Table = {}
        """Until when gaps went on, of an instrument, or of all by 0."""
        self._status: Table = {}
        self._doubted: Table = {}
        """Instruments whose status may have ended unseen since it was told."""

    @abstractmethod
    def value(self, rows: Rows) -> float | None:
        """Returns the value of a window of one instrument; rows are in the order of the tape."""

    def process(self, batch: Records) -> bytes:
        """Returns a record for each window that is over, and for each row that is late."""
        rows, begin, made = np.frombuffer(batch.numpy(self.records), self._dtype), 0, []
        for end, broken, until in self._breaks(batch):
            made += self._of_rows(rows[begin:end])
            begin = end
            self._break(broken)
            if until != NONE:
                self._broken[broken] = max(self._broken.get(broken, until), until)
        return b"".join(made + self._of_rows(rows[begin:]))

    def lost(self, first: int, last: int) -> None:
        """Takes in that records of whatever instruments are gone."""
        self._break(0)
        self._doubt(0)

    def _doubt(self, number: int) -> None:
        """Takes in that a halt or its end may be lost, of an instrument or of all."""
        self._doubted.update(dict.fromkeys([number] if number else self._status, 1))

    def _break(self, number: int) -> None:
        for table in (self._since, self._live):
            if number:
                table.pop(number, None)
            else:
                table.clear()

    def _breaks(self, batch: Records) -> Iterator[tuple[int, int, int]]:
        """Yields how many rows stand before what breaks their stream, of which instrument, and up
        to when."""
        kinds = [kind_of(name) for name in (self.records, "marker", "status")]
        markers = np.frombuffer(batch.numpy("marker"), MARKER)
        statuses = np.frombuffer(batch.numpy("status"), STATUS)
        is_break = self._are_breaks(markers)
        if not is_break.any() and not len(statuses):
            return
        records, at = memoryview(batch), 0
        seen = dict.fromkeys(kinds, 0)
        while at < records.nbytes:
            kind = records[at + 1]
            if kind in seen:
                place, before = seen[kind], seen[kinds[0]]
                seen[kind] += 1
                if kind == kinds[1] and is_break[place]:
                    is_gap = markers["code"][place] == CODES["gap"]
                    until = int(markers["ts_event"][place]) if is_gap else NONE
                    number = int(markers["instrument"][place])
                    self._doubt(number)
                    yield before, number, until
                elif kind == kinds[2] and self._is_turn(statuses[place]):
                    yield before, int(statuses["instrument"][place]), NONE
            at += records[at] * 8

    def _are_breaks(self, markers: Rows) -> npt.NDArray[np.bool_]:
        concerned = [0, CHANNELS["session"], self._channel]
        # Of feeds of single orders, trades are among them.
        concerned += [CHANNELS["order"]] if self.records == "trade" else []
        is_gap = (markers["code"] == CODES["gap"]) & (markers["state"] != REPAIRED)
        is_gap &= np.isin(markers["channel"], concerned)
        return np.asarray(is_gap | (markers["code"] == CODES["end_of_session"]), np.bool_)

    def _is_turn(self, status: np.void) -> bool:
        """Takes in whether an instrument is traded; returns whether that was otherwise.

        Before a halt it may have been where nothing was told for sure.
        """
        number, found = int(status["instrument"]), int(status["status"])
        if not number or not found:
            return False
        before = self._status.get(number)
        self._status[number] = found
        was_doubted = self._doubted.pop(number, 0) == 1
        if before is None:
            return found != TRADING
        return before != found or (was_doubted and found != TRADING)

    def _of_rows(self, rows: Rows) -> list[bytes]:
        known = rows["ts_event"] != NONE
        if self.records == "trade":
            known &= (rows["price"] != NONE) & (rows["size"] != NONE)
            known &= (rows["channel"] == self._channel) & ~_is_held_back(rows)
        rows = rows[known]
        made: list[tuple[int, bytes]] = []
        for number in np.unique(rows["instrument"]):
            places = np.flatnonzero(rows["instrument"] == number)
            made += self._of_instrument(int(number), rows[places], places)
        # In the order of the rows that ended them, whatever batch they came in.
        made.sort(key=lambda one: one[0])
        return [data for _, data in made]

    def _of_instrument(
        self, number: int, rows: Rows, places: npt.NDArray[np.intp]
    ) -> list[tuple[int, bytes]]:
        made = []
        held = self._open.get(number, rows[:0])
        newest = int(held["ts_event"][0]) // self._length if len(held) else NO_WINDOW
        windows = rows["ts_event"] // self._length
        times = np.where(self._tells_time(number, rows["flags"]), windows, newest)
        reached = np.maximum.accumulate(np.maximum(times, newest))
        for late in np.flatnonzero(windows != reached):
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
            if number not in self._since:
                # The window that is open was cut, also where time did not go on since.
                since = [int(part["ts_event"][0])]
                since += [int(ts) // self._length * self._length for ts in held["ts_event"][:1]]
                since += [self._broken[key] for key in (0, number) if key in self._broken]
                self._since[number] = max(since)
            held = np.concatenate([held, part])[: self.rows_max]
        self._open[number] = held
        return made

    def _tells_time(self, number: int, flags: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        """Says of each row of an instrument whether the venue's time has come to it."""
        is_live = flags & (HISTORICAL | OUT_OF_ORDER) == 0
        was_live = np.logical_or.accumulate(is_live) | (number in self._live)
        if was_live[-1:].any():
            self._live[number] = 1
        return np.asarray(is_live | (flags & OUT_OF_ORDER == 0) & ~was_live, np.bool_)

    def _closed(self, held: Rows, following: np.void) -> bytes:
        begin = int(held["ts_event"][0]) // self._length * self._length
        end = begin + self._length
        # What else came at that very time is not known.
        is_whole = begin > self._since.get(int(held["instrument"][0]), NONE)
        value = self.value(held) if is_whole else None
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

    @property
    def _tables(self) -> tuple[Table, ...]:
        return (
            *(self._late, self._since, self._live),
            *(self._broken, self._status, self._doubted),
        )

    def snapshot(self) -> bytes:
        """Returns the rows of all open windows."""
        out = io.BytesIO()
        for array in (
            np.array([STATE_VERSION, self._length, self._channel]),
            *(np.array(list(table.items()), np.int64).reshape(-1, 2) for table in self._tables),
            np.concatenate([np.zeros(0, self._dtype), *self._open.values()]),
        ):
            np.lib.format.write_array(out, array, allow_pickle=False)
        return out.getvalue()

    def restore(self, state: bytes) -> None:
        """Takes in the rows of all open windows.

        Raises:
            ValueError: they are of another window, channel or version.
        """
        stored = io.BytesIO(state)
        expected = [STATE_VERSION, self._length, self._channel]
        if np.lib.format.read_array(stored, allow_pickle=False).tolist() != expected:
            raise ValueError(f"expected a state of windows of {self.window_ms} ms")
        count = len(self._tables) + 1
        *tables, rows = (np.lib.format.read_array(stored, allow_pickle=False) for _ in range(count))
        if rows.dtype != self._dtype:
            raise ValueError(f"expected a state of windows of {self.records} records")
        for table, found in zip(self._tables, tables, strict=True):
            table.clear()
            table.update((int(number), int(value)) for number, value in found)
        ids = np.unique(rows["instrument"])
        self._open = {int(number): rows[rows["instrument"] == number] for number in ids}


def _is_held_back(rows: Rows) -> npt.NDArray[np.bool_]:
    """Says of each trade whether its conditions keep it from counting for volume."""
    held = np.zeros(len(rows), np.bool_)
    conditions = rows["conditions"]
    for feed in np.unique(rows["feed"][conditions != 0]):
        table = np.zeros(256, np.bool_)
        table[held_back(int(feed), is_daily=False)[2]] = True
        of_feed = rows["feed"] == feed
        held |= of_feed & (table[conditions & 255] | table[conditions >> 8])
    return held


def _runs(windows: npt.NDArray[np.int64], rows: Rows) -> Iterator[tuple[int, Rows]]:
    """Yields the rows of each window, and where they begin."""
    edges = [0, *(np.flatnonzero(np.diff(windows)) + 1).tolist(), len(rows)]
    for begin, end in pairwise(edges):
        if begin < end:
            yield begin, rows[begin:end]
