"""Runs the core's processors between the tapes of one source, as one process.

Each stage reads one tape and writes one. Its output carries the input offset that it covers, so a
stage that is killed at any instant goes on exactly where its output ends. Nothing here reads a
clock for what it writes: the same input gives the same tapes at any batch size.
"""

import contextlib
import json
import logging
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Protocol

from tapeworks._core import BookHistory, Stage
from tapeworks.errors import DiskFullError, TapeError

log = logging.getLogger("tapeworks.processors")

RAW, NORMALIZED = "market-data.raw", "market-data.normalized"
WAIT_MS = 20
DRAIN_S_MAX = 10.0
OPEN_RETRY_S = 0.1
FULL_RETRY_S = 1.0
TELL_S = 1.0
INDEX_S = 10.0
BOOKS = "market-data.book"


@dataclass(frozen=True)
class Step:
    """One processor: what it reads and writes."""

    processor: str
    source: str
    target: str


# The recorder itself runs `normalize`, right behind the raw tape; it is here to do it again.
NORMALIZE = Step("normalize", RAW, NORMALIZED)
STEPS = (
    Step("books", NORMALIZED, BOOKS),
    Step("bars", NORMALIZED, "market-data.bars"),
    Step("ticks", NORMALIZED, "market-data.ticks"),
    Step("gaps", NORMALIZED, "market-data.gaps"),
    Step("dead_letters", NORMALIZED, "market-data.dead"),
)


class HasProcessors(Protocol):
    """The settings of processors that are read here."""

    @property
    def batch_items(self) -> int:
        """Items that one step takes at most."""

    def settings(self, processor: str) -> Mapping[str, int | str | Sequence[int]]:
        """Returns the settings of `processor` by name."""


class HasDurability(Protocol):
    """The settings of tapes that are read here."""

    @property
    def durability_ms(self) -> int:
        """How long what is published may stay not durable: 0 not at all, -1 for ever."""

    @property
    def segment_bytes(self) -> int:
        """A segment is closed before it grows beyond this."""


class Derivation:
    """All stages of one source. They open as their inputs come to be."""

    def __init__(
        self,
        processors: HasProcessors,
        tape: HasDurability,
        data: Path,
        source: str,
        steps: Sequence[Step] = STEPS,
    ) -> None:
        self._processors = processors
        self._tape = tape
        self._tapes = data / "tape" / source
        self._states = data / "state" / source
        self._waiting = list(steps)
        self._stages: dict[str, Stage] = {}
        self._history: BookHistory | None = None

    def step(self) -> int:
        """Lets every stage take one batch; returns how many items they took."""
        if self._waiting:
            self._open()
        return sum(stage.step(self._processors.batch_items) for stage in self._stages.values())

    def drain(self, seconds_max: float = DRAIN_S_MAX) -> bool:
        """Takes all that is published, within `seconds_max`; returns whether it could."""
        deadline = time.monotonic() + seconds_max
        while self.step():
            if time.monotonic() >= deadline:
                return False
        return not self._waiting

    def lags(self) -> dict[str, int]:
        """Returns, by topic, how many published items each stage has yet to take."""
        targets = {step.processor: step.target for step in STEPS}
        return {targets.get(name, name): stage.lag for name, stage in self._stages.items()}

    def index_books(self) -> None:
        """Notes where the checkpoints of the book tape lie that were written since the last call.

        So the first question for a past book need not scan the tape. It costs one look at the
        headers of what was written, and keeps the index in a file beside the tape. It may fail:
        whoever asks then scans what is missing.
        """
        if "books" not in self._stages:
            return
        with contextlib.suppress(OSError, TapeError):
            if self._history is None:
                self._history = BookHistory(self._tapes / BOOKS)
            self._history.refresh()

    def wait(self) -> None:
        """Waits until there may be something to take, but not for long."""
        stage = next(iter(self._stages.values()), None)
        if stage is None:
            time.sleep(OPEN_RETRY_S)
        else:
            stage.wait(WAIT_MS)

    def close(self) -> None:
        """Saves all states, so that the next start replays little."""
        for stage in self._stages.values():
            stage.save()
            stage.close()
        self._stages.clear()

    def _open(self) -> None:
        for step in list(self._waiting):
            folder = self._tapes / step.source
            if not folder.is_dir() or not any(folder.iterdir()):
                continue
            settings = dict(self._processors.settings(step.processor))
            if step.processor == "dead_letters":
                settings["raw"] = str(self._tapes / RAW)
            self._stages[step.processor] = Stage(
                step.processor,
                folder,
                self._tapes / step.target,
                self._states / step.processor,
                settings,
                durability_ms=self._tape.durability_ms,
                segment_bytes=self._tape.segment_bytes,
            )
            self._waiting.remove(step)


def run_worker(processors: HasProcessors, tape: HasDurability, data: Path, source: str) -> None:
    """Derives everything of `source` until SIGTERM, then takes what is published and ends.

    Raises:
        TapeError: a tape is corrupt, locked, or cannot be written.
    """
    stopping: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        stopping.append(number)

    signal.signal(signal.SIGTERM, ask)
    derivation = Derivation(processors, tape, data, source)
    told, indexed, full = 0.0, 0.0, False
    try:
        while not stopping:
            try:
                if not derivation.step():
                    derivation.wait()
                full = False
            except DiskFullError as error:
                # Nothing is lost by it: what was not written is written when there is room.
                if not full:
                    log.error("%s: waiting for room: %s", source, error)
                full = True
                time.sleep(FULL_RETRY_S)
            if time.monotonic() - told >= TELL_S:
                told = time.monotonic()
                _tell(data / "state" / source / "derive.json", derivation.lags())
            if time.monotonic() - indexed >= INDEX_S:
                indexed = time.monotonic()
                derivation.index_books()
        if not derivation.drain():
            log.warning("%s: stopped with input left; the next start goes on there", source)
    finally:
        derivation.close()


def _tell(path: Path, lags: Mapping[str, int]) -> None:
    """Replaces the file that status screens read. A tape without news does not say how far it is.

    A full disk must not end the derivation of what still fits: the file is then left as it is.
    """
    aside = path.with_suffix(".tmp")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(json.dumps(lags), encoding="utf-8")
        aside.replace(path)
