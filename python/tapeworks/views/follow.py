"""Records as they come, after as much of the past as is asked for, without a seam between them.

A tape is read on where its history ends, by the same reader: nothing is left out or given twice.
Memory is bounded by a batch of each tape; the tape itself waits for who reads slowly.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from tapeworks._core import Records
from tapeworks.errors import QueryError, TapeRangeError, TapeReplacedError
from tapeworks.tape import Place, check_place, place_at
from tapeworks.views.batches import DEFAULT_KINDS, Batch, Origin, TracedMerge
from tapeworks.views.conditions import parse_range
from tapeworks.views.opened import Opened, Symbols
from tapeworks.views.query import Engine
from tapeworks.views.reach import is_yet_derived
from tapeworks.views.replay import tapes_of
from tapeworks.views.stream import DISORDER_NS, NOTHING, Selected, Stream, open_stream
from tapeworks.views.symbols import Chosen
from tapeworks.views.times import TimeLike

Position = Mapping[str, Mapping[str, int | str | None]]
"""By `source/topic`: `offset`, and the `tape` and `fingerprint` by which a tape is known again."""

BATCH_RECORDS = 65_536
# Loaded where somebody awaits: a question to the past does not.
ASYNCIO = "asyncio"
# A pause between two looks where nothing came: as short as the first, in quiet times longer.
PAUSE_S_MIN, PAUSE_S_MAX = 0.001, 0.02
# One tape alone wakes who waits for it; Ctrl-C and `close` are seen after so long.
WAIT_MS = 200
# So often a quiet tape is looked at, however busy others are: it may be new, or another one under
# its old name.
LOOK_S = 1.0


class _Tape:
    """One tape that is followed; without a stream while there is no such tape."""

    def __init__(self, engine: Engine, source: str, topic: str, selected: Selected) -> None:
        self.name = f"{source}/{topic}"
        self.origin = Origin(source, topic, engine.tail(source))
        self.stream: Stream | None = None
        self._tail = engine.tail(source)
        self._source, self._topic, self._selected = source, topic, selected
        self._until = 0
        self._given = 0
        self._is_quiet = False

    def open(self, place: Place | None) -> None:
        """Goes to `place`; or else to the start of what is selected, or else to the end."""
        if place is not None:
            self._open_at(place)
        elif self._selected.start is not None:
            self.stream = open_stream(
                self._tail, self._source, self._topic, self._selected, BATCH_RECORDS
            )
            if self.stream is not None and self.stream.reader is None:
                raise QueryError(
                    f"{self._source} has no tape {self._topic}, on which something could come: "
                    "replay gives what the lake holds"
                )
        else:
            self._open_at(None)
        if self.stream is not None:
            self._until, self._given = self.stream.end, self.stream.position

    def offset(self, is_exact: bool) -> int:
        """Returns where to go on; before what was read ahead, unless `is_exact`."""
        if not is_exact or self.stream is None:
            return self._given
        return self.stream.position

    def place(self, offset: int) -> Place:
        """Returns the place at `offset`."""
        if self.stream is None or self.stream.reader is None:
            return Place(offset)
        try:
            return place_at(self.stream.reader, offset)
        except TapeRangeError:
            # The frame before it was removed: the tape is known by its name alone.
            return Place(offset, self.stream.reader.id)

    def read_history(self) -> Records | None:
        """Returns the next records of before this was opened; none at their end."""
        if self.stream is None or self.stream.position >= self._until:
            return None
        self._given = self.stream.position
        return self.stream.step(BATCH_RECORDS)

    def read(self) -> Records | None:
        """Returns what is there by now; none where that was read."""
        records = None if self.stream is None else self.stream.step(BATCH_RECORDS)
        self._is_quiet = records is None
        return records

    def is_behind(self, end: int) -> bool:
        """Whether records of before `end` are yet to be derived onto this tape."""
        has_ended = self.stream is not None and self.stream.has_ended
        return not has_ended and is_yet_derived(self._tail, self._topic, end)

    def look(self) -> None:
        """Opens the tape if it is new, and fails if it is not the one that was opened.

        One that brings records, or the past, is read to its end first.

        Raises:
            TapeReplacedError: it was removed, or another one has its place.
        """
        if self.stream is None or self.stream.reader is None:
            self._open_at(Place(0))
            return
        if not self._is_quiet:
            return
        now, was = self._tail.tape(self._topic), self.stream.reader.id
        if now is None or now.id != was:
            found = "none" if now is None else str(now.id)
            raise TapeReplacedError(
                f"{self._topic} of {self._source} was replaced or removed while it was followed: "
                f"expected tape {was}, got {found}; open the data folder anew"
            )

    def _open_at(self, place: Place | None) -> None:
        reader = self._tail.reader(self._topic, 0)
        if reader is None:
            # An empty tape has no place but its beginning.
            reader = self._tail.tape(self._topic)
        end = 0 if reader is None else reader.end
        if place is not None and place.offset > end:
            raise QueryError(
                f"expected an offset of {self._topic} of {self._source} up to {end}, got "
                f"{place.offset}"
            )
        if reader is None:
            return
        if place is not None:
            check_place(reader, place)
        stream = Stream(self._tail, self._topic, self._selected, reader, range(0), BATCH_RECORDS)
        stream.seek(end if place is None else place.offset)
        self.stream = stream


class Follow:
    """Batches of records, to be iterated over by `for` or by `async for`, by one of them.

    It ends at the `end` that was asked for, or when it is closed; as a context manager it closes
    itself. Whoever cancels a wait for the next batch loses none.
    """

    def __init__(
        self,
        engine: Engine,
        chosen: Chosen,
        kinds: Sequence[str],
        start: int | None,
        end: int | None,
        offset: int | Position | None,
    ) -> None:
        self._end = end
        self._tapes = [_Tape(engine, *one) for one in tapes_of(chosen, kinds, start, end)]
        for tape, place in zip(self._tapes, self._places(offset), strict=True):
            tape.open(place)
        has_history = start is not None or offset is not None
        self._merge = TracedMerge(len(self._tapes)) if has_history else None
        self._is_closed = self._is_quiet = self._is_derived = False
        self._given = self._read = self._offsets()
        self._pause_s, self._looked = PAUSE_S_MIN, time.monotonic()

    @property
    def position(self) -> dict[str, dict[str, int | str | None]]:
        """Where to go on after the last batch, to be stored as JSON and given as `offset`.

        It is behind what was given, and before all else, also after an error or Ctrl-C. Exact,
        except while the history of several tapes is merged: then up to a batch of each may come
        again.
        """
        both = zip(self._tapes, self._given, strict=True)
        return {tape.name: vars(tape.place(offset)) for tape, offset in both}

    def close(self) -> None:
        """Ends the iteration, also that of another thread, within a moment."""
        self._is_closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        while not self._is_over():
            batch = self._step()
            if batch is not None:
                # No call from here on: Ctrl-C comes before both, or behind.
                self._given = self._read
                return batch
            if self._is_quiet:
                self._wait()
        raise StopIteration

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Batch:
        while not self._is_over():
            # Here alone it can be cancelled, with nothing in its hands; others have their turn.
            await importlib.import_module(ASYNCIO).sleep(
                0 if self._pause_s == PAUSE_S_MIN else self._pause_s
            )
            batch = self._step()
            if batch is not None:
                self._given = self._read
                return batch
        raise StopAsyncIteration

    def _offsets(self) -> list[int]:
        is_exact = self._merge is None or len(self._tapes) == 1
        return [tape.offset(is_exact) for tape in self._tapes]

    def _places(self, offset: int | Position | None) -> list[Place | None]:
        names = [tape.name for tape in self._tapes]
        if offset is None:
            return [None] * len(names)
        if isinstance(offset, Mapping):
            if sorted(offset) != sorted(names):
                raise QueryError(
                    f"expected an offset of each of {', '.join(names)}, got {', '.join(offset)}"
                )
            return [_place(offset[name]) for name in names]
        if len(names) > 1:
            raise QueryError(
                f"an offset is of one tape, these are {', '.join(names)}: expected one source and "
                "kinds of one tape, or the `position` of a follow"
            )
        return [_place({"offset": offset})]

    def _step(self) -> Batch | None:
        """Returns what is there by now; none if nothing is, or nothing that is wanted."""
        try:
            batch = self._live() if self._merge is None else self._history(self._merge)
            self._is_quiet = batch is None
            self._pause_s = min(self._pause_s * 2, PAUSE_S_MAX) if batch is None else PAUSE_S_MIN
            if time.monotonic() >= self._looked + LOOK_S:
                for tape in self._tapes:
                    tape.look()
                self._looked = time.monotonic()
            self._read = self._offsets()
            if batch is not None and len(batch):
                return batch
            self._given = self._read
        except BaseException:
            # What was read already is lost to who would go on here; `position` is before it.
            self._is_closed = True
            raise
        return None

    def _history(self, merge: TracedMerge) -> Batch | None:
        while (dry := merge.wanting()) is not None:
            batch = self._tapes[dry].read_history()
            if batch is not None and not len(batch):
                return self._batch(NOTHING)
            merge.push(dry, batch)
        records, which = merge.take(BATCH_RECORDS)
        if not len(records) and merge.wanting() is None:
            self._merge = None
        return self._batch(records, which)

    def _live(self) -> Batch | None:
        read = [tape.read() for tape in self._tapes]
        found = [number for number, records in enumerate(read) if records is not None and records]
        if len(found) < 2:
            if not found:
                return None if all(records is None for records in read) else self._batch(NOTHING)
            [number] = found
            only = read[number] or NOTHING
            return self._batch(only, np.full(len(only), number))
        merge = TracedMerge(len(read))
        for number, records in enumerate(read):
            merge.push(number, records)
            merge.push(number, None)
        return self._batch(*merge.take(sum(len(records or NOTHING) for records in read)))

    def _batch(self, records: Records, which: npt.NDArray[np.intp] | None = None) -> Batch:
        return Batch(records, [tape.origin for tape in self._tapes], which)

    def _is_over(self) -> bool:
        if self._is_closed or self._end is None or self._merge is not None:
            return self._is_closed
        streams = [tape.stream for tape in self._tapes]
        if all(stream is not None and stream.has_ended for stream in streams):
            return True
        # A quiet tape has nothing behind the end that would tell.
        if self._pause_s < PAUSE_S_MAX or time.time_ns() <= self._end + DISORDER_NS:
            return False
        # What was derived since the last look is read before the end.
        was_derived = self._is_derived
        self._is_derived = not any(tape.is_behind(self._end) for tape in self._tapes)
        return was_derived and self._is_derived

    def _wait(self) -> None:
        stream = self._tapes[0].stream
        if len(self._tapes) > 1 or stream is None or stream.reader is None:
            time.sleep(self._pause_s)
        else:
            stream.reader.wait(WAIT_MS)


class Live(Opened):
    """What `Lake` says of now."""

    def follow(
        self,
        symbols: Symbols | None = None,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        *,
        kinds: str | Sequence[str] = DEFAULT_KINDS,
        offset: int | Position | None = None,
        source: str | None = None,
        exchange: str | None = None,
        product: str | None = None,
    ) -> Follow:
        """Returns records as they come, to be read by `for` or `async for`, without an end.

        From now on; or from `start` (time of receipt), or from the `offset` of a tape or the
        `position` of an earlier follow. What is held of the past comes first, merged by receive
        time as `replay` gives it. What comes later is given at once: each tape in its order, and of
        several tapes what is there at one moment by receive time. With `end` it ends there.

        Where nothing comes that was received after `end`, the clock ends it, a few seconds behind
        `end`; bars, ticks and whatever else is derived are waited for as long as a derivation runs
        that has yet to make them. Where none does, they may be incomplete.

        A batch is as one of `replay`. A recorder may write meanwhile, stop and start again; where
        retention passes who reads slowly, the lake has what the tape has not.

        Raises:
            QueryError: as for `replay`; or retention took what was not read, from the lake too.
            TapeReplacedError: a tape is not the one of `offset`, or not the one any more.
        """
        if start is not None and offset is not None:
            raise QueryError("expected a start or an offset, got both")
        return Follow(
            self._engine,
            self._instruments.choose(symbols, source, exchange, product),
            (kinds,) if isinstance(kinds, str) else tuple(kinds),
            *parse_range(start, end),
            offset,
        )


def _place(told: Mapping[str, int | str | None]) -> Place:
    offset, tape, fingerprint = (told.get(name) for name in ("offset", "tape", "fingerprint"))
    if not isinstance(offset, int) or isinstance(offset, bool) or offset < 0:
        raise QueryError(f"expected an offset of 0 or more, got {offset!r}")
    return Place(offset, _text(tape), _text(fingerprint))


def _text(value: int | str | None) -> str | None:
    return None if value is None else str(value)
