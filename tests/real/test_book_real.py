"""Books kept from recorded frames, against the venue's own best bid and offer."""

import gzip
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
COINM = b"/fapi/v1/depth?symbol=BTCUSD_PERP&limit=1000"
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
        # COIN-M futures: the frames and the rule are those of USD-M futures.
        # The independent program compared 44,767 of these ids.
        (
            "binance-usdm",
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
