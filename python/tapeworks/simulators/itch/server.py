"""Runs a live day: its lines, its servers of requests and streams, and its control interface."""

import asyncio
import json
import sys

from tapeworks.simulators.itch.config import SimulatorConfig
from tapeworks.simulators.itch.control import Control
from tapeworks.simulators.itch.live import LiveDay


async def serve(config: SimulatorConfig, ended: asyncio.Event) -> None:
    """Runs a live day, with its servers; prints one JSON line when it is ready.

    Raises:
        OSError: a port is not free.
    """
    day = LiveDay(config)
    control, transport, server = Control(day), None, None
    try:
        requests = 0
        if config.requests is not None:
            transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: day.server, local_addr=config.requests
            )
            requests = transport.get_extra_info("sockname")[1]
        if config.soup is not None:
            server = await asyncio.start_server(day.streams.serve, *config.soup)
        port = 0 if config.port is None else await control.open(config.port)
        ready = {
            "port": port,
            "session": config.session,
            "lines": [f"{host}:{number}" for host, number in config.lines],
            "requests": requests,
            "soup": 0 if server is None else server.sockets[0].getsockname()[1],
        }
        print(json.dumps(ready), flush=True)
        await day.run(ended)
    finally:
        if transport is not None:
            transport.close()
        day.lines.close()
        if server is not None:
            server.close()
            day.streams.cut()
        await control.close()
    report = day.report()
    if config.oracle is not None:
        config.oracle.write_text(json.dumps(report))
    told = f"sent {day.market.sent} messages, {day.pace:,.0f} a second"
    print(f"{told}: {json.dumps(report['lines'])}", file=sys.stderr)
