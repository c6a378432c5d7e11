"""The REST interface: market data for both products, weights, and what is refused.

Weights count per client address and per minute, as the venue's do. Whoever goes on after 429 is
banned with 418. `/sim/` is no part of the venue and costs nothing.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import web

from tapeworks.feeds.binance.products import PRODUCTS
from tapeworks.simulators.binance.config import Limits
from tapeworks.simulators.binance.source import BinanceSource, filter_symbols
from tapeworks.simulators.faults import Faults
from tapeworks.simulators.source import UnknownSymbolError

LIMIT_DEFAULT, LIMIT_MAX = 500, 1000
SPOT_DEPTHS = ((100, 5), (500, 25), (1000, 50), (5000, 250))
FUTURES_DEPTHS = ((5, 2), (10, 2), (20, 2), (50, 2), (100, 5), (500, 10), (1000, 20))
FUTURES_KLINES = ((99, 1), (499, 2), (1000, 5), (1500, 10))
RAW_REQUESTS = 300_000
MICROS_FROM = 10**15
"""Times from here on are microseconds, below it milliseconds."""
BOOK_S_MAX = 10.0
"""A book that a recording has not reached is waited for at most so long."""


class BadRequest(Exception):
    """A request that the venue refuses with HTTP 400 and a code."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass
class Client:
    """What one address has used."""

    minute: int = 0
    weight: int = 0
    refused: int = 0
    banned_until: float = 0.0


@dataclass
class Answer:
    """What a handler gives: the body, and the weight that it cost."""

    body: bytes
    weight: int


@dataclass
class Rest:
    """The REST interface of one product."""

    product: str
    source: BinanceSource
    limits: Limits
    faults: Faults
    requests: dict[str, int] = field(default_factory=dict)
    """Answered and refused requests, by path and status."""
    clients: dict[str, Client] = field(default_factory=dict)

    def routes(self) -> list[web.RouteDef]:
        """Returns the venue's paths."""
        root = PRODUCTS[self.product].rest_root
        handlers: dict[str, Callable[[web.Request], Awaitable[Answer]]] = {
            "ping": self._ping,
            "time": self._time,
            "exchangeInfo": self._exchange_info,
            "depth": self._depth,
            "trades": self._trades,
            "historicalTrades": self._historical_trades,
            "aggTrades": self._aggregates,
            "klines": self._klines,
            "ticker/bookTicker": self._book_ticker,
        }
        return [web.get(f"{root}/{path}", self._guarded(run)) for path, run in handlers.items()]

    def _guarded(
        self, run: Callable[[web.Request], Awaitable[Answer]]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            response = await self._serve(request, run)
            key = f"{request.path} {response.status}"
            self.requests[key] = self.requests.get(key, 0) + 1
            return response

        return handle

    async def _serve(
        self, request: web.Request, run: Callable[[web.Request], Awaitable[Answer]]
    ) -> web.StreamResponse:
        client = self.clients.setdefault(request.remote or "", Client())
        now = time.time()
        if client.minute != int(now // 60):
            client.minute, client.weight, client.refused = int(now // 60), 0, 0
        forced = self.faults.refusal()
        if forced == 418 and client.banned_until <= now:
            client.banned_until = now + self.limits.ban_s
        if client.banned_until > now or client.weight >= self.limits.weight_per_minute or forced:
            return self._refuse(client, now, forced)
        delay = self.faults.answer_delay_s(request.path)
        try:
            if delay:
                # The body is of the moment of the request, and comes late.
                answer = await run(request)
                await asyncio.sleep(delay)
            else:
                answer = await run(request)
        except BadRequest as bad:
            return self._error(400, bad.code, str(bad), client, 1)
        except UnknownSymbolError:
            return self._error(400, -1121, "Invalid symbol.", client, 1)
        client.weight += answer.weight
        return web.Response(
            body=answer.body,
            content_type="application/json",
            charset="utf-8",
            headers=self._headers(client),
        )

    def _refuse(self, client: Client, now: float, forced: int | None) -> web.Response:
        client.refused += 1
        if client.banned_until <= now and client.refused > self.limits.ban_after:
            client.banned_until = now + self.limits.ban_s
        if forced and forced not in (418, 429):
            return self._error(forced, -1000, "An unknown error occurred.", client, 0)
        if client.banned_until > now:
            wait = max(1, round(client.banned_until - now))
            until = int(client.banned_until * 1000)
            text = (
                f"Way too much request weight used; IP banned until {until}. Please use "
                "WebSocket Streams for live updates to avoid bans."
            )
            return self._error(418, -1003, text, client, 0, wait)
        wait = self.faults.retry_after_s() if forced else max(1, round(60 - now % 60))
        text = (
            f"Too much request weight used; current limit is {self.limits.weight_per_minute} "
            "request weight per 1 MINUTE. Please use WebSocket Streams for live updates to "
            "avoid polling the API."
        )
        return self._error(429, -1003, text, client, 0, wait)

    def _headers(self, client: Client) -> dict[str, str]:
        return {
            "X-MBX-USED-WEIGHT": str(client.weight),
            "X-MBX-USED-WEIGHT-1M": str(client.weight),
        }

    def _error(
        self,
        status: int,
        code: int,
        text: str,
        client: Client,
        weight: int,
        retry_after_s: int | None = None,
    ) -> web.Response:
        client.weight += weight
        headers = self._headers(client)
        if retry_after_s is not None:
            headers["Retry-After"] = str(retry_after_s)
        return web.json_response({"code": code, "msg": text}, status=status, headers=headers)

    @property
    def _is_futures(self) -> bool:
        return PRODUCTS[self.product].is_futures

    def _micros(self, request: web.Request) -> bool:
        unit = request.headers.get("X-MBX-TIME-UNIT", "").upper()
        return unit == "MICROSECOND" and not self._is_futures

    async def _ping(self, request: web.Request) -> Answer:
        return Answer(b"{}", 1)

    async def _time(self, request: web.Request) -> Answer:
        unit = 1_000 if self._micros(request) else 1_000_000
        return Answer(b'{"serverTime":%d}' % (self.source.now // unit), 1)

    async def _exchange_info(self, request: web.Request) -> Answer:
        body = self.source.exchange_info(self._rate_limits(), self._micros(request))
        if self._is_futures:
            return Answer(body, 1)
        wanted = _symbols(request)
        if wanted is not None:
            body = filter_symbols(body, [self.source.listed(symbol) for symbol in wanted])
        return Answer(body, 20)

    def _rate_limits(self) -> str:
        limits = [
            ("REQUEST_WEIGHT", 1, self.limits.weight_per_minute),
            ("RAW_REQUESTS", 5, RAW_REQUESTS),
        ]
        entries = [
            {"rateLimitType": kind, "interval": "MINUTE", "intervalNum": number, "limit": limit}
            for kind, number, limit in limits
        ]
        return json.dumps(entries, separators=(",", ":"))

    async def _depth(self, request: web.Request) -> Answer:
        symbol = self.source.listed(_symbol(request))
        limit = _integer(request, "limit")
        if self._is_futures:
            limit = 500 if limit is None else limit
            if limit not in dict(FUTURES_DEPTHS):
                raise BadRequest(-1130, "Data sent for parameter 'limit' is not valid.")
            weight = dict(FUTURES_DEPTHS)[limit]
        else:
            limit = min(100 if limit is None else limit, 5000)
            if limit < 1:
                raise BadRequest(-1130, "Data sent for parameter 'limit' is not valid.")
            weight = next(cost for most, cost in SPOT_DEPTHS if limit <= most)
        until = time.monotonic() + BOOK_S_MAX
        # Simulated time has no event to wait for.
        while not self.source.ask(symbol) and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.002)
        stale = self.faults.stale_body(symbol)
        return Answer(stale or self.source.depth(symbol, limit, self._micros(request)), weight)

    async def _trades(self, request: web.Request) -> Answer:
        body = self._history(request, aggregates=False, paged=False)
        return Answer(body, 5 if self._is_futures else 25)

    async def _historical_trades(self, request: web.Request) -> Answer:
        body = self._history(request, aggregates=False, paged=True)
        return Answer(body, 200 if self._is_futures else 25)

    async def _aggregates(self, request: web.Request) -> Answer:
        if self._is_futures and "fromId" in request.query and "startTime" in request.query:
            raise BadRequest(-1128, "Combination of optional parameters invalid.")
        return Answer(
            self._history(request, aggregates=True, paged=True), 20 if self._is_futures else 4
        )

    def _history(self, request: web.Request, *, aggregates: bool, paged: bool) -> bytes:
        return self.source.trades(
            _symbol(request),
            min(_integer(request, "limit") or LIMIT_DEFAULT, LIMIT_MAX),
            _integer(request, "fromId") if paged else None,
            (_time_ns(request, "startTime"), _time_ns(request, "endTime")),
            aggregates,
            self._micros(request),
        )

    async def _klines(self, request: web.Request) -> Answer:
        limit = _integer(request, "limit") or LIMIT_DEFAULT
        limit = min(limit, 1500 if self._is_futures else LIMIT_MAX)
        window = (_time_ns(request, "startTime"), _time_ns(request, "endTime"))
        interval = request.query.get("interval", "")
        symbol = self.source.listed(_symbol(request))
        try:
            body = self.source.klines(symbol, interval, limit, window, self._micros(request))
        except ValueError:
            raise BadRequest(-1120, "Invalid interval.") from None
        weight = (
            next(cost for most, cost in FUTURES_KLINES if limit <= most) if self._is_futures else 2
        )
        return Answer(body, weight)

    async def _book_ticker(self, request: web.Request) -> Answer:
        wanted = _symbols(request)
        names = self.source.symbols if wanted is None else wanted
        body = self.source.book_tickers(names, self._micros(request))
        if "symbol" in request.query:
            body = body[1:-1]
        one, all_of_them = (2, 5) if self._is_futures else (2, 4)
        return Answer(body, one if "symbol" in request.query else all_of_them)


def _symbol(request: web.Request) -> str:
    symbol = request.query.get("symbol")
    if not symbol:
        text = "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed."
        raise BadRequest(-1102, text)
    return symbol


def _symbols(request: web.Request) -> list[str] | None:
    if "symbol" in request.query:
        return [_symbol(request)]
    if "symbols" not in request.query:
        return None
    try:
        names = json.loads(request.query["symbols"])
    except json.JSONDecodeError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BadRequest(-1101, "Illegal characters found in parameter 'symbols'.")
    return names


def _integer(request: web.Request, name: str) -> int | None:
    text = request.query.get(name)
    if text is None:
        return None
    if not text.isascii() or not text.isdecimal():
        raise BadRequest(-1100, f"Illegal characters found in parameter '{name}'.")
    return int(text)


def _time_ns(request: web.Request, name: str) -> int | None:
    time_ = _integer(request, name)
    if time_ is None:
        return None
    return time_ * (1_000 if time_ >= MICROS_FROM else 1_000_000)
