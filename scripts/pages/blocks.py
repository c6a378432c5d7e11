"""The blocks of code of a page: what each is, and what it must be marked with.

- ```` ```bash ````, ```` ```python ```` and ```` ```sql ```` are run. `title="not run: REASON"`
  leaves one out, and readers see the reason.
- With any other title a block is a file: it is written under that name for the blocks below it.
- ```` ```text ```` right below a block is what that prints; anywhere else it is a drawing.
- A block of another language is a file, or says why it is not run.
"""

import re
from dataclasses import dataclass
from pathlib import Path

RUN = ("bash", "python", "sql")
NOT_RUN = "not run: "
FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,})(?P<info>[^`]*)$")
TITLE = re.compile(r'title="([^"]*)"')


class PageError(Exception):
    """A block is not marked as it must be; the message names its place."""


@dataclass
class Block:
    """One block of code, and the output that the page shows below it."""

    page: Path
    line: int
    language: str
    title: str
    text: str
    output: str | None = None

    @property
    def place(self) -> str:
        """The page and line at which it begins."""
        return f"{self.page}:{self.line}"

    @property
    def reason(self) -> str:
        """Why it is not run; empty if it is."""
        return self.title.removeprefix(NOT_RUN) if self.title.startswith(NOT_RUN) else ""

    @property
    def file(self) -> str:
        """The name under which it is written; empty if it is no file."""
        return "" if self.reason else self.title


def read_blocks(page: Path) -> list[Block]:
    """Returns the blocks of `page` that are run, written or left out, in their order.

    Raises:
        PageError: a block is not closed, or is not marked as it must be.
    """
    found: list[Block] = []
    # The last block while nothing but blank lines came after it: a text is its output.
    before: Block | None = None
    lines = iter(enumerate(page.read_text(encoding="utf-8").splitlines(), 1))
    for number, line in lines:
        opened = FENCE.match(line)
        if opened is None:
            before = before if not line.strip() else None
            continue
        text = _body(page, number, lines, opened)
        language, _, rest = opened["info"].strip().partition(" ")
        title = TITLE.search(rest)
        block = Block(page, number, language, title[1] if title else "", text)
        if language == "text" and not block.title:
            if before is not None and before.language in RUN and not before.title:
                before.output = text
            before = None
            continue
        _check(block)
        found.append(block)
        before = block
    return found


def _body(page: Path, number: int, lines: "object", opened: re.Match[str]) -> str:
    body = []
    for _, line in lines:  # type: ignore[attr-defined]
        if line.strip() == opened["fence"]:
            return "\n".join(body) + "\n"
        body.append(line.removeprefix(opened["indent"]))
    raise PageError(f"{page}:{number}: expected the block to be closed by {opened['fence']}")


def _check(block: Block) -> None:
    if block.title == NOT_RUN.strip():
        raise PageError(f"{block.place}: expected a reason after `not run:`, got none")
    if block.language not in RUN and not block.title:
        raise PageError(
            f"{block.place}: expected a block of {', '.join(RUN)} or text, got "
            f"{block.language or 'no language'!r}: give it the name of a file, or "
            '`title="not run: REASON"`'
        )
