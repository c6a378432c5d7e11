"""Questions to the lake: each row once across files and tape, exact bounds, helpful refusals."""

import os
import threading
from datetime import UTC, date, datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

import tapeworks as tw
from conftest import START
from tapeworks import _core, commits, lake
from tapeworks.errors import QueryError, SinkUnavailable
from tapeworks.sinks import commit_log
from tapeworks.sinks.parquet import ParquetConfig, ParquetPartition
from tapeworks.views.times import format_time, parse_time

TOPIC = "market-data.normalized"


@pytest.fixture
def filled(spine, maker):
    """Half of the trades in files, half on the tape."""
    spine.append(maker.definitions())
    spine.append(maker.trades(2_000))
    spine.drain()
    spine.append(maker.trades(2_000, 2_000))
    return spine


def test_files_and_tail_are_seen_as_one(filled):
    # Before and after the sink takes the tail, and with a new row in between: each row once.
    opened = tw.open(filled.path)
    assert opened.trades().to_arrow()["trade_id"].to_pylist() == list(range(4_000))
    filled.drain()
    assert opened.trades().to_arrow()["trade_id"].to_pylist() == list(range(4_000))
    counted = opened.sql("select count(*) n, sum(price * size) s from trades where price > 0")
    assert counted.to_pylist()[0]["n"] == 4_000


def test_show_tables_names_every_table(filled):
    # The first thing that anybody types. Each name that it gives can be asked for.
    names = tw.open(filled.path).sql("show tables;").to_arrow().column("name").to_pylist()
    assert "trades" in names
    assert "gaps" in names
    for name in names:
        assert tw.open(filled.path).sql(f"select count(*) from {name}").to_arrow().num_rows == 1


def test_tape_alone_is_a_lake(spine, maker):
    # Without a sink everything is answered from the tape; tables of no topic are empty.
    spine.append(maker.definitions())
    spine.append(maker.trades(100))
    opened = tw.open(spine.path)
    assert len(opened.trades("ETHUSDT")) > 0
    assert len(opened.sql("select * from ticks")) == 0


def test_range_is_half_open_and_by_symbol(filled, maker):
    # The same selection done by NumPy on the records.
    rows = np.concatenate([maker.trades(2_000), maker.trades(2_000, 2_000)])
    start, end = START + 50 * 10**9, START + 250 * 10**9
    wanted = rows[
        (rows["instrument"] == 2) & (rows["ts_event"] >= start) & (rows["ts_event"] < end)
    ]
    opened = tw.open(filled.path)
    for first, last in [
        (start, end),
        (format_time(start), format_time(end)),
        (datetime.fromtimestamp(start / 1e9, UTC), pd.Timestamp(end)),
    ]:
        found = opened.trades("ETHUSDT", first, last).to_arrow()
        assert found["trade_id"].to_pylist() == wanted["trade_id"].tolist()
    assert len(opened.trades("eth-usdt".upper(), start, end)) == len(wanted)


def test_rows_of_a_result_hold_values(filled):
    # By iteration, by index and by slice the same rows: times as datetimes, all else as Arrow has
    # it. Read back, time and rest are the very nanosecond.
    result = tw.open(filled.path).trades("BTCUSDT")
    rows = list(result)
    assert len(rows) == len(result)
    assert rows[0] == result[0]
    assert rows[-1] == result[-1]
    assert rows[5:1:-2] == result[5:1:-2]
    assert [row["price"] for row in rows] == result.to_arrow()["price"].to_pylist()
    assert rows[3]["ts_event"].tzinfo is UTC
    assert isinstance(rows[3]["price"], Decimal)
    for row, told in zip(rows, result.to_pylist(), strict=True):
        assert parse_time(row["ts_event"]) + row["ts_event_ns"] == parse_time(told["ts_event"])
    with pytest.raises(IndexError, match="expected a row below"):
        result[len(result)]


def test_rows_hold_text_where_a_time_is_no_datetime(filled):
    # DuckDB has times beyond those of Python, and of nanoseconds.
    sql = "select 'infinity'::timestamptz a, make_timestamp_ns(5) b, null::timestamptz c"
    [row] = tw.open(filled.path).sql(sql)
    assert row["a"].endswith("s since 1970")
    assert (row["b"], row["c"]) == ("1970-01-01T00:00:00.000000005", None)


def test_refusals_say_what_to_do(filled, tmp_path):
    # Each message must name what would have worked.
    opened = tw.open(filled.path)
    with pytest.raises(QueryError, match="near it are BTCUSDT"):
        opened.trades("BTCUSD")
    with pytest.raises(QueryError, match="start before end"):
        opened.trades("BTCUSDT", "2023-11-18", "2023-11-17")
    with pytest.raises(QueryError, match="expected a time"):
        opened.trades("BTCUSDT", "yesterday")
    with pytest.raises(QueryError, match="Tables of the lake: trades"):
        opened.sql("select * from trade")
    with pytest.raises(QueryError, match="source of binance-spot"):
        opened.trades(source="kraken")
    with pytest.raises(QueryError, match="tape record"):
        tw.open(tmp_path / "nothing")


def test_coverage_names_the_gaps_that_touch(filled, maker):
    # One gap of BTCUSDT, opened and then closed: one row, its latest state, only where it touches.
    topic = "market-data.gaps"
    gap = maker.rows("marker", 2, instrument=1, code=3, cause=1, channel=1, count=7)
    gap["first"], gap["last"], gap["state"] = 100, 106, [1, 2]
    gap["ts_start"], gap["ts_event"] = START + 10**9, START + 2 * 10**9
    gap["ts_recv"] = START + 3 * 10**9
    filled.append(gap, topic)
    opened = tw.open(filled.path)
    touched = opened.trades("BTCUSDT", START, START + 5 * 10**9).coverage().gaps.to_pylist()
    assert [(row["state"], row["cause"], row["missing"]) for row in touched] == [
        ("closed", "sequence", 7)
    ]
    assert len(opened.trades("ETHUSDT", START, START + 5 * 10**9).coverage().gaps) == 0
    assert len(opened.trades("BTCUSDT", START + 5 * 10**9).coverage().gaps) == 0
    filled.drain(topic)
    assert len(opened.gaps("BTCUSDT")) == 1


def test_bars_are_chosen_by_interval(spine, maker):
    # Unfinished bars are left out; a length that is not built is made of trades, of which here is
    # none.
    spine.append(maker.definitions())
    bars = maker.rows("bar", 3, instrument=1, interval_ms=60_000, channel=1, closed=[1, 1, 0])
    bars["ts_event"] = START + np.arange(3) * 60 * 10**9
    bars["close"] = [10**9, 2 * 10**9, 3 * 10**9]
    spine.append(bars, "market-data.bars")
    opened = tw.open(spine.path)
    found = opened.bars("BTCUSDT", interval="1m").to_pylist()
    assert [row["close"] for row in found] == [1, 2]
    assert len(opened.bars("BTCUSDT", interval="5m")) == 0


def test_instruments_show_the_latest_definition(filled, maker):
    # A definition that changes replaces the earlier one in this view.
    changed = maker.definitions()[:1]
    changed["tick_size"] = 10_000_000
    filled.append(changed)
    rows = tw.open(filled.path).instruments().to_pylist()
    assert [row["symbol"] for row in rows] == ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
    assert rows[0]["tick_size"] == Decimal("0.01")


def test_file_that_is_renamed_between_two_looks_is_not_missed(filled, monkeypatch):
    # A committed file lies in the staging folder (a sink was killed right there) and is renamed
    # after it was looked for in its place and before it is looked for there.
    root = filled.path / "lake"
    commit = commits.read_commit(root, filled.source, TOPIC)
    [file] = [file for file in commit.files if file.table == "trades"]
    staged = commits.staged_path(root, filled.source, TOPIC, commit.attempt, file.name)
    staged.parent.mkdir(parents=True, exist_ok=True)
    (root / file.name).rename(staged)
    look = lake.size_of

    def look_then_rename(path):
        found = look(path)
        if found is None and staged.exists():
            staged.rename(root / file.name)
        return found

    monkeypatch.setattr(lake, "size_of", look_then_rename)
    found = tw.open(filled.path).trades().to_arrow()["trade_id"].to_pylist()
    assert found == list(range(4_000))


def test_questions_stay_whole_while_the_sink_flushes(filled, maker):
    # A thread appends and flushes all the time: every answer must be ids 0 to n without a hole.
    stop = threading.Event()

    def write() -> None:
        first = 4_000
        while not stop.is_set():
            filled.append(maker.trades(200, first))
            first += 200
            filled.drain()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        opened = tw.open(filled.path)
        for _ in range(15):
            found = opened.sql(
                "select count(*) n, count(distinct trade_id) d, max(trade_id) m from trades"
            ).to_pylist()[0]
            assert found["n"] == found["d"] == found["m"] + 1
    finally:
        stop.set()
        writer.join()


def test_staged_files_of_a_killed_sink_count(filled, monkeypatch):
    # Killed between commit and rename: the rows are in the staging folder and nowhere else.
    def killed(*_: object) -> None:
        raise InterruptedError

    sink = ParquetPartition(ParquetConfig(), filled.path, filled.source, TOPIC)
    reader = _core.TapeReader(filled.tape())
    reader.seek(sink.open())
    sink.write(reader.read())
    monkeypatch.setattr(commit_log, "finish_commit", killed)
    with pytest.raises(SinkUnavailable):
        sink.flush()
    sink.close()
    opened = tw.open(filled.path)
    assert opened.trades().to_arrow()["trade_id"].to_pylist() == list(range(4_000))


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("2026-11-20", 1_795_132_800_000_000_000),
        ("2026-11-20T14:03:07.123456789Z", 1_795_183_387_123_456_789),
        ("2026-11-20 14:03:07.5", 1_795_183_387_500_000_000),
        ("2026-11-20T16:03:07+02:00", 1_795_183_387_000_000_000),
        (date(2026, 11, 20), 1_795_132_800_000_000_000),
        (datetime(2026, 11, 20), 1_795_132_800_000_000_000),
        (np.int64(1_795_183_387_123_456_789).item(), 1_795_183_387_123_456_789),
        ("1795183387123456789", 1_795_183_387_123_456_789),
    ],
)
def test_times_are_read_as_people_write_them(written, expected):
    # To the nanosecond; without a zone they are UTC.
    assert parse_time(written) == expected


def test_replay_gives_what_was_appended(filled, maker):
    # All kinds of one tape at any batch size: the bytes of the records, in order.
    expected = maker.trades(2_000).tobytes() + maker.trades(2_000, 2_000).tobytes()
    for size in (1, 7, 4_096):
        batches = tw.open(filled.path).replay(kinds=["trades"], batch_records=size)
        assert b"".join(bytes(batch) for batch in batches) == expected


def test_replay_merges_tapes_by_receive_time(filled, maker):
    # Ticks on their own tape, at times between those of the trades.
    seed = int.from_bytes(os.urandom(4))
    print("seed", seed)
    random = np.random.default_rng(seed)
    times = np.sort(START + random.integers(0, 400 * 10**9, 500))
    filled.append(maker.rows("tick", 500, instrument=1, ts_recv=times), "market-data.ticks")
    batches = tw.open(filled.path).replay(kinds=["ticks", "trades"], batch_records=64)
    rows = [np.frombuffer(bytes(b), dtype="<i8").reshape(-1, 8)[:, 2] for b in batches]
    received = np.concatenate(rows)
    assert len(received) == 4_500
    assert (np.diff(received) >= 0).all(), seed


def test_replay_keeps_symbols_and_range(filled):
    # Bounds are on the receive time, half open.
    start, end = START + 10**10, START + 10**11
    batches = tw.open(filled.path).replay(["SOLUSDT"], start, end, kinds=["trades"])
    rows = np.concatenate([batch["trades"].to_numpy() for batch in batches])
    assert set(rows["symbol"]) == {"SOLUSDT"}
    received = rows["ts_recv"].astype(np.int64)
    assert start <= received.min()
    assert received.max() < end


def test_replay_keeps_time(filled):
    # Two seconds of the past at ten times the speed take a fifth of a second, not less.
    began = datetime.now(UTC)
    batches = list(
        tw.open(filled.path).replay(None, START, START + 2 * 10**9, kinds=["trades"], speed=10)
    )
    assert len(batches) > 1
    assert 0.15 < (datetime.now(UTC) - began).total_seconds() < 5


def test_one_kind_may_be_a_text(filled):
    # A text is one kind, and not a list of letters.
    lake = tw.open(filled.path)
    one, listed = (
        b"".join(bytes(batch) for batch in lake.replay(kinds=kinds))
        for kinds in ("trades", ["trades"])
    )
    assert one == listed
    assert one


def test_replay_refuses_unknown_kinds(filled):
    # The message lists the kinds.
    with pytest.raises(QueryError, match="trades, quotes"):
        list(tw.open(filled.path).replay(kinds=["candles"]))
