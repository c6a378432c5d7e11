"""The two outputs of a command as rich consoles, for screens, colours and progress."""

import sys

from rich.console import Console

from tapeworks.cli.output import PIPE_COLUMNS

console = Console(width=None if sys.stdout.isatty() else PIPE_COLUMNS, highlight=False)
problems = Console(
    stderr=True, width=None if sys.stderr.isatty() else PIPE_COLUMNS, highlight=False
)
