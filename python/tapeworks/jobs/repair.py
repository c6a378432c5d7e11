"""Rebuilds a source of which something is damaged, from what its raw tape still holds.

Nothing is deleted: whatever is damaged, and all that was made from it, is moved to `damaged/` of
the data folder, byte for byte. What can be read of the raw tape stays or is copied; every other
tape, the states and the lake's part of the source are made again from it. Frames that cannot be
read are a gap in the ledger. It may be ended at any moment and started again.
"""

import contextlib
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tapeworks import lake
from tapeworks._core import FolderLock, Ingest
from tapeworks.errors import TapeworksError
from tapeworks.jobs.inspection import (
    LAKE,
    TAPE,
    Fault,
    lake_faults,
    state_faults,
    tape_fault,
    tapes_of,
    verify_tape,
)
from tapeworks.jobs.salvage import Hole, read_whole_frames
from tapeworks.lake_rebuild import rebuild
from tapeworks.pipeline import Config, catch_up, lock_source
from tapeworks.processors.derive import RAW
from tapeworks.tape import TapeWriter

FOLDER = "damaged"
NOT_KNOWN = -(2**63)
COMPLETE = "complete"


@dataclass(frozen=True)
class Lost:
    """Frames of a raw tape that cannot be read."""

    first: int
    last: int
    ts_start: int
    """Receive time of the frame before them; the least number if there is none."""
    ts_end: int
    """Receive time of the frame after them, or of now."""


@dataclass
class Plan:
    """What is damaged of one source, and what would be done about it."""

    source: str
    faults: list[Fault] = field(default_factory=list)

    @property
    def rebuilds(self) -> bool:
        """Whether more is to be done than to move single files aside."""
        return any(fault.kind == TAPE for fault in self.faults)

    @property
    def raw_is_damaged(self) -> bool:
        """Whether frames of the venue itself cannot be read."""
        return any(fault.kind == TAPE and fault.topic == RAW for fault in self.faults)

    def steps(self) -> list[str]:
        """Returns what would be done, in words."""
        if not self.rebuilds:
            told = ["make the lake's commits again from its files, and missing rows from the tapes"]
            told = told if any(fault.kind == LAKE for fault in self.faults) else []
            others = any(fault.kind != LAKE for fault in self.faults)
            return [*(["move these files aside; they are made again"] if others else []), *told]
        told = ["move all tapes but the raw one, the states and the lake's part aside"]
        if self.raw_is_damaged:
            told = [
                "copy what can be read of the raw tape, and move the old one aside",
                *told,
                "declare what cannot be read as a gap",
            ]
        return [*told, "make all of it again from the raw tape"]


@dataclass
class Report:
    """What was done about one source."""

    source: str
    aside: Path
    lost: list[Lost] = field(default_factory=list)


def inspect(data: Path) -> list[Plan]:
    """Returns what is damaged, one plan for each source that has something; reads every byte."""
    plans: dict[str, Plan] = {}
    for path in tapes_of(data):
        if (fault := tape_fault(path, verify_tape(path))) is not None:
            plans.setdefault(fault.source, Plan(fault.source)).faults.append(fault)
    for fault in (*state_faults(data), *lake_faults(data)):
        plans.setdefault(fault.source, Plan(fault.source)).faults.append(fault)
    for path in data.glob(".repair-*"):
        # A repair that was ended half-way: what was damaged may not be in its place any more.
        source = path.name.removeprefix(".repair-")
        told = Fault(TAPE, source, str(path), "a repair was not finished", topic=RAW)
        plans.setdefault(source, Plan(source)).faults.append(told)
    return list(plans.values())


def repair(config: Config, plan: Plan, feed: Any | None, native: str) -> Report:
    """Does what `plan` says. `feed` decodes frames of a feed of the user's own; none for others.

    Raises:
        TapeLockedError: something writes the source.
        TapeworksError: it cannot be rebuilt without losing more; nothing was changed.
    """
    data, source = config.data, plan.source
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    report = Report(source, data / FOLDER / f"{source}-{stamp}")
    with lock_source(data, source):
        with _locked(data, source):
            if not plan.rebuilds:
                for fault in plan.faults:
                    if fault.kind != LAKE:
                        _move(Path(fault.path), report.aside, data)
            else:
                _check_that_raw_is_from_the_start(data, source)
            if plan.raw_is_damaged:
                report.lost = _replace_raw(data, source, report.aside)
        if not plan.rebuilds:
            if any(fault.kind == LAKE for fault in plan.faults):
                list(rebuild(data, source))
            return report
        for path in _derived(data, source):
            _move(path, report.aside, data)
        _derive(config, source, feed, native, report.lost)
    return report


@contextlib.contextmanager
def _locked(data: Path, source: str) -> Iterator[None]:
    """Holds every tape and the lake's part of `source`: nobody may write what is moved."""
    commits = data / "lake" / lake.COMMITS / source
    folders = [path for path in (data / "tape" / source).glob("[!.]*") if path.is_dir()]
    with contextlib.ExitStack() as stack:
        for path in [*folders, *([commits] if commits.is_dir() else [])]:
            stack.enter_context(FolderLock(path))
        yield


def _check_that_raw_is_from_the_start(data: Path, source: str) -> None:
    """Refuses where retention has taken frames: rows made from them are in the lake alone."""
    raw = data / "tape" / source / RAW
    starts = _segment_starts(raw) or _segment_starts(_staging(data, source) / RAW)
    if not starts or starts[0] > 0:
        raise TapeworksError(
            f"{source}: expected a raw tape from offset 0 on, got one from "
            f"{starts[0] if starts else 'nowhere'}: what was made from the frames before is in the "
            "lake alone, and would be moved away with it; nothing was changed"
        )


def _staging(data: Path, source: str) -> Path:
    return data / f".repair-{source}"


def _segment_starts(tape: Path) -> list[int]:
    names = {path.name.partition(".")[0] for path in tape.glob("*.seg*")}
    return sorted(int(name) for name in names if name.isdecimal())


def _replace_raw(data: Path, source: str, aside: Path) -> list[Lost]:
    """Puts a copy of what can be read of the raw tape in its place; returns what cannot be."""
    raw, staging = data / "tape" / source / RAW, _staging(data, source)
    lost: list[Lost] = []
    if raw.is_dir() and not (staging / COMPLETE).exists():
        shutil.rmtree(staging, ignore_errors=True)
        lost = _salvage(raw, staging / RAW)
        told = "\n".join(f"{one.first} {one.last} {one.ts_start} {one.ts_end}" for one in lost)
        lake.write_file(staging / COMPLETE, told.encode())
    else:
        lines = (staging / COMPLETE).read_text().splitlines()
        lost = [Lost(*map(int, line.split())) for line in lines]
    if (staging / RAW).is_dir():
        if raw.is_dir():
            _move(raw, aside, data)
        (staging / RAW).replace(raw)
    lake.sync_folder(raw.parent)
    return lost


def _salvage(raw: Path, target: Path) -> list[Lost]:
    """Copies what can be read of `raw` to `target`; returns what cannot be."""
    target.mkdir(parents=True)
    lost: list[Lost] = []
    hole: Hole | None = None
    before = NOT_KNOWN
    with TapeWriter(target, "blobs") as writer:
        for found in read_whole_frames(raw, target.with_suffix(".copy")):
            if isinstance(found, Hole):
                hole = Hole(hole.first if hole else found.first, found.last)
                continue
            if hole is not None:
                lost.append(Lost(hole.first, hole.last, before, found.ts_recv))
                hole = None
            before = found.ts_recv
            writer.append_blob(
                found.kind,
                found.body,
                ts=found.ts_recv,
                context=found.context,
                feed=found.feed,
                connection=found.connection,
                flags=found.flags,
            )
        writer.sync()
    if hole is not None:
        lost.append(Lost(hole.first, hole.last, before, time.time_ns()))
    return lost


def _derived(data: Path, source: str) -> list[Path]:
    """Returns all that is made from the raw tape of `source`."""
    tapes = [path for path in (data / "tape" / source).glob("[!.]*") if path.name != RAW]
    # What readers noted as lost is still to be put on the raw tape.
    states = [p for p in (data / "state" / source).iterdir() if p.is_dir() and p.name != "losses"]
    root = data / "lake"
    parts = [path for path in root.glob(f"*/venue={source}") if path.is_dir()]
    parts += [root / lake.COMMITS / source, root / "_staging" / source]
    readers = [data / "tape" / source / RAW / "offsets"]
    return [path for path in [*tapes, *states, *parts, *readers] if path.exists()]


def _derive(
    config: Config, source: str, feed: Any | None, native: str, lost: Sequence[Lost]
) -> None:
    """Makes all tapes and the lake's part of `source` again, and declares what is lost."""
    ingest = Ingest(config.data, source, native, decoder=feed, **config.tape.settings())
    try:
        for one in lost:
            ingest.lost((one.first, one.last), (one.ts_start, one.ts_end), time.time_ns())
        ingest.flush()
        ingest.sync()
    finally:
        ingest.close()
    shutil.rmtree(_staging(config.data, source), ignore_errors=True)
    catch_up(replace(config, feeds={source: config.feeds.get(source)}))


def _move(path: Path, aside: Path, data: Path) -> None:
    """Moves `path` below `aside`, to the place that it had below `data`."""
    if not path.exists():
        return
    target = aside / path.absolute().relative_to(data.absolute())
    target.parent.mkdir(parents=True, exist_ok=True)
    path.replace(target)
    lake.sync_folder(target.parent)
    lake.sync_folder(path.parent)
