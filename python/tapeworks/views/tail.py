"""What is on the tape and not yet in the lake, so that a query sees what arrived a second ago."""

import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from tapeworks import lake
from tapeworks._core import KIND_DEFINITION, Records, Symbols, TapeReader
from tapeworks.errors import QueryError, TapeRangeError
from tapeworks.lake import Table

DEFINITIONS_TOPIC = "market-data.normalized"
TAIL_ROWS_MAX = 8_000_000
READ_RECORDS = 262_144


@dataclass(frozen=True)
class Part:
    """What holds one table of one source: files up to an offset, rows from there on."""

    source: str
    files: list[lake.LakeFile]
    tail: pa.Table | None
    split_from: int | None
    """Files from this offset on have times of two columns; none means that this is not known."""


class SourceTail:
    """Reads the tapes of one source behind the lake. Keeps the symbols between questions."""

    def __init__(self, data: Path, source: str) -> None:
        self._data = data
        self._lake = data / "lake"
        self._source = source
        self._symbols = Symbols()
        self._symbols_at: int | None = None

    def symbols(self) -> Symbols:
        """Returns the symbols of all instruments that were ever defined, as of now."""
        if self._symbols_at is None:
            path = self._lake / lake.COMMITS / self._source / "symbols.records"
            if path.exists():
                self._symbols.load(Records.from_bytes(path.read_bytes()))
            commit = lake.read_commit(self._lake, self._source, DEFINITIONS_TOPIC)
            self._symbols_at = commit.offset
        reader = self.reader(DEFINITIONS_TOPIC, self._symbols_at)
        while reader is not None and (batch := reader.read(READ_RECORDS)) is not None:
            if len(found := batch.select([KIND_DEFINITION])):
                self._symbols.load(found)
            self._symbols_at = reader.position
        return self._symbols

    def reader(self, topic: str, offset: int) -> TapeReader | None:
        """Opens a tape at `offset`, or at the first one that it keeps; none if nothing is there."""
        tape = self._data / "tape" / self._source / topic
        if not tape.is_dir():
            return None
        try:
            reader = TapeReader(tape)
        except OSError:
            return None
        if offset >= reader.end:
            # Nothing is behind the lake, which is what a quiet moment looks like.
            return None
        try:
            reader.seek(offset)
        except TapeRangeError:
            # Behind retention the rows are in the lake.
            reader.seek(reader.first)
        return reader

    def part(self, table: Table, days: tuple[str, str] | None) -> Part:
        """Returns files and tail of `table` as of one instant; `days` bounds the files."""
        files, commit = self.files(table, days)
        split_from = commit.context.get(lake.SPLIT_FROM)
        return Part(self._source, files, self._tail(table, commit), split_from)

    def files(
        self, table: Table, days: tuple[str, str] | None = None
    ) -> tuple[list[lake.LakeFile], lake.Commit]:
        """Returns the files of `table` by day and offset, and the commit that they belong to."""
        while True:
            before = self._state(table.topic)
            files = self._files(table, days, before[0])
            if self._state(table.topic) == before:
                return files, before[0]
            time.sleep(0.001)

    def committed(self, topic: str) -> int:
        """Returns the offset up to which the lake holds everything of `topic`."""
        return lake.read_commit(self._lake, self._source, topic).offset

    def _state(self, topic: str) -> tuple[lake.Commit, lake.Commit, list[bool]]:
        # A folder that is read while files are swapped may show neither the old nor the new: what
        # is on its way must stand still from before the reading to after it.
        names = (topic, f"compact-{topic}")
        sink, compaction = (lake.read_commit(self._lake, self._source, name) for name in names)
        swapped = (*sink.files, *compaction.files, *compaction.removes)
        return sink, compaction, [(self._lake / name).exists() for name in swapped]

    def _files(
        self, table: Table, days: tuple[str, str] | None, commit: lake.Commit
    ) -> list[lake.LakeFile]:
        # What the commit lists may still be in the staging folder, if the sink was killed between
        # commit and rename, or have been renamed since the folder was read.
        listed: dict[str, list[lake.LakeFile]] = {}
        for name in commit.files:
            folder, _, day, file = name.split("/")
            match = lake.NAMES.fullmatch(file)
            if folder == table.name and match is not None:
                staged = lake.staging_path(self._lake, self._source, table.topic, name)
                path = staged if staged.exists() else self._lake / name
                entry = lake.LakeFile(path, self._source, day[5:], int(match[1]), int(match[2]))
                listed.setdefault(day[5:], []).append(entry)
        found: list[lake.LakeFile] = []
        for day in sorted({*lake.days(self._lake, table.name, self._source), *listed}):
            if days is None or days[0] <= day <= days[1]:
                there = lake.files_of_day(self._lake, table.name, self._source, day)
                known = {(file.first, file.last) for file in there}
                late = [f for f in listed.get(day, []) if (f.first, f.last) not in known]
                there += [file for file in late if file.path.exists()]
                found += lake.without_covered(there)
        return found

    def _tail(self, table: Table, commit: lake.Commit) -> pa.Table | None:
        resume = commit.context.get("resume", commit.offset)
        reader = self.reader(table.topic, resume)
        if reader is None:
            return None
        if 0 < commit.offset < reader.first:
            raise QueryError(
                f"{self._source}: {table.topic} from offset {commit.offset} to {reader.first - 1} "
                "is neither in the lake nor on the tape any more: retention passed the sink"
            )
        rows = lake.gatherer(table)
        end = reader.end
        while reader.position < end and lake.take(rows, reader, READ_RECORDS, commit.offset):
            if len(rows) > TAIL_ROWS_MAX:
                raise QueryError(
                    f"{self._source}: more than {TAIL_ROWS_MAX:,} rows of {table.name} are on the "
                    "tape and not in the lake: start the sink with `tape up`"
                )
        if not len(rows):
            return None
        symbols = self.symbols()
        parts = [
            lake.shape(pa.record_batch(rows.arrow(symbols, start, end)), table)
            for _, start, end in rows.sort(symbols)
        ]
        return pa.Table.from_batches(parts)
