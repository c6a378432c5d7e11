"""The contract of sinks.

One `Sink` serves all sources and topics that the settings give it, and holds what they share, such
as the connection to a store. Of each tape it makes one `SinkPartition`, which says at `open` from
which offset it wants records, is given all from there on, in order and without holes, and makes
them final at `flush`, together with their place: the id of the tape, an offset, and a fingerprint
of what stands before it. `feeder.py` feeds a partition; `store.py` is a sink whose store keeps the
places beside the rows. Partitions of one source share a lock: no second process writes theirs.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tapeworks._core import Blob, FolderLock, Records, kind_of
from tapeworks.durable import make_folder
from tapeworks.errors import ConfigError, SinkError
from tapeworks.nearest import nearest
from tapeworks.registry import load_member
from tapeworks.tape import Place

PARALLEL_MAX = 64


@dataclass(frozen=True)
class FlushPolicy:
    """When what was written becomes final: at whichever limit is reached first."""

    rows: int = 1_000_000
    bytes: int = 192 << 20
    seconds: float = 10.0


@dataclass(frozen=True)
class SinkConfig:
    """The settings that every sink but the lake has. One with more derives from it."""

    STORE_KEY: ClassVar[tuple[str, ...]] = ()
    """The settings that tell one store from another, where no two sinks may store one topic in the
    same: the place of the one would be taken for that of the other. None: they may."""

    kind: str = ""
    """Where the class is: `package.module:Class`; of a sink of the table, its name."""
    enabled: bool = True
    topics: tuple[str, ...] = ()
    """The topics that it stores; none: those that the sink is made for."""
    symbols: tuple[str, ...] = ()
    """The symbols whose records it stores; none: all."""
    kinds: tuple[str, ...] = ()
    """The kinds of records that it stores, such as `trade`; none: all."""
    flush_seconds: float = 10.0
    """What was written is final after so long at most."""
    flush_rows: int = 500_000
    """Records of one tape after which they are made final."""
    flush_bytes: int = 96 << 20
    """Memory of one tape's records after which they are made final."""
    parallel: int = 1
    """Sources are shared out to so many threads, each with a connection of its own."""
    rejected_max: int = 1_000
    """Records of one tape that the store refuses for good before the sink stops with an error."""

    def __post_init__(self) -> None:
        for kind in self.kinds:
            try:
                kind_of(kind)
            except ValueError as error:
                raise ConfigError(f"kinds: {error}") from None
        if twice := [one for at, one in enumerate(self.topics) if one in self.topics[:at]]:
            raise ConfigError(f"topics: expected each once, got {twice[0]} twice")
        for name in ("flush_seconds", "flush_rows", "flush_bytes"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name}: expected more than 0, got {getattr(self, name)}")
        if not 1 <= self.parallel <= PARALLEL_MAX:
            raise ConfigError(f"parallel: expected 1 to {PARALLEL_MAX}, got {self.parallel}")
        if self.rejected_max < 0:
            raise ConfigError(f"rejected_max: expected 0 or more, got {self.rejected_max}")

    @property
    def policy(self) -> FlushPolicy:
        """When what was written becomes final."""
        return FlushPolicy(self.flush_rows, self.flush_bytes, self.flush_seconds)

    def idle(self, name: str) -> str:
        """Returns why a sink of that name and these settings stores nothing; empty: it does."""
        return ""


def check_sinks(sinks: Mapping[str, Any], known: Collection[str]) -> None:
    """Checks the sinks of the settings by their names, beside the topics that are `known`.

    Raises:
        ConfigError: a topic is none that anybody writes, or two sinks store one in the same place.
    """
    taken: dict[tuple[Any, ...], str] = {}
    for name, config in sinks.items():
        if not isinstance(config, SinkConfig):
            # The lake stores all topics, and there is one.
            continue
        if unknown := next((topic for topic in config.topics if topic not in known), None):
            meant = nearest(unknown, known)
            raise ConfigError(
                f"[sinks.{name}]: topics: expected some of {', '.join(sorted(known))}, got "
                f"{unknown!r}{f'; did you mean {meant[0]}' if meant else ''}"
            )
        if not config.STORE_KEY:
            continue
        store = (config.kind, *(_as_one(getattr(config, key)) for key in config.STORE_KEY))
        for topic in load_member("sink", config.kind).topics(config):
            other = taken.setdefault((*store, topic), name)
            if other != name:
                key = config.STORE_KEY[-1]
                raise ConfigError(
                    f"[sinks.{name}]: expected another {key} than that of [sinks.{other}], got "
                    f"{getattr(config, key)!r} for both: both store {topic}, and what the one has "
                    f"passed, the other, or whoever reads it, would leave out"
                )


def _as_one(text: str) -> str:
    """Returns a setting of a store so that some spellings of one address are equal."""
    parts = sorted(part.strip().rstrip("/") for part in text.split(","))
    return ",".join(parts).replace("localhost", "127.0.0.1")


@dataclass(frozen=True)
class SinkContext:
    """What the pipeline tells a sink about its place in it."""

    name: str
    """What the settings call it: two sinks of one kind have two names."""
    data: Path
    """The data folder."""


class Sink(ABC):
    """Records leaving for another system, of all sources and topics.

    A class of the user's own that needs more settings names their dataclass as `Config`.
    """

    Config: ClassVar[type[SinkConfig]] = SinkConfig

    @classmethod
    @abstractmethod
    def topics(cls, config: Any) -> tuple[str, ...]:
        """Returns the topics that the sink wants, in the order in which they are to be read."""

    @abstractmethod
    def __init__(self, config: Any, context: SinkContext) -> None:
        """Only remembers its arguments."""

    @abstractmethod
    def partition(self, source: str, topic: str) -> "SinkPartition":
        """Makes the part of the sink that stores one tape; opens nothing."""


class SinkPartition(ABC):
    """The part of a sink that stores the records of one tape.

    All partitions of an instance of a sink are called from one thread, but for `run_maintenance`:
    with `parallel` there are several instances, each of some sources.
    """

    MAINTENANCE_S: ClassVar[float] = 15.0
    """Its upkeep is looked at so often."""
    LOST_ADVICE: ClassVar[str] = "put back what it had stored"
    """What an operator can do when it holds nothing of what it had stored, and the tape neither."""

    @abstractmethod
    def open(self) -> int:
        """Recovers from whatever happened before; returns the offset to be given next."""

    @abstractmethod
    def write(self, batch: Records) -> None:
        """Takes records that follow those of the last call."""

    def write_blobs(self, blobs: list[Blob]) -> None:
        """Takes one or more blobs that follow those of the last call.

        Raises:
            SinkError: it stores records only.
        """
        raise SinkError(f"expected `write_blobs` for blobs, {type(self).__name__} has none")

    @abstractmethod
    def flush(self, place: Place | None = None) -> None:
        """Makes everything that was written final, or nothing.

        `place` is where the tape goes on behind what was written; it is stored in the same step,
        so that a tape that was replaced or restored is noticed when it is opened again.

        Raises:
            SinkUnavailable: may work later; what was written is kept, call again.
        """

    @abstractmethod
    def close(self) -> None:
        """Gives up what it holds. What was not flushed is written again after the next `open`."""

    def run_maintenance(self) -> bool:
        """Does one piece of upkeep, if any is due; returns whether it was. May take long.

        Called in a thread of its own, while the other methods are called from another.
        """
        return False

    @property
    @abstractmethod
    def committed(self) -> Place | None:
        """The place up to which everything is final; none for one that never stored anything."""

    @property
    @abstractmethod
    def resume(self) -> int:
        """The offset that `open` would return now: not beyond what is committed."""

    @property
    @abstractmethod
    def received(self) -> int:
        """A receive time before which all is final, or `UNKNOWN`."""

    @property
    def begun(self) -> int:
        """Where a range ends that is stored as a whole, and that was begun; 0: there is none.

        What the tape lost of such a range is left out, and the rest of it is stored with what was
        written before.
        """
        return 0

    def held(self) -> int:
        """Returns the offset before which all rows are stored, also beyond its place; 0: no such.

        Asked when the tape lost what is not final.

        Raises:
            SinkUnavailable: may work later.
        """
        return 0

    @abstractmethod
    def skip(self, place: Place) -> None:
        """Goes on at `place`, for good, as the tape has nothing more that is not final before it.

        Only what belongs to a range that was `begun` may be pending.
        """

    @property
    @abstractmethod
    def pending(self) -> tuple[int, int]:
        """Rows and bytes that were written and are not yet final."""

    @property
    def reads_published(self) -> bool:
        """Whether it is given what is published, also before that is durable.

        What it makes final reaches no further than what is durable, all the same.
        """
        return False

    @property
    def rejected(self) -> int:
        """The number of records that the store will never take, and that are kept aside."""
        return 0

    @property
    def troubles(self) -> list[str]:
        """What an operator should know, a line each, such as records that the store refused."""
        return []


class WriterLock:
    """The lock of what one source's sinks write: taken with the first, given back with the last."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._holders = 0
        self._lock: FolderLock | None = None

    def acquire(self) -> None:
        """Takes the lock, unless a sink of this process that shares it holds it already.

        Raises:
            TapeLockedError: another process holds it; the message names its pid.
        """
        if self._lock is None:
            make_folder(self._folder)
            self._lock = FolderLock(self._folder)
        self._holders += 1

    def check(self) -> None:
        """Fails if the folder is no longer the one that was locked.

        Raises:
            TapeReplacedError: it was removed, renamed or replaced.
        """
        if self._lock is None:
            raise SinkError(f"{self._folder}: its lock is not held")
        self._lock.check()

    def release(self) -> None:
        """Gives the lock back for one sink."""
        self._holders -= 1
        if self._holders <= 0 and self._lock is not None:
            self._lock.release()
            self._lock, self._holders = None, 0
