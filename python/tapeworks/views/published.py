"""A published history as a data folder: `tw.open("s3://market/history")`.

Its folder is a cache: what a question needs is fetched once, compared with its hash, and is then
the file of the lake that was published, byte for byte. So all that reads a lake reads it. There is
no tape behind it: it ends where it was published.
"""

import hashlib
import importlib
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from tapeworks import commits, lake
from tapeworks.commits import Commit
from tapeworks.durable import make_folder, names_in, replace_file
from tapeworks.errors import LakeError, QueryError
from tapeworks.lake import LakeFile, Table
from tapeworks.object_store import SCHEME, is_object
from tapeworks.published import (
    COMPANIONS,
    HINT,
    OWN,
    Coverage,
    PublishedFile,
    Store,
    find_namespace,
)
from tapeworks.tape import Place
from tapeworks.topics import GAPS, NORMALIZED
from tapeworks.views.tail import SourceTail, Tails

# Loaded where a published history is opened.
ICEBERG = "tapeworks.views.iceberg"
PARQUET = "pyarrow.parquet"
# What was published meanwhile is looked for this often.
FRESH_S = 5.0
CACHE_BYTES_MAX = 32 << 30


def address_of(path: str | Path) -> str | None:
    """Returns the address of the published history that `path` means; none if it means none."""
    text = str(path)
    if text.startswith("s3:/") and not is_object(text):
        # A path has one slash where an address has two.
        text = SCHEME + text.removeprefix("s3:/")
    if is_object(text):
        return text
    folder = Path(text)
    names = names_in(folder) if folder.is_dir() else []
    has_own = OWN in names or any((folder / name / OWN).is_dir() for name in names)
    return text if has_own else None


class Published:
    """A published history, and the folder in which what was fetched of it lies."""

    def __init__(self, address: str, cache: Path | None = None) -> None:
        """Opens it.

        Raises:
            QueryError: nothing is published there, it cannot be read, or pyiceberg is missing.
        """
        try:
            self._iceberg = importlib.import_module(ICEBERG)
        except ModuleNotFoundError as error:
            raise QueryError(
                f"a published history needs {error.name}, which is not installed: "
                "pip install 'tapeworks[iceberg]'"
            ) from None
        self._store = Store(address)
        self._cache = cache or default_cache()
        try:
            self._namespace = find_namespace(self._store)
            digest = hashlib.sha256(f"{self._store.address}/{self._namespace}".encode())
            self.folder = self._cache / digest.hexdigest()[:16]
            self._prepare()
        except OSError as error:
            raise QueryError(f"cannot be read: {self._store.refusal(error)}") from error
        self._states: dict[str, tuple[float, bytes, Any]] = {}
        # Schema and version of files, by their hash.
        self._known: dict[str, tuple[str, int]] = {}

    @property
    def address(self) -> str:
        """Where it is."""
        return self._store.address

    def _prepare(self) -> None:
        """Makes the folder: who recorded what, and the definitions of all instruments."""
        root = self.folder / "lake"
        for source in self._store.folders(self._below(OWN)):
            path = f"{self._below(OWN)}/{source}/{commits.SYMBOLS_FILE}"
            if (content := self._store.read(path)) is not None:
                make_folder(commits.commit_folder(root, source))
                target = commits.commit_folder(root, source) / commits.SYMBOLS_FILE
                replace_file(target, content, sync=False)
            make_folder(root / "instruments" / f"venue={source}")

    def _below(self, path: str) -> str:
        return f"{self._namespace}/{path}" if self._namespace else path

    def state(self, table: str) -> Any:
        """Returns files and coverage of a table, as of a few seconds ago; none: no such table.

        Raises:
            QueryError: the store cannot be read.
        """
        at, hint, state = self._states.get(table, (0.0, b"", None))
        now = time.monotonic()
        if at and now - at < FRESH_S:
            return state
        folder = self._below(table)
        try:
            newest = self._store.read(f"{folder}/metadata/{HINT}")
            if newest is None:
                state = None
            elif newest != hint:
                state = self._iceberg.state_of(self._iceberg.open_table(self._store, folder))
        except OSError as error:
            raise QueryError(f"cannot be read: {self._store.refusal(error)}") from error
        self._states[table] = now, newest or b"", state
        return state

    def covered(self, tables: Iterable[Table], source: str) -> list[Coverage]:
        """Returns what each of the tables that hold anything of a source covers of it."""
        states = [self.state(table.name) for table in tables]
        return [one.covers[source] for one in states if one is not None and source in one.covers]

    def files(self, table: Table, source: str, days: tuple[str, str] | None) -> list[LakeFile]:
        """Returns the files of a source by day and offset, fetched where they are not there.

        Raises:
            QueryError: they cannot be fetched, or are more than the cache may hold.
            LakeError: one is not what was published.
        """
        state = self.state(table.name)
        wanted = [
            one
            for one in ([] if state is None else state.files)
            if one.source == source and (days is None or days[0] <= one.day <= days[1])
        ]
        wanted.sort(key=lambda one: (one.day, one.first, one.last))
        size = sum(one.size for one in wanted)
        if size > CACHE_BYTES_MAX:
            raise QueryError(
                f"{source}: {table.name} takes {size >> 20:,} MiB of published files, and "
                f"{CACHE_BYTES_MAX >> 20:,} MiB are fetched at most: expected a shorter range"
            )
        found = []
        for one in wanted:
            path = self._path(table, one)
            if not _touch(path):
                try:
                    self._fetch(table, one, path)
                except OSError as error:
                    raise QueryError(f"cannot be read: {self._store.refusal(error)}") from error
            found.append(self._lake_file(path, one, state.files[one].record_count))
        return found

    def _path(self, table: Table, one: PublishedFile) -> Path:
        folder = self.folder / "lake" / table.name / f"venue={one.source}" / f"date={one.day}"
        return folder / f"{one.first:012d}-{one.last:012d}-{one.sha256[:24]}.parquet"

    def _fetch(self, table: Table, one: PublishedFile, path: Path) -> None:
        make_folder(path.parent)
        self._make_room(one.size)
        aside = path.with_name(f".{os.getpid()}-{path.name}")
        try:
            self._store.fetch(f"{self._below(table.name)}/{one.name}", one.size, aside)
            with aside.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != one.sha256:
                    raise LakeError(
                        f"{self._store.address}/{self._below(table.name)}/{one.name} is damaged: "
                        "it is not what was published"
                    )
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)

    def _make_room(self, size: int) -> None:
        """Deletes what was not used for longest, so that `size` bytes more are within the limit."""
        held = []
        for path in self._cache.rglob("*.parquet"):
            try:
                found = path.stat()
            except FileNotFoundError:
                continue
            held.append((found.st_mtime, found.st_size, path))
        room = CACHE_BYTES_MAX - size - sum(one[1] for one in held)
        for _, freed, path in sorted(held):
            if room >= 0:
                return
            path.unlink(missing_ok=True)
            room += freed

    def _lake_file(self, path: Path, one: PublishedFile, rows: int) -> LakeFile:
        if one.sha256 not in self._known:
            metadata = importlib.import_module(PARQUET).read_metadata(path)
            version = (metadata.metadata or {}).get(commits.VERSION_KEY, b"1")
            schema: pa.Schema = metadata.schema.to_arrow_schema()
            self._known[one.sha256] = lake.schema_mark(schema), int(version)
        mark, version = self._known[one.sha256]
        known = one.source, one.day, one.first, one.last, one.size, rows, mark, version
        return LakeFile(path, *known)


class PublishedTail(SourceTail):
    """Reads the published files of one source: there is no tape behind them."""

    def __init__(self, history: Published, source: str) -> None:
        super().__init__(history.folder, source)
        self._history = history

    def files(
        self, table: Table, days: tuple[str, str] | None = None
    ) -> tuple[list[LakeFile], Commit]:
        """Returns the files of `table` by day and offset, and up to where they go."""
        found = self._history.files(table, self._source, days)
        covers = self._history.covered([table], self._source)
        return found, Commit(covers[0].place if covers else Place())

    def committed(self, topic: str) -> int:
        """Returns the offset up to which everything of `topic` is published."""
        covers = self._history.covered(lake.tables_of(topic), self._source)
        return max((one.place.offset for one in covers), default=0)

    def known_until(self, topic: str) -> int | None:
        """Returns the receive time up to which all of `topic`, and of records, is published.

        None: it is not known, as while the table of gaps holds nothing of this source, or tells of
        repairs whose records are not published yet, or while a table has no companion.
        """
        ledger = self._history.covered(lake.tables_of(GAPS), self._source)
        told = max((one.input or 0 for one in ledger), default=0)
        records = self._history.covered(lake.tables_of(NORMALIZED), self._source)
        if not ledger or any(one.place.offset < told for one in records):
            return None
        for name, companions in COMPANIONS.items():
            if self._covers(name) and not all(map(self._covers, companions)):
                return None
        tables = {*lake.tables_of(topic), *lake.tables_of(NORMALIZED)}
        times = [one.known for one in self._history.covered(tables, self._source)]
        return None if None in times else min(filter(None, times), default=None)

    def _covers(self, name: str) -> bool:
        """Whether a table holds anything of this source."""
        return bool(self._history.covered([lake.TABLES[name]], self._source))

    def context(self, topic: str) -> dict[str, int]:
        """Returns the receive time before which all is published, if it is known."""
        covers = self._history.covered(lake.tables_of(topic), self._source)
        times = [one.ts for one in covers if one.ts is not None]
        return {"ts": max(times)} if times else {}


class PublishedTails(Tails):
    """The readers of all sources of a published history."""

    def __init__(self, history: Published) -> None:
        super().__init__(history.folder)
        self._history = history

    def make(self, source: str) -> SourceTail:
        """Makes the reader of one source."""
        return PublishedTail(self._history, source)


def default_cache() -> Path:
    """Returns the folder of what was fetched, of all published histories."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "tapeworks" / "published"


def _touch(path: Path) -> bool:
    """Notes that a file is in use; returns whether it is there."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True
