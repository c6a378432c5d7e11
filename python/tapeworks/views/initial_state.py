"""What held of instruments when a range begins, though it was told long before.

The definition and the status that were valid, the best prices that stood, and which way the price
moved last, unless something broke the stream since: a gap, a halt or its end, or the end of a
recording. They are records of the instant at which the range begins, without a time of the venue.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
    COUNT_UNKNOWN,
    GAP,
    HISTORICAL,
    KIND_OF_MARKER,
    MARKER,
    NO_EVENT_TIME,
    OUT_OF_ORDER,
    STATES,
    TIME_MIN,
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
Floors = tuple[int | None, Mapping[str, int]]
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
    """What holds when `part` begins, which it does at an instant; trades are those of `channel`."""

    def __init__(self, part: Part, channel: str) -> None:
        assert part.begin is not None
        assert part.replay.start is not None
        self._part, self._begin, self._start = part, part.begin, part.replay.start
        self._chosen, self._channel = part.replay.chosen, channel
        where = [
            self._chosen.condition(),
            "status <> ''",
            *time_condition("ts_recv", None, self._start),
        ]
        self._told = part.read("statuses", where, "order by tape_offset")
        self._gaps = part.gaps(None, self._start, (*OF_QUOTES, CHANNELS[channel]))
        self._ends = [int(ts) for ts in part.ends(None, self._start)["ts_recv"]]
        self._halts = list(self._find_halts())

    def statuses(self) -> Rows:
        """Returns of each instrument of which the venue ever told one the status."""
        found = self._newest_told()
        found["ts_recv"] = self._start
        return found

    def doubts(self) -> Rows:
        """Returns gaps that leave those statuses in doubt behind which something broke the stream:
        a halt or its end may be lost."""
        told = self._newest_told()
        is_old = [
            self._is_broken(int(one["instrument"]), int(one["ts_recv"]), self._start)
            for one in told
        ]
        told = told[np.array(is_old, np.bool_)]
        found = np.zeros(len(told), MARKER)
        found["length"], found["kind"] = MARKER.itemsize // 8, KIND_OF_MARKER
        found["instrument"], found["feed"] = told["instrument"], told["feed"]
        found["code"], found["state"] = GAP, STATES["closed"]
        found["channel"], found["count"] = CHANNELS["quote"], COUNT_UNKNOWN
        found["ts_event"] = found["ts_start"] = NONE
        found["ts_recv"] = self._start
        return found

    def quotes(self) -> Iterator[Rows]:
        """Yields the best prices that stand, behind the last ones that were not crossed."""
        floors = self._floors(OF_QUOTES)
        sound = "bid_price <= ask_price"
        for where in ([sound], []):
            rows = [
                self._part.archive.records(TABLES["quotes"], table)
                for table in self._newest("quotes", where, "true", "false", floors)
            ]
            yield self._restated(np.concatenate([np.zeros(0, QUOTE), *rows]))

    def trades(self, is_moved: bool) -> Rows:
        """Returns trades of no size whose prices tell which way those of each instrument moved, and
        what the last ones were.

        With `is_moved` the venue's own word on who took is not enough.
        """
        floors = self._floors((*OF_QUOTES, CHANNELS[self._channel]))
        moved = "coalesce(before <> price, false)"
        is_enough = moved if is_moved else f"({moved} or coalesce(side in ('buy', 'sell'), false))"
        found = [np.zeros(0, TRADE)]
        where = [f"channel = {quote(self._channel)}", "price is not null"]
        for table in self._newest(ORIGINALS, where, is_enough, moved, floors):
            place = table.column_names.index("price")
            # Behind the one that moved others came at its price.
            later = table.filter(
                pa.array([age > 1 for age in table["age"].to_pylist()], pa.bool_())
            )
            for rows, column in ((table, "before"), (table, "price"), (later, "price")):
                told = rows.set_column(place, "price", rows[column])
                found.append(self._part.archive.records(TABLES["trades"], told))
        rows = np.concatenate(found)
        rows = self._restated(rows[rows["price"] != NONE])
        rows["size"] = 0
        return rows

    def _newest_told(self) -> Rows:
        _, back = np.unique(self._told["instrument"][::-1], return_index=True)
        return self._told[len(self._told) - 1 - back]

    def _newest(
        self,
        view: str,
        where: Sequence[str],
        is_enough: str,
        is_better: str,
        floors: Floors,
    ) -> list[pa.Table]:
        """Returns the newest row of each instrument, of those that are better if there are any, and
        as its `age` the how many-th one it is.

        What is not enough may be found further back, but not before `floors`.
        """
        engine, chosen = self._part.replay.engine, self._chosen
        of_all, by_symbol = floors
        floor = None if of_all is None else of_all - self._part.delay - EDGE_NS
        found, known = [], list[str]()
        for step in STEPS_NS:
            low = None if step is None else self._begin - step
            is_last = low is None or (floor is not None and low <= floor)
            low = floor if is_last else low
            tests = [
                *where,
                chosen.condition(),
                f"flags & {HISTORICAL | OUT_OF_ORDER} <> {OUT_OF_ORDER}",
                *self._behind(of_all, by_symbol),
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
            of_symbol = "row_number() over (partition by symbol order by"
            rows = engine.run(
                f"select *, {is_enough} as is_enough, {of_symbol} {NEWEST}) as age from "
                f"(select *{before} from {view} where {' and '.join(tests)}) "
                f"qualify {of_symbol} {is_better} desc, {NEWEST}) = 1",
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

    def _behind(self, of_all: int | None, by_symbol: Mapping[str, int]) -> list[str]:
        """Returns what holds of rows behind which nothing broke the stream, as SQL."""
        if of_all is None and not by_symbol:
            return []
        floor = str(TIME_MIN if of_all is None else of_all)
        if by_symbol:
            cases = [f"when {quote(symbol)} then {ts}" for symbol, ts in by_symbol.items()]
            floor = f"case symbol {' '.join(cases)} else {floor} end"
        happened = f"epoch_ns(ts_event) + ts_event_ns + {self._part.delay}"
        received = "epoch_ns(ts_recv) + ts_recv_ns"
        return [f"if(flags & {HISTORICAL} <> 0, {happened}, {received}) >= {floor}"]

    def _restated(self, rows: Rows) -> Rows:
        """Returns `rows` as of the beginning."""
        rows["ts_event"], rows["ts_recv"] = self._begin, self._start
        rows["flags"] = FLAG_LAST | NO_EVENT_TIME
        return rows

    def _floors(self, channels: Sequence[int]) -> Floors:
        """Returns when the streams of all were broken last, and of symbols those that were later:
        by gaps of `channels` and whatever breaks all of an instrument."""
        breaks = [(0, ts) for ts in self._ends] + self._halts
        of_these = self._gaps[np.isin(self._gaps["channel"], channels)]
        breaks += zip(of_these["instrument"].tolist(), of_these["ts_recv"].tolist(), strict=True)
        of_all = max((ts for instrument, ts in breaks if instrument == 0), default=None)
        symbols = {
            number: symbol
            for symbol, number in self._part.replay.engine.tail(self._part.source).symbols().ids()
        }
        by_symbol: dict[str, int] = {}
        for instrument, ts in breaks:
            symbol = symbols.get(instrument)
            if symbol is not None and (of_all is None or ts > of_all):
                by_symbol[symbol] = max(ts, by_symbol.get(symbol, ts))
        return of_all, by_symbol

    def _find_halts(self) -> Iterator[tuple[int, int]]:
        """Yields which instrument was halted, or resumed, when: as live would have seen it."""
        last: dict[int, tuple[int, int]] = {}
        for one in self._told:
            instrument, ts, status = int(one["instrument"]), int(one["ts_recv"]), int(one["status"])
            before, since = last.get(instrument, (TRADING, ts))
            is_again = before == status != TRADING and self._is_broken(instrument, since, ts)
            if before != status or is_again:
                yield instrument, ts
            last[instrument] = status, ts

    def _is_broken(self, instrument: int, since: int, until: int) -> bool:
        """Says whether anything broke the stream of an instrument between two times."""
        received = self._gaps["ts_recv"]
        is_own = (self._gaps["instrument"] == 0) | (self._gaps["instrument"] == instrument)
        is_within = (received > since) & (received <= until)
        return bool((is_own & is_within).any()) or any(since < ts <= until for ts in self._ends)
