"""Runs the simulator of Alpaca: `tape simulate alpaca --help`."""

import sys
from collections.abc import Sequence

from tapeworks.simulators.alpaca.config import parse_arguments
from tapeworks.simulators.alpaca.server import AlpacaServer
from tapeworks.simulators.running import run


def main(arguments: Sequence[str] | None = None, program: str = "") -> int:
    """Reads the command line and serves; returns the exit status."""
    program = program or "python -m tapeworks.simulators.alpaca"
    given = sys.argv[1:] if arguments is None else arguments
    return run(given, program, parse_arguments, AlpacaServer)


if __name__ == "__main__":
    sys.exit(main())
