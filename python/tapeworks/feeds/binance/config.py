"""The settings of a Binance feed."""

import re
from dataclasses import dataclass
from typing import ClassVar

from tapeworks.config import check_once, check_one_of, check_url, check_within, source_name
from tapeworks.errors import ConfigError
from tapeworks.feeds.binance import rest, streams
from tapeworks.feeds.binance.products import PRODUCTS

# As it fits into a definition.
SYMBOL_BYTES_MAX = 48

ENDPOINTS: dict[tuple[str, str], tuple[str, str]] = {
    ("spot", "production"): ("wss://stream.binance.com:9443", "https://api.binance.com"),
    ("spot", "data-only"): ("wss://data-stream.binance.vision", "https://data-api.binance.vision"),
    ("spot", "testnet"): ("wss://stream.testnet.binance.vision", "https://testnet.binance.vision"),
    ("spot", "tr"): ("wss://stream-cloud.binance.tr", "https://api.binance.me"),
    ("spot", "us"): ("wss://stream.binance.us:9443", "https://api.binance.us"),
    ("usdm", "production"): ("wss://fstream.binance.com", "https://fapi.binance.com"),
    ("usdm", "testnet"): ("wss://fstream.binancefuture.com", "https://testnet.binancefuture.com"),
    ("coinm", "production"): ("wss://dstream.binance.com", "https://dapi.binance.com"),
    ("coinm", "testnet"): ("wss://dstream.binancefuture.com", "https://testnet.binancefuture.com"),
}
"""(product, preset) to (WebSocket, REST)."""


@dataclass(frozen=True)
class BinanceConfig:
    """What to record from Binance, and how. Times in seconds unless the name says otherwise."""

    kind: ClassVar[str] = "binance"

    symbols: tuple[str, ...] = ()
    product: str = "spot"
    """`spot`, or futures: `usdm`, or `coinm` with symbols such as BTCUSD_PERP."""
    channels: tuple[str, ...] = ("trade", "bookTicker", "depth")
    depth_speed_ms: int = 100
    source: str = ""
    """The name of the source; none: the name of the feed, such as `binance-spot`."""
    endpoints: str = "production"
    """`production`, `testnet`, `data-only`, `us` (Binance.US) or `tr` (Binance TR)."""
    ws_url: str = ""
    """Instead of the preset."""
    rest_url: str = ""
    """Instead of the preset; `off` makes no request at all."""
    connections: int = 1
    """2 carries every stream on two sockets; the first copy of a message wins."""
    streams_max: int = 200
    """Streams per connection; the venue allows 1024."""
    rotation_s: float = 82_800.0
    """Connections are replaced, with overlap, at this age; the venue cuts them at 24 hours."""
    snapshot_limit: int = 0
    """Levels a side of a REST snapshot; 0: 5000 on spot, 1000 on futures."""
    snapshot_refresh_s: float = 0.0
    """Put a fresh snapshot of every book on the raw tape after so long, to check against; a
    verified book does not take it in. 0: never."""
    definitions_s: float = -1.0
    """How often exchangeInfo is fetched, for halts and changed tick sizes; 0: at the start only;
    -1: 300 on spot; 3600 on futures, which send all their symbols at once and never fewer."""
    weight_share: float = 0.5
    """The part of the venue's request weight that this recorder may use."""
    time_unit: str = ""
    """`microsecond` or `millisecond`; none: microsecond on spot, millisecond on futures."""
    backfill_s: float = 86_400.0
    """Gaps in trades up to so long are filled from the venue's history, by their ids; 0: none."""
    idle_timeout_s: float = 30.0
    """A connection that carries nothing for so long is replaced."""
    proxy: str = ""
    ca_file: str = ""
    insecure: bool = False
    """Accept any certificate: for a simulator on this machine only."""
    pending_bytes_max: int = 64 << 20
    """Frames waiting for a tape that cannot be written; beyond it the newest are shed, counted."""

    def __post_init__(self) -> None:
        check_one_of("product", self.product, tuple(PRODUCTS))
        check_one_of("time_unit", self.time_unit, ("", "microsecond", "millisecond"))
        presets = [preset for product, preset in ENDPOINTS if product == self.product]
        if not (self.ws_url and self.rest_url):
            check_one_of("endpoints", self.endpoints, presets)
        # The venue writes them in upper case, and nowhere are there two that differ in it alone.
        object.__setattr__(self, "symbols", tuple(symbol.upper() for symbol in self.symbols))
        wrong = [symbol for symbol in self.symbols if not _is_symbol(symbol)]
        if wrong or not self.symbols:
            found = ", ".join(map(repr, wrong)) or "none"
            raise ConfigError(f"symbols: expected the venue's own, such as BTCUSDT, got {found}")
        check_once("symbols", self.symbols)
        if not self.channels:
            raise ConfigError("channels: expected at least one, got none")
        check_once("channels", self.channels)
        if self.source:
            source_name(self.source)
        if self.ws_url:
            check_url("ws_url", self.ws_url, ("ws", "wss"))
        if self.rest_url not in ("", "off"):
            check_url("rest_url", self.rest_url, ("http", "https"))
        if self.proxy:
            check_url("proxy", self.proxy, ("http", "https"))
        is_futures = PRODUCTS[self.product].is_futures
        speeds = streams.FUTURES_DEPTH_SPEEDS_MS if is_futures else streams.SPOT_DEPTH_SPEEDS_MS
        check_one_of("depth_speed_ms", self.depth_speed_ms, speeds)
        check_within("connections", self.connections, 1, 4)
        check_within("streams_max", self.streams_max, 1, 1024)
        check_within("backfill_s", self.backfill_s, 0, 7 * 86_400)
        check_within("rotation_s", self.rotation_s, 1, 86_000)
        check_within("weight_share", self.weight_share, 0.01, 1)
        check_within("pending_bytes_max", self.pending_bytes_max, 1 << 16, 1 << 29)
        if is_futures:
            check_one_of("snapshot_limit", self.snapshot_limit, (0, *rest.FUTURES_DEPTH_LIMITS))
        else:
            check_within("snapshot_limit", self.snapshot_limit, 0, rest.SPOT_DEPTH_LIMIT_MAX)
        self.streams()

    @property
    def feed(self) -> str:
        """The name of the decoder in the core."""
        return f"binance-{self.product}"

    @property
    def name(self) -> str:
        """The source: the folder of its tapes."""
        return self.source or self.feed

    @property
    def ws(self) -> str:
        """Where the streams are, without a path."""
        return (self.ws_url or ENDPOINTS[self.product, self.endpoints][0]).rstrip("/")

    @property
    def rest(self) -> str:
        """Where the requests go, without a path; empty when they are off."""
        if self.rest_url == "off":
            return ""
        return (self.rest_url or ENDPOINTS[self.product, self.endpoints][1]).rstrip("/")

    @property
    def microseconds(self) -> bool:
        """Whether times are asked for in microseconds."""
        default = "microsecond" if self.product == "spot" else "millisecond"
        return (self.time_unit or default) == "microsecond"

    @property
    def record_channels(self) -> frozenset[str]:
        """The core's names of the record channels that are subscribed."""
        return frozenset(streams.stream_class(stream).channel for stream in self.streams())

    def streams(self) -> list[str]:
        """Returns the names of all streams to subscribe."""
        return [
            streams.stream_name(self.product, symbol, channel, self.depth_speed_ms)
            for symbol in self.symbols
            for channel in self.channels
        ]


def _is_symbol(text: str) -> bool:
    return bool(re.fullmatch(r"\w+", text)) and len(text.encode()) <= SYMBOL_BYTES_MAX
