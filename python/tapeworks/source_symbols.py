"""The symbols of one source, as its tape and the lake define them, and the tape behind the lake."""

from pathlib import Path

from tapeworks import commits
from tapeworks._core import Symbols, TapeReader, kind_of
from tapeworks.errors import TapeRangeError
from tapeworks.tape import check_place, open_tape
from tapeworks.topics import NORMALIZED

READ_RECORDS = 262_144


class SourceSymbols:
    """Keeps the symbols of a source, and reads what was defined since the last call.

    Definitions that retention took from the tape are in the lake's copy, if there is a lake.
    """

    def __init__(self, data: Path, source: str) -> None:
        self._data = data
        self._source = source
        self._symbols = Symbols()
        self._at: int | None = None

    def read(self) -> Symbols:
        """Returns the symbols of all instruments that were ever defined, as of now.

        Raises:
            LakeError: the lake's copy is damaged.
            TapeError: the tape is damaged, or not the one that the lake was made from.
        """
        if self._at is None:
            lake = self._data / "lake"
            known = commits.load_symbols(lake, self._source)
            if known is not None:
                self._symbols.load(known.records())
            commit = commits.read_commit(lake, self._source, NORMALIZED)
            self._at = 0 if commit is None else commit.offset
        reader = reader_behind(self._data, self._source, NORMALIZED, self._at)
        while reader is not None and (batch := reader.read(READ_RECORDS)) is not None:
            if len(found := batch.select([kind_of("definition")])):
                self._symbols.load(found)
            self._at = reader.position
        return self._symbols

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
