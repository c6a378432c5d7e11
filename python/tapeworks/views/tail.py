"""What is on the tape and not yet in the lake, so that a query sees what arrived a second ago."""

import json
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from tapeworks import commits, lake
from tapeworks._core import Symbols, TapeReader
from tapeworks.commits import Commit, TopicReader
from tapeworks.errors import QueryError
from tapeworks.lake import Table
from tapeworks.source_symbols import READ_RECORDS, SourceSymbols, reader_behind
from tapeworks.tape import open_tape

TAIL_ROWS_MAX = 8_000_000
TAIL_BYTES_MAX = 2 << 30
ATTEMPTS = 20


@dataclass(frozen=True)
class Part:
    """What holds one table of one source: files up to an offset, rows from there on."""

    source: str
    files: list[lake.LakeFile]
    tail: pa.Table | None


class SourceTail:
    """Reads the tapes of one source behind the lake. Keeps the symbols between questions."""

    def __init__(self, data: Path, source: str) -> None:
        self._data = data
        self._lake = data / "lake"
        self._source = source
        self._symbols = SourceSymbols(data, source)
        self._topics: dict[str, TopicReader] = {}
        # By table: on which tape, from and up to which offset there are no rows of it.
        self._without: dict[str, tuple[str, int, int]] = {}

    def symbols(self) -> Symbols:
        """Returns the symbols of all instruments that were ever defined, as of now."""
        return self._symbols.read()

    def tape(self, topic: str) -> TapeReader | None:
        """Opens a tape; none if there is none.

        Raises:
            OSError: it is there and cannot be read: an answer would lack its rows.
        """
        return open_tape(self._data / "tape" / self._source / topic)

    def lags(self) -> tuple[float, dict[str, int]]:
        """Returns when a derivation noted last how many items each topic has yet to take, and that.

        The time is in seconds since 1970, and 0 where none ever ran.
        """
        path = self._data / "state" / self._source / "derive.json"
        try:
            noted = path.stat().st_mtime
            told = dict(json.loads(path.read_bytes()))
            return noted, {topic: lag for topic, lag in told.items() if isinstance(lag, int)}
        except (OSError, ValueError, TypeError):
            return 0.0, {}

    def stopped(self) -> set[str]:
        """Returns which processors and rules derivation has noted that they stopped."""
        path = self._data / "state" / self._source / "derive.json"
        try:
            return set(json.loads(path.read_bytes())["stopped"])
        except (OSError, KeyError, ValueError, TypeError):
            return set()

    def context(self, topic: str) -> dict[str, int]:
        """Returns what the last commit of `topic` says beside its offset."""
        commit = commits.read_commit(self._lake, self._source, topic)
        return {} if commit is None else dict(commit.context)

    def known_until(self, topic: str) -> int | None:
        """Returns the receive time up to which `topic` was derived; none: ask its tape."""
        return None

    def reader(self, topic: str, offset: int) -> TapeReader | None:
        """Opens a tape at `offset`, or at the first one that it keeps; none if nothing is there.

        Raises:
            TapeReplacedError: it is not the tape that the lake was made from.
        """
        return reader_behind(self._data, self._source, topic, offset)

    def part(self, table: Table, days: tuple[str, str] | None) -> Part:
        """Returns files and tail of `table` as of one instant; `days` bounds the files."""
        files, commit = self.files(table, days)
        return Part(self._source, files, self._tail(table, commit))

    def files(
        self, table: Table, days: tuple[str, str] | None = None
    ) -> tuple[list[lake.LakeFile], Commit]:
        """Returns the files of `table` by day and offset, and the commit that they belong to.

        Raises:
            LakeError: the commit is damaged, or a file that it lists is missing or cut.
        """
        topic = self._topics.setdefault(
            table.topic, TopicReader(self._lake, self._source, table.topic)
        )
        for attempt in range(ATTEMPTS):
            state = topic.read()
            by_day = state.tables.get(table.name, {})
            chosen = [
                file
                for day in sorted(by_day)
                if days is None or days[0] <= day <= days[1]
                for file in by_day[day]
            ]
            try:
                return topic.locate(chosen), state.commit or Commit()
            except FileNotFoundError:
                # Compaction replaced a file since the commit was read.
                if attempt + 1 == ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    def committed(self, topic: str) -> int:
        """Returns the offset up to which the lake holds everything of `topic`."""
        commit = commits.read_commit(self._lake, self._source, topic)
        return 0 if commit is None else commit.offset

    def _tail(self, table: Table, commit: Commit) -> pa.Table | None:
        resume = commit.context.get("resume", commit.offset)
        reader = self.reader(table.topic, resume)
        if reader is None:
            return None
        if 0 < commit.offset < reader.first:
            raise QueryError(
                f"{self._source}: {table.topic} from offset {commit.offset} to {reader.first - 1} "
                "is neither in the lake nor on the tape any more: retention passed the sink"
            )
        rows = lake.row_buffer(table)
        start, end = reader.position, reader.end
        tape, first, last = self._without.get(table.name, ("", 0, 0))
        if tape == reader.id and first <= start < last <= end:
            reader.seek(last)
        while reader.position < end and lake.read_rows(rows, reader, READ_RECORDS, commit.offset):
            if len(rows) > TAIL_ROWS_MAX or rows.nbytes > TAIL_BYTES_MAX:
                raise QueryError(
                    f"{self._source}: more than {TAIL_ROWS_MAX:,} rows or {TAIL_BYTES_MAX >> 20:,} "
                    f"MiB of {table.name} are on the tape and not in the lake: start the sink "
                    "with `tape up`"
                )
        if not len(rows):
            self._without[table.name] = reader.id or "", start, end
            return None
        symbols = self.symbols()
        try:
            days = rows.sort(symbols)
        except ValueError as error:
            told = f"{self._source}: {table.topic}: {error}; {lake.DEFINITIONS_ADVICE}"
            raise QueryError(told) from error
        parts = [
            lake.to_table_columns(pa.record_batch(rows.arrow(symbols, start, end)), table)
            for _, start, end in days
        ]
        return pa.Table.from_batches(parts)


class Tails(dict[str, SourceTail]):
    """The readers of all sources of a data folder, each made when it is asked for."""

    def __init__(self, data: Path) -> None:
        super().__init__()
        self._data = data

    def __missing__(self, source: str) -> SourceTail:
        self[source] = self.make(source)
        return self[source]

    def make(self, source: str) -> SourceTail:
        """Makes the reader of one source."""
        return SourceTail(self._data, source)
