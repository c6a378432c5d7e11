"""Whether rules of alerts looked at what is asked for: where none did, no alerts are no news.

A rule looks at the symbols that it is for, from the record on at which it was set, as far as the
tape of alerts covers what was received.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tapeworks._core import TapeReader
from tapeworks.alert_watches import Watch, read_watches
from tapeworks.topics import ALERTS, NORMALIZED, RAW
from tapeworks.views.query import Engine
from tapeworks.views.reach import RUNS_S, newest_receipt, waiting_frames
from tapeworks.views.recorded import EDGE_NS
from tapeworks.views.sessions import Range, subtract, union
from tapeworks.views.stream import earliest_event
from tapeworks.views.symbols import Chosen
from tapeworks.views.tail import SourceTail
from tapeworks.views.times import TIME_MAX, TIME_MIN, format_time

NOBODY = "no rule has looked at it"
NAMES_SHOWN = 5


def unwatched(
    engine: Engine,
    data: Path,
    chosen: Chosen,
    first: int | None = None,
    last: int | None = None,
    *,
    rule: str | None = None,
    severity: str | None = None,
) -> list[str]:
    """Returns sentences on what no rule looked at of what is asked for; none: rules saw all of it.

    `rule` and `severity` choose the rules that count. Without `first` it is asked from where those
    rules began that look last; without `last`, or one that is later, up to what was received last.
    """
    lines: list[str] = []
    for source in chosen.sources:
        watches = [
            one
            for one in read_watches(data, source)
            if rule in (None, one.rule) and severity in (None, one.severity)
        ]
        symbols = None if chosen.symbols is None else chosen.symbols.get(source, [])
        found = _of_source(engine.tail(source), watches, symbols, first, last)
        lines += (f"{source}: {line}" for line in found)
    return lines or ([] if chosen.sources else ["nothing is recorded here"])


def _of_source(
    tail: SourceTail,
    watches: Sequence[Watch],
    symbols: Sequence[str] | None,
    first: int | None,
    last: int | None,
) -> Iterator[str]:
    if not watches:
        yield NOBODY
        return
    newest, until = _reach(tail)
    if newest is None or (first is not None and first > newest):
        after = "" if newest is None else f" after {format_time(newest)}"
        yield f"nothing was recorded{after}"
        return
    end = newest + 1 if last is None else min(last, newest + 1)
    missing: dict[tuple[Range, ...], list[str]] = {}
    for symbol in [""] if symbols is None else symbols:
        looked = union(
            span
            for one in watches
            if not symbol or one.looks_at(symbol)
            for low, high in [one.span]
            for span in [(low, min(high, until))]
            if span[0] < span[1]
        )
        start = first
        if start is None:
            start = looked[-1][0] if looked else TIME_MIN
        spans = tuple(subtract([(start, end)], looked)) if start < end else ()
        missing.setdefault(spans, []).append(symbol)
    for spans, names in missing.items():
        more = f" and {len(names) - NAMES_SHOWN:,} more" if len(names) > NAMES_SHOWN else ""
        what = f" at {', '.join(names[:NAMES_SHOWN])}{more}" if names != [""] else ""
        for low, high in spans:
            yield f"no rule looked{what}{_when(low, high if high < end else None)}"


def _when(low: int, high: int | None) -> str:
    if low == TIME_MIN:
        return "" if high is None else f" before {format_time(high)}"
    after = f" from {format_time(low)}"
    return f"{after} on" if high is None else f"{after} to {format_time(high)}"


def _reach(tail: SourceTail) -> tuple[int | None, int]:
    """Returns when the last record was received, and up to when rules were given all, in ns."""
    alerts, records = tail.tape(ALERTS), tail.tape(NORMALIZED)
    covered = None if alerts is None else alerts.covered
    waiting = waiting_frames(tail.tape(RAW), records)
    newest = newest_receipt(tail)
    if waiting is not None:
        newest = max(newest or waiting.ts_last or 0, waiting.ts_last or 0) or None
    if records is None or covered is None or newest is None:
        known = tail.known_until(ALERTS)
        return newest, TIME_MIN if known is None else known
    until = TIME_MAX
    if covered < records.end:
        until = _time_at(records, max(covered, records.first))
    if waiting is not None:
        until = min(until, TIME_MIN if waiting.ts_from is None else waiting.ts_from)
    noted, _ = tail.lags()
    if time.time() - noted <= RUNS_S and newest - until <= EDGE_NS:
        # It is on its way.
        until = TIME_MAX
    return newest, until


def _time_at(records: TapeReader, offset: int) -> int:
    """Returns from when the record at `offset` is, by its event or its receipt."""
    records.seek(offset)
    batch = records.read(1)
    return TIME_MIN if batch is None else earliest_event(batch)
