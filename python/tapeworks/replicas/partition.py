"""The local tapes of one partition of a topic: one for each source that is in it, exactly once.

    data/replicas/<topic>/<partition>/place.json       up to where all is on the tapes, and of what
    data/replicas/<topic>/<partition>/unreadable.jsonl messages that are no records, and why
    data/tape/<source>-p<partition>/market-data.normalized

Each frame of a tape carries the position in the partition that it covers, in the same atomic write.
`place.json` follows behind what is durable: a restart reads on from there, and leaves out what the
tapes cover already. The bytes of a record are those of the recorder's tape. A partition has one
writer, held by a lock; whoever reads the same partition on another machine writes the same tape.
"""

import base64
import bisect
import json
import logging
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from tapeworks._core import FolderLock, Records, Unpacker, dtype_descr, kind_of
from tapeworks.config import SOURCE_NAME, source_name
from tapeworks.durable import make_folder, replace_file
from tapeworks.errors import TapeReplacedError
from tapeworks.heartbeat import beat
from tapeworks.processors.base import EARLIEST, depth_gap, loss_gap
from tapeworks.source_symbols import KeptDefinitions, SourceSymbols
from tapeworks.tape import (
    DAMAGE,
    Place,
    TapeConfig,
    TapeReader,
    TapeWriter,
    check_place,
    has_segments,
    place_at,
    read_from,
    received,
)
from tapeworks.topics import NORMALIZED

log = logging.getLogger("tapeworks.replicas")

PLACE, UNREADABLE = "place.json", "unreadable.jsonl"
UNREADABLE_BYTES_MAX = 16 << 20
# Sources that are named by messages that cannot be read, and by no other one yet.
UNMET_MAX = 256
ANY = ""
"""Whichever source is met next: its records may be among what is lost."""

LEVELS = np.dtype(dtype_descr("level"))
DEFINITION, LEVEL = kind_of("definition"), kind_of("level")
Lost: TypeAlias = tuple[int, int, str, bool]
"""Positions that are lost, why, and whether updates of books may be among them."""


@dataclass(frozen=True)
class Origin:
    """Which partition of which topic: another one of the same name differs in `topic_id`."""

    system: str
    topic: str
    topic_id: str
    partition: int | str
    """Its number, or the source that all of it is of."""


@dataclass
class _Source:
    """One source of the partition."""

    name: str
    writer: TapeWriter
    path: Path
    symbols: SourceSymbols
    kept: KeptDefinitions
    reached: tuple[int, int] | None = None
    """Offset and receive time of its newest message, as its recorder has them."""
    lost: Lost | None = None
    """What is told on the tape before what comes next."""
    books: set[int] = field(default_factory=set)
    """The instruments of which the tape has levels before `books_at`."""
    books_at: int = 0

    def append(self, data: bytes, records: Records, covered: int, ts: int | None) -> None:
        """Appends `data`, which ends with `records`, and covers the partition up to `covered`."""
        is_known = self.books_at == self.writer.end
        self.writer.append(data, input_offset=covered, ts=ts)
        if is_known:
            self._find_books(records)
            self.books_at = self.writer.end

    def with_books(self) -> list[int]:
        """Returns the instruments of which the tape has levels: no part of it is read twice."""
        if self.books_at < self.writer.end:
            reader = TapeReader(self.path)
            for batch in read_from(reader, self.books_at):
                self._find_books(batch)
                beat()
            self.books_at = reader.position
        return sorted(self.books)

    def _find_books(self, records: Records) -> None:
        if LEVEL in records.kinds():
            rows = np.frombuffer(records.numpy("level"), LEVELS)
            self.books.update(np.unique(rows["instrument"]).tolist())

    def keep(self, records: Records) -> None:
        """Keeps the definitions of `records` beside the tape, before they are on it."""
        symbols = self.symbols.read()
        symbols.load(records.select([DEFINITION]))
        self.kept.keep(symbols.records())


class PartitionReplica:
    """Writes the tapes of one partition. `open` says where to read on."""

    def __init__(self, data: Path, origin: Origin, tape: TapeConfig) -> None:
        self.origin = origin
        self.folder = data / "replicas" / origin.topic / str(origin.partition)
        self.position = 0
        """The position to be read next."""
        self.unreadable = 0
        self.repeated = 0
        self._data = data
        self._tape = tape
        self._lock: FolderLock | None = None
        self._sources: dict[str, _Source] = {}
        # By source that was not met yet, or `ANY`: what it lost.
        self._unmet: dict[str, Lost] = {}
        self._unpacker = Unpacker()
        self._noted: dict[str, Any] = {}

    def local_sources(self) -> list[str]:
        """Returns the names of the local sources of this partition."""
        return [self._local(name) for name in self._sources]

    def open(self) -> int | None:
        """Takes the lock and opens the tapes; returns the position to read on, none for a new one.

        Raises:
            TapeLockedError: another process writes this partition here.
            TapeReplacedError: what is here is of another topic of this name, or a tape is not the
                one that was written.
        """
        make_folder(self.folder)
        self._lock = FolderLock(self.folder)
        try:
            return self._resume()
        except BaseException:
            self.close()
            raise

    def append(
        self, values: Sequence[bytes], positions: Sequence[int], keys: Sequence[Any]
    ) -> None:
        """Appends the records of messages, which follow those before.

        A message that cannot be read is kept aside, and is a gap of the source that its key names,
        or of all sources if it names none.

        Raises:
            DiskFullError, OSError: close and open it again; it says where to read on.
            TapeReplacedError: they are of another tape of a source.
        """
        done = 0
        while done < len(values):
            done += self._append(values[done:], positions[done:], keys[done:])

    def lose(
        self,
        first: int,
        last: int,
        cause: str,
        sources: Collection[str] | None = None,
        *,
        with_books: bool = True,
    ) -> None:
        """Notes what is lost to `sources`, or to all: a gap before what they say next.

        Those that were not met yet say it before their first record.
        """
        lost = first, last, cause, with_books
        for name in [*self._sources, ANY] if sources is None else sources:
            source = self._sources.get(name)
            if source is not None:
                source.lost = _joined(source.lost, lost)
            else:
                unmet = name if name in self._unmet or len(self._unmet) < UNMET_MAX else ANY
                self._unmet[unmet] = _joined(self._unmet.get(unmet), lost)
        self.position = max(self.position, last + 1)

    def checkpoint(self) -> None:
        """Makes the tapes durable, then notes up to where they reach."""
        for source in self._sources.values():
            source.writer.sync()
            source.kept.cover()
        self._noted = {
            "origin": asdict(self.origin),
            "position": self.position,
            "unreadable": self.unreadable,
            "sources": {name: _told(source) for name, source in self._sources.items()},
            "unmet": self._unmet,
        }
        self._save()

    @property
    def has_news(self) -> bool:
        """Whether a checkpoint would note another position."""
        return self.position != self._noted.get("position")

    def close(self) -> None:
        """Closes the tapes and gives the lock back. What is not noted is read again."""
        for source in self._sources.values():
            source.writer.close()
        self._sources.clear()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _append(
        self, values: Sequence[bytes], positions: Sequence[int], keys: Sequence[Any]
    ) -> int:
        covered = [
            (name, bisect.bisect_left(positions, source.writer.covered or 0))
            for name, source in self._sources.items()
        ]
        try:
            parts, rejected = self._unpacker.unpack(values, covered)
        except ValueError as error:
            raise TapeReplacedError(f"{self._label}: {error}; read it into a new folder") from None
        for name, records, last, offset, ts, repeated in parts:
            source = self._sources.get(name) or self._add(name)
            source.reached = (offset, ts)
            self.repeated += repeated
            if len(records):
                if DEFINITION in records.kinds():
                    source.keep(records)
                data = self._gaps(source, records) + bytes(records)
                newest = None if ts == EARLIEST else ts
                source.append(data, records, positions[last] + 1, newest)
        done = len(values) if rejected is None else rejected[0] + 1
        self.position = positions[done - 1] + 1
        if rejected is not None:
            at, reason, is_newer = rejected
            owner = self._set_aside(positions[at], keys[at], values[at], reason)
            # A kind of record that only a newer version knows is no update of a book.
            owners = None if owner is None else {owner}
            self.lose(positions[at], positions[at], DAMAGE, owners, with_books=not is_newer)
        return done

    def _set_aside(self, position: int, key: object, value: bytes, reason: str) -> str | None:
        """Keeps a message that is no record; returns the source that its key names, if any."""
        self.unreadable += 1
        text = key.decode("utf-8", "replace") if isinstance(key, bytes) else ""
        if self.unreadable.bit_count() == 1:
            # The first, the second, the fourth: a topic that has many does not fill the log.
            at = f"{self._label}: position {position}"
            log.error("%s cannot be read, %d so far: %s", at, self.unreadable, reason)
        path = self.folder / UNREADABLE
        if not path.exists() or path.stat().st_size < UNREADABLE_BYTES_MAX:
            told = {"position": position, "reason": reason, "key": text}
            line = json.dumps(told | {"value": base64.b64encode(value).decode()})
            with path.open("ab") as file:
                file.write(line.encode() + b"\n")
        source = text.partition("/")[0]
        return source if SOURCE_NAME.fullmatch(source) else None

    def _gaps(self, source: _Source, records: Records) -> bytes:
        """Returns what tells the loss before `records`: one gap of the source, one of each book."""
        if source.lost is None:
            return b""
        (first, last, cause, with_books), source.lost = source.lost, None
        if (source.writer.covered or 0) > last + 1:
            # It was told before this process began.
            return b""
        gap = loss_gap(first, last, received(records), cause)
        books = source.with_books() if with_books else []
        return b"".join([gap, *(depth_gap(gap, one) for one in books)])

    # The place.

    def _resume(self) -> int | None:
        known = self._load()
        if known is None:
            self.checkpoint()
            return None
        origin = Origin(**known["origin"])
        if origin != self.origin:
            raise TapeReplacedError(
                f"{self._label}: its tapes here are of a topic with the id {origin.topic_id}, now "
                f"it has {self.origin.topic_id or 'none'}: it was deleted and made again, or is "
                f"on other brokers. To read this one, name another folder with --data"
            )
        for name, told in known["sources"].items():
            source = self._open_source(name)
            if told["place"] is not None:
                place = Place(**told["place"])
                reader = TapeReader(source.path)
                check_place(reader, place)
            if told["reached"] is not None:
                source.reached = tuple(told["reached"])
                self._unpacker.restore(name, *source.reached)
            if told["lost"] is not None:
                source.lost = tuple(told["lost"])
            if "books" in told:
                # What was written since is read now. Of a version before, all is: once it is asked.
                books, at = told["books"]
                source.books, source.books_at = set(books), min(at, source.writer.end)
                source.with_books()
        # Versions before noted none. One that was met since has it as its own.
        unmet = known.get("unmet", {}).items()
        self._unmet = {name: tuple(lost) for name, lost in unmet if name not in self._sources}
        self._noted = known
        self.position, self.unreadable = known["position"], known["unreadable"]
        return self.position

    def _load(self) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads((self.folder / PLACE).read_bytes())
        except FileNotFoundError:
            return None
        return found

    def _save(self) -> None:
        replace_file(self.folder / PLACE, json.dumps(self._noted))

    # Sources.

    @property
    def _label(self) -> str:
        return f"{self.origin.topic} [{self.origin.partition}]"

    def _local(self, source: str) -> str:
        partition = self.origin.partition
        return source_name(f"{source}-p{partition}" if isinstance(partition, int) else source)

    def _path(self, name: str) -> Path:
        return self._data / "tape" / self._local(name) / NORMALIZED

    def _add(self, name: str) -> _Source:
        """Adds a source that was not met before.

        Its name is durable before anything of it: after a crash its tape is opened and asked what
        it covers, whatever place was noted.

        Raises:
            TapeReplacedError: there is a tape of its name that this partition did not write.
        """
        path = self._path(name)
        if has_segments(path):
            raise TapeReplacedError(
                f"{self._label}: expected no tape at {path}, got one that was not written from "
                "this topic; to read the topic as well, name another folder with --data"
            )
        lost = self._unmet.get(ANY)
        if (own := self._unmet.get(name)) is not None:
            lost = _joined(lost, own)
        new = {"place": None, "reached": None, "lost": lost, "books": [[], 0]}
        self._noted["sources"][name] = new
        self._save()
        source = self._open_source(name)
        source.lost = lost
        self._unmet.pop(name, None)
        return source

    def _open_source(self, name: str) -> _Source:
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        settings: dict[str, Any] = self._tape.settings()
        del settings["durability_ms"]
        settings |= {"durability": self._tape.durability, "interval_ms": self._tape.interval_ms}
        place = self._data, self._local(name)
        tape = TapeWriter(path, "records", **settings)
        source = _Source(name, tape, path, SourceSymbols(*place), KeptDefinitions(*place))
        if tape.end > 0:
            # Also those of a tape that was written before there was such a file.
            source.kept.keep(source.symbols.read().records())
            source.kept.cover()
        self._sources[name] = source
        return source


def _joined(before: Lost | None, lost: Lost) -> Lost:
    """Returns both losses as one."""
    if before is None:
        return lost
    first, last, cause, with_books = lost
    return min(before[0], first), max(before[1], last), cause, before[3] or with_books


def _told(source: _Source) -> dict[str, Any]:
    place = None
    if source.writer.end > 0:
        # What is durable: a tape that is cut behind it is the same one.
        place = asdict(place_at(TapeReader(source.path), source.writer.durable))
    books = [sorted(source.books), source.books_at]
    return {"place": place, "reached": source.reached, "lost": source.lost, "books": books}
