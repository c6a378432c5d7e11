"""Checkpoints of books of single orders: files of a cache, made by whoever asks for a book.

    <data>/cache/order-books/<instrument and day>/<offset>_<complete from>_<received>.book

A checkpoint holds what all events of one instrument and day before an offset of the tape make. Its
key stands for instrument and day, and for all that the events were read from: which tape, the item
before the offset, what a repair gave up, and which files of the lake. What is received later stands
behind the offset and changes no checkpoint; what changes the events before it changes the key. A
file that is torn, or of another key or version, is not used, and is removed. All of them may be
removed at any time.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tapeworks import __version__
from tapeworks._core import OrderBook
from tapeworks.durable import names_in
from tapeworks.lake import Table
from tapeworks.topics import NORMALIZED
from tapeworks.views.tail import SourceTail

FOLDER = "cache/order-books"
SUFFIX, ASIDE = ".book", ".new"
CACHE_BYTES_MAX = 1 << 30
"""Beyond this the checkpoints that were not used for longest are removed."""
FREE_BYTES_MIN = 4 << 30
"""Where less is free on the disk, none is written."""
EVENTS_APART = 1 << 16
"""So many events of the instrument lie between two checkpoints, or twice its open orders."""
OFFSETS_APART = 1 << 20
"""So many items of the tape lie between two checkpoints at most."""
OFFSET_MAX = (1 << 63) - 1


class Basis:
    """What the events of one instrument and day are read from."""

    def __init__(self, tail: SourceTail, tables: Sequence[Table], older: range) -> None:
        """`older` are the offsets that are read from the lake."""
        self._tape = tail.tape(NORMALIZED)
        if self._tape is not None and self._tape.end <= self._tape.first:
            self._tape = None
        self._lost = [] if self._tape is None else self._tape.lost_ranges()
        self._id = None if self._tape is None else self._tape.id
        # Up to the seam events are read from the lake.
        self._seam, files = 0, []
        if older:
            self._seam = OFFSET_MAX if self._tape is None else self._tape.first
            for table in tables:
                found, commit = tail.files(table)
                files += [file for file in found if file.last >= older.start]
                self._id = self._id or commit.place.tape
        # A file never changes once it is named; what one of version 1 is, no commit says.
        self._is_known = self._id is not None and all(file.size >= 0 for file in files)
        self._files = sorted(
            (file.first, file.last, file.day, file.path.name, file.size, file.footer)
            for file in files
        )

    def key(self, offset: int) -> bytes | None:
        """Returns what stands for all that is read before `offset`; none: that is not known."""
        if not self._is_known or (self._tape is not None and offset > self._tape.end):
            return None
        is_taped = self._tape is not None and offset > self._seam
        known = [
            self._id,
            self._tape.fingerprint(offset) if self._tape is not None and is_taped else None,
            [lost for lost in self._lost if lost[0] < offset],
            [file for file in self._files if file[0] < min(offset, self._seam)],
        ]
        return hashlib.sha256(json.dumps(known).encode()).digest()


class _Name(NamedTuple):
    """What the name of a checkpoint tells, so that few are read; their content decides."""

    offset: int
    complete_from: int
    received: int

    @property
    def file(self) -> str:
        return "_".join(map(str, self)) + SUFFIX

    @staticmethod
    def parse(file: str) -> "_Name | None":
        numbers = file.removesuffix(SUFFIX).split("_")
        try:
            found = _Name(*map(int, numbers)) if len(numbers) == len(_Name._fields) else None
        except ValueError:
            return None
        return found if found is not None and found.file == file else None


class OrderCheckpoints:
    """The checkpoints of one instrument and day.

    Where the cache cannot be read or written, there are none.
    """

    def __init__(
        self, data: Path, source: str, symbol: str, start: int, basis: Basis, first: int
    ) -> None:
        """`start` is that of the day, `first` the offset from which its events are read."""
        self._data = data
        self._cache = data / FOLDER
        told = json.dumps([__version__, source, symbol, start])
        self._of = hashlib.sha256(told.encode())
        self._folder = self._cache / self._of.hexdigest()[:32]
        self._basis = basis
        # Those of the last checkpoint.
        self._events, self._offset = 0, first
        self._has_written = False

    def restore(self, until: int | None, before: int) -> tuple[OrderBook, int] | None:
        """Returns the book of the last checkpoint that fits, and the offset from which to go on.

        It holds no event that happened after `until` or was received at `before` or later.
        """
        try:
            names = filter(None, map(_Name.parse, names_in(self._folder)))
        except OSError:
            return None
        for name in sorted(names, reverse=True):
            is_later = until is not None and name.complete_from > until
            if is_later or name.received >= before:
                continue
            book = self._read(name, until, before)
            if book is not None:
                self._events, self._offset = book.events, name.offset
                return book, name.offset
        return None

    def _read(self, name: _Name, until: int | None, before: int) -> OrderBook | None:
        path = self._folder / name.file
        with contextlib.suppress(OSError):
            content, key = path.read_bytes(), self._key(name.offset)
            if key is not None:
                book = OrderBook.restore(content, key, name.offset, until, before)
                if book is not None:
                    # Another user may have written it.
                    with contextlib.suppress(OSError):
                        os.utime(path)
                    return book
            path.unlink()
        return None

    def _key(self, offset: int) -> bytes | None:
        """Returns what stands for the instrument and day, and for all that is read of it."""
        basis = self._basis.key(offset)
        return None if basis is None else hashlib.sha256(self._of.digest() + basis).digest()

    def keep(self, book: OrderBook, offset: int) -> None:
        """Writes a checkpoint of all events before `offset`, which made `book`, if one is due."""
        apart = max(EVENTS_APART, 2 * len(book))
        if abs(book.events - self._events) < apart and offset - self._offset < OFFSETS_APART:
            return
        key = self._key(offset)
        content = None if key is None else book.save(key, offset)
        if content is None:
            return
        self._events, self._offset = book.events, offset
        path = self._folder / _Name(offset, book.complete_from, book.received).file
        aside = path.with_suffix(f".{os.getpid()}{ASIDE}")
        with contextlib.suppress(OSError):
            # A recorder needs the room on its disk more.
            if shutil.disk_usage(self._data).free > FREE_BYTES_MIN:
                self._folder.mkdir(parents=True, exist_ok=True)
                aside.write_bytes(content)
                aside.replace(path)
                self._has_written = True

    def close(self) -> None:
        """Removes what was not used for longest, if the cache is more than it may be."""
        if not self._has_written:
            return
        held = []
        for path in self._cache.glob("*/*"):
            with contextlib.suppress(OSError):
                found = path.stat()
                held.append((found.st_mtime_ns, found.st_size, path))
        over = sum(size for _, size, _ in held) - CACHE_BYTES_MAX
        for _, size, path in sorted(held):
            if over <= 0:
                break
            with contextlib.suppress(OSError):
                path.unlink()
            over -= size
