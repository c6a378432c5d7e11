"""The history of Alpaca: requests for trades and quotes, and what its answers say. Sans I/O."""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import quote

import msgspec

from tapeworks.errors import VenueError
from tapeworks.feeds.base import EndedGap, HistoryPage, Request

ROWS_MAX = 10_000
KINDS = {"trade": "trades", "quote": "quotes"}
STOCK_FEEDS = {"iex": "iex", "sip": "sip", "delayed_sip": "sip", "boats": "boats"}
"""Feeds of stocks whose history there is, and what it calls them: without it, the plan decides."""
CRYPTO_PLACES = {"crypto": "us", "crypto-us-1": "us-1", "crypto-eu-1": "eu-1"}
PRIORITY = 5
RETRY_MS, TOO_MANY_MS, WAIT_S_MAX = 1_000, 60_000, 3_600
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z")
_TOKEN = re.compile(r"&page_token=[^&#]*")
LOOK_BACK_NS = 900_000_000_000
"""So far before a gap trades of stocks are asked for, as some were cancelled or corrected in it."""


class _Row(msgspec.Struct):
    t: str = ""


class _Answer(msgspec.Struct):
    trades: dict[str, list[_Row] | None] | list[_Row] | None = None
    quotes: dict[str, list[_Row] | None] | list[_Row] | None = None
    next_page_token: str | None = None


class _Refusal(msgspec.Struct):
    message: str = ""


def request_for(product: str, gap: EndedGap) -> Request | None:
    """Returns the request for the first page of what `gap` lacks, oldest first."""
    rows = KINDS.get(gap.channel)
    first, last = gap.times
    # The core's decoder of the answer reads the fragment; it is not sent.
    fragment = ""
    if product in STOCK_FEEDS and gap.channel == "trade":
        first, fragment = first - LOOK_BACK_NS, f"#live-before={first}"
    start, end = (quote(time_text(ts), safe="") for ts in (first, last))
    asked = f"start={start}&end={end}&limit={ROWS_MAX}&sort=asc"
    symbol = quote(gap.symbol, safe="")
    if rows is None:
        return None
    if feed := STOCK_FEEDS.get(product):
        path = f"/v2/stocks/{symbol}/{rows}?{asked}&feed={feed}{fragment}"
    elif place := CRYPTO_PLACES.get(product):
        path = f"/v1beta3/crypto/{place}/{rows}?symbols={symbol}&{asked}"
    elif product in ("options", "opra") and rows == "trades":
        path = f"/v1beta1/options/{rows}?symbols={symbol}&{asked}"
    else:
        return None
    return Request(PRIORITY, path, symbol=gap.symbol, ts_last=last)


def page_of(request: Request, body: bytes) -> HistoryPage | None:
    """Returns how far an answer reaches, and the request for the next one."""
    try:
        answer = msgspec.json.decode(body, type=_Answer)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return None
    reached = -1
    for rows in (answer.trades, answer.quotes):
        lists = rows.values() if isinstance(rows, dict) else [rows]
        for row in (row for one in lists for row in one or ()):
            ts = time_of(row.t)
            reached = max(reached, ts if ts <= request.ts_last else -1)
    if not answer.next_page_token:
        return HistoryPage(reached)
    token = quote(answer.next_page_token, safe="")
    before, mark, fragment = _TOKEN.sub("", request.path).partition("#")
    path = f"{before}&page_token={token}{mark}{fragment}"
    return HistoryPage(reached, replace(request, path=path))


def refusal(status: int, headers: Mapping[str, str], body: bytes, wall_s: float) -> VenueError:
    """Returns the error that a status of 400 or more means; asked again where that may help."""
    try:
        text = msgspec.json.decode(body, type=_Refusal).message[:200]
    except (msgspec.MsgspecError, RecursionError, ValueError):
        text = ""
    retry_ms = RETRY_MS if status >= 500 else 0
    if status == 429:
        reset = next((v for k, v in headers.items() if k.lower() == "x-ratelimit-reset"), "")
        is_time = reset.isascii() and reset.isdigit() and len(reset) < 12
        pause_s = int(reset) - wall_s if is_time else 0
        retry_ms = int(1000 * pause_s) if 0 < pause_s <= WAIT_S_MAX else TOO_MANY_MS
    message = f"the venue answered {status}: {text or 'no reason'}"
    return VenueError(message, status=status, retry_after_ms=retry_ms)


def time_text(ts: int) -> str:
    """Writes a time in ns as the venue does, to the ns."""
    second = datetime.fromtimestamp(ts // 1_000_000_000, UTC)
    return f"{second:%Y-%m-%dT%H:%M:%S}.{ts % 1_000_000_000:09d}Z"


def time_of(text: str) -> int:
    """Reads a time of the venue, in ns; -1: it is none."""
    found = _TIME.fullmatch(text)
    try:
        second = datetime.fromisoformat(found[1]).replace(tzinfo=UTC) if found else None
    except ValueError:
        second = None
    if found is None or second is None:
        return -1
    return int(second.timestamp()) * 1_000_000_000 + int((found[2] or "").ljust(9, "0"))
