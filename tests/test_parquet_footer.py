"""Footers with another schema: what a reader sees is the same, under the types and ids given."""

import io
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tapeworks import lake
from tapeworks.parquet_footer import MAGIC, TAIL_BYTES, footer_of, footer_size, with_ids
from tapeworks.sinks.writer import FileWriter

ROWS = 40


def column(kind: pa.DataType) -> pa.Array:
    """Values of a type, one in seven absent."""
    if pa.types.is_list(kind):
        return pa.array([[Decimal("7.5"), None]] * ROWS, kind)
    if pa.types.is_decimal(kind):
        return pa.array([None if at % 7 == 0 else Decimal(at) / 8 for at in range(ROWS)], kind)
    if pa.types.is_dictionary(kind):
        return pa.array([None if at % 7 == 0 else str(at % 3) for at in range(ROWS)]).cast(kind)
    if pa.types.is_binary(kind) or pa.types.is_string(kind):
        return pa.array([str(at) for at in range(ROWS)]).cast(kind)
    absent = np.arange(ROWS) % 7 == 0
    values = pa.array(np.arange(ROWS) % 100, mask=absent)
    return values.cast(pa.int64()).cast(kind)


@pytest.mark.parametrize("name", ["trades", "bars", "book_snapshots", "dead_letters"])
def test_pages_under_another_footer_have_the_same_values(name):
    # Two row groups of a table as the lake writes them. Behind them comes a second footer: all
    # values are the same, integers are plain, ids are those that were given, Arrow's note is gone.
    table = lake.TABLES[name]
    schema = lake.empty_rows(table).schema
    batch = pa.RecordBatch.from_arrays([column(one.type) for one in schema], schema=schema)
    file = io.BytesIO()
    writer = FileWriter(file, schema, table, 1, set())
    writer.write(batch)
    writer.write(batch)
    writer.close()
    whole = file.getvalue()
    ids = {}
    for at, one in enumerate(schema, 100):
        ids[one.name] = at
        if pa.types.is_list(one.type):
            ids[f"{one.name}.list.element"] = 1_000 + at
    footer = with_ids(footer_of(whole[-footer_size(whole) :]), ids)
    again = whole + footer + len(footer).to_bytes(4, "little") + MAGIC
    assert len(again) - footer_size(again[-TAIL_BYTES:]) == len(whole)
    before, after = pq.read_table(io.BytesIO(whole)), pq.read_table(io.BytesIO(again))
    for name in schema.names:
        kind = after.schema.field(name).type
        assert not pa.types.is_unsigned_integer(kind)
        assert not pa.types.is_dictionary(kind)
        assert after[name].equals(before[name].cast(lake.plain_type(before[name].type)).cast(kind))
        assert after.schema.field(name).metadata[b"PARQUET:field_id"] == str(ids[name]).encode()
    assert b"ARROW:schema" not in pq.read_metadata(io.BytesIO(again)).metadata
    with pytest.raises(KeyError):
        with_ids(footer_of(whole), dict(list(ids.items())[1:]))


def test_what_is_no_footer_is_refused():
    # Every cut of a footer, and an end that is no end.
    file = io.BytesIO()
    pq.write_table(pa.table({"a": [1]}), file)
    footer = footer_of(file.getvalue())
    for cut in range(1, len(footer)):
        with pytest.raises((ValueError, IndexError)):
            with_ids(footer[:cut], {"a": 1})
    with pytest.raises(ValueError, match="does not end like a Parquet file"):
        footer_of(b"PAR1 and more")
