"""Batches of a replay: each record with its kind, its source and its symbol, whatever is merged."""

from datetime import UTC
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

import tapeworks as tw
from conftest import START, SpineFolder
from tapeworks import _core
from tapeworks._core import Records
from tapeworks.errors import QueryError
from tapeworks.lake import TABLES
from tapeworks.views.batches import KINDS, TracedMerge

SECOND = 10**9
BARS = "market-data.bars"
NUMBERED = {"trade": "trade_id", "quote": "sequence", "bar": "sequence"}
SOURCES = {"binance-spot": "BTCUSDT", "binance-twin": "ETHUSDT"}


@pytest.fixture
def two(tmp_path, maker):
    """Two sources of one feed, whose instruments share a number; bars of the venue and of ours."""
    for at, (source, symbol) in enumerate(SOURCES.items()):
        spine = SpineFolder(tmp_path, source)
        spine.append(maker.definitions((symbol,)))
        ts = START + (2 * np.arange(40) + at) * SECOND
        kinds = []
        for place, (kind, number) in enumerate(NUMBERED.items()):
            rows = maker.rows(kind, 40, instrument=1, ts_event=ts, ts_recv=ts + place)
            rows[number] = np.arange(40) + 100 * at
            kinds.append(rows)
        records = b"".join(rows[n].tobytes() for n in range(40) for rows in kinds)
        spine.append(np.frombuffer(records, np.uint8))
        bars = maker.rows("bar", 40, instrument=1, ts_event=ts, ts_recv=ts + 3)
        bars["sequence"] = 1_000 + np.arange(40) + 100 * at
        spine.append(bars, BARS)
        spine.close()
    return tw.open(tmp_path)


def table(batches, kind):
    """Returns the records of one kind of all batches."""
    return pa.concat_tables([batch[kind].to_arrow() for batch in batches])


def test_each_record_has_kind_source_and_symbol(two):
    # In the order of receipt, though feed, number of the instrument and kind of record are those of
    # the other source or tape as well; at any size of a batch.
    kinds = ("trades", "quotes", "venue_bars", "bars")
    for size in (1, 7, 65_536):
        rows = [
            row
            for batch in two.replay(kinds=kinds, batch_records=size)
            for row in batch.to_pylist()
        ]
        assert len(rows) == 320
        received = [row["ts_recv"] for row in rows]
        assert received == sorted(received)
        for number, row in enumerate(rows):
            source = list(SOURCES)[number // 4 % 2]
            assert (row["source"], row["symbol"]) == (source, SOURCES[source])
            assert row["kind"] == kinds[number % 4] if size == 1 else row["kind"] in kinds
        ids = [row["sequence"] for row in rows if row["kind"] == "bars"]
        assert ids == [1_000 + n // 2 + 100 * (n % 2) for n in range(80)]


def test_a_batch_gives_each_kind_as_a_result(two):
    # Of both sources in order, exact, and empty where there is none; rows are those of the lake.
    batches = list(two.replay(kinds=["trades", "bars"]))
    counts = [batch.counts() for batch in batches]
    assert [sum(one.get(kind, 0) for one in counts) for kind in ("trades", "bars")] == [80, 80]
    assert repr(batches[0]).startswith(f"Batch({counts[0]['trades']} trades, ")
    trades = table(batches, "trades")
    assert trades["trade_id"].to_pylist() == [n // 2 + 100 * (n % 2) for n in range(80)]
    assert trades["source"].to_pylist() == list(SOURCES) * 40
    assert trades["symbol"].to_pylist() == list(SOURCES.values()) * 40
    stored = two.trades().to_arrow().rename_columns({"venue": "source"})
    assert trades.equals(stored.select(trades.column_names).cast(trades.schema))
    batch = batches[0]
    assert len(batch["quotes"]) == len(batch["gaps"]) == 0
    assert {"source", "symbol", "bid_price"} <= set(batch["quotes"].columns)
    assert batch.slice(3, 5).to_pylist() == batch.to_pylist()[3:5]
    with pytest.raises(QueryError, match=r"expected kinds of .*, got 'trade'; did you mean 'trad"):
        batch["trade"]


def test_every_kind_has_the_columns_of_its_table(two):
    # What is learnt of one is true of the other.
    batch = next(two.replay(kinds=["trades", "bars"]))
    for kind, known in KINDS.items():
        columns = set(batch[kind].columns)
        assert {"source", "symbol", "ts_event", "ts_recv"} <= columns or kind == "gaps"
        if known.table:
            stored = set(two.sql(f"select * from {known.table}").columns)
            assert columns - stored == {"source"}, TABLES[known.table]


def test_records_are_dictionaries_in_order(two):
    # As a callback wants them: times as datetimes, money exact.
    [batch] = two.replay("BTCUSDT", kinds=["trades", "quotes"])
    rows = list(batch)
    assert [row["kind"] for row in rows] == ["trades", "quotes"] * 40
    assert rows[0]["ts_event"].tzinfo is UTC
    assert rows[1]["ts_recv_ns"] == 1
    assert isinstance(rows[0]["price"], Decimal)


def test_a_structured_array_has_named_fields(two, spine, maker):
    # Floats and times by default, the very integers of the tape with `units`.
    spine.append(maker.definitions())
    prices = [1_500_000_000, _core.NONE, -(2**53) - 1]
    rows = maker.rows("quote", 3, instrument=1, bid_price=prices, ts_event=START + 7, flags=1)
    rows["ts_recv"] = [START, START + 1, START + 2]
    rows["ts_event"][2] = _core.NONE
    spine.append(rows)
    lake = tw.open(spine.path)
    [batch] = lake.replay(kinds=["quotes"])
    plain, exact = (batch["quotes"].to_numpy(units=units) for units in (False, True))
    assert plain.dtype.names == exact.dtype.names
    assert plain["bid_price"][[0, 2]].tolist() == [1.5, float(Decimal(prices[2]).scaleb(-9))]
    assert np.isnan(plain["bid_price"][1])
    assert exact["bid_price"].tolist() == prices
    assert exact["ts_event"].dtype == "datetime64[ns]"
    assert exact["ts_event"][:2].astype(np.int64).tolist() == [START + 7] * 2
    assert np.isnat(exact["ts_event"]).tolist() == [False, False, True]
    assert exact["symbol"].tolist() == ["BTCUSDT"] * 3
    assert "ts_event_ns" not in plain.dtype.names
    wide = lake.sql("select 1.5::decimal(38,17) * 2 as x, [1.5] as y, null::int as z").to_numpy()
    assert wide["x"].tolist() == [3.0]
    assert np.isnan(wide["z"][0])
    large = lake.sql(f"select {2**70}::decimal(38,0) as x, null::varchar as y").to_numpy(units=True)
    assert large["x"].tolist() == [2**70]
    assert large["y"].tolist() == [""]


def test_a_merge_tells_the_stream_of_each_record(maker):
    # Against the records themselves, which name their stream: late ones, ties, absent times, and
    # streams that run dry at any time. The seed is shown by a failure.
    random = np.random.default_rng(seed := 7)
    for _ in range(50):
        streams, count = int(random.integers(1, 5)), int(random.integers(1, 30))
        merge, given, told = TracedMerge(streams), [], []
        left = [int(random.integers(0, 40)) for _ in range(streams)]
        while True:
            while (dry := merge.wanting()) is not None:
                size = min(left[dry], int(random.integers(1, 9)))
                left[dry] -= size
                rows = maker.rows("trade", size, instrument=dry)
                rows["ts_recv"] = random.choice([*range(20), _core.NONE], size)
                merge.push(dry, Records.from_bytes(rows.tobytes()) if size else None)
            records, which = merge.take(count)
            if not len(records):
                break
            words = np.frombuffer(memoryview(records), "<u4").reshape(-1, 16)
            given += words[:, 1].tolist()
            told += which.tolist()
        assert told == given, seed


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"speed": 0}, "expected speed to be a number above 0, got 0"),
        ({"speed": float("nan")}, "got nan"),
        ({"speed": float("inf")}, "got inf"),
        ({"speed": "2"}, "got '2'"),
        ({"batch_records": 0}, "expected batch_records to be a number above 0, got 0"),
        ({"kinds": []}, "expected kinds of .*, got none"),
        ({"start": ["trades"]}, "expected a time such as"),
    ],
)
def test_what_no_replay_can_be_is_refused_at_once(two, more, told):
    # Not when the first batch is asked for.
    with pytest.raises(QueryError, match=told):
        two.replay(**more)
