"""What an answer certifies: the gaps that touch it, and the time of which nothing can be said.

Three things keep a range from being complete. A gap is in the ledger. Time in which no recorder of
the source was connected was not recorded. What came after the ledger's watermark, the last record
of which its gaps were derived, is not known yet. What is in none of them is complete.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from tapeworks._core import TapeReader
from tapeworks.views.conditions import before_time, from_time
from tapeworks.views.query import Engine, Scope, quote
from tapeworks.views.result import Result
from tapeworks.views.stream import earliest
from tapeworks.views.symbols import Chosen
from tapeworks.views.tail import SourceTail
from tapeworks.views.times import format_time

RECORDS, GAPS = "market-data.normalized", "market-data.gaps"
GAP, NOT_RECORDED, NOT_YET_KNOWN = "gap", "not_recorded", "not_yet_known"
# Of what the recorder itself is noted as a connection.
RECORDER = 0xFFFF

Range = tuple[int, int]


@dataclass(frozen=True)
class Recorded:
    """What is known of the recording of one source, in ns by the clock of this host."""

    source: str
    ranges: list[Range]
    """When it was recorded, from and to, ascending; the end is not included."""
    is_open: bool
    """Whether the last range may go on: its recorder did not say that it ended."""
    known_until: int | None
    """All gaps of before are in the ledger; none means that nothing is known of any."""


class Coverage(Result):
    """Rows of what is missing or not known; none means that the range is complete."""

    def __init__(
        self, table: pa.Table, title: str, recorded: list[Recorded], asked: tuple[int, int]
    ) -> None:
        super().__init__(table, title)
        self.recorded = recorded
        """Recorded ranges and the ledger's watermark, by source."""
        self._asked = asked

    @property
    def is_complete(self) -> bool:
        """Whether all of the range was recorded, and no gap of it is or may yet be found."""
        return not len(self)

    @property
    def gaps(self) -> Result:
        """The gaps of the ledger alone."""
        table = self.to_arrow()
        # They come first.
        count = table["finding"].to_pylist().count(GAP)
        return Result(table.slice(0, count).drop_columns(["finding"]), "gaps")

    def summary(self) -> list[str]:
        """Returns sentences: how many gaps are recorded, what was not recorded or is not known."""
        rows = self.to_pylist()
        count = sum(row["finding"] == GAP for row in rows)
        told = {0: "no gaps", 1: "1 gap"}.get(count, f"{count:,} gaps")
        first, last = self._asked
        lines = [f"{told} recorded from {format_time(first)} to {format_time(last)}"]
        lines += [
            f"not recorded: {row['ts_from']} to {row['ts_to']} ({row['venue']})"
            for row in rows
            if row["finding"] == NOT_RECORDED
        ]
        lines += [
            f"not yet known: gaps after {row['ts_from']} ({row['venue']})"
            for row in rows
            if row["finding"] == NOT_YET_KNOWN
        ]
        return lines

    def __repr__(self) -> str:
        return "\n".join([*self.summary(), super().__repr__()] if len(self) else self.summary())


class Ledger:
    """The gaps of a data folder, and how far they are known."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def gaps(self, chosen: Chosen, first: int | None, last: int | None) -> Result:
        """Returns the latest state of each gap that touches the symbols and the range."""
        sql = _gaps_sql(chosen, first, last)
        found = self._engine.run(sql, ["gaps"], Scope(sources=chosen.sources))
        return Result(found, " ".join(["gaps", *chosen.names]))

    def coverage(self, chosen: Chosen, first: int | None, last: int | None) -> Coverage:
        """Returns what keeps the range from being complete for the sources and symbols."""
        recorded = [self.recorded(source) for source in chosen.sources]
        held = [edge for each in recorded for span in each.ranges for edge in span]
        asked = (
            min(held, default=0) if first is None else first,
            max(held, default=0) if last is None else last,
        )
        rows = [
            f"select '{finding}' as finding, {quote(each.source)} as venue, "
            f"'{finding}' as cause, {_time_columns('ts_from', start)}, "
            f"{_time_columns('ts_to', end)}"
            for each in recorded
            for finding, start, end in _unknown(each, asked)
        ]
        gaps = f"select '{GAP}' as finding, * from ({_gaps_sql(chosen, first, last)})"
        sql = " union all by name ".join([f"({gaps})", *rows])
        table = self._engine.run(sql, ["gaps"], Scope(sources=chosen.sources))
        title = " ".join(["coverage", *chosen.names])
        return Coverage(table, title, recorded, asked)

    def recorded(self, source: str) -> Recorded:
        """Returns when `source` was recorded, and up to when its gaps are known."""
        tail = self._engine.tail(source)
        newest = _newest(tail)
        sql = (
            "select code, connection, epoch_ns(ts_recv) + ts_recv_ns, "
            "epoch_ns(ts_before) + ts_before_ns, tape_offset from sessions order by tape_offset"
        )
        found = self._engine.run(sql, ["sessions"], Scope([source]))
        marks = list(zip(*(column.to_pylist() for column in found.columns), strict=True))
        ranges, is_open = _ranges(marks, newest) if marks else ([], True)
        if not marks or marks[0][4] > 0:
            # Nothing was noted at first: all that is known is what is held of that time.
            until = marks[0][2] if marks else None
            ranges = [*self._held(source, until), *ranges]
        return Recorded(source, ranges, is_open, _known_until(tail))

    def _held(self, source: str, until: int | None) -> list[Range]:
        """Returns the range of the records up to `until`, where no recorder noted what it did."""
        spans: list[Range] = []
        for name in ("trades", "quotes", "marks", "venue_bars"):
            sql = f"select epoch_ns(min(ts_recv)), epoch_ns(max(ts_recv)) from {name}"
            found = self._engine.run(sql, [name], Scope([source]))
            low, high = found.column(0)[0].as_py(), found.column(1)[0].as_py()
            if low is not None:
                spans.append((low, high + 1_000))
        if not spans:
            return []
        first, last = min(low for low, _ in spans), max(high for _, high in spans)
        last = last if until is None else min(last, until)
        return [(first, last)] if first < last else []


def _ranges(
    marks: list[tuple[str, int, int, int | None, int]], newest: int | None
) -> tuple[list[Range], bool]:
    """Returns when at least one connection was up, and whether one still may be."""
    ranges: list[Range] = []
    live: set[int] = set()
    since = 0
    for code, connection, ts, before, _ in marks:
        was_live = bool(live)
        if code == "connected" and connection == RECORDER:
            # A recorder starts. Without an end of the one before, that one was killed: what it
            # received last says until when it recorded.
            if live:
                ranges.append((since, max(since, min(ts, ts if before is None else before))))
            live.clear()
        elif code == "connected":
            live.add(connection)
            since = since if was_live else ts
        elif code == "disconnected":
            live.discard(connection)
            if was_live and not live:
                ranges.append((since, ts))
        elif code == "end_of_session":
            if was_live:
                ranges.append((since, ts))
            live.clear()
    if live:
        ranges.append((since, max(since, since if newest is None else newest + 1)))
    return [span for span in ranges if span[0] < span[1]], bool(live)


def _unknown(recorded: Recorded, asked: Range) -> Iterator[tuple[str, int, int]]:
    """Yields the parts of a range that were not recorded, or whose gaps are not known yet."""
    first, last = asked
    at = first
    for start, end in recorded.ranges:
        if at < min(start, last):
            yield NOT_RECORDED, at, min(start, last)
        at = max(at, end)
    known = recorded.known_until
    for start, end in recorded.ranges:
        low, high = max(start, first, first if known is None else known), min(end, last)
        if low < high:
            yield NOT_YET_KNOWN, low, high
    if at < last:
        # A recorder that did not say that it ended may have more than can be seen here.
        yield NOT_YET_KNOWN if recorded.is_open else NOT_RECORDED, at, last


def _gaps_sql(chosen: Chosen, first: int | None, last: int | None) -> str:
    where = [f"(symbol is null or {chosen.condition()})"]
    # An open gap goes on; one whose beginning is not known began at any time before.
    if first is not None:
        where.append(f"(state = 'open' or {from_time('ts_to', first)})")
    if last is not None:
        where.append(f"(ts_from is null or {before_time('ts_from', last)})")
    return (
        "select * exclude (flags, sequence, date, latest) from (select *, row_number() over ("
        "partition by venue, symbol, channel, cause, first_missing, ts_from, ts_from_ns "
        "order by tape_offset desc) as latest from gaps) "
        f"where latest = 1 and {' and '.join(where)} order by ts_detected, ts_detected_ns"
    )


def _time_columns(name: str, ts: int) -> str:
    return f"make_timestamptz({ts // 1_000}) as {name}, {ts % 1_000}::smallint as {name}_ns"


def _newest(tail: SourceTail) -> int | None:
    """Returns the newest receive time of a source."""
    reader = tail.tape(RECORDS)
    if reader is not None and reader.end > reader.first:
        return _time_at(reader, reader.end - 1)
    return tail.context(RECORDS).get("ts")


def _known_until(tail: SourceTail) -> int | None:
    """Returns the receive time up to which all gaps are in the ledger."""
    ledger, source = tail.tape(GAPS), tail.tape(RECORDS)
    if source is None or ledger is None:
        return None
    covered = ledger.covered
    if covered is None or covered < source.first:
        return None
    if covered >= source.end:
        newest = _newest(tail)
        return None if newest is None else newest + 1
    return _time_at(source, covered)


def _time_at(reader: TapeReader, offset: int) -> int | None:
    reader.seek(offset)
    batch = reader.read(1)
    if batch is None or not len(batch):
        return None
    return earliest(batch)
