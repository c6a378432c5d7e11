"""What every command is made of: plain help that is quick to show, with examples to copy.

Help is text, not boxes: no other library is loaded for it, and it reads the same in a pipe.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import typer
from typer.core import TyperCommand

from tapeworks.cli.streams import discard_output, is_of_output


def write_epilog(text: str | None, formatter: Any) -> None:
    """Writes what stands below the options as it is: examples must not be wrapped."""
    if text:
        formatter.write_paragraph()
        formatter.write(text.rstrip() + "\n")


@contextlib.contextmanager
def ending_with(code: int) -> Iterator[None]:
    """Prints what the block prints, and ends the command with `code`.

    A verdict is one also where its reader has seen enough, as in `tape gaps --check | head -1`.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError as error:
        if not is_of_output(error):
            raise
        discard_output()
    if code:
        raise typer.Exit(code)


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
