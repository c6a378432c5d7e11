"""The audit: every way in which a table can differ from its tape is seen and counted."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import check_exact, restate_lake
from tapeworks import _core
from tapeworks.sinks.commit_log import CommitLog
from tapeworks.sinks.compaction import Compaction
from tapeworks.views.audit import TableAudit, audit

TOPIC = "market-data.normalized"


@pytest.fixture
def stored(spine, maker):
    """Two files of trades, all that is on the tape; some values are absent."""
    spine.append(maker.definitions())
    for first in (0, 1_000):
        rows = maker.trades(1_000, first)
        rows["ts_event"][::50] = _core.NONE
        rows["price"][::70] = _core.NONE
        spine.append(rows)
        spine.drain(row_group_rows=300)
    return spine


def found(spine, table: str = "trades") -> TableAudit:
    [one] = [one for one in audit(spine.path) if one.table == table]
    return one


def rewrite(spine, change) -> None:
    """Replaces the first file of trades by what `change` makes of it, as if it were committed."""
    root = spine.path / "lake"
    path = sorted((root / "trades").rglob("*.parquet"))[0]
    pq.write_table(change(pq.ParquetFile(path).read()), path)
    restate_lake(root, spine.source, TOPIC)


def with_value(rows: pa.Table, name: str, at: int, value: object) -> pa.Table:
    values = rows[name].to_pylist()
    values[at] = value
    index = rows.schema.get_field_index(name)
    field = rows.schema.field(name).with_nullable(True)
    return rows.set_column(index, field, pa.array(values, field.type))


def test_whole_lake_is_exact_before_and_after_a_merge(stored):
    # The second table that is fed by the tape, too.
    for _ in range(2):
        assert found(stored) == TableAudit(stored.source, "trades", 2_000, 2_000, 0, 0)
        check_exact(stored.path)
        log = CommitLog(stored.path / "lake", stored.source, TOPIC)
        log.recover()
        work = Compaction(log, 300, 1)
        while work.step("2999-01-01"):
            pass


def test_foreign_row_is_seen(stored):
    # The number of rows is right: one has an offset that the tape does not hold.
    rewrite(stored, lambda rows: with_value(rows, "tape_offset", 7, 999_999))
    one = found(stored)
    assert (one.stored, one.lost, one.foreign, one.exact) == (2_000, 1, 1, False)


def test_doubled_row_and_lost_row_are_both_seen(stored):
    # The number of rows is right: one is there twice, another is not.
    def change(rows):
        return with_value(rows, "tape_offset", 7, rows["tape_offset"][8].as_py())

    rewrite(stored, change)
    one = found(stored)
    assert (one.stored, one.lost, one.duplicated, one.exact) == (2_000, 1, 1, False)


@pytest.mark.parametrize("name", ["price", "symbol", "ts_event", "side", "trade_id", "size"])
def test_changed_value_is_seen(stored, name):
    # One value of one row, by another of the same column, or by none.
    def change(rows):
        values = rows[name].to_pylist()
        other = next(value for value in values if value != values[3])
        return with_value(rows, name, 3, other)

    rewrite(stored, change)
    one = found(stored)
    assert (one.lost, one.duplicated, one.foreign, one.changed) == (0, 0, 0, 1)
    assert not one.exact


def test_value_that_became_absent_is_seen(stored):
    # A null is not like any value, nor like a column that is not there.
    rewrite(stored, lambda rows: with_value(rows, "size", 3, None))
    assert found(stored).changed == 1
    rewrite(stored, lambda rows: rows.drop_columns(["size"]))
    assert found(stored).changed == 1_000


def test_tops_of_books_are_compared(spine, maker):
    # Rows that are composed of many records each.
    topic = "market-data.book"
    spine.append(maker.definitions())
    spine.drain(row_group_rows=300)
    begin = maker.rows("marker", 1, instrument=1, ts_event=5, code=1, channel=5)
    end = maker.rows("marker", 1, instrument=1, ts_event=6, code=2, channel=5)
    levels = maker.rows("level", 4, instrument=1, ts_event=6, channel=5, size=7)
    levels["price"], levels["side"] = [10, 9, 11, 12], [1, 1, 2, 2]
    for part in (begin, levels, end, begin, levels[:2]):
        spine.append(part, topic)
    spine.drain(topic, row_group_rows=300)
    for part in (levels[2:], end):
        spine.append(part, topic)
    spine.drain(topic, row_group_rows=300)
    one = found(spine, "book_snapshots")
    assert (one.recorded, one.stored, one.exact) == (2, 2, True)
