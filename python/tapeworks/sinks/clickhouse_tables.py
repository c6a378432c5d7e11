"""The tables of ClickHouse: how they are made, and records as what they take.

A table is ordered by symbol and time, and cut by month, so that a server has few parts. Rows that
amend others are in tables that keep the row of the highest offset of each key. Each insert is on
the disk before it is confirmed.
"""

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, wait
from dataclasses import dataclass
from functools import cache, partial

import pyarrow as pa
import pyarrow.compute as pc

from tapeworks._core import Records, Symbols
from tapeworks.sinks.store_tables import TABLES, StoreTable

PLACES, CLAIMS = "places", "claims"
# Tokens that a table remembers: of the inserts of about three hours at one a second.
WINDOW = 10_000
DURABLE = (
    "fsync_after_insert = 1, fsync_part_directory = 1, "
    f"non_replicated_deduplication_window = {WINDOW}"
)
CLAIM_DAYS = 30
TIME = "DateTime64(9, 'UTC')"
PLACE_COLUMNS = "tape Nullable(String), fingerprint Nullable(String), owner String, at " + TIME


def statements(database: str, topics: Sequence[str]) -> list[str]:
    """Returns what makes all tables and columns that are not there."""
    made = [
        f"create database if not exists `{database}`",
        f"create table if not exists `{database}`.{PLACES} (source String, topic String, "
        f"tape_offset UInt64, {PLACE_COLUMNS}) engine = ReplacingMergeTree(tape_offset) "
        f"order by (source, topic) settings {DURABLE}",
        f"create table if not exists `{database}`.{CLAIMS} (source String, topic String, "
        f"first UInt64, end UInt64, split String, tables String, {PLACE_COLUMNS}) "
        "engine = MergeTree order by (source, topic, first) "
        f"ttl toDateTime(at) + toIntervalDay({CLAIM_DAYS}) settings {DURABLE}",
        f"alter table `{database}`.{CLAIMS} add column if not exists tables String",
    ]
    for table in TABLES:
        if table.topic in topics:
            made += _table(database, table)
    return made


def ttl_statements(
    database: str, topics: Sequence[str], ttl_days: int, engines: Mapping[str, str]
) -> list[str]:
    """Returns what gives the tables their TTL, or takes the one away that they were given.

    `engines` are those of the tables, whole, as the server writes them in `engine_full`. A TTL of
    another form is the operator's, such as one that moves old rows to another disk: without
    `ttl_days` it stays.
    """
    made = []
    for table in TABLES:
        if table.topic not in topics or not table.by_day:
            continue
        name, time = f"`{database}`.{table.name}", table.time[0]
        if ttl_days:
            ttl = f"toDateTime({time}) + toIntervalDay({ttl_days})"
            made.append(f"alter table {name} modify ttl {ttl}")
            continue
        ours = rf" TTL toDateTime\({time}\) \+ toIntervalDay\(\d+\)( SETTINGS |$)"
        if re.search(ours, engines.get(table.name, "")):
            made.append(f"alter table {name} remove ttl")
    return made


def _table(database: str, table: StoreTable) -> list[str]:
    name = f"`{database}`.{table.name}"
    columns = ", ".join(f"{column} {kind}" for column, kind in types_of(table).items())
    time = table.time[0]
    if table.key:
        # The time last: what is asked for is a series.
        key = [column for column in table.key if column != time]
        engine = "ReplacingMergeTree(id)"
        order = [*key, time] if time in table.key else key
    else:
        engine, order = "MergeTree", ["symbol", time, "provider", "id"]
    cut = f"partition by toYYYYMM({time}) " if table.by_day else ""
    text = (
        f"create table if not exists {name} ({columns}) engine = {engine} {cut}"
        f"order by ({', '.join(order)}) settings {DURABLE}"
    )
    made = [text]
    for column, kind in types_of(table).items():
        made.append(f"alter table {name} add column if not exists {column} {kind}")
    return made


@cache
def types_of(table: StoreTable) -> dict[str, str]:
    """Returns the columns of a table, each with its type."""
    columns = pa.record_batch(Records.from_bytes(b"").arrow(table.kind, Symbols(), offsets=True))
    found = {column.name: column.type for column in columns.schema}
    types = {}
    for column in (*table.whole_time_columns, table.time[0]):
        field = table.field_of(column) if column != table.time[0] else table.time[1]
        is_main = column in (table.time[0], "id", *table.key)
        types[column] = _type_of(found.get(field, pa.string()), is_main=is_main)
    return types


def _type_of(kind: pa.DataType, *, is_main: bool) -> str:
    if pa.types.is_timestamp(kind):
        return f"{TIME} codec(DoubleDelta, ZSTD)" if is_main else f"Nullable({TIME}) codec(ZSTD)"
    if pa.types.is_decimal(kind):
        return f"Nullable(Decimal({kind.precision}, {kind.scale})) codec(ZSTD)"
    if pa.types.is_float64(kind):
        return "Nullable(Float64) codec(ZSTD)"
    if pa.types.is_uint32(kind) and not is_main:
        return "Nullable(UInt32) codec(ZSTD)"
    if pa.types.is_unsigned_integer(kind):
        codec = "Delta, ZSTD" if is_main else "ZSTD"
        return f"UInt{kind.bit_width} codec({codec})"
    return "LowCardinality(String)"


def rows_of(
    table: StoreTable,
    batches: list[Records],
    symbols: Symbols,
    provider: str,
    instruments: list[int] | None,
    *,
    pool: Executor | None = None,
) -> tuple[pa.Table, list[int]]:
    """Returns the records of `batches` as rows, and the offsets of those that lack their time.

    With `pool`, one of its threads does a part of it.

    Raises:
        LookupError: one of them has no symbol.
    """
    encode = partial(_part, table, symbols=symbols, provider=provider, instruments=instruments)
    if pool is None or len(batches) < 2:
        found = list(map(encode, batches))
    else:
        # Most of it is done without the GIL: half of it beside the other half.
        middle = len(batches) // 2
        rest = pool.submit(lambda: list(map(encode, batches[middle:])))
        try:
            found = list(map(encode, batches[:middle]))
        finally:
            wait([rest])
        found += rest.result()
    parts = [part for part in found if part is not None]
    if not parts:
        return pa.table({}), []
    rows = pa.concat_tables(parts).unify_dictionaries()
    timeless = pc.is_null(rows[table.time[0]])
    refused = rows.filter(timeless)["id"].to_pylist()
    return (rows.filter(pc.invert(timeless)) if refused else rows), refused


def _part(
    table: StoreTable,
    batch: Records,
    symbols: Symbols,
    provider: str,
    instruments: list[int] | None,
) -> pa.Table | None:
    found = pa.record_batch(batch.arrow(table.kind, symbols, offsets=True))
    if instruments is not None:
        wanted = pa.array(instruments, pa.uint32())
        found = found.filter(pc.is_in(found["instrument"], value_set=wanted))
    if not found.num_rows:
        return None
    unknown = pc.and_(pc.is_null(found["symbol"]), pc.not_equal(found["instrument"], 0))
    if found["symbol"].null_count and pc.any(unknown).as_py():
        number = found.filter(unknown)["instrument"][0].as_py()
        raise LookupError(f"instrument {number} has no definition")
    return _columns(table, found, provider)


def _columns(table: StoreTable, found: pa.RecordBatch, provider: str) -> pa.Table:
    columns = {}
    for column in (*table.whole_time_columns, table.time[0]):
        field = table.field_of(column) if column != table.time[0] else table.time[1]
        if field == "provider":
            numbers = pa.repeat(pa.scalar(0, pa.int8()), found.num_rows)
            columns[column] = pa.DictionaryArray.from_arrays(numbers, [provider])
        elif f"{field}_ns" in found.schema.names:
            whole = pc.multiply(found[field].cast(pa.int64()), 1_000)
            nanoseconds = pc.add(whole, found[f"{field}_ns"].cast(pa.int64()))
            columns[column] = nanoseconds.cast(pa.timestamp("ns", "UTC"))
        else:
            columns[column] = found[field]
    return pa.table(columns)


@dataclass(frozen=True)
class Block:
    """Rows of one table in the format `ArrowStream`, and the offsets that cannot be rows."""

    columns: list[str]
    content: pa.Buffer | None
    """None: there are no rows."""
    refused: list[int]


def block_of(
    table: StoreTable,
    batches: list[Records],
    symbols: Symbols,
    provider: str,
    instruments: list[int] | None,
    *,
    compression: str | None,
    pool: Executor,
) -> Block:
    """Makes one block of `batches`; raises as `rows_of`."""
    rows, refused = rows_of(table, batches, symbols, provider, instruments, pool=pool)
    if not rows.num_rows:
        return Block([], None, refused)
    target = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(target, rows.schema, options=options) as writer:
        writer.write_table(rows.combine_chunks())
    return Block(rows.column_names, target.getvalue(), refused)
