"""What an answer certifies: the gaps that touch it, and the time of which nothing can be said.

Six things keep a range from being complete. A gap is in the ledger. Time in which no recorder of
the source was connected was not recorded. While it was, a stream may not have been subscribed, the
venue may have refused it, or no message of it may have come. What came after the ledger's
watermark, the last record of which its gaps were derived, is not known yet. A metric may not have
been among those that were measured. Corrections of its trades may have been told in a gap behind
it. What is in none of them is complete.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from tapeworks._core import NONE
from tapeworks.errors import ArgumentError
from tapeworks.tape import DAMAGE, RETENTION
from tapeworks.topics import GAPS, METRICS, NORMALIZED, RAW, TICKS
from tapeworks.views.entries import ENTRY_COLUMNS, gaps_sql, has_entries
from tapeworks.views.findings import (
    one_format,
    row_of,
    rows_like,
    span_text,
    time_text,
    told_parts,
)
from tapeworks.views.heard import believe_rows, hear, held_range, silent_streams
from tapeworks.views.missed_corrections import missed_corrections
from tapeworks.views.query import Engine, Scope
from tapeworks.views.reach import (
    Waiting,
    derived_until,
    first_mentions,
    newest_receipt,
    waiting_frames,
)
from tapeworks.views.recorded import (
    EDGE_NS,
    NOT_KNOWN,
    NOT_RECORDED,
    NOT_YET_KNOWN,
    NOTHING,
    Asked,
    Channels,
    Filled,
    Recorded,
    Wanted,
    asked_range,
    finding_of,
    news_of,
    not_carried,
    ranges_of,
    repaired_in,
    unfilled_parts,
    unknown_parts,
    unread_ranges,
    wanted_of,
)
from tapeworks.views.result import Result
from tapeworks.views.sessions import (
    Mark,
    Note,
    Range,
    intersect,
    read_notes,
    read_sessions,
    subtract,
    union,
)
from tapeworks.views.symbols import Chosen
from tapeworks.views.times import format_time
from tapeworks.views.unmeasured import (
    begun_anew_rows,
    farthest_ns,
    filled_later,
    unmeasured_rows,
)

GAP, REPAIRED = "gap", "repaired"
TOLD_MAX = 3


class Coverage(Result):
    """Rows of what is missing or not known, and of gaps that were repaired; nothing but such a gap
    means that the range is complete."""

    def __init__(self, table: pa.Table, title: str, recorded: list[Recorded], asked: Asked) -> None:
        super().__init__(table, title)
        self.recorded = recorded
        """Recorded ranges and the ledger's watermark, by source."""
        self.asked = asked
        """The range that is asked about, in ns."""

    def __bool__(self) -> bool:
        raise ArgumentError(
            "a coverage is neither true nor false: ask for its is_complete, or for len(), which is "
            "the number of findings"
        )

    @property
    def is_complete(self) -> bool:
        """Whether all of the range was recorded, and no gap of it is or may yet be found."""
        return set(self.to_arrow()["finding"].to_pylist()) <= {REPAIRED}

    @property
    def gaps(self) -> Result:
        """The gaps of the ledger alone, without those that were repaired."""
        return self._entries(GAP)

    @property
    def ledger(self) -> Result:
        """The gaps of the ledger, those that were repaired as well."""
        return self._entries(GAP, REPAIRED)

    def _entries(self, *findings: str) -> Result:
        table = self.to_arrow()
        # A few rows; `pyarrow.compute` would be loaded for every question.
        is_asked = [finding in findings for finding in table["finding"].to_pylist()]
        return Result(
            table.filter(pa.array(is_asked, pa.bool_())).drop_columns(["finding"]), "gaps"
        )

    def summary(self) -> list[str]:
        """Returns sentences: the verdict, then what was not recorded or is not known."""
        rows = self._rows()
        lines = [self._verdict(rows), *self._unknown(rows)]
        lines += [
            f"not known by symbol: {format_time(start)} to {format_time(end)} ({each.source}): "
            "counts as recorded for every symbol since its first mention"
            for each in self.recorded
            for start, end in intersect(each.unlisted, ranges_of(self.asked))
        ]
        return lines

    def notices(self) -> list[str]:
        """Returns what keeps the range from being complete in a few words, none if it is."""
        return told([self])

    def _beside_gaps(self) -> list[str]:
        """Returns sentences on what was not recorded or is not known; none if that is nothing."""
        if not any(each.ranges for each in self.recorded):
            return ["nothing is recorded here"]
        return self._unknown(self._rows())

    def _rows(self) -> list[dict[str, Any]]:
        return [
            {**row, "ts_from": one_format(row["ts_from"]), "ts_to": one_format(row["ts_to"])}
            for row in self.to_pylist()
        ]

    def _unknown(self, rows: list[dict[str, Any]]) -> list[str]:
        lines = [
            f"not recorded: {span_text(row['ts_from'], row['ts_to'])} "
            f"({row['venue'] or 'no source'})"
            for row in rows
            if row["finding"] == NOT_RECORDED
        ]
        lines += told_parts(rows)
        at = len(lines)
        waiting = {
            each.source: f"; {waiting_text(each.waiting.frames)}"
            for each in self.recorded
            if each.waiting and intersect(each.unread, ranges_of(self.asked))
        }
        # The last of a source, which is where its frames wait.
        for row in reversed([row for row in rows if row["finding"] == NOT_YET_KNOWN]):
            after = f"not yet known after {row['ts_from']}"
            source = str(row["venue"])
            lines.insert(at, after + f" ({source})" + waiting.pop(source, ""))
        return lines

    def _verdict(self, rows: list[dict[str, Any]]) -> str:
        found = [str(row["finding"]) for row in rows]
        findings = [finding for finding in found if finding != REPAIRED]
        ends = tuple(map(time_text, self.asked))
        span = span_text(*ends)
        within = span if None in self.asked else f"from {span}"
        if not any(each.ranges for each in self.recorded):
            return "nothing is recorded here"
        if not findings:
            filled = repaired_in(rows)
            told = f"no gaps but those repaired, {filled:,}" if filled else "no gaps"
            return f"complete {within}: {told}"
        if count := findings.count(GAP):
            return f"{count:,} gap{'' if count == 1 else 's'} {within}"
        spans = {(one["finding"], one["ts_from"], one["ts_to"]) for one in rows}
        if {span for span in spans if span[0] != REPAIRED} == {(NOT_KNOWN, *ends)}:
            return f"not known {within}"
        for finding, told in ((NOT_RECORDED, "not recorded"), (NOT_YET_KNOWN, "not known")):
            if set(findings) == {finding} and self._is_of_all():
                return f"{told} {within}"
        return f"not complete {within}"

    def _is_of_all(self) -> bool:
        """Whether of no part of the range anything is known."""
        known = ranges_of(self.asked)
        for each in self.recorded:
            spans = [(a, b) for _, a, b in unknown_parts(each, self.asked) if a and b]
            if subtract(known, union(spans)):
                return False
        return True

    def __repr__(self) -> str:
        return "\n".join([*self.summary(), super().__repr__()] if len(self) else self.summary())

    def _told(self) -> list[str]:
        # Its rows are what is missing.
        return []


def told(found: Sequence[Coverage]) -> list[str]:
    """Returns what keeps an answer from being whole, in a few words."""
    lines = []
    if gaps := {str(row) for one in found for row in one.gaps.to_pylist()}:
        touch = "1 gap touches" if len(gaps) == 1 else f"{len(gaps):,} gaps touch"
        lines.append(f"{touch} what was queried: see `tape gaps`, in Python lake.gaps()")
    others = list(dict.fromkeys(line for one in found for line in one._beside_gaps()))
    lines += others[:TOLD_MAX]
    if len(others) > TOLD_MAX:
        lines.append(f"and {len(others) - TOLD_MAX:,} more: see `tape gaps`, in Python coverage()")
    return lines


def _findings(gaps: pa.Table) -> list[str]:
    return list(gaps.column("finding").unique().to_pylist())


def waiting_text(frames: int) -> str:
    """Says that raw frames are in no table yet."""
    told = "1 raw frame is" if frames == 1 else f"{frames:,} raw frames are"
    return f"{told} in no table yet"


class Ledger:
    """The gaps of a data folder, and how far they are known."""

    def __init__(self, engine: Engine, data: Path) -> None:
        self._engine = engine
        self.data = data
        self._outages: dict[str, tuple[tuple[int, int], list[dict[str, Any]]]] = {}

    def gaps(self, chosen: Chosen, first: int | None, last: int | None) -> Result:
        """Returns the latest state of each gap that touches the symbols and the range."""
        sql = gaps_sql(self.data, chosen, first, last)
        found = self._engine.run(sql, ["gaps"], Scope(sources=chosen.sources))
        return Result(found, " ".join(["gaps", *chosen.names]))

    def down_since(self, source: str, symbol: str, at: int | None) -> int | None:
        """Returns since when the depth of `symbol` did not come at `at`, or now; in ns.

        An outage after which ids go on without a hole is none: the book was right all the time.
        """
        reader = self._engine.tail(source).tape(GAPS)
        state = (reader.end if reader is not None else 0), self._engine.tail(source).committed(GAPS)
        if self._outages.get(source, (None, []))[0] != state:
            every = gaps_sql(self.data, Chosen([source], None), None, None, outages=True)
            sql = (
                "select symbol, state, epoch_ns(ts_from) + ts_from_ns as since, epoch_ns(ts_to) + "
                f"ts_to_ns as until from ({every}) where cause = 'disconnect' "
                "and coalesce(channel, 'session') in ('session', 'depth')"
            )
            found = self._engine.run(sql, ["gaps"], Scope([source]))
            self._outages[source] = state, found.to_pylist()
        for outage in self._outages[source][1]:
            since = outage["since"]
            if outage["symbol"] not in (None, symbol) or since is None:
                continue
            is_open = outage["state"] == "open"
            if is_open if at is None else since < at and (is_open or at < (outage["until"] or at)):
                return int(since)
        return None

    def coverage(
        self,
        chosen: Chosen,
        first: int | None,
        last: int | None,
        channels: Channels = None,
        *topics: str,
        is_of_news: bool = False,
        measured: tuple[Chosen, Sequence[str]] | None = None,
        begun_anew: Sequence[tuple[str, str, str]] = (),
    ) -> Coverage:
        """Returns what keeps the range from being complete for the sources, symbols and channels.

        `topics` are the tapes whose rows are asked for: a derived one may be behind the ledger.
        News come by streams of their own; of those that requests tell it is not known which came.
        `measured` are instruments and the metrics that are asked of them: it is told when those
        were not measured. `begun_anew` are source, symbol and metric of what is made of too little.

        Raises:
            QueryError: there is no such channel.
        """
        recorded = self._recorded(chosen, *topics)
        of = news_of if is_of_news else wanted_of
        wanted = {each.source: of(each, chosen, channels) for each in recorded}
        for each in recorded:
            hear(self._engine, each, wanted[each.source])
            self._believe_rows(each, wanted[each.source], first, last)
        asked = asked_range(recorded, wanted, first, last)
        gaps = self._gaps(chosen, first, last, channels)
        filled = self._filled(chosen, first, last, channels) if REPAIRED in _findings(gaps) else {}
        rows = [
            row_of(each.source, finding, finding, None, span)
            for each in recorded or [NOTHING]
            for finding, *ends in unknown_parts(each, asked)
            for span in unfilled_parts(
                finding, (ends[0], ends[1]), each.source, wanted.get(each.source, []), filled
            )
        ] + [
            row_of(each.source, finding_of(each, cause), cause, one, span)
            for each in recorded
            for within in [each.within(asked)]
            for one in wanted[each.source]
            for cause, span in not_carried(each, one, within)
        ]
        is_of_trades = channels is None or any("trade" in group for group in channels)
        if is_of_trades and (not topics or NORMALIZED in topics) and self._has_entries(chosen):
            rows += missed_corrections(self._engine, self.data, chosen, first, last)
        if measured is not None:
            rows += unmeasured_rows(self._engine, self.data, recorded, asked, *measured)
        if not {METRICS, TICKS}.isdisjoint(topics):
            of_metrics = measured or (chosen, ["ticks"] if TICKS in topics else None)
            low = first and first - farthest_ns(self.data, *of_metrics)
            before = gaps if low == first else self._gaps(chosen, low, last, channels)
            repaired = [row for row in before.to_pylist() if row["finding"] == REPAIRED]
            rows += filled_later(repaired, self.data, asked, *of_metrics)
        rows += begun_anew_rows(begun_anew, asked)
        table = pa.concat_tables([gaps, rows_like(gaps.schema, rows)])
        title = " ".join(["coverage", *chosen.names])
        return Coverage(table, title, recorded, asked)

    def hole(self, chosen: Chosen, first: int, last: int) -> int | None:
        """Returns from when on nothing was recorded of a range, once it had been; in ns."""
        [recorded] = self._recorded(chosen)
        held = intersect(union(recorded.ranges), [(first, last)])
        begin = [start for start, _ in held[1:]]
        pairs = zip(held, [*begin, last], strict=True) if held else ()
        return next((end for (_, end), start in pairs if start - end > EDGE_NS), None)

    def _gaps(
        self, chosen: Chosen, first: int | None, last: int | None, channels: Channels
    ) -> pa.Table:
        """Returns the entries as findings."""
        if not self._has_entries(chosen):
            # So it is of most recordings, and the query below takes longer than what was asked.
            schema = pa.schema([("finding", pa.string()), *ENTRY_COLUMNS])
            # Not `empty_table`, which loads pandas: that takes longer than all else.
            return pa.Table.from_batches([], schema)
        entries = gaps_sql(self.data, chosen, first, last, channels)
        finding = f"if(state = '{REPAIRED}', '{REPAIRED}', '{GAP}')"
        sql = f"select {finding} as finding, * from ({entries})"
        return self._engine.run(sql, ["gaps"], Scope(sources=chosen.sources))

    def _believe_rows(
        self, recorded: Recorded, wanted: list[Wanted], first: int | None, last: int | None
    ) -> None:
        """Takes a stream for one that spoke where its note may be lost, and its rows are there."""
        span = -NONE if first is None else first, NONE if last is None else last
        doubtful = silent_streams(recorded, wanted, span)
        tail = self._engine.tail(recorded.source)
        if not doubtful or not has_entries(self.data, recorded.source, tail):
            return
        every = gaps_sql(self.data, Chosen([recorded.source], None), None, None)
        sql = (
            "select epoch_ns(ts_from) + ts_from_ns as since, epoch_ns(ts_to) + ts_to_ns as until "
            f"from ({every}) where cause in ('{RETENTION}', '{DAMAGE}')"
        )
        lost = [
            (-NONE if row["since"] is None else row["since"], row["until"] or NONE)
            for row in self._engine.run(sql, ["gaps"], Scope([recorded.source])).to_pylist()
        ]
        believe_rows(self._engine, recorded, doubtful, lost)

    def _has_entries(self, chosen: Chosen) -> bool:
        tails = {source: self._engine.tail(source) for source in chosen.sources}
        return any(has_entries(self.data, source, tail) for source, tail in tails.items())

    def _filled(
        self, chosen: Chosen, first: int | None, last: int | None, channels: Channels
    ) -> Filled:
        """Returns what was lost and is there nevertheless, as the history of the venue had it."""
        sql = (
            "select venue, symbol, channel, epoch_ns(ts_from) + ts_from_ns as since, "
            "epoch_ns(ts_to) + ts_to_ns as until "
            f"from ({gaps_sql(self.data, chosen, first, last, channels)}) "
            f"where state = '{REPAIRED}' and ts_from is not null"
        )
        found: dict[tuple[str, str, str], list[Range]] = {}
        for row in self._engine.run(sql, ["gaps"], Scope(sources=chosen.sources)).to_pylist():
            place = row["venue"], row["symbol"], row["channel"]
            found.setdefault(place, []).append((row["since"], row["until"]))
        return found

    def _recorded(self, chosen: Chosen, *topics: str) -> list[Recorded]:
        """Returns of each source when it was recorded, which streams of the symbols were carried
        when, and up to when its gaps, and all that `topics` hold, are known.
        """
        tails = {source: self._engine.tail(source) for source in chosen.sources}
        # Before all else: what is taken in meanwhile only counts as known later.
        waiting = {
            source: waiting_frames(tail.tape(RAW), tail.tape(NORMALIZED))
            for source, tail in tails.items()
        }
        noted = read_notes(self._engine, chosen)
        return [
            self._recorded_of(source, waiting[source], *noted[source], topics) for source in tails
        ]

    def _recorded_of(
        self,
        source: str,
        waiting: Waiting | None,
        marks: list[Mark],
        notes: list[Note],
        topics: Sequence[str],
    ) -> Recorded:
        tail = self._engine.tail(source)
        newest = newest_receipt(tail, NORMALIZED)
        found = read_sessions(marks, notes, newest)
        derived = {GAPS, *topics} - {NORMALIZED}
        known_until = _earliest(derived_until(tail, each) for each in derived)
        ranges, unlisted = found.ranges, found.unlisted
        if not marks or marks[0].offset > 0:
            # Nothing was noted at first: all that is known is what is held of that time.
            held = held_range(self._engine, source, marks[0].ts if marks else None)
            ranges, unlisted = [*held, *ranges], [*held, *unlisted]
        if known_until is not None:
            known_until -= found.most
        unread = unread_ranges(waiting, newest, found.is_open, found.most)
        if unread:
            ranges = union([*ranges, *unread])
            known_until = _earliest([known_until, unread[0][0]])
        return Recorded(
            source,
            ranges,
            found.is_open or not marks or bool(unread),
            known_until,
            unlisted,
            found.carried,
            found.silent,
            found.refused,
            {symbol: ts - found.least for symbol, ts in first_mentions(tail).items()},
            waiting,
            unread,
            is_late=found.is_late,
            owed=found.owed,
        )


def _earliest(times: Iterable[int | None]) -> int | None:
    """Returns the least of `times`; none if one of them is not known."""
    found = list(times)
    return None if None in found else min(ts for ts in found if ts is not None)
