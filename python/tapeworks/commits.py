"""What says which files of the lake count: one commit a topic, and the manifest behind it.

    <lake>/_commits/<source>/<topic>.json            the last commit, replaced in one atomic step
    <lake>/_commits/<source>/<topic>.manifest.<n>    files of all earlier commits, one line each
    <lake>/_commits/<source>/symbols.records         definitions of all instruments
    <lake>/_staging/<source>/<topic>/<attempt>/      files on their way in

A commit names the place on the tape up to which the lake holds everything, the files that it adds
(with size and SHA-256) and those that it removes, and how many bytes of the manifest count, with
their SHA-256. So all files of a topic are known from two small reads, a commit costs no more than
its own files, and nothing can be changed, cut, lost or added without being noticed.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tapeworks import durable, lake
from tapeworks._core import Records, Symbols
from tapeworks.durable import names_in
from tapeworks.errors import LakeError, LakeVersionError
from tapeworks.lake import COMMITS, STAGING, LakeFile
from tapeworks.tape import Place

COMMIT_VERSION = 2
# What the columns of a file mean. A file of a later number is refused, never misread.
TABLE_VERSION = 2
# What a file says of itself: which version its columns are of, and of which tape its rows are.
VERSION_KEY, TAPE_KEY = b"tapeworks.table_version", b"tapeworks.tape"
SYMBOLS_FILE = "symbols.records"
SYMBOLS_MAGIC = b"TWSYMB02"
READ_ATTEMPTS = 50
READ_PAUSE_S = 0.002


@dataclass(frozen=True)
class StoredFile:
    """A file that a commit added to the lake."""

    name: str
    """Relative to the lake."""
    size: int
    rows: int
    sha256: str
    schema: str
    """Stands for names and types of the columns: files of one mark can be read in one scan."""
    version: int = TABLE_VERSION
    footer: str = ""
    """Hash of the footer, which has no checksum of its own and says which pages to read."""

    def to_list(self) -> list[Any]:
        """Returns what is written of it."""
        known = [self.name, self.size, self.rows, self.sha256]
        return [*known, self.schema, self.version, self.footer]

    @staticmethod
    def from_list(found: list[Any]) -> "StoredFile":
        """Reads what `to_list` returned.

        Raises:
            ValueError: it is something else.
        """
        name, size, rows, sha256, schema, version, footer = found
        numbers = int(size), int(rows)
        return StoredFile(str(name), *numbers, str(sha256), str(schema), int(version), str(footer))

    @property
    def table(self) -> str:
        """The table of which it holds rows."""
        return self.name.partition("/")[0]


@dataclass(frozen=True)
class ManifestMark:
    """Which file holds the manifest, how many bytes of it count, and their SHA-256."""

    generation: int = 0
    size: int = 0
    sha256: str = hashlib.sha256().hexdigest()


@dataclass(frozen=True)
class Commit:
    """What the sinks of one topic have made final: everything below `place.offset`."""

    place: Place = field(default_factory=Place)
    files: tuple[StoredFile, ...] = ()
    removes: tuple[str, ...] = ()
    context: dict[str, int] = field(default_factory=dict)
    attempt: str = ""
    """The folder in which the files are staged."""
    number: int = 0
    manifest: ManifestMark = ManifestMark()
    version: int = COMMIT_VERSION

    @property
    def offset(self) -> int:
        """The first offset that is not final."""
        return self.place.offset

    def to_json(self) -> bytes:
        """Writes the commit with a checksum over all of it."""
        body = _canonical(
            {
                "version": self.version,
                "number": self.number,
                "place": [self.place.offset, self.place.tape, self.place.fingerprint],
                "files": [file.to_list() for file in self.files],
                "removes": self.removes,
                "context": self.context,
                "attempt": self.attempt,
                "manifest": [self.manifest.generation, self.manifest.size, self.manifest.sha256],
            }
        )
        digest = hashlib.sha256(body.encode()).hexdigest()
        return f'{{"version": {self.version}, "sha256": "{digest}", "commit": {body}}}\n'.encode()


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def commit_folder(root: Path, source: str) -> Path:
    """Returns the folder of all commits of `source`; who writes its lake holds its lock."""
    return root / COMMITS / source


def commit_path(root: Path, source: str, topic: str) -> Path:
    """Returns where the commit of a topic lies."""
    return commit_folder(root, source) / f"{topic}.json"


def manifest_path(root: Path, source: str, topic: str, generation: int) -> Path:
    """Returns where a manifest of a topic lies."""
    return commit_folder(root, source) / f"{topic}.manifest.{generation}"


def staging_folder(root: Path, source: str, topic: str) -> Path:
    """Returns the folder of everything staged for a topic."""
    return root / STAGING / source / topic


def staged_path(root: Path, source: str, topic: str, attempt: str, name: str) -> Path:
    """Returns where the file `name` lies until it is renamed into place."""
    return staging_folder(root, source, topic) / attempt / name.replace("/", "!")


def read_commit(root: Path, source: str, topic: str) -> Commit | None:
    """Reads the last commit of a topic; none if there was never one.

    Raises:
        LakeVersionError: a newer version of Tapeworks wrote it.
        LakeError: it is damaged.
    """
    path = commit_path(root, source, topic)
    try:
        found = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        return _parse_commit(found, path)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LakeError(f"{path} is damaged: {error}; `tape lake rebuild` makes it again") from None


def newer_version(path: Path, found: int, known: int) -> LakeVersionError:
    """Returns the error of a file that a newer version of Tapeworks wrote."""
    return LakeVersionError(
        f"{path} has version {found}; this build reads up to {known}: update Tapeworks to read it"
    )


def _parse_commit(text: bytes, path: Path) -> Commit:
    found = json.loads(text.decode())
    version = found["version"]
    if version == 1 and "offset" in found:
        return _parse_version_1(found)
    body = found.get("commit")
    digest = hashlib.sha256(_canonical(body).encode()).hexdigest()
    if body is None or digest != found.get("sha256") or body.get("version") != version:
        if isinstance(version, int) and version > COMMIT_VERSION and body is None:
            raise newer_version(path, version, COMMIT_VERSION)
        raise ValueError("its checksum does not match its text")
    if version > COMMIT_VERSION:
        raise newer_version(path, version, COMMIT_VERSION)
    offset, tape, fingerprint = body["place"]
    return Commit(
        place=Place(offset, tape, fingerprint),
        files=tuple(StoredFile.from_list(file) for file in body["files"]),
        removes=tuple(body["removes"]),
        context=dict(body["context"]),
        attempt=body["attempt"],
        number=body["number"],
        manifest=ManifestMark(*body["manifest"]),
    )


def _parse_version_1(found: dict[str, Any]) -> Commit:
    """Reads a commit without checksums: its files are known by name, all earlier ones by folder."""
    files = tuple(StoredFile(str(name), -1, -1, "", "", 1) for name in found["files"])
    return Commit(
        Place(int(found["offset"])),
        files,
        tuple(str(name) for name in found["removes"]),
        {str(name): int(value) for name, value in found["context"].items()},
        version=1,
    )


Live = dict[str, StoredFile]


class Manifest:
    """The files of earlier commits of one topic. Reads no byte twice while it grows."""

    def __init__(self, root: Path, source: str, topic: str) -> None:
        self._where = root, source, topic
        self._generation = -1
        self._size = 0
        self._digest = hashlib.sha256()
        self._live: Live = {}
        self.entries = 0
        """Files that were ever added or removed in this generation."""

    def read(self, mark: ManifestMark) -> Live:
        """Returns the files that count up to `mark`, by name. It is not to be changed.

        Raises:
            LakeError: the manifest is missing, cut or changed.
        """
        if (mark.generation, mark.sha256) == (self._generation, self._digest.hexdigest()):
            return self._live
        if mark.generation != self._generation or mark.size < self._size:
            self._restart(mark.generation)
        path = manifest_path(*self._where, mark.generation)
        data = b""
        if mark.size:
            try:
                with path.open("rb") as file:
                    file.seek(self._size)
                    data = file.read(mark.size - self._size)
            except FileNotFoundError:
                raise LakeError(f"{path} is missing; `tape lake rebuild` makes it again") from None
        digest = self._digest.copy()
        digest.update(data)
        if digest.hexdigest() != mark.sha256:
            if self._size:
                # Another generation of the same number, as after a rebuild: read it from its front.
                self._restart(mark.generation)
                return self.read(mark)
            raise LakeError(
                f"{path} is damaged: its checksum differs from that in the commit; "
                "`tape lake rebuild` makes it again"
            )
        live = dict(self._live)
        for line in data.splitlines():
            entry = json.loads(line)
            apply_changes(live, map(StoredFile.from_list, entry["add"]), entry["remove"])
            self.entries += len(entry["add"]) + len(entry["remove"])
        self._size, self._digest, self._live = mark.size, digest, live
        return live

    def extended(self, mark: ManifestMark, line: bytes) -> ManifestMark:
        """Returns the mark behind `line`, if it is written at `mark`."""
        self.read(mark)
        digest = self._digest.copy()
        digest.update(line)
        return replace(mark, size=mark.size + len(line), sha256=digest.hexdigest())

    def _restart(self, generation: int) -> None:
        self._generation, self._size, self._digest = generation, 0, hashlib.sha256()
        self._live, self.entries = {}, 0


def manifest_line(added: Iterable[StoredFile], removed: Iterable[str]) -> bytes:
    """Writes the changes of one commit as a line of the manifest."""
    entry = {"add": [file.to_list() for file in added], "remove": list(removed)}
    return (_canonical(entry) + "\n").encode()


def apply_changes(live: Live, added: Iterable[StoredFile], removed: Iterable[str]) -> None:
    """Changes `live` to what it is after a commit."""
    for name in removed:
        live.pop(name, None)
    for file in added:
        live[file.name] = file


@dataclass(frozen=True)
class TopicState:
    """All files of one topic as of one commit."""

    commit: Commit | None
    live: Live
    tables: dict[str, dict[str, list[LakeFile]]]
    """Files by table and day, in the order of the tape."""


class TopicReader:
    """Reads which files of one source and topic count, while a sink goes on writing."""

    def __init__(self, root: Path, source: str, topic: str) -> None:
        self._where = root, source, topic
        self._manifest = Manifest(root, source, topic)
        self._state: TopicState | None = None
        self._checked: set[str] = set()

    def read(self) -> TopicState:
        """Returns the files as of the last commit.

        Raises:
            LakeError: commit or manifest are damaged, or missing beside files.
        """
        for attempt in range(READ_ATTEMPTS):
            commit = read_commit(*self._where)
            if commit is None or commit.version == 1:
                return _state_by_folder(*self._where, commit)
            if self._state is not None and commit == self._state.commit:
                return self._state
            try:
                live = dict(self._manifest.read(commit.manifest))
            except LakeError:
                # A new generation replaced the one that this commit names, or it is damaged.
                if attempt + 1 == READ_ATTEMPTS or read_commit(*self._where) == commit:
                    raise
                time.sleep(READ_PAUSE_S)
                continue
            apply_changes(live, commit.files, commit.removes)
            self._state = TopicState(commit, live, _by_table(*self._where, live.values()))
            return self._state
        raise AssertionError("unreachable")

    def locate(self, files: list[LakeFile]) -> list[LakeFile]:
        """Returns `files` where they are now: some may still be on their way into place.

        Raises:
            LakeError: one is missing, or has another size than the commit says.
            FileNotFoundError: a later commit has replaced one: read the state again.
        """
        found = [self._locate(file) for file in files]
        for file in found:
            self._check_footer(file)
        return found

    def _check_footer(self, file: LakeFile) -> None:
        """Compares the footer of a file with its hash, once: files never change once named."""
        if not file.footer or file.footer in self._checked:
            return
        try:
            if lake.footer_hash(file.path) != file.footer:
                raise ValueError("its footer is not the one that was written")
        except ValueError as error:
            raise LakeError(
                f"{file.path} is damaged: {error}; `tape lake verify` lists all faults, `tape lake "
                "rebuild` restores what the tapes still hold"
            ) from None
        self._checked.add(file.footer)

    def _locate(self, file: LakeFile) -> LakeFile:
        if file.size < 0:
            return file
        root, source, topic = self._where
        commit = self._state.commit if self._state is not None else None
        for _ in range(2):
            size = lake.size_of(file.path)
            if size == file.size:
                return file
            if commit is not None and commit.attempt:
                name = file.path.relative_to(root).as_posix()
                staged = staged_path(root, source, topic, commit.attempt, name)
                if lake.size_of(staged) == file.size:
                    return replace(file, path=staged)
        if read_commit(*self._where) != commit:
            raise FileNotFoundError(file.path)
        what = "missing" if size is None else f"{size} bytes long instead of {file.size}"
        raise LakeError(
            f"{file.path} is {what}, so that rows would be left out; `tape lake verify` lists all "
            "faults, `tape lake rebuild` restores what the tapes still hold"
        )


def _by_table(
    root: Path, source: str, topic: str, files: Iterable[StoredFile]
) -> dict[str, dict[str, list[LakeFile]]]:
    tables: dict[str, dict[str, list[LakeFile]]] = {}
    for file in files:
        if file.version > TABLE_VERSION:
            raise newer_version(root / file.name, file.version, TABLE_VERSION)
        found = lake_file(root, file)
        tables.setdefault(file.table, {}).setdefault(found.day, []).append(found)
    for by_day in tables.values():
        for day in by_day.values():
            day.sort(key=lambda file: (file.first, file.last))
    return tables


def lake_file(root: Path, file: StoredFile) -> LakeFile:
    """Returns what the name of `file` says of it.

    Raises:
        LakeError: it is no name of a file of the lake.
    """
    parts = file.name.split("/")
    match = lake.NAMES.fullmatch(parts[-1])
    if len(parts) != 4 or match is None:
        raise LakeError(f"expected <table>/venue=<source>/date=<day>/<file>, got {file.name!r}")
    source, day = parts[1].removeprefix("venue="), parts[2].removeprefix("date=")
    first, last = int(match[1]), int(match[2])
    known = file.size, file.rows, file.schema, file.version, file.footer
    return LakeFile(root / file.name, source, day, first, last, *known)


def _state_by_folder(root: Path, source: str, topic: str, commit: Commit | None) -> TopicState:
    """Lists the folders, for a lake whose commits name their own files only, or that has none."""
    tables: dict[str, dict[str, list[LakeFile]]] = {}
    for table in lake.tables_of(topic):
        for day in lake.days(root, table.name, source):
            if found := lake.files_of_day(root, table.name, source, day):
                tables.setdefault(table.name, {})[day] = found
    for stored in () if commit is None else commit.files:
        # A sink that was killed before it renamed its files.
        staged = root / STAGING / source / topic / stored.name.replace("/", "!")
        if staged.exists():
            file = replace(lake_file(root, stored), path=staged)
            tables.setdefault(stored.table, {}).setdefault(file.day, []).append(file)
    if commit is None and tables:
        path = commit_path(root, source, topic)
        raise LakeError(
            f"{path} is missing beside files of {', '.join(tables)}: nothing says which of them "
            "count; `tape lake rebuild` makes it again"
        )
    every = (file for days in tables.values() for files in days.values() for file in files)
    last = max(every, key=lambda file: file.last, default=None)
    if commit is not None and last is not None and last.last >= commit.offset:
        # The rows between would be stored a second time.
        raise LakeError(
            f"{commit_path(root, source, topic)} says that all below offset {commit.offset} is "
            f"stored, and {last.path} holds rows up to {last.last}: one of them was changed; "
            "`tape lake rebuild` stores again what the tape still holds"
        )
    return TopicState(commit, {}, tables)


def load_symbols(root: Path, source: str) -> Symbols | None:
    """Reads the definitions that the sink has seen; none if there are none yet.

    Raises:
        LakeError: the file is damaged.
    """
    path = commit_folder(root, source) / SYMBOLS_FILE
    try:
        found = path.read_bytes()
    except FileNotFoundError:
        if lake.days(root, "instruments", source):
            raise LakeError(f"{path} is missing; `tape lake rebuild` makes it again") from None
        return None
    if found.startswith(SYMBOLS_MAGIC):
        head = len(SYMBOLS_MAGIC) + hashlib.sha256().digest_size
        digest, body = found[len(SYMBOLS_MAGIC) : head], found[head:]
        if hashlib.sha256(body).digest() == digest:
            return _symbols_of(body, path)
    elif (commit_of_any_topic(root, source) or Commit(version=1)).version == 1:
        return _symbols_of(found, path)
    raise LakeError(f"{path} is damaged: its checksum does not match; `tape lake rebuild`")


def _symbols_of(body: bytes, path: Path) -> Symbols:
    symbols = Symbols()
    try:
        symbols.load(Records.from_bytes(body))
    except (ValueError, OverflowError) as error:
        raise LakeError(f"{path} is damaged: {error}; `tape lake rebuild`") from error
    return symbols


def commit_of_any_topic(root: Path, source: str) -> Commit | None:
    """Returns a commit of `source`, to know of which version its lake is."""
    for name in names_in(commit_folder(root, source)):
        stem, suffix = os.path.splitext(name)
        if suffix != ".json":
            continue
        if (found := read_commit(root, source, stem)) is not None and found.version > 1:
            return found
    return None


def save_symbols(root: Path, source: str, symbols: Symbols) -> None:
    """Replaces the definitions, durably."""
    body = bytes(symbols.records())
    path = commit_folder(root, source) / SYMBOLS_FILE
    durable.make_folder(path.parent)
    durable.replace_file(path, SYMBOLS_MAGIC + hashlib.sha256(body).digest() + body)
