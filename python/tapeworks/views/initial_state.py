"""What held of instruments when a range begins, though it was told long before.

The definition and the status that were valid, the best prices that stood, and which way the price
moved last, unless something broke the stream since: a gap, a halt or its end, or the end of a
recording. They are records of the instant at which the range begins, without a time of the venue.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tapeworks import _core
from tapeworks._core import NONE, numbers
from tapeworks.lake import TABLES
from tapeworks.views.conditions import time_condition
from tapeworks.views.corrections import ORIGINALS
from tapeworks.views.held_back import rules_of
from tapeworks.views.live_order import (
    HISTORICAL,
    NO_EVENT_TIME,
    OUT_OF_ORDER,
    TRADE,
    Part,
)
from tapeworks.views.query import Scope, quote

Rows = npt.NDArray[Any]
DEFINITION, QUOTE = (np.dtype(_core.dtype_descr(kind)) for kind in ("definition", "quote"))
CHANNELS = numbers("channel")
TRADING = _core.field_names("status")["status"].index("trading")
FLAG_LAST = 1
# Gaps of these leave nothing that is known; those of trades leave the best prices.
OF_QUOTES = (0, CHANNELS["session"], CHANNELS["order"], CHANNELS["quote"])
HOUR_NS = 3_600_000_000_000
# So far back is looked, and further only for what is not found there.
STEPS_NS = (HOUR_NS, 24 * HOUR_NS, 32 * 24 * HOUR_NS, None)
# What is received before a recording ends happened by so much later at the latest.
EDGE_NS = 60_000_000_000
OLDEST = "ts_event, ts_event_ns, sequence, tape_offset"
NEWEST = "ts_event desc, ts_event_ns desc, sequence desc, tape_offset desc"


def definitions(part: Part) -> Rows:
    """Returns of each instrument the definition that was valid, or else its first one."""
    chosen, start = part.replay.chosen, part.replay.start
    symbols = part.replay.engine.tail(part.source).symbols()
    newest = np.frombuffer(symbols.records().numpy("definition"), DEFINITION)
    told = part.read("instruments", [chosen.condition()], "order by tape_offset")
    rows = np.concatenate([told, newest])
    if chosen.symbols is not None:
        rows = rows[np.isin(rows["symbol"], [name.encode() for name in chosen.names])]
    rows = rows[np.argsort(rows["ts_recv"], kind="stable")]
    valid: dict[int, int] = {}
    for at, (instrument, received) in enumerate(rows[["instrument", "ts_recv"]].tolist()):
        if instrument not in valid or (start is not None and received < start):
            valid[instrument] = at
    found = rows[list(valid.values())]
    if start is not None:
        found["ts_recv"] = start
    return found


class InitialState:
    """What holds when `part` begins, which it does at an instant."""

    def __init__(self, part: Part) -> None:
        assert part.begin is not None
        assert part.replay.start is not None
        self._part, self._begin, self._start = part, part.begin, part.replay.start
        self._chosen = part.replay.chosen
        where = [self._chosen.condition(), "status <> ''", *self._received(None)]
        self._told = part.read("statuses", where, "order by tape_offset")

    def statuses(self) -> Rows:
        """Returns of each instrument of which the venue ever told one the status."""
        _, back = np.unique(self._told["instrument"][::-1], return_index=True)
        found = self._told[len(self._told) - 1 - back]
        found["ts_recv"] = self._start
        return found

    def quotes(self) -> Rows:
        """Returns the best prices that stand."""
        rows = [
            self._part.archive.records(TABLES["quotes"], table)
            for table in self._newest("quotes", [], "true", "false")
        ]
        return self._restated(np.concatenate([np.zeros(0, QUOTE), *rows]), OF_QUOTES)

    def trades(self, channel: str, are_signed: bool) -> Rows:
        """Returns trades of no size whose prices tell which way those of each instrument moved.

        With `are_signed` the venue's own word on who took is not enough.
        """
        moved = "coalesce(before <> price, false)"
        is_enough = (
            moved if are_signed else f"({moved} or coalesce(side in ('buy', 'sell'), false))"
        )
        found = [np.zeros(0, TRADE)]
        where = [f"channel = {quote(channel)}", "price is not null"]
        for table in self._newest(ORIGINALS, where, is_enough, moved):
            place = table.column_names.index("price")
            for column in ("before", "price"):
                rows = table.set_column(place, "price", table[column])
                found.append(self._part.archive.records(TABLES["trades"], rows))
        rows = np.concatenate(found)
        rows = self._restated(rows[rows["price"] != NONE], (*OF_QUOTES, CHANNELS[channel]))
        rows["size"] = 0
        return rows

    def _received(self, since: int | None, column: str = "ts_recv") -> list[str]:
        return time_condition(column, since, self._start)

    def _newest(
        self, view: str, where: Sequence[str], is_enough: str, is_better: str
    ) -> list[pa.Table]:
        """Returns the newest row of each instrument, of those that are better if there are any.

        What is not enough may be found further back.
        """
        engine, chosen = self._part.replay.engine, self._chosen
        ends = self._part.ends(None, self._start)["ts_recv"]
        floor = int(ends.max()) - self._part.delay - EDGE_NS if len(ends) else None
        found, known = [], list[str]()
        for step in STEPS_NS:
            low = None if step is None else self._begin - step
            is_last = low is None or (floor is not None and low <= floor)
            low = floor if is_last else low
            tests = [
                *where,
                chosen.condition(),
                f"flags & {HISTORICAL | OUT_OF_ORDER} <> {OUT_OF_ORDER}",
            ]
            tests += time_condition("ts_event", low, self._begin)
            if known:
                tests.append(f"symbol not in ({', '.join(map(quote, known))})")
            if view == ORIGINALS and (rules := rules_of(engine, chosen, low, self._begin, 0)):
                tests.append(rules.opens)
            before = (
                ""
                if view != ORIGINALS
                else (f", lag(price) over (partition by symbol order by {OLDEST}) as before")
            )
            rows = engine.run(
                f"select *, {is_enough} as is_enough from (select *{before} from {view} "
                f"where {' and '.join(tests)}) qualify row_number() over "
                f"(partition by symbol order by {is_better} desc, {NEWEST}) = 1",
                [view],
                Scope([self._part.source], low, self._begin),
            )
            is_kept = [is_last or is_enough for is_enough in rows["is_enough"].to_pylist()]
            rows = rows.filter(pa.array(is_kept, pa.bool_()))
            found.append(rows)
            known += rows["symbol"].to_pylist()
            if is_last or (chosen.symbols is not None and len(known) >= len(chosen.names)):
                break
        return found

    def _restated(self, rows: Rows, channels: Sequence[int]) -> Rows:
        """Returns those of `rows` behind which nothing broke the stream, as of the beginning."""
        if not len(rows):
            return rows
        is_late = rows["flags"] & HISTORICAL != 0
        received = np.where(is_late, rows["ts_event"] + self._part.delay, rows["ts_recv"])
        breaks = self._breaks(int(received.min()), channels)
        stands = [
            not any(
                at > own and instrument in (0, int(row["instrument"])) for instrument, at in breaks
            )
            for row, own in zip(rows, received.tolist(), strict=True)
        ]
        rows = rows[np.array(stands, np.bool_)]
        rows["ts_event"], rows["ts_recv"] = self._begin, self._start
        rows["flags"] = FLAG_LAST | NO_EVENT_TIME
        return rows

    def _breaks(self, since: int, channels: Sequence[int]) -> list[tuple[int, int]]:
        """Returns which instrument's stream was broken when, of all with the number 0."""
        gaps = self._part.gaps(since, self._start, channels)
        found = [(0, int(ts)) for ts in self._part.ends(since, self._start)["ts_recv"]]
        found += [(int(gap["instrument"]), int(gap["ts_recv"])) for gap in gaps]
        status: dict[int, int] = {}
        for told in self._told:
            instrument = int(told["instrument"])
            if status.get(instrument, TRADING) != told["status"]:
                found.append((instrument, int(told["ts_recv"])))
            status[instrument] = int(told["status"])
        return found
