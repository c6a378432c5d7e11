"""The contract of a processor written in Python, and what runs it exactly once between two tapes.

A processor sees no clock and no chance: time is in the records. What it gives for an item depends
on the items before it alone, never on where batches begin or end; so live equals replay. It is
slower than those of the core and otherwise their equal: the output carries the input offset that it
covers, and a stage that is killed at any instant writes every item once.
"""

import hashlib
import os
import struct
from abc import ABC, abstractmethod
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from typing_extensions import Buffer

from tapeworks._core import KIND_MARKER, NONE, Records, TapeReader, TapeWriter, numbers
from tapeworks.errors import TapeRangeError

STATES_KEPT = 3
# "TWPYSTAT", version, input offset, output offset, length of the state; then the state and the
# SHA-256 of all before.
STATE_HEAD = struct.Struct("<8sIQQQ")
STATE_MAGIC, STATE_VERSION = b"TWPYSTAT", 1
# A marker, as the core lays it out.
MARKER = struct.Struct("<BBBBIqqQBBBBIQQq")
GAP = numbers("marker_code")["gap"]
RETENTION, CLOSED = numbers("gap_cause")["retention"], numbers("gap_state")["closed"]
COUNT_UNKNOWN = 0xFFFF_FFFF


class Processor(ABC):
    """One step of the pipeline."""

    @abstractmethod
    def process(self, batch: Records) -> Buffer:
        """Returns what follows from `batch`: whole records, or nothing."""

    @abstractmethod
    def snapshot(self) -> bytes:
        """Returns the whole state."""

    @abstractmethod
    def restore(self, state: bytes) -> None:
        """Takes in what `snapshot` of a processor of the same settings returned.

        Raises:
            ValueError: the state is not one of this processor's.
        """

    def lost(self, first: int, last: int) -> None:  # noqa: B027
        """Told that input items `first` to `last` are gone: retention passed this stage.

        Does nothing unless overridden.
        """


@dataclass(frozen=True)
class State:
    """One saved state of a processor."""

    input: int
    """The next input item to be read."""
    output: int
    """The output's end when the state was taken."""
    state: bytes

    def to_bytes(self) -> bytes:
        """Returns the state as it is stored."""
        head = (STATE_MAGIC, STATE_VERSION, self.input, self.output, len(self.state))
        content = STATE_HEAD.pack(*head) + self.state
        return content + hashlib.sha256(content).digest()

    @staticmethod
    def from_bytes(data: bytes) -> "State":
        """Reads a stored state.

        Raises:
            ValueError: it is not whole, or of another kind or version.
        """
        content, digest = data[:-32], data[-32:]
        if len(content) < STATE_HEAD.size or hashlib.sha256(content).digest() != digest:
            raise ValueError("it is not whole")
        magic, version, covered, end, length = STATE_HEAD.unpack_from(content)
        state = content[STATE_HEAD.size :]
        if magic != STATE_MAGIC or version != STATE_VERSION or len(state) != length:
            raise ValueError(f"wanted a state of version {STATE_VERSION}")
        return State(covered, end, state)


class PythonStage:
    """A processor between two tapes, exactly once. `notes` tells what opening found."""

    def __init__(
        self,
        processor: Processor,
        source: str | PathLike[str],
        target: str | PathLike[str],
        states: str | PathLike[str],
        *,
        durability: str = "interval",
        save_items: int = 100_000,
    ) -> None:
        self.notes: list[str] = []
        self._processor = processor
        self._reader = TapeReader(source)
        self._writer = TapeWriter(target, "records", durability=durability, source=source)
        self._states = Path(states)
        self._states.mkdir(parents=True, exist_ok=True)
        self._save_items = save_items
        self._pending: tuple[Buffer, int] | None = None
        self._position = 0
        self._ts = 0
        self._since_save = 0
        try:
            self._resume()
        except BaseException:
            self._writer.close()
            raise

    @property
    def covered(self) -> int:
        """The next input item to be read: the output covers all before."""
        return self._position

    @property
    def lag(self) -> int:
        """How many published input items are still to be read."""
        return max(0, self._reader.end - self._position)

    def step(self, max_items: int = 4096) -> int:
        """Processes at most `max_items` items and publishes what follows; 0 when all was read.

        Raises:
            DiskFullError: nothing is lost; free space and call again.
        """
        self._publish()
        before = self._position
        self._advance(max_items, write=True)
        self._since_save += self._position - before
        if self._since_save >= self._save_items:
            self.save()
        return self._position - before

    def run_until_idle(self, max_items: int = 4096) -> int:
        """Steps until all published input was read; returns how many items were processed."""
        before = self._position
        while self.step(max_items):
            pass
        return self._position - before

    def wait(self, timeout_ms: int) -> bool:
        """Waits until there is input, at most so long; returns whether there is."""
        return self._reader.wait(timeout_ms)

    def save(self) -> None:
        """Saves the state. The output is made durable first: no state is ahead of it."""
        self._publish()
        if (self._writer.covered or 0) < self._position:
            self._writer.append(b"", 0, input_offset=self._position, ts=self._ts)
        self._writer.sync()
        state = State(self._position, self._writer.end, self._processor.snapshot())
        path = self._states / f"{self._position:020}.state"
        aside = path.with_suffix(".part")
        with aside.open("wb") as file:
            file.write(state.to_bytes())
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        folder = os.open(self._states, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        for old in self._listed()[STATES_KEPT:]:
            old.unlink()
        self._since_save = 0

    def close(self) -> None:
        """Closes the output. What is not saved is made again by the next opening."""
        self._writer.close()

    def _listed(self) -> list[Path]:
        return sorted(self._states.glob("*.state"), reverse=True)

    def _advance(self, max_items: int, *, write: bool) -> int:
        try:
            batch = self._reader.read(max_items)
        except TapeRangeError as error:
            return self._skip(error.first, write=write)
        if batch is None:
            return 0
        made = Records.from_bytes(self._processor.process(batch))
        if write:
            self._pending = (made, batch.next_offset)
            self._publish()
        self._position = batch.next_offset
        return len(made)

    def _publish(self) -> None:
        if self._pending is None:
            return
        made, covered = self._pending
        if memoryview(made).nbytes:
            self._writer.append(made, input_offset=covered)
        self._pending, self._position = None, covered

    def _skip(self, first: int, *, write: bool) -> int:
        """Goes on at `first`, as the items before it are gone, and declares the loss."""
        lost = (self._position, first - 1)
        self.notes.append(f"input {lost[0]} to {lost[1]} is gone: retention passed this stage")
        self._processor.lost(*lost)
        self._reader.seek(first)
        if write:
            count = min(first - lost[0], COUNT_UNKNOWN - 1)
            header = (MARKER.size // 8, KIND_MARKER, 0, 0, 0, self._ts, self._ts, 0)
            gap = MARKER.pack(*header, GAP, RETENTION, CLOSED, 0, count, *lost, NONE)
            self._pending = (gap, first)
            self._publish()
        self._position = first
        return 1

    def _resume(self) -> None:
        target = self._writer.covered
        if undone := self._writer.recovery["undone"]:
            self.notes.append(f"{undone} items were taken back: their input is gone")
        stored = self._restore(target or 0)
        if target is None:
            self._position = self._reader.first
            self._reader.seek(self._position)
            return
        self._enter(target)
        notes, made = len(self.notes), 0
        while self._position < target:
            made += self._advance(min(4096, target - self._position), write=False)
        if stored is not None and stored + made != self._writer.end and len(self.notes) == notes:
            self.notes.append("other items were made again than are stored: another version?")

    def _enter(self, target: int) -> None:
        try:
            self._reader.seek(self._position)
        except TapeRangeError as error:
            is_lost = error.first > target
            if is_lost:
                self._position = target
            self._skip(error.first, write=is_lost)

    def _restore(self, target: int) -> int | None:
        """Takes in the newest usable state; returns the output's end at that time."""
        for path in self._listed():
            try:
                saved = State.from_bytes(path.read_bytes())
                if saved.input > target:
                    path.unlink()
                    raise ValueError(f"it is ahead of the output, which covers {target}: removed")
                self._processor.restore(saved.state)
            except ValueError as error:
                self.notes.append(f"{path}: {error}")
                continue
            self._position = saved.input
            return saved.output
        return None if self.notes else 0
