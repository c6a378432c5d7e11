"""The symbols of one source: as its tape defines them, and as they are kept beside it and the lake.

    data/state/<source>/definitions.records   definitions of all instruments, as records
    data/state/<source>/definitions.json      the place on the tape before which it has all

The recorder replaces the first when it has met more, and both now and then, so that nobody has to
read the whole tape. What retention takes of the tape, and a lake that is switched off, are
then no loss: nobody defines an instrument twice. Numbers of instruments are of one tape: the file
names it by its id, and is not used beside another one.
"""

import contextlib
import hashlib
import json
import logging
import time
from dataclasses import asdict
from pathlib import Path

from tapeworks import commits
from tapeworks._core import Ingest, Records, Symbols, TapeReader, definitions_of, kind_of
from tapeworks.durable import make_folder, replace_file
from tapeworks.errors import TapeError, TapeRangeError
from tapeworks.heartbeat import beat
from tapeworks.tape import Place, check_place, open_tape, place_at, read_from
from tapeworks.topics import NORMALIZED

READ_RECORDS = 262_144
KEPT, COVERED = "definitions.records", "definitions.json"
# A hash of what follows, the id of the tape, records. Of versions before: the hash, records.
MAGIC, ID_BYTES = b"TWDEFS01", 32
UNNAMED = "".ljust(ID_BYTES)
# What a reader has to read of the tape was received so lately, about.
COVER_S = 60.0

log = logging.getLogger("tapeworks.symbols")


class KeptDefinitions:
    """The file of all definitions of a source, which the writer of its tape replaces."""

    def __init__(self, data: Path, source: str) -> None:
        self.path = data / "state" / source / KEPT
        self.count = 0
        """So many definitions are in the file, of those that were given to `keep`."""
        self._tape = data / "tape" / source / NORMALIZED
        self._written = b""
        self._is_whole = False
        self._covered = -COVER_S

    def keep(self, definitions: Records | None) -> None:
        """Replaces the file by all definitions there are, durably; none: there are no more.

        Where the disk refuses, the file stays as it is, and `count` too: keep them once more.
        """
        if definitions is None:
            return
        self._is_whole = False
        try:
            reader = open_tape(self._tape)
            tape = UNNAMED if reader is None else reader.id or UNNAMED
            body = tape.encode().ljust(ID_BYTES) + bytes(definitions)
            head = MAGIC + hashlib.sha256(body).digest()
            if head != self._written or not self.path.exists():
                make_folder(self.path.parent)
                replace_file(self.path, head + body)
        except (OSError, TapeError) as error:
            log.warning("%s: %s", self.path, error)
        else:
            self.count, self._written, self._is_whole = len(definitions), head, True

    def follow(self, ingest: Ingest) -> None:
        """Keeps what `ingest` has met, if that is more than was kept; now and then also if it is
        defined anew."""
        place = self._place()
        self.keep(definitions_of(ingest, self.count if place is None else 0))
        self._cover(place)

    def cover(self) -> None:
        """Notes that the file has all that the tape defines by now, as is done now and then."""
        self._cover(self._place())

    def _place(self) -> Place | None:
        """Returns up to where the tape is durable; none if that is not to be noted yet."""
        if time.monotonic() - self._covered < COVER_S:
            return None
        with contextlib.suppress(OSError, TapeError):
            if (reader := open_tape(self._tape)) is not None:
                return place_at(reader, reader.durable)
        return None

    def _cover(self, place: Place | None) -> None:
        if place is None or not self._is_whole:
            return
        told = json.dumps({**asdict(place), "count": self.count})
        try:
            replace_file(self.path.with_name(COVERED), told)
        except OSError as error:
            log.warning("%s: %s", self.path.with_name(COVERED), error)
        self._covered = time.monotonic()

    def load(self) -> Records | None:
        """Returns what is kept of the tape that is there; none if nothing is, or it is damaged.

        The recorder makes it anew. Where no tape is there, it is of the last one.

        Raises:
            OSError: the file or the tape is there and cannot be read.
            TapeError: the tape is damaged.
        """
        try:
            found = self.path.read_bytes()
        except FileNotFoundError:
            return None
        head = len(MAGIC) + hashlib.sha256().digest_size
        magic, body, tape = found[: len(MAGIC)], found[head:], UNNAMED
        is_intact = found[len(MAGIC) : head] == hashlib.sha256(body).digest()
        if not is_intact or magic not in (MAGIC, commits.SYMBOLS_MAGIC):
            log.warning("%s is damaged; the next start of the recorder makes it anew", self.path)
            return None
        if magic == MAGIC:
            tape, body = body[:ID_BYTES].decode("latin-1"), body[ID_BYTES:]
        if not self._is_of(tape):
            log.warning("%s is of another tape; the recorder makes it anew", self.path)
            return None
        return Records.from_bytes(body)

    def _is_of(self, tape: str) -> bool:
        reader = open_tape(self._tape)
        if reader is None:
            return True
        if tape == UNNAMED:
            # Of a version before. A tape that is whole defines its instruments itself.
            return reader.first > 0
        return tape == reader.id

    def covered(self) -> int:
        """Returns the offset before which all that the tape defines is in the file; 0: none is."""
        with contextlib.suppress(OSError, TapeError, TypeError, ValueError, LookupError):
            told = json.loads(self.path.with_name(COVERED).read_bytes())
            place = Place(told["offset"], told["tape"], told["fingerprint"])
            reader, found = open_tape(self._tape), self.load()
            # A file that was restored has less, a tape that was made anew is another one.
            if reader is not None and found is not None and len(found) >= told["count"]:
                check_place(reader, place)
                return place.offset
        return 0


def kept_symbols(data: Path, source: str) -> Symbols:
    """Returns the symbols that are defined beside the tape: in the lake's copy, and in the file.

    What is of another tape than the one that is there is left out.

    Raises:
        LakeError: the lake's copy is damaged.
        OSError: the tape is there and cannot be read.
        TapeError: the tape is damaged.
    """
    symbols = Symbols()
    for found in (_symbols_of_lake(data, source), KeptDefinitions(data, source).load()):
        if found is not None:
            symbols.load(found)
    return symbols


def _symbols_of_lake(data: Path, source: str) -> Records | None:
    known = commits.load_symbols(data / "lake", source)
    if known is None:
        return None
    commit = commits.read_commit(data / "lake", source, NORMALIZED)
    there, stored = tape_id(data, source), None if commit is None else commit.place.tape
    return None if there and stored and there != stored else known.records()


def tape_id(data: Path, source: str) -> str | None:
    """Returns the id of the normalized tape of `source`; none if there is no tape, or it has none.

    Raises:
        OSError: it is there and cannot be read.
        TapeError: it is damaged.
    """
    reader = open_tape(data / "tape" / source / NORMALIZED)
    return None if reader is None else reader.id


class SourceSymbols:
    """Keeps the symbols of a source, and reads what was defined since the last call.

    Definitions that retention took from the tape are kept beside it.
    """

    def __init__(self, data: Path, source: str) -> None:
        self._data = data
        self._source = source
        self._symbols = Symbols()
        self._at: int | None = None
        self._kept: tuple[int, int] | None = None
        self._tape: str | None = None

    def read(self) -> Symbols:
        """Returns the symbols of all instruments that were ever defined, as of now.

        Raises:
            LakeError: the lake's copy is damaged.
            TapeError: the tape is damaged, or not the one that the lake was made from.
        """
        tape = tape_id(self._data, self._source)
        if tape is not None and tape != self._tape:
            # Another one, or the first: its numbers are of other instruments.
            self._symbols, self._at, self._tape = Symbols(), None, tape
        if self._at is None:
            self._at = self._begin()
        elif self._is_kept_anew():
            self._symbols.load(kept_symbols(self._data, self._source).records())
        reader = reader_behind(self._data, self._source, NORMALIZED, self._at)
        if reader is not None:
            for batch in read_from(reader, reader.position, READ_RECORDS):
                if len(found := batch.select([kind_of("definition")])):
                    self._symbols.load(found)
                self._at = batch.next_offset
                beat()
        return self._symbols

    def _begin(self) -> int:
        """Takes in what is kept; returns the offset before which all that is defined is in it."""
        # First what is covered: what is kept then has that, and maybe more.
        covered = KeptDefinitions(self._data, self._source).covered()
        commit = commits.read_commit(self._data / "lake", self._source, NORMALIZED)
        self._is_kept_anew()
        self._symbols.load(kept_symbols(self._data, self._source).records())
        return max(covered, 0 if commit is None else commit.offset)

    def _is_kept_anew(self) -> bool:
        """Returns whether the file of definitions was replaced since the last call."""
        before, self._kept = self._kept, None
        with contextlib.suppress(FileNotFoundError):
            found = KeptDefinitions(self._data, self._source).path.stat()
            self._kept = found.st_ino, found.st_mtime_ns
        return self._kept not in (None, before)

    def names(self) -> dict[int, str]:
        """Returns instrument -> symbol, as of now; raises as `read`."""
        return {instrument: symbol for symbol, instrument in self.read().ids()}


def reader_behind(data: Path, source: str, topic: str, offset: int) -> TapeReader | None:
    """Opens a tape at `offset`, or at the first one that it keeps; none if nothing is there.

    Raises:
        TapeReplacedError: it is not the tape that the lake was made from.
        OSError: it is there and cannot be read: an answer would lack its rows.
    """
    reader = open_tape(data / "tape" / source / topic)
    if reader is None:
        return None
    commit = commits.read_commit(data / "lake", source, topic)
    if commit is not None:
        check_place(reader, commit.place)
    if offset >= reader.end:
        # Nothing is behind the lake, which is what a quiet moment looks like.
        return None
    while True:
        try:
            reader.seek(offset)
            return reader
        except TapeRangeError as error:
            # Behind retention the rows are in the lake; what a repair gave up is in the ledger.
            if error.first <= offset:
                raise
            offset = error.first
