"""Writes one table as Parquet: which column is encoded how, and which has statistics.

Every page has a checksum, and the hash of the whole file is taken while it is written, so that a
commit can name it at no further reading.
"""

import hashlib
import inspect
import itertools
import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tapeworks import commits, lake
from tapeworks.commits import StoredFile
from tapeworks.lake import Table

# Columns by which queries skip: statistics of the others would cost a fifth of the writing.
STATISTICS = {"symbol", "price", "interval_ms", *lake.SORTED}
# Where a dictionary grows beyond this, plain values are written from there on: numbers that hardly
# repeat would cost five times the time in it, and be a third larger.
DICTIONARY_BYTES_MAX = 128 << 10
# Pages end by their size alone, as each takes a compressor of its own. Releases of pyarrow that
# cannot end a page by its rows have no such option.
_PAGE_ROWS = "max_rows_per_page"
_PAGES: dict[str, Any] = (
    {_PAGE_ROWS: 1 << 20} if _PAGE_ROWS in inspect.signature(pq.ParquetWriter).parameters else {}
)


class UnexpectedNulls(Exception):
    """A batch has absent values in columns of which the file promises none."""

    def __init__(self, columns: set[str]) -> None:
        super().__init__(f"absent values in {', '.join(sorted(columns))}")
        self.columns = columns


class HashedFile:
    """A new file of which size and hash are known when it is closed; then it is also durable."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._digest = hashlib.sha256()
        self.size = 0

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._file.closed

    @property
    def sha256(self) -> str:
        """The hash of everything that was written."""
        return self._digest.hexdigest()

    def write(self, data: Any) -> int:
        """Appends `data`."""
        view = memoryview(data).cast("B")
        written = 0
        while written < len(view):
            written += self._file.write(view[written:])
        self._digest.update(view)
        self.size += len(view)
        return len(view)

    def tell(self) -> int:
        """Returns how many bytes were written."""
        return self.size

    def flush(self) -> None:
        """Hands everything to the system."""
        self._file.flush()

    def close(self) -> None:
        """Makes the file durable, and closes it."""
        if not self._file.closed:
            try:
                self._file.flush()
                os.fsync(self._file.fileno())
            finally:
                self._file.close()

    def abandon(self) -> None:
        """Closes the file without a promise."""
        self._file.close()


def write_table_file(
    path: Path,
    name: str,
    batches: Iterable[pa.RecordBatch],
    schema: pa.Schema,
    table: Table,
    *,
    level: int,
    tape: str | None,
) -> StoredFile:
    """Writes `batches` as the file that is to be called `name`; returns what a commit says of it.

    Raises:
        UnexpectedNulls: in columns that `schema` calls required; what was written is of no use.
        OSError: the disk refuses.
    """
    metadata = {
        commits.VERSION_KEY: str(commits.TABLE_VERSION).encode(),
        commits.TAPE_KEY: (tape or "").encode(),
    }
    rows, batches = 0, iter(batches)
    first = next(batches, None)
    uniform = set() if first is None else uniform_columns(first)
    file = HashedFile(path)
    try:
        writer = FileWriter(file, schema.with_metadata(metadata), table, level, uniform)
        for batch in batches if first is None else itertools.chain([first], batches):
            writer.write(batch)
            rows += batch.num_rows
        writer.close()
        file.close()
    finally:
        file.abandon()
    mark = lake.schema_mark(schema)
    known = name, file.size, rows, file.sha256, mark
    return StoredFile(*known, footer=lake.footer_hash(path))


class FileWriter:
    """Writes batches of one table as Parquet, each as one row group.

    Columns that `schema` calls required take a fifth less time to encode, and readers need not look
    for absent values in them. Those that are `uniform` are written as plain values: to look each up
    in a dictionary would take twice the time, and they compress to nothing all the same. So are
    decimals that are near the one before: they compress to less, and nothing is looked up.
    """

    def __init__(
        self, file: Any, schema: pa.Schema, table: Table, level: int, uniform: Collection[str]
    ) -> None:
        paths = {field.name: _leaf(field) for field in schema}
        delta = [name for name in table.delta if name in paths]
        near = {field.name for field in schema if _is_decimal(field)} - {*table.repeats}
        plain = {*delta, *uniform, *near}
        self._schema = schema
        self._writer = pq.ParquetWriter(
            file,
            schema,
            compression="zstd",
            compression_level=level,
            use_dictionary=[p for name, p in paths.items() if name not in plain],
            dictionary_pagesize_limit=DICTIONARY_BYTES_MAX,
            column_encoding=dict.fromkeys(delta, "DELTA_BINARY_PACKED"),
            write_page_index=True,
            write_page_checksum=True,
            write_statistics=[path for name, path in paths.items() if name in STATISTICS],
            **_PAGES,
        )

    def write(self, batch: pa.RecordBatch) -> None:
        """Adds a row group.

        Raises:
            UnexpectedNulls: in columns that the schema calls required; nothing was added.
        """
        absent = columns_with_absent(batch)
        broken = {name for name in absent if not self._schema.field(name).nullable}
        if broken:
            raise UnexpectedNulls(broken)
        batch = pa.RecordBatch.from_arrays(batch.columns, schema=self._schema)
        self._writer.write_batch(batch, row_group_size=max(1, batch.num_rows))

    def close(self) -> None:
        """Writes the footer."""
        self._writer.close()


def columns_with_absent(batch: pa.RecordBatch) -> set[str]:
    """Returns the names of the columns of `batch` in which a value is absent."""
    return {
        field.name
        for field, column in zip(batch.schema, batch.columns, strict=True)
        if column.null_count
    }


def uniform_columns(batch: pa.RecordBatch) -> set[str]:
    """Returns the names of the columns of integers in which all values of `batch` are the same."""
    found = set()
    for field, column in zip(batch.schema, batch.columns, strict=True):
        if pa.types.is_integer(field.type) and not column.null_count:
            ends = pc.min_max(column).as_py()
            if ends["min"] == ends["max"]:
                found.add(field.name)
    return found


def with_required(schema: pa.Schema, nullable: Collection[str]) -> pa.Schema:
    """Returns `schema` in which all columns but `nullable` are required."""
    return pa.schema([field.with_nullable(field.name in nullable) for field in schema])


def _is_decimal(field: pa.Field) -> bool:
    kind = field.type.value_type if pa.types.is_list(field.type) else field.type
    return bool(pa.types.is_decimal(kind))


def _leaf(field: pa.Field) -> str:
    return f"{field.name}.list.element" if pa.types.is_list(field.type) else field.name
