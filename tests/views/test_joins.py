"""Joins by time: no row meets what came after it, neither in `asof` nor in the SQL of the docs."""

import itertools
import re
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

import tapeworks as tw
from conftest import ROOT, START, RecordMaker, SpineFolder
from tapeworks import _core
from tapeworks.errors import QueryError
from tapeworks.views.times import parse_time

SECOND = 10**9
DAY = 86_400 * SECOND
SEED = 7
# Quotes and trades by turns: on the tape each trade stands between two quotes.
ROUNDS = 50


@pytest.fixture
def read_at_once(spine, maker):
    """A tape of which ten rows at a time came by one read: they have one receive time."""
    spine.append(maker.definitions())
    received = START + np.arange(2 * ROUNDS) // 10 * SECOND + 7
    quotes = maker.rows("quote", ROUNDS, instrument=1, flags=129, sequence=np.arange(ROUNDS))
    quotes["ts_event"] = quotes["ts_recv"] = received[::2]
    trades = maker.rows("trade", ROUNDS, instrument=1, flags=1, sequence=np.arange(ROUNDS))
    trades["ts_event"], trades["ts_recv"] = received[1::2] - 1_000, received[1::2]
    for quote, trade in zip(quotes, trades, strict=True):
        spine.append(quote)
        spine.append(trade)
    return tw.open(spine.path)


def test_no_row_meets_one_of_the_same_read_that_came_after_it(read_at_once):
    # Each trade meets the quote just before it, not the last of what one read brought.
    joined = read_at_once.asof("trades", "quotes").to_pylist()
    assert [row["quotes_sequence"] for row in joined] == list(range(ROUNDS))
    assert all(row["quotes_tape_offset"] < row["tape_offset"] for row in joined)
    # And each quote the trade before it: the first has none.
    back = read_at_once.asof("quotes", "trades").to_pylist()
    assert [row["trades_sequence"] for row in back] == [None, *range(ROUNDS - 1)]


def test_the_sql_of_the_docs_gives_the_same(read_at_once):
    # What is shown to be copied must not look ahead either.
    text = (ROOT / "docs/formats/lake.md").read_text()
    [shown] = [sql for sql in re.findall(r"```sql\n(.*?)```", text, re.S) if "asof" in sql]
    found = read_at_once.sql(f"select * from ({shown}) order by tape_offset").to_pylist()
    joined = read_at_once.asof("trades", "quotes").to_pylist()
    assert [row["ask_price"] for row in found] == [row["quotes_ask_price"] for row in joined]
    assert [row["tape_offset"] for row in found] == [row["tape_offset"] for row in joined]
    assert [row["quote_offset"] for row in found] == [row["quotes_tape_offset"] for row in joined]


def test_by_the_time_of_the_venue_a_row_of_the_same_instant_is_not_before(spine, maker):
    # A venue's time is in ms: which of two rows of one came first is not known.
    spine.append(maker.definitions())
    ts = START + np.array([0, 10, 20]) * 10**6
    rows = maker.rows("quote", 3, instrument=1, flags=1, ts_event=ts, ts_recv=ts + 5)
    rows["sequence"] = [1, 2, 3]
    spine.append(rows)
    spine.append(maker.rows("trade", 3, instrument=1, flags=1, ts_event=ts, ts_recv=ts + 9))
    lake = tw.open(spine.path)
    assert lake.time_column("trades", "quotes") == "ts_event"
    joined = lake.asof("trades", "quotes").to_pylist()
    assert [row["quotes_sequence"] for row in joined] == [None, 1, 2]
    received = lake.asof("trades", "quotes", clock="receipt").to_pylist()
    assert [row["quotes_sequence"] for row in received] == [1, 2, 3]
    # The name of a column is no clock: silently, it was that of the venue.
    for ask in (
        lambda: lake.asof("trades", "quotes", clock="ts_recv"),
        lambda: lake.trades_and_quotes("BTCUSDT", clock="Event"),
        lambda: lake.book("BTCUSDT", clock="ts_event"),
    ):
        with pytest.raises(tw.QueryError, match=r"clock: expected 'event' .*'receipt'"):
            ask()


@pytest.mark.parametrize("clock", ["event", "receipt"])
def test_of_rows_of_one_instant_the_last_on_the_tape_is_met(spine, maker, clock):
    # A venue's time is in ms. Each trade meets the last of seven quotes, or ticks, of the ms before
    # it, also where a vector of DuckDB (2,048 rows) ends among them; half of them are in the lake.
    count = 7 * 2_048 * 4
    ms = START + np.arange(count) // 7 * 10**6
    kind, table = ("quote", "quotes") if clock == "event" else ("tick", "ticks")
    topic = "market-data.normalized" if clock == "event" else "market-data.ticks"
    rows = maker.rows(kind, count, instrument=1, flags=1, ts_event=ms, ts_recv=ms)
    rows["sequence"] = np.arange(count)
    trades = maker.rows("trade", count // 7, instrument=1, flags=1)
    trades["ts_event"] = trades["ts_recv"] = ms[::7] + 10**6
    spine.append(maker.definitions())
    spine.append(rows[: count // 2], topic)
    spine.drain()
    if clock == "receipt":
        spine.drain(topic)
    spine.append(rows[count // 2 :], topic)
    spine.append(trades)
    met = tw.open(spine.path).asof("trades", table, clock=clock)
    assert met[f"{table}_sequence"].to_pylist() == list(range(6, count, 7))


@pytest.fixture(scope="module")
def months(tmp_path_factory):
    """Trades and quotes of three symbols, random, thick and thin, over seventy days."""
    spine, maker = SpineFolder(tmp_path_factory.mktemp("months") / "data"), RecordMaker()
    spine.append(maker.definitions())
    random = np.random.default_rng(SEED)
    # The last symbol has a quote on the first day alone; of three, one is received a day late.
    for days in (range(2), range(69, 71)):
        for day in days:
            for kind, count in (("trade", 40), ("quote", 60)):
                ts = START + day * DAY + np.sort(random.integers(0, 5, count)) * 15 * SECOND
                rows = maker.rows(kind, count, flags=1, ts_event=ts, ts_recv=ts)
                rows["instrument"] = random.integers(1, 3 if kind == "quote" and day else 4, count)
                rows["ts_recv"] += random.integers(0, 2, count) * DAY * (day % 3 == 0)
                rows["sequence"] = np.arange(count) + day * 1_000
                spine.append(rows)
        if 0 in days:
            spine.drain()
    return tw.open(spine.path)


@pytest.mark.parametrize("clock", ["event", "receipt"])
@pytest.mark.parametrize("left", ["trades", "quotes"])
def test_a_range_is_joined_as_it_is_within_all(months, left, clock):
    # The row that is met may be a month before the range, or in it, or received after it.
    print("seed", SEED)
    random = np.random.default_rng(SEED)
    right = "quotes" if left == "trades" else "trades"
    every = months.asof(left, right, clock=clock)
    rows = every.to_pylist()
    for symbols in (None, ["ETHUSDT", "SOLUSDT"]):
        for _ in range(2):
            day = int(random.choice([0, 1, 69, 70, 75]))
            start = START + day * DAY + int(random.integers(-10, 80)) * SECOND
            end = start + int(random.choice([10, 60, 2 * 86_400])) * SECOND
            for first, last in ((start, end), (start, None), (None, end)):
                found = months.asof(left, right, symbols, first, last, clock=clock)
                assert found.to_pylist() == [
                    row
                    for row in rows
                    if (symbols is None or row["symbol"] in symbols)
                    and (first is None or parse_time(row["ts_event"]) >= first)
                    and (last is None or parse_time(row["ts_event"]) < last)
                ]
                assert found.to_arrow().schema == every.to_arrow().schema


@pytest.mark.parametrize("clock", ["event", "receipt"])
def test_a_range_reads_nothing_that_it_cannot_meet(spine, maker, clock):
    # The rows of the day before are made unreadable: they are not read.
    spine.append(maker.definitions())
    ts = START + np.arange(20_000) * 10 * SECOND
    rows = maker.rows("quote", len(ts), instrument=1, flags=1, ts_event=ts, ts_recv=ts)
    rows["sequence"] = np.arange(len(ts))
    spine.append(rows)
    spine.append(maker.rows("trade", 1, instrument=1, flags=1, ts_event=ts[-5], ts_recv=ts[-5]))
    spine.drain()
    files = sorted((spine.path / "lake" / "quotes").rglob("*.parquet"))
    assert len(files) == 4
    for path in files[:-1]:
        content = path.read_bytes()
        footer = 8 + int.from_bytes(content[-8:-4], "little")
        path.write_bytes(bytes(len(content) - footer) + content[-footer:])
    lake = tw.open(spine.path)
    met = lake.asof("trades", "quotes", "BTCUSDT", ts[-5], ts[-1], clock=clock)
    # The quote of the trade's own instant came first on the tape.
    assert met["quotes_sequence"].to_pylist() == [len(ts) - (6 if clock == "event" else 5)]


def test_a_bar_is_met_when_it_is_finished(spine, maker):
    # A bar has the time of its start, at which nobody knew its close.
    spine.append(maker.definitions())
    ts = START + np.arange(300) * SECOND
    spine.append(maker.rows("trade", 300, instrument=1, flags=1, ts_event=ts, ts_recv=ts))
    starts = START + np.arange(4) * 60 * SECOND
    bars = maker.rows("bar", 4, instrument=1, ts_event=starts, interval_ms=60_000, closed=1)
    bars["ts_recv"] = starts + 60 * SECOND
    spine.append(bars, "market-data.bars")
    lake = tw.open(spine.path)
    assert lake.time_column("trades", "bars_1m") == "ts_recv"
    joined = lake.asof("trades", "bars_1m").to_pylist()
    # The trade of the very instant might be what finished it.
    assert [row["bars_1m_ts_recv"] for row in joined[:61]] == [None] * 61
    first = lake.bars("BTCUSDT").to_pylist()[0]
    assert joined[61]["bars_1m_ts_event"] == first["ts_event"]
    with pytest.raises(QueryError, match="such as bars_1m"):
        lake.asof("trades", "bars")
    with pytest.raises(QueryError, match="before it was finished"):
        lake.asof("trades", "bars_1m", clock="event")


def test_tables_without_flags_can_be_joined(read_at_once, spine, maker):
    # Tops of books have none, and have a tape of their own: one of the same instant is not before.
    for number in (2, 5):
        edges = maker.rows("marker", 2, instrument=1, code=[1, 2], channel=5)
        level = maker.rows("level", 1, instrument=1, channel=5, price=number, size=7, side=1)
        for rows in (edges[:1], level, edges[1:]):
            rows["ts_event"] = rows["ts_recv"] = START + number * SECOND + 7
            spine.append(rows, "market-data.book")
    joined = read_at_once.asof("trades", "book_snapshots", clock="receipt").to_pylist()
    tops = [row["book_snapshots_bid_price"] for row in joined]
    first, second = [[Decimal(number).scaleb(-9)] for number in (2, 5)]
    # Five trades have each second.
    assert tops == [None] * 15 + [first] * 15 + [second] * 20


def test_trades_and_quotes_are_side_by_side(read_at_once):
    # As `asof` joins them, with the names that one looks for, and what is missing of both.
    lake = read_at_once
    joined = lake.asof("trades", "quotes").to_arrow()
    found = lake.trades_and_quotes("BTCUSDT")
    for name in ("bid_price", "bid_size", "ask_price", "ask_size"):
        assert found[name] == joined[f"quotes_{name}"]
    for name in ("price", "size", "ts_recv_ns", "tape_offset"):
        assert found[name] == joined[name]
    assert found["quote_ts_recv"] == joined["quotes_ts_recv"]
    assert not [name for name in found.columns if name.startswith("quotes_")]
    start, end = START + 2 * SECOND, START + 5 * SECOND
    within = lake.trades_and_quotes("BTC-USDT", start, end)
    assert list(within) == [
        row for row in found if start <= row["ts_event"].timestamp() * SECOND < end
    ]
    assert 0 < len(within) < len(found)
    assert "2023-11-17T23:00:02Z to 2023-11-17T23:00:05Z" in within.coverage().summary()[0]


def test_what_is_missing_behind_the_row_that_is_met_is_told(spine, maker):
    # Trades each second; one quote before them, none for fifty seconds of which a gap is known: a
    # later trade meets a quote that may not be the last.
    spine.append(maker.definitions())
    quote = maker.rows("quote", 1, instrument=1, flags=1, ts_event=START, ts_recv=START)
    spine.append(quote)
    ts = START + np.arange(1, 100) * SECOND
    end = spine.append(maker.rows("trade", 99, instrument=1, flags=1, ts_event=ts, ts_recv=ts))
    gap = maker.rows("marker", 1, instrument=1, code=3, cause=1, state=2, count=9)
    gap["channel"], gap["ts_start"] = 3, START + SECOND
    gap["ts_event"] = gap["ts_recv"] = START + 50 * SECOND
    spine.append(gap, "market-data.gaps", covers=end)
    lake, span = tw.open(spine.path), (START + 60 * SECOND, START + 70 * SECOND)
    for joined in (
        lake.asof("trades", "quotes", "BTCUSDT", *span),
        lake.trades_and_quotes("BTCUSDT", *span),
        lake.markouts("1s", "BTCUSDT", *span),
    ):
        assert len(joined) == 10
        assert not joined.coverage().is_complete
        assert any("gap touches" in told for told in joined.notices())


def test_markouts_at_several_horizons_are_those_of_plain_python(spine, maker):
    # Quotes each 100 ms, trades between them by turns of sides: each mid by a scan of the quotes.
    spine.append(maker.definitions())
    quotes = maker.rows("quote", 40, instrument=1, flags=1, sequence=np.arange(40))
    quotes["ts_event"] = quotes["ts_recv"] = START + np.arange(40) * 100_000_000
    quotes["bid_price"] = (100 + np.arange(40) % 7) * 10**9
    quotes["ask_price"] = quotes["bid_price"] + 2 * 10**9
    trades = maker.rows("trade", 12, instrument=1, flags=1, sequence=np.arange(12), channel=1)
    trades["ts_event"] = trades["ts_recv"] = START + np.arange(12) * 300_000_000 + 50_000_000
    trades["price"], trades["side"] = 104 * 10**9, np.arange(12) % 3
    spine.append(quotes)
    spine.append(trades)
    with tw.open(spine.path) as lake:
        found = lake.markouts(["150ms", "1s"], "BTCUSDT").to_pylist()
        assert len(found) == 12
        for row, trade in zip(found, trades, strict=True):
            for name, length in (("150ms", 150_000_000), ("1s", SECOND)):
                due = int(trade["ts_event"]) + length
                behind = [one for one in quotes if one["ts_event"] <= due]
                wanted = int(behind[-1]["bid_price"]) / 1e9 + 1
                if due > quotes["ts_event"][-1]:
                    assert row[f"mid_{name}"] is row[f"markout_{name}"] is None
                    continue
                assert row[f"mid_{name}"] == wanted
                sign = {0: None, 1: 1, 2: -1}[int(trade["side"])]
                gained = None if sign is None else sign * (wanted - 104)
                assert row[f"markout_{name}"] == gained
        assert found[-1]["mid_1s"] is None
        for wrong in ("1", "0s", "2d", "100000s", ""):
            with pytest.raises(QueryError, match="expected a horizon such as"):
                lake.markouts(wrong, "BTCUSDT")
        assert lake.markouts("1s", "BTCUSDT", "2024-01-01", "2024-01-02").to_pylist() == []
        # A range, down to one trade, gives each what it has within all: quotes go on behind it,
        # and where none came by then the one before the trade still stood.
        whole = {row["sequence"]: row for row in found}
        for low, high in ((0, 1), (3, 5), (7, 12)):
            span = (int(trades["ts_event"][low]), int(trades["ts_event"][high - 1]) + 1)
            part = lake.markouts(["150ms", "1s"], "BTCUSDT", *span).to_pylist()
            assert part == [whole[number] for number in range(low, high)]
        [short] = lake.markouts("1ms", "BTCUSDT", int(trades["ts_event"][2]), START + SECOND)[:1]
        assert short["mid_1ms"] == float(short["bid_price"]) + 1


@pytest.fixture
def filled(spine, maker):
    """Quotes without event times, one a second; a trade of second 10 that the venue's history gave
    at second 99, another of second 99, and a quote of history."""
    spine.append(maker.definitions())
    quotes = maker.rows("quote", 200, instrument=1, flags=1 | 128, sequence=np.arange(200))
    quotes["ts_event"] = quotes["ts_recv"] = START + np.arange(200) * SECOND
    quotes["bid_price"] = (100 + np.arange(200)) * 10**9
    quotes["ask_price"] = quotes["bid_price"] + 10**9
    old, new = maker.rows("trade", 2, instrument=1, flags=1, channel=1, side=1, price=10**9)
    old["ts_event"], old["ts_recv"], old["flags"] = START + 10 * SECOND, START + 99 * SECOND + 9, 5
    new["ts_event"], new["ts_recv"] = START + 99 * SECOND, START + 99 * SECOND + SECOND // 2
    past = quotes[3:4].copy()
    past["ts_recv"], past["flags"] = START + 99 * SECOND + 10, 1 | 4 | 128
    for part in (quotes[:100], old, past, new, quotes[100:]):
        spine.append(part)
    return tw.open(spine.path)


def test_what_the_history_gave_meets_nothing_by_its_receipt(filled):
    # Received minutes after it happened it would look ahead; a quote of the past is not the newest.
    told = "1 row of trades that the venue's history gave (flags & 4) met nothing: when they were "
    for found in (
        filled.trades_and_quotes("BTCUSDT"),
        filled.trades_and_quotes("BTCUSDT", START, START + 100 * SECOND),
        filled.markouts(["1s", "200s"], "BTCUSDT"),
    ):
        old, new = found.to_pylist()
        assert (old["flags"], old["bid_price"]) == (5, None)
        assert new["bid_price"] == 199
        assert told in " ".join(found.notices())
        if "mid_1s" in found.columns:
            assert (old["mid_1s"], new["mid_1s"], new["mid_200s"]) == (None, 200.5, None)
    by_event = filled.trades_and_quotes("BTCUSDT", clock="event")
    assert [row["bid_price"] for row in by_event.to_pylist()] == [109, 198]
    assert told not in " ".join(by_event.notices())


@pytest.mark.slow
def test_tolerance_and_direction_are_exact(filled):
    # By pandas' own join on the same rows, at, below and above each distance.
    trades, quotes = filled.trades("BTCUSDT").to_pandas(), filled.rows("quotes").to_pandas()
    for frame in (trades, quotes):
        rest = pd.to_timedelta(frame.pop("ts_recv_ns"), "ns")
        frame["at"] = frame["ts_recv"].astype("datetime64[ns, UTC]") + rest
    live = [frame[frame["flags_"] & 4 == 0] for frame in (trades, quotes)]
    for direction, tolerance, span in itertools.product(
        ("backward", "forward"),
        (None, "500ms", "499999us", "1s", "1h"),
        ((), (START + 98 * SECOND, START + 100 * SECOND)),
    ):
        found = filled.asof(
            "trades", "quotes", "BTCUSDT", *span, tolerance=tolerance, direction=direction
        ).to_pandas()
        wanted = pd.merge_asof(
            live[0],
            live[1][["at", "sequence"]].rename(columns={"sequence": "met"}),
            on="at",
            direction=direction,
            tolerance=tolerance and pd.Timedelta(tolerance),
        )
        of_live = found[found["flags_"] & 4 == 0]["quotes_sequence"]
        assert of_live.fillna(-1).tolist() == wanted["met"].fillna(-1).tolist(), (
            direction,
            tolerance,
        )
    for wrong in ({"tolerance": "1"}, {"tolerance": "2d"}, {"direction": "nearest"}):
        with pytest.raises(QueryError, match="expected a"):
            filled.asof("trades", "quotes", **wrong)


@pytest.mark.slow
def test_rows_of_another_venue_are_met_by_symbol(spine, maker):
    # By pandas' own join on the same rows; ranges meet what the whole does.
    other = SpineFolder(spine.path, "binance-usdm")
    random, count = np.random.default_rng(SEED), 600
    parts = {(spine, "trade"): 1, (spine, "quote"): 2, (other, "quote"): 3}
    for folder in (spine, other):
        folder.append(maker.definitions())
    for (folder, kind), first in parts.items():
        rows = maker.rows(kind, count, instrument=random.integers(1, 3, count), flags=1)
        rows["ts_event"] = START + np.sort(random.integers(0, 90 * SECOND, count)) // 10**7 * 10**7
        rows["ts_recv"], rows["sequence"] = rows["ts_event"], first * count + np.arange(count)
        folder.append(rows)
    lake = tw.open(spine.path)
    trades = lake.trades(source="binance-spot", symbols=["BTCUSDT", "ETHUSDT"]).to_pandas()
    quotes = lake.rows("quotes", source="*").to_pandas()
    quotes = quotes.sort_values("ts_event", kind="stable")[
        ["ts_event", "symbol", "sequence", "venue"]
    ]
    spot, futures = (one.source for one in (spine, other))
    for given, venues in (({"right_source": futures}, [futures]), ({}, [spot])):
        wanted = pd.merge_asof(
            trades,
            quotes[quotes["venue"].isin(venues)].rename(columns={"sequence": "met"}),
            on="ts_event",
            by="symbol",
            allow_exact_matches=False,
        )["met"].fillna(-1)
        where = {"source": spot, "by": "symbol", "clock": "event", **given}
        found = lake.asof("trades", "quotes", **where).to_pandas()
        assert found["quotes_sequence"].fillna(-1).tolist() == wanted.tolist()
        assert set(found["quotes_venue"].dropna()) == set(venues)
        low, high = START + 40 * SECOND, START + 50 * SECOND
        part = lake.asof("trades", "quotes", ["BTCUSDT", "ETHUSDT"], low, high, **where).to_pandas()
        assert 0 < len(part) < count
        whole = found.set_index("sequence")["quotes_sequence"]
        assert part["quotes_sequence"].tolist() == whole[part["sequence"]].tolist()
    # Of all venues the newest is met; of one instant any, so that its time is compared.
    found = lake.asof("trades", "quotes", source="*", by="symbol", clock="event").to_pandas()
    times = pd.merge_asof(
        trades,
        quotes.assign(at=quotes["ts_event"]),
        on="ts_event",
        by="symbol",
        allow_exact_matches=False,
    )
    assert found["quotes_ts_event"].fillna(0).tolist() == times["at"].fillna(0).tolist()
    for wrong in (
        {"right_source": futures},
        {"by": "venue"},
        {"by": "symbol", "right_source": "x"},
    ):
        with pytest.raises(Exception, match="expected"):
            lake.asof("trades", "quotes", source=spot, **wrong)


def test_what_a_gap_left_without_a_row_is_not_complete(spine, maker):
    # Within the tolerance of a trade that met none there is a gap: one may have been there.
    def row(kind, at, **more):
        ts = START + int(at * SECOND)
        return maker.rows(kind, 1, instrument=1, flags=1, ts_event=ts, ts_recv=ts, **more)

    marker = row("marker", 30, code=_core.numbers("marker_code")["gap"], cause=1, count=3)
    marker["ts_start"] = START + 5 * SECOND
    marker["channel"] = _core.numbers("channel")["quote"]
    marker["state"] = _core.numbers("gap_state")["closed"]
    spine.append(maker.definitions())
    trades = [row("trade", at, channel=1, trade_id=int(at)) for at in (3, 40, 61)]
    quotes = [
        row("quote", at, bid_price=10**11, ask_price=2 * 10**11) for at in (1, *range(60, 99))
    ]
    for part in (quotes[0], trades[0], marker, trades[1], quotes[1], trades[2], *quotes[2:]):
        spine.append(part)
    spine.derive()
    lake = tw.open(spine.path)
    late, early = (START + 35 * SECOND, START + 50 * SECOND), (START + SECOND, START + 4 * SECOND)
    forward = {"direction": "forward"}
    for span, more, is_complete in (
        (late, {}, False),
        (late, {"tolerance": "20s"}, False),
        (late, {"tolerance": "4s"}, True),
        (early, {**forward}, False),
        (early, {**forward, "tolerance": "20s"}, False),
        (early, {**forward, "tolerance": "500ms"}, True),
    ):
        joined = lake.asof("trades", "quotes", "BTCUSDT", *span, **more)
        assert len(joined) == 1
        assert joined.coverage().is_complete == is_complete, more
    joined = lake.trades_and_quotes("BTCUSDT", *late, tolerance="20s")
    assert joined.to_pylist()[0]["bid_price"] is None
    assert not joined.coverage().is_complete


def test_a_correction_of_a_window_that_is_over_is_not_the_newest_metric(spine, maker):
    def row(kind, event, recv, **more):
        times = {"ts_event": START + event * SECOND, "ts_recv": START + recv * SECOND}
        return maker.rows(kind, 1, instrument=1, **times, **more)

    spine.append(maker.definitions())
    for at in (10, 20):
        spine.append(row("trade", at, at, flags=1, channel=1))
    for event, recv, value, flags in ((4, 4, 1.0, 1), (8, 8, 2.0, 1), (4, 9, 3.0, 9)):
        made = row("metric", event, recv, flags=flags, metric=b"tumbling_4s_volume", count=1)
        made["value"] = np.float64(value)
        spine.append(made, "market-data.metrics", covers=3)
    joined = tw.open(spine.path).asof(
        "trades", "metrics", "BTCUSDT", metric="tumbling_4s_volume", clock="receipt"
    )
    assert [row["metrics_value"] for row in joined.to_pylist()] == [2.0, 2.0]
