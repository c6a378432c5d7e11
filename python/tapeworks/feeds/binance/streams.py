"""The streams of Binance: their names, their paths, and how each speaks when all is well."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tapeworks.errors import ConfigError
from tapeworks.feeds.base import LivenessPolicy
from tapeworks.feeds.binance.products import PRODUCTS

_MINUTES_AND_HOURS = ("1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h")
FUTURES_INTERVALS = (*_MINUTES_AND_HOURS, "1d", "3d", "1w", "1M")
SPOT_INTERVALS = ("1s", *FUTURES_INTERVALS)
SPOT_DEPTH_SPEEDS_MS = (100, 1000)
# 0 is the stream of every change, which the venue serves without naming it.
FUTURES_DEPTH_SPEEDS_MS = (0, 100, 250, 500)
PARTIAL_LEVELS = (5, 10, 20)

_PARTIAL = re.compile(r"depth(\d+)")
_KLINE = re.compile(r"kline_(\w+)(@\+08:00)?")


@dataclass(frozen=True)
class StreamClass:
    """What all streams of one channel have in common."""

    channel: str
    """The record channel that they fill, by the core's name."""
    routed_path: str
    """The path on USD-M futures; a stream asked for on the other path is silent for good."""
    liveness: LivenessPolicy


# Trades and klines stop when nobody trades, so their silence says nothing; a jump in their
# sequence does. The book of an active symbol moves all the time, and mark prices are clockwork.
_CLASSES = {
    "trade": StreamClass("trade", "market", LivenessPolicy()),
    "aggTrade": StreamClass("agg_trade", "market", LivenessPolicy()),
    "bookTicker": StreamClass("quote", "public", LivenessPolicy(30.0, 30.0, learned=True)),
    "depth": StreamClass("depth", "public", LivenessPolicy(30.0, 30.0, learned=True)),
    "partial": StreamClass("partial_depth", "public", LivenessPolicy(30.0, 30.0, learned=True)),
    "kline": StreamClass("kline", "market", LivenessPolicy()),
    "ticker": StreamClass("ticker", "market", LivenessPolicy(60.0, 60.0, learned=True)),
    "markPrice": StreamClass("mark", "market", LivenessPolicy(15.0, 15.0)),
}


def stream_name(product: str, symbol: str, channel: str, depth_speed_ms: int) -> str:
    """Returns the name of the stream that carries `channel` of `symbol`.

    Raises:
        ConfigError: the product has no such channel.
    """
    low = symbol.lower()
    is_futures = PRODUCTS[product].is_futures
    intervals = FUTURES_INTERVALS if is_futures else SPOT_INTERVALS
    kline, partial = _KLINE.fullmatch(channel), _PARTIAL.fullmatch(channel)
    if channel == "depth" or (partial and int(partial[1]) in PARTIAL_LEVELS):
        default_ms = 250 if is_futures else 1000
        speed = "" if depth_speed_ms == default_ms else f"@{depth_speed_ms}ms"
        return f"{low}@{channel}{speed}"
    if kline and kline[1] in intervals:
        return f"{low}@{channel}"
    if channel == "markPrice" and is_futures:
        return f"{low}@markPrice@1s"
    if channel in ("trade", "aggTrade", "bookTicker", "ticker"):
        return f"{low}@{channel}"
    raise ConfigError(
        f"channels: expected trade, aggTrade, bookTicker, depth, depth5, depth10, depth20, ticker, "
        f"kline_<{'|'.join(intervals)}>{', markPrice' if is_futures else ''}; "
        f"found {channel!r} for {product}"
    )


def stream_class(stream: str) -> StreamClass:
    """Returns the class of the stream called `stream`."""
    channel = stream.partition("@")[2].partition("@")[0]
    if channel.startswith("kline_"):
        return _CLASSES["kline"]
    if channel != "depth" and channel.startswith("depth"):
        return _CLASSES["partial"]
    return _CLASSES[channel]


def stream_channel(stream: str) -> str:
    """Returns the core's name of the record channel that `stream` fills, or `none`."""
    try:
        return stream_class(stream).channel
    except KeyError:
        return "none"


def stream_symbol(stream: str) -> str:
    """Returns the venue symbol of the stream called `stream`."""
    return stream.partition("@")[0].upper()


def grouped(product: str, streams: Sequence[str], streams_max: int) -> list[tuple[str, list[str]]]:
    """Returns (path, streams) of each connection: by routed path, at most `streams_max` each."""
    paths: dict[str, list[str]] = {}
    for stream in streams:
        routed = f"/{stream_class(stream).routed_path}" if PRODUCTS[product].is_routed else ""
        path = f"{routed}/stream"
        paths.setdefault(path, []).append(stream)
    return [
        (path, names[start : start + streams_max])
        for path, names in paths.items()
        for start in range(0, len(names), streams_max)
    ]
