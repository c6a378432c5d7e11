"""What every command is made of: plain help that is quick to show, with examples to copy.

Help is text, not boxes: no other library is loaded for it, and it reads the same in a pipe.
"""

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand


def write_epilog(text: str | None, formatter: Any) -> None:
    """Writes what stands below the options as it is: examples must not be wrapped."""
    if text:
        formatter.write_paragraph()
        formatter.write(text.rstrip() + "\n")


class Command(TyperCommand):
    """One command, whose help ends with its examples, line by line."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Writes the examples."""
        write_epilog(self.epilog, formatter)


class Application(typer.Typer):
    """The commands of one module."""

    def __init__(self, **more: Any) -> None:
        super().__init__(add_completion=False, rich_markup_mode=None, **more)

    def command(self, name: str | None = None, **more: Any) -> Callable[[Any], Any]:
        """Makes the decorated function a command."""
        return super().command(name, cls=Command, **more)
