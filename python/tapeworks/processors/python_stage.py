"""What runs a processor in Python exactly once between two tapes, as the core runs its own.

The output carries the input offset that it covers. A restart takes the newest state that is not
ahead of that, feeds the input in between once more without writing, and goes on. Retention of the
input waits for what the oldest saved state needs.
"""

import contextlib
import hashlib
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tapeworks._core import Records, TapeReader, TapeWriter
from tapeworks.durable import replace_file
from tapeworks.errors import ProcessorError, TapeRangeError, TapeworksError
from tapeworks.processors.base import (
    EARLIEST,
    Ending,
    HasParts,
    Processor,
    ReadsDefinitions,
    ReadsOutput,
    State,
    loss_gap,
    newest_receipt,
)
from tapeworks.processors.time_limit import CALL_S_MAX, ended_after, told_by
from tapeworks.tape import check_place, place_at, save_offset

if TYPE_CHECKING:
    from typing_extensions import Buffer

STATES_KEPT = 3
REBUILD_ITEMS = 4096
# The state is saved when the input is so much later, in ns: retention waits for what the oldest
# state is made of, and should not wait for days where little comes.
SAVE_NS = 3_600_000_000_000


class PythonStage:
    """A processor between two tapes, exactly once.

    `notes` holds what opening found, and what happened since; `take_notes` empties it.
    """

    def __init__(
        self,
        processor: Processor,
        source: str | PathLike[str],
        target: str | PathLike[str],
        states: str | PathLike[str],
        *,
        save_items: int = 100_000,
        save_bytes: int = 256 << 20,
        reader: str | None = None,
        call_s_max: float = CALL_S_MAX,
        definitions: Records | None = None,
        **tape: Any,
    ) -> None:
        """Opens both tapes. `tape` is how the output is written, as `TapeWriter` names it.

        A call of the processor that takes longer than `call_s_max` is ended, as if it had raised.
        `definitions` are for one that begins behind what retention took of the input.

        Raises:
            TapeReplacedError: the input is not the tape of which the saved state was made.
            ProcessorError: the processor raised.
        """
        self.notes: list[str] = []
        self._processor = processor
        self._settings = hashlib.sha256(repr(processor.config).encode()).digest()[:8]
        self._source, self._target = Path(source), Path(target)
        self._reader = TapeReader(source)
        self._writer = TapeWriter(target, "records", source=source, **tape)
        self._states = Path(states)
        self._states.mkdir(parents=True, exist_ok=True)
        self._name = reader
        self._limits = (save_items, save_bytes)
        self._call_s_max = call_s_max
        self._definitions = definitions
        self._pending: tuple[Buffer, int] | None = None
        self._position = 0
        self._begun = 0
        self._is_restored = False
        self._ts = self._saved_ts = EARLIEST
        self._made = Records.from_bytes(b"")
        self._items = self._bytes = 0
        self._losses: list[tuple[int, int, int, int, str]] = []
        self._endings: list[Ending] = []
        try:
            self._resume()
            self._begin_again()
            self._register()
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

    @property
    def has_reports(self) -> bool:
        """Whether `take_notes` or `take_losses` has anything to return."""
        return bool(self.notes or self._losses)

    def take_notes(self) -> list[str]:
        """Returns the notes since the last call, to be logged: of the opening, and of the run."""
        notes, self.notes = self.notes, []
        return notes

    def take_losses(self) -> list[tuple[int, int, int, int, str]]:
        """Returns what was lost since the last call: items, receipt before and after, cause."""
        losses, self._losses = self._losses, []
        return losses

    def take_endings(self) -> list[Ending]:
        """Returns which parts of the processor stopped since the last call."""
        endings, self._endings = self._endings, []
        return endings

    def step(self, max_items: int = 4096) -> int:
        """Processes at most `max_items` items and publishes what follows; 0 when all was read.

        Raises:
            DiskFullError, OSError: nothing is lost; call again.
            ProcessorError: the processor raised; it is not to be called again.
        """
        if self._writer.needs_reopen:
            self._writer.reopen()
        self._publish()
        before = self._position
        self._advance(max_items, write=True)
        if self._saved_ts == EARLIEST:
            self._saved_ts = self._ts
        items, size = self._limits
        is_late = self._ts != EARLIEST and self._ts - self._saved_ts >= SAVE_NS
        # That a part has stopped is kept at once: the next start then knows it without its error.
        if self._note_endings():
            self._items = items
        if self._items >= items or self._bytes >= size or is_late:
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

    def cover(self, *, frame: bool = False) -> None:
        """Publishes up to where the input was taken, also where nothing was made of it.

        With `frame`, the next opening goes on there.
        """
        if self._writer.needs_reopen:
            self._writer.reopen()
        self._publish()
        if self._position:
            ts = None if self._ts == EARLIEST else self._ts
            self._writer.cover(self._position, ts, frame=frame)

    def save(self) -> None:
        """Saves the state. The output is made durable first: no state is ahead of it."""
        self.cover(frame=True)
        self._writer.sync()
        with self._guarded("snapshot"):
            made = self._processor.snapshot()
        # A part that could not give its state has stopped, which is in the state that was made.
        self._note_endings()
        place = place_at(self._reader, self._position)
        state = State(place, self._writer.end, made, self._settings)
        path = self._states / f"{self._position:020}.state"
        replace_file(path, state.to_bytes())
        for old in self._listed()[STATES_KEPT:]:
            old.unlink()
        self._items = self._bytes = 0
        self._saved_ts = self._ts
        self._register()

    def close(self) -> None:
        """Closes the output. What is not saved is made again by the next opening."""
        self._writer.close()

    @contextlib.contextmanager
    def _guarded(self, what: str) -> Iterator[None]:
        """Makes whatever the user's code raises an error that names the place."""
        try:
            with ended_after(self._call_s_max):
                yield
        except TapeworksError:
            raise
        except Exception as error:
            raise ProcessorError(
                f"{type(self._processor).__name__}.{what} raised at input offset {self._position} "
                f"of {self._source}: {told_by(error)}"
            ) from error

    def _listed(self) -> list[Path]:
        return sorted(self._states.glob("*.state"), reverse=True)

    def _register(self) -> None:
        """Tells the input's retention what a restart needs."""
        if self._name is None:
            return
        listed = self._listed()
        needed = int(listed[-1].stem) if listed else self._begun
        try:
            save_offset(self._source, self._name, needed)
        except OSError as error:
            # Retention then keeps more than is needed.
            self.notes.append(str(error))

    def _advance(self, max_items: int, *, write: bool) -> int:
        try:
            batch = self._reader.read(max_items)
        except TapeRangeError as error:
            if error.first <= self._position:
                raise
            return self._skip(error.first, write=write)
        if batch is None:
            return 0
        with self._guarded("process"):
            made = self._made = Records.from_bytes(self._processor.process(batch))
        self._ts = max(self._ts, newest_receipt(batch))
        self._items += batch.next_offset - self._position
        self._bytes += memoryview(batch).nbytes
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
        first, ts_end = self._first_kept(first)
        lost = (self._position, first - 1)
        cause = self._reader.loss_cause(lost[0])
        self.notes.append(f"input {lost[0]} to {lost[1]} is gone, by cause {cause}")
        gap = loss_gap(*lost, self._ts, cause)
        with self._guarded("lost"):
            made = gap + bytes(self._processor.take_loss(Records.from_bytes(gap)))
        self._made = Records.from_bytes(made)
        if write:
            self._losses.append((*lost, self._ts, max(self._ts, ts_end), cause))
            self._pending = (self._made, first)
            self._publish()
        self._position = first
        return len(self._made)

    def _first_kept(self, first: int) -> tuple[int, int]:
        """Goes to offset `first`, or to the first that is there by now, as retention goes on.

        Returns that offset, and the receive time of the item there.
        """
        while True:
            try:
                self._reader.seek(first)
                following = self._reader.read(1)
                self._reader.seek(first)
            except TapeRangeError as error:
                if error.first <= first:
                    raise
                first = error.first
            else:
                return first, EARLIEST if following is None else newest_receipt(following)

    def _resume(self) -> None:
        target = self._writer.covered
        if undone := self._writer.recovery["undone"]:
            self.notes.append(f"{undone} items were undone: their input is gone")
        end, stored = self._writer.end, self._restore(target or 0)
        is_cut = self._position < self._reader.first
        if target is None:
            self._position = self._begun = self._reader.first
            self._reader.seek(self._position)
            self._define(is_cut)
            return
        self._enter(target)
        self._define(is_cut)
        self._begun = self._position
        notes, made, rebuilt = len(self.notes), 0, bytearray()
        while self._position < target:
            before = self._position
            made += self._advance(min(REBUILD_ITEMS, target - self._position), write=False)
            if isinstance(self._processor, ReadsOutput) and self._is_restored:
                rebuilt += memoryview(self._made)
            if self._position > target:
                # What is gone goes on behind what the output covers: that part is declared.
                first, self._position = self._position, target
                self._skip(first, write=True)
            if self._position == before:
                self.notes.append(f"the output covers input up to {target}; it ends at {before}")
                break
        if stored is not None and stored + made != end and len(self.notes) == notes:
            self.notes.append(
                "rebuilding gave other items than are stored: was it another version?"
            )
        if isinstance(self._processor, ReadsOutput):
            self._reconcile(self._processor, (stored, end), bytes(rebuilt))

    def _reconcile(
        self, processor: ReadsOutput, stored: tuple[int | None, int], rebuilt: bytes
    ) -> None:
        """Makes the output follow from the state, where other settings wrote some of it."""
        output = TapeReader(self._target)
        first, end = stored
        if self._is_restored and first is not None and first >= output.first:
            output.seek(first)
            if b"".join(_batches(output, end)) == rebuilt:
                return
        output.seek(output.first)
        with self._guarded("reconcile"):
            for batch in iter(output.read, None):
                processor.take_output(batch)
            made = Records.from_bytes(processor.reconcile())
        # It covers no more input than before, so that it is said once.
        self._pending = (made, self._position)
        self._publish()

    def _begin_again(self) -> None:
        """Begins the parts of the processor anew that have stopped before."""
        if not isinstance(self._processor, HasParts):
            return
        with self._guarded("begin_again"):
            made = Records.from_bytes(self._processor.begin_again())
        if not self._note_endings():
            return
        # It covers no more input than before. The state is kept before anything follows from it.
        self._pending = (made, self._position)
        self._publish()
        self.save()

    def _note_endings(self) -> bool:
        """Takes in which parts of the processor stopped; returns whether any did."""
        found = self._processor.take_endings() if isinstance(self._processor, HasParts) else []
        self._endings += found
        return bool(found)

    def _define(self, is_cut: bool) -> None:
        """Shows the processor the definitions that stood before its input, which are gone."""
        if self._definitions and is_cut:
            assert isinstance(self._processor, ReadsDefinitions)
            with self._guarded("define"):
                self._processor.define(self._definitions)

    def _enter(self, target: int) -> None:
        try:
            self._reader.seek(self._position)
        except TapeRangeError as error:
            if error.first <= self._position:
                raise
            is_lost = error.first > target
            if is_lost:
                self._position = target
            self._skip(error.first, write=is_lost)

    def _restore(self, target: int) -> int | None:
        """Takes in the newest usable state; returns the output's end at that time."""
        for path in self._listed():
            try:
                saved = State.from_bytes(path.read_bytes())
                if saved.input.offset > target:
                    path.unlink()
                    raise ValueError(f"it is ahead of the output, which covers {target}: removed")
                if saved.settings != self._settings:
                    raise ValueError("it was made with other settings: not used")
                check_place(self._reader, saved.input)
                self._take_in(saved)
            except ValueError as error:
                self.notes.append(f"{path}: {error}")
                continue
            self._position = saved.input.offset
            self._is_restored = True
            return saved.output
        return None if self.notes else 0

    def _take_in(self, saved: State) -> None:
        with self._guarded("restore"):
            try:
                self._processor.restore(saved.state)
            except ValueError as error:
                refused = error
            else:
                return
        raise refused


def _batches(reader: TapeReader, end: int) -> Iterator[bytes]:
    """Yields what `reader` has before `end`."""
    while reader.position < end and (batch := reader.read(end - reader.position)) is not None:
        yield bytes(memoryview(batch))
