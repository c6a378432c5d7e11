"""What of a data folder is not as it should be: tapes, saved states, offsets of readers, the lake.

Reads every byte and changes nothing. Whatever runs may go on meanwhile.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tapeworks._core import verify_state
from tapeworks.errors import TapeError, TapeRangeError
from tapeworks.processors.base import STATE_MAGIC, State
from tapeworks.tape import TapeReader, load_offset, taped_sources, tapes_of, verify
from tapeworks.views.lake_check import verify_lake

NO_SEGMENTS = "none of its segments is left"
TAPE, STATE, OFFSET, LAKE = "tape", "state", "offset", "lake"


@dataclass(frozen=True)
class Fault:
    """One thing that is not as it should be."""

    kind: str
    """`tape`, `state`, `offset` or `lake`."""
    source: str
    path: str
    reason: str
    byte: int | None = None
    topic: str = ""

    def __str__(self) -> str:
        place = self.path if self.byte is None else f"{self.path} at byte {self.byte}"
        return f"{place}: {self.reason}"


def all_tapes(data: Path) -> list[Path]:
    """Returns the folders of all tapes of `data`, in order."""
    return [tape for source in taped_sources(data) for tape in tapes_of(data, source)]


def verify_tape(path: Path, expect: str | None = None) -> dict[str, Any]:
    """Reads all of a tape; one that cannot even be opened is a report with a fault as well.

    With `expect`, a head that was kept, anything that was changed before it is a fault.
    """
    try:
        return verify(path, expect)
    except (TapeError, OSError) as error:
        place = {"path": str(path), "byte": getattr(error, "byte", 0), "reason": str(error)}
        if isinstance(error, FileNotFoundError):
            place |= {"byte": None, "reason": NO_SEGMENTS}
        numbers = dict.fromkeys(("segments", "frames", "items", "bytes", "links"), 0)
        return {"kind": None, "id": None, **numbers, "fault": place}


def tape_fault(path: Path, report: dict[str, Any]) -> Fault | None:
    """Returns the fault that a report of `verify_tape` names."""
    fault = report["fault"]
    if fault is None:
        return None
    if not isinstance(fault, dict):
        fault = {"path": str(path), "byte": None, "reason": str(fault)}
    source, topic = path.parent.name, path.name
    return Fault(TAPE, source, fault["path"], fault["reason"], fault["byte"], topic)


def state_faults(data: Path) -> Iterator[Fault]:
    """Yields what is wrong with saved states and with the offsets of readers."""
    for path in sorted((data / "state").glob("*/*/*.state")):
        if (reason := _state_fault(path)) is not None:
            yield Fault(STATE, path.parts[-3], str(path), reason, topic=path.parts[-2])
    for tape in all_tapes(data):
        yield from _offset_faults(tape)


def lake_faults(data: Path) -> Iterator[Fault]:
    """Yields what is wrong with the lake."""
    for report in verify_lake(data):
        for fault in report.faults:
            yield Fault(LAKE, report.source, fault.path, fault.reason, topic=report.topic)


def _state_fault(path: Path) -> str | None:
    try:
        content = path.read_bytes()
        if content.startswith(STATE_MAGIC):
            State.from_bytes(content)
        else:
            verify_state(path)
    except (TapeError, ValueError, OSError) as error:
        return str(error)
    return None


def _offset_faults(tape: Path) -> Iterator[Fault]:
    """Yields the readers of a tape whose saved offset is none, or beyond its end."""
    source, topic = tape.parent.name, tape.name
    for file in sorted((tape / "offsets").glob("[!.]*")):
        if file.is_dir():
            continue
        name, path = file.name, str(file)
        try:
            offset, end = load_offset(tape, name), TapeReader(tape).end
        except (TapeRangeError, FileNotFoundError):
            continue
        except (TapeError, ValueError, OSError) as error:
            yield Fault(OFFSET, source, path, str(error), topic=topic)
            continue
        if offset is not None and offset > end:
            reason = f"offset {offset} is beyond the tape, which ends at {end}: is it another tape?"
            yield Fault(OFFSET, source, path, reason, topic=topic)
