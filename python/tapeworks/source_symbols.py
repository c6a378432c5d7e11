"""The symbols of one source: as its tape defines them, and as they are kept beside it and the lake.

    data/state/<source>/definitions.records   definitions of all instruments, as records

The recorder replaces that file when it has met more. What retention takes of the tape, and a lake
that is switched off, are then no loss: nobody defines an instrument twice.
"""

import contextlib
import hashlib
import logging
from pathlib import Path

from tapeworks import commits
from tapeworks._core import Ingest, Records, Symbols, TapeReader, definitions_of, kind_of
from tapeworks.durable import make_folder, replace_file
from tapeworks.errors import TapeRangeError
from tapeworks.tape import check_place, open_tape
from tapeworks.topics import NORMALIZED

READ_RECORDS = 262_144
KEPT = "definitions.records"

log = logging.getLogger("tapeworks.symbols")


class KeptDefinitions:
    """The file of all definitions of a source, which the writer of its tape replaces."""

    def __init__(self, data: Path, source: str) -> None:
        self.path = data / "state" / source / KEPT
        self.count = 0
        """So many definitions are in the file, of those that were given to `keep`."""

    def keep(self, definitions: Records | None) -> None:
        """Replaces the file by all definitions there are, durably; none: there are no more.

        Where the disk refuses, the file stays as it is, and `count` too: keep them once more.
        """
        if definitions is None:
            return
        body = bytes(definitions)
        try:
            make_folder(self.path.parent)
            head = commits.SYMBOLS_MAGIC + hashlib.sha256(body).digest()
            replace_file(self.path, head + body)
        except OSError as error:
            log.warning("%s: %s", self.path, error)
        else:
            self.count = len(definitions)

    def follow(self, ingest: Ingest) -> None:
        """Keeps what `ingest` has met, if that is more than was kept."""
        self.keep(definitions_of(ingest, self.count))

    def load(self) -> Records | None:
        """Returns what is kept; none if nothing is, or it is damaged: the recorder makes it anew.

        Raises:
            OSError: the file is there and cannot be read.
        """
        try:
            found = self.path.read_bytes()
        except FileNotFoundError:
            return None
        head = len(commits.SYMBOLS_MAGIC) + hashlib.sha256().digest_size
        body = found[head:]
        if found[:head] == commits.SYMBOLS_MAGIC + hashlib.sha256(body).digest():
            return Records.from_bytes(body)
        log.warning("%s is damaged; the next start of the recorder makes it anew", self.path)
        return None


def kept_symbols(data: Path, source: str) -> Symbols:
    """Returns the symbols that are defined beside the tape: in the lake's copy, and in the file.

    Raises:
        LakeError: the lake's copy is damaged.
    """
    symbols = Symbols()
    known = commits.load_symbols(data / "lake", source)
    for found in (known and known.records(), KeptDefinitions(data, source).load()):
        if found is not None:
            symbols.load(found)
    return symbols


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

    def read(self) -> Symbols:
        """Returns the symbols of all instruments that were ever defined, as of now.

        Raises:
            LakeError: the lake's copy is damaged.
            TapeError: the tape is damaged, or not the one that the lake was made from.
        """
        if self._is_kept_anew() or self._at is None:
            self._symbols.load(kept_symbols(self._data, self._source).records())
        if self._at is None:
            commit = commits.read_commit(self._data / "lake", self._source, NORMALIZED)
            self._at = 0 if commit is None else commit.offset
        reader = reader_behind(self._data, self._source, NORMALIZED, self._at)
        while reader is not None and (batch := reader.read(READ_RECORDS)) is not None:
            if len(found := batch.select([kind_of("definition")])):
                self._symbols.load(found)
            self._at = reader.position
        return self._symbols

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
    try:
        reader.seek(offset)
    except TapeRangeError as error:
        # Behind retention the rows are in the lake; what a repair gave up is in the ledger.
        reader.seek(max(error.first, reader.first))
    return reader
