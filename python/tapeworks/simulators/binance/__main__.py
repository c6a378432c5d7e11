"""Runs the simulator of Binance: `tape simulate binance --help`."""

import sys
from collections.abc import Sequence

from tapeworks.simulators.binance.config import parse_arguments
from tapeworks.simulators.binance.server import BinanceServer
from tapeworks.simulators.running import run


def main(arguments: Sequence[str] | None = None, program: str = "") -> int:
    """Reads the command line and serves; returns the exit status."""
    program = program or "python -m tapeworks.simulators.binance"
    given = sys.argv[1:] if arguments is None else arguments
    return run(given, program, parse_arguments, BinanceServer)


if __name__ == "__main__":
    sys.exit(main())
