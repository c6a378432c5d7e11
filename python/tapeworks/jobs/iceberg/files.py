"""Data files of Iceberg tables, made of files of the lake without unpacking a page.

A file of the lake is copied byte for byte, compared with the hash in the lake's commit, and gets a
footer behind it that gives columns their ids, and integers the types that Iceberg has. Where that
is not enough, its rows are written once more in front of it: a number of 32 bits without a sign
that needs all of them, hashes, which are decimals in the table, and files of an earlier version of
the lake. A number beyond 63 bits that is no hash is refused by name.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.io.pyarrow import (
    MetricModeTypes,
    MetricsMode,
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
    parquet_path_to_id_mapping,
    schema_to_pyarrow,
)
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table import Table as IcebergTable
from pyiceberg.typedef import Record

from tapeworks import commits
from tapeworks._core import NONE
from tapeworks.commits import StoredFile
from tapeworks.errors import LakeError
from tapeworks.jobs.iceberg.hours import GROUP_ROWS, HOURS, cut
from tapeworks.jobs.iceberg.tables import HASH, is_sorted
from tapeworks.lake import Table, day_text, plain_type
from tapeworks.parquet_footer import MAGIC, TAIL_BYTES, footer_size, with_ids
from tapeworks.published import PublishedFile, Store
from tapeworks.tape import UNKNOWN
from tapeworks.time_columns import split_times

INT_MAX = {32: 2**31 - 1, 64: 2**63 - 1}
EPOCH = date(1970, 1, 1)
DAY_NS = 86_400_000_000_000
# The days of the least and the greatest time: those of rows whose time is not known.
UNDATED = frozenset(day_text(ts // DAY_NS) for ts in (UNKNOWN, NONE))


class DoesNotFit(LakeError):
    """A value, or a file, has no place in an Iceberg table; the message names it."""


@dataclass(frozen=True)
class Publication:
    """One file of the lake on its way into a table."""

    path: Path
    stored: StoredFile
    published: PublishedFile
    hours: tuple[str, ...] | None = None
    """Of a table that is cut by the hour, which hours of it are published."""
    is_cut: bool = False
    """Whether it has rows of other hours as well."""


def publish_file(
    store: Store, table: IcebergTable, kind: Table, one: Publication
) -> list[DataFile]:
    """Makes the data files of a file of the lake that are not there; returns what names them.

    Raises:
        LakeError: the file of the lake is damaged.
        DoesNotFit: it cannot be in the table.
        OSError: the store does not take it, or the file was merged away.
    """
    # Files of the lake never change once named; the map keeps one that is merged away meanwhile.
    content = memoryview(pa.memory_map(str(one.path)).read_buffer())
    if hashlib.sha256(content).hexdigest() != one.stored.sha256:
        raise LakeError(
            f"{one.path} is damaged: it is not what was written: see `tape lake verify`"
        )
    return [
        _publish(store, table, kind, replace(one, published=published), part)
        for published, part in _parts(content, kind, one)
    ]


def _parts(
    content: memoryview, kind: Table, one: Publication
) -> Iterator[tuple[PublishedFile, memoryview]]:
    """Yields what a file is published as: itself, or its rows of each hour that is published."""
    if one.hours is None or not one.is_cut:
        [hour] = one.hours or ("",)
        yield replace(one.published, hour=hour), content
        return
    for part in cut(content, kind, one.hours):
        made = replace(
            one.published,
            hour=part.hour,
            first=part.first,
            last=part.last,
            size=len(part.content),
            sha256=hashlib.sha256(part.content).hexdigest(),
            origin=one.published.sha256,
        )
        yield made, part.content


def _publish(
    store: Store, table: IcebergTable, kind: Table, one: Publication, content: memoryview
) -> DataFile:
    front, footer = _around(content, one, table)
    size = len(front) + len(content) + len(footer)
    path = f"{store.path_of(table.location())}/{one.published.name}"
    # Objects and renamed files are whole, and the name stands for what they hold.
    if store.size(path) != size:
        store.write(path, [front, content, footer])
    return _data_file(f"{store.location}/{path}", size, footer, table, kind, one)


def _around(content: memoryview, one: Publication, table: IcebergTable) -> tuple[bytes, bytes]:
    """Returns what comes before the file of the lake, and the footer that comes behind it."""
    with pq.ParquetFile(pa.BufferReader(pa.py_buffer(content))) as opened:
        missing = [name for name in opened.schema_arrow.names if not _has(table, name)]
        if missing and one.stored.version >= commits.TABLE_VERSION:
            raise DoesNotFit(f"{one.path}: the table has no column {', '.join(missing)}")
        is_other = one.stored.version < commits.TABLE_VERSION or _has_hashes(table)
        if _has_large(opened, one, table) or is_other:
            return _again(opened, table)
    size = footer_size(bytes(content[-TAIL_BYTES:]))
    footer = with_ids(bytes(content[-size:-TAIL_BYTES]), ids_of(table))
    return b"", footer + len(footer).to_bytes(4, "little") + MAGIC


def _has_hashes(table: IcebergTable) -> bool:
    return any(one.field_type == HASH for one in table.schema().fields)


def _has(table: IcebergTable, name: str) -> bool:
    return any(one.name == name for one in table.schema().fields)


def ids_of(table: IcebergTable) -> Mapping[str, int]:
    """Returns the ids of columns, and of elements of lists, by their path in a Parquet file."""
    groups = {one.name: one.field_id for one in table.schema().fields}
    return groups | parquet_path_to_id_mapping(table.schema())


def _has_large(opened: pq.ParquetFile, one: Publication, table: IcebergTable) -> bool:
    """Whether a number of 32 bits needs all of them.

    Raises:
        DoesNotFit: one of 64 bits does.
    """
    unknown, has_large = [], False
    for field in opened.schema_arrow:
        if not pa.types.is_unsigned_integer(field.type) or field.type.bit_width < 32:
            continue
        if table.schema().find_field(field.name).field_type == HASH:
            continue
        most = _most_of_statistics(opened, field.name)
        if most is None:
            unknown.append(field.name)
        else:
            has_large |= _is_large(most, field, one)
    if unknown:
        for number in range(opened.num_row_groups):
            group = opened.read_row_group(number, columns=unknown)
            for name in unknown:
                most = pc.max(group[name]).as_py()
                has_large |= most is not None and _is_large(most, group.schema.field(name), one)
    return has_large


def _is_large(most: int, field: pa.Field, one: Publication) -> bool:
    width = field.type.bit_width
    if most > INT_MAX[64]:
        raise DoesNotFit(
            f"{one.path}: {field.name} is up to {most}, and Iceberg has no integer beyond "
            f"{INT_MAX[64]}"
        )
    return bool(most > INT_MAX[width])


def _most_of_statistics(opened: pq.ParquetFile, name: str) -> int | None:
    """Returns the greatest value that the footer tells of a column; none if it does not."""
    at = next(
        at for at in range(opened.metadata.num_columns) if opened.schema.column(at).path == name
    )
    most = -1
    for number in range(opened.metadata.num_row_groups):
        column = opened.metadata.row_group(number).column(at)
        found = column.statistics
        if found is None:
            return None
        if found.has_min_max:
            most = max(most, int(found.max))
        elif found.null_count != column.num_values:
            return None
    return most


def _again(opened: pq.ParquetFile, table: IcebergTable) -> tuple[bytes, bytes]:
    """Writes the rows once more, with the types of the table; returns their pages and footer.

    The pages stand at the front of the file, as their footer counts from there.
    """
    rows = split_times(opened.read())
    schema = schema_to_pyarrow(table.schema(), include_field_ids=True)
    schema = pa.schema([schema.field(name) for name in rows.schema.names if _has(table, name)])
    columns = [
        rows[field.name].cast(plain_type(rows.schema.field(field.name).type)).cast(field.type)
        for field in schema
    ]
    target = pa.BufferOutputStream()
    with pq.ParquetWriter(target, schema, compression="zstd", store_schema=False) as writer:
        writer.write_table(pa.table(columns, schema=schema), row_group_size=GROUP_ROWS)
    whole = target.getvalue().to_pybytes()
    cut = len(whole) - footer_size(whole[-TAIL_BYTES:])
    return whole[:cut], whole[cut:]


def _data_file(
    path: str, size: int, footer: bytes, table: IcebergTable, kind: Table, one: Publication
) -> DataFile:
    metadata = pq.read_metadata(pa.BufferReader(MAGIC + footer))
    ids = parquet_path_to_id_mapping(table.schema())
    plan = compute_statistics_plan(table.schema(), table.properties)
    first = metadata.row_group(0)
    for at in range(metadata.num_columns):
        if not first.column(at).is_stats_set:
            # The lake keeps statistics of those columns alone by which queries skip.
            field_id = ids[first.column(at).path_in_schema]
            plan[field_id] = replace(plan[field_id], mode=MetricsMode(MetricModeTypes.NONE))
    statistics = data_file_statistics_from_parquet_metadata(
        parquet_metadata=metadata, stats_columns=plan, parquet_column_mapping=ids
    )
    return DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=path,
        file_format=FileFormat.PARQUET,
        partition=Record(one.published.source, _period(one)),
        file_size_in_bytes=size,
        sort_order_id=table.sort_order().order_id if is_sorted(kind) else None,
        spec_id=table.spec().spec_id,
        equality_ids=None,
        key_metadata=None,
        **statistics.to_serialized_dict(),
    )


def _period(one: Publication) -> int | None:
    """Returns the day or the hour that a data file is of, since 1970; none: of no time."""
    if one.published.day in UNDATED:
        return None
    day = (date.fromisoformat(one.published.day) - EPOCH).days
    if one.hours is None:
        return day
    return day * HOURS + int(one.published.hour) if one.published.hour else None
