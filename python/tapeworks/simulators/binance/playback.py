"""A recording as the source of frames: the venue says again what it said, as fast as wanted.

The book that was recorded is the answer to the first request for it, not before its time; time
stands still at that point until it is asked for, so that the recording and the replay have it in
the same place, and for a moment more, so that what follows does not overtake the answer. Later
requests are answered with the book as it has become since.
"""

import bisect
import json
import time
from collections.abc import Iterable, Sequence
from decimal import Decimal

from tapeworks._core import Frames
from tapeworks.feeds.binance.products import PRODUCTS
from tapeworks.simulators.binance.config import SimulatorConfig
from tapeworks.simulators.binance.recording import Book, Recorded, decimals, read_recording
from tapeworks.simulators.binance.source import BinanceSource

ASKED_S_MAX = 5.0
"""So long a book is waited to be asked for."""
ANSWERED_S = 0.3
"""So long time stands still behind the answer with a book, which another socket carries."""
QUOTES = ("USDT", "USDC", "BUSD", "FDUSD", "BTC", "ETH", "BNB", "EUR", "USD")


class PlaybackSource(BinanceSource):
    """The frames of files, in order of their receive times."""

    def __init__(self, config: SimulatorConfig) -> None:
        self._recording = read_recording(config.playback)
        self._product = config.product
        frames = self._recording.frames
        self.symbols = tuple(self._recording.symbols)
        first = min([frames[0].ts] + [book.ts for book in self._recording.books])
        self.start_ns, self.end_ns = first - 1, frames[-1].ts
        self._now = self.start_ns
        self._at = 0
        self._names: list[str] = []
        self._numbers = {name: at for at, name in enumerate(dict.fromkeys(_names(frames)))}
        self._names = list(self._numbers)
        self._wanted: set[int] = set()
        self._books = {symbol: self._book(symbol) for symbol in self.symbols}
        # Symbol -> when time goes on behind its book.
        self._asked: dict[str, float] = {}
        self._barriers = {
            symbol: book.ts for symbol, book in self._books.items() if book is not None
        }
        self._stands_since: float | None = None
        self._info = self._recording.exchange_info or self._make_info()

    def _book(self, symbol: str) -> Book | None:
        books = (book for book in self._recording.books if book.symbol == symbol)
        return next(books, None)

    @property
    def now(self) -> int:
        """The receive time up to which all was played."""
        return self._now

    def stream(self, name: str) -> int | None:
        """Returns the stream of exactly that name."""
        return self._numbers.get(name)

    def want(self, stream: int) -> None:
        """Plays the frames of a stream from now on."""
        self._wanted.add(stream)

    def advance(self, to_ns: int, other: bool) -> Frames:
        """Plays the frames received up to `to_ns`; those of streams that nobody wants are let go.

        Recorded bytes are never changed: microseconds are given only where they were recorded.
        """
        self._now = max(self._now, to_ns)
        end = bisect.bisect_right(
            self._recording.frames, to_ns, lo=self._at, key=lambda frame: frame.ts
        )
        batch = [
            (number, frame.ts, frame.first, frame.last, frame.payload)
            for frame in self._recording.frames[self._at : end]
            if (number := self._numbers[frame.stream]) in self._wanted
        ]
        self._at = end
        return Frames.recorded(self._names, batch)

    def clip(self, to_ns: int) -> int:
        """Stands still at a book that should be asked for."""
        now = time.monotonic()
        for symbol, ts in self._barriers.items():
            if ts > to_ns or not self._followed(symbol):
                continue
            if symbol in self._asked:
                if now >= self._asked[symbol]:
                    continue
                return max(ts, self._now)
            self._stands_since = self._stands_since or now
            if now - self._stands_since > ASKED_S_MAX:
                self._asked[symbol] = now
                self._stands_since = None
                continue
            return max(ts, self._now)
        return to_ns

    def _followed(self, symbol: str) -> bool:
        prefix = f"{symbol.lower()}@depth"
        return any(self._names[number].startswith(prefix) for number in self._wanted)

    def ask(self, symbol: str) -> bool:
        """Returns whether the book was recorded by now; lets time go on if it was."""
        book = self._books.get(symbol)
        return book is None or self._now >= book.ts or not self._followed(symbol)

    def depth(self, symbol: str, limit: int, micros: bool) -> bytes:
        """Returns the recorded book the first time, and then the book that it has become.

        The recorded one is given whole, whatever the limit.
        """
        book = self._books[symbol]
        if book is None:
            return b'{"lastUpdateId":0,"bids":[],"asks":[]}'
        if symbol not in self._asked:
            self._asked[symbol] = time.monotonic() + ANSWERED_S
            self._stands_since = None
            return book.body
        return self._grown(symbol, book, limit)

    def _grown(self, symbol: str, book: Book, limit: int) -> bytes:
        state = json.loads(book.body)
        sides = [{Decimal(price): (price, size) for price, size in state[k]} for k in _SIDES]
        last = book.update_id
        prefix = f"{symbol.lower()}@depth@"
        for frame in self._recording.frames[: self._at]:
            if not frame.stream.startswith(prefix) or frame.last <= last:
                continue
            event = json.loads(frame.payload)
            for side, levels in zip(sides, (event["b"], event["a"]), strict=True):
                for price, size in levels:
                    if Decimal(size):
                        side[Decimal(price)] = (price, size)
                    else:
                        side.pop(Decimal(price), None)
            last = frame.last
        state["lastUpdateId"] = last
        for name, side, falling in zip(_SIDES, sides, (True, False), strict=True):
            state[name] = [side[price] for price in sorted(side, reverse=falling)[:limit]]
        return json.dumps(state, separators=(",", ":")).encode()

    def exchange_info(self, limits: str, micros: bool) -> bytes:
        """Returns what was recorded, or what the frames tell of their symbols."""
        return self._info.replace(b'"rateLimits":[]', b'"rateLimits":' + limits.encode(), 1)

    def _make_info(self) -> bytes:
        symbols = [self._describe(symbol) for symbol in self.symbols]
        time_ms = self.start_ns // 1_000_000
        info = {"timezone": "UTC", "serverTime": time_ms, "rateLimits": [], "symbols": symbols}
        return json.dumps(info, separators=(",", ":")).encode()

    def _describe(self, symbol: str) -> dict[str, object]:
        bodies = [book.body for book in self._recording.books if book.symbol == symbol]
        prices, sizes = _precisions(bodies)
        quote = next((q for q in QUOTES if symbol.split("_")[0].endswith(q)), "USDT")
        base = symbol.split("_")[0].removesuffix(quote)
        entry: dict[str, object] = {
            "symbol": symbol,
            "status": "TRADING",
            "baseAsset": base,
            "baseAssetPrecision": 8,
            "quoteAsset": quote,
            "quotePrecision": 8,
            "filters": [
                {"filterType": "PRICE_FILTER", "tickSize": _step(prices)},
                {"filterType": "LOT_SIZE", "stepSize": _step(sizes)},
            ],
        }
        if PRODUCTS[self._product].is_futures:
            entry |= {"pair": base + quote, "contractType": "PERPETUAL", "marginAsset": quote}
            entry |= {"pricePrecision": prices, "quantityPrecision": sizes}
        return entry

    def trades(
        self,
        symbol: str,
        limit: int,
        from_id: int | None,
        window_ns: tuple[int | None, int | None],
        aggregates: bool,
        micros: bool,
    ) -> bytes:
        """Returns nothing: the venue's history was not recorded."""
        self.listed(symbol)
        return b"[]"

    def klines(
        self,
        symbol: str,
        interval: str,
        limit: int,
        window_ns: tuple[int | None, int | None],
        micros: bool,
    ) -> bytes:
        """Returns nothing: the venue's history was not recorded."""
        self.listed(symbol)
        return b"[]"

    def book_tickers(self, symbols: Sequence[str], micros: bool) -> bytes:
        """Returns nothing: best prices were not recorded on request."""
        return b"[]"

    def facts(self, symbol: str) -> dict[str, int]:
        """Returns how many frames there are and how many were played."""
        prefix = symbol.lower() + "@"
        frames = [frame for frame in self._recording.frames if frame.stream.startswith(prefix)]
        return {
            "frames": len(frames),
            "books": sum(b.symbol == symbol for b in self._recording.books),
        }


_SIDES = ("bids", "asks")


def _names(frames: Iterable[Recorded]) -> Iterable[str]:
    return (frame.stream for frame in frames)


def _precisions(bodies: Sequence[bytes]) -> tuple[int, int]:
    prices = sizes = 0
    for body in bodies:
        for side in _SIDES:
            for price, size in json.loads(body)[side]:
                prices = max([prices, *decimals([f'"{price}"'.encode()])])
                sizes = max([sizes, *decimals([f'"{size}"'.encode()])])
    return (prices, sizes) if bodies else (8, 8)


def _step(places: int) -> str:
    return str(Decimal(1).scaleb(-places)) if places < 7 else f"0.{'0' * (places - 1)}1"
