"""The lake on disk: its tables, how files are named, and what says that a file counts.

    <lake>/<table>/venue=<source>/date=YYYY-MM-DD/<first>-<last>.parquet
    <lake>/_commits/<source>/<topic>.json       up to which tape offset the files hold all
    <lake>/_staging/<source>/<topic>/           files on their way in

`first` and `last` are the tape offsets, both inclusive, between which all rows of that table and
day are in the file. A file whose range lies within that of another one beside it was compacted
into it. The commit is replaced in one atomic step; files that it lists are renamed into place
after it, so a reader that misses one finds it in the staging folder.
"""

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from tapeworks import _core
from tapeworks._core import Rows, Snapshots, Symbols, TapeReader
from tapeworks.errors import TapeworksError
from tapeworks.letters import Letters
from tapeworks.time_columns import REST

COMMITS = "_commits"
STAGING = "_staging"
# Frames may be large: so many are held at once.
BLOBS_MAX = 256
COMMIT_VERSION = 1
NAMES = re.compile(r"(\d+)-(\d+)\.parquet")


@dataclass(frozen=True)
class Table:
    """One table of the lake: which records of which topic, and how its columns are encoded."""

    name: str
    topic: str
    kind: str
    delta: tuple[str, ...] = ()
    """Columns that rise in small steps: stored as differences. All others get a dictionary."""
    drops: tuple[str, ...] = ("feed", "instrument")
    """Columns of the record that say what `venue` and `symbol` say."""
    renames: tuple[tuple[str, str], ...] = ()
    """Names that say more than those of the record."""
    doc: str = ""


SORTED = ("ts_event", "ts_recv", "sequence", "tape_offset")
# Context of a commit: files from this tape offset on have such columns. Those of before, or of a
# lake without it, may hold nanoseconds in one column instead.
SPLIT_FROM = "split_from"

TABLES = {
    table.name: table
    for table in (
        Table(
            "trades",
            "market-data.normalized",
            "trade",
            delta=(*SORTED, "trade_id"),
            doc="every fill, or the fills of one taker order at one price (channel says which)",
        ),
        Table(
            "quotes",
            "market-data.normalized",
            "quote",
            delta=SORTED,
            doc="best bid and offer at every change",
        ),
        Table(
            "marks",
            "market-data.normalized",
            "mark",
            delta=(*SORTED, "ts_funding"),
            doc="mark price, index price and funding of derivatives",
        ),
        Table(
            "venue_bars",
            "market-data.normalized",
            "bar",
            delta=SORTED,
            doc="bars and rolling statistics as the venue sends them",
        ),
        Table(
            "instruments",
            "market-data.normalized",
            "definition",
            drops=(),
            doc="symbols, tick and lot sizes; the latest row of an instrument counts",
        ),
        Table(
            "dead_letters",
            "market-data.dead",
            "letter",
            delta=SORTED,
            doc="frames that could not be decoded: their bytes, and why, where and when",
        ),
        Table(
            "book_levels",
            "market-data.book",
            "book",
            delta=(*SORTED, "previous"),
            doc="changes of proven books, and full books at checkpoints",
        ),
        Table(
            "book_markers",
            "market-data.book",
            "book_marker",
            delta=SORTED,
            doc="states of books, ends of full books, updates without levels",
        ),
        Table(
            "book_snapshots",
            "market-data.book",
            "snapshot",
            delta=SORTED,
            doc="the best 20 levels of each side; entry 1 of a list is the best",
        ),
        Table(
            "bars",
            "market-data.bars",
            "bar",
            delta=SORTED,
            doc="bars built from trades",
        ),
        Table(
            "ticks",
            "market-data.ticks",
            "tick",
            delta=SORTED,
            doc="bid, ask, last price and volume, the uniform view",
        ),
        Table(
            "gaps",
            "market-data.gaps",
            "gap",
            renames=(
                ("ts_start", "ts_from"),
                ("ts_event", "ts_to"),
                ("ts_recv", "ts_detected"),
                ("first", "first_missing"),
                ("last", "last_missing"),
                ("count", "missing"),
            ),
            doc="what was lost: cause, range in sequence and time, detection, state",
        ),
    )
}


def tables_of(topic: str) -> list[Table]:
    """Returns the tables that are fed by `topic`."""
    return [table for table in TABLES.values() if table.topic == topic]


TOPICS = tuple(dict.fromkeys(table.topic for table in TABLES.values()))


def shape(batch: pa.RecordBatch, table: Table) -> pa.RecordBatch:
    """Turns the columns of records into those of `table`."""
    renames = dict(table.renames)
    renames |= {name + REST: later + REST for name, later in table.renames}
    kept = batch.select([name for name in batch.schema.names if name not in table.drops])
    return kept.rename_columns([renames.get(name, name) for name in kept.schema.names])


def column_of(table: Table, field: str) -> str:
    """Returns what the column of a field of the record is called in `table`."""
    return dict(table.renames).get(field, field)


# Layouts of `_core` whose name is not that of their kind.
KINDS = {
    "gap": "marker",
    "book": "level",
    "book_marker": "marker",
    "snapshot": "level",
    "letter": "marker",
}


def kind_of(table: Table) -> int:
    """Returns the number of the kind of record that `table` is made of."""
    number: int = getattr(_core, f"KIND_{KINDS.get(table.kind, table.kind).upper()}")
    return number


def gatherer(table: Table) -> Rows | Snapshots | Letters:
    """Returns what gathers the rows of `table` from its tape."""
    if table.kind == "letter":
        return Letters()
    return Snapshots() if table.kind == "snapshot" else Rows(table.kind)


def take(
    rows: Rows | Snapshots | Letters, reader: TapeReader, items: int, from_offset: int = 0
) -> bool:
    """Moves the next of a tape into `rows`, but none before `from_offset`; false at its end."""
    if isinstance(rows, Letters):
        blobs = reader.read_blobs(min(items, BLOBS_MAX))
        rows.extend(blobs or [], from_offset)
        return bool(blobs)
    batch = reader.read(items)
    if batch is not None:
        rows.extend(batch, from_offset)
    return batch is not None


def empty_rows(table: Table) -> pa.RecordBatch:
    """Returns no rows, with the columns and types of `table`."""
    return shape(pa.record_batch(gatherer(table).arrow(Symbols(), 0, 0)), table)


def day_text(day: int) -> str:
    """Writes days since the epoch as a date."""
    return (date(1970, 1, 1) + timedelta(days=day)).isoformat()


def day_of(ts: int) -> str:
    """Returns the UTC date of `ts` ns."""
    return datetime.fromtimestamp(ts // 1_000_000_000, UTC).date().isoformat()


def file_path(table: str, source: str, day: str, first: int, last: int) -> str:
    """Returns where the rows of offsets `first` to `last` go, relative to the lake."""
    return f"{table}/venue={source}/date={day}/{first:012d}-{last:012d}.parquet"


@dataclass(frozen=True)
class LakeFile:
    """One file of a table: a day of a source, rows between two tape offsets."""

    path: Path
    source: str
    day: str
    first: int
    last: int

    def covers(self, other: "LakeFile") -> bool:
        """Whether `other` was compacted into this file."""
        wider = self.last - self.first > other.last - other.first
        return wider and self.first <= other.first and other.last <= self.last


@dataclass(frozen=True)
class Commit:
    """What one sink has made final: all offsets below `offset`, in `files` and earlier ones."""

    offset: int = 0
    files: tuple[str, ...] = ()
    removes: tuple[str, ...] = ()
    context: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> str:
        """Writes the commit as text."""
        return json.dumps(
            {
                "version": COMMIT_VERSION,
                "offset": self.offset,
                "files": self.files,
                "removes": self.removes,
                "context": self.context,
            }
        )


def commit_path(lake: Path, source: str, topic: str) -> Path:
    """Returns where the commit of a topic lies."""
    return lake / COMMITS / source / f"{topic}.json"


def staging_path(lake: Path, source: str, topic: str, file: str) -> Path:
    """Returns where `file`, relative to the lake, lies until it is renamed into place."""
    return lake / STAGING / source / topic / file.replace("/", "!")


def read_commit(lake: Path, source: str, topic: str) -> Commit:
    """Reads the last commit, or one of nothing.

    Raises:
        TapeworksError: a newer version wrote it.
    """
    path = commit_path(lake, source, topic)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Commit()
    if found["version"] > COMMIT_VERSION:
        raise TapeworksError(
            f"{path} has version {found['version']}; this build reads up to {COMMIT_VERSION}: "
            "update Tapeworks to read it"
        )
    return Commit(
        int(found["offset"]),
        tuple(found["files"]),
        tuple(found["removes"]),
        dict(found["context"]),
    )


def publish(lake: Path, source: str, topic: str, commit: Commit) -> None:
    """Makes `commit` the last one: atomic, and durable when it returns. `settle` must follow.

    The files of `commit` must be whole and synced in the staging folder.
    """
    staging = lake / STAGING / source / topic
    if commit.files:
        sync_folder(staging)
    path = commit_path(lake, source, topic)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, commit.to_json().encode())


def settle(lake: Path, source: str, topic: str, commit: Commit) -> None:
    """Does what `commit` promises and a crash may have left undone."""
    folders: set[Path] = set()
    for file in commit.files:
        staged, final = staging_path(lake, source, topic, file), lake / file
        if staged.exists():
            final.parent.mkdir(parents=True, exist_ok=True)
            staged.rename(final)
            folders.update((final.parent, final.parent.parent, final.parent.parent.parent))
    for folder in folders:
        sync_folder(folder)
    for file in commit.removes:
        (lake / file).unlink(missing_ok=True)


def recover(lake: Path, source: str, topic: str) -> Commit:
    """Finishes the last commit, removes what no commit covers, and returns the commit."""
    commit = read_commit(lake, source, topic)
    settle(lake, source, topic, commit)
    shutil.rmtree(lake / STAGING / source / topic, ignore_errors=True)
    return commit


def write_file(path: Path, data: bytes) -> None:
    """Replaces `path` in one atomic and durable step."""
    aside = path.with_name(path.name + ".new")
    with aside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    aside.rename(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes the names in `folder` survive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sources(lake: Path, table: str) -> list[str]:
    """Returns the sources that have files of `table`."""
    folders = sorted((lake / table).glob("venue=*"))
    return [folder.name.removeprefix("venue=") for folder in folders]


def days(lake: Path, table: str, source: str) -> list[str]:
    """Returns the days of which `source` has files of `table`, ascending."""
    folders = sorted((lake / table / f"venue={source}").glob("date=*"))
    return [folder.name.removeprefix("date=") for folder in folders]


def files_of_day(lake: Path, table: str, source: str, day: str) -> list[LakeFile]:
    """Returns the files of a day by offset, leaving out what was compacted into another."""
    folder = lake / table / f"venue={source}" / f"date={day}"
    return without_covered(_scan(folder, source, day))


def _scan(folder: Path, source: str, day: str) -> Iterator[LakeFile]:
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return
    for name in names:
        match = NAMES.fullmatch(name)
        if match:
            yield LakeFile(folder / name, source, day, int(match[1]), int(match[2]))


def without_covered(files: Iterable[LakeFile]) -> list[LakeFile]:
    """Leaves out files whose range lies within that of another."""
    # By first offset, widest first: whatever is covered comes after what covers it.
    kept: list[LakeFile] = []
    for file in sorted(files, key=lambda file: (file.first, -file.last)):
        if not kept or not kept[-1].covers(file):
            kept.append(file)
    return kept
