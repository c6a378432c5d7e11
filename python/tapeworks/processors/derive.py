"""Runs the core's processors between the tapes of one source, as one process.

Each stage reads one tape and writes one. Its output carries the input offset that it covers, so a
stage that is killed at any instant goes on exactly where its output ends. Nothing here reads a
clock for what it writes: the same input gives the same tapes at any batch size.
"""

import contextlib
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tapeworks._core import BookHistory, Records, Stage, TapeReader, tells_news
from tapeworks.errors import (
    DiskFullError,
    ProcessorError,
    TapeError,
    TapeLockedError,
    TapeworksError,
)
from tapeworks.exits import EXIT_INCOMPLETE
from tapeworks.heartbeat import beat
from tapeworks.hot_path import prepare
from tapeworks.printable import one_line
from tapeworks.processors.derive_status import DeriveStatus
from tapeworks.processors.host_rules import HostRules
from tapeworks.processors.measuring import note_measured
from tapeworks.processors.python_stage import PythonStage
from tapeworks.processors.rule_watches import RuleWatches
from tapeworks.processors.time_limit import CALL_S_MAX
from tapeworks.registry import load_member, load_name
from tapeworks.source_symbols import kept_symbols
from tapeworks.stage_times import Told
from tapeworks.stopping import on_stop
from tapeworks.tape import RETENTION, Loss, TapeConfig, has_segments, note_loss
from tapeworks.topics import (
    ALERTS,
    BARS,
    BOOK,
    DEAD,
    GAPS,
    METRICS,
    NEWS,
    NORMALIZED,
    RAW,
    TICKS,
)

log = logging.getLogger("tapeworks.processors")

WAIT_MS = 20
DRAIN_S_MAX = 10.0
OPEN_RETRY_S = 0.1
FULL_RETRY_S = 1.0
COVER_S = 1.0
SLICE_US = 200  # Longer than the recorder's: a frame that has come does not wait for others.
SAVE_BYTES = 256 << 20


@dataclass(frozen=True)
class Step:
    """One processor: what it reads and writes."""

    processor: str
    source: str
    target: str
    needs_raw: bool = False
    """Whether it reads frames of the raw tape as well, and writes no records."""
    config: Any = None
    """The settings of a processor of the user's own; none for those of the core."""


# Runs where the feed tells news.
STORIES = "news"
# Runs where the settings name sets of metrics.
MEASURING = "metrics"
# Runs where the settings have rules.
ALERTING = "alerts"
# Whose outputs say each second how far they are, however little they have to tell.
COVERED = ("gaps", MEASURING, ALERTING)
# Whose outputs are stages of the way of a record.
MEASURED = {"books": "book", "metrics": "metrics"}
# Before the names of rules, where they stand among those of processors.
RULE = "rule "
OWN_ALERTS = "tapeworks.processors.own_alerts:AlertsProcessor"
# The recorder itself runs `normalize`, right behind the raw tape; it is here to do it again.
NORMALIZE = Step("normalize", RAW, NORMALIZED)
STEPS = (
    Step("books", NORMALIZED, BOOK),
    Step("bars", NORMALIZED, BARS),
    Step("ticks", NORMALIZED, TICKS),
    Step(MEASURING, NORMALIZED, METRICS),
    Step(ALERTING, NORMALIZED, ALERTS),
    Step("gaps", NORMALIZED, GAPS),
    Step(STORIES, NORMALIZED, NEWS, needs_raw=True),
    Step("dead_letters", NORMALIZED, DEAD, needs_raw=True),
)
TOPICS = frozenset({RAW, NORMALIZED, *(step.target for step in STEPS)})


class HasProcessors(Protocol):
    """The settings of processors that are read here."""

    @property
    def batch_items(self) -> int:
        """Items that one step takes at most."""

    @property
    def host_rules(self) -> Mapping[str, Any]:
        """Rules of alerts about this host, by name."""

    @property
    def own_rules(self) -> Mapping[str, Any]:
        """Rules of alerts whose class is the user's own, by name."""

    @property
    def own(self) -> Mapping[str, Any]:
        """The settings of processors of the user's own, by name."""

    def settings(self, processor: str) -> Mapping[str, int | str | Sequence[int]]:
        """Returns the settings of `processor` by name."""


class Derivation:
    """All stages of one source. They open as their inputs come to be.

    With `live`, a recorder runs beside it: an input is opened once the recorder has, since a tape
    that lost its tail with the power gets shorter then.
    """

    def __init__(
        self,
        processors: HasProcessors,
        tape: TapeConfig,
        data: Path,
        source: str,
        steps: Sequence[Step] = STEPS,
        *,
        live: bool = False,
    ) -> None:
        self._processors = processors
        self._tape = tape
        self._data = data
        self._source = source
        self._live = live
        self._tapes = data / "tape" / source
        self._states = data / "state" / source
        self._rules = RuleWatches(data, source, processors)
        own = [
            Step(name, one.input, one.output, config=one) for name, one in processors.own.items()
        ]
        unused = [name for name in (MEASURING, ALERTING) if not processors.settings(name)]
        if processors.own_rules:
            unused = [name for name in unused if name != ALERTING]
        wanted = [step for step in steps if step.processor not in unused]
        self._steps = (*wanted, *own)
        if ALERTING in unused and any(step.processor == ALERTING for step in steps):
            self._rules.note_none()
        self._waiting = list(self._steps)
        self._stages: dict[str, Stage | PythonStage] = {}
        self.failures: dict[str, TapeworksError] = {}
        """Why a processor, or a rule of the user's own, was given up, by its name. The others go
        on without it."""
        self._history: BookHistory | None = None

    def step(self) -> int:
        """Lets every stage take one batch; returns how many items they took.

        A stage whose tape is damaged, or whose processor raises, is given up and noted in
        `failures`.

        Raises:
            DiskFullError, OSError: nothing is lost; call again.
            TapeError: there is no stage left, or another process writes one of the tapes.
        """
        if self._waiting:
            self._open()
        taken = 0
        for name, stage in list(self._stages.items()):
            try:
                taken += stage.step(self._processors.batch_items)
                self._log_notes(stage)
                self._note_endings(stage)
            except (DiskFullError, TapeLockedError):
                raise
            except (TapeError, ProcessorError) as error:
                del self._stages[name]
                self._give_up(name, error)
                with contextlib.suppress(OSError, TapeError):
                    stage.close()
        for step in self._steps if taken else ():
            self._note_losses(step)
        return taken

    def drain(self, seconds_max: float = DRAIN_S_MAX) -> bool:
        """Takes all that is published, within `seconds_max`; returns whether it could."""
        deadline = time.monotonic() + seconds_max
        while self.step():
            if time.monotonic() >= deadline:
                return False
        return not self._waiting and not self.failures

    def unopened(self) -> list[str]:
        """Returns the topics of tapes that are there, and that their recorder has yet to open."""
        topics = {step.source for step in self._waiting}
        return sorted(topic for topic in topics if _is_ready(self._tapes / topic, live=False))

    def lags(self) -> dict[str, int]:
        """Returns, by topic, how many published items each stage has yet to take."""
        targets = {step.processor: step.target for step in self._steps}
        return {targets.get(name, name): stage.lag for name, stage in self._stages.items()}

    def stopped(self) -> dict[str, str]:
        """Returns which processors and rules of the user's own stopped, and why, by name."""
        told: dict[str, str] = {}
        for name, error in self.failures.items():
            part = name if name.startswith(RULE) else f"processor {name}"
            told[part] = one_line(str(error)).removeprefix(f"{self._source}: the {part} stopped ")
        return told

    def times(self) -> dict[str, tuple[Told, Told]]:
        """Returns how long records took to each stage that is measured: in all, and of late."""
        found: dict[str, tuple[Told, Told]] = {}
        for processor, stage in self._stages.items():
            if isinstance(stage, Stage) and (times := stage.take_times()) is not None:
                output, receipt = times
                if processor in MEASURED:
                    found[MEASURED[processor]] = output
                if receipt is not None:
                    found["receive"] = receipt
        return found

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
                self._history = BookHistory(self._tapes / BOOK)
            self._history.refresh()

    def cover(self) -> None:
        """Publishes up to where the input was taken, so that answers know it of a quiet tape.

        What could not be noted of rules of alerts is tried again.
        """
        self._rules.note_waiting()
        for name in COVERED:
            if stage := self._stages.get(name):
                stage.cover()

    def wait(self) -> None:
        """Waits until there may be something to take, but not for long."""
        stage = next(iter(self._stages.values()), None)
        if stage is None:
            time.sleep(OPEN_RETRY_S)
        else:
            stage.wait(WAIT_MS)

    def close(self) -> None:
        """Saves all states, so that the next start replays little, and lets go of all tapes."""
        stages, self._stages = self._stages, {}
        with contextlib.ExitStack() as tapes:
            for stage in stages.values():
                tapes.callback(stage.close)
            for name, stage in stages.items():
                try:
                    stage.save()
                except (DiskFullError, TapeLockedError):
                    raise
                except (TapeError, ProcessorError) as error:
                    self.failures[name] = error
                self._note_endings(stage)
            self._rules.note_waiting()

    def raise_failure(self) -> None:
        """Raises why processors were given up, if any were: of several all, unless it is a tape."""
        found = list(self.failures.values())
        for error in found:
            if len(found) == 1 or not isinstance(error, ProcessorError):
                raise error
        if found:
            raise ProcessorError("; ".join(map(str, found)))

    def _give_up(self, name: str, error: TapeworksError) -> None:
        """Leaves a processor out from here on."""
        self.failures[name] = error
        is_raised = isinstance(error, ProcessorError)
        if is_raised:
            log.info("%s: %s raised", self._source, name, exc_info=error.__cause__)
        advice = "fix it" if is_raised else "run `tape repair`"
        log.error(
            "%s: %s is stopped, the others continue; %s and restart: %s",
            self._source,
            name,
            advice,
            error,
        )
        if not self._stages and not self._waiting:
            raise error

    def _open(self) -> None:
        for step in list(self._waiting):
            folder = self._tapes / step.source
            if not _is_ready(folder, self._live):
                continue
            if step.processor == STORIES and not self._tells_news(step):
                continue
            try:
                is_own = step.config is not None or self._has_own_rules(step)
                stage = self._open_own(step) if is_own else self._open_stage(step)
            except (DiskFullError, TapeLockedError):
                raise
            except (TapeError, ProcessorError) as error:
                self._waiting.remove(step)
                self._give_up(step.processor, error)
                continue
            self._stages[step.processor] = stage
            self._log_notes(stage)
            self._note_endings(stage)
            if step.processor == ALERTING:
                self._rules.note(stage.covered)
            if step.processor == MEASURING:
                settings = self._processors.settings(MEASURING)
                note_measured(self._data, self._source, settings, stage.covered)
            self._waiting.remove(step)

    def _tells_news(self, step: Step) -> bool:
        """Says whether the feed tells news, by the first frame that the raw tape holds.

        Where it does not, `step` is not waited for any more.
        """
        frames = None
        if has_segments(self._tapes / RAW):
            reader = TapeReader(self._tapes / RAW)
            reader.seek(reader.first)
            frames = reader.read_blobs(1)
            if not frames and self._live:
                return False
        if frames and tells_news(frames[0].feed):
            return True
        self._waiting.remove(step)
        return False

    def _log_notes(self, stage: Stage | PythonStage) -> None:
        for note in stage.take_notes() if stage.has_reports else ():
            log.warning("%s: %s", self._source, note)

    def _note_endings(self, stage: Stage | PythonStage) -> None:
        """Notes which rules of the user's own have stopped."""
        for ending in stage.take_endings() if isinstance(stage, PythonStage) else ():
            if (error := self._rules.end(ending)) is not None:
                self.failures[RULE + ending.part] = error

    def _open_stage(self, step: Step) -> Stage:
        settings = dict(self._processors.settings(step.processor))
        if step.needs_raw:
            settings["raw"] = str(self._tapes / RAW)
        stage = Stage(
            step.processor,
            self._tapes / step.source,
            self._tapes / step.target,
            self._states / step.processor,
            settings,
            # A state a segment: retention waits for what the oldest state is made of.
            save_bytes=min(SAVE_BYTES, self._tape.segment_bytes),
            reader=f"stage-{step.processor}",
            origin=self._tapes / RAW if step.needs_raw else None,
            definitions=self._definitions(step),
            **self._tape.settings(),
        )
        if self._live and (step.processor in MEASURED or step.target == GAPS):
            # The ledger's stage has time for it: hardly a record is an entry.
            stage.measure(step.target == GAPS)
        return stage

    def _open_own(self, step: Step) -> PythonStage:
        """Opens the stage of a processor of the user's own."""
        tape = self._tape.settings()
        del tape["durability_ms"]
        kind = ALERTING if step.config is None else step.config.kind
        try:
            if step.config is None:
                # Loaded where a rule is the user's own.
                made = load_name(OWN_ALERTS)
                settings = self._processors.settings(ALERTING)
                rules = list(self._processors.own_rules.values())
                processor = made(settings, rules, self._rules.begun_anew())
            else:
                processor = load_member("processor", kind)(step.config)
        except Exception as error:
            raise ProcessorError(
                f"{kind} cannot be made: {type(error).__name__}: {error}"
            ) from error
        return PythonStage(
            processor,
            self._tapes / step.source,
            self._tapes / step.target,
            self._states / step.processor,
            save_bytes=min(SAVE_BYTES, self._tape.segment_bytes),
            reader=f"stage-{step.processor}",
            durability=self._tape.durability,
            interval_ms=self._tape.interval_ms,
            definitions=self._definitions(step) if step.config is None else None,
            # Each rule has a limit of its own.
            call_s_max=math.inf if step.config is None else CALL_S_MAX,
            **tape,
        )

    def _definitions(self, step: Step) -> Records | None:
        """Returns what is kept of definitions beside the tape, for what looks at symbols."""
        if step.processor not in (MEASURING, ALERTING):
            return None
        return kept_symbols(self._data, self._source).records()

    def _has_own_rules(self, step: Step) -> bool:
        return step.processor == ALERTING and bool(self._processors.own_rules)

    def _note_losses(self, step: Step) -> None:
        """Tells the recorder what retention took from a stage. The ledger's own tape says it.

        What a repair gave up, it declared: see `jobs/repair.py`.
        """
        stage = self._stages.get(step.processor)
        if stage is None or not stage.has_reports:
            return
        for first, last, start, end, cause in stage.take_losses():
            loss = Loss(step.source, f"stage-{step.processor}", first, last, start, end, cause)
            log.error("%s: lost: %s", self._source, loss)
            if step.target != GAPS and cause == RETENTION:
                note_loss(self._data, self._source, loss)


def _is_ready(tape: Path, live: bool) -> bool:
    if not has_segments(tape):
        return False
    try:
        return not live or TapeReader(tape).settled
    except (OSError, TapeError):
        # Its writer is just making it, or is about to repair it.
        return not live


def run_worker(processors: HasProcessors, tape: TapeConfig, data: Path, source: str) -> int:
    """Derives everything of `source` until SIGTERM, then takes what is published and ends.

    Returns `EXIT_INCOMPLETE` if there was no time for all; the next start goes on there.

    Raises:
        TapeError: a tape is corrupt, locked, or cannot be written.
    """
    prepare(SLICE_US)
    stopping: list[int] = []
    on_stop(lambda number, frame: stopping.append(number))
    derivation = Derivation(processors, tape, data, source, live=True)
    status = DeriveStatus(
        HostRules(list(processors.host_rules.values()), data, source), data, source
    )
    covered, full = 0.0, False
    try:
        while not stopping:
            beat()
            try:
                if not derivation.step():
                    derivation.wait()
                if time.monotonic() - covered >= COVER_S:
                    covered = time.monotonic()
                    derivation.cover()
                full = False
            except (DiskFullError, OSError) as error:
                # Nothing is lost by it: what was not written is written when the disk takes it.
                if not full:
                    log.error("%s: waiting for the disk: %s", source, error)
                full = True
                time.sleep(FULL_RETRY_S)
            status.tell_if_due(derivation)
        is_done = derivation.drain(DRAIN_S_MAX)
        left = 0 if is_done else sum(derivation.lags().values())
        for topic in derivation.unopened():
            log.warning("%s: %s waits for a recorder to open it; nothing is derived", source, topic)
        if left:
            log.warning(
                "%s: stopped with %d items of input left; the next start goes on there",
                source,
                left,
            )
    finally:
        status.close()
        derivation.close()
    derivation.raise_failure()
    return EXIT_INCOMPLETE if left else 0
