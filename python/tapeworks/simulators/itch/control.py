"""The control interface of a live day: how far it is, what was sent, its start and its pause.

The same words as those of the other simulators, `/sim/state` and so on, on a TCP port of its own.
A day that rests sends heartbeats alone; who asked for that is answered once nothing is asked for
again any more, so that all that was sent can have been received.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable

from aiohttp import web

from tapeworks._core import ItchMarket
from tapeworks.simulators.itch.live import LiveDay

HOST = "127.0.0.1"
STREAM = "orders"
ALL = "*"
ORDER_MESSAGES = "AFECXDUPQB"
"""Types of messages of which each is one event of an order."""
QUIET_S, QUIET_S_MAX = 0.3, 5.0


def orders_of(market: ItchMarket) -> dict[str, list[list[object]]]:
    """Returns the open orders by symbol: id, side, price as decimal text, shares."""
    return {
        symbol: [
            [order, "bid" if is_bid else "ask", f"{price // 10_000}.{price % 10_000:04}", shares]
            for order, is_bid, price, shares in market.orders(symbol)
        ]
        for symbol in market.symbols
    }


class Control:
    """Answers what is asked of one day."""

    def __init__(self, day: LiveDay) -> None:
        self._day = day
        self._runner: web.AppRunner | None = None

    async def open(self, port: int) -> int:
        """Listens on a port of loopback, 0 for a free one; returns which.

        Raises:
            OSError: it is not free.
        """
        application = web.Application()
        application.add_routes(
            [
                web.get("/sim/state", self._tell(self._state)),
                web.get("/sim/oracle", self._tell(self._oracle)),
                web.post("/sim/start", self._start),
                web.post("/sim/pause", self._pause),
            ]
        )
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, port).start()
        bound: int = self._runner.addresses[0][1]
        return bound

    async def close(self) -> None:
        """Listens no more."""
        if self._runner is not None:
            await self._runner.cleanup()

    def _tell(
        self, make: Callable[[], dict[str, object]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def tell(request: web.Request) -> web.Response:
            return web.json_response(make())

        return tell

    def _state(self) -> dict[str, object]:
        day = self._day
        return {
            "now_ns": time.time_ns(),
            "started": day.is_started.is_set(),
            "done": day.market.is_over,
            "frames": day.market.sent,
            # A datagram is gone once it is sent.
            "unread_bytes": 0,
        }

    def _oracle(self) -> dict[str, object]:
        """Returns what was sent, in the form of the other simulators, beside the day's own."""
        day = self._day
        sent = sum(count for name, count in day.market.counts() if name in ORDER_MESSAGES)
        delivered = {STREAM: {"symbol": ALL, "channel": "order", "count": sent}}
        orders = orders_of(day.market)
        return {
            **day.report(),
            **self._state(),
            "delivered": delivered if sent else {},
            "symbols": {symbol: {"orders": orders[symbol]} for symbol in orders},
        }

    async def _start(self, request: web.Request) -> web.Response:
        self._day.is_started.set()
        return web.json_response({})

    async def _pause(self, request: web.Request) -> web.Response:
        try:
            asked = await request.json()
        except json.JSONDecodeError:
            return web.json_response({"error": "expected JSON"}, status=400)
        day = self._day
        day.is_paused = bool(asked.get("paused", True)) if isinstance(asked, dict) else True
        until, quiet_since, seen = time.monotonic() + QUIET_S_MAX, time.monotonic(), -1
        while day.is_paused and time.monotonic() < min(until, quiet_since + QUIET_S):
            if day.server.asked != seen:
                seen, quiet_since = day.server.asked, time.monotonic()
            await asyncio.sleep(0.01)
        return web.json_response({"paused": day.is_paused, "now_ns": time.time_ns()})
