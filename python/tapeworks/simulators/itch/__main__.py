"""Runs the simulator of ITCH: `tape simulate itch --help`."""

import asyncio
import errno
import json
import os
import signal
import sys
from collections.abc import Sequence

from tapeworks._core import ItchMarket
from tapeworks.errors import ConfigError
from tapeworks.simulators.itch.config import SimulatorConfig, parse_arguments
from tapeworks.simulators.itch.market import oracle_of, stock_names, write_day
from tapeworks.simulators.itch.server import serve


async def run(config: SimulatorConfig) -> None:
    """Sends until the day is over, or SIGTERM or Ctrl-C ends it in good order."""
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
    """Reads the command line and does what it says; returns the exit status."""
    program = program or "python -m tapeworks.simulators.itch"
    try:
        config = parse_arguments(sys.argv[1:] if arguments is None else arguments, program)
        if config.file is None:
            asyncio.run(run(config))
            return 0
        market = ItchMarket(stock_names(config.stocks), config.seed, config.messages)
        write_day(market, config.file)
        if config.oracle is not None:
            config.oracle.write_text(json.dumps(oracle_of(market)))
        print(f"{market.sent} messages of {config.stocks} stocks: {config.file}", file=sys.stderr)
    except (ConfigError, ValueError) as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        in_use = error.errno == errno.EADDRINUSE
        told = "a port is in use: name another --requests, --soup or --port" if in_use else error
        print(f"{program}: {told}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
