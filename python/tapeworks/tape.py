"""The spine: append-only tapes, each a folder, written by one process and read by any number.

All work is done in the native module; here are its public names, the settings of tapes, and the
notes by which a reader tells the recorder what it lost.
"""

import contextlib
import json
import logging
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tapeworks._core import (
    Blob,
    Records,
    TapeReader,
    TapeWriter,
    list_offsets,
    load_offset,
    save_offset,
    tape_hash,
    verify,
)
from tapeworks.config import SOURCE_NAME, check_within
from tapeworks.durable import names_in, replace_file
from tapeworks.errors import ConfigError, TapeRangeError
from tapeworks.topics import PREFIX, TOPIC

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = [
    "Blob",
    "Loss",
    "Place",
    "TapeConfig",
    "TapeReader",
    "TapeWriter",
    "check_place",
    "list_offsets",
    "load_offset",
    "note_loss",
    "noted_losses",
    "open_at",
    "open_tape",
    "place_at",
    "received",
    "save_offset",
    "tape_hash",
    "verify",
]

MS_PER_HOUR = 3_600_000
RETENTION, DAMAGE = "retention", "damage"
"""Causes of a `Loss`."""

UNKNOWN = -(2**63)
"""A time of a `Loss` that is not known."""

_NOTE, _UNREADABLE = ".json", ".unreadable"

# Where the receive time of any record is.
_TS_RECV, _TS_RECV_AT = struct.Struct("<q"), 16

_log = logging.getLogger("tapeworks.tape")


@dataclass(frozen=True)
class TapeConfig:
    """How tapes are written, and what is kept of them."""

    durability: Literal["every-frame", "interval", "never"] = "interval"
    interval_ms: int = 50
    """What is durable lags what is published by at most so long; for `interval`."""
    segment_bytes: int = 256 << 20
    """A segment is closed before it grows beyond this."""
    keep_hours: float = 0.0
    """Segments older than this that every stage and sink has taken are removed; 0: never."""
    wait_hours: float = 168.0
    """Age waits so long for a reader that does not come for what it has not taken."""
    keep_bytes: int = 0
    """The oldest segments of a tape are removed beyond this, whoever has not taken them; 0: no
    limit."""
    compress_after: int = 2
    """So many closed segments stay as they are, older ones are compressed; -1: none is."""

    def __post_init__(self) -> None:
        check_within("interval_ms", self.interval_ms, 1, 60_000)
        check_within("segment_bytes", self.segment_bytes, 64 << 10, 1 << 40)
        check_within("keep_hours", self.keep_hours, 0, 1_000_000)
        check_within("wait_hours", self.wait_hours, 0, 1_000_000)
        check_within("compress_after", self.compress_after, -1, 1_000_000)
        least = 2 * self.segment_bytes
        if self.keep_bytes and self.keep_bytes < least:
            raise ConfigError(
                f"keep_bytes: expected 0, or two segments of segment_bytes or more, {least}; "
                f"found {self.keep_bytes}"
            )

    @property
    def durability_ms(self) -> int:
        """How long what is published may stay not durable: 0 not at all, -1 for ever."""
        return {"every-frame": 0, "interval": self.interval_ms, "never": -1}[self.durability]

    def settings(self) -> dict[str, Any]:
        """Returns the settings as the writers of tapes in the core name them."""
        return {
            "durability_ms": self.durability_ms,
            "segment_bytes": self.segment_bytes,
            "retention_bytes": self.keep_bytes or None,
            "retention_ms": round(self.keep_hours * MS_PER_HOUR) or None,
            "wait_ms_max": round(self.wait_hours * MS_PER_HOUR),
            "compress_after": None if self.compress_after < 0 else self.compress_after,
        }


@dataclass(frozen=True)
class Place:
    """A place on a tape that outlives the process: `offset`, and which tape it is of.

    `fingerprint` stands for the frame before `offset`. None of either means that it is not known.
    """

    offset: int = 0
    tape: str | None = None
    fingerprint: str | None = None


def received(records: "Buffer", at: int = 0) -> int:
    """Returns the receive time of the record at byte `at` of `records`."""
    ts: int = _TS_RECV.unpack_from(records, at + _TS_RECV_AT)[0]
    return ts


def received_next(reader: TapeReader, absent: int) -> int:
    """Takes the next item of a tape; returns its receive time, or `absent` if there is no item."""
    if reader.kind == "blobs":
        blobs = reader.read_blobs(1)
        return blobs[0].ts_recv if blobs else absent
    batch = reader.read(1)
    return absent if batch is None else received(batch)


def read_from(reader: TapeReader, offset: int, records_max: int = 65_536) -> Iterator[Records]:
    """Yields what a tape of records has at `offset` and behind it, in batches.

    What is gone is passed over: what retention took, also while this reads, or a repair gave up.
    """
    while True:
        try:
            if reader.position != offset:
                reader.seek(offset)
            batch = reader.read(records_max)
        except TapeRangeError as error:
            if error.first <= offset:
                raise
            offset = error.first
            continue
        if batch is None:
            return
        yield batch
        offset = batch.next_offset


def place_at(reader: TapeReader, offset: int) -> Place:
    """Returns the place at `offset` of the tape that `reader` reads."""
    return Place(offset, reader.id, reader.fingerprint(offset))


def check_place(reader: TapeReader, stored: Place) -> None:
    """Fails if the tape is not the one of which everything before `stored` was taken.

    Raises:
        TapeReplacedError: it has another id, or was cut or rewritten before that place.
    """
    reader.check_place(stored.offset, tape_id=stored.tape, fingerprint=stored.fingerprint)


def open_at(path: str | PathLike[str], name: str) -> TapeReader:
    """Opens the tape where the reader called `name` last saved its offset, else at its start.

    Raises:
        TapeRangeError: retention took what that reader has not read yet.
    """
    return TapeReader(path, load_offset(path, name))


def open_tape(path: Path) -> TapeReader | None:
    """Opens the tape in the folder `path`; none if there is no folder, or no segment in it yet.

    Raises:
        OSError: it is there and cannot be read; the message names it.
    """
    try:
        return TapeReader(path)
    except FileNotFoundError:
        return None


def has_segments(tape: Path) -> bool:
    """Whether there is anything of a tape in the folder `tape`."""
    return any(tape.glob("*.seg*"))


def tapes_of(data: Path, source: str) -> list[Path]:
    """Returns the folders of the tapes of `source`, in order.

    What else stands beside them, such as `lost+found` where a volume is mounted, is passed over.

    Raises:
        OSError: the folder of the source cannot be read.
    """
    folder = data / "tape" / source
    return [path for name in names_in(folder) if _is_tape(path := folder / name)]


def taped_sources(data: Path) -> list[str]:
    """Returns the sources that have a tape in `data`, in order; other folders are passed over.

    Raises:
        OSError: the folder of the tapes cannot be read.
    """
    return [name for name in names_in(data / "tape") if _is_source(data, name)]


def _is_source(data: Path, name: str) -> bool:
    if not (data / "tape" / name).is_dir():
        return False
    is_name = SOURCE_NAME.fullmatch(name) is not None
    try:
        tapes = tapes_of(data, name)
    except OSError:
        # It may have some, if it can be a source: whoever reads them is told.
        return is_name
    # A name of earlier versions is one where something is on its tapes.
    return bool(tapes) if is_name else any(map(has_segments, tapes))


def _is_tape(folder: Path) -> bool:
    name = folder.name
    if TOPIC.fullmatch(name) is None or not folder.is_dir():
        return False
    # A processor of the user's own may name its topic as it likes.
    return name.startswith(PREFIX) or has_segments(folder)


@dataclass(frozen=True)
class Loss:
    """Items of a tape that are lost to `reader`."""

    topic: str
    reader: str
    first: int
    last: int
    ts_start: int
    """Newest receive time before them, in ns; the least 64-bit number if it is not known."""
    ts_end: int
    """Newest receive time of the first item after them."""
    cause: str = RETENTION
    """Why: retention took them, or a repair gave them up."""


def note_loss(data: Path, source: str, loss: Loss) -> Path:
    """Leaves a note of `loss` for the recorder, which puts it on the raw tape, so into the ledger.

    The recorder alone writes the raw tape; what is to be in the ledger of every replay goes there.
    Until then, and where nobody records any more, the views read the note itself.
    """
    folder = data / "state" / source / "losses"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{loss.topic}.{loss.reader}.{loss.first}-{loss.last}{_NOTE}"
    replace_file(path, json.dumps(vars(loss)))
    return path


def read_losses(data: Path, source: str) -> Iterator[tuple[Path, Loss | Exception]]:
    """Yields what was noted and is not yet on the raw tape, or why a note cannot be read.

    Changes nothing. A note that a recorder takes meanwhile is left out: the raw tape has it.
    """
    for path in sorted((data / "state" / source / "losses").glob("*")):
        if path.suffix not in (_NOTE, _UNREADABLE):
            continue
        found: Loss | Exception
        try:
            found = Loss(**json.loads(path.read_bytes()))
            _check_loss(found)
        except FileNotFoundError:
            continue
        except (OSError, RecursionError, TypeError, ValueError) as error:
            found = error
        yield path, found


def noted_losses(data: Path, source: str) -> Iterator[tuple[Path, Loss]]:
    """Yields what was noted and is not yet on the raw tape; sets aside what cannot be read."""
    for path, found in read_losses(data, source):
        if path.suffix == _UNREADABLE:
            continue
        if isinstance(found, Loss):
            yield path, found
            continue
        # It is no note of ours, or one that a damaged disk changed: for people to look at.
        kept = path.with_suffix(_UNREADABLE)
        with contextlib.suppress(OSError):
            path.replace(kept)
        _log.error("a note of a loss is set aside as %s: %s: %s", kept, path.name, found)


def _check_loss(loss: Loss) -> None:
    numbers = (loss.first, loss.last, loss.ts_start, loss.ts_end)
    if not all(type(number) is int for number in numbers):
        raise ValueError(f"expected whole numbers, got {numbers}")
    in_range = min(numbers) >= -(2**63) and max(numbers[2:]) < 2**63 and loss.last < 2**64
    if loss.cause not in (RETENTION, DAMAGE):
        raise ValueError(f"expected the cause {RETENTION} or {DAMAGE}, got {loss.cause!r}")
    if not (in_range and 0 <= loss.first <= loss.last):
        raise ValueError(f"expected items in order and times of 64 bits, got {numbers}")
