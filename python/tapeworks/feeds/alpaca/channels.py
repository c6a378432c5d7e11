"""The feeds of Alpaca: where each is, its channels, and the record channel that each fills."""

from dataclasses import dataclass

from tapeworks.feeds.checks import ALL

STOCKS = (
    *("trades", "quotes", "bars", "updatedBars", "dailyBars"),
    *("statuses", "lulds", "imbalances"),
)
CRYPTO = ("trades", "quotes", "bars", "updatedBars", "dailyBars", "orderbooks")
OPTIONS = ("trades", "quotes")
LATE_S = 900.0
"""What the venue sells as delayed is a quarter of an hour late."""


@dataclass(frozen=True)
class Product:
    """One of the venue's feeds, on a connection of its own."""

    path: str
    channels: tuple[str, ...]
    defaults: tuple[str, ...] = ("trades", "quotes")
    is_binary: bool = False
    """Whether its frames come as msgpack alone."""
    delay_s: float = 0.0
    """So much later than it happened all of it is told."""
    late: tuple[str, ...] = ()
    """Record channels that are told later than the others, by `LATE_S`."""


PRODUCTS: dict[str, Product] = {
    "iex": Product("v2/iex", STOCKS),
    "sip": Product("v2/sip", STOCKS),
    "delayed_sip": Product("v2/delayed_sip", STOCKS, delay_s=LATE_S),
    "overnight": Product("v1beta1/overnight", STOCKS),
    "boats": Product("v1beta1/boats", STOCKS),
    "test": Product("v2/test", STOCKS),
    "crypto": Product("v1beta3/crypto/us", CRYPTO),
    "crypto-us-1": Product("v1beta3/crypto/us-1", CRYPTO),
    "crypto-eu-1": Product("v1beta3/crypto/eu-1", CRYPTO),
    "options": Product("v1beta1/indicative", OPTIONS, is_binary=True, late=("trade",)),
    "opra": Product("v1beta1/opra", OPTIONS, is_binary=True),
    "news": Product("v1beta1/news", ("news",), ("news",)),
}
RECORDS: dict[str, str] = {
    "trades": "trade",
    "quotes": "quote",
    **dict.fromkeys(("bars", "updatedBars", "dailyBars"), "kline"),
    "orderbooks": "depth",
}
"""Channel to the core's name of the record channel; those that are not here fill none of them."""


def record_channel(stream: str) -> str:
    """Returns the core's name of the record channel that a stream such as `trades.AAPL` fills."""
    return RECORDS.get(stream.partition(".")[0], "none")


def stream_symbol(stream: str) -> str:
    """Returns the symbol that the events of a stream are of; nothing: of more than one."""
    symbol = stream.partition(".")[2]
    return "" if symbol == ALL else symbol
