"""Checks of settings that feeds of several venues have in common."""

import re
from collections.abc import Sequence
from typing import Protocol

from tapeworks.config import check_once, check_url, check_within, source_name
from tapeworks.errors import ConfigError

ALL = "*"
"""Stands for all symbols."""
SYMBOLS_MAX = 20_000


class Streamed(Protocol):
    """The settings of one connection for which many symbols are named."""

    @property
    def symbols(self) -> Sequence[str]: ...

    @property
    def source(self) -> str: ...

    @property
    def ws_url(self) -> str: ...

    @property
    def proxy(self) -> str: ...

    @property
    def idle_timeout_s(self) -> float: ...

    @property
    def pending_bytes_max(self) -> int: ...


def check_streamed(config: Streamed, symbol: re.Pattern[str]) -> None:
    """Refuses symbols, addresses and limits with which nothing can be recorded.

    Raises:
        ConfigError: names the setting.
    """
    wrong = [one for one in config.symbols if not symbol.fullmatch(one)]
    if wrong or not config.symbols:
        found = ", ".join(map(repr, wrong)) or "none"
        raise ConfigError(f"symbols: expected the venue's own, such as AAPL, got {found}")
    check_once("symbols", config.symbols)
    if len(config.symbols) > SYMBOLS_MAX:
        raise ConfigError(
            f"symbols: expected {SYMBOLS_MAX} at most, got {len(config.symbols)}: '*' is all"
        )
    if ALL in config.symbols and len(config.symbols) > 1:
        raise ConfigError("symbols: '*' is all of them: expected no other beside it")
    if config.source:
        source_name(config.source)
    if config.ws_url:
        check_url("ws_url", config.ws_url, ("ws", "wss"))
    if config.proxy:
        check_url("proxy", config.proxy, ("http", "https"))
    check_within("idle_timeout_s", config.idle_timeout_s, 1, 86_400)
    check_within("pending_bytes_max", config.pending_bytes_max, 1 << 16, 1 << 29)


def check_channels(product: str, known: Sequence[str], channels: Sequence[str]) -> None:
    """Refuses channels that a product has not: the venue might not even refuse them.

    Raises:
        ConfigError: names them, and those that there are.
    """
    check_once("channels", channels)
    wrong = [channel for channel in channels if channel not in known]
    if wrong:
        raise ConfigError(
            f"channels: expected those of {product}, {', '.join(known)}, got "
            f"{', '.join(map(repr, wrong))}"
        )
