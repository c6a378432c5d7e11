"""Records of a source in the order in which they would have come live.

What the venue's history told later stands where it happened, and a gap that it filled is none. The
end of a recording, which the lake holds in a table of its own, stands where it was noted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tapeworks import _core
from tapeworks._core import NONE, Records, numbers
from tapeworks.lake import TABLES
from tapeworks.views.archive import Archive
from tapeworks.views.conditions import time_condition
from tapeworks.views.corrections import ORIGINALS
from tapeworks.views.entries import gaps_sql, has_entries
from tapeworks.views.query import Scope, table_of
from tapeworks.views.replay import Replay
from tapeworks.views.stream import starts_of

Rows = npt.NDArray[Any]
TRADE, MARKER = (np.dtype(_core.dtype_descr(kind)) for kind in ("trade", "marker"))
KIND_OF_TRADE, KIND_OF_QUOTE, KIND_OF_MARKER = map(_core.kind_of, ("trade", "quote", "marker"))
EVENTS = [KIND_OF_TRADE, KIND_OF_QUOTE, _core.kind_of("order")]
HISTORICAL, OUT_OF_ORDER, NO_EVENT_TIME = 4, 8, 128
STATES, CAUSES = numbers("gap_state"), numbers("gap_cause")
GAP = numbers("marker_code")["gap"]
COUNT_UNKNOWN = 0xFFFF_FFFF
# What history tells of, and the tables that hold it as it was told.
TOLD_LATER = {"trades": ORIGINALS, "quotes": "quotes"}
HISTORY_ROWS = 65_536
# An event that says to be so far ahead of its receipt tells nothing of those before it.
BOLD_NS = 60_000_000_000
TIME_MIN = -(2**62)


@dataclass(frozen=True)
class Part:
    """The records of one source of which something is made."""

    replay: Replay
    """Of that source; its range is of receipt."""
    begin: int | None
    """From which event on, in ns; none: from the first of all."""
    end: int | None
    delay: int
    """How much later than it happened an event was received."""

    @property
    def source(self) -> str:
        """The source."""
        return self.replay.chosen.sources[0]

    @cached_property
    def archive(self) -> Archive:
        """Makes records of its rows."""
        return Archive(self.replay.engine.tail(self.source))

    @cached_property
    def filled(self) -> FilledGaps:
        """Which of its gaps the venue's history filled."""
        return FilledGaps(self)

    def read(self, view: str, where: Sequence[str], order: str) -> Rows:
        """Returns what the rows of a view were made of."""
        sql = f"select * from {view} where {' and '.join(where)} {order}"
        rows = self.replay.engine.run(sql, [view], Scope([self.source]))
        return self.archive.records(table_of(view), rows)

    def ends(self, start: int | None, end: int | None) -> Rows:
        """Returns markers of the ends of recordings within a range of receipt, in its order."""
        received = self._ends["ts_recv"]
        low = 0 if start is None else int(np.searchsorted(received, start))
        high = len(received) if end is None else int(np.searchsorted(received, end))
        return self._ends[low:high]

    @cached_property
    def _ends(self) -> Rows:
        order = "order by ts_recv, ts_recv_ns, tape_offset"
        return self.read("sessions", ["code = 'end_of_session'"], order).view(MARKER)

    def gaps(self, start: int | None, end: int | None, channels: Sequence[int] = ()) -> Rows:
        """Returns markers of gaps that nothing filled, as `ends` does; `channels`: of these."""
        of_symbols = f"(symbol is null or {self.replay.chosen.condition()})"
        where = [of_symbols, "state <> 'repaired'", *time_condition("ts_detected", start, end)]
        order = "order by ts_detected, ts_detected_ns, tape_offset"
        rows = self.read("gaps", where, order).view(MARKER)
        rows = rows[~self.filled.among(rows)]
        return rows[np.isin(rows["channel"], channels)] if channels else rows

    def in_live_order(self) -> Iterator[Records]:
        """Yields its records in the order in which they would have come live."""
        within = self.replay.start, self.replay.end
        merge = _Merge(self, self.gaps(*within), self.ends(*within))
        history = _History(self)
        for batch in self.replay:
            yield merge.take(batch.records, history)
        yield merge.rest(history)


class FilledGaps:
    """Gaps that the venue's history filled later, by what their markers say."""

    def __init__(self, part: Part) -> None:
        replay, source = part.replay, part.source
        self._exact: set[tuple[int, ...]] = set()
        self._of_cause: set[tuple[int, ...]] = set()
        self._begin: set[tuple[int, ...]] = set()
        self._ids: dict[tuple[int, ...], list[tuple[int, int]]] = {}
        if not has_entries(replay.data, source, replay.engine.tail(source)):
            return
        entries = gaps_sql(replay.data, replay.chosen, None, None)
        rows = replay.engine.run(
            f"select * from ({entries}) where state = 'repaired'", ["gaps"], Scope([source])
        )
        for gap in part.archive.records(TABLES["gaps"], rows):
            begin, cause = _begin_of(gap), int(gap["cause"])
            self._exact.add((*begin, cause, int(gap["first"]), int(gap["last"])))
            self._of_cause.add((*begin, cause))
            self._begin.add(begin)
            self._ids.setdefault(begin[:2], []).append((int(gap["first"]), int(gap["last"])))

    def has(self, marker: np.void) -> bool:
        """Says whether a marker tells of a loss that was filled.

        So does that of an outage in which nothing else was lost, as ids show: it begins with the
        gap.
        """
        begin, cause = _begin_of(marker), int(marker["cause"])
        if marker["state"] not in (STATES["open"], STATES["closed"]):
            return False
        is_open = marker["state"] == STATES["open"]
        if cause == CAUSES["disconnect"] and (is_open or marker["count"] != COUNT_UNKNOWN):
            return begin in self._begin
        if is_open:
            return (*begin, cause) in self._of_cause
        return (*begin, cause, int(marker["first"]), int(marker["last"])) in self._exact

    def among(self, markers: Rows) -> npt.NDArray[np.bool_]:
        """Says of each record, seen as a marker, whether it tells of such a loss."""
        found = np.zeros(len(markers), np.bool_)
        if self._begin:
            is_gap = (markers["kind"] == KIND_OF_MARKER) & (markers["code"] == GAP)
            for at in np.flatnonzero(is_gap):
                found[at] = self.has(markers[at])
        return found

    def told_later(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """Says which trades and quotes history told, or filled a gap as a line was late."""
        is_history = rows["flags"] & HISTORICAL != 0
        if self._ids:
            is_late = (rows["kind"] == KIND_OF_TRADE) & (rows["flags"] & OUT_OF_ORDER != 0)
            for at in np.flatnonzero(is_late & ~is_history):
                key = int(rows["instrument"][at]), int(rows["channel"][at])
                number = int(rows["sequence"][at])
                spans = self._ids.get(key, ())
                is_history[at] = any(first <= number <= last for first, last in spans)
        return np.asarray(is_history)


def _begin_of(gap: np.void) -> tuple[int, ...]:
    return int(gap["instrument"]), int(gap["channel"]), int(gap["ts_start"])


class _History:
    """What was told later of a range, by the time of the event."""

    def __init__(self, part: Part) -> None:
        where = " and ".join(
            [
                part.replay.chosen.condition(),
                f"flags & {HISTORICAL | OUT_OF_ORDER} != 0",
                *time_condition("ts_event", part.begin, part.end),
            ]
        )
        self._archive, self._filled = part.archive, part.filled
        self._read: dict[str, Iterator[pa.RecordBatch]] = {}
        self._held: dict[str, Rows] = {}
        for table, view in TOLD_LATER.items():
            _, self._read[table] = part.replay.engine.stream(
                f"select * from {view} where {where} "
                "order by ts_event, ts_event_ns, sequence, tape_offset",
                [view],
                Scope([part.source], part.begin, part.end),
                HISTORY_ROWS,
            )
            self._held[table] = np.zeros(0, TRADE)

    def until(self, ts: int | None) -> Rows:
        """Returns what is not given yet of events up to `ts`, or all; quotes as trades as well."""
        found = []
        for table in TOLD_LATER:
            while table in self._read and (
                ts is None or not len(self._held[table]) or self._held[table]["ts_event"][-1] <= ts
            ):
                batch = next(self._read[table], None)
                if batch is None:
                    del self._read[table]
                    break
                told = self._archive.records(TABLES[table], pa.Table.from_batches([batch]))
                rows = told.view(TRADE)[self._filled.told_later(told.view(TRADE))]
                self._held[table] = np.concatenate([self._held[table], rows])
            held = self._held[table]
            count = len(held) if ts is None else int(np.searchsorted(held["ts_event"], ts, "right"))
            found.append(held[:count])
            self._held[table] = held[count:]
        return _by_event(np.concatenate(found))


def _by_event(rows: Rows) -> Rows:
    return rows[np.argsort(rows["ts_event"], kind="stable")]


class _Merge:
    """Puts what is to be added in its place among records as they came, batch by batch."""

    def __init__(self, part: Part, gaps: Rows, ends: Rows) -> None:
        self._delay, self._filled = part.delay, part.filled
        # A gap is told right before the event that shows it, of whose receipt it is.
        self._before, self._behind = gaps, ends
        self._waiting = np.zeros(0, TRADE)
        self._reached = TIME_MIN

    def take(self, records: Records, history: _History) -> Records:
        """Returns the next records as they came, and what belongs before the last of them."""
        if not len(records):
            return records
        words = np.frombuffer(memoryview(records), np.uint8).reshape(-1, 64)
        starts = starts_of(records)
        heads = words[starts]
        is_kept = ~self._is_dropped(heads.view(TRADE)[:, 0])
        if not is_kept.all():
            lengths = np.diff(starts, append=len(words))
            words, heads = words[np.repeat(is_kept, lengths)], heads[is_kept]
            starts = np.append(0, np.cumsum(lengths[is_kept]))[:-1]
        live = heads.view(TRADE)[:, 0]
        received = np.where(live["ts_recv"] == NONE, TIME_MIN, live["ts_recv"])
        received = np.maximum.accumulate(np.append(self._reached, received))
        reached, received = int(received[-1]), received[1:]
        self._wait_for(history, live, reached)
        at = self._places(live, received)
        # What belongs behind the last of them may belong before the next one.
        added, self._waiting = self._split(self._waiting, at < len(live))
        at = at[at < len(live)]
        added = self._as_live(added, np.append(self._reached, received)[at], received[at])
        self._reached = reached
        gaps_at = np.searchsorted(received, self._before["ts_recv"], "left")
        gaps, self._before = self._split(self._before, gaps_at < len(live))
        ends_at = np.searchsorted(received, self._behind["ts_recv"], "right")
        ends, self._behind = self._split(self._behind, ends_at < len(live))
        if not len(gaps) + len(ends) + len(added):
            return records if is_kept.all() else Records.from_bytes(words.tobytes())
        places = np.concatenate([gaps_at[: len(gaps)], ends_at[: len(ends)], at])
        return Records.from_bytes(
            np.insert(
                words, starts[np.sort(places)], _in_order([gaps, ends, added], places), axis=0
            ).tobytes()
        )

    def rest(self, history: _History) -> Records:
        """Returns what belongs behind all records."""
        added = _by_event(np.concatenate([self._waiting, history.until(None)]))
        before = np.full(len(added), self._reached)
        added = self._as_live(added, before, np.maximum(before, added["ts_event"] + self._delay))
        parts = [self._before, self._behind, added]
        places = np.zeros(sum(map(len, parts)), np.int64)
        return Records.from_bytes(_in_order(parts, places).tobytes())

    def _is_dropped(self, live: Rows) -> npt.NDArray[np.bool_]:
        """Says which records do not stay where they are, as they were told later."""
        is_told = (live["kind"] == KIND_OF_TRADE) | (live["kind"] == KIND_OF_QUOTE)
        return np.asarray(is_told & self._filled.told_later(live))

    def _wait_for(self, history: _History, live: Rows, reached: int) -> None:
        """Reads what may belong before the last of `live`."""
        until = reached - self._delay
        happened = live["ts_event"][self._are_events(live)]
        if len(happened):
            until = max(until, min(int(happened.max()), until + BOLD_NS))
        told = history.until(until)
        if len(told):
            self._waiting = _by_event(np.concatenate([self._waiting, told]))

    def _places(self, live: Rows, received: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Returns before which of `live` each of what waits belongs.

        That is where it would have been received, but never before an event of its instrument that
        happened earlier, nor behind one that happened later.
        """
        waiting = self._waiting
        at = np.searchsorted(received, waiting["ts_event"] + self._delay, "left")
        is_event = self._are_events(live)
        has_time = live["flags"] & NO_EVENT_TIME == 0
        times = np.where(has_time, live["ts_event"], live["ts_recv"] - self._delay)
        for instrument in np.unique(waiting["instrument"]):
            rows = np.flatnonzero(waiting["instrument"] == instrument)
            own = np.flatnonzero(is_event & (live["instrument"] == instrument))
            if not len(own):
                continue
            happened = np.maximum.accumulate(times[own])
            earlier = np.searchsorted(happened, waiting["ts_event"][rows], "left")
            not_later = np.searchsorted(happened, waiting["ts_event"][rows], "right")
            for row in np.flatnonzero(earlier < not_later):
                same = live[own[earlier[row] : not_later[row]]]
                earlier[row] += _before_number(same, waiting[rows[row]])
            edges = np.concatenate([[-1], own, [len(live)]])
            at[rows] = np.clip(at[rows], edges[earlier] + 1, edges[earlier + 1])
        return at

    @staticmethod
    def _are_events(live: Rows) -> npt.NDArray[np.bool_]:
        """Says which records tell how far the venue's time is."""
        is_timed = (live["flags"] & OUT_OF_ORDER == 0) & (live["ts_event"] != NONE)
        return np.asarray(np.isin(live["kind"], EVENTS) & is_timed)

    def _as_live(self, rows: Rows, low: npt.NDArray[np.int64], high: npt.NDArray[np.int64]) -> Rows:
        """Returns rows of history as if they had come live; of their latency nothing is known."""
        rows = rows.copy()
        rows["ts_recv"] = np.clip(rows["ts_event"] + self._delay, low, np.maximum(low, high))
        rows["flags"] &= ~np.uint8(HISTORICAL | OUT_OF_ORDER)
        rows["flags"] |= np.uint8(NO_EVENT_TIME)
        return rows

    @staticmethod
    def _split(rows: Rows, is_taken: npt.NDArray[np.bool_]) -> tuple[Rows, Rows]:
        return rows[is_taken], rows[~is_taken]


def _before_number(same: Rows, row: np.void) -> int:
    """Returns behind how many of events of one time a trade belongs: trades are numbered."""
    is_before = (
        (same["kind"] == row["kind"])
        & (same["channel"] == row["channel"])
        & (same["sequence"] < row["sequence"])
    )
    if row["kind"] != KIND_OF_TRADE or not is_before.any():
        return 0
    return int(np.flatnonzero(is_before)[-1]) + 1


def _in_order(parts: Sequence[Rows], places: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Returns records by the place where they belong, and there by receipt."""
    times = np.concatenate([rows["ts_recv"] for rows in parts])
    return np.concatenate([_bytes_of(rows) for rows in parts])[np.lexsort((times, places))]


def _bytes_of(rows: Rows) -> npt.NDArray[np.uint8]:
    return np.frombuffer(rows.tobytes(), np.uint8).reshape(-1, 64)
