"""The book at a past instant: exact, by either clock, and silent where it is not verified."""

import contextlib
from decimal import Decimal

import numpy as np
import pytest

import tapeworks as tw
from conftest import START, Command
from tapeworks import _core
from tapeworks.errors import QueryError
from tapeworks.processors.derive import Derivation
from tapeworks.settings import ProcessorsConfig
from tapeworks.tape import TapeConfig

SECOND = 10**9


@pytest.fixture
def recorded(spine, maker):
    """A book that is verified from second 1, changed at second 2 and broken at second 3."""
    spine.append(maker.definitions())
    levels = maker.rows("level", 2, instrument=1, flags=2, channel=9, sequence=7)
    levels["ts_event"], levels["ts_recv"] = START + SECOND, START + SECOND + 5
    levels["price"], levels["size"], levels["side"] = [50 * SECOND, 60 * SECOND], [3, 4], [1, 2]
    book = _core.Book()
    book.apply(_core.Records.from_bytes(levels.tobytes()))
    marks = maker.rows("marker", 4, instrument=1, sequence=[7, 7, 7, 8], channel=4)
    marks["code"], marks["state"] = [10, 11, 12, 10], [3, 0, 0, 4]
    marks["ts_event"] = START + SECOND
    marks["ts_event"][3] = START + 3 * SECOND
    marks["ts_recv"] = marks["ts_event"] + 5
    marks["count"], marks["first"] = 2, 7
    marks["last"][2] = book.checksum()
    change = levels[:1].copy()
    change["price"], change["sequence"], change["channel"], change["flags"] = 55 * SECOND, 8, 4, 1
    change["ts_event"], change["ts_recv"] = START + 2 * SECOND, START + 2 * SECOND + 5
    change["previous"] = 7
    topic = "market-data.book"
    for part in (marks[:2], levels, marks[2:3], change, marks[3:]):
        spine.append(part, topic)
    return spine


def test_book_is_that_of_the_instant(recorded):
    # After the checkpoint, and at the change; by the host's clock that comes 5 ns later.
    lake = tw.open(recorded.path)
    first = lake.book("BTCUSDT", START + SECOND + SECOND // 2)
    assert first.bids == [(Decimal(50), Decimal("3E-8"))]
    assert first.asks == [(Decimal(60), Decimal("4E-8"))]
    changed = lake.book("BTC-USDT", START + 2 * SECOND)
    assert changed.top(1)[0] == [(Decimal(55), Decimal("3E-8"))]
    assert changed.sequence == 8
    assert (changed.mid, changed.spread) == (Decimal("57.5"), Decimal(5))
    assert changed.to_polars()["price"].to_list() == [55.0, 50.0, 60.0]
    exact = [Decimal("3E-8"), Decimal("3E-8"), Decimal("4E-8")]
    assert changed.to_polars(decimals=True)["size"].to_list() == exact
    assert changed.to_pandas()["size_"].tolist() == [3e-8, 3e-8, 4e-8]
    assert lake.book("BTCUSDT", START + 2 * SECOND, clock="receipt").sequence == 7
    assert lake.book("BTCUSDT", START + 2 * SECOND + 5, clock="receipt").sequence == 8
    assert "bid" in repr(first)
    rows = first.to_arrow().to_pylist()
    assert [(row["side"], row["level"]) for row in rows] == [("bid", 1), ("ask", 1)]


def test_depth_and_cost_of_a_book_are_exact(recorded):
    # 3 stand at 50 and 4 at 60, in the smallest unit: a tenth of the mid reaches both, a thousandth
    # none. What the book does not hold, and what is no size, is refused with what it holds.
    book = tw.open(recorded.path).book("BTCUSDT", START + SECOND)
    assert book.depth(1_000) == (Decimal("3E-8"), Decimal("4E-8"))
    assert book.depth(10) == (0, 0)
    assert book.cost("buy", Decimal("2E-8")) == 60 * Decimal("2E-8")
    assert book.cost("sell", Decimal("3E-8")) == 50 * Decimal("3E-8")
    with pytest.raises(QueryError, match=r"to buy, got a book that holds 0\.00000004"):
        book.cost("buy", 1)
    for size in (0, -1, Decimal("1E-9"), Decimal("NaN"), "much", None):
        with pytest.raises(QueryError, match="expected a size above 0"):
            book.cost("buy", size)
    with pytest.raises(QueryError, match="'buy' or 'sell'"):
        book.cost("bid", 1)


def test_screen_of_a_book_names_clocks_and_units(recorded, maker):
    # Prices and the spread in the currency, sizes in what is traded, where the definition says it.
    at = ("book", "BTCUSDT", "--at", "2023-11-17T23:00:02Z", "--data", recorded.path)
    command = Command(recorded.path)
    assert "price USDT" not in command.run(*at)
    definitions = maker.definitions()
    definitions["currency"] = b"USDT"
    recorded.append(definitions)
    shown = command.run(*at)
    assert "at 2023-11-17T23:00:02Z by the venue's clock" in shown
    assert "received 2023-11-17T23:00:02.000000005Z" in shown
    assert "price USDT" in shown
    assert "size BTC" in shown
    assert "spread 5 USDT (" in shown


def test_derive_keeps_the_index_of_checkpoints(spine, maker):
    # So many records that an index pays: it is there before anybody asks, and is gone on with.
    spine.append(maker.definitions())
    tape = spine.tape("market-data.book")
    levels = maker.rows("level", 300_000, instrument=1, channel=4, flags=1)
    levels["ts_event"] = levels["ts_recv"] = START
    with _core.TapeWriter(tape) as writer:
        writer.append(levels.tobytes(), input_offset=0)
    derivation = Derivation(ProcessorsConfig(), TapeConfig(), spine.path, spine.source)
    derivation.index_books()
    assert not (tape / "checkpoints.idx").exists()
    derivation.step()
    derivation.index_books()
    derivation.index_books()
    derivation.close()
    assert (tape / "checkpoints.idx").exists()


def test_unverified_book_is_refused(recorded):
    # After the break, before the first proof, and for a symbol that never had a book.
    lake = tw.open(recorded.path)
    with pytest.raises(
        QueryError, match="not verified now: it is broken since 2023-11-17T23:00:03Z"
    ):
        lake.book("BTCUSDT")
    with pytest.raises(QueryError, match="not verified at"):
        lake.book("BTCUSDT", START)
    with pytest.raises(QueryError, match="the recording began at 2023-11-17T23:00:00Z"):
        lake.book("BTCUSDT", START - 1)
    with pytest.raises(QueryError, match="not verified"):
        lake.book("ETHUSDT", START + SECOND)


def test_an_instant_of_which_nothing_is_known_yet_is_refused(recorded):
    # A book of the future is not the one of now.
    lake = tw.open(recorded.path)
    for at in (START + 3 * SECOND + 6, "2030-01-01", 2**62):
        for clock in ("event", "receipt"):
            with pytest.raises(
                QueryError,
                match=r"expected an instant up to 2023-11-17T23:00:03\.000000005Z.*, got",
            ):
                lake.book("BTCUSDT", at, clock=clock)
    with pytest.raises(QueryError, match="not verified at"):
        lake.book("BTCUSDT", START + 3 * SECOND + 5)


def test_a_book_of_a_venue_that_is_ahead_is_known(spine, recorded, maker):
    # The venue's clock is a second ahead of this host's: its own time is an answer.
    lake = tw.open(recorded.path)
    state = maker.rows("marker", 1, instrument=1, sequence=8, channel=4, code=10, state=3)
    state["ts_event"], state["ts_recv"] = START + 5 * SECOND, START + 4 * SECOND
    recorded.append(state, "market-data.book")
    with pytest.raises(QueryError, match="expected an instant up to"):
        lake.book("BTCUSDT", START + 4 * SECOND + 1, clock="receipt")
    # Known, though nothing was received by then: what is wrong is that it is broken.
    with pytest.raises(QueryError, match="not verified at"):
        lake.book("BTCUSDT", START + 5 * SECOND)
    with pytest.raises(QueryError, match="expected an instant up to"):
        lake.book("BTCUSDT", START + 5 * SECOND + 1)


def test_after_the_end_of_a_recording_the_newest_book_is_the_last_verified_one(recorded, maker):
    # A recording that ends takes its books with it: that is no loss.
    lake = tw.open(recorded.path)
    ends = maker.rows("marker", 1, instrument=1, channel=4, code=10)
    ends["state"] = _core.numbers("book_state")["empty"]
    ends["ts_event"], ends["ts_recv"] = _core.NONE, START + 2 * SECOND + 500
    del lake
    # Of a tape whose book was not broken before.
    spine = type(recorded)(recorded.path, "binance-usdm")
    spine.append(maker.definitions())
    reader = _core.TapeReader(recorded.tape("market-data.book"))
    held = reader.read()
    rows = bytes(held)
    broken = maker.rows("marker", 1).itemsize
    spine.append(np.frombuffer(rows[:-broken], dtype=np.uint8), "market-data.book")
    spine.append(ends, "market-data.book")
    spine.close()
    lake = tw.open(recorded.path)
    # The newest is the last that was verified, and says so; of an instant after it there is none.
    told = "the recording ended at 2023-11-17T23:00:02.000000500Z: this is the last verified book"
    newest = lake.book("BTCUSDT", source="binance-usdm")
    assert newest.sequence == 8
    assert newest.notice == f"{told}, of 2023-11-17T23:00:02Z"
    assert newest.notice in repr(newest)
    with pytest.raises(QueryError, match=r"ended at 2023-11-17T23:00:02\.000000500Z; `--last`"):
        lake.book("BTCUSDT", START + 2 * SECOND + 500, source="binance-usdm")
    assert lake.book("BTCUSDT", source="binance-usdm", last=True).sequence == 8
    # Where it was verified, it is that of the instant; where it never was, there is none.
    at = START + SECOND + SECOND // 2
    before = lake.book("BTCUSDT", at, source="binance-usdm", last=True)
    assert (before.sequence, before.notice) == (7, None)
    with pytest.raises(QueryError, match="not verified"):
        lake.book("ETHUSDT", source="binance-usdm", last=True)
    assert lake.book("BTCUSDT", source="binance-spot", last=True).sequence == 8


def test_a_book_whose_line_is_down_is_not_that_of_now(recorded, maker):
    # The last verified one is shown if asked for, and for instants at which it was.
    spine = type(recorded)(recorded.path, "binance-usdm")
    spine.append(maker.definitions())
    trade = maker.trades(1)
    trade["ts_event"] = trade["ts_recv"] = START + 9 * SECOND
    spine.append(trade)
    held = bytes(_core.TapeReader(recorded.tape("market-data.book")).read())
    rows = held[: -maker.rows("marker", 1).itemsize]
    spine.append(np.frombuffer(rows, dtype=np.uint8), "market-data.book")
    lake, usdm = tw.open(recorded.path), {"source": "binance-usdm"}
    assert lake.book("BTCUSDT", **usdm).sequence == 8
    codes, causes, states = map(_core.numbers, ("marker_code", "gap_cause", "gap_state"))
    gap = maker.rows("marker", 1, instrument=1, code=codes["gap"], cause=causes["disconnect"])
    gap["channel"], gap["state"] = _core.numbers("channel")["depth"], states["open"]
    gap["count"], gap["ts_start"] = 2**32 - 1, START + 2 * SECOND
    gap["ts_event"] = gap["ts_recv"] = START + 4 * SECOND
    down = "its line is down since 2023-11-17T23:00:02Z; `--last`"
    spine.append(gap, "market-data.gaps")
    for at in (None, START + 3 * SECOND):
        with pytest.raises(QueryError, match=down):
            lake.book("BTCUSDT", at, **usdm)
        shown = lake.book("BTCUSDT", at, last=True, **usdm)
        assert (shown.sequence, shown.notice is None) == (8, False)
    assert lake.book("BTCUSDT", START + 2 * SECOND, **usdm).sequence == 8
    # Back with a loss: between, nobody knows. Back with ids that go on: nothing was missed.
    gap["state"] = states["closed"]
    for missed, is_refused in ((5, True), (0, False)):
        gap["count"] = missed
        spine.append(gap, "market-data.gaps")
        assert lake.book("BTCUSDT", **usdm).sequence == 8
        with pytest.raises(QueryError, match=down) if is_refused else contextlib.nullcontext():
            lake.book("BTCUSDT", START + 3 * SECOND, **usdm)
    spine.close()
