"""One topic of one source from its beginning to now: the lake first, then what the tape holds.

The seam is the first offset that the tape keeps: what is before it comes from the lake, what is
from there on comes from the tape, so no record is left out or given twice. Retention may move the
seam while a stream is read: what it takes is then read from the lake instead.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tapeworks._core import Records, TapeReader
from tapeworks.errors import QueryError, TapeRangeError
from tapeworks.lake import Table
from tapeworks.tape import DAMAGE
from tapeworks.topics import BOOK
from tapeworks.views.archive import Archive, Wanted
from tapeworks.views.tail import SourceTail
from tapeworks.views.times import format_time

# The receive time of a tape may run back by so much where connections overlap.
DISORDER_NS = 5_000_000_000
TIME_MIN, TIME_MAX = -(2**63), 2**63 - 1
# Offsets that are read from the lake at once: few at first, for who only looks at the beginning.
WINDOW_MIN, WINDOW_MAX = 1 << 16, 1 << 19
NOTHING = Records.from_bytes(b"")
# Levels of the book tape that are tops, not changes, have a table of their own.
LAYOUTS = {BOOK: "book"}


@dataclass(frozen=True)
class Selected:
    """What is wanted of a topic; none means all. `end` is exclusive; times are of receipt."""

    names: tuple[str, ...]
    kinds: tuple[int, ...]
    tables: tuple[Table, ...]
    symbols: list[str] | None
    start: int | None
    end: int | None
    overruns: bool = False
    """Whether records that were received at `end` or later are given where others follow."""

    @property
    def tape_only(self) -> list[str]:
        """The names of what has no table in the lake."""
        held = {table.name for table in self.tables} | {"definitions"}
        return [name for name in self.names if name not in held]


class Stream:
    """What is selected of one topic, in the order of its tape."""

    def __init__(
        self,
        tail: SourceTail,
        topic: str,
        selected: Selected,
        reader: TapeReader | None,
        older: range,
        window_max: int = WINDOW_MAX,
    ) -> None:
        self._archive = Archive(tail)
        self._tail = tail
        self._topic = topic
        self._selected = selected
        self._reader = reader
        self._older = older
        self._window, self._window_max = min(WINDOW_MIN, window_max), window_max
        self._held: tuple[Records, npt.NDArray[np.int64]] | None = None
        self._ended = False
        self._start = TIME_MIN if selected.start is None else selected.start
        self._end = TIME_MAX if selected.end is None else selected.end
        self._given_until = None if selected.overruns else selected.end
        self._instruments: list[int] | None = None
        self._newest_id = 0
        self._find_instruments()

    @property
    def position(self) -> int:
        """The offset from which reading goes on. What was read from the lake is behind it."""
        if len(self._older):
            return self._older.start
        return self._older.stop if self._reader is None else self._reader.position

    @property
    def is_between(self) -> bool:
        """Whether all that was read so far was given, which is all before `position`."""
        return self._held is None

    @property
    def older(self) -> range:
        """The offsets that are yet to be read from the lake."""
        return self._older

    @property
    def end(self) -> int:
        """The offset behind all that is there now."""
        return self._older.stop if self._reader is None else self._reader.end

    @property
    def reader(self) -> TapeReader | None:
        """The reader of the tape; none where there is no tape."""
        return self._reader

    @property
    def has_ended(self) -> bool:
        """Whether the end of the range was reached."""
        return self._ended

    def _find_instruments(self) -> None:
        if self._selected.symbols is not None:
            names, ids = set(self._selected.symbols), self._tail.symbols().ids()
            self._instruments = [id_ for name, id_ in ids if name in names]
            self._newest_id = max((id_ for _, id_ in ids), default=0)

    def read(self, records: int) -> Records | None:
        """Returns the next records, up to so many; none at the end of the range or of the tape."""
        while (batch := self.step(records)) is not None:
            if len(batch):
                return batch
        return None

    def step(self, records: int) -> Records | None:
        """Returns what one look brings: none at the end, no records where none were wanted."""
        if self._held is None and len(self._older):
            self._read_older()
        if self._held is not None:
            return self._cut(records)
        batch = None if len(self._older) else self._read_tape(records)
        return NOTHING if batch is None and len(self._older) else batch

    def seek(self, offset: int) -> None:
        """Goes to `offset`: on the tape, or in the lake where the tape begins later.

        Raises:
            QueryError: neither holds it.
        """
        assert self._reader is not None
        try:
            self._reader.seek(offset)
        except TapeRangeError as error:
            self._fall_back(error)

    def resume(self, offset: int) -> None:
        """Passes over all before `offset`, on the tape or in the lake.

        Raises:
            QueryError: neither holds what follows.
        """
        if len(self._older):
            self._older = range(max(offset, self._older.start), max(offset, self._older.stop))
        if not len(self._older) and self._reader is not None and offset > self._reader.position:
            self.seek(offset)

    def _cut(self, records: int) -> Records:
        assert self._held is not None
        held, starts = self._held
        data = memoryview(held)
        stop = int(starts[records]) * 64 if records < len(starts) else len(data)
        rest = Records.from_bytes(data[stop:])
        self._held = (rest, starts[records:] - stop // 64) if len(rest) else None
        return Records.from_bytes(data[:stop])

    def _read_older(self) -> None:
        selected, first = self._selected, self._older.start
        end = min(first + self._window, self._older.stop)
        wanted = Wanted(selected.symbols, selected.start, self._given_until)
        batch = self._archive.read(selected.tables, wanted, first, end)
        self._older = range(end, self._older.stop)
        self._window = min(self._window * 2, self._window_max)
        if len(batch):
            self._held = batch, starts_of(batch)

    def _read_tape(self, records: int) -> Records | None:
        if self._ended or self._reader is None:
            return None
        try:
            batch = self._reader.read(records)
        except TapeRangeError as error:
            self._fall_back(error)
            return None if len(self._older) else self._read_tape(records)
        if batch is None:
            return None
        if self._instruments is not None and newest_id(batch) > self._newest_id:
            # An instrument was defined since, and its symbol may be one that is wanted.
            self._find_instruments()
        self._ended = earliest(batch) >= min(self._end, TIME_MAX - DISORDER_NS) + DISORDER_NS
        return batch.select(
            list(self._selected.kinds),
            self._instruments,
            self._start,
            TIME_MAX if self._given_until is None else self._given_until,
            LAYOUTS.get(self._topic),
        )

    def _fall_back(self, error: TapeRangeError) -> None:
        """Reads from the lake what is not on the tape any more."""
        committed = self._tail.committed(self._topic)
        assert self._reader is not None
        is_held = committed >= error.first and not self._selected.tape_only
        if not is_held and self._reader.loss_cause(error.wanted) == DAMAGE:
            # It is in the gap ledger, and nowhere else.
            self._reader.seek(error.first)
            return
        if not is_held:
            raise QueryError(
                f"retention took {self._topic} from offset {error.wanted} to {error.first - 1} "
                "before it was read, and the lake does not hold that: raise retention"
            ) from error
        self._older = range(error.wanted, error.first)
        self._reader.seek(error.first)


def open_stream(
    tail: SourceTail, source: str, topic: str, selected: Selected, window_max: int = WINDOW_MAX
) -> Stream | None:
    """Opens what is selected of `topic`; none if neither tape nor lake hold anything of it.

    Of the lake up to `window_max` offsets are read at once.

    Raises:
        QueryError: the range begins before what is held; the message says what is.
    """
    reader = tail.reader(topic, 0)
    committed = tail.committed(topic)
    seam = committed if reader is None else reader.first
    if reader is None and (not committed or not selected.tables):
        return None
    kept_from = None if reader is None else _begin(reader, seam, selected.start)
    if kept_from is not None and selected.start is not None and kept_from <= selected.start:
        return Stream(tail, topic, selected, reader, range(0), window_max)
    if not seam:
        return Stream(tail, topic, selected, reader, range(0), window_max)
    older = range(0)
    if selected.tables and committed:
        start = None if selected.start is None else selected.start - DISORDER_NS
        end = None if selected.end is None else selected.end + DISORDER_NS
        archive = Archive(tail)
        found = archive.bounds(selected.tables, start, end)
        older = range(found.start, min(found.stop, seam))
        goes_on = end is None or found.stop == archive.bounds(selected.tables, start, None).stop
        if committed < seam and goes_on:
            raise QueryError(
                f"{topic} of {source} from offset {committed} to {seam - 1} is neither in the lake "
                "nor on the tape any more: retention passed the sink. "
                f"Replay what is older, or from {_time(kept_from)} on"
            )
    _check_kept(source, topic, selected, kept_from, bool(older) or bool(committed))
    return Stream(tail, topic, selected, reader, older, window_max)


def _begin(reader: TapeReader, first: int, start: int | None) -> int:
    """Goes to where `start` may be on the tape; returns when its first record was received."""
    batch = reader.read(1)
    kept_from = TIME_MAX if batch is None else earliest(batch)
    reader.seek(first)
    if start is not None:
        reader.seek_time(max(start - DISORDER_NS, TIME_MIN))
    return kept_from


def _check_kept(
    source: str, topic: str, selected: Selected, kept_from: int | None, in_lake: bool
) -> None:
    # Without a start, what is kept is what is asked for, if all of it begins there.
    missing = selected.tape_only if in_lake else list(selected.names)
    if not missing or (selected.start is None and missing == list(selected.names)):
        return
    more = ": book_levels and book(at=) go back further" if "depth" in missing and in_lake else ""
    held = f"held from {_time(kept_from)} on" if kept_from is not None else "not held any more"
    raise QueryError(
        f"{', '.join(missing)} of {source} ({topic}) {'is' if len(missing) == 1 else 'are'} {held}"
        f", on the tape only; expected from {_time(selected.start)} on{more}"
    )


def _time(ts: int | None) -> str:
    return "the beginning" if ts is None or ts == TIME_MAX else format_time(ts)


def earliest(batch: Records) -> int:
    """Returns the least receive time of a batch."""
    times = times_of(batch)
    return int(times.min()) if len(times) else TIME_MAX


def earliest_event(batch: Records) -> int:
    """Returns the least time of a batch, of event or of receipt."""
    words = np.frombuffer(memoryview(batch), dtype="<i8").reshape(-1, 8)
    return int(words[starts_of(batch), 1:3].min()) if len(batch) else TIME_MAX


def times_of(batch: Records) -> npt.NDArray[np.int64]:
    """Returns the receive time of each record."""
    words = np.frombuffer(memoryview(batch), dtype="<i8").reshape(-1, 8)
    times: npt.NDArray[np.int64] = words[starts_of(batch), 2]
    return times


def newest_id(batch: Records) -> int:
    """Returns the greatest instrument id of a batch; ids are given in order of appearance."""
    words = np.frombuffer(memoryview(batch), dtype="<u4").reshape(-1, 16)
    ids = words[starts_of(batch), 1]
    return int(ids.max()) if len(ids) else 0


def starts_of(batch: Records) -> npt.NDArray[np.int64]:
    """Returns where each record starts, in units of 64 bytes."""
    # Most batches hold records of one length; else walk the lengths.
    lengths = np.frombuffer(memoryview(batch), dtype="u1").reshape(-1, 64)[:, 0]
    width = int(lengths[0]) // 8 if len(lengths) else 1
    if len(batch) * width == len(lengths) and (lengths[::width] == width * 8).all():
        return np.arange(len(batch)) * width
    starts, at = np.empty(len(batch), dtype=np.int64), 0
    for index in range(len(batch)):
        starts[index] = at
        at += int(lengths[at]) // 8
    return starts
