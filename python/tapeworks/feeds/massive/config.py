"""The settings of a Massive feed."""

import re
from dataclasses import dataclass, field
from typing import ClassVar

from tapeworks.config import check_one_of, check_url, check_within
from tapeworks.errors import ConfigError
from tapeworks.feeds.checks import (
    ALL,
    check_channels,
    check_streamed,
)
from tapeworks.feeds.massive import channels

ENDPOINTS: dict[str, str] = {
    "real-time": "wss://socket.massive.com",
    "delayed": "wss://delayed.massive.com",
    "business": "wss://business.massive.com",
    "delayed-business": "wss://delayed-business.massive.com",
}
DELAYED_S = 900.0
"""What the hosts called delayed tell is a quarter of an hour late."""
REST_URL = "https://api.massive.com"
SYMBOL = re.compile(r"[A-Za-z0-9.:/_*-]{1,48}")
OPTION_QUOTES_MAX = 1000
"""Contracts whose quotes one connection may carry."""


@dataclass(frozen=True)
class MassiveConfig:
    """What to record from Massive, and how. Times in seconds."""

    kind: ClassVar[str] = "massive"

    symbols: tuple[str, ...] = ()
    """The venue's own, such as AAPL, O:SPY251219C00650000, BTC-USD, EUR/USD, I:SPX; or `*`."""
    product: str = "stocks"
    """The market: stocks, options, crypto, forex, indices or futures."""
    channels: tuple[str, ...] = ()
    """The venue's own, such as T, Q, A, AM; none: trades and quotes, or what the market has."""
    source: str = ""
    """The name of the source; none: `massive-` and the market."""
    endpoints: str = "real-time"
    """`real-time`, `delayed`, `business` or `delayed-business`, as the plan has it."""
    ws_url: str = ""
    """Instead of the preset, without the market."""
    rest_url: str = ""
    """Where its history is, instead of the preset; without it there is none for a `ws_url`, nor for
    `off`."""
    backfill_s: float = 86_400.0
    """Gaps in trades and quotes up to so long are filled from the venue's history; 0: none."""
    news_poll_s: float = 0.0
    """News of the symbols are asked for so often, as no stream carries them; 0: never."""
    api_key: str = field(default="", repr=False, metadata={"secret": True})
    """From the environment only; none: MASSIVE_API_KEY or POLYGON_API_KEY there."""
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
        check_one_of("product", self.product, list(channels.PRODUCTS))
        if not self.ws_url:
            check_one_of("endpoints", self.endpoints, list(ENDPOINTS))
        check_streamed(self, SYMBOL)
        if self.rest_url not in ("", "off"):
            check_url("rest_url", self.rest_url, ("http", "https"))
        check_within("backfill_s", self.backfill_s, 0, 7 * 86_400)
        if self.news_poll_s:
            check_within("news_poll_s", self.news_poll_s, 1, 86_400)
        if self.news_poll_s and not self.rest:
            raise ConfigError("news_poll_s: expected a rest_url to ask for news, got none")
        check_channels(self.product, channels.PRODUCTS[self.product], self.channels)
        self._check_option_quotes()

    def _check_option_quotes(self) -> None:
        if self.product != "options" or "Q" not in self.asked_channels:
            return
        if ALL in self.symbols or len(self.symbols) > OPTION_QUOTES_MAX:
            raise ConfigError(
                f"symbols: the venue gives quotes of {OPTION_QUOTES_MAX} contracts at most, each "
                "by its name: name fewer, or record the channel T alone"
            )

    @property
    def delay_s(self) -> float:
        """How much later than it happened the host tells it."""
        return DELAYED_S if self.endpoints.startswith("delayed") else 0.0

    @property
    def asked_channels(self) -> tuple[str, ...]:
        """The venue's channels that are subscribed."""
        return self.channels or channels.DEFAULTS[self.product]

    @property
    def name(self) -> str:
        """The source: the folder of its tapes."""
        return self.source or f"massive-{self.product}"

    @property
    def ws(self) -> str:
        """Where the streams are, without the market."""
        return (self.ws_url or ENDPOINTS[self.endpoints]).rstrip("/")

    @property
    def rest(self) -> str:
        """Where requests go; nothing: none is made."""
        if self.rest_url == "off" or (self.ws_url and not self.rest_url):
            return ""
        return (self.rest_url or REST_URL).rstrip("/")

    @property
    def record_channels(self) -> frozenset[str]:
        """The core's names of the record channels that are subscribed."""
        return frozenset(channels.record_channel(stream) for stream in self.streams()) - {"none"}

    def streams(self) -> list[str]:
        """Returns the names of all streams to subscribe, channel by channel."""
        return [f"{channel}.{symbol}" for channel in self.asked_channels for symbol in self.symbols]
