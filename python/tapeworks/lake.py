"""The lake on disk: its tables, and how files are named.

    <lake>/<table>/venue=<source>/date=YYYY-MM-DD/<first>-<last>.parquet
    <lake>/_commits/<source>/                   which files count: see `commits.py`
    <lake>/_staging/<source>/<topic>/           files on their way in

`first` and `last` are the tape offsets, both inclusive, between which all rows of that table and
day are in the file.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from tapeworks import _core
from tapeworks._core import Rows, Snapshots, Symbols, TapeReader
from tapeworks.blob_rows import BlobRows
from tapeworks.dead_letters import DeadLetterRows
from tapeworks.durable import names_in
from tapeworks.errors import LakeError, TapeRangeError
from tapeworks.news import NewsRows
from tapeworks.time_columns import REST
from tapeworks.topics import ALERTS, BARS, BOOK, DEAD, GAPS, METRICS, NEWS, NORMALIZED, TICKS

COMMITS = "_commits"
STAGING = "_staging"
# Frames may be large: so many are held at once.
BLOBS_MAX = 256
NAMES = re.compile(r"(\d+)-(\d+)\.parquet")
# What DuckDB takes for a part of a pattern, unless it stands in brackets.
WILDCARD = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Table:
    """One table of the lake: which records of which topic, and how its columns are encoded."""

    name: str
    topic: str
    kind: str
    delta: tuple[str, ...] = ()
    """Columns that rise in small steps: stored as differences."""
    repeats: tuple[str, ...] = ()
    """Decimals of which the same few come again and again, far apart: stored by a dictionary, as
    all that is no decimal. Others are near the one before: written out, they compress to less."""
    drops: tuple[str, ...] = ("feed", "instrument")
    """Columns of the record that say what `venue` and `symbol` say."""
    renames: tuple[tuple[str, str], ...] = ()
    """Names that say more than those of the record."""
    doc: str = ""
    channels: tuple[tuple[str, ...], ...] = ()
    """Channels that fill the table; those of one group stand in for each other. None: not one."""
    replayed_as: str = ""
    """Its name in a replay, if its rows are whole records that the tape need not hold any more."""


# Groups of channels that stand in for each other.
TRADES, BOOKS = ("trade", "agg_trade"), ("depth", "snapshot")
# What reading a damaged Parquet file raises: Arrow's errors, and Python's of text that is none.
PARQUET_ERRORS = (OSError, pa.ArrowException, ValueError)
# Rows of an instrument without a definition are in no file and in no answer.
DEFINITIONS_ADVICE = (
    "the recorder writes those of all instruments when it starts; without it, `tape lake rebuild` "
    "looks for it in the lake"
)

SORTED = ("ts_event", "ts_recv", "sequence", "tape_offset")

TABLES = {
    table.name: table
    for table in (
        Table(
            "trades",
            NORMALIZED,
            "trade",
            delta=(*SORTED, "trade_id"),
            repeats=("size",),
            doc="every fill, or the fills of one taker order at one price (channel says which)",
            channels=(TRADES,),
            replayed_as="trades",
        ),
        Table(
            "quotes",
            NORMALIZED,
            "quote",
            delta=SORTED,
            doc="best bid and offer at every change",
            channels=(("quote",),),
            replayed_as="quotes",
        ),
        Table(
            "orders",
            NORMALIZED,
            "order",
            delta=(*SORTED, "order_id", "previous_id", "match_id"),
            repeats=("size", "remaining"),
            doc="every event of every order, of feeds that tell of single orders",
            channels=(("order",),),
            replayed_as="orders",
        ),
        Table(
            "marks",
            NORMALIZED,
            "mark",
            delta=(*SORTED, "ts_funding"),
            doc="mark price, index price and funding of derivatives",
            channels=(("mark",),),
            replayed_as="marks",
        ),
        Table(
            "statuses",
            NORMALIZED,
            "status",
            delta=SORTED,
            doc="halts, resumptions and price bands, as the venue says them",
            replayed_as="statuses",
        ),
        Table(
            "imbalances",
            NORMALIZED,
            "imbalance",
            delta=SORTED,
            doc="what an auction to come would do, as the venue says it before it",
            replayed_as="imbalances",
        ),
        Table(
            "corrections",
            NORMALIZED,
            "correction",
            delta=(*SORTED, "trade_id"),
            doc="trades that the venue cancelled or corrected later; queries of trades obey them",
            replayed_as="corrections",
        ),
        Table(
            "corporate_actions",
            NORMALIZED,
            "corporate_action",
            delta=SORTED,
            doc="splits, dividends and changes of symbols of stocks, by the day from which on",
            replayed_as="corporate_actions",
        ),
        Table(
            "venue_bars",
            NORMALIZED,
            "bar",
            delta=SORTED,
            doc="bars and rolling statistics as the venue sends them",
            channels=(("kline", "ticker"),),
            replayed_as="venue_bars",
        ),
        Table(
            "instruments",
            NORMALIZED,
            "definition",
            drops=(),
            doc="symbols, tick and lot sizes; the latest row of an instrument counts",
            replayed_as="definitions",
        ),
        Table(
            "sessions",
            NORMALIZED,
            "session",
            drops=("feed", "instrument", "cause", "channel", "count"),
            delta=SORTED,
            renames=(("first", "connection"), ("last", "line"), ("ts_start", "ts_before")),
            doc="when a recorder and its connections began and ended",
        ),
        Table(
            "subscriptions",
            NORMALIZED,
            "subscription",
            delta=SORTED,
            doc="which streams a recorder subscribed, what was refused, and what spoke",
        ),
        Table(
            "news",
            NEWS,
            "story",
            delta=SORTED,
            doc="stories as the venue told them; a later word on one amends what queries see",
        ),
        Table(
            "dead_letters",
            DEAD,
            "letter",
            delta=SORTED,
            doc="frames that could not be decoded: their bytes, and why, where and when",
        ),
        Table(
            "book_levels",
            BOOK,
            "book",
            delta=(*SORTED, "previous"),
            repeats=("price", "size"),
            doc="changes of verified books, and full books at checkpoints",
            channels=(BOOKS,),
            replayed_as="book_levels",
        ),
        Table(
            "book_markers",
            BOOK,
            "book_marker",
            delta=SORTED,
            doc="states of books, ends of full books, updates without levels",
        ),
        Table(
            "book_snapshots",
            BOOK,
            "snapshot",
            delta=SORTED,
            doc="the best 20 levels of each side; entry 1 of a list is the best",
            channels=(BOOKS,),
        ),
        Table(
            "bars",
            BARS,
            "bar",
            delta=SORTED,
            doc="bars built from trades",
            channels=(TRADES,),
            replayed_as="bars",
        ),
        Table(
            "ticks",
            TICKS,
            "tick",
            delta=SORTED,
            repeats=("volume",),
            doc="bid, ask, last price and volume, the uniform view",
            channels=(TRADES, ("quote",)),
            replayed_as="ticks",
        ),
        Table(
            "metrics",
            METRICS,
            "metric",
            delta=SORTED,
            drops=("feed", "instrument", "sequence"),
            doc="values of metrics over time, one a row; `lake.metrics` gives a column for each",
            channels=(TRADES, ("quote",)),
            replayed_as="metrics",
        ),
        Table(
            "alerts",
            ALERTS,
            "alert",
            delta=(*SORTED[:2], "ts_start"),
            renames=(("sequence", "offset"),),
            doc="each change of each alert, with its evidence; the latest row of an id counts",
            replayed_as="alerts",
        ),
        Table(
            "gaps",
            GAPS,
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
            replayed_as="gaps",
        ),
    )
}


def tables_of(topic: str) -> list[Table]:
    """Returns the tables that are fed by `topic`."""
    return [table for table in TABLES.values() if table.topic == topic]


TOPICS = tuple(dict.fromkeys(table.topic for table in TABLES.values()))


def to_table_columns(batch: pa.RecordBatch, table: Table) -> pa.RecordBatch:
    """Turns the columns of records into those of `table`."""
    renames = dict(table.renames)
    renames |= {name + REST: later + REST for name, later in table.renames}
    kept = batch.select([name for name in batch.schema.names if name not in table.drops])
    return kept.rename_columns([renames.get(name, name) for name in kept.schema.names])


def column_of(table: Table, field: str) -> str:
    """Returns what the column of a field of the record is called in `table`."""
    return dict(table.renames).get(field, field)


# Layouts that make up what `table.kind` calls otherwise.
LAYOUTS = {"snapshot": "book", "letter": "dead", "story": "news"}
BLOB_ROWS: dict[str, Callable[[], BlobRows]] = {"letter": DeadLetterRows, "story": NewsRows}


def kind_of(table: Table) -> int:
    """Returns the number of the kind of record that `table` is made of."""
    return _core.kind_of(LAYOUTS.get(table.kind, table.kind))


def row_buffer(table: Table) -> Rows | Snapshots | BlobRows:
    """Returns what gathers the rows of `table` from its tape."""
    if table.kind in BLOB_ROWS:
        return BLOB_ROWS[table.kind]()
    return Snapshots() if table.kind == "snapshot" else Rows(table.kind)


def read_rows(
    rows: Rows | Snapshots | BlobRows, reader: TapeReader, items: int, from_offset: int = 0
) -> bool:
    """Moves the next of a tape into `rows`, but none before `from_offset`; false at its end.

    What a repair gave up is passed over: it is in the gap ledger.
    """
    try:
        if isinstance(rows, BlobRows):
            blobs = reader.read_blobs(min(items, BLOBS_MAX))
            rows.extend(blobs or [], from_offset)
            return bool(blobs)
        batch = reader.read(items)
    except TapeRangeError as error:
        pass_damage(reader, error)
        return True
    if batch is not None:
        rows.extend(batch, from_offset)
    return batch is not None


def pass_damage(reader: TapeReader, error: TapeRangeError) -> None:
    """Seeks behind what a repair gave up; raises `error` if that is not what stopped `reader`."""
    if error.first <= reader.position or reader.loss_cause(reader.position) != "damage":
        raise error
    reader.seek(error.first)


def empty_rows(table: Table) -> pa.RecordBatch:
    """Returns no rows, with the columns and types of `table`."""
    return to_table_columns(pa.record_batch(row_buffer(table).arrow(Symbols(), 0, 0)), table)


def day_text(day: int) -> str:
    """Writes days since the epoch as a date."""
    return (date(1970, 1, 1) + timedelta(days=day)).isoformat()


def day_of(ts: int) -> str:
    """Returns the UTC date of `ts` ns."""
    return datetime.fromtimestamp(ts // 1_000_000_000, UTC).date().isoformat()


def file_path(table: str, source: str, day: str, first: int, last: int) -> str:
    """Returns where the rows of offsets `first` to `last` go, relative to the lake."""
    return f"{table}/venue={source}/date={day}/{first:012d}-{last:012d}.parquet"


def free_path(path: str, is_taken: Callable[[str], bool]) -> str:
    """Returns `path`, or where it is taken, a name of the same offsets with more zeros in front."""
    folder, _, name = path.rpartition("/")
    while is_taken(path):
        name = f"0{name}"
        path = f"{folder}/{name}"
    return path


def duckdb_path(path: Path) -> str:
    """Returns what DuckDB, which takes each path for a pattern, reads as `path` and nothing else.

    Raises:
        LakeError: there is no such pattern.
    """
    text = str(path.absolute())
    if not WILDCARD.search(text):
        return text
    if "\\" in text:
        raise LakeError(
            f"{text}: DuckDB cannot read a path that holds a backslash and one of * ? [ as well: "
            "rename the data folder"
        )
    return WILDCARD.sub(r"[\g<0>]", text)


@dataclass(frozen=True)
class LakeFile:
    """One file of a table: a day of a source, rows between two tape offsets."""

    path: Path
    source: str
    day: str
    first: int
    last: int
    size: int = -1
    """In bytes; -1 if no commit says it. So are the rows."""
    rows: int = -1
    schema: str = ""
    """Stands for names and types of the columns."""
    version: int = 1
    """What the columns mean: times of version 1 hold nanoseconds in one column."""
    footer: str = ""

    def covers(self, other: "LakeFile") -> bool:
        """Whether `other` was compacted into this file."""
        wider = self.last - self.first > other.last - other.first
        return wider and self.first <= other.first and other.last <= self.last


def schema_mark(schema: pa.Schema) -> str:
    """Returns what stands for names and types of `schema`, whatever is required in it."""
    text = "\n".join(f"{field.name} {plain_type(field.type)}" for field in schema)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Returns `kind` without dictionary: how values are packed is no matter of their type."""
    if pa.types.is_dictionary(kind):
        return kind.value_type
    if pa.types.is_list(kind):
        return pa.list_(plain_type(kind.value_type))
    return kind


def footer_hash(path: Path) -> str:
    """Returns the hash of the footer of a Parquet file.

    Raises:
        ValueError: it is no Parquet file.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 8))
        tail = file.read(8)
        length = int.from_bytes(tail[:4], "little") + 8
        if tail[4:] != b"PAR1" or length > size:
            raise ValueError("it does not end like a Parquet file")
        file.seek(size - length)
        return hashlib.sha256(file.read(length)).hexdigest()[:32]


def size_of(path: Path) -> int | None:
    """Returns the size of a file; none if there is no such file."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def sources(lake: Path, table: str) -> list[str]:
    """Returns the sources that have files of `table`."""
    names = names_in(lake / table)
    return [name.removeprefix("venue=") for name in names if name.startswith("venue=")]


def days(lake: Path, table: str, source: str) -> list[str]:
    """Returns the days of which `source` has files of `table`, ascending."""
    names = names_in(lake / table / f"venue={source}")
    return [name.removeprefix("date=") for name in names if name.startswith("date=")]


def files_of_day(lake: Path, table: str, source: str, day: str) -> list[LakeFile]:
    """Returns the files of a day by offset, leaving out what was compacted into another."""
    folder = lake / table / f"venue={source}" / f"date={day}"
    return without_covered(_scan(folder, source, day))


def files_on_disk(lake: Path, source: str, topic: str) -> Iterator[str]:
    """Yields the names of all Parquet files in the folders of a topic, counted or not."""
    for table in tables_of(topic):
        folder = lake / table.name / f"venue={source}"
        for day in names_in(folder):
            names = names_in(folder / day) if (folder / day).is_dir() else []
            for name in names:
                if name.endswith(".parquet"):
                    yield (folder / day / name).relative_to(lake).as_posix()


def _scan(folder: Path, source: str, day: str) -> Iterator[LakeFile]:
    for name in names_in(folder):
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
