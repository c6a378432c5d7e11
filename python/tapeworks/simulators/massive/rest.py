"""The REST interface: trades, quotes and bars of the past in pages, and what is refused.

A page names the next one by an address whose cursor holds all of the request, so that what happens
in the meantime moves nothing. Rows of trades and quotes have times in ns, and the newest comes
first unless the request says otherwise.
"""

import base64
import json
import operator
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from tapeworks.errors import TapeworksError
from tapeworks.simulators.faults import Faults
from tapeworks.simulators.massive.config import SimulatorConfig
from tapeworks.simulators.massive.source import MarketSource
from tapeworks.simulators.source import NS_PER_S
from tapeworks.simulators.stories import Stories, Story

TRADES_DEFAULT, BARS_DEFAULT, NEWS_DEFAULT, LIMIT_MAX = 1000, 5000, 10, 50_000
PUBLISHED = {
    "": operator.eq,
    ".gte": operator.ge,
    ".gt": operator.gt,
    ".lte": operator.le,
    ".lt": operator.lt,
}
SPANS_MS = {"second": 1000, "minute": 60_000, "hour": 3_600_000, "day": 86_400_000}
END_OF_TIME_NS = (1 << 63) - 1
DAY_NS = 86_400 * NS_PER_S
NS_PER_MS = 1_000_000
DATE = re.compile(r"\d{4}-\d\d-\d\d")


class BadRequest(TapeworksError):
    """A request that the venue refuses, with its HTTP status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass
class Rest:
    """The REST interface of stocks and of crypto."""

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
        bars = "/v2/aggs/ticker/{ticker}/range/{count}/{span}/{begin}/{end}"
        return [
            web.get("/v3/trades/{ticker}", self._answer(self._trades)),
            web.get("/v3/quotes/{ticker}", self._answer(self._quotes)),
            web.get(bars, self._answer(self._bars)),
            web.get("/v2/last/nbbo/{ticker}", self._answer(self._last_quote)),
            web.get("/v2/reference/news", self._answer(self._news)),
        ]

    def _answer(
        self, make: Callable[[web.Request], dict[str, Any]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def answer(request: web.Request) -> web.Response:
            identity = {"request_id": f"{sum(self.requests.values()):032x}"}
            headers = {}
            try:
                self._admit(request)
                body, status = {"status": "OK", **identity, **make(request)}, 200
            except BadRequest as refusal:
                body = {"status": "ERROR", **identity, "error": str(refusal)}
                status = refusal.status
                if status == 429:
                    headers["Retry-After"] = str(self.faults.retry_after_s())
            name = f"{request.path} {status}"
            self.requests[name] = self.requests.get(name, 0) + 1
            return web.json_response(body, status=status, headers=headers)

        return answer

    def _admit(self, request: web.Request) -> None:
        minute = int(time.time()) // 60
        if minute != self._minute:
            self._minute, self._used = minute, 0
        self._used += 1
        forced = self.faults.refusal()
        if forced is not None and forced != 429:
            raise BadRequest(forced, "internal error")
        if forced or self._used > self.config.limits.requests_per_minute:
            raise BadRequest(429, "You've exceeded the maximum requests per minute.")
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        given = given or request.query.get("apiKey", "")
        if not given or (self.config.key and given != self.config.key):
            raise BadRequest(401, "Unknown API Key")

    def _symbol(self, ticker: str) -> str:
        """Returns the symbol of the market that the venue calls `ticker` here."""
        for symbol in self.source.symbols:
            pair = f"X:{symbol}"
            if ticker in ((pair, pair.replace("-", "")) if "-" in symbol else (symbol,)):
                return symbol
        raise BadRequest(404, "Ticker not found.")

    def _trades(self, request: web.Request) -> dict[str, Any]:
        return self._events(request, quotes=False)

    def _quotes(self, request: web.Request) -> dict[str, Any]:
        return self._events(request, quotes=True)

    def _events(self, request: web.Request, *, quotes: bool) -> dict[str, Any]:
        query = _resumed(request.query)
        start, end = 0, _number(query, "until", END_OF_TIME_NS)
        for name, move_start, move_end in (
            ("timestamp", 0, 0),
            ("timestamp.gte", 0, None),
            ("timestamp.gt", 1, None),
            ("timestamp.lte", None, 0),
            ("timestamp.lt", None, -1),
        ):
            if text := query.get(name, ""):
                begin_ns, last_ns = _instant(text)
                if move_start is not None:
                    start = max(start, begin_ns if move_start == 0 else last_ns + 1)
                if move_end is not None:
                    end = min(end, last_ns if move_end == 0 else begin_ns - 1)
        newest_first = query.get("order", "desc") != "asc"
        symbol = self._symbol(request.match_info["ticker"])
        rows = self._rows(symbol, None, (start, end), newest_first=newest_first, quotes=quotes)
        return self._page(request, query, rows, TRADES_DEFAULT)

    def _bars(self, request: web.Request) -> dict[str, Any]:
        query = _resumed(request.query)
        told = request.match_info
        if told["span"] not in SPANS_MS or not told["count"].isdecimal() or not int(told["count"]):
            raise BadRequest(400, f"unknown timespan: {told['count']} {told['span']}")
        interval_ms = SPANS_MS[told["span"]] * int(told["count"])
        begin, end = _instant(told["begin"], NS_PER_MS)[0], _instant(told["end"], NS_PER_MS)[1]
        end = min(end, _number(query, "until", END_OF_TIME_NS))
        symbol = self._symbol(told["ticker"])
        newest_first = query.get("sort", "asc") == "desc"
        rows = self._rows(symbol, interval_ms, (begin, end), newest_first=newest_first)
        page = self._page(request, query, rows, BARS_DEFAULT)
        count = len(page["results"])
        # The same without splits.
        is_adjusted = query.get("adjusted", "true") == "true"
        named = {"ticker": told["ticker"], "adjusted": is_adjusted, "queryCount": count}
        return {**named, "resultsCount": count, **page}

    def _rows(
        self,
        symbol: str,
        interval_ms: int | None,
        times: tuple[int, int],
        *,
        newest_first: bool,
        quotes: bool = False,
    ) -> list[Any]:
        try:
            text, _, _ = self.source.market.rows(
                symbol, interval_ms, *times, 0, LIMIT_MAX, quotes=quotes
            )
        except ValueError as error:
            raise BadRequest(400, str(error)) from None
        rows: list[Any] = json.loads(text)
        exchange = 1 if "-" in symbol else 12
        if interval_ms is None:
            names = ("bid_exchange", "ask_exchange") if quotes else ("exchange",)
            rows = [row | dict.fromkeys(names, exchange) for row in rows]
        return rows[::-1] if newest_first else rows

    def _page(
        self, request: web.Request, query: Mapping[str, str], rows: list[Any], usual: int
    ) -> dict[str, Any]:
        limit, begin = _number(query, "limit", usual), _number(query, "offset", 0)
        if not 1 <= limit <= LIMIT_MAX:
            raise BadRequest(400, f"limit: expected 1 to {LIMIT_MAX}")
        page: dict[str, Any] = {"results": rows[begin : begin + limit]}
        if begin + limit < len(rows):
            rest = {"until": str(self.source.now), **query, "offset": str(begin + limit)}
            cursor = base64.urlsafe_b64encode(json.dumps(rest).encode()).decode()
            address = f"{request.scheme}://{request.host}{request.path}?cursor={cursor}"
            page["next_url"] = address
        return page

    def _news(self, request: web.Request) -> dict[str, Any]:
        query = _resumed(request.query)
        ticker = query.get("ticker", "")
        until = min(self.source.now, _number(query, "until", END_OF_TIME_NS))
        found = [
            _story_row(story)
            for story in self.stories.latest(until)
            if story.is_of((ticker,) if ticker else ()) and _is_published(query, story)
        ]
        found.sort(key=lambda row: str(row["published_utc"]))
        if query.get("order", "desc") != "asc":
            found.reverse()
        page = self._page(request, query, found, NEWS_DEFAULT)
        return {"count": len(page["results"]), **page}

    def _last_quote(self, request: web.Request) -> dict[str, Any]:
        symbol = self._symbol(request.match_info["ticker"])
        told = json.loads(self.source.market.quote(symbol))
        names = {"p": "bp", "s": "bs", "P": "ap", "S": "as", "q": "q"}
        row = {name: told[key] for name, key in names.items() if key in told}
        return {"results": {"T": symbol, "t": told["t"] * NS_PER_MS, **row}}


def _is_published(query: Mapping[str, str], story: Story) -> bool:
    """Whether a story was made within the times of a request."""
    for name, fits in PUBLISHED.items():
        if text := query.get(f"published_utc{name}", ""):
            try:
                moment = datetime.fromisoformat(text)
            except ValueError:
                raise BadRequest(400, f"invalid time: {text!r}") from None
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            if not fits(story.created, int(moment.timestamp() * NS_PER_S)):
                return False
    return True


def _story_row(story: Story) -> dict[str, Any]:
    made = datetime.fromtimestamp(story.created // NS_PER_S, UTC)
    return {
        "id": f"{story.number:032x}",
        "publisher": {"name": "Simulated News", "homepage_url": "https://news.example"},
        "title": story.headline,
        "author": "A. Simulator",
        "published_utc": made.isoformat().replace("+00:00", "Z"),
        "article_url": story.url,
        "tickers": list(story.symbols),
        "description": f"Of {', '.join(story.symbols) or 'nothing that is traded'}.",
    }


def _resumed(query: Mapping[str, str]) -> dict[str, str]:
    """Returns the request that a cursor stands for, or the one that was made."""
    if "cursor" not in query:
        return dict(query)
    try:
        found = json.loads(base64.urlsafe_b64decode(query["cursor"]))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise BadRequest(400, "invalid cursor")
    return {str(name): str(value) for name, value in found.items()}


def _number(query: Mapping[str, str], name: str, usual: int) -> int:
    text = query.get(name, str(usual))
    if not text.isascii() or not text.isdecimal():
        raise BadRequest(400, f"{name}: expected a number, got {text!r}")
    return int(text)


def _instant(text: str, unit_ns: int = 1) -> tuple[int, int]:
    """Returns the first and last ns of a date, or of a number of units."""
    if DATE.fullmatch(text):
        try:
            day = datetime.fromisoformat(text).replace(tzinfo=UTC)
        except ValueError:
            raise BadRequest(400, f"invalid date: {text!r}") from None
        begin = int(day.timestamp()) * NS_PER_S
        return begin, begin + DAY_NS - 1
    if not text.isascii() or not text.isdecimal() or len(text) > 19:
        raise BadRequest(400, f"invalid time: {text!r}")
    begin = min(int(text) * unit_ns, END_OF_TIME_NS)
    return begin, min(begin + unit_ns - 1, END_OF_TIME_NS)
