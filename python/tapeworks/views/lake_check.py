"""Whether the lake is as its commits say: every file that counts is there, unchanged, and no other.

Reads every byte. A sink may go on writing meanwhile: what it replaces is not a fault.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq

from tapeworks import commits, lake
from tapeworks.commits import Live, StoredFile, TopicReader
from tapeworks.config import SOURCE_NAME
from tapeworks.durable import names_in
from tapeworks.errors import LakeError, TapeError
from tapeworks.tape import check_place, open_tape

CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class LakeFault:
    """One thing that is not as it should be."""

    path: str
    reason: str


@dataclass
class LakeReport:
    """What was found of one topic of one source."""

    source: str
    topic: str
    files: int = 0
    rows: int = 0
    bytes: int = 0
    faults: list[LakeFault] = field(default_factory=list)

    def add(self, path: Path | str, reason: str) -> None:
        """Adds a fault."""
        self.faults.append(LakeFault(str(path), reason))


def sources(root: Path) -> list[str]:
    """Returns the sources of which the lake holds a commit or a file."""
    folder = root / lake.COMMITS
    names = {name for name in names_in(folder) if SOURCE_NAME.fullmatch(name)}
    names = {name for name in names if (folder / name).is_dir()}
    for table in lake.TABLES:
        names.update(lake.sources(root, table))
    return sorted(names)


def verify_lake(data: Path) -> Iterator[LakeReport]:
    """Reads all files of the lake of a data folder; yields a report for each topic of a source."""
    root = data / "lake"
    for source in sources(root):
        for topic in lake.TOPICS:
            report = _verify_topic(data, source, topic)
            if topic == lake.TOPICS[0]:
                _verify_symbols(root, source, report)
            if report.files or report.faults:
                yield report


def _verify_topic(data: Path, source: str, topic: str) -> LakeReport:
    root, report = data / "lake", LakeReport(source, topic)
    reader = TopicReader(root, source, topic)
    try:
        state = reader.read()
    except LakeError as error:
        report.add(commits.commit_path(root, source, topic), str(error))
        return report
    if state.commit is None:
        return report
    if state.commit.version == 1:
        for name in lake.files_on_disk(root, source, topic):
            _verify_version_1(root / name, report)
        return report
    for stored in state.live.values():
        reason = _fault_of(root, source, topic, state.commit, stored)
        # A sink may have replaced it since.
        if reason and stored.name in reader.read().live:
            report.add(root / stored.name, reason)
        report.files, report.rows = report.files + 1, report.rows + stored.rows
        report.bytes += stored.size
    _find_strangers(root, source, topic, state.live, report)
    _verify_place(data, source, topic, state.commit, report)
    return report


def _fault_of(
    root: Path, source: str, topic: str, commit: commits.Commit, stored: StoredFile
) -> str | None:
    staged = commits.staged_path(root, source, topic, commit.attempt, stored.name)
    for path in (root / stored.name, staged, root / stored.name):
        try:
            size, digest = _read(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            return f"cannot be read: {error}"
        if size != stored.size:
            return f"expected {stored.size} bytes, got {size}"
        if digest != stored.sha256:
            return "its bytes are not those that were written: the hash differs"
        return None
    return "missing"


def _read(path: Path) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return size, digest.hexdigest()


def _verify_version_1(path: Path, report: LakeReport) -> None:
    """Reads a file of which no hash is known: that it can be read is all that is verified."""
    try:
        with pq.ParquetFile(path) as file:
            for at in range(file.metadata.num_row_groups):
                file.read_row_group(at, use_threads=False)
            report.rows += file.metadata.num_rows
    except lake.PARQUET_ERRORS as error:
        report.add(path, f"cannot be read: {error}")
    report.files, report.bytes = report.files + 1, report.bytes + (lake.size_of(path) or 0)


def _find_strangers(root: Path, source: str, topic: str, live: Live, report: LakeReport) -> None:
    found = [name for name in lake.files_on_disk(root, source, topic) if name not in live]
    if not found:
        return
    try:
        # A file that was committed or replaced since the state was read is none.
        now = TopicReader(root, source, topic).read()
    except LakeError:
        return
    going = now.commit.removes if now.commit is not None else ()
    for name in found:
        if name not in now.live and name not in going and (root / name).exists():
            report.add(root / name, "in no commit: other readers of the folder count its rows")


def _verify_place(
    data: Path, source: str, topic: str, commit: commits.Commit, report: LakeReport
) -> None:
    tape = data / "tape" / source / topic
    try:
        reader = open_tape(tape)
        if reader is not None:
            check_place(reader, commit.place)
    except (TapeError, OSError) as error:
        report.add(tape, str(error))


def _verify_symbols(root: Path, source: str, report: LakeReport) -> None:
    path = commits.commit_folder(root, source) / commits.SYMBOLS_FILE
    try:
        # Every definition is a row as well: without one there are no symbols to be saved.
        is_needed = source in lake.sources(root, "instruments")
        if commits.load_symbols(root, source) is None and is_needed:
            report.add(path, "missing")
    except LakeError as error:
        report.add(path, str(error))
