"""The server of Massive: its markets, its keys, and what it makes of subscriptions.

A key may have one connection to each market. All that is listed trades in one market of ours: each
path lists what is of its market, and those of forex and futures list nothing.
"""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from typing import IO

from aiohttp import web

from tapeworks.feeds.massive.channels import PER_EXCHANGE, PRODUCTS, record_channel
from tapeworks.simulators.connection import Connection
from tapeworks.simulators.faults import CONNECTION_KINDS, FRAME_KINDS
from tapeworks.simulators.massive.config import SimulatorConfig
from tapeworks.simulators.massive.connection import MassiveConnection
from tapeworks.simulators.massive.rest import Rest
from tapeworks.simulators.massive.source import MarketSource
from tapeworks.simulators.oracle import Naming
from tapeworks.simulators.server import Server
from tapeworks.simulators.stories import Stories

DROP_S = 0.02
"""So long after it was told that its key is wrong a connection is dropped without a word."""
GOODBYE_S = 1.0
TOO_MANY = "Maximum number of websocket connections exceeded."
PAIR_EXCHANGE = 1
"""The number of the exchange on which all pairs trade."""


def symbol_of(stream: str) -> str:
    """Returns the symbol of a stream's events: of quotes of a pair, on its one exchange."""
    channel, _, symbol = stream.partition(".")
    return f"{symbol}@{PAIR_EXCHANGE}" if channel in PER_EXCHANGE else symbol


SEEDED: dict[str, tuple[str, ...]] = {
    "stocks": ("T", "Q"),
    "options": ("T", "Q"),
    "crypto": ("XT", "XQ"),
    "indices": ("V",),
}
"""Channels of each market that faults are chosen of by the seed."""


def market_of(symbol: str) -> str:
    """Returns the market of a symbol."""
    if "-" in symbol:
        return "crypto"
    return {"O:": "options", "I:": "indices"}.get(symbol[:2], "stocks")


class MassiveServer(Server):
    """A simulated Massive."""

    naming = Naming(symbol_of, record_channel, lambda name: False)
    fault_kinds = (
        *(kind for kind in FRAME_KINDS if kind != "gap"),
        *(*CONNECTION_KINDS, "rest_429", "rest_500"),
    )
    shutdown_s = 0.2

    def __init__(self, config: SimulatorConfig, full: IO[str] | None) -> None:
        source = MarketSource(config, time.time_ns())
        streams = [
            f"{channel}.{symbol}"
            for symbol in config.symbols
            for channel in SEEDED[market_of(symbol)]
        ]
        super().__init__(config, source, streams, full)
        self._account, self._limits = config, config.limits
        stories = Stories(config.symbols, config.seed, source.start_ns)
        self.rest = Rest(source, config, self.faults, stories)

    def routes(self) -> Sequence[web.RouteDef]:
        """Returns the markets, and the REST interface."""
        markets = [web.get(f"/{market}", self._listen) for market in PRODUCTS]
        return [*self.rest.routes(), *markets]

    def ready(self) -> dict[str, object]:
        """Returns the symbols."""
        return {"symbols": list(self._account.symbols)}

    @property
    def requests(self) -> dict[str, int]:
        """Those of the REST interface."""
        return self.rest.requests

    async def _listen(self, request: web.Request) -> web.WebSocketResponse:
        market = request.path.removeprefix("/")
        socket = web.WebSocketResponse(autoping=False, compress=False)
        await socket.prepare(request)
        self.opened += 1
        listed = self._listed_in(market)
        connection = MassiveConnection(
            self.opened, socket, request, self._find_in(listed), market, listed
        )
        connection.say(("connected", "Connected Successfully"))
        login = asyncio.get_running_loop().call_later(
            self._limits.auth_s, self._check_login, connection
        )
        try:
            await self.converse(connection, request)
        finally:
            login.cancel()
        return socket

    def _listed_in(self, market: str) -> list[str]:
        return [one for one in self.source.symbols if market_of(one) == market]

    def _find_in(self, listed: Sequence[str]) -> Callable[[str], int | None]:
        return lambda name: self.find(name) if name.partition(".")[2] in listed else None

    def _check_login(self, connection: MassiveConnection) -> None:
        if connection.key is None and connection.is_open:
            connection.say(("auth_timeout", "No authentication request received."))
            self._part(connection, 1008, "auth timeout")

    def _part(self, connection: Connection, code: int, reason: str) -> None:
        connection.say_goodbye(code, reason)
        asyncio.get_running_loop().call_later(GOODBYE_S, connection.transport.close)

    def announce(self, connection: Connection) -> None:
        """Tells that another connection takes its place."""
        assert isinstance(connection, MassiveConnection)
        connection.say(("force_disconnect", "The connection was replaced."))

    def overflow(self, connection: Connection) -> None:
        """Tells a client that it reads too slowly."""
        assert isinstance(connection, MassiveConnection)
        connection.say(("slow_consumer", "Data is not read as fast as it is sent."))

    def receive(self, connection: Connection, received: bytes, is_text: bool) -> bool:
        """Takes in a key and a change of subscriptions; anything else is answered with nothing."""
        assert isinstance(connection, MassiveConnection)
        try:
            told = json.loads(received) if is_text else None
        except (ValueError, RecursionError):
            told = None
        if not isinstance(told, dict) or not isinstance(told.get("params"), str):
            return True
        params: str = told["params"]
        match told.get("action"):
            case "auth" if connection.key is None:
                self._log_in(connection, params)
            case "subscribe" | "unsubscribe" if connection.key is not None:
                names = [name.strip() for name in params.split(",")]
                add = told["action"] == "subscribe"
                said = connection.change(names, self._account.denied, add=add)
                if said:
                    connection.say(*said)
                if connection.is_surplus:
                    self._evict(connection)
        return True

    def _log_in(self, connection: MassiveConnection, key: str) -> None:
        account = self._account
        if not key or (account.key and key != account.key):
            self._deny(connection, "authentication failed")
        elif connection.market in account.denied:
            self._deny(connection, "Your plan doesn't include websocket access.")
        else:
            others = [
                one
                for one in self.connections.values()
                if isinstance(one, MassiveConnection)
                and (one.market, one.key) == (connection.market, key)
                and one.is_open
                and not one.is_surplus
            ]
            connection.key = key
            connection.say(("auth_success", "authenticated"))
            if account.evicted == "newest":
                # It is let in, and told when it has subscribed.
                connection.is_surplus = bool(others)
            else:
                for other in others:
                    self._evict(other)

    def _deny(self, connection: MassiveConnection, reason: str) -> None:
        connection.say(("auth_failed", reason))
        connection.closing = reason
        # Without a close frame.
        asyncio.get_running_loop().call_later(DROP_S, connection.transport.close)

    def _evict(self, connection: MassiveConnection) -> None:
        connection.say(("max_connections", TOO_MANY))
        self.oracle.links[connection.number].closed_ns = self.source.now
        self._part(connection, 1008, "too many connections")
