"""Books of single orders, asked of a data folder at any instant."""

from decimal import Decimal
from pathlib import Path

import pytest
from tests.conftest import derive
from tests.feeds.test_equity_files import DAY, LOBSTER_NAME, MESSAGES, MIDNIGHT, NAME, ROWS, mold

import tapeworks as tw
from tapeworks._core import Ingest
from tapeworks.errors import QueryError
from tapeworks.feeds.captures import CaptureOptions, CaptureReader
from tapeworks.feeds.itch.captures import ItchCaptures
from tapeworks.feeds.lobster.captures import LobsterCaptures

SECOND = 1_000_000_000
# A seller, and a buyer above it: of the seller's leaving nothing was recorded.
CROSSING = b"34200.8,1,21,10,2239000,-1\n34200.9,1,22,10,2240000,1\n"


def recorded(data: Path, source: str, feed: str, reader: CaptureReader, path: Path) -> tw.Lake:
    """Puts the frames of a file onto tapes."""
    frames = list(reader.read(path))
    ingest = Ingest(data, source, feed, durability_ms=-1, ts_first=frames[0].ts_recv)
    ingest.connected(0, 0, frames[0].ts_recv)
    for one in frames:
        ingest.receive(0, one.kind, one.ts_recv, one.body, one.context)
    ingest.flush()
    ingest.end_session(frames[-1].ts_recv)
    ingest.flush()
    ingest.close()
    derive(data, source)
    return tw.open(data)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> tw.Lake:
    folder = tmp_path_factory.mktemp("orders")
    (folder / NAME).write_bytes(DAY)
    reader = ItchCaptures(CaptureOptions("itch"))
    return recorded(folder / "data", "itch", "itch", reader, folder / NAME)


def at(clock: str) -> int:
    hours, minutes, seconds = (float(part) for part in clock.split(":"))
    return MIDNIGHT + int((hours * 3600 + minutes * 60 + seconds) * SECOND)


def test_the_book_of_orders_is_that_of_each_instant(lake: tw.Lake):
    # After each message of the example: its bids and asks, as the page of the protocol has them.
    ten, five = Decimal("10"), Decimal("10.05")
    for clock, bids, asks in [
        ("9:30:01.000002", [(ten, 500)], [(five, 300)]),
        ("9:30:02", [(ten, 300)], [(five, 300)]),
        ("9:30:02.5", [(ten, 200)], [(five, 300)]),
        ("9:30:03", [(Decimal("9.99"), 400)], [(five, 300)]),
        ("9:30:04", [(Decimal("9.99"), 400)], [(five, 200)]),
        ("9:30:05", [], [(five, 200)]),
    ]:
        found = lake.book("TEST", at(clock), depth="orders")
        assert (found.bids, found.asks) == (bids, asks), clock
        assert (found.is_whole, found.notice) == (True, None)
    before = lake.book("TEST", at("9:30:01") + 999, depth="orders")
    assert (before.asks, before.ts_event, before.events) == ([], at("9:30:01"), 1)
    by_receipt = lake.book("TEST", at("9:30:02"), depth="orders", clock="receipt")
    assert by_receipt.bids == [(ten, 300)]
    assert lake.book("TEST", depth="orders").bids == []


def test_orders_know_their_place_and_age(lake: tw.Lake):
    found = lake.book("TEST", at("9:30:03"), depth="orders")
    [bid], [ask] = found.orders("bid"), found.orders("ask")
    assert (bid.order_id, bid.price, bid.size) == (1009, Decimal("9.99"), 400)
    assert (bid.ts_event, ask.order_id) == (at("9:30:03"), 1005)
    assert found.place(1009) == type(found.place(1009))(0, Decimal(0))
    rows = found.orders_to_arrow().to_pylist()
    assert [(row["side"], row["place"], row["order_id"]) for row in rows] == [
        ("bid", 1, 1009), ("ask", 1, 1005),
    ]  # fmt: skip
    with pytest.raises(QueryError, match="no order 1001 of TEST"):
        found.place(1001)
    for number in (-1, 1 << 64):
        with pytest.raises(QueryError, match=f"no order {number} of TEST"):
            found.place(number)
    with pytest.raises(QueryError, match="expected side"):
        found.orders("buy")
    assert "OrderBookAt('TEST' of itch" in repr(found)


def test_what_is_not_there_is_told(lake: tw.Lake):
    with pytest.raises(QueryError, match="expected depth 'levels' or 'orders', got 'all'"):
        lake.book("TEST", depth="all")
    with pytest.raises(QueryError, match="has no orders of TEST from"):
        lake.book("TEST", at("9:30:00"), depth="orders")
    with pytest.raises(QueryError, match=r"expected an instant up to .*, got [0-9-]{10}T"):
        lake.book("TEST", MIDNIGHT + 90_000 * SECOND, depth="orders")


def test_a_book_of_a_recording_that_is_not_whole_says_so(tmp_path: Path):
    # A window of LOBSTER; packets that begin within the day; a day of which a packet is lost.
    (tmp_path / LOBSTER_NAME).write_bytes(ROWS)
    reader: CaptureReader = LobsterCaptures(CaptureOptions("lobster"))
    lake = recorded(tmp_path / "a", "lobster", "lobster", reader, tmp_path / LOBSTER_NAME)
    book = lake.book("AMZN", depth="orders")
    assert not book.is_whole
    assert "of 7 events, may lack orders" in str(book.notice)
    assert "events of a recording that is not whole: 7" in str(book.notice)
    assert "above its best ask" not in str(book.notice)

    (tmp_path / "x").mkdir()
    crossing = tmp_path / "x" / LOBSTER_NAME
    crossing.write_bytes(ROWS + CROSSING)
    book = recorded(tmp_path / "d", "lobster", "lobster", reader, crossing).book(
        "AMZN", depth="orders"
    )
    assert book.spread == Decimal("-0.1")
    assert "its best bid is above its best ask, by 0.1" in str(book.notice)

    day = [message for message in MESSAGES if message[0] in b"SRAFEXUCD"][:9]
    for name, numbers, whole in [("b", range(1, 9), True), ("c", range(3, 9), False)]:
        ingest = Ingest(tmp_path / name, "itch", "itch", durability_ms=-1, ts_first=at("9:30:00"))
        for number in numbers:
            frame = mold(number, [day[number - 1]])
            context = b"moldudp64?midnight=%d" % MIDNIGHT
            ingest.receive(0, 2, at("9:30:07") + number, frame, context)
        ingest.flush()
        ingest.close()
        book = tw.open(tmp_path / name).book("TEST", depth="orders")
        assert not book.is_whole, name
        assert str(book.notice).endswith("its gaps are not yet known"), name
        derive(tmp_path / name, "itch")
        book = tw.open(tmp_path / name).book("TEST", depth="orders")
        assert book.is_whole is whole, name
