"""Books kept from recorded frames, against the venue's own best bid and offer."""

import gzip
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from tapeworks import _core

TEXT, REST = 1, 3
Best = tuple[int, int, int, int]


@dataclass
class Comparison:
    """What the book said at its sequences, beside what the venue's quotes say."""

    feed: str
    context: bytes
    books: dict[int, Best] = field(default_factory=dict)
    quotes: dict[int, Best] = field(default_factory=dict)
    states: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.decoder = _core.Decoder(self.feed)
        self.book = _core.SyncedBook(self.feed, 1)

    def play(self, path: Path) -> None:
        with gzip.open(path, "rb") as lines:
            for line in lines:
                ts_recv, _, frame = line.strip().partition(b" ")
                self.take(int(ts_recv), frame)

    def take(self, ts_recv: int, frame: bytes) -> None:
        snapshot = frame.startswith(b'{"lastUpdateId"')
        kind, context = (REST, self.context) if snapshot else (TEXT, b"")
        records = self.decoder.receive(kind, context, frame, ts_recv)
        if b"@bookTicker" in frame[:60]:
            (quote,) = np.frombuffer(records.numpy("quote"), _core.dtype_descr("quote"))
            names = ("bid_price", "bid_size", "ask_price", "ask_size")
            self.quotes[int(quote["sequence"])] = tuple(int(quote[name]) for name in names)
            return
        self.book.apply(records)
        if not self.states or self.states[-1] != self.book.state:
            self.states.append(self.book.state)
        top = self.book.top(1)
        if top is not None:
            ((bid,), (ask,)) = top
            self.books[self.book.sequence] = (*bid, *ask)

    def equal_ids(self) -> tuple[int, int]:
        """How many ids both carry, and at how many of them they are equal."""
        both = self.books.keys() & self.quotes.keys()
        return sum(self.books[key] == self.quotes[key] for key in both), len(both)

    def last_before(self) -> tuple[int, int]:
        """The same for each book against the last quote at or before its id."""
        ids = sorted(self.quotes)
        places = np.searchsorted(np.array(ids, np.uint64), np.array(sorted(self.books), np.uint64))
        equal = total = 0
        for key, place in zip(sorted(self.books), places.tolist(), strict=True):
            if place < len(ids) and ids[place] == key:
                place += 1
            if place == 0:
                continue
            total += 1
            equal += self.books[key] == self.quotes[ids[place - 1]]
        return equal, total


SPOT = b"/api/v3/depth?symbol=BTCUSDT&limit=5000"
COINM = b"/dapi/v1/depth?symbol=BTCUSD_PERP&limit=1000"
USDM = b"/fapi/v1/depth?symbol=BTCUSDT&limit=1000"


@pytest.mark.parametrize(
    ("feed", "context", "names", "equal", "before"),
    [
        ("binance-usdm", USDM, ["usdm_btcusdt_20240808.gz"], (629, 629), (6546, 6546)),
        (
            "binance-spot",
            SPOT,
            ["spot_btcusdt_20240808.gz", "spot_btcusdt_20240809.gz"],
            (1072, 1072),
            (6491, 6493),
        ),
        # The independent program compared 44,767 of these ids.
        (
            "binance-coinm",
            COINM,
            ["cm_btcusd_perp_20240808.gz", "cm_btcusd_perp_20240809.gz"],
            (1885, 1885),
            (44771, 44771),
        ),
    ],
)
def test_book_equals_the_venues_best_prices(
    real_data: Path,
    feed: str,
    context: bytes,
    names: list[str],
    equal: tuple[int, int],
    before: tuple[int, int],
) -> None:
    # The recorded snapshot and changes make the book; at every update id that a recorded best bid
    # and offer also carries, prices and sizes must be equal. Counts are those of an independent
    # program over the same files; its two differences on spot are the venue's.
    comparison = Comparison(feed, context)
    for name in names:
        comparison.play(real_data / "binance" / "hftbacktest" / name)
    assert comparison.equal_ids() == equal
    assert comparison.last_before() == before
    assert comparison.states == ["awaiting_snapshot", "continuous"]


@pytest.mark.slow
def test_history_equals_the_venues_best_prices(real_data: Path, tmp_path: Path) -> None:
    # The recording goes the whole way: raw tape, normalised tape, book tape. Asked for the instants
    # at which updates were received whose ids a quote also carries, the history gives the book of
    # that id, and it equals the quote.
    comparison = Comparison("binance-usdm", USDM)
    recorded = real_data / "binance" / "hftbacktest" / "usdm_btcusdt_20240808.gz"
    comparison.play(recorded)
    received: dict[int, int] = {}
    topics = ["raw", "normalized", "book"]
    with (
        _core.TapeWriter(tmp_path / "raw", "blobs", durability="never") as raw,
        gzip.open(recorded, "rb") as lines,
    ):
        for line in lines:
            ts, _, frame = line.strip().partition(b" ")
            if b"@depth" in frame[:60]:
                received[json.loads(frame)["data"]["u"]] = int(ts)
            elif frame.startswith(b'{"lastUpdateId"'):
                raw.append_blob(REST, frame, ts=int(ts), context=USDM, feed=2)
                continue
            raw.append_blob(TEXT, frame, ts=int(ts), feed=2)
    for name, source, target in zip(("normalize", "books"), topics, topics[1:], strict=False):
        settings = {"feed": "binance-usdm"} if name == "normalize" else {}
        stage = _core.Stage(name, tmp_path / source, tmp_path / target, tmp_path / name, settings)
        stage.run_until_idle()
        stage.close()
    history = _core.BookHistory(tmp_path / "book")
    (instrument,) = history.instruments()
    both = sorted(comparison.books.keys() & comparison.quotes.keys())[::6]
    for update in both:
        found = history.at(instrument, ts_recv=received[update])
        assert isinstance(found, _core.Book)
        ((bid,), (ask,)) = found.top(1)
        assert (found.sequence, *bid, *ask) == (update, *comparison.quotes[update])
    assert len(both) > 100
