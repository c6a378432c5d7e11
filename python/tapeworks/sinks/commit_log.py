"""Publishes the commits of one topic of the lake: what was staged becomes final, or nothing does.

A commit is written in one atomic step, then its files are renamed into place, then what it
removes is deleted. A commit whose files cannot all be put into place is superseded by the next
one, which starts from the last that could: whoever made it keeps its rows until `commit` returns.
Sink and compaction of a topic share one log; `commit` may be called from several threads.
"""

import contextlib
import hashlib
import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tapeworks import commits, durable, lake
from tapeworks.commits import Commit, ManifestMark, StoredFile
from tapeworks.errors import LakeError
from tapeworks.tape import Place

log = logging.getLogger("tapeworks.sinks")

# A manifest is written anew when it holds so many entries, and four times those that still count.
ENTRIES_MAX = 1_024


@dataclass(frozen=True)
class Changes:
    """What one commit is to change. The files lie staged under `attempt`."""

    files: tuple[StoredFile, ...] = ()
    removes: tuple[str, ...] = ()
    attempt: str = ""


class GivenUp(LakeError):
    """The log was closed, or opened again, since this work was begun: nothing is wrong."""


@dataclass
class CommitLog:
    """The commits of one source and topic, and all files that count."""

    root: Path
    source: str
    topic: str
    check: Callable[[], None] = field(default=lambda: None)
    """Fails if this process is no longer the one that may write."""

    def __post_init__(self) -> None:
        self._mutex = threading.RLock()
        self._where = self.root, self.source, self.topic
        self._manifest = commits.Manifest(*self._where)
        self._head: Commit | None = None
        # Unfinished commits of which each may be the one on the disk: more than one where the last
        # is there, and the disk did not confirm it.
        self._pending: list[Commit] = []
        # Files of all unfinished commits: each may be in place.
        self._placed: set[str] = set()
        self._folded: ManifestMark | None = None
        self._leftover: set[str] = set()
        self._attempts = 0
        # Attempts of before belong to a lake that another process may have changed since.
        self._attempts_first = 1
        self._closed = False
        self.live: commits.Live = {}

    @property
    def head(self) -> Commit | None:
        """The last commit whose files are all in place; none before the first."""
        return self._head

    @property
    def closed(self) -> bool:
        """Whether nothing more may be committed."""
        return self._closed

    def close(self) -> None:
        """Waits for a commit that is under way; all later ones are refused."""
        with self._mutex:
            self._closed = True

    def files(self) -> list[StoredFile]:
        """Returns all files that count at this moment."""
        with self._mutex:
            return list(self.live.values())

    def recover(self) -> Commit | None:
        """Finishes the last commit, removes what no commit covers, and returns the commit.

        Raises:
            LakeError: a file that the commit lists is missing, or the commit is damaged.
        """
        with self._mutex:
            self._closed = False
            self._attempts_first = self._attempts + 1
            self._pending, self._placed = [], set()
            self._folded, self._leftover = None, set()
            found = commits.read_commit(*self._where)
            if found is not None:
                # It may be the last thing that was written before a crash of this process alone.
                durable.sync_folder(commits.commit_folder(self.root, self.source))
                if found.version == 1:
                    found = self._upgrade(found)
                self._load(found)
                try:
                    self._finish(found)
                except FileNotFoundError as error:
                    raise LakeError(f"{error}; `tape lake rebuild` stores them again") from error
            else:
                # Refuses a lake that lost its commit.
                commits.TopicReader(*self._where).read()
                self._head, self.live = None, {}
            shutil.rmtree(commits.staging_folder(*self._where), ignore_errors=True)
            self._remove_old_manifests()
            return found

    def new_attempt(self, kind: str) -> str:
        """Returns a name under which files can be staged, and removes what `kind` left before."""
        with self._mutex:
            self._attempts += 1
            self.clear_attempts(kind)
            return f"{kind}-{self._attempts}"

    def clear_attempts(self, kind: str) -> None:
        """Removes what was staged by `kind` and is in no commit, as far as the disk lets it."""
        with self._mutex:
            kept = {pending.attempt for pending in self._pending}
            for folder in commits.staging_folder(*self._where).glob(f"{kind}-*"):
                if folder.name not in kept:
                    shutil.rmtree(folder, ignore_errors=True)

    def free_name(self, name: str) -> str:
        """Returns `name`, or one like it, that no file has that counts, is staged or is there."""
        with self._mutex:
            pending = {file.name for commit in self._pending for file in commit.files}
            taken = {*self.live, *self._placed, *pending}
            return lake.free_path(name, lambda n: n in taken or os.path.lexists(self.root / n))

    def staged(self, attempt: str, name: str) -> Path:
        """Returns where the file `name` is to be staged; its folder is made."""
        path = commits.staged_path(*self._where, attempt, name)
        durable.make_folder(path.parent)
        return path

    def commit(self, changes: Changes, place: Place | None, context: dict[str, int]) -> Commit:
        """Makes `changes` final; `place` of none leaves place and context as they are.

        Raises:
            OSError: the disk refuses. Nothing is final; call again, with all changes.
            GivenUp: the log was closed, or opened again since the changes were begun.
            LakeError: somebody else has written here, or the changes are not of this lake.
        """
        with self._mutex:
            if self._closed:
                raise GivenUp(f"{self.source}: {self.topic}: its log is closed")
            self.check()
            self._check_changes(changes)
            if changes.attempt:
                durable.sync_folder(commits.staging_folder(*self._where) / changes.attempt)
            head = self._head or Commit()
            number = self._number_on_disk(head) + 1
            names = {file.name for file in changes.files}
            unwanted = self._placed - set(self.live)
            removes = {*changes.removes, *self._leftover, *unwanted} - names
            if place is None:
                place, context = head.place, head.context
            new = Commit(
                place,
                changes.files,
                tuple(sorted(removes)),
                context,
                changes.attempt,
                number,
                self._fold(head),
            )
            self._write(new)
            self._placed |= names
            self._finish(new)
            return new

    def _check_changes(self, changes: Changes) -> None:
        """Refuses what was begun before `recover`, and what would replace or lack a live file."""
        where = f"{self.source}: {self.topic}"
        if changes.attempt and int(changes.attempt.rpartition("-")[2]) < self._attempts_first:
            raise GivenUp(f"{where}: the lake was opened again since this was begun")
        if twice := {file.name for file in changes.files} & set(self.live):
            raise LakeError(f"{where}: {', '.join(sorted(twice))} is there already, and counts")
        if gone := set(changes.removes) - set(self.live):
            raise LakeError(f"{where}: {', '.join(sorted(gone))} is to be replaced, and is gone")

    def _write(self, new: Commit) -> None:
        path = commits.commit_path(*self._where)
        durable.make_folder(path.parent)
        try:
            durable.replace_file(path, new.to_json())
        except OSError:
            # The one before it stays the one to be finished, unless the new one is there, and only
            # not known to survive a loss of power.
            if commits.read_commit(*self._where) == new:
                self._pending.append(new)
                self._placed.update(file.name for file in new.files)
            raise
        self._pending = [new]

    def _number_on_disk(self, head: Commit) -> int:
        found = commits.read_commit(*self._where)
        number = 0 if found is None else found.number
        known = {head.number, *(pending.number for pending in self._pending)}
        if number not in known:
            raise LakeError(
                f"{commits.commit_path(*self._where)}: expected commit {head.number}, got "
                f"{number}: another process has written this lake, or it was replaced"
            )
        return number

    def _load(self, commit: Commit) -> None:
        self.live = dict(self._manifest.read(commit.manifest))
        commits.apply_changes(self.live, commit.files, commit.removes)
        self._head = commit

    def _fold(self, head: Commit) -> ManifestMark:
        """Adds the changes of `head` to the manifest, unless that was done before."""
        if self._folded is None:
            if self._manifest.entries > max(ENTRIES_MAX, 4 * len(self.live)):
                self._folded = self._new_generation(head)
            elif head.files or head.removes:
                line = commits.manifest_line(head.files, head.removes)
                self._folded = self._append(head.manifest, line)
            else:
                self._folded = head.manifest
        return self._folded

    def _append(self, mark: ManifestMark, line: bytes) -> ManifestMark:
        path = commits.manifest_path(*self._where, mark.generation)
        durable.make_folder(path.parent)
        after = self._manifest.extended(mark, line)
        is_new = not path.exists()
        with path.open("wb" if is_new else "r+b") as file:
            file.seek(mark.size)
            file.truncate()
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            durable.sync_folder(path.parent)
        self._manifest.read(after)
        return after

    def _new_generation(self, head: Commit) -> ManifestMark:
        line = commits.manifest_line(self.live.values(), ())
        generation = head.manifest.generation + 1
        durable.replace_file(commits.manifest_path(*self._where, generation), line)
        mark = ManifestMark(generation, len(line), hashlib.sha256(line).hexdigest())
        self._manifest.read(mark)
        return mark

    def _finish(self, commit: Commit) -> None:
        """Puts the files of `commit` into place and deletes what it removes."""
        finish_commit(*self._where, commit)
        commits.apply_changes(self.live, commit.files, commit.removes)
        if commit.manifest.generation != (self._head or commit).manifest.generation:
            self._head = commit
            self._remove_old_manifests()
        self._head, self._folded = commit, None
        self._pending, self._placed = [], set()
        self._leftover = set(self._delete(commit.removes))
        if commit.attempt:
            self.clear_attempts(commit.attempt.partition("-")[0])

    def _delete(self, names: Iterable[str]) -> Iterable[str]:
        """Deletes files durably; yields those that the disk does not let go, for the next commit.

        That commit does not list the others any more: they must not come back.
        """
        deleted: dict[Path, list[str]] = {}
        for name in names:
            try:
                (self.root / name).unlink(missing_ok=True)
            except OSError as error:
                log.warning("%s cannot be deleted, will be tried again: %s", name, error)
                yield name
            else:
                deleted.setdefault((self.root / name).parent, []).append(name)
        for folder, gone in deleted.items():
            try:
                durable.sync_folder(folder)
            except FileNotFoundError:
                continue
            except OSError as error:
                log.warning("%s cannot be synced, will be tried again: %s", folder, error)
                yield from gone

    def _remove_old_manifests(self) -> None:
        kept = self._head.manifest.generation if self._head is not None else None
        folder = commits.commit_folder(self.root, self.source)
        for path in folder.glob(f"{self.topic}.manifest.*"):
            if path.suffix != f".{kept}":
                with contextlib.suppress(OSError):
                    path.unlink()

    def _upgrade(self, old: Commit) -> Commit:
        """Turns a lake without manifests into one of this version: every file is hashed once."""
        finish_version_1(*self._where, old)
        compact = f"compact-{self.topic}"
        compaction = commits.read_commit(self.root, self.source, compact)
        if compaction is not None:
            finish_version_1(self.root, self.source, compact, compaction)
        names = [
            file.path.relative_to(self.root).as_posix()
            for days in commits.TopicReader(*self._where).read().tables.values()
            for files in days.values()
            for file in files
        ]
        log.info("%s: %s: upgrading %d files", self.source, self.topic, len(names))
        stored = [_describe_version_1(self.root, name) for name in names]
        symbols = commits.load_symbols(self.root, self.source)
        if symbols is not None:
            commits.save_symbols(self.root, self.source, symbols)
        found = start_log(*self._where, stored, old.place, old.context, number=1)
        commits.commit_path(self.root, self.source, compact).unlink(missing_ok=True)
        return found


def start_log(
    root: Path,
    source: str,
    topic: str,
    files: Iterable[StoredFile],
    place: Place,
    context: dict[str, int],
    *,
    number: int,
    generation: int = 0,
) -> Commit:
    """Writes a commit that holds `files` and nothing else, durably."""
    line = commits.manifest_line(files, ())
    path = commits.manifest_path(root, source, topic, generation)
    durable.make_folder(path.parent)
    durable.replace_file(path, line)
    mark = ManifestMark(generation, len(line), hashlib.sha256(line).hexdigest())
    commit = Commit(place, context=context, number=number, manifest=mark)
    durable.replace_file(commits.commit_path(root, source, topic), commit.to_json())
    return commit


def finish_commit(root: Path, source: str, topic: str, commit: Commit) -> None:
    """Puts every file of `commit` into place, durably.

    Raises:
        FileNotFoundError: one is neither staged nor in place, as it was written.
        OSError: the disk refuses; call again.
    """
    folders: set[Path] = set()
    for file in commit.files:
        staged = commits.staged_path(root, source, topic, commit.attempt, file.name)
        final = root / file.name
        if lake.size_of(staged) == file.size:
            durable.make_folder(final.parent)
            staged.rename(final)
        elif (size := lake.size_of(final)) != file.size:
            raise FileNotFoundError(
                f"{final}: expected {file.size} bytes, got {'no file' if size is None else size}; "
                f"nor is it staged: the rows of commit {commit.number} are not final"
            )
        folders.update((final.parent, final.parent.parent, final.parent.parent.parent))
    for folder in folders:
        durable.sync_folder(folder)


def finish_version_1(root: Path, source: str, topic: str, commit: Commit) -> None:
    """Does what a commit of version 1 promises and a crash may have left undone."""
    for file in commit.files:
        staged = root / lake.STAGING / source / topic / file.name.replace("/", "!")
        final = root / file.name
        if staged.exists():
            final.parent.mkdir(parents=True, exist_ok=True)
            staged.rename(final)
            durable.sync_folder(final.parent)
    for name in commit.removes:
        (root / name).unlink(missing_ok=True)
    shutil.rmtree(root / lake.STAGING / source / topic, ignore_errors=True)


def _describe_version_1(root: Path, name: str) -> StoredFile:
    try:
        return describe_file(root, name)
    except (pa.ArrowException, ValueError) as error:
        raise LakeError(
            f"{root / name} is damaged: {error}; `tape lake rebuild` moves it aside and stores "
            "again what the tape still holds"
        ) from error


def describe_file(root: Path, name: str) -> StoredFile:
    """Reads what a commit must know of a file that is there.

    Raises:
        OSError, pyarrow.ArrowException, ValueError: it is no whole Parquet file.
    """
    path = root / name
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    with pq.ParquetFile(path) as parquet:
        schema, rows = parquet.schema_arrow, parquet.metadata.num_rows
        metadata = parquet.metadata.metadata or {}
        version = int(metadata.get(commits.VERSION_KEY, b"1"))
    size, mark = path.stat().st_size, lake.schema_mark(schema)
    return StoredFile(name, size, rows, digest, mark, version, lake.footer_hash(path))
