"""Books of before the book tape begins, rebuilt from the lake.

The lake has all that a book is made of, each with its place on the tape: markers in `book_markers`,
levels in `book_levels`. What lies between the last checkpoint before an instant and the next is put
back into records, and the core rebuilds the book from them by the same rules as from a tape.
"""

import contextlib
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from tapeworks import _core
from tapeworks._core import Book, Records, Unverified, book_in, kind_of
from tapeworks.errors import ArgumentError, QueryError
from tapeworks.lake import TABLES, LakeFile, day_of
from tapeworks.topics import BOOK
from tapeworks.views.archive import Archive, Wanted
from tapeworks.views.tail import SourceTail

MARKERS, LEVELS = TABLES["book_markers"], TABLES["book_levels"]
CODES = _core.numbers("marker_code")
BOOK_KINDS = [kind_of("book"), kind_of("book_marker")]
BOOK_STATE, CHECKPOINT_BEGIN, CHECKPOINT_END = (
    CODES[name] for name in ("book_state", "checkpoint_begin", "checkpoint_end")
)
CONTINUOUS = _core.numbers("book_state")["continuous"]
READ_RECORDS = 65_536
# No file is of a day from here on.
NEVER = 2**62
ATTEMPTS = 5

Clock = Literal["event", "receipt"]


def check_clock(clock: str | None) -> None:
    """Refuses what is no clock; none stands for the default."""
    if clock is not None and clock not in get_args(Clock):
        raise ArgumentError(
            "clock: expected 'event' (times of the venue) or 'receipt' (times of this host), got "
            f"{clock!r}"
        )


Rows = npt.NDArray[Any]


class PastBooks:
    """The books of one source in the lake."""

    def __init__(self, tail: SourceTail) -> None:
        self._tail = tail
        self._archive = Archive(tail)

    def is_held(self) -> bool:
        """Whether the lake holds any books."""
        return bool(self._archive.files(MARKERS))

    def first(self, symbol: str) -> int | None:
        """Returns the first instant, by the venue's clock, of which a whole book is held."""
        for file in self._archive.files(MARKERS):
            places = self._places(symbol, None, [file])
            begins = places[places["code"] == CHECKPOINT_BEGIN]
            if len(begins):
                return int(begins["ts_event"][0])
        return None

    def at(
        self,
        symbol: str,
        instrument: int,
        ts: int,
        clock: Clock,
        seam: int | None,
    ) -> Book | Unverified:
        """Returns the book as of `ts`; `seam` is the first offset that the tape holds.

        Raises:
            QueryError: what it takes is neither in the lake nor on the tape.
        """
        for _ in range(ATTEMPTS):
            # Compaction may remove a file between listing and reading it.
            with contextlib.suppress(FileNotFoundError):
                return self._at(symbol, instrument, ts, clock, seam)
        raise QueryError(f"the lake's books of {symbol} cannot be read: files vanish; ask again")

    def unverified_since(self, symbol: str, instrument: int, seam: int) -> int | None:
        """Returns since when the book was not verified at offset `seam`; none if it was."""
        end = min(seam, self._tail.committed(BOOK))
        since: int | None = None
        for place in self._until(symbol, instrument, NEVER, "event", end)[::-1]:
            if place["code"] == CHECKPOINT_BEGIN or (
                place["code"] == BOOK_STATE and place["state"] == CONTINUOUS
            ):
                break
            if place["code"] == BOOK_STATE:
                ts = place["ts_recv" if place["ts_event"] == _core.NONE else "ts_event"]
                since = int(ts)
        return since

    def _at(
        self, symbol: str, instrument: int, ts: int, clock: Clock, seam: int | None
    ) -> Book | Unverified:
        committed = self._tail.committed(BOOK)
        end = committed if seam is None else min(seam, committed)
        places = self._until(symbol, instrument, ts, clock, end)
        entry = _latest(places, ts, clock, end)
        by_clock = {"ts_event" if clock == "event" else "ts_recv": ts}
        if entry is None:
            return book_in(Records.from_bytes(b""), instrument, **by_clock)
        offset = int(entry["offset"])
        following = self._following(symbol, instrument, offset, end)
        stop = end if following is None else following + 1
        wanted = Wanted([symbol])
        parts = [
            _records(places[places["offset"] < offset]),
            bytes(self._archive.read((MARKERS, LEVELS), wanted, offset, stop)),
        ]
        if following is None and seam is not None:
            if committed < seam:
                raise QueryError(
                    f"{BOOK} from offset {committed} to {seam - 1} is neither in the lake nor on "
                    "the tape any more: retention passed the sink"
                )
            parts.append(self._from_tape(instrument, end))
        return book_in(Records.from_bytes(b"".join(parts)), instrument, **by_clock)

    def _until(self, symbol: str, instrument: int, ts: int, clock: str, end: int) -> Rows:
        """Returns the states and checkpoints that decide what holds at `ts`, by offset."""
        files = [file for file in self._archive.files(MARKERS) if file.first < end]
        if clock == "event":
            # The day of a file is that of the venue's time: later ones were not seen then.
            files = [file for file in files if file.day <= day_of(ts)] if ts < NEVER else files
        files.sort(key=lambda file: (file.last, file.first), reverse=True)
        found = np.empty(0, dtype=_places_dtype())
        for at, file in enumerate(files):
            found = np.concatenate([self._places(symbol, instrument, [file]), found])
            found = np.sort(found[found["offset"] < end], order="offset")
            entry = _latest(found, ts, clock, end)
            rest = max((other.last for other in files[at + 1 :]), default=-1)
            if entry is not None and rest < entry["offset"] and _is_whole(found, entry):
                break
        return found

    def _following(self, symbol: str, instrument: int, offset: int, end: int) -> int | None:
        """Returns the offset of the next state or checkpoint of the instrument behind `offset`."""
        best: int | None = None
        for file in self._archive.files(MARKERS):
            if file.last <= offset or file.first >= end or (best is not None and file.first > best):
                continue
            places = self._places(symbol, instrument, [file])
            next_ones = places["offset"][
                (places["offset"] > offset)
                & (places["offset"] < end)
                & (places["code"] != CHECKPOINT_END)
            ]
            if len(next_ones) and (best is None or next_ones.min() < best):
                best = int(next_ones.min())
        return best

    def _places(self, symbol: str, instrument: int | None, files: list[LakeFile]) -> Rows:
        """Returns the states and checkpoints of the instrument in `files`, by offset."""
        parts = [np.empty(0, dtype=_places_dtype())]
        for file in files:
            rows, offsets = self._archive.rows(MARKERS, file, Wanted([symbol]))
            keep = np.isin(rows["code"], (BOOK_STATE, CHECKPOINT_BEGIN, CHECKPOINT_END))
            if instrument is not None:
                keep &= rows["instrument"] == instrument
            part = np.zeros(int(keep.sum()), dtype=_places_dtype())
            for name in rows.dtype.names or ():
                part[name] = rows[name][keep]
            part["offset"] = offsets[keep]
            parts.append(part)
        return np.sort(np.concatenate(parts), order="offset")

    def _from_tape(self, instrument: int, offset: int) -> bytes:
        """Returns what follows on the tape, up to the next state or checkpoint at least."""
        reader = self._tail.reader(BOOK, offset)
        parts: list[bytes] = []
        while reader is not None and (batch := reader.read(READ_RECORDS)) is not None:
            found = batch.select(BOOK_KINDS, [instrument])
            parts.append(bytes(found))
            codes = np.frombuffer(
                found.numpy("book_marker"), dtype=_core.dtype_descr("book_marker")
            )
            ends = (codes["code"] == BOOK_STATE) | (codes["code"] == CHECKPOINT_BEGIN)
            if (ends & (codes["instrument"] == instrument)).any():
                break
        return b"".join(parts)


def _places_dtype() -> list[tuple[str, str]]:
    return [*_core.dtype_descr("book_marker"), ("offset", "<i8")]


def _records(places: Rows) -> bytes:
    out = np.empty(len(places), dtype=_core.dtype_descr("book_marker"))
    for name in out.dtype.names or ():
        out[name] = places[name]
    return out.tobytes()


def _latest(places: Rows, ts: int, clock: str, end: int) -> Any:
    """Returns the last state or whole checkpoint that had been by `ts`, as the core finds it."""
    times = places["ts_recv"]
    if clock == "event":
        # The end of a session has no time of the venue.
        times = np.where(places["ts_event"] == _core.NONE, times, places["ts_event"])
    ends = places["offset"][places["code"] == CHECKPOINT_END]
    last = places["offset"] + places["count"] + 1
    is_whole = np.isin(last, ends) | (last >= end)
    usable = (places["code"] == BOOK_STATE) | ((places["code"] == CHECKPOINT_BEGIN) & is_whole)
    found = np.flatnonzero(usable & (times <= ts))
    return places[found[-1]] if len(found) else None


def _is_whole(places: Rows, entry: Any) -> bool:
    """Whether `places` go back far enough to say since when the state of `entry` lasts."""
    if entry["code"] == CHECKPOINT_BEGIN:
        return True
    before = places[places["offset"] < entry["offset"]]
    verified = (before["code"] == CHECKPOINT_BEGIN) | (
        (before["code"] == BOOK_STATE) & (before["state"] == CONTINUOUS)
    )
    return bool(verified.any())
