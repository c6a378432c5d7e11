"""The server of Alpaca: its feeds, its logins, and what it makes of subscriptions.

A key may have one session of each feed. Stocks, options and pairs trade in one market, of which
each feed lists its own. Channels that the market has nothing for are accepted, and silent. Whatever
a client does wrong, the connection stays open, as the venue keeps it.
"""

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from typing import IO

from aiohttp import web

from tapeworks.feeds.alpaca.channels import PRODUCTS, Product, record_channel, stream_symbol
from tapeworks.simulators.alpaca.config import SimulatorConfig
from tapeworks.simulators.alpaca.connection import ALL, AlpacaConnection
from tapeworks.simulators.alpaca.rest import NEWS, Rest, story_row
from tapeworks.simulators.alpaca.source import MarketSource
from tapeworks.simulators.connection import Connection
from tapeworks.simulators.faults import CONNECTION_KINDS, FRAME_KINDS
from tapeworks.simulators.oracle import Naming
from tapeworks.simulators.server import Server
from tapeworks.simulators.stories import Stories

SEEDED_CHANNELS = ("trades", "quotes")
SYMBOL_BYTES_MAX = 48
OPTION = re.compile(r"[A-Z0-9]+\d{6}[CP]\d{8}")
NEWS_S = 0.1
"""How often it is looked whether there is a story to tell."""


def kind_of(symbol: str) -> str:
    """Returns whether a symbol is of crypto, options or stocks."""
    if "/" in symbol:
        return "crypto"
    return "options" if OPTION.fullmatch(symbol) else "stocks"


class AlpacaServer(Server):
    """A simulated Alpaca."""

    naming = Naming(stream_symbol, record_channel, lambda name: False)
    fault_kinds = (
        *(kind for kind in FRAME_KINDS if kind != "gap"),
        *(kind for kind in CONNECTION_KINDS if kind != "shutdown"),
        *("rest_429", "rest_500"),
    )

    def __init__(self, config: SimulatorConfig, full: IO[str] | None) -> None:
        source = MarketSource(config, time.time_ns())
        streams = [f"{kind}.{symbol}" for symbol in config.symbols for kind in SEEDED_CHANNELS]
        super().__init__(config, source, streams, full)
        self._account, self._limits = config, config.limits
        self._market = source.market
        self._stories = Stories(config.symbols, config.seed, source.start_ns)
        self.rest = Rest(source, config, self.faults, self._stories)
        self._sessions: dict[tuple[str, str], tuple[int, float | None]] = {}
        """By path and key: the connection, and when it ended."""

    def routes(self) -> Sequence[web.RouteDef]:
        """Returns the feeds, and the REST interface."""
        feeds = [web.get(f"/{of.path}", self._open) for of in PRODUCTS.values()]
        return [*self.rest.routes(), *feeds]

    def ready(self) -> dict[str, object]:
        """Returns the symbols."""
        return {"symbols": list(self._account.symbols)}

    @property
    def requests(self) -> dict[str, int]:
        """Those of the REST interface."""
        return self.rest.requests

    async def _open(self, request: web.Request) -> web.StreamResponse:
        # Of two hosts of the venue, one streams stories by the path at which the other lists them.
        if request.path == NEWS and "upgrade" not in request.headers.get("Connection", "").lower():
            return await self.rest.news(request)
        return await self._listen(request)

    async def _listen(self, request: web.Request) -> web.WebSocketResponse:
        name, product = next(
            (name, of) for name, of in PRODUCTS.items() if f"/{of.path}" == request.path
        )
        socket = web.WebSocketResponse(autoping=False, compress=False)
        await socket.prepare(request)
        self.opened += 1
        listed = self._listed_in(name)
        connection = AlpacaConnection(
            self.opened, socket, request, self._find_in(listed), product.channels, listed
        )
        connection.say(T="success", msg="connected")
        login = asyncio.get_running_loop().call_later(
            self._limits.auth_s, self._check_login, connection
        )
        try:
            await self.converse(connection, request)
        finally:
            login.cancel()
            for session, (number, _) in list(self._sessions.items()):
                if number == connection.number:
                    self._sessions[session] = (number, time.monotonic())
        return socket

    def _listed_in(self, product: str) -> list[str]:
        """Returns what a feed lists; news is no stream of the market."""
        if product == "news":
            return []
        wanted = "crypto" if product.startswith("crypto") else "stocks"
        wanted = "options" if PRODUCTS[product].is_binary else wanted
        return [symbol for symbol in self.source.symbols if kind_of(symbol) == wanted]

    def _find_in(self, listed: Sequence[str]) -> Callable[[str], int | None]:
        return lambda name: self.find(name) if stream_symbol(name) in listed else None

    def _check_login(self, connection: AlpacaConnection) -> None:
        if connection.key is None and connection.is_open:
            connection.say_error(404)
            connection.say_goodbye(1000, "auth timeout")
            asyncio.get_running_loop().call_later(1.0, connection.transport.close)

    def receive(self, connection: Connection, received: bytes, is_text: bool) -> bool:
        """Answers a login and a change of subscriptions."""
        assert isinstance(connection, AlpacaConnection)
        told = connection.read(received) if is_text != connection.other else None
        if told is None or not isinstance(told.get("action"), str):
            connection.say_error(400)
            return True
        code = self._log_in(connection, told) if told["action"] == "auth" else None
        if told["action"] in ("subscribe", "unsubscribe"):
            code = self._change(connection, told)
        elif told["action"] != "auth":
            code = 400
        if code is not None:
            connection.say_error(code)
        return True

    def _log_in(self, connection: AlpacaConnection, told: dict[str, object]) -> int | None:
        if connection.key is not None:
            return 403
        key, secret = told.get("key"), told.get("secret")
        if not (isinstance(key, str) and isinstance(secret, str) and key and secret):
            return 402
        account = self._account
        if account.key and (key, secret) != (account.key, account.secret):
            return 402
        other, ended = self._sessions.get((connection.path, key), (0, 0.0))
        if other and (ended is None or time.monotonic() < ended + self._limits.reaped_s):
            return 406
        self._sessions[connection.path, key] = (connection.number, None)
        connection.key = key
        connection.say(T="success", msg="authenticated")
        return None

    def _change(self, connection: AlpacaConnection, told: dict[str, object]) -> int | None:
        if connection.key is None:
            return 401
        name, product = next(
            (name, of) for name, of in PRODUCTS.items() if f"/{of.path}" == connection.path
        )
        if name in self._account.denied:
            return 409
        asked: dict[str, list[str]] = {}
        for channel, symbols in told.items():
            if channel == "action":
                continue
            if not isinstance(symbols, list) or not all(_is_symbol(one) for one in symbols):
                return 400
            asked[channel] = symbols
        if code := _refusal_of(product, asked, connection.other):
            return code
        add = told["action"] == "subscribe"
        books = set(connection.subscribed.get("orderbooks", ()))
        code = connection.change(asked, add, self._limits.symbols_max)
        if code is not None:
            return code
        connection.say_subscribed()
        self._tell_books(connection, books)
        if name == "news" and not connection.tells_news:
            connection.tells_news = True
            self._tell_news(connection, self.source.now)
        return None

    def _tell_books(self, connection: AlpacaConnection, before: set[str]) -> None:
        """Tells as a whole the books that are subscribed now and were not before."""
        for name in sorted(connection.names):
            symbol = stream_symbol(name)
            is_new = symbol not in before and "*" not in before
            if name.startswith("orderbooks.") and is_new and connection.names[name] is not None:
                book = self._market.book(symbol, connection.other)
                self.delivery.give_alone(connection, name, book, self.source.now)

    def _tell_news(self, connection: AlpacaConnection, since: int) -> None:
        """Tells the stories behind `since`, and again after a while, for as long as it is open."""
        if not connection.is_open:
            return
        now, wanted = self.source.now, connection.subscribed["news"]
        for story in self._stories.told(since, now):
            if wanted and story.is_of(() if ALL in wanted else wanted):
                connection.say(T="n", **story_row(story))
        asyncio.get_running_loop().call_later(NEWS_S, self._tell_news, connection, now)

    def overflow(self, connection: Connection) -> None:
        """Tells the client that it is slow."""
        assert isinstance(connection, AlpacaConnection)
        connection.say_error(407)


def _is_symbol(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= SYMBOL_BYTES_MAX and value.isprintable()


def _refusal_of(product: Product, asked: dict[str, list[str]], is_binary: bool) -> int | None:
    if product.is_binary and not is_binary:
        return 412
    is_every_quote = product.is_binary and "*" in asked.get("quotes", ())
    return 400 if is_every_quote else None
