"""The settings of an Alpaca feed."""

import re
from dataclasses import dataclass, field
from typing import ClassVar

from tapeworks.config import check_one_of, check_url, check_within
from tapeworks.errors import ConfigError
from tapeworks.feeds.alpaca.channels import LATE_S, PRODUCTS, Product, record_channel
from tapeworks.feeds.checks import (
    ALL,
    check_channels,
    check_streamed,
)

ENDPOINTS: dict[str, str] = {
    "live": "wss://stream.data.alpaca.markets",
    "sandbox": "wss://stream.data.sandbox.alpaca.markets",
}
REST_URLS: dict[str, str] = {
    "live": "https://data.alpaca.markets",
    "sandbox": "https://data.sandbox.alpaca.markets",
}
ENCODINGS = ("json", "msgpack")
SYMBOL = re.compile(r"[A-Za-z0-9./*_-]{1,48}")
FAKE = "FAKEPACA"
"""The only symbol of the feed `test`."""


@dataclass(frozen=True)
class AlpacaConfig:
    """What to record from Alpaca, and how. Times in seconds."""

    kind: ClassVar[str] = "alpaca"

    symbols: tuple[str, ...] = ()
    """The venue's own, such as AAPL, BTC/USD, AAPL240308C00172500; or `*`."""
    product: str = "iex"
    """The feed: iex, sip, delayed_sip, overnight, boats, test, crypto, crypto-us-1, crypto-eu-1,
    options (indicative), opra or news."""
    channels: tuple[str, ...] = ()
    """The venue's own, such as trades, quotes, bars, orderbooks; none: trades and quotes."""
    source: str = ""
    """The name of the source; none: `alpaca-` and the feed."""
    endpoints: str = "live"
    """`live` or `sandbox`, as the keys are."""
    ws_url: str = ""
    """Instead of the preset, without the path of the feed."""
    rest_url: str = ""
    """Where its history is, instead of the preset; without it there is none for a `ws_url`, nor for
    `off`."""
    backfill_s: float = 86_400.0
    """Gaps in trades and quotes up to so long are filled from the venue's history; 0: none."""
    encoding: str = "json"
    """`json` or `msgpack`. JSON has the venue's own digits; options come as msgpack alone."""
    api_key: str = field(default="", repr=False, metadata={"secret": True})
    """From the environment only; none: APCA_API_KEY_ID there."""
    api_secret: str = field(default="", repr=False, metadata={"secret": True})
    """From the environment only; none: APCA_API_SECRET_KEY there."""
    calendar: str = ""
    """The exchange whose regular hours these are, such as XNYS: within them, a symbol that spoke
    often and falls silent is a gap. None: silence is no gap, but for crypto, which never closes.
    Needs `pip install "tapeworks[calendars]"`."""
    idle_timeout_s: float = 60.0
    """A connection that carries nothing for so long, not even the answer to a ping, is replaced."""
    proxy: str = ""
    ca_file: str = ""
    insecure: bool = False
    """Accept any certificate: for a simulator on this machine only."""
    pending_bytes_max: int = 64 << 20
    """Frames waiting for a tape that cannot be written; beyond it the newest are shed, counted."""

    def __post_init__(self) -> None:
        check_one_of("product", self.product, list(PRODUCTS))
        check_one_of("encoding", self.encoding, ENCODINGS)
        if not self.ws_url:
            check_one_of("endpoints", self.endpoints, list(ENDPOINTS))
        check_streamed(self, SYMBOL)
        if self.rest_url not in ("", "off"):
            check_url("rest_url", self.rest_url, ("http", "https"))
        check_within("backfill_s", self.backfill_s, 0, 7 * 86_400)
        check_channels(self.product, self._product.channels, self.channels)
        self._check_symbols()

    def _check_symbols(self) -> None:
        """Refuses symbols that the feed cannot have: of one of them the venue refuses all."""
        pair = [symbol for symbol in self.symbols if "/" in symbol]
        other = [symbol for symbol in self.symbols if "/" not in symbol and symbol != ALL]
        if self.is_crypto and other:
            raise ConfigError(f"symbols: expected pairs such as BTC/USD, got {other[0]!r}")
        if not self.is_crypto and self.product != "news" and pair:
            raise ConfigError(f"symbols: {pair[0]!r} is a pair of the product crypto")
        if self.product == "test" and self.symbols != (FAKE,):
            raise ConfigError(f"symbols: the feed test has {FAKE} alone, got {self.symbols[0]!r}")
        if self._product.is_binary and "quotes" in self.asked_channels and ALL in self.symbols:
            raise ConfigError(
                "symbols: the venue gives quotes of options by name only: name them, or record the "
                "channel trades alone"
            )

    @property
    def _product(self) -> Product:
        return PRODUCTS[self.product]

    @property
    def is_crypto(self) -> bool:
        """Whether the market never closes."""
        return self.product.startswith("crypto")

    @property
    def delay_s(self) -> float:
        """How much later than it happened the feed tells it."""
        return self._product.delay_s

    @property
    def delays(self) -> dict[str, float]:
        """The same of record channels that are later than the others."""
        return dict.fromkeys(self._product.late, LATE_S)

    @property
    def is_binary(self) -> bool:
        """Whether frames are msgpack, both ways."""
        return self._product.is_binary or self.encoding == "msgpack"

    @property
    def asked_channels(self) -> tuple[str, ...]:
        """The venue's channels that are subscribed."""
        return self.channels or self._product.defaults

    @property
    def name(self) -> str:
        """The source: the folder of its tapes."""
        return self.source or f"alpaca-{self.product.replace('_', '-')}"

    @property
    def ws(self) -> str:
        """Where the stream is."""
        return f"{(self.ws_url or ENDPOINTS[self.endpoints]).rstrip('/')}/{self._product.path}"

    @property
    def rest(self) -> str:
        """Where requests go; nothing: none is made."""
        if self.rest_url == "off" or (self.ws_url and not self.rest_url):
            return ""
        return (self.rest_url or REST_URLS[self.endpoints]).rstrip("/")

    @property
    def record_channels(self) -> frozenset[str]:
        """The core's names of the record channels that are subscribed."""
        return frozenset(record_channel(stream) for stream in self.streams()) - {"none"}

    def streams(self) -> list[str]:
        """Returns the names of all streams to subscribe, channel by channel."""
        return [f"{channel}.{symbol}" for channel in self.asked_channels for symbol in self.symbols]
