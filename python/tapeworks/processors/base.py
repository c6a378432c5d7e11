"""The contract of a processor written in Python: its settings and its saved state.

A processor sees no clock and no chance: time is in the records. What it gives for an item depends
on the items before it alone, never on where batches begin or end; so live equals replay. It is
slower than those of the core and otherwise their equal: the output carries the input offset that it
covers, and a stage that is killed at any instant writes every item once.

Name it in the settings, and the derive process of every source runs it:

    [processors.imbalance]
    kind = "my_package.my_module:Imbalance"
    input = "market-data.normalized"
    output = "market-data.imbalance"

It is a stage like those of the core: retention waits for it, what retention took all the same is
in the ledger, its lag is in the status, and its tape is verified and repaired with the others.
Where it raises, or its tape is damaged, it stops alone. Its output is read with `TapeReader`; it is
not stored in the lake, and `replay` does not give it. The time that it takes holds up the other
stages of its source. `examples/own_processor.py` is a whole one.
"""

import hashlib
import struct
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tapeworks._core import NONE, Records, TapeReader, dtype_descr, kind_of, numbers
from tapeworks.tape import Place, received
from tapeworks.topics import NORMALIZED

if TYPE_CHECKING:
    from typing_extensions import Buffer

# "TWPYSTAT", version, input offset, output offset, id of the input tape, fingerprint of what is
# before the input offset, the first bytes of the SHA-256 of the settings, length of the state; then
# the state and the SHA-256 of all before. Zeros are an id or a fingerprint that is not known.
STATE_HEAD = struct.Struct("<8sIQQ16s8s8sQ")
STATE_MAGIC, STATE_VERSION = b"TWPYSTAT", 2
# Before any receive time.
EARLIEST = -(2**63)
# A marker, as the core lays it out.
FORMATS = {"|u1": "B", "<u4": "I", "<i8": "q", "<u8": "Q"}
MARKER_FIELDS = dict(dtype_descr("marker"))
MARKER = struct.Struct("<" + "".join(FORMATS[kind] for kind in MARKER_FIELDS.values()))
GAP, CAUSES = numbers("marker_code")["gap"], numbers("gap_cause")
CLOSED = numbers("gap_state")["closed"]
DEPTH = numbers("channel")["depth"]
COUNT_UNKNOWN = 0xFFFF_FFFF


@dataclass(frozen=True)
class ProcessorConfig:
    """The settings that every processor in Python has. One with more of its own derives from it."""

    kind: str = ""
    """Where the class is: `package.module:Class`."""
    input: str = NORMALIZED
    """The topic that it reads: one of records."""
    output: str = ""
    """The topic that it writes; none: `market-data.` and the name of its table."""
    symbols: tuple[str, ...] = ()
    """None: those that the source records."""


class Processor(ABC):
    """One step of the pipeline.

    A class that needs settings of its own names their dataclass as `Config`.
    """

    Config: ClassVar[type[ProcessorConfig]] = ProcessorConfig

    def __init__(self, config: Any = None) -> None:
        self.config = config

    @abstractmethod
    def process(self, batch: Records) -> "Buffer":
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
        """Told that input items `first` to `last` are gone: they cannot be read any more.

        Does nothing unless overridden.
        """

    def take_loss(self, gap: Records) -> "Buffer":
        """Told of the same by the marker that the output holds; returns what follows from it.

        Calls `lost` unless overridden, and returns nothing.
        """
        [marker] = MARKER.iter_unpack(memoryview(gap))
        values = dict(zip(MARKER_FIELDS, marker, strict=True))
        self.lost(values["first"], values["last"])
        return b""


class ReadsDefinitions(ABC):
    """What a processor is as well that looks at the symbols of instruments."""

    @abstractmethod
    def define(self, definitions: Records) -> None:
        """Takes in definitions that stood before its input, which retention took."""


class ReadsOutput(ABC):
    """What a processor is as well whose state is compared with what its output holds.

    Where they do not follow from each other, as other settings wrote some of it, it is given all of
    the output, and says what is to be added.
    """

    @abstractmethod
    def take_output(self, written: Records) -> None:
        """Takes in a batch of the output."""

    @abstractmethod
    def reconcile(self) -> "Buffer":
        """Returns what makes the output that was taken in follow from the state."""


@dataclass(frozen=True)
class Ending:
    """Where a part of a processor stopped, and why. All other parts go on."""

    part: str
    offset: int
    """Input offset of the first item that it did not see."""
    why: str
    error: BaseException | None = None
    """What it raised; none: it did so in a process before."""
    is_over: bool = False
    """Whether it began anew since."""


class HasParts(ABC):
    """What a processor is as well that is made of parts of which each may stop alone."""

    @abstractmethod
    def take_endings(self) -> list[Ending]:
        """Returns which parts stopped since the last call."""

    @abstractmethod
    def begin_again(self) -> "Buffer":
        """Begins all parts anew that have stopped, at the next input; returns what ends by it.

        Called once, when all before that input is known again.
        """


@dataclass(frozen=True)
class State:
    """One saved state of a processor."""

    input: Place
    """The next input item to be read, and of which tape."""
    output: int
    """The output's end when the state was taken."""
    state: bytes
    settings: bytes = bytes(8)
    """Stands for the settings that it was made with."""

    def to_bytes(self) -> bytes:
        """Returns the state as it is stored."""
        place = self.input
        identity = (_to_bytes(place.tape, 16), _to_bytes(place.fingerprint, 8), self.settings)
        head = (STATE_MAGIC, STATE_VERSION, place.offset, self.output, *identity)
        content = STATE_HEAD.pack(*head, len(self.state)) + self.state
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
        magic, version, covered, end, *identity, length = STATE_HEAD.unpack_from(content)
        state = content[STATE_HEAD.size :]
        if magic != STATE_MAGIC or version != STATE_VERSION or len(state) != length:
            raise ValueError(f"expected a state of version {STATE_VERSION}")
        tape, fingerprint, settings = identity
        place = Place(covered, _to_text(tape), _to_text(fingerprint))
        return State(place, end, state, settings)


def _to_bytes(digits: str | None, size: int) -> bytes:
    return bytes(size) if digits is None else bytes.fromhex(digits)


def _to_text(stored: bytes) -> str | None:
    return stored.hex() if any(stored) else None


def newest_receipt(batch: Records) -> int:
    """Returns the newest receive time in `batch`; `EARLIEST` if no record has one."""
    data, at, newest = memoryview(batch), 0, EARLIEST
    while at < data.nbytes:
        ts = received(data, at)
        newest = newest if ts == NONE else max(newest, ts)
        at += data[at] * 8
    return newest


def received_before(tape: Path, offset: int) -> int | None:
    """Returns when the record before `offset` was received, or the first one behind it, in ns."""
    reader = TapeReader(tape)
    first = min(max(offset - 1, reader.first), reader.end)
    reader.seek(first)
    batch = reader.read(1)
    return None if batch is None else newest_receipt(batch)


def loss_gap(first: int, last: int, ts: int, cause: str) -> bytes:
    """Returns the marker of input items that are lost."""
    ts = NONE if ts == EARLIEST else ts
    count = min(last + 1 - first, COUNT_UNKNOWN - 1)
    values = dict.fromkeys(MARKER_FIELDS, 0) | {
        "length": MARKER.size // 8,
        "kind": kind_of("marker"),
        "ts_event": ts,
        "ts_recv": ts,
        "code": GAP,
        "cause": CAUSES[cause],
        "state": CLOSED,
        "count": count,
        "first": first,
        "last": last,
        "ts_start": NONE,
    }
    return MARKER.pack(*values.values())


def depth_gap(gap: bytes, instrument: int) -> bytes:
    """Returns the gap `gap` as one of an instrument's updates: its book is given up there."""
    values = dict(zip(MARKER_FIELDS, MARKER.unpack(gap), strict=True))
    values |= {"instrument": instrument, "channel": DEPTH}
    return MARKER.pack(*values.values())
