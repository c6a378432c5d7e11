"""The loop that feeds one partition of a sink from its tape.

The tape keeps what is not final, so that a sink that fails or is killed at any instant goes on from
its last flush; a tape that is not the one it stored, or was cut or rewritten before that place, is
refused.
"""

import logging
import time
from pathlib import Path
from typing import Any, Protocol

from tapeworks._core import StageTimer, TapeReader
from tapeworks.errors import (
    SinkError,
    SinkUnavailable,
    TapeError,
    TapeRangeError,
    TapeReplacedError,
)
from tapeworks.lake import BLOBS_MAX
from tapeworks.sinks.base import FlushPolicy, SinkPartition
from tapeworks.sinks.begun import forget_begun, note_begun, read_begun
from tapeworks.tape import (
    RETENTION,
    UNKNOWN,
    Loss,
    Place,
    check_place,
    has_segments,
    load_offset,
    note_loss,
    open_tape,
    place_at,
    received,
    received_next,
    save_offset,
)

log = logging.getLogger("tapeworks.sinks")

BATCH_RECORDS = 16_384  # 1 MiB of most: still in the cache when it becomes rows
IDLE_S = 0.02
BACKOFF_S_MAX = 30.0
# Retention waits for a sink that says where it is, also while nothing comes.
REGISTER_S = 3_600.0
# Parts of what is not final whose times are remembered one by one.
MOVED_MAX = 10_000


class HasSinks(Protocol):
    """The part of the config that a sink worker reads."""

    @property
    def data(self) -> Path: ...

    @property
    def feeds(self) -> Any: ...

    @property
    def sinks(self) -> Any: ...


def inode_of(folder: Path) -> int:
    """Returns what tells a folder from another at the same path; 0 if there is none."""
    try:
        return folder.stat().st_ino
    except FileNotFoundError:
        return 0


class Feeder:
    """Feeds one partition from its tape, up to what is durable.

    It opens both when the tape is there.
    """

    def __init__(
        self,
        partition: SinkPartition,
        tape: Path,
        policy: FlushPolicy,
        *,
        name: str | None = None,
        live: bool = False,
        together: StageTimer | None = None,
    ) -> None:
        self.partition = partition
        self._tape = tape
        self._policy = policy
        self._name = name
        self._live = live
        self._registered: tuple[int, float] | None = None
        self._reader: TapeReader | None = None
        self._inode = 0
        self._flushed = time.monotonic()
        self._retry_at = 0.0
        self._failures = 0
        self._lacks_input = False
        self.errors = 0
        """How often storing failed."""
        self.refusal = ""
        """Why the store took nothing when it was asked last; empty if it did."""
        self._oldest = (-1, 0)
        self.timer = StageTimer()
        """How long records took from their receipt until they were final."""
        self.together = together or StageTimer()
        """The same of all feeders that share it."""
        # What was received before is no live record.
        self._since = time.time_ns()
        self._moved: list[tuple[int, int]] = []

    @property
    def source(self) -> str:
        """The source whose tape it reads."""
        return self._tape.parent.name

    @property
    def topic(self) -> str:
        """The topic of its tape."""
        return self._tape.name

    @property
    def label(self) -> str:
        """What the feeder is called in messages."""
        return f"{self._tape.parent.name}: {self._tape.name}"

    @property
    def flush_s(self) -> float:
        """After how long, at most, what was moved is to be final."""
        return self._policy.seconds

    @property
    def held_bytes(self) -> int:
        """Memory of what was moved and is not yet final."""
        return 0 if self._reader is None else self.partition.pending[1]

    @property
    def stored(self) -> int | None:
        """The offset before which all is final; none while the tape is not open."""
        if self._reader is None:
            return None
        committed = self.partition.committed
        return self._reader.first if committed is None else committed.offset

    @property
    def backlog(self) -> int:
        """The number of durable items that are not yet final, as far as is known."""
        reader = self._reader or open_tape(self._tape)
        return 0 if reader is None else max(0, reader.durable - self._first_unstored(reader))

    @property
    def lag_s(self) -> float:
        """How long ago the oldest durable item that is not final was received, in seconds."""
        reader = self._reader or open_tape(self._tape)
        first = 0 if reader is None else self._first_unstored(reader)
        if reader is None or first >= reader.durable:
            return 0.0
        # Its own reader stays where it is.
        if self._oldest[0] != first and (other := open_tape(self._tape)) is not None:
            other.seek(first)
            self._oldest = first, received_next(other, time.time_ns())
        return max(0.0, (time.time_ns() - self._oldest[1]) / 1e9)

    def _first_unstored(self, reader: TapeReader) -> int:
        """Returns the offset of the first item that is not final, as far as is known."""
        stored = self.stored
        if stored is None and self._name is not None:
            stored = load_offset(self._tape, self._name)
        return max(stored or 0, reader.first)

    @property
    def _unread(self) -> bool:
        reader = self._reader
        return self.backlog > 0 if reader is None else reader.position < reader.durable

    def step(self, *, is_full: bool = False) -> int:
        """Moves one batch and flushes when it is due; returns how many records it moved.

        With `is_full` there is no memory for more: what was moved is flushed instead.
        """
        if time.monotonic() < self._retry_at:
            return 0
        try:
            moved = 0 if is_full else self._move()
            rows, size = self.partition.pending if self._reader is not None else (0, 0)
            due = is_full or time.monotonic() - self._flushed >= self._policy.seconds
            if rows >= self._policy.rows or size >= self._policy.bytes or (due and rows):
                self.flush()
            elif due and (self._reader is not None or has_segments(self._tape)):
                # Of a tape that is never written, such as that of metrics, there is no folder.
                self._check_folder()
                self._register()
        except SinkUnavailable as error:
            self._back_off(error)
            return 0
        self._failures, self._lacks_input = 0, False
        return moved

    def flush(self) -> None:
        """Makes everything final that was moved."""
        if self._reader is not None:
            self._check_folder()
            self.partition.flush(self._place(self._reader))
            self.refusal = ""
            self._note_times()
            self._register()
        self._flushed = time.monotonic()

    def wait(self, timeout_ms: int) -> bool:
        """Waits until its tape has more, at most so long; returns whether it has."""
        if self._reader is None:
            time.sleep(timeout_ms / 1_000)
            return False
        return self._reader.wait(timeout_ms)

    def run_maintenance(self) -> bool:
        """Lets the sink do a piece of upkeep; returns whether it did."""
        return self._reader is not None and self.partition.run_maintenance()

    def drain(self, seconds_max: float) -> bool:
        """Moves and flushes all that is durable, within `seconds_max`; returns whether it could.

        What fails is tried again. The tape keeps what is missing.

        Raises:
            SinkUnavailable: the sink refuses it, also at the end of that time, or lacks input.
        """
        deadline, is_done = time.monotonic() + seconds_max, False
        self._retry_at = 0.0
        while not is_done and time.monotonic() < deadline:
            if not self.step():
                is_done = time.monotonic() >= self._retry_at and not self._unread
                time.sleep(0 if is_done else IDLE_S)
        while True:
            try:
                self.flush()
                return is_done or not self._unread
            except SinkUnavailable as error:
                if error.lacks_input or time.monotonic() + error.retry_after_ms / 1000 > deadline:
                    raise
                time.sleep(error.retry_after_ms / 1000)

    def close(self) -> None:
        """Closes the sink."""
        if self._reader is not None:
            self._reader = None
            self.partition.close()

    def _place(self, reader: TapeReader) -> Place:
        """Returns up to where what was moved may be made final."""
        if self.partition.reads_published:
            return place_at(reader, min(reader.position, reader.durable))
        return place_at(reader, reader.position)

    def _move(self) -> int:
        reader = self._reader or self._open()
        if reader is None:
            return 0
        end = reader.end if self.partition.reads_published else reader.durable
        rows, _ = self.partition.pending
        # What goes together has to come, however much there is.
        least = BATCH_RECORDS if self._lacks_input else 1
        room = min(BATCH_RECORDS, end - reader.position, max(least, self._policy.rows - rows))
        if room <= 0:
            return 0
        try:
            if reader.kind == "blobs":
                blobs = reader.read_blobs(min(room, BLOBS_MAX))
                if blobs:
                    self.partition.write_blobs(blobs)
                return len(blobs or ())
            batch = reader.read(room)
        except TapeRangeError as error:
            if error.first <= reader.position:
                raise
            self._skip(reader, reader.position, error.first)
            return 0
        if batch is None:
            return 0
        self.partition.write(batch)
        if len(batch) and (ts := received(batch)) >= self._since:
            # What is moved together is as old as its oldest; of very many parts the last are one.
            if len(self._moved) >= MOVED_MAX:
                ts, count = self._moved.pop()
                self._moved.append((ts, count + len(batch)))
            else:
                self._moved.append((ts, len(batch)))
        return len(batch)

    def _note_times(self) -> None:
        """Counts how long it took until what was moved is final; of what came while this ran."""
        now = time.time_ns()
        for ts, count in self._moved:
            for timer in (self.timer, self.together):
                timer.record(now - ts, count)
        self._moved.clear()

    def _skip(self, reader: TapeReader, expected: int, first: int) -> None:
        """Goes on at `first`, as what comes before is gone, and has the loss declared.

        To stop here would lose all that comes, too, until somebody looks.
        """
        held = self.partition.held()
        if max(held, self.partition.begun) <= expected:
            self.partition.flush(place_at(reader, expected))
        expected = max(held, expected)
        if expected >= first:
            # It was killed when it had sent these rows and not yet their place.
            log.warning("%s: what is gone before offset %d is stored", self._tape, expected)
            reader.seek(expected)
            self.partition.skip(place_at(reader, expected))
            self._register()
            return
        first, ts_end, place = _first_of(reader, first)
        reader_name, ts_start = self._name or "sink", self.partition.received
        cause = reader.loss_cause(expected)
        loss = Loss(self._tape.name, reader_name, expected, first - 1, ts_start, ts_end, cause)
        log.error("%s: offsets %d to %d are lost: %s", self._tape, expected, first - 1, loss.cause)
        # The note first: what is told twice is one gap, what is never told would be a silent one.
        # What a repair gave up, it declared.
        if cause == RETENTION:
            note_loss(self._tape.parents[2], self._tape.parent.name, loss)
        self.partition.skip(place)
        self._register()

    def _announce(self, reader: TapeReader) -> None:
        """Has retention wait for a sink that is new on this tape, before its store is reached."""
        if self._name is None:
            return
        try:
            # A damaged one has retention wait as well, and is replaced once the store says more.
            known = load_offset(self._tape, self._name)
            if not known and read_begun(self._tape, self._name) is None:
                # One that had said so before has stored nothing since the tape began.
                note_begun(self._tape, self._name, reader.first if known is None else known)
            if known is None:
                save_offset(self._tape, self._name, 0)
        except (OSError, TapeError) as error:
            log.warning("%s: %s", self._tape, error)

    def _register(self) -> None:
        """Tells the tape's retention what this sink still needs."""
        needed, now = self.partition.resume, time.monotonic()
        known = self._registered
        if self._name is None or (
            known is not None and known[0] == needed and now - known[1] < REGISTER_S
        ):
            return
        try:
            save_offset(self._tape, self._name, needed)
            if self.partition.committed is not None:
                forget_begun(self._tape, self._name)
        except (OSError, TapeError) as error:
            # Retention then keeps more than is needed.
            log.warning("%s: %s", self._tape, error)
        self._registered = needed, now

    def _open(self) -> TapeReader | None:
        inode = inode_of(self._tape)
        reader = open_tape(self._tape)
        if reader is None:
            # There is none, or its writer is just making it: look again at the next step.
            return None
        if self._live and not reader.settled:
            # The writer has yet to repair what a loss of power left.
            return None
        self._announce(reader)
        offset = self.partition.open()
        try:
            self._seek(reader, offset)
        except BaseException:
            self.partition.close()
            raise
        self._reader, self._flushed = reader, time.monotonic()
        self._inode, self.refusal = inode, ""
        return reader

    def _check_folder(self) -> None:
        """Refuses to go on reading a tape that is no longer the one at its path."""
        if self._reader is not None and inode_of(self._tape) != self._inode:
            raise TapeReplacedError(
                f"{self._tape} was removed or replaced while it was read; what was read is stored "
                "again from the tape that is there, if it is the same one"
            )

    def _seek(self, reader: TapeReader, offset: int) -> None:
        committed = self.partition.committed
        if committed is None:
            begin = offset = self._begin(reader)
        else:
            begin = committed.offset
            check_place(reader, committed)
        # Before anything is read: what is not final must not be taken away.
        self._register()
        # Where what gives context is gone, what was in pieces stays so.
        for start in (offset, begin):
            try:
                reader.seek(start)
                return
            except TapeRangeError as error:
                first = error.first
                if first <= start:
                    raise
        self._skip(reader, begin, first)

    def _begin(self, reader: TapeReader) -> int:
        """Tells a sink that is new on this tape from one that lost what it had stored.

        Returns where it begins: with what there was of the tape when it was seen first.
        """
        known = None if self._name is None else load_offset(self._tape, self._name)
        if self._name is None or not known:
            begun = None if self._name is None else read_begun(self._tape, self._name)
            # A tape that is shorter was cut, or made anew.
            return reader.first if begun is None or begun > reader.end else begun
        if reader.first == 0:
            log.warning(
                "%s: %s had stored up to offset %d and now holds nothing: everything is stored "
                "again from the tape",
                self._tape,
                self._name,
                known,
            )
            return 0
        raise SinkError(
            f"{self._tape}: {self._name} had stored up to offset {known} and now holds nothing, "
            f"and the tape has only what comes from offset {reader.first} on: "
            f"{self.partition.LOST_ADVICE}"
        )

    def _back_off(self, error: SinkUnavailable) -> None:
        delay_s = min(error.retry_after_ms / 1000 * 2**self._failures, BACKOFF_S_MAX)
        self._failures = min(self._failures + 1, 16)
        self._lacks_input = error.lacks_input
        self.errors += 1
        self.refusal = str(error)
        self._retry_at = time.monotonic() + delay_s
        log.warning("%s: retry in %.1f s: %s", self._tape.name, delay_s, error)


def _first_of(reader: TapeReader, first: int) -> tuple[int, int, Place]:
    """Goes to offset `first`, or to the first that is there by now, as retention goes on.

    Returns that offset, when what stands there was received, and its place.
    """
    while True:
        try:
            reader.seek(first)
            ts = received_next(reader, UNKNOWN)
            reader.seek(first)
            return first, ts, place_at(reader, first)
        except TapeRangeError as error:
            if error.first <= first:
                raise
            first = error.first
