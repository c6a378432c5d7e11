"""Notes for the recorder: what the host measured for a rule, and who has seen an alert.

The recorder alone writes the raw tape. What is to be on it, so that a replay tells of it in the
same place, is left as a file that the recorder takes. A note that waits for one is no alert yet.
"""

import contextlib
import json
import logging
import os
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tapeworks._core import numbers
from tapeworks.durable import replace_file

_log = logging.getLogger("tapeworks.alerts")
_NAME = re.compile(r"(\d{20})-[\w.-]+\.json")
_STATES, _SEVERITIES = numbers("alert_state"), numbers("severity")
STATES = tuple(sorted(_STATES, key=lambda name: _STATES[name]))
"""What may become of an alert, in that order."""
SEVERITIES = tuple(sorted(_SEVERITIES, key=lambda name: _SEVERITIES[name]))
"""How bad an alert may be, the least first."""
WAITING_MAX = 1_000
"""Notes of one source that wait at most: where no recorder takes them, later ones are refused."""


@dataclass(frozen=True)
class AlertNote:
    """One note."""

    rule: str
    """Name of the rule that it is for; empty for an acknowledgement."""
    state: str
    """`opened`, `updated`, `closed` or `acknowledged`."""
    id: int = 0
    """Of an acknowledgement: the number of the alert."""
    ts_start: int | None = None
    value: float | None = None
    threshold: float | None = None
    count: int = 0
    subject: str = ""
    detail: str = ""


def leave_note(data: Path, source: str, note: AlertNote) -> Path | None:
    """Leaves `note` for the recorder of `source`; none where too many wait."""
    folder = _folder(data, source)
    folder.mkdir(parents=True, exist_ok=True)
    if len(os.listdir(folder)) >= WAITING_MAX:
        return None
    path = folder / f"{time.time_ns():020}-{os.getpid()}.json"
    replace_file(path, json.dumps(asdict(note)))
    return path


def left_notes(data: Path, source: str) -> Iterator[tuple[Path, AlertNote]]:
    """Yields the notes that wait, oldest first; what is none is removed, and logged."""
    folder = _folder(data, source)
    try:
        names = sorted(name for name in os.listdir(folder) if _NAME.fullmatch(name))
    except FileNotFoundError:
        return
    for name in names:
        path = folder / name
        try:
            note = AlertNote(**json.loads(path.read_bytes()))
            _check(note)
        except FileNotFoundError:
            continue
        except (OSError, RecursionError, TypeError, ValueError) as error:
            _log.error("%s: a note of an alert cannot be read, it is removed: %s", path, error)
            with contextlib.suppress(OSError):
                path.unlink()
            continue
        yield path, note


def _folder(data: Path, source: str) -> Path:
    return data / "state" / source / "alert-notes"


def _check(note: AlertNote) -> None:
    texts = (note.rule, note.state, note.subject, note.detail)
    if not all(isinstance(text, str) for text in texts) or note.state not in STATES:
        raise ValueError(f"expected texts and a state of {', '.join(STATES)}, got {texts}")
    for number, most in ((note.id, 2**64), (note.count, 2**64), (note.ts_start or 0, 2**63)):
        if type(number) is not int or not 0 <= number < most:
            raise ValueError(f"expected whole numbers from 0 on, got {number!r}")
    for value in (note.value, note.threshold):
        if value is not None and not isinstance(value, int | float):
            raise ValueError(f"expected numbers, got {value!r}")
