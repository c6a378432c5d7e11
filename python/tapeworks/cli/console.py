"""The two outputs of a command as rich consoles, for screens, colours and progress."""

import sys
from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from tapeworks.cli.tables import PIPE_COLUMNS
from tapeworks.printable import printable


class PrintableConsole(Console):
    """A console on which no text acts: only what rich itself adds moves the cursor or colours."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Renders into segments, whose text is made printable."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(printable(segment.text), segment.style)

    def on_broken_pipe(self) -> None:
        """Leaves it to the command which exit code that is.

        Raises:
            BrokenPipeError: always.
        """
        if (error := sys.exception()) is not None:
            raise error


console = PrintableConsole(width=None if sys.stdout.isatty() else PIPE_COLUMNS, highlight=False)
problems = PrintableConsole(
    stderr=True, width=None if sys.stderr.isatty() else PIPE_COLUMNS, highlight=False
)
