"""Runs the simulator of Massive: `tape simulate massive --help`."""

import sys
from collections.abc import Sequence

from tapeworks.simulators.massive.config import parse_arguments
from tapeworks.simulators.massive.server import MassiveServer
from tapeworks.simulators.running import run


def main(arguments: Sequence[str] | None = None, program: str = "") -> int:
    """Reads the command line and serves; returns the exit status."""
    program = program or "python -m tapeworks.simulators.massive"
    given = sys.argv[1:] if arguments is None else arguments
    return run(given, program, parse_arguments, MassiveServer)


if __name__ == "__main__":
    sys.exit(main())
