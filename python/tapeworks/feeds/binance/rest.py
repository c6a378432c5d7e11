"""The REST side of Binance: paths, weights and what its answers say. Sans I/O."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

import msgspec

from tapeworks.errors import VenueError
from tapeworks.feeds.base import Request
from tapeworks.feeds.binance.products import PRODUCTS

SPOT_DEPTH_LIMIT_MAX = 5000
PATH_BYTES_MAX = 7000
FUTURES_DEPTH_LIMITS = (5, 10, 20, 50, 100, 500, 1000)
BANNED = 418
TOO_MANY = 429
FORBIDDEN = 403

_SPOT_DEPTH_WEIGHTS = ((100, 5), (500, 25), (1000, 50), (5000, 250))
_FUTURES_DEPTH_WEIGHTS = ((50, 2), (100, 5), (500, 10), (1000, 20))
_WINDOW_S = {"SECOND": 1, "MINUTE": 60, "HOUR": 3600, "DAY": 86_400}
_USED = re.compile(r"x-mbx-used-weight-(\d+)([smhd])", re.IGNORECASE)
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_BANNED_UNTIL = re.compile(r"banned until (\d{13})\b")
_NUMBER = re.compile(r"[0-9]{1,13}")
LIMIT_MIN, LIMIT_MAX = 500, 100_000_000
"""Limits per window that a venue may have; others are not believed. One snapshot weighs 250."""
BAN_S_MAX = 3 * 86_400
"""The longest ban that the venue documents. A longer one is not believed."""


@dataclass(frozen=True)
class RateLimit:
    """One limit of exchangeInfo."""

    kind: str
    window_s: int
    limit: int


class _WireLimit(msgspec.Struct, rename="camel"):
    rate_limit_type: str = ""
    interval: str = ""
    interval_num: int = 1
    limit: int = 0


class _WireInfo(msgspec.Struct, rename="camel"):
    rate_limits: list[_WireLimit] = []


class _WireError(msgspec.Struct):
    code: int = 0
    msg: str = ""


def exchange_info_request(product: str, symbols: Sequence[str], priority: int) -> Request:
    """Returns the request for the definitions of `symbols`."""
    path = f"{PRODUCTS[product].rest_root}/exchangeInfo"
    if PRODUCTS[product].is_futures:
        return Request(priority, path, weight=1)
    named = tuple(symbols)
    wanted = quote("[" + ",".join(f'"{symbol}"' for symbol in symbols) + "]", safe="")
    if len(wanted) > PATH_BYTES_MAX:
        # All symbols weigh the same, and a path so long is refused.
        return Request(priority, path, weight=20)
    return Request(priority, f"{path}?symbols={wanted}", weight=20, symbols=named)


def depth_request(product: str, symbol: str, limit: int, priority: int) -> Request:
    """Returns the request for the book of `symbol`, `limit` levels a side."""
    weights = _FUTURES_DEPTH_WEIGHTS if PRODUCTS[product].is_futures else _SPOT_DEPTH_WEIGHTS
    weight = next(weight for top, weight in weights if limit <= top)
    path = f"{PRODUCTS[product].depth_path}?symbol={quote(symbol)}&limit={limit}"
    return Request(priority, path, weight=weight, symbol=symbol)


def rate_limits(body: bytes) -> list[RateLimit]:
    """Returns the limits that an exchangeInfo answer lists; none if it cannot be read."""
    try:
        info = msgspec.json.decode(body, type=_WireInfo)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return []
    return [
        RateLimit(wire.rate_limit_type, _WINDOW_S[wire.interval] * wire.interval_num, wire.limit)
        for wire in info.rate_limits
        if wire.interval in _WINDOW_S
        and LIMIT_MIN <= wire.limit <= LIMIT_MAX
        and 0 < wire.interval_num <= LIMIT_MAX
    ]


def is_whole(body: bytes) -> bool:
    """Says whether `body` is one whole JSON value."""
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return False
    return True


def number(text: str) -> int:
    """Returns the whole number that a header says, 0 if it is none that can be believed."""
    text = text.strip()
    return int(text) if _NUMBER.fullmatch(text) else 0


def weight_used(headers: Mapping[str, str], window_s: int) -> int:
    """Returns the weight that an answer's headers say was used in this window; 0 if none does."""
    used = 0
    for name, value in headers.items():
        match = _USED.fullmatch(name)
        if match and number(match[1]) * _UNIT_S[match[2].lower()] == window_s:
            used = max(used, min(number(value), LIMIT_MAX))
    return used


def refusal(status: int, headers: Mapping[str, str], body: bytes, wall_ms: int) -> VenueError:
    """Returns the error that an answer with an HTTP status of 400 or more means.

    `retry_after_ms` is 0 when asking again would not help.
    """
    try:
        wire = msgspec.json.decode(body, type=_WireError)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        wire = _WireError()
    text = wire.msg[:200] or body[:200].decode("utf-8", "replace")
    message = f"the venue answered {status}, code {wire.code}: {text}"
    retry_after_ms = _retry_ms(status, headers, text, wall_ms)
    return VenueError(message, status=status, retry_after_ms=retry_after_ms)


def _retry_ms(status: int, headers: Mapping[str, str], text: str, wall_ms: int) -> int:
    told = next((v for k, v in headers.items() if k.lower() == "retry-after"), "")
    if status in (TOO_MANY, BANNED):
        until = _BANNED_UNTIL.search(text)
        waits = [number(told) * 1000, number(until[1]) - wall_ms if until else 0]
        believed = [wait for wait in waits if 0 < wait <= BAN_S_MAX * 1000]
        # Without a word from the venue: a minute resets the weight, a ban lasts two at least.
        return max(believed, default=60_000 if status == TOO_MANY else 120_000)
    if status == FORBIDDEN:
        return 300_000
    return 1000 if status >= 500 else 0
