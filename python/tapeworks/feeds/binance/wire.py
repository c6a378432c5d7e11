"""What Binance's frames say without being decoded."""

import re
from types import MappingProxyType

from tapeworks.feeds.binance.products import PRODUCTS
from tapeworks.feeds.wire import Wire

_EVENT_TIME = re.compile(rb'"E" ?: ?(\d{13,16})')
_STREAM = re.compile(rb'\s*\{"stream" ?: ?"([^"]+)"')
_DEPTH_ANSWER = re.compile(rb'\s*\{"lastUpdateId"')
_DEPTH_PATHS = {f"binance-{name}": product.depth_path for name, product in PRODUCTS.items()}
# What a message calls itself: its event, or the stream that brought it.
_EVENT = re.compile(rb'"e" ?: ?"([a-zA-Z0-9]{1,32})"')
_STREAM_LABEL = re.compile(rb'\s*\{"stream" ?: ?"[^"@]{0,64}@([a-zA-Z]{1,32})')
_STARTS_WITHIN = 512


class BinanceWire(Wire):
    """Binance spot and futures."""

    channels = MappingProxyType({"trade": "trade", "aggTrade": "agg_trade"})

    def event_time(self, frame: bytes) -> int | None:
        """Returns the event time, wherever it stands."""
        found = _EVENT_TIME.search(frame)
        return int(found[1].ljust(19, b"0")) if found else None

    def stream(self, frame: bytes) -> str:
        """Returns the stream of the envelope."""
        found = _STREAM.match(frame)
        return found[1].decode("utf-8", "replace") if found else ""

    def symbol(self, frame: bytes) -> str:
        """Returns the symbol of the envelope's stream, upper case."""
        symbol, at, _ = self.stream(frame).partition("@")
        return symbol.upper() if at else ""

    def labels(self, frame: bytes) -> tuple[str, ...]:
        """Returns the event, or what the stream is of."""
        start = frame[:_STARTS_WITHIN]
        found = _EVENT.search(start) or _STREAM_LABEL.match(start)
        return (found[1].decode(),) if found else ()

    def is_book_answer(self, frame: bytes) -> bool:
        """Looks for the id that only snapshots start with."""
        return bool(_DEPTH_ANSWER.match(frame))

    def book_request(self, symbol: str) -> str:
        """Returns the path of the depth snapshot."""
        return f"{_DEPTH_PATHS[self.native]}?symbol={symbol}"
