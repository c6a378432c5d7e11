"""Times in the lake: SQL works on them, no nanosecond is lost, and old files still read."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import tapeworks as tw
from conftest import START, as_version_1, restate_lake
from tapeworks import lake
from tapeworks.errors import ArgumentError, LakeError
from tapeworks.sinks.commit_log import CommitLog
from tapeworks.sinks.compaction import Compaction
from tapeworks.time_columns import is_split_time
from tapeworks.views.conditions import time_condition
from tapeworks.views.times import parse_time

TOPIC = "market-data.normalized"
COUNT = 4_000


def quotes(maker, count: int):
    """A quote 3 ns before each trade of BTCUSDT's clock, ten a second."""
    ts = START + np.arange(count) * 100_000_000 - 3
    return maker.rows("quote", count, instrument=1, ts_event=ts, ts_recv=ts, sequence=ts)


@pytest.fixture
def filled(spine, maker):
    """Half of the trades and quotes in files, half on the tape; times with odd nanoseconds."""
    trades = maker.trades(COUNT)
    trades["instrument"] = 1
    trades["ts_event"] += np.arange(COUNT) % 1_000
    spine.append(maker.definitions())
    spine.append(trades[: COUNT // 2])
    spine.append(quotes(maker, COUNT)[: COUNT // 2])
    spine.drain()
    spine.append(trades[COUNT // 2 :])
    spine.append(quotes(maker, COUNT)[COUNT // 2 :])
    return spine, trades


# Each asks for one number, which must be this one. Trades lie 0.1 s apart from 23:00 on.
EXPRESSIONS = {
    "select count(distinct date_trunc('minute', ts_event)) from trades": 7,
    "select count(distinct time_bucket(interval 30 seconds, ts_event)) from trades": 14,
    "select extract(epoch from max(ts_event) - min(ts_event))::bigint from trades": 400,
    "select count(*) from (select ts_event - lag(ts_event) over (order by ts_event) as d "
    "from trades) where d between interval 99 millisecond and interval 101 millisecond": COUNT - 1,
    "select count(*) from trades where ts_event > now() - interval 1 hour": 0,
    "select count(*) from trades where ts_event < now() - interval 1 hour": COUNT,
    "select hour(min(ts_event)::timestamp) from trades": 23,
    "select hour(min(ts_event) at time zone 'America/New_York') from trades": 18,
    "select count::bigint from (summarize trades) where column_name = 'ts_event'": COUNT,
    "select count(q.ts_event) from trades t asof join quotes q "
    "on t.symbol = q.symbol and t.ts_event >= q.ts_event": COUNT,
    "select count(*) from trades where ts_event between '2023-11-17 23:00:10' "
    "and timestamptz '2023-11-17 23:00:19.999999'": 100,
    "select count(*) from trades where ts_event >= '2023-11-17 23:01:00'": COUNT - 600,
    "select count(*) from trades where extract(minute from ts_event) = 2": 600,
    "select epoch_ns(min(ts_event)) from trades": START,
    "select max(epoch_ns(ts_event) + ts_event_ns) from trades": START + 399_900_000_999,
    "select epoch_ms(min(ts_event)) from trades": START // 10**6,
    "select count(*) from generate_series(timestamptz '2023-11-17 23:00:00', "
    "timestamptz '2023-11-17 23:06:00', interval 1 minute) s(minute) "
    "join trades t on date_trunc('minute', t.ts_event) = s.minute": COUNT,
    "select max(n) from (select count(*) over (order by ts_event range between "
    "interval 1 second preceding and current row) as n from trades)": 11,
    "select epoch_ms(median(ts_event)) - epoch_ms(min(ts_event)) from trades": 199_950,
    "select count(distinct strftime(ts_event, '%Y-%m-%d %H:%M')) from trades": 7,
    "select count(*) from (select hour(ts_event) as h, count(*) from trades group by h)": 1,
    "select count(*) from trades where ts_event::date = date '2023-11-17'": COUNT,
    "select datediff('second', min(ts_event), max(ts_event)) from trades": 399,
    "select count(*) from trades where age(ts_event) > interval 1 day": COUNT,
}


@pytest.mark.parametrize("sql", EXPRESSIONS)
def test_sql_over_times_works_on_files_and_tail(filled, sql):
    # Half of the rows are in a file and half on the tape: both have the same type.
    spine, _ = filled
    [row] = tw.open(spine.path).sql(sql).to_arrow().to_pylist()
    assert [int(value) for value in row.values()] == [EXPRESSIONS[sql]]


def test_times_have_one_type_in_every_table_and_form(filled):
    # Each column of a time is microseconds of UTC with its nanoseconds right beside it.
    spine, _ = filled
    opened = tw.open(spine.path)
    for name in lake.TABLES:
        schema = opened.sql(f"select * from {name}").to_arrow().schema
        times = [field.name for field in schema if pa.types.is_timestamp(field.type)]
        assert times, name
        for time in times:
            assert is_split_time(schema, time), (name, time)
            assert schema.names[schema.get_field_index(time) + 1] == f"{time}_ns"
    frame = opened.trades().to_pandas()
    assert str(frame["ts_event"].dtype) == "datetime64[us, UTC]"
    assert frame["ts_event_ns"].dtype == "int16"


def test_no_nanosecond_is_lost(filled):
    # The records, their text and a range that begins and ends within a microsecond.
    spine, trades = filled
    opened = tw.open(spine.path)
    found = opened.trades()
    table = found.to_arrow()
    whole = np.asarray(table["ts_event"].cast(pa.int64())) * 1_000
    assert (whole + np.asarray(table["ts_event_ns"]) == trades["ts_event"]).all()
    row = found.to_pylist()[501]
    assert row["ts_event"] == "2023-11-17T23:00:50.100000501Z"
    assert "ts_event_ns" not in row
    assert "2023-11-17T23:00:00.100000001Z" in repr(found)
    first, last = int(trades["ts_event"][501]), int(trades["ts_event"][2_503])
    assert len(opened.trades(start=first, end=last)) == 2_503 - 501
    assert len(opened.trades(start=first + 1, end=last + 1)) == 2_503 - 501
    assert len(opened.trades(start=row["ts_event"], end=last)) == 2_503 - 501


def test_a_fraction_is_that_of_a_second_or_refused():
    # Python reads a fraction of a minute as one of a second, and cuts what is beyond a microsecond.
    ts = parse_time("2026-11-20T14:03:07Z")
    for text in ("20261120T140307.123456789Z", "2026-11-20 14:03:07,123456789z"):
        assert parse_time(text) == ts + 123_456_789
    assert parse_time("2026-W47-5T15:03:07.5+01:00") == ts + 500_000_000
    for text in ("2026-11-20T14:03.5", "2026-11-20T14.5", "2026-11-20T14:03:07+01:00:30.5"):
        with pytest.raises(ArgumentError, match="expected a time such as"):
            parse_time(text)


def test_a_local_time_is_not_shown_as_utc(filled):
    # A time without a zone has none in its text; the one with a zone is the same instant.
    spine, _ = filled
    [row] = (
        tw.open(spine.path)
        .sql(
            "select min(ts_event) at time zone 'America/New_York' as local, min(ts_event) as utc "
            "from trades"
        )
        .to_pylist()
    )
    assert row == {"local": "2023-11-17T18:00:00.000000", "utc": "2023-11-17T23:00:00.000000Z"}


def test_times_before_1970_are_rounded_down(spine, maker):
    # The nanoseconds are never negative, in files, on the tape and as records again.
    trades = maker.trades(4)
    trades["ts_event"] = trades["ts_recv"] = [-1_001, -1_000, -1, 0]
    trades["instrument"] = 1
    spine.append(maker.definitions())
    spine.append(trades)
    for _ in range(2):
        opened = tw.open(spine.path)
        rows = opened.sql("select ts_event, ts_event_ns from trades order by trade_id").to_arrow()
        assert rows["ts_event"].cast(pa.int64()).to_pylist() == [-2, -1, -1, 0]
        assert rows["ts_event_ns"].to_pylist() == [999, 0, 999, 0]
        spine.drain()


def to_old_files(folder: Path) -> int:
    """Rewrites the files of a lake as an earlier version wrote them: nanoseconds in one column."""
    count = 0
    for path in folder.rglob("*.parquet"):
        table = pq.ParquetFile(path).read()
        for name in [n for n in table.column_names if n.endswith("_ns")]:
            whole = table[name.removesuffix("_ns")].cast(pa.int64())
            exact = pc.add(pc.multiply(whole, 1_000), table[name].cast(pa.int64()))
            at = table.column_names.index(name.removesuffix("_ns"))
            table = table.set_column(
                at, table.column_names[at], exact.cast(pa.timestamp("ns", "UTC"))
            ).drop_columns([name])
        pq.write_table(table.replace_schema_metadata(None), path)
        count += 1
    return count


def test_files_of_an_earlier_version_are_read_and_compacted(filled, maker):
    # Old files, a new one and the tail answer together, as records too; compaction makes new ones.
    spine, trades = filled
    assert to_old_files(spine.path / "lake") > 1
    as_version_1(spine.path / "lake", spine.source, TOPIC)
    spine.drain()
    more = maker.trades(10, COUNT)
    more["instrument"], more["ts_event"] = 1, more["ts_event"] + 7
    spine.append(more)
    expected = np.concatenate([trades, more])["ts_event"].tolist()

    def seen() -> list[int]:
        table = tw.open(spine.path).trades().to_arrow()
        assert is_split_time(table.schema, "ts_recv")
        return [
            us * 1_000 + ns
            for us, ns in zip(
                table["ts_event"].cast(pa.int64()).to_pylist(),
                table["ts_event_ns"].to_pylist(),
                strict=True,
            )
        ]

    kinds = {
        pq.read_schema(path).field("ts_event").type.unit
        for path in (spine.path / "lake").rglob("trades/*/*/*.parquet")
    }
    assert kinds == {"ns", "us"}
    assert seen() == expected
    log = CommitLog(spine.path / "lake", spine.source, TOPIC)
    log.recover()
    compaction = Compaction(log, 1_000, 1)
    while compaction.step("2999-01-01"):
        pass
    [path] = (spine.path / "lake").rglob("trades/*/*/*.parquet")
    assert is_split_time(pq.read_schema(path), "ts_event")
    assert seen() == expected


def test_records_are_made_again_from_old_and_new_files(filled):
    # Replay of a lake alone gives the bytes of the tape, whatever wrote the files.
    spine, trades = filled
    spine.drain()
    spine.close()
    tape = spine.tape()
    tape.rename(tape.with_name("gone"))
    for _ in range(2):
        batches = tw.open(spine.path).replay(kinds=["trades"])
        assert b"".join(map(bytes, batches)) == trades.tobytes()
        to_old_files(spine.path / "lake")
        restate_lake(spine.path / "lake", spine.source, TOPIC)


def test_joins_are_by_a_clock_that_both_have(spine, maker):
    # Quotes without an event time carry their receipt. On this host's clock each trade meets the
    # quote that was received before it; by the event times it would meet the one of before that.
    ts = START + np.arange(10) * 10**9
    trades = maker.trades(10)
    trades["instrument"], trades["ts_event"], trades["ts_recv"] = 1, ts, ts + 5_000_001
    received = ts + 5_000_000
    rows = maker.rows("quote", 10, instrument=1, ts_event=received, ts_recv=received, flags=129)
    rows["sequence"] = np.arange(10)
    spine.append(maker.definitions())
    spine.append(rows)
    spine.append(trades)
    opened = tw.open(spine.path)
    assert opened.time_column("trades") == "ts_event"
    assert opened.time_column("trades", "quotes") == "ts_recv"
    joined = opened.asof("trades", "quotes", "BTCUSDT").to_pylist()
    assert [row["quotes_sequence"] for row in joined] == list(range(10))
    within = opened.asof("trades", "quotes", "BTCUSDT", START + 5 * 10**9).to_pylist()
    assert [row["quotes_sequence"] for row in within] == list(range(5, 10))
    spine.drain()
    assert opened.asof("trades", "quotes", "BTCUSDT").to_pylist() == joined


def test_row_groups_are_skipped_by_time(filled):
    # The bound on a time reaches the scan of the files, also where it lies within a microsecond.
    spine, _ = filled
    opened = tw.open(spine.path)
    for bound in (START + 50 * 10**9, START + 50 * 10**9 + 1):
        [where] = time_condition("ts_event", bound, None)
        sql = f"explain (format json) select count(*) from trades where {where}"
        [row] = opened.sql(sql).to_pylist()
        scan = str(row["explain_value"]).partition('"READ_PARQUET"')[2].partition("}")[0]
        assert "ts_event >= '2023-11-17 23:00:50+00'" in scan, row


def test_files_of_other_days_are_not_opened(spine, maker, tape):
    # What a range costs must not grow with the days that are held: all files but those of its day
    # are garbage, and neither a question nor an export of that day notices.
    day_ns, chosen = 86_400 * 10**9, 2
    spine.append(maker.definitions())
    for day in range(5):
        trades = maker.trades(100, 100 * day)
        trades["ts_event"] = trades["ts_recv"] = START + day * day_ns + np.arange(100)
        spine.append(trades)
    spine.drain()
    kept = lake.day_of(START + chosen * day_ns)
    others = [
        path
        for path in (spine.path / "lake" / "trades").rglob("*.parquet")
        if path.parent.name != f"date={kept}"
    ]
    assert len(others) == 4
    for path in others:
        path.write_bytes(b"\0" * path.stat().st_size)
    start, end = START + chosen * day_ns, START + chosen * day_ns + 50
    opened = tw.open(spine.path)
    ids = list(range(100 * chosen, 100 * chosen + 50))
    assert opened.trades(start=start, end=end).to_arrow()["trade_id"].to_pylist() == ids
    out = tape.folder / "part.parquet"
    tape.run("export", "trades", out, "--data", spine.path, "--from", start, "--to", end)
    assert pq.read_table(out)["trade_id"].to_pylist() == ids
    with pytest.raises(LakeError):
        opened.trades()
