"""Makes the commits of a lake again from its files, and its rows from the tapes, as far as they go.

Every file is read. What cannot be read, or is not what its commit says, is moved aside, never
deleted; so are files whose rows others hold. Then each table is compared with its tape, and what is
missing is stored again from there. What neither files nor tape hold is declared as a loss, which
the recorder puts into the gap ledger. Then a commit is written that lists what there is. Stopped at
any instant, it can be run again.
"""

import datetime
import os
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from tapeworks import commits, durable, lake
from tapeworks._core import FolderLock, Records, Symbols, TapeReader, kind_of
from tapeworks.commits import Commit, Live, StoredFile
from tapeworks.errors import LakeError, LakeVersionError, TapeRangeError, TapeReplacedError
from tapeworks.lake import Table
from tapeworks.sinks.commit_log import describe_file, finish_version_1, start_log
from tapeworks.sinks.contents import batches_of
from tapeworks.sinks.writer import columns_with_absent, with_required, write_table_file
from tapeworks.tape import (
    DAMAGE,
    RETENTION,
    UNKNOWN,
    Loss,
    Place,
    check_place,
    note_loss,
    open_tape,
    place_at,
)
from tapeworks.time_columns import split_times
from tapeworks.views.archive import Archive, Wanted
from tapeworks.views.tail import SourceTail

READ_RECORDS = 262_144
ROW_GROUP_ROWS = 131_072
COMPRESSION_LEVEL = 1
ASIDE = "_aside"
READER = "lake-rebuild"

Offsets = npt.NDArray[np.uint64]


@dataclass
class TopicRebuild:
    """What was done for one topic of one source."""

    source: str
    topic: str
    files: int = 0
    """Files that were kept as they are."""
    rows: int = 0
    aside: list[tuple[str, str]] = field(default_factory=list)
    """Where each file went that does not count any more, and why."""
    restored: int = 0
    """Rows that were stored again from the tape."""
    lost: list[tuple[int, int]] = field(default_factory=list)
    """Offsets of which rows may be missing for good; they are in the gap ledger."""
    offset: int = 0


def rebuild(data: Path, source: str, remade: Collection[str] = ()) -> Iterator[TopicRebuild]:
    """Rebuilds the lake of `source`, topic by topic.

    The tapes of the topics `remade` hold the same items as before, in other frames.

    Raises:
        TapeLockedError: a sink is writing it: stop it first.
        TapeReplacedError: the tape is not the one of which the files were made.
        LakeVersionError: a newer version of Tapeworks wrote a commit or a file.
    """
    folder = commits.commit_folder(data / "lake", source)
    folder.mkdir(parents=True, exist_ok=True)
    with FolderLock(folder):
        symbols = _Symbols(data, source)
        symbols.collect()
        for topic in lake.TOPICS:
            work = _Topic(data, source, topic, symbols.symbols, is_remade=topic in remade)
            if work.has_anything():
                yield work.run()


class _Symbols:
    """The definitions of a source, from wherever they still are."""

    def __init__(self, data: Path, source: str) -> None:
        self._data, self._source = data, source
        self._root = data / "lake"
        self.symbols = Symbols()

    def collect(self) -> None:
        """Reads the stored definitions, the table of instruments and the tape; stores all."""
        for found in (self._stored, self._table, self._tape):
            records = found()
            if records is not None and len(records):
                self.symbols.load(records)
        if len(self.symbols.records()):
            commits.save_symbols(self._root, self._source, self.symbols)

    def _stored(self) -> Records | None:
        try:
            known = commits.load_symbols(self._root, self._source)
        except LakeError:
            return None
        return None if known is None else known.records()

    def _table(self) -> Records | None:
        table = lake.TABLES["instruments"]
        archive = Archive(SourceTail(self._data, self._source))
        parts = []
        for name in lake.files_on_disk(self._root, self._source, table.topic):
            if name.startswith(f"{table.name}/"):
                try:
                    file = commits.lake_file(self._root, describe_file(self._root, name))
                    parts.append(archive.rows(table, file, Wanted()))
                except (LakeError, *lake.PARQUET_ERRORS):
                    continue
        if not parts:
            return None
        records = np.concatenate([records for records, _ in parts])
        offsets = np.concatenate([offsets for _, offsets in parts])
        return Records.from_bytes(records[np.argsort(offsets, kind="stable")].tobytes())

    def _tape(self) -> Records | None:
        reader = open_tape(self._data / "tape" / self._source / lake.TABLES["instruments"].topic)
        while reader is not None:
            try:
                batch = reader.read(READ_RECORDS)
            except TapeRangeError as error:
                lake.pass_damage(reader, error)
                continue
            if batch is None:
                break
            if len(found := batch.select([kind_of("definition")])):
                self.symbols.load(found)
        return None


class _Topic:
    """The rebuilding of one topic."""

    def __init__(
        self, data: Path, source: str, topic: str, symbols: Symbols, *, is_remade: bool = False
    ) -> None:
        self._is_remade = is_remade
        self._data, self._root = data, data / "lake"
        self._where = self._root, source, topic
        self._source, self._topic, self._symbols = source, topic, symbols
        self._tape = data / "tape" / source / topic
        self._reader = open_tape(self._tape)
        self._report = TopicRebuild(source, topic)
        self._kept: dict[str, tuple[StoredFile, Offsets]] = {}
        self._old, self._live = self._read_old()

    def has_anything(self) -> bool:
        """Whether a commit, a file or a tape of this topic is there."""
        path = commits.commit_path(*self._where)
        return path.exists() or self._reader is not None or any(lake.files_on_disk(*self._where))

    def run(self) -> TopicRebuild:
        """Does all of it."""
        self._place_staged()
        self._read_files()
        end = self._end()
        self._check_tape(end)
        resume = self._restore(end)
        self._declare_losses(end)
        self._commit(end, resume)
        return self._report

    def _read_old(self) -> tuple[Commit | None, Live]:
        try:
            old = commits.read_commit(*self._where)
        except LakeVersionError:
            raise
        except LakeError:
            return None, {}
        if old is None or old.version == 1:
            return old, {}
        try:
            live = dict(commits.Manifest(*self._where).read(old.manifest))
        except LakeError:
            live = {}
        commits.apply_changes(live, old.files, old.removes)
        return old, live

    def _place_staged(self) -> None:
        """Puts into place what the last commit lists and a crash left staged."""
        if self._old is None:
            return
        if self._old.version == 1:
            finish_version_1(*self._where, self._old)
            return
        for file in self._old.files:
            staged = commits.staged_path(*self._where, self._old.attempt, file.name)
            if lake.size_of(staged) == file.size:
                (self._root / file.name).parent.mkdir(parents=True, exist_ok=True)
                staged.rename(self._root / file.name)
        for name in self._old.removes:
            if (self._root / name).exists() and name not in self._live:
                self._put_aside(name, "replaced by a commit")

    def _read_files(self) -> None:
        """Reads every file; keeps those that are whole and hold rows that no other holds."""
        found = []
        for name in lake.files_on_disk(*self._where):
            try:
                stored, offsets = self._read_file(name)
            except LakeVersionError:
                raise
            except (LakeError, *lake.PARQUET_ERRORS) as error:
                self._put_aside(name, str(error))
                continue
            found.append((name in self._live, stored, offsets))
        taken: dict[str, Offsets] = {}
        for _, stored, offsets in sorted(found, key=lambda one: (not one[0], -len(one[2]))):
            known = taken.get(stored.table, np.empty(0, np.uint64))
            double = np.isin(offsets, known)
            if len(np.unique(offsets)) < len(offsets) or double.any():
                self._keep_rest(stored, offsets, known)
            else:
                self._keep(stored, offsets)
            taken[stored.table] = np.union1d(known, offsets)

    def _keep(self, stored: StoredFile, offsets: Offsets) -> None:
        self._kept[stored.name] = stored, offsets

    def _read_file(self, name: str) -> tuple[StoredFile, Offsets]:
        stored = describe_file(self._root, name)
        file = commits.lake_file(self._root, stored)
        if stored.version > commits.TABLE_VERSION:
            raise commits.newer_version(file.path, stored.version, commits.TABLE_VERSION)
        known = self._live.get(name)
        if known is not None and known.sha256 != stored.sha256:
            raise LakeError("its bytes are not those that were written")
        # All columns are read, so that each page is checked; the offsets are kept.
        parts = [rows["tape_offset"].to_numpy().astype(np.uint64) for rows in batches_of(file.path)]
        offsets = np.concatenate([np.empty(0, np.uint64), *parts])
        if len(offsets) and not file.first <= offsets.min() <= offsets.max() <= file.last:
            raise LakeError("it holds offsets outside of those in its name")
        return stored, offsets

    def _keep_rest(self, stored: StoredFile, offsets: Offsets, known: Offsets) -> None:
        """Keeps of a file the rows that no other file holds, each once."""
        fresh = np.zeros(len(offsets), bool)
        fresh[np.unique(offsets, return_index=True)[1]] = True
        fresh &= ~np.isin(offsets, known)
        # In the columns that files have now, whatever those of this one are.
        whole = pq.ParquetFile(self._root / stored.name, page_checksum_verification=True).read()
        rows = split_times(whole.filter(pa.array(fresh)))
        self._put_aside(stored.name, "other files hold its rows, or it holds some twice")
        if rows.num_rows:
            day = commits.lake_file(self._root, stored).day
            self._write(lake.TABLES[stored.table], day, rows)

    def _end(self) -> int:
        """Returns the offset up to which everything is to be in the lake."""
        files = [commits.lake_file(self._root, stored).last for stored, _ in self._kept.values()]
        known = 0 if self._old is None else self._old.offset
        return max([known, *(last + 1 for last in files)])

    def _check_tape(self, end: int) -> None:
        if self._reader is None:
            return
        if self._old is not None:
            place = self._old.place
            check_place(
                self._reader, replace(place, fingerprint=None) if self._is_remade else place
            )
        for name in self._kept:
            metadata = pq.read_metadata(self._root / name).metadata or {}
            tape = metadata.get(commits.TAPE_KEY, b"").decode()
            if tape and self._reader.id is not None and tape != self._reader.id:
                raise TapeReplacedError(
                    f"{self._root / name} holds rows of tape {tape}, and {self._tape} is tape "
                    f"{self._reader.id}: restore the former tape, or move the files "
                    "of the other one to a separate data folder"
                )
        if end > self._reader.end:
            raise TapeReplacedError(
                f"{self._tape} ends at offset {self._reader.end}, and there are rows up to {end}: "
                "it was restored from an older copy"
            )

    def _restore(self, end: int) -> int | None:
        """Stores again what is missing, from the tape; returns the offset to be read from next."""
        if self._reader is None:
            return None
        resumes = []
        for table in lake.tables_of(self._topic):
            parts = [o for stored, o in self._kept.values() if stored.table == table.name]
            held = np.concatenate([np.empty(0, np.uint64), *parts])
            rows, reader = lake.row_buffer(table), TapeReader(self._tape)
            more = True
            while more and reader.position < end:
                more = lake.read_rows(rows, reader, min(READ_RECORDS, end - reader.position))
                self._restore_rows(table, rows, held)
            resumes.append(rows.resume)
        return min((place for place in resumes if place is not None), default=None)

    def _restore_rows(self, table: Table, rows: Any, held: Offsets) -> None:
        if not len(rows):
            return
        for day, start, stop in rows.sort(self._symbols):
            columns = rows.arrow(self._symbols, start, stop)
            batch = lake.to_table_columns(pa.record_batch(columns), table)
            offsets = batch.column("tape_offset").to_numpy(zero_copy_only=False)
            missing = ~np.isin(offsets.astype(np.uint64), held)
            if missing.any():
                found = pa.Table.from_batches([batch]).filter(pa.array(missing))
                self._write(table, lake.day_text(day), found)
                self._report.restored += found.num_rows
        rows.clear()

    def _write(self, table: Table, day: str, rows: pa.Table) -> None:
        """Writes `rows` as a file of their own, and keeps it."""
        rows = rows.combine_chunks()
        offsets = rows["tape_offset"].to_numpy().astype(np.uint64)
        first, last = int(offsets.min()), int(offsets.max())
        # A file that lacks these rows may have the name.
        name = lake.free_path(
            lake.file_path(table.name, self._source, day, first, last),
            lambda name: os.path.lexists(self._root / name),
        )
        staged = commits.staged_path(*self._where, "rebuild", name)
        staged.parent.mkdir(parents=True, exist_ok=True)
        batches = rows.to_batches(max_chunksize=ROW_GROUP_ROWS)
        nullable = {column for batch in batches for column in columns_with_absent(batch)}
        schema = with_required(rows.schema.remove_metadata(), nullable)
        tape = None if self._reader is None else self._reader.id
        stored = write_table_file(
            staged, name, batches, schema, table, level=COMPRESSION_LEVEL, tape=tape
        )
        final = self._root / name
        final.parent.mkdir(parents=True, exist_ok=True)
        staged.rename(final)
        durable.sync_folder(final.parent)
        self._keep(stored, offsets)

    def _put_aside(self, name: str, why: str) -> None:
        stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S")
        target = self._root / ASIDE / self._source / stamp / name.replace("/", "!")
        target.parent.mkdir(parents=True, exist_ok=True)
        (self._root / name).rename(target)
        self._report.aside.append((str(target), why))

    def _declare_losses(self, end: int) -> None:
        """Declares as lost what files that are gone held, or none ever did, and no tape holds."""
        first = end if self._reader is None else self._reader.first
        front = min(first, end)
        gone = [name for name in self._live if name not in self._kept]
        files = [commits.lake_file(self._root, self._live[name]) for name in gone]
        ranges = [(f.first, min(f.last, front - 1)) for f in files if f.first < front]
        if end < first:
            # The commit will begin at the front of the tape, so that no sink tells of these.
            ranges.append((end, first - 1))
        for first, last in sorted(set(ranges)):
            cause = DAMAGE if gone else RETENTION
            loss = Loss(self._topic, READER, first, last, UNKNOWN, UNKNOWN, cause)
            note_loss(self._data, self._source, loss)
            self._report.lost.append((first, last))

    def _commit(self, end: int, resume: int | None) -> None:
        context: dict[str, int] = {} if self._old is None else dict(self._old.context)
        context.pop("resume", None)
        if resume is not None:
            context["resume"] = resume
        files = [stored for stored, _ in self._kept.values()]
        generations = commits.commit_folder(self._root, self._source).glob(
            f"{self._topic}.manifest.*"
        )
        generation = max((int(path.suffix[1:]) for path in generations), default=0) + 1
        number = 1 if self._old is None else self._old.number + 1
        start_log(
            *self._where, files, self._place(end), context, number=number, generation=generation
        )
        shutil.rmtree(commits.staging_folder(*self._where), ignore_errors=True)
        compact = commits.commit_path(self._root, self._source, f"compact-{self._topic}")
        compact.unlink(missing_ok=True)
        self._report.files, self._report.offset = len(files), max(end, self._place(end).offset)
        self._report.rows = sum(file.rows for file in files)

    def _place(self, end: int) -> Place:
        if self._reader is None:
            old = Place() if self._old is None else self._old.place
            return old if old.offset == end else replace(old, offset=end, fingerprint=None)
        return place_at(self._reader, max(end, self._reader.first))
