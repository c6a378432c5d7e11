"""What serves a small venue of the tests, in a process that ends with its standard input."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def serve(routes: dict[str, Handler], market: Coroutine[Any, Any, None]) -> None:
    """Serves `routes` on a free port, which it prints, until standard input ends."""
    application = web.Application()
    for path, handler in routes.items():
        application.router.add_get(path, handler)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server
    print(site._server.sockets[0].getsockname()[1], flush=True)
    speaking = asyncio.create_task(market)
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()
    speaking.cancel()
