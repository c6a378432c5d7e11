"""Runs a simulator as a process: its signals, its end with its parent, and its exit status."""

import asyncio
import contextlib
import errno
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import IO, TypeVar

from tapeworks.errors import ConfigError
from tapeworks.simulators.config import ServerConfig
from tapeworks.simulators.server import Server, serve

Config = TypeVar("Config", bound=ServerConfig)


async def _run(server: Server) -> None:
    """Serves until it is done or told to stop by SIGTERM or Ctrl-C."""
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)

    def listen() -> None:
        if not os.read(0, 4096):
            ended.set()

    if server.config.with_parent:
        asyncio.get_running_loop().add_reader(0, listen)
    await serve(server, ended)


def run(
    arguments: Sequence[str],
    program: str,
    parse: Callable[[Sequence[str], str], Config],
    build: Callable[[Config, IO[str] | None], Server],
) -> int:
    """Reads the command line and serves what `build` makes of it; returns the exit status."""
    try:
        config = parse(arguments, program)
        with contextlib.ExitStack() as stack:
            full = None
            if config.full:
                full = stack.enter_context(config.full.open("w", encoding="utf-8"))
            asyncio.run(_build_and_run(config, full, build))
    except ConfigError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        told = f"{config.host}:{config.port} is in use: name another --port, or 0 for a free one"
        print(f"{program}: {told}", file=sys.stderr)
        return 1
    return 0


async def _build_and_run(
    config: Config, full: IO[str] | None, build: Callable[[Config, IO[str] | None], Server]
) -> None:
    try:
        server = build(config, full)
    except ValueError as error:
        # The core lists no such symbol.
        raise ConfigError(str(error)) from None
    await _run(server)
