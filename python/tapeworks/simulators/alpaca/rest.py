"""The REST interface: the past in pages, the latest quotes, and what is refused.

Times are RFC 3339 or dates, and both ends are within. A page holds `limit` rows of all symbols
together, sorted by symbol and then by time; its token is where the next one begins.
"""

import base64
import json
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec
from aiohttp import web

from tapeworks.errors import TapeworksError
from tapeworks.simulators.alpaca.config import SimulatorConfig
from tapeworks.simulators.alpaca.source import MarketSource
from tapeworks.simulators.faults import Faults
from tapeworks.simulators.source import NS_PER_S
from tapeworks.simulators.stories import Stories, Story

LIMIT_DEFAULT, LIMIT_MAX, NEWS_MAX = 1000, 10_000, 50
KEY, SECRET = "APCA-API-KEY-ID", "APCA-API-SECRET-KEY"
STOCKS, CRYPTO, NEWS = "/v2/stocks", "/v1beta3/crypto/{place}", "/v1beta1/news"
OPTIONS = "/v1beta1/options"
EVERYTHING = ("trades", "quotes", "bars")
# Of options the venue keeps no quotes.
PAGED: dict[str, tuple[str, ...]] = {STOCKS: EVERYTHING, CRYPTO: EVERYTHING, OPTIONS: ("trades",)}
_FRAME = re.compile(r"(\d{1,2})(Min|T|Hour|H|Day|D)")
_UNIT_MS = {"M": 60_000, "T": 60_000, "H": 3_600_000, "D": 86_400_000}
_FRACTION = re.compile(r"\.(\d{1,9})\d*")
END_OF_TIME_NS = (1 << 63) - 1


class BadRequest(TapeworksError):
    """A request that the venue refuses, with its HTTP status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass
class Rest:
    """The REST interface of stocks, options and crypto."""

    source: MarketSource
    config: SimulatorConfig
    faults: Faults
    stories: Stories
    requests: dict[str, int] = field(default_factory=dict)
    """Answered and refused requests, by path and status."""
    _minute: int = 0
    _used: int = 0

    def routes(self) -> list[web.RouteDef]:
        """Returns the venue's paths."""
        found = []
        for root, paged in PAGED.items():
            is_crypto = root == CRYPTO
            for rows in paged:
                handler = self._answer(rows, is_crypto)
                found.append(web.get(f"{root}/{rows}", handler))
                found.append(web.get(f"{root}/{{symbol}}/{rows}", handler))
            latest = self._answer("latest", is_crypto)
            path = "latest/quotes" if is_crypto else "quotes/latest"
            found.append(web.get(f"{root}/{path}", latest))
        return found

    def news(self, request: web.Request) -> Awaitable[web.Response]:
        """Answers a request for stories."""
        return self._answer("news", False)(request)

    def _answer(
        self, rows: str, is_crypto: bool
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def answer(request: web.Request) -> web.Response:
            headers = self._rate_headers()
            try:
                self._admit(request, is_crypto)
                make = {"latest": self._latest, "news": self._news}.get(rows)
                body = make(request) if make else self._page(request, rows)
                status = 200
            except BadRequest as refusal:
                body = json.dumps({"message": str(refusal)}).encode()
                status = refusal.status
            name = f"{request.path} {status}"
            self.requests[name] = self.requests.get(name, 0) + 1
            return web.Response(
                body=body, status=status, headers=headers, content_type="application/json"
            )

        return answer

    def _rate_headers(self) -> dict[str, str]:
        minute = int(time.time()) // 60
        if minute != self._minute:
            self._minute, self._used = minute, 0
        self._used += 1
        limit = self.config.limits.requests_per_minute
        return {
            "X-RateLimit-Limit": str(limit),
            "X-RateLimit-Remaining": str(max(0, limit - self._used)),
            "X-RateLimit-Reset": str((minute + 1) * 60),
        }

    def _admit(self, request: web.Request, is_crypto: bool) -> None:
        forced = self.faults.refusal()
        if forced is not None:
            raise BadRequest(forced, "too many requests." if forced == 429 else "internal error")
        if self._used > self.config.limits.requests_per_minute:
            raise BadRequest(429, "too many requests.")
        given = request.headers.get(KEY, ""), request.headers.get(SECRET, "")
        # Crypto needs no key; a wrong one is refused all the same.
        if not any(given) and is_crypto:
            return
        known = (self.config.key, self.config.secret)
        if not all(given) or (self.config.key and given != known):
            raise BadRequest(403, "forbidden.")

    def _symbols(self, request: web.Request) -> list[str]:
        named = request.match_info.get("symbol", "") or request.query.get("symbols", "")
        symbols = sorted(filter(None, named.split(",")))
        if not symbols:
            raise BadRequest(400, "symbols is required")
        return [symbol for symbol in symbols if symbol in self.source.symbols]

    def _page(self, request: web.Request, rows: str) -> bytes:
        query = request.query
        interval_ms = _interval_ms(query.get("timeframe", "")) if rows == "bars" else None
        start = _time_ns(query.get("start", ""), 0)
        end = _time_ns(query.get("end", ""), END_OF_TIME_NS, is_end=True)
        left = _limit(query.get("limit", ""))
        symbols = self._symbols(request)
        token = _token(query.get("page_token", ""))
        found: dict[str, list[object]] = {}
        next_token = None
        for symbol in symbols:
            if token and symbol < token[0]:
                continue
            after = token[1] if token and symbol == token[0] else 0
            if left == 0:
                next_token = _as_token(symbol, after)
                break
            page, last, has_more = self.source.market.rows(
                symbol, interval_ms, start, end, after, left, quotes=rows == "quotes"
            )
            part: list[object] = [_row(row) for row in json.loads(page)]
            left -= len(part)
            if part:
                found[symbol] = part
            if has_more:
                next_token = _as_token(symbol, last)
                break
        single = request.match_info.get("symbol", "")
        told: dict[str, object] = (
            {"symbol": single, rows: found.get(single)} if single else {rows: found}
        )
        return json.dumps({**told, "next_page_token": next_token}).encode()

    def _news(self, request: web.Request) -> bytes:
        query = request.query
        start = _time_ns(query.get("start", ""), 0)
        end = _time_ns(query.get("end", ""), END_OF_TIME_NS, is_end=True)
        asked = set(filter(None, query.get("symbols", "").split(",")))
        limit, begin = (
            _limit(query.get("limit", "10")),
            (_token(query.get("page_token", "")) or ("", 0))[1],
        )
        if limit > NEWS_MAX:
            raise BadRequest(400, f"invalid limit: larger than {NEWS_MAX}")
        found = [
            story_row(story) | {"images": []}
            for story in self.stories.latest(self.source.now)
            if start <= story.updated <= end and story.is_of(asked)
        ]
        if query.get("sort", "desc").lower() != "asc":
            found.reverse()
        has_more = begin + limit < len(found)
        token = _as_token("", begin + limit) if has_more else None
        page = found[begin : begin + limit]
        return msgspec.json.encode({"news": page, "next_page_token": token})

    def _latest(self, request: web.Request) -> bytes:
        market = self.source.market
        quotes = {
            symbol: _row(json.loads(market.quote(symbol))) for symbol in self._symbols(request)
        }
        return json.dumps({"quotes": quotes}).encode()


def story_row(story: Story) -> dict[str, object]:
    """Returns what the venue tells of a story."""
    created, updated = (
        datetime.fromtimestamp(ts // NS_PER_S, UTC) for ts in (story.created, story.updated)
    )
    return {
        "id": story.number,
        "headline": story.headline,
        "summary": f"Of {', '.join(story.symbols) or 'nothing that is traded'}.",
        "author": "A. Simulator",
        "created_at": created,
        "updated_at": updated,
        "url": story.url,
        "content": f"<p>{story.headline}</p>",
        "symbols": list(story.symbols),
        "source": "simulated",
    }


def _row(event: Mapping[str, object]) -> dict[str, object]:
    """Returns what an answer has of an event: its symbol stands above the rows."""
    return {name: value for name, value in event.items() if name not in ("T", "S")}


def _interval_ms(text: str) -> int:
    found = _FRAME.fullmatch(text)
    if not found or int(found[1]) == 0:
        raise BadRequest(400, f"invalid timeframe: {text!r}")
    return int(found[1]) * _UNIT_MS[found[2][0]]


def _limit(text: str) -> int:
    if not text:
        return LIMIT_DEFAULT
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= LIMIT_MAX:
        raise BadRequest(400, f"invalid limit: {text!r}")
    return int(text)


def _time_ns(text: str, default: int, *, is_end: bool = False) -> int:
    if not text:
        return default
    fraction = _FRACTION.search(text)
    try:
        second = datetime.fromisoformat(_FRACTION.sub("", text))
    except ValueError:
        raise BadRequest(400, f"invalid time: {text!r}") from None
    if second.tzinfo is None:
        second = second.replace(tzinfo=UTC)
    ns = int(second.timestamp()) * NS_PER_S
    if is_end and len(text) == len("2026-01-01"):
        return ns + 86_400 * NS_PER_S - 1
    return ns + (int(fraction[1].ljust(9, "0")) if fraction else 0)


def _as_token(symbol: str, after: int) -> str:
    return base64.urlsafe_b64encode(f"{symbol}|{after}".encode()).decode()


def _token(text: str) -> tuple[str, int] | None:
    if not text:
        return None
    try:
        symbol, _, after = base64.urlsafe_b64decode(text).decode().rpartition("|")
        return symbol, int(after)
    except ValueError:
        raise BadRequest(400, "invalid page_token") from None
