"""`tape completion`: commands, options, symbols, sources and tables at the press of Tab."""

from collections.abc import Callable, Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from click.shell_completion import get_completion_class

from tapeworks.cli.app import VARIABLE
from tapeworks.cli.app import app as commands
from tapeworks.cli.command import Application, argument
from tapeworks.cli.reading import open_lake
from tapeworks.errors import TapeworksError
from tapeworks.lake import TABLES
from tapeworks.views.lake import Lake

app = Application()

EXAMPLES = """\
Examples:
  eval "$(tape completion bash)"                                     # in ~/.bashrc
  eval "$(tape completion zsh)"                                      # in ~/.zshrc
  tape completion fish > ~/.config/fish/completions/tape.fish
"""


NAMES: dict[str, Callable[[Lake], Iterable[str]]] = {
    "symbols": Lake.symbols,
    "sources": Lake.sources,
    "exchanges": lambda lake: sorted(set(map(lake.exchange, lake.sources()))),
    "products": lambda lake: sorted(set(lake.instruments()["asset_class"].to_pylist()) - {None}),
}


class Shell(StrEnum):
    """A shell that can complete."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


@app.command(epilog=EXAMPLES)
def completion(shell: Annotated[Shell, argument(help="The shell.")]) -> None:
    """Print what makes a shell complete commands, options, symbols, sources and tables."""
    found = get_completion_class(shell.value)
    assert found is not None
    print(found(commands, {}, "tape", VARIABLE).source())


def complete(names: str, data: Path | None, begun: str) -> list[str]:
    """Returns the names of that kind that begin so; none where nothing can be read."""
    if names == "tables":
        return [name for name in TABLES if name.startswith(begun)]
    try:
        known = NAMES[names](open_lake(data))
    except TapeworksError:
        return []
    return [name for name in known if name.lower().startswith(begun.lower())]
