"""Books of single orders, asked of a data folder at any instant."""

import struct
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


def order(clock: str, number: int, side: bytes = b"B", cents: int = 1_000) -> bytes:
    """Returns a message that adds an order of 100 shares of TEST."""
    ns = (at(clock) - MIDNIGHT).to_bytes(6, "big")
    head = b"A" + struct.pack(">HH", 7, 0) + ns + struct.pack(">Q", number)
    return head + side + struct.pack(">I", 100) + b"TEST    " + struct.pack(">I", cents * 100)


def start(clock: str) -> bytes:
    return b"S" + bytes(4) + (at(clock) - MIDNIGHT).to_bytes(6, "big") + b"O"


def told(data: Path, packets: list[tuple[int, bytes]]) -> tw.Lake:
    """Puts packets onto a tape, each with its receipt."""
    context = b"moldudp64?reorder_ms=100&midnight=%d" % MIDNIGHT
    ingest = Ingest(data, "itch", "itch", durability_ms=-1, ts_first=packets[0][0])
    ingest.connected(0, 0, packets[0][0])
    for ts, packet in packets:
        ingest.receive(0, 2, ts, packet, context)
    ingest.flush()
    ingest.end_session(packets[-1][0])
    ingest.flush()
    ingest.close()
    derive(data, "itch")
    return tw.open(data)


def ids(lake: tw.Lake, clock: str) -> list[int]:
    book = lake.book("TEST", at(clock), depth="orders")
    assert (book.is_whole, book.notice) == (True, None), clock
    return sorted(one.order_id for side in ("bid", "ask") for one in book.orders(side))


def test_one_message_of_another_time_stops_no_book_of_orders(tmp_path: Path):
    # The third tells 15:00, and the tenth midnight; the last ones come half a day later.
    clocks = [f"9:00:{second:02}" for second in range(20)] + ["14:00:01", "14:00:02", "14:00:03"]
    packets = [(at("9:00:00"), mold(1, [start("9:00:00")]))]
    for number, clock in enumerate(clocks, 2):
        lies = {4: "15:00:00", 11: "0:00:01"}
        message = order(lies.get(number, clock), number)
        packets.append((at(clock) + 1_000, mold(number, [message])))
    lake = told(tmp_path, packets)
    assert ids(lake, "9:00:01.5") == [2, 3]
    assert ids(lake, "9:00:03.5") == [2, 3, 4, 5]
    assert ids(lake, "9:00:06.5") == list(range(2, 9))
    assert ids(lake, "9:05:00") == list(range(2, 22))
    assert ids(lake, "14:00:01") == list(range(2, 23))


@pytest.mark.slow
@pytest.mark.parametrize("late_s", [-120, 120, 7_200])
def test_events_that_were_received_late_are_in_the_book_of_their_time(tmp_path: Path, late_s: int):
    # A clock that is off, a feed that is delayed, or a session that is read hours later.
    packets = [(at("9:00:00") + late_s * SECOND, mold(1, [start("9:00:00")]))]
    for number in range(2, 402):
        clock = f"9:{number // 60:02}:{number % 60:02}"
        packets.append((at(clock) + late_s * SECOND, mold(number, [order(clock, number)])))
    lake = told(tmp_path, packets)
    for clock, last in [("9:01:40", 100), ("9:03:20", 200), ("9:05:00", 300)]:
        if at(clock) <= packets[-1][0]:
            assert ids(lake, clock) == list(range(2, last + 1)), clock
    if late_s == 120:
        # What happened two minutes before the last receipt may come yet.
        book = lake.book("TEST", at("9:06:45"), depth="orders")
        assert not book.is_whole
        assert "its events come 120 s after they happen" in str(book.notice)
    newest = lake.book("TEST", depth="orders")
    assert newest.is_whole
    assert len(newest.orders("bid")) == (400 if late_s > 0 else 280)


@pytest.mark.slow
@pytest.mark.parametrize("status", [False, True])
def test_the_book_of_orders_begins_anew_with_a_session(tmp_path: Path, status: bool):
    # Two sessions of one day, the second with numbers from 1 on; with a status of the symbol it
    # shows even where its first order has a higher number than the last of the first session.
    def mold_of(name: bytes, number: int, messages: list[bytes], count: int | None = None) -> bytes:
        blocks = b"".join(struct.pack(">H", len(one)) + one for one in messages)
        return name + struct.pack(">QH", number, len(messages) if count is None else count) + blocks

    one, two = b"SESSION001", b"SESSION002"
    ns = (at("10:00:00") - MIDNIGHT).to_bytes(6, "big")
    action = b"H" + struct.pack(">HH", 7, 0) + ns + b"TEST    T     "
    first = [start("9:00:00"), *(order("9:00:01", number, b"B", 5_050) for number in (101, 102))]
    second = [start("10:00:00"), action if status else order("10:00:00", 200)]
    more = [order("10:00:01", number, b"S", 5_000) for number in range(201, 205)]
    packets = [(at("9:00:00"), mold_of(one, 1, first)), (at("9:00:02"), mold_of(one, 4, [], 65535))]
    packets.append((at("10:00:00"), mold_of(two, 1, second)))
    packets += [(at("10:00:01"), mold_of(two, 3 + at_, [m])) for at_, m in enumerate(more)]
    lake = told(tmp_path, packets)
    assert ids(lake, "9:30:00") == [101, 102]
    expected = [201, 202, 203, 204]
    assert ids(lake, "10:00:01") == (expected if status else [200, *expected])
    assert lake.book("TEST", at("10:00:01"), depth="orders").events == len(expected) + (not status)
