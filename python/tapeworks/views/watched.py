"""Whether rules of alerts looked at what is asked for: where none did, no alerts are no news.

A rule looks at the symbols that it is for, from the record on at which it was set, as far as the
tape of alerts covers what was received. Of a time at which nothing was recorded no rule knows.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from tapeworks._core import TapeReader
from tapeworks.alert_watches import Watch, read_watches
from tapeworks.topics import ALERTS, NORMALIZED, RAW
from tapeworks.views.coverage import Ledger
from tapeworks.views.query import Engine
from tapeworks.views.reach import RUNS_S, first_receipt, newest_receipt, waiting_frames
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
    A range that is named counts as a whole, also where nothing was recorded.
    """
    lines: list[str] = []
    ledger = Ledger(engine, data)
    for source in chosen.sources:
        tail = engine.tail(source)
        watches = [
            one
            for one in _running(read_watches(data, source), tail)
            if rule in (None, one.rule) and severity in (None, one.severity)
        ]
        symbols = None if chosen.symbols is None else chosen.symbols.get(source, [])
        away = _unrecorded(ledger, tail, source, first, last)
        found = list(_of_source(tail, watches, symbols, first, last, away))
        lines += (f"{source}: {line}" for line in found)
        if watches:
            shown = [f"not recorded: {_span(*one)} ({source})" for one in away[:NAMES_SHOWN]]
            more = len(away) - len(shown)
            lines += [*shown, *([f"not recorded: {more:,} times more ({source})"] if more else [])]
    return lines or ([] if chosen.sources else ["nothing is recorded here"])


def _running(watches: Sequence[Watch], tail: SourceTail) -> Iterator[Watch]:
    """Yields `watches`; of a rule that stopped, and of which that could not be noted beside them,
    one that looked at nothing: since when is not known."""
    stopped = tail.stopped()
    for one in watches:
        is_lost = not one.is_over and f"rule {one.rule}" in stopped
        yield replace(one, last=one.first, until=one.since) if is_lost else one


def _of_source(
    tail: SourceTail,
    watches: Sequence[Watch],
    symbols: Sequence[str] | None,
    first: int | None,
    last: int | None,
    away: list[Range],
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
        asked = subtract([(start, end)], away) if start < end else []
        spans = tuple(subtract(asked, looked))
        missing.setdefault(spans, []).append(symbol)
    for spans, names in missing.items():
        more = f" and {len(names) - NAMES_SHOWN:,} more" if len(names) > NAMES_SHOWN else ""
        what = f" at {', '.join(names[:NAMES_SHOWN])}{more}" if names != [""] else ""
        for low, high in spans:
            yield f"no rule looked{what}{_when(low, high if high < end else None)}"


def _unrecorded(
    ledger: Ledger, tail: SourceTail, source: str, first: int | None, last: int | None
) -> list[Range]:
    """Returns when nothing was recorded of a range that is named: also behind what was received
    last, up to now, where no pipeline runs."""
    newest = newest_receipt(tail)
    if (first is None and last is None) or newest is None:
        return []
    [recorded] = ledger.coverage(Chosen([source], None), first, last).recorded
    # What was received last is of no range yet where a recorder runs.
    end = newest + 1 if last is None else min(last, newest + 1)
    begun = first_receipt(tail)
    ranges = union(recorded.ranges) or [(TIME_MIN if begun is None else begun, end)]
    # What is on its way while a recorder ends is received behind the note of its end.
    end = min(end, ranges[-1][1])
    behind = _behind(tail, max(newest + 1, ranges[-1][1]), first, last)
    if first is not None:
        return [*(subtract([(first, end)], ranges) if first < end else []), *behind]
    # Before all of it: what is between two recordings is asked for by who says from when.
    return [(TIME_MIN, end)] if end <= ranges[0][0] else behind


def _behind(tail: SourceTail, ended: int, first: int | None, last: int | None) -> list[Range]:
    """Returns what is asked for behind the time at which a recording ended, if no other runs."""
    now = time.time_ns()
    end = now if last is None else min(last, now)
    noted, _ = tail.lags()
    runs = now - noted * 1e9 <= RUNS_S * 1e9
    # Of a range that is wholly behind it, it is said what was recorded last.
    if runs or end <= ended + EDGE_NS or (first is not None and first > ended):
        return []
    return [(ended, end)]


def _span(low: int, high: int) -> str:
    until = format_time(high)
    return f"before {until}" if low == TIME_MIN else f"{format_time(low)} to {until}"


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
