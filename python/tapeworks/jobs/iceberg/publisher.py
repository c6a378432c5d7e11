"""Makes Iceberg tables hold what the lake holds of days that are over.

A table is compared with the lake, file by file and day by day; what differs is replaced in one
commit, whose snapshot says up to which place of the tape each source is in it. So whatever ended
the job before, or came late, or was repaired, rebuilt or merged in the lake since, the next run
does what is left: nothing is lost, and nothing is there twice. A day of which the lake has no file
any more stays as it was published, and so do rows that the lake lost.
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import (
    CommitFailedException,
    NoSuchNamespaceError,
    NoSuchTableError,
)
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table as IcebergTable
from requests import RequestException

from tapeworks import commits
from tapeworks.commits import TopicReader
from tapeworks.config import redact
from tapeworks.errors import LakeError, TapeError, TapeReplacedError
from tapeworks.jobs.iceberg import tables
from tapeworks.jobs.iceberg.closed import Closed
from tapeworks.jobs.iceberg.config import IcebergConfig
from tapeworks.jobs.iceberg.files import UNDATED, DoesNotFit, Publication, publish_file
from tapeworks.jobs.iceberg.hours import hours_in
from tapeworks.jobs.iceberg.job import Unavailable
from tapeworks.jobs.iceberg.ledger import LEDGER, Ledger, gaps_derived, read_ledger
from tapeworks.jobs.iceberg.lost import Kept, keep_lost
from tapeworks.jobs.iceberg.place import write_hint
from tapeworks.jobs.iceberg.upkeep import run_upkeep
from tapeworks.lake import TABLES, Table
from tapeworks.object_store import is_object
from tapeworks.published import COMPANIONS, OWN, TELLING, Coverage, PublishedFile, Store
from tapeworks.tape import Place, received_next
from tapeworks.topics import GAPS, NORMALIZED
from tapeworks.views.iceberg import UNAVAILABLE, TableState, state_of
from tapeworks.views.reach import derived_until, newest_receipt
from tapeworks.views.tail import SourceTail
from tapeworks.views.times import parse_time

ATTEMPTS = 5
UPKEEP_S = 3_600.0
NOWHERE = Coverage(Place(), "")


@dataclass
class Day:
    """What a table lacks of one day of a source, and what it has too much."""

    day: str
    added: list[Publication] = field(default_factory=list)
    removed: list[PublishedFile] = field(default_factory=list)


@dataclass
class Source:
    """One source of a table: what the lake holds of it, and what is to be published."""

    name: str
    commit: commits.Commit
    held: Coverage | None
    days: list[Day]
    known: int | None = None
    """The receive time up to which all of it was derived, and is in the lake."""
    refused: str = ""
    """The first day that cannot be in the table, or not whole."""

    @property
    def nothing(self) -> Coverage:
        """Says of which tape it is, and that nothing of it is covered."""
        return Coverage(Place(0, self.commit.place.tape), "")


class Publisher:
    """Publishes one data folder to the tables of one catalog."""

    _catalog: Catalog

    def __init__(
        self, config: IcebergConfig, data: Path, folder: Path, tell: Callable[[str], object]
    ) -> None:
        self.config = config
        self.tell = tell
        self._data = data
        self._folder = folder
        named = config.warehouse or str(folder.absolute() / "warehouse")
        self._store = Store(named if is_object(named) else str(data.absolute() / named))
        self._upkeep_at = 0.0
        self._ledgers: dict[str, Ledger] = {}

    def publish(self, sources: Sequence[str]) -> tuple[int, list[str]]:
        """Publishes what is over and not in the tables; returns rows, and what cannot be in them.

        Raises:
            as `IcebergJob.run`.
        """
        refused: list[str] = []
        rows = 0
        closed = Closed.at(time.time(), self.config)
        has_upkeep = self.config.upkeep and time.monotonic() >= self._upkeep_at
        with self._reached():
            self._catalog = tables.open_catalog(self.config, self._store, self._folder)
            with contextlib.closing(self._catalog):
                # Before any records are read: these are then no older than the gaps in them.
                told, chosen = self._told_gaps(), LEDGER in self._names
                self._ledgers = {
                    one: read_ledger(self._data, one, told.get(one), is_chosen=chosen)
                    for one in sources
                }
                for source in sources:
                    self._publish_symbols(source)
                for table in map(TABLES.__getitem__, self._names):
                    rows += self._publish(table, sources, closed.of(table), refused, has_upkeep)
        if has_upkeep:
            self._upkeep_at = time.monotonic() + UPKEEP_S
        return rows, refused

    @property
    def _names(self) -> list[str]:
        """The tables that are published, and their companions."""
        names = list(self.config.tables or TABLES)
        names += [each for one in names for each in COMPANIONS.get(one, ())]
        return list(dict.fromkeys(names))

    @contextlib.contextmanager
    def _reached(self) -> Iterator[None]:
        """Says where the trouble is when store or catalog do not answer, or refuse."""
        try:
            yield
        except CommitFailedException as error:
            raise Unavailable(f"not published: another process writes the table: {error}") from None
        except RequestException as error:
            # An OSError that is none of the store.
            raise _no_catalog(error) from error
        except OSError as error:
            raise Unavailable(f"not published: {self._store.refusal(error)}") from error
        except UNAVAILABLE as error:
            raise _no_catalog(error) from error

    def _told_gaps(self) -> dict[str, Coverage]:
        """Returns what the table of gaps covers of each source."""
        try:
            return state_of(self._catalog.load_table((self.config.namespace, LEDGER))).covers
        except (NoSuchTableError, NoSuchNamespaceError):
            return {}

    def _publish_symbols(self, source: str) -> None:
        """Copies the definitions of instruments: they only grow, and come before the rows."""
        path = commits.commit_folder(self._data / "lake", source) / commits.SYMBOLS_FILE
        if not path.exists():
            return
        target = f"{self.config.namespace}/{OWN}/{source}/{commits.SYMBOLS_FILE}"
        content = path.read_bytes()
        if self._store.read(target) != content:
            self._store.write(target, [content])

    def _publish(
        self,
        table: Table,
        sources: Sequence[str],
        closed: Closed,
        refused: list[str],
        has_upkeep: bool,
    ) -> int:
        """Makes one Iceberg table hold what the lake holds of the days that are over."""
        for attempt in range(ATTEMPTS):
            readers = {
                source: TopicReader(self._data / "lake", source, table.topic) for source in sources
            }
            states = {source: reader.read() for source, reader in readers.items()}
            # That there is no gap, correction or session is worth saying, too.
            if table.topic != GAPS:
                states = {name: one for name, one in states.items() if one.commit is not None}
            is_said = table.topic == GAPS or (table.name in TELLING and states)
            if not is_said and not any(table.name in one.tables for one in states.values()):
                return 0
            place = self.config.namespace, self._store
            opened = tables.open_table(self._catalog, *place, table, self.config.partition)
            told: list[str] = []
            try:
                held = state_of(opened)
                found = [
                    self._source(table, source, readers[source], held, closed, told)
                    for source in states
                ]
                rows = self._bring_up(opened, table, held, found, closed, told)
                if has_upkeep:
                    self._run_upkeep(opened)
            except (CommitFailedException, FileNotFoundError):
                # Somebody committed, or merged files of the lake: what is left is looked up anew.
                if attempt + 1 == ATTEMPTS:
                    raise
                continue
            write_hint(self._store, opened)
            refused += told
            return rows
        raise AssertionError("unreachable")

    def _source(
        self,
        table: Table,
        source: str,
        reader: TopicReader,
        held: TableState,
        closed: Closed,
        refused: list[str],
    ) -> Source:
        """Compares what the lake holds of a source with what is published."""
        state = reader.read()
        commit = state.commit or commits.Commit()
        covered = held.covers.get(source)
        self._check(table, source, commit, covered)
        live = state.tables.get(table.name, {})
        root, found, partial = self._data / "lake", [], ""
        is_behind = self._is_behind(table, source, covered, commit.place)
        for day in closed.choose(live, covered, is_behind=is_behind):
            wanted = {}
            for file in live[day]:
                stored = state.live[file.path.relative_to(root).as_posix()]
                wanted[PublishedFile.of(stored, source, day, file.first, file.last)] = stored, file
            there = held.days.get((source, day), set())
            # Only what is to be copied has to be there: all else was compared by its hash.
            lacking = self._lacking(wanted, there, held)
            places = reader.locate([wanted[one][1] for one in lacking])
            added = [
                Publication(place.path, wanted[one][0], one)
                for one, place in zip(lacking, places, strict=True)
            ]
            if self.config.is_by_hour:
                added = list(_by_hour(added, table, there, closed))
            removed = sorted(self._gone(wanted, there), key=lambda one: (one.first, one.hour))
            if removed and not self.config.replace_lost:
                paths = {
                    one: place.path
                    for one, place in zip(
                        wanted, reader.locate([file for _, file in wanted.values()]), strict=True
                    )
                }
                rows = {one: held.files[one].record_count for one in removed}
                by_hour = self.config.is_by_hour
                kept = keep_lost(removed, rows, paths, lacking, table, by_hour=by_hour)
                removed = [one for one in removed if one not in kept.published]
                added = [one for one in added if one.published not in kept.held_back]
                if self._tell_lost(f"{source}: {table.name} of {day}", kept, refused):
                    partial = min(partial or day, day)
            if added or removed:
                found.append(Day(day, added, removed))
        known = known_in_lake(self._data, source, table, commit)
        return Source(source, commit, covered, found, known, partial)

    def _tell_lost(self, what: str, kept: Kept, refused: list[str]) -> bool:
        """Says what the lake lost of a day; returns whether rows of it are not published."""
        if kept.lost:
            told = f"{what}: {kept.lost:,} published rows are not in the lake any more, and stay"
            if kept.waiting:
                refused.append(
                    f"{told}; {kept.waiting:,} newer rows of the lake are in files with rows that "
                    "are published already, and cannot be beside them: `--replace-lost` publishes "
                    "what the lake has instead"
                )
            else:
                self.tell(told)
        return kept.waiting > 0

    def _lacking(
        self, wanted: Mapping[PublishedFile, Any], there: set[PublishedFile], held: TableState
    ) -> list[PublishedFile]:
        """Returns the files of the lake of which rows are not in the table."""
        if not self.config.is_by_hour:
            return [one for one in wanted if one not in there]
        rows: dict[str, int] = {}
        for one in there:
            of = one.origin or one.sha256
            rows[of] = rows.get(of, 0) + held.files[one].record_count
        return [one for one, (stored, _) in wanted.items() if rows.get(one.sha256) != stored.rows]

    def _gone(
        self, wanted: Mapping[PublishedFile, Any], there: set[PublishedFile]
    ) -> Iterable[PublishedFile]:
        """Returns the files of the table whose rows the lake holds in others, or not at all."""
        if not self.config.is_by_hour:
            return there - wanted.keys()
        hashes = {one.sha256 for one in wanted}
        return (one for one in there if (one.origin or one.sha256) not in hashes)

    def _check(
        self, table: Table, source: str, commit: commits.Commit, covered: Coverage | None
    ) -> None:
        """Refuses a lake that is not the one, or not as far as the one, that was published."""
        if commit.version < commits.COMMIT_VERSION:
            raise LakeError(
                f"{source}: the commits of the lake are of an earlier version: `tape lake rebuild` "
                "makes them anew, then publish"
            )
        if covered is None:
            return
        was, place = covered.place, commit.place
        if was.tape and place.tape and was.tape != place.tape:
            raise TapeReplacedError(
                f"{source}: {table.name} was published from tape {was.tape}, and the lake is of "
                f"tape {place.tape}: publish it to tables of its own (`namespace`), or record it "
                "under another name (`source`)"
            )
        if was.offset > place.offset:
            raise LakeError(
                f"{source}: {table.name} was published up to offset {was.offset} of its tape, and "
                f"the lake goes up to {place.offset}: it was restored from an older copy; let the "
                "sink store what the tape still holds, then publish"
            )

    def _bring_up(
        self,
        opened: IcebergTable,
        table: Table,
        held: TableState,
        sources: Sequence[Source],
        closed: Closed,
        refused: list[str],
    ) -> int:
        """Publishes what the sources lack; returns how many rows were added."""
        covers, said, rows = dict(held.covers), dict(held.covers), 0
        for source in sources:
            # Until all is there, a table covers no more of a source than it did.
            covers.setdefault(source.name, source.nothing)
            if not source.days:
                covers[source.name] = self._coverage(table, source, closed)
        for source in sources:
            batches = list(self._batches(source.days))
            for number, batch in enumerate(batches, 1):
                made = [self._make(opened, table, source, day, refused) for day in batch]
                added = [one for data, _ in made for one in data]
                removed = [held.files[one] for _, gone in made for one in gone]
                if number == len(batches):
                    covers[source.name] = self._coverage(table, source, closed)
                if added or removed:
                    tables.commit(opened, added, removed, covers)
                    # Readers without a catalog see it now, whatever becomes of what follows.
                    write_hint(self._store, opened)
                    said = dict(covers)
                    rows += self._tell_batch(table, source, batch, added, removed)
        if any(self._is_news(table, name, said.get(name), one) for name, one in covers.items()):
            tables.commit(opened, [], [], covers)
        return rows

    def _is_news(self, table: Table, source: str, said: Coverage | None, now: Coverage) -> bool:
        """Whether it is worth a commit that a table covers more: another day, or new gaps."""
        through = (said or NOWHERE).through
        return through != now.through or self._is_behind(table, source, said, now.place)

    def _is_behind(self, table: Table, source: str, said: Coverage | None, place: Place) -> bool:
        """Whether gaps tell of records that the lake has, and that a table does not cover yet."""
        ledger = self._ledgers.get(source)
        told = (ledger.input or 0) if ledger is not None and table.topic == NORMALIZED else 0
        return (said or NOWHERE).place.offset < min(told, place.offset)

    def _coverage(self, table: Table, source: Source, closed: Closed) -> Coverage:
        """Returns what a table covers of a source of which everything was published."""
        reached = None
        if table.topic == GAPS:
            ledger = self._ledgers[source.name]
            is_same = ledger.offset == source.commit.offset
            reached = ledger.input if is_same else gaps_derived(self._data, source.name)
        if self.config.days:
            # Other days were not looked at.
            held = source.held or source.nothing
            return replace(held, input=max(held.input or 0, reached or 0) or None)
        through = min(closed.through, source.refused or closed.through)
        known = source.known
        if known is not None and (source.refused or not closed.is_now):
            known = min(known, parse_time(through))
        ts = source.commit.context.get("ts")
        return Coverage(source.commit.place, through, ts, known, reached)

    def _batches(self, days: Sequence[Day]) -> Iterator[list[Day]]:
        batch: list[Day] = []
        size = 0
        for day in days:
            batch.append(day)
            size += sum(one.stored.size for one in day.added)
            if size >= self.config.batch_bytes:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def _make(
        self, opened: IcebergTable, table: Table, source: Source, day: Day, refused: list[str]
    ) -> tuple[list[DataFile], list[PublishedFile]]:
        """Makes the data files of a day; a day is replaced as a whole, or not at all."""
        try:
            made = [
                made for one in day.added for made in publish_file(self._store, opened, table, one)
            ]
        except DoesNotFit as error:
            refused.append(f"{source.name}: {table.name} of {day.day} is not published: {error}")
            source.refused = min(source.refused or day.day, day.day)
            return [], []
        return made, day.removed

    def _tell_batch(
        self,
        table: Table,
        source: Source,
        days: Sequence[Day],
        added: Sequence[DataFile],
        removed: Sequence[DataFile],
    ) -> int:
        rows = sum(one.record_count for one in added)
        span = days[0].day if len(days) == 1 else f"{days[0].day} to {days[-1].day}"
        told = f"{source.name}: {table.name} of {span}: {len(added)} files, {rows:,} rows"
        if removed:
            gone = sum(one.record_count for one in removed)
            told += f", instead of {len(removed)} with {gone:,}"
        self.tell(told)
        return rows

    def _run_upkeep(self, opened: IcebergTable) -> None:
        expired, orphans = run_upkeep(opened, self._store, self.config)
        if expired or orphans:
            self.tell(
                f"{opened.name()[-1]}: {expired} old snapshots forgotten, {orphans} files deleted "
                "that none names"
            )


def _no_catalog(error: Exception) -> Unavailable:
    told = redact(str(error).partition("\n")[0])
    return Unavailable(f"not published: the catalog does not answer: {told}")


def _by_hour(
    files: Sequence[Publication], table: Table, there: set[PublishedFile], closed: Closed
) -> Iterator[Publication]:
    """Yields those of `files` that have rows of hours to be published and not yet in the table.

    An hour that the table has is one: what replaces its files holds all of its rows.
    """
    begun = {one.hour for one in there}
    for one in files:
        day, sha256 = one.published.day, one.published.sha256
        held = {each.hour for each in there if sha256 in (each.origin, each.sha256)}
        hours = [""] if day in UNDATED else hours_in(one.path, table)
        due = [hour for hour in hours if hour in begun or closed.has(day, hour)]
        lacking = tuple(hour for hour in due if hour not in held)
        if lacking:
            yield replace(one, hours=lacking, is_cut=len(hours) > 1)


def known_in_lake(data: Path, source: str, table: Table, commit: commits.Commit) -> int | None:
    """Returns the receive time up to which a table was derived, and all of it is in the lake."""
    tail = SourceTail(data, source)
    if table.topic == NORMALIZED:
        newest = newest_receipt(tail)
        until = None if newest is None else newest + 1
    else:
        until = derived_until(tail, table.topic)
    derived = tail.tape(table.topic)
    if until is None or derived is None:
        return None
    if commit.offset >= derived.end:
        return until
    try:
        derived.seek(max(commit.offset, derived.first))
        return min(until, received_next(derived, until))
    except TapeError:
        return None
