"""Books through the bindings: exact integers, states, and the book at a past instant."""

import json
import struct
from pathlib import Path

import pytest

from tapeworks import _core

PRICE, SIZE = 10**9, 10**8
TEXT, REST = 1, 3
NONE = _core.NONE


def depth_update(first: int, last: int, bids: list[list[str]], asks: list[list[str]]) -> bytes:
    event = {"e": "depthUpdate", "E": last, "s": "BTCUSDT", "U": first, "u": last}
    return json.dumps({"stream": "btcusdt@depth", "data": event | {"b": bids, "a": asks}}).encode()


def snapshot(last: int, bids: list[list[str]], asks: list[list[str]]) -> bytes:
    return json.dumps({"lastUpdateId": last, "bids": bids, "asks": asks}).encode()


class Market:
    """Frames of one spot symbol as records."""

    def __init__(self) -> None:
        self.decoder = _core.Decoder("binance-spot")

    def update(self, *args: object) -> _core.Records:
        frame = depth_update(*args)  # type: ignore[arg-type]
        return self.decoder.receive(TEXT, b"", frame, 1)

    def snapshot(self, *args: object) -> _core.Records:
        body = snapshot(*args)  # type: ignore[arg-type]
        return self.decoder.receive(REST, b"/api/v3/depth?symbol=BTCUSDT&limit=100", body, 2)


def test_book_answers_in_exact_integers() -> None:
    # Two levels a side with decimals that no binary float holds; turnover beyond 64 bits.
    market = Market()
    book = _core.Book()
    bids = [["61000.10", "0.30000001"], ["61000.00", "90000000000"]]
    asks = [["61000.30", "0.1"], ["61000.40", "0.2"]]
    assert book.apply(market.snapshot(7, bids, asks)) == 4
    assert len(book) == 4
    assert book.state == "open"
    assert book.sequence == 7
    assert book.top(1) == (
        [(61000_10 * PRICE // 100, 30000001)],
        [(61000_30 * PRICE // 100, SIZE // 10)],
    )
    assert book.levels("ask") == book.top(5)[1]
    assert book.size_at("bid", 61000 * PRICE) == 90_000_000_000 * SIZE
    assert book.size_at("bid", 61001 * PRICE) == 0
    filled, cost, worst = book.cost("bid", 10**10 * SIZE)
    assert filled == 10**10 * SIZE
    rest = 10**10 * SIZE - 30000001
    assert cost == 61000_10 * PRICE // 100 * 30000001 + 61000 * PRICE * rest
    assert worst == 61000 * PRICE
    # The middle is 61000.20.
    assert book.depth("ask", price=PRICE // 10) == (SIZE // 10, 61000_30 * PRICE // 1000 * SIZE, 1)
    size, _, levels = book.depth("bid", basis_points=1) or (0, 0, 0)
    assert (size, levels) == (30000001 + 90_000_000_000 * SIZE, 2)
    with pytest.raises(ValueError, match="bid or ask"):
        book.levels("buy")
    with pytest.raises(ValueError, match="either price or basis_points"):
        book.depth("bid")
    assert _core.Book().depth("bid", price=1) is None


def test_checksum_tells_books_apart() -> None:
    market = Market()
    first, second = _core.Book(), _core.Book()
    first.apply(market.snapshot(7, [["1", "2"]], [["3", "4"]]))
    second.apply(market.snapshot(7, [["1", "2"]], [["3", "5"]]))
    assert first.checksum() != second.checksum()
    second.apply(market.update(8, 8, [], [["3", "4"]]))
    assert first.checksum() == second.checksum()


def test_book_is_shown_only_while_it_is_verified() -> None:
    # Snapshot, bridge, a lost update, a new snapshot: no top in between.
    market = Market()
    book = _core.SyncedBook("binance-spot", 1)
    assert book.state == "empty"
    book.apply(market.update(11, 12, [["100", "1"]], []))
    assert book.state == "awaiting_snapshot"
    assert book.needs_snapshot
    assert book.top() is None
    book.apply(market.snapshot(11, [["99", "1"]], [["101", "1"]]))
    assert book.state == "continuous"
    assert book.sequence == 12
    assert book.top() == ([(100 * PRICE, SIZE), (99 * PRICE, SIZE)], [(101 * PRICE, SIZE)])
    book.apply(market.update(14, 14, [["98", "1"]], []))
    assert book.state == "broken"
    assert book.top() is None
    assert book.book() is None
    book.apply(market.snapshot(13, [["97", "1"]], [["101", "1"]]))
    shown = book.book()
    assert shown is not None
    assert shown.top()[0] == [(98 * PRICE, SIZE), (97 * PRICE, SIZE)]


def test_no_book_is_shown_after_the_end_of_the_session() -> None:
    # The end of a session concerns no instrument, and ends the proof of all: nobody listens any
    # more. The next session begins with a snapshot.
    market = Market()
    book = _core.SyncedBook("binance-spot", 1)
    book.apply(market.update(11, 12, [["100", "1"]], []))
    book.apply(market.snapshot(11, [["99", "1"]], [["101", "1"]]))
    assert book.state == "continuous"
    end = struct.pack(
        "<BBBBIqqQBBBBIQQq",
        *(8, MARKER, 0, 1, 0, 5, 5, 0),
        *(7, 0, 0, 0, 0, 0, 0, 2**63 - 1),
    )
    book.apply(_core.Records.from_bytes(end))
    assert book.state != "continuous"
    assert book.top() is None
    assert book.book() is None


LENGTH, LEVEL, MARKER = 8, _core.kind_of("level"), _core.kind_of("marker")
SNAPSHOT_FLAG, LAST_FLAG = 2, 1
BOOK_STATE, CHECKPOINT_BEGIN, CHECKPOINT_END = 10, 11, 12


def marker(code: int, ts: int, sequence: int, **fields: int) -> bytes:
    return struct.pack(
        "<BBBBIqqQBBBBIQQq",
        *(LENGTH, MARKER, LAST_FLAG, 1, 1, ts, ts + 5, sequence),
        *(code, 0, fields.get("state", 0), 9, fields.get("count", 0)),
        *(sequence, fields.get("last", sequence), ts + 5),
    )


def level(ts: int, sequence: int, side: int, price: int, size: int, channel: int) -> bytes:
    flags = LAST_FLAG if channel == 4 else SNAPSHOT_FLAG
    return struct.pack(
        "<BBBBIqqQqqQIBBH",
        *(LENGTH, LEVEL, flags, 1, 1, ts, ts + 5, sequence),
        *(price * PRICE, size * SIZE, sequence - 1, 0, side, channel, 0),
    )


def test_history_gives_the_book_or_says_why_not(tmp_path: Path) -> None:
    # A tape with one checkpoint, one update, and a break. Before it: nothing; at it and after the
    # update: books; between the update and the break, and after it: not verified, and since when.
    levels = [level(100, 7, 1, 50, 3, 9), level(100, 7, 2, 60, 4, 9)]
    book = _core.Book()
    book.apply(_core.Records.from_bytes(b"".join(levels)))
    records = [
        marker(BOOK_STATE, 100, 7, state=3),
        marker(CHECKPOINT_BEGIN, 100, 7, count=2),
        *levels,
        marker(CHECKPOINT_END, 100, 7, count=2, last=book.checksum()),
        level(200, 8, 1, 55, 1, 4),
        marker(BOOK_STATE, 300, 8, state=4),
    ]
    with _core.TapeWriter(tmp_path / "book", durability="never") as tape:
        tape.append(b"".join(records), ts=300)
        history = _core.BookHistory(tmp_path / "book")
        assert history.instruments() == [1]

        before = history.at(1, ts_event=99)
        assert isinstance(before, _core.Unverified)
        assert (before.state, before.ts_event) == ("empty", None)

        first = history.at(1, ts_event=150)
        assert isinstance(first, _core.Book)
        assert first.top() == ([(50 * PRICE, 3 * SIZE)], [(60 * PRICE, 4 * SIZE)])
        assert (first.sequence, first.ts_event, first.ts_recv) == (7, 100, 105)

        second = history.at(1, ts_recv=205)
        assert isinstance(second, _core.Book)
        assert (second.top(1)[0], second.sequence) == ([(55 * PRICE, SIZE)], 8)
        assert not second.is_newest

        for ts, since in [(250, 200), (400, 300)]:
            lost = history.at(1, ts_event=ts)
            assert isinstance(lost, _core.Unverified)
            assert (lost.state, lost.ts_event, lost.sequence) == ("broken", since, 8)
        assert isinstance(history.at(2, ts_event=200), _core.Unverified)
        with pytest.raises(ValueError, match="either ts_event or ts_recv"):
            history.at(1)


def test_checkpoint_with_another_checksum_is_corrupt(tmp_path: Path) -> None:
    from_nowhere = [
        marker(CHECKPOINT_BEGIN, 100, 7, count=1),
        level(100, 7, 1, 50, 3, 9),
        marker(CHECKPOINT_END, 100, 7, count=1, last=1),
    ]
    with _core.TapeWriter(tmp_path / "book", durability="never") as tape:
        tape.append(b"".join(from_nowhere), ts=300)
        with pytest.raises(Exception, match="checksum") as raised:
            _core.BookHistory(tmp_path / "book").at(1, ts_event=100)
    assert type(raised.value).__name__ == "CorruptTapeError"
