"""What a Parquet file holds, whatever the order of its rows: their number and a sum over them.

Every row is hashed over all columns, as they are after names and types are those of `schema`; the
sum of the hashes does not depend on the order of the rows, nor on how values are packed. Memory is
bounded by one batch, which is small where values are large.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from tapeworks import lake
from tapeworks.errors import LakeError
from tapeworks.time_columns import split_times

BATCH_ROWS = 65_536
BATCH_BYTES = 32 << 20
HASH_BYTES = 4 << 20


@dataclass(frozen=True)
class RowSum:
    """Number of rows, and the sum of their hashes."""

    rows: int = 0
    total: int = 0

    def __add__(self, other: "RowSum") -> "RowSum":
        return RowSum(self.rows + other.rows, self.total + other.total)


def go_on() -> None:
    """Is called between pieces of long work; one that raises instead ends the work."""


def hash_of(file: BinaryIO, check: Callable[[], None] = go_on) -> str:
    """Returns the hash of what is left of an open file."""
    digest = hashlib.sha256()
    while piece := file.read(HASH_BYTES):
        check()
        digest.update(piece)
    return digest.hexdigest()


def sum_file(
    path: Path, sha256: str, schema: pa.Schema, check: Callable[[], None] = go_on
) -> RowSum:
    """Sums the rows of a file whose bytes have the hash `sha256`, and whose pages are whole.

    Raises:
        LakeError: it holds other bytes, or cannot be read.
    """
    with path.open("rb") as file:
        if hash_of(file, check) != sha256:
            raise LakeError(f"{path}: its bytes are not those that were written")
        file.seek(0)
        try:
            return _sum_rows(file, schema, check)
        except lake.PARQUET_ERRORS as error:
            raise LakeError(f"{path} cannot be read: {error}") from error


def _sum_rows(file: BinaryIO, schema: pa.Schema, check: Callable[[], None]) -> RowSum:
    plain = pa.schema([(field.name, lake.plain_type(field.type)) for field in schema])
    names = ", ".join(f'"{name}"' for name in plain.names)
    found = RowSum()
    with duckdb.connect() as engine:
        engine.execute("set timezone = 'UTC'; set threads = 1")
        for batch in batches_of(file, check):
            rows = fit(batch, plain)
            [(total,)] = engine.from_arrow(rows).aggregate(f"sum(hash({names}))").fetchall()
            found += RowSum(rows.num_rows, total or 0)
    return found


def batches_of(file: BinaryIO | Path, check: Callable[[], None] = go_on) -> Iterator[pa.Table]:
    """Yields the rows of a Parquet file in bounded pieces; every page is checked."""
    with pq.ParquetFile(file, page_checksum_verification=True) as parquet:
        for at in range(parquet.metadata.num_row_groups):
            group = parquet.metadata.row_group(at)
            row_bytes = group.total_byte_size // max(1, group.num_rows)
            size = max(1, min(BATCH_ROWS, BATCH_BYTES // max(1, row_bytes)))
            for batch in parquet.iter_batches(size, [at], use_threads=False):
                check()
                yield pa.Table.from_batches([batch])


def fit(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Returns `rows` with the columns of `schema`: absent where there are none, as wide as there.

    Times that hold nanoseconds in one column, as in files of before, become two.
    """
    rows = split_times(rows)
    columns = [
        rows[field.name].cast(field.type)
        if field.name in rows.column_names
        else pa.nulls(rows.num_rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)
