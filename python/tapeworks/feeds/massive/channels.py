"""The channels of Massive by market, and the record channel that each fills."""

from tapeworks.feeds.checks import ALL

PRODUCTS: dict[str, tuple[str, ...]] = {
    "stocks": ("T", "Q", "A", "AM", "LULD", "NOI", "FMV"),
    "options": ("T", "Q", "A", "AM", "FMV"),
    "crypto": ("XT", "XQ", "XL2", "XA", "XAS", "FMV"),
    "forex": ("C", "CA", "CAS", "FMV"),
    "indices": ("V", "A", "AM"),
    "futures": ("T", "Q", "A", "AM"),
}
"""Market to its channels. The venue answers nothing at all to any other."""
DEFAULTS: dict[str, tuple[str, ...]] = {
    "stocks": ("T", "Q"),
    "options": ("T", "Q"),
    "crypto": ("XT", "XQ"),
    "forex": ("C",),
    "indices": ("V",),
    "futures": ("T", "Q"),
}
RECORDS: dict[str, str] = {
    "T": "trade",
    "XT": "trade",
    "Q": "quote",
    "XQ": "quote",
    "C": "quote",
    "XL2": "partial_depth",
    "V": "mark",
    "FMV": "mark",
    **dict.fromkeys(("A", "AM", "XA", "XAS", "CA", "CAS"), "kline"),
}
"""Channel to the core's name of the record channel; those that are not here fill none of them."""
PER_EXCHANGE = ("XQ", "XL2")
"""Events of these are of a pair on one exchange, `BTC-USD@1`; a subscription is of all of them."""


def record_channel(stream: str) -> str:
    """Returns the core's name of the record channel that a stream such as `T.AAPL` fills."""
    return RECORDS.get(stream.partition(".")[0], "none")


def stream_symbol(stream: str) -> str:
    """Returns the symbol that the events of a stream are of; nothing: of more than one."""
    channel, _, symbol = stream.partition(".")
    return "" if symbol == ALL or channel in PER_EXCHANGE else symbol
