"""Runs the simulator of Binance: `python -m tapeworks.simulators.binance --help`."""

import asyncio
import errno
import os
import signal
import sys
from collections.abc import Sequence

from tapeworks.errors import ConfigError
from tapeworks.simulators.binance.config import SimulatorConfig, parse_arguments
from tapeworks.simulators.binance.server import serve


async def run(config: SimulatorConfig) -> None:
    """Serves until it is done or told to stop by SIGTERM or Ctrl-C."""
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)

    def listen() -> None:
        if not os.read(0, 4096):
            ended.set()

    if config.with_parent:
        asyncio.get_running_loop().add_reader(0, listen)
    await serve(config, ended)


def main(arguments: Sequence[str] | None = None, program: str = "") -> int:
    """Reads the command line and serves; returns the exit status."""
    program = program or "python -m tapeworks.simulators.binance"
    try:
        config = parse_arguments(sys.argv[1:] if arguments is None else arguments, program)
        asyncio.run(run(config))
    except ConfigError as error:
        print(f"simulator: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        told = f"{config.host}:{config.port} is in use: name another --port, or 0 for a free one"
        print(f"simulator: {told}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
