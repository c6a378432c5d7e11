"""The command `tape`: arguments in, one call out. `app.py` holds the table of commands."""

from tapeworks.cli.app import main

__all__ = ["main"]
