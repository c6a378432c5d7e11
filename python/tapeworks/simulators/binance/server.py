"""The server of Binance: its paths, and what it makes of what a connection asks for."""

import contextlib
import json
import time
from collections.abc import Sequence
from typing import IO

from aiohttp import web

from tapeworks.feeds.binance.products import PRODUCTS
from tapeworks.feeds.binance.streams import stream_channel, stream_symbol
from tapeworks.simulators.binance.config import SimulatorConfig
from tapeworks.simulators.binance.connection import BinanceConnection
from tapeworks.simulators.binance.playback import PlaybackSource
from tapeworks.simulators.binance.rest import Rest
from tapeworks.simulators.binance.source import BinanceSource, MarketSource
from tapeworks.simulators.connection import TEXT, Connection, message
from tapeworks.simulators.faults import KINDS
from tapeworks.simulators.oracle import Naming
from tapeworks.simulators.server import Server

SEEDED_STREAMS = ("trade", "bookTicker", "depth@100ms")


class BinanceServer(Server):
    """A simulated Binance."""

    naming = Naming(
        stream_symbol, stream_channel, lambda name: name.endswith(("@trade", "@aggTrade"))
    )
    fault_kinds = KINDS

    def __init__(self, config: SimulatorConfig, full: IO[str] | None) -> None:
        source: BinanceSource = (
            PlaybackSource(config) if config.playback else MarketSource(config, time.time_ns())
        )
        streams = [f"{s.lower()}@{kind}" for s in config.symbols for kind in SEEDED_STREAMS]
        super().__init__(config, source, streams, full)
        self._product, self._limits = config.product, config.limits
        self.rest = Rest(config.product, source, config.limits, self.faults)

    def routes(self) -> Sequence[web.RouteDef]:
        """Returns the REST interface, and the paths of streams with and without a route."""
        return [
            *self.rest.routes(),
            *(
                web.get(prefix + path, self._listen)
                for prefix in ("", "/public", "/market", "/private")
                for path in ("/stream", "/ws", "/ws/{streams:.+}")
            ),
        ]

    def ready(self) -> dict[str, object]:
        """Returns the product."""
        return {"product": self._product}

    @property
    def requests(self) -> dict[str, int]:
        """Those of the REST interface."""
        return self.rest.requests

    async def _listen(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(autoping=False, compress=False)
        await socket.prepare(request)
        self.opened += 1
        route = None
        if PRODUCTS[self._product].is_routed:
            route = request.path.split("/")[1]
            route = route if route in ("public", "market", "private") else ""
        connection = BinanceConnection(self.opened, socket, request, self._limits, self.find, route)
        named = request.match_info.get("streams", "") or request.query.get("streams", "")
        for name in filter(None, named.split("/")):
            connection.subscribe(name)
        await self.converse(connection, request)
        return socket

    def receive(self, connection: Connection, received: bytes, is_text: bool) -> bool:
        """Answers a control message, which is text."""
        assert isinstance(connection, BinanceConnection)
        if not is_text:
            return False
        with contextlib.suppress(UnicodeDecodeError):
            connection.write(message(TEXT, connection.answer(received.decode())))
        return True

    def announce(self, connection: Connection) -> None:
        """Sends the venue's notice of a shutdown."""
        assert isinstance(connection, BinanceConnection)
        unit = 1_000 if connection.other else 1_000_000
        data = {"e": "serverShutdown", "E": self.source.now // unit}
        event = {"stream": "!serverShutdown", "data": data} if connection.combined else data
        connection.write(message(TEXT, json.dumps(event, separators=(",", ":")).encode()))
