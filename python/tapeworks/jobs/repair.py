"""Repairs a source with damaged data, and declares as gaps what is lost for good.

Nothing is deleted. A damaged raw tape is repaired in place: its whole frames stay at their offsets,
what is damaged goes to `damaged-<time>/` in its folder. A derived tape is emptied and made again
from its input where that holds everything, else it is repaired like a raw one. States and offsets
go to `damaged/` of the data folder; the lake goes through `lake_rebuild`. It may be ended at any
moment and started again; until it is finished, nothing else records the source.
"""

import contextlib
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tapeworks import lake
from tapeworks._core import Decoder, FolderLock, Ingest, remake_tape, repair_tape
from tapeworks.durable import replace_file, sync_folder
from tapeworks.errors import ConfigError, TapeworksError
from tapeworks.feeds.base import build
from tapeworks.feeds.python import PythonFeed
from tapeworks.jobs.base import DONE, FAILED, Job, JobOutcome, WholeSourcesConfig
from tapeworks.jobs.catch_up import catch_up
from tapeworks.jobs.inspection import (
    LAKE,
    NO_SEGMENTS,
    TAPE,
    Fault,
    all_tapes,
    lake_faults,
    state_faults,
    tape_fault,
    verify_tape,
)
from tapeworks.lake_rebuild import TopicRebuild, rebuild
from tapeworks.pipeline import Config, lock_source, unfinished_repair
from tapeworks.processors.derive import NORMALIZE, STEPS
from tapeworks.register import registered
from tapeworks.source_symbols import KeptDefinitions
from tapeworks.tape import (
    DAMAGE,
    UNKNOWN,
    Loss,
    TapeReader,
    has_segments,
    note_loss,
    noted_losses,
    received,
    tapes_of,
)
from tapeworks.topics import GAPS, NORMALIZED, RAW
from tapeworks.views.times import format_time

FOLDER = "damaged"
READER = "repair"
# By target: what makes it again. In the order of the flow.
STEP_OF = {step.target: step for step in (NORMALIZE, *STEPS)}
FLOW = (RAW, *STEP_OF)
# By topic: the tape on which a stage declares by itself what it did not find on that topic.
DECLARED_BY = {RAW: NORMALIZED, NORMALIZED: GAPS}

Range = tuple[int, int]


@dataclass
class Plan:
    """What is damaged of one source, and what would be done about it."""

    source: str
    data: Path
    faults: list[Fault] = field(default_factory=list)

    def damaged_topics(self) -> list[str]:
        """Returns the topics of damaged tapes, in the order of the flow."""
        found = {fault.topic for fault in self.faults if fault.kind == TAPE and fault.topic}
        return [topic for topic in FLOW if topic in found] + sorted(found.difference(FLOW))

    def steps(self) -> list[str]:
        """Returns what would be done, in words."""
        told, remade = [], self.remade_topics()
        for topic in self.damaged_topics():
            if topic in remade:
                told.append(f"move all of {topic} aside, and rebuild it from its input")
            else:
                told.append(f"move damaged parts of {topic} aside, and record a gap for them")
        kinds = {fault.kind for fault in self.faults}
        if kinds - {TAPE, LAKE}:
            told.append("move these states and offsets aside; they are rebuilt")
        if LAKE in kinds or remade:
            told.append("rebuild the lake's commits from its files, and missing rows from tapes")
        return told or ["finish the repair"]

    def remade_topics(self) -> list[str]:
        """Returns the topics whose tapes are made again, as their input holds everything."""
        damaged, remade = self.damaged_topics(), list[str]()
        for topic in damaged:
            step = STEP_OF.get(topic)
            if step is None:
                continue
            inputs = {step.source, RAW} if step.needs_raw else {step.source}
            lacking = set(damaged) - set(remade)
            tapes = self.data / "tape" / self.source
            if not inputs & lacking and all(_is_complete(tapes / name) for name in inputs):
                remade.append(topic)
        return remade


def _is_complete(tape: Path) -> bool:
    """Whether a tape holds every item from offset 0 on; its frames were verified before."""
    try:
        reader = TapeReader(tape)
        return reader.first == 0 and not reader.lost_ranges()
    except (FileNotFoundError, TapeworksError):
        # Not there; or damaged, and made again before this is looked at. What cannot be read for a
        # moment is neither.
        return False


@dataclass
class Report:
    """What was done about one source."""

    source: str
    aside: list[Path] = field(default_factory=list)
    moved: list[tuple[str, Path]] = field(default_factory=list)
    """Each file that was moved aside, and the folder in which it is now."""
    remade: list[str] = field(default_factory=list)
    """Topics that were made again from their input."""
    lake: list[TopicRebuild] = field(default_factory=list)
    """What was done about the lake, by topic."""
    lost: list[Loss] = field(default_factory=list)


@dataclass(frozen=True)
class RepairConfig(WholeSourcesConfig):
    """What it may do."""

    apply: bool = False
    """Whether to repair; else it only tells what is damaged, and what it would do."""
    feed: str = ""
    """Feed of a source that the settings do not name."""


class RepairJob(Job):
    """Move damaged data aside, rebuild what can be rebuilt, record the rest as gaps."""

    Config = RepairConfig
    is_resumable = True

    def run(self) -> JobOutcome:
        """Tells what is damaged and repairs it.

        Raises:
            TapeLockedError: something writes the source; nothing was changed of it.
            TapeworksError: it cannot be repaired, or is damaged still.
        """
        plans = self._plans()
        if not plans:
            return JobOutcome(DONE, f"nothing is damaged in {self.data}")
        for plan in plans:
            self.tell(f"{plan.source}:")
            for fault in plan.faults:
                self.tell(f"  damaged: {fault}")
            for step in plan.steps() if not self.config.apply else ():
                self.tell(f"  would: {step}")
        if not self.config.apply:
            return JobOutcome(FAILED, "nothing was changed; `tape repair --yes` does it")
        decoders = [self._decoder(plan.source) for plan in plans]
        for plan, (decoder, native) in zip(plans, decoders, strict=True):
            for line in report_lines(repair(self.settings, plan, decoder, native)):
                self.tell(f"{plan.source}: {line}")
        if left := self._plans():
            told = "; ".join(str(fault) for plan in left for fault in plan.faults)
            raise TapeworksError(f"still damaged: {told}")
        return JobOutcome()

    def _plans(self) -> list[Plan]:
        """Returns what is damaged of the sources that are asked for."""
        chosen = self.sources if self.config.sources else None
        return [plan for plan in inspect(self.data) if chosen is None or plan.source in chosen]

    def _decoder(self, source: str) -> tuple[Any | None, str]:
        """Returns what decodes the frames of a source: a feed of the user's own, or a name.

        Raises:
            ConfigError: neither the settings of the pipeline nor `feed` say.
        """
        if source in self.settings.feeds:
            built = build(self.settings.feeds[source])
            return (built if isinstance(built, PythonFeed) else None), built.native
        native = self.config.feed or source
        try:
            Decoder(native)
        except ValueError as error:
            raise ConfigError(
                f"{source}: the settings do not name this source, so its feed is not known: "
                f"give it with --feed ({error})"
            ) from None
        return None, native


def report_lines(report: Report) -> list[str]:
    """Returns what was moved, what was restored, and what is lost."""
    told = [f"moved {what} to {folder}" for what, folder in report.moved]
    told += [f"rebuilt {topic} from its input" for topic in report.remade]
    for topic in report.lake:
        told += [f"moved {path}: {why}" for path, why in topic.aside]
        if topic.restored or topic.aside:
            rows = "1 row" if topic.restored == 1 else f"{topic.restored:,} rows"
            told.append(f"lake: {topic.topic}: {rows} stored again from the tape")
    for lost in report.lost:
        count = lost.last - lost.first + 1
        items = "1 item" if count == 1 else f"{count:,} items"
        start = "" if lost.ts_start == UNKNOWN else f" from {format_time(lost.ts_start)}"
        told.append(
            f"lost: {items} of {lost.topic}, received{start} up to {format_time(lost.ts_end)} "
            f"(offsets {lost.first} to {lost.last}): see `tape gaps`"
        )
    return [*told, "repaired"]


def inspect(data: Path) -> list[Plan]:
    """Returns what is damaged, one plan for each source that has something; reads every byte."""
    plans: dict[str, Plan] = {}

    def add(fault: Fault) -> None:
        plans.setdefault(fault.source, Plan(fault.source, data)).faults.append(fault)

    for path in all_tapes(data):
        if (fault := tape_fault(path, verify_tape(path))) is not None:
            add(fault)
    for fault in (*state_faults(data), *lake_faults(data)):
        add(fault)
    for folder in sorted((data / "state").glob("*")):
        if (path := unfinished_repair(data, folder.name)).exists():
            add(Fault(TAPE, folder.name, str(path), "a repair was not finished"))
    return list(plans.values())


def repair(config: Config, plan: Plan, feed: Any | None, native: str) -> Report:
    """Does what `plan` says. `feed` decodes frames of a feed of the user's own; none for others.

    Raises:
        TapeLockedError: something writes the source; nothing was changed.
        TapeworksError: it cannot be repaired; the message says what to do.
    """
    _check_some_left(plan)
    work = _Work(config, plan, feed, native)
    with (
        registered(config.data, "repair", plan.source),
        lock_source(config.data, plan.source, repairing=True),
    ):
        _check_unlocked(config.data, plan.source)
        with _locked_lake(config.data, plan.source):
            remade = work.repair_tapes()
            work.note_losses()
            work.derive_tapes(remade)
            work.report.remade += sorted(remade)
        work.derive_lake(remade)
        work.finish()
    return work.report


def _check_some_left(plan: Plan) -> None:
    """Refuses to repair a tape of which nothing is left, and which is made of no other."""
    gone = {fault.topic for fault in plan.faults if fault.reason == NO_SEGMENTS}
    for topic in sorted(gone.difference(plan.remade_topics())):
        raise TapeworksError(
            f"{plan.source}/{topic}: {NO_SEGMENTS}, and no other tape holds what it held: restore "
            f"{plan.data / 'tape' / plan.source / topic} from a backup, or record on as another "
            "source (`source` in the settings); tables and the other tapes can be read as they are"
        )


class _Work:
    """The repair of one source."""

    def __init__(self, config: Config, plan: Plan, feed: Any | None, native: str) -> None:
        self._config = replace(config, feeds={plan.source: config.feeds.get(plan.source)})
        self._data, self._source, self._plan = config.data, plan.source, plan
        self._feed, self._native = feed, native
        self._tapes = config.data / "tape" / plan.source
        self._unfinished = unfinished_repair(config.data, plan.source)
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        self._aside = config.data / FOLDER / f"{plan.source}-{stamp}"
        self.report = Report(plan.source)

    def repair_tapes(self) -> set[str]:
        """Makes all tapes whole; returns those of which items are made again."""
        remade = set(self._plan.remade_topics())
        remade.update(_read_json(self._unfinished, []))
        was_begun = self._unfinished.exists()
        _write_json(self._unfinished, sorted(remade))
        for topic in self._plan.damaged_topics():
            made = remake_tape if topic in remade else repair_tape
            try:
                done = made(self._tapes / topic)
            except TapeworksError:
                if not was_begun and not self.report.aside:
                    self._unfinished.unlink()
                raise
            if done["moved_to"] is not None:
                folder = Path(done["moved_to"])
                self.report.aside.append(folder)
                self.report.moved += [(f"{topic}/{name}", folder) for name in done["moved"]]
            if done["remade_from"] is not None:
                remade.add(topic)
                _write_json(self._unfinished, sorted(remade))
        for fault in self._plan.faults:
            if fault.kind not in (TAPE, LAKE):
                self._move(Path(fault.path))
        for topic in remade & STEP_OF.keys():
            # They are of what the tape held before, and cover more than it does now.
            if (TapeReader(self._tapes / topic).covered or 0) == 0:
                self._move(self._data / "state" / self._source / STEP_OF[topic].processor)
        return remade

    def note_losses(self) -> None:
        """Notes each range that a repair gave up and that is not in the ledger yet."""
        for tape in tapes_of(self._data, self._source):
            if not has_segments(tape):
                continue
            ranges = TapeReader(tape).lost_ranges()
            path = self._data / "state" / self._source / FOLDER / f"{tape.name}.json"
            known = [(first, last) for first, last in _read_json(path, [])]
            covered = self._covered_by_stage(tape.name)
            for first, last in _without(ranges, known):
                loss = _loss(tape, first, last)
                self.report.lost.append(loss)
                if first < covered:
                    note_loss(self._data, self._source, replace(loss, last=min(last, covered - 1)))
            if ranges:
                _write_json(path, sorted({*known, *ranges}))

    def derive_tapes(self, remade: set[str]) -> None:
        """Makes again what is made of the tapes, and puts their losses into the ledger."""
        if (self._tapes / RAW).is_dir() and (NORMALIZED in remade or self._has_notes()):
            self._ingest()
        catch_up(replace(self._config, sinks={}))

    def derive_lake(self, remade: set[str]) -> None:
        """Makes the lake again from its files and the tapes, and declares what it lost."""
        if remade or any(fault.kind == LAKE for fault in self._plan.faults):
            self.report.lake += rebuild(self._data, self._source, remade)
        if self._has_notes() and (self._tapes / RAW).is_dir():
            self._ingest()
        catch_up(self._config)

    def finish(self) -> None:
        """Lets others record the source again."""
        self._unfinished.unlink()
        sync_folder(self._unfinished.parent)

    def _covered_by_stage(self, topic: str) -> int:
        """Returns where a stage begins that declares by itself what it does not find."""
        if topic not in DECLARED_BY:
            return 2**64
        tape = self._tapes / DECLARED_BY[topic]
        return (TapeReader(tape).covered or 0) if has_segments(tape) else 0

    def _has_notes(self) -> bool:
        return any(True for _ in noted_losses(self._data, self._source))

    def _ingest(self) -> None:
        """Brings the normalized tape up to the raw one, with what was noted as lost."""
        settings = self._config.tape.settings()
        ingest = Ingest(self._data, self._source, self._native, decoder=self._feed, **settings)
        try:
            for path, loss in noted_losses(self._data, self._source):
                items, received = (loss.first, loss.last), (loss.ts_start, loss.ts_end)
                ingest.lost(items, received, time.time_ns(), loss.cause, loss.topic)
                ingest.flush()
                ingest.sync()
                path.unlink()
            ingest.flush()
            ingest.sync()
            KeptDefinitions(self._data, self._source).follow(ingest)
            if (reason := ingest.degraded()) is not None:
                raise TapeworksError(f"{self._source}: {NORMALIZED} is not rebuilt: {reason}")
        finally:
            ingest.close()

    def _move(self, path: Path) -> None:
        """Moves `path` to the place below `damaged/` that it had below the data folder."""
        if not path.exists():
            return
        target = self._aside / path.absolute().relative_to(self._data.absolute())
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
        sync_folder(target.parent)
        sync_folder(path.parent)
        self.report.moved.append((str(path), target.parent))
        if self._aside not in self.report.aside:
            self.report.aside.append(self._aside)


def _check_unlocked(data: Path, source: str) -> None:
    """Fails if a process writes a tape of `source`. Each repair of a tape locks it for itself.

    Raises:
        TapeLockedError: one does; the message names it.
    """
    for path in tapes_of(data, source):
        FolderLock(path).release()


@contextlib.contextmanager
def _locked_lake(data: Path, source: str) -> Iterator[None]:
    """Keeps sinks out while the tapes that they read are repaired and derived.

    Rebuilding the lake, and then its sinks, take this lock for themselves.

    Raises:
        TapeLockedError: a sink runs; the message names it.
    """
    folder = data / "lake" / lake.COMMITS / source
    with FolderLock(folder) if folder.is_dir() else contextlib.nullcontext():
        yield


def _without(ranges: Iterable[Range], known: Iterable[Range]) -> Iterator[Range]:
    """Yields what of `ranges` lies in none of `known`."""
    for first, last in ranges:
        for begin, end in sorted(known):
            if begin > last or end < first:
                continue
            if begin > first:
                yield first, begin - 1
            first = end + 1
        if first <= last:
            yield first, last


def _loss(tape: Path, first: int, last: int) -> Loss:
    """Describes a range that a repair gave up by the times of its neighbours."""
    before, after = _received(tape, first - 1), _received(tape, last + 1)
    ts_end = time.time_ns() if after is None else after
    ts_start = UNKNOWN if before is None else before
    return Loss(tape.name, READER, first, last, ts_start, ts_end, DAMAGE)


def _received(tape: Path, offset: int) -> int | None:
    """Returns the receive time of the item at `offset`; none if there is none."""
    reader = TapeReader(tape)
    if not reader.first <= offset < reader.end:
        return None
    reader.seek(offset)
    if reader.kind == "blobs":
        blobs = reader.read_blobs(1)
        return blobs[0].ts_recv if blobs else None
    batch = reader.read(1)
    return None if batch is None else received(batch)


def _read_json(path: Path, default: Any) -> Any:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return default
    except ValueError as error:
        raise TapeworksError(f"{path}: expected JSON, got {error}; move it away") from None


def _write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, json.dumps(content))
