"""Rows as a table on a screen, or below each other where they are too wide for one.

In a pipe nothing is left out. On a terminal a table fits the screen, and what is cut is told: long
values end with `…`, and of many wide rows the first columns are shown.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from tapeworks.cli.cells import NUMBERS, text

# What is piped into a file or another program has no width of its own.
PIPE_COLUMNS = 160
# Lists and frames are longer than any screen: of each value this much is shown beside others.
CELL_COLUMNS_MAX = 40
CUT = "…"
# Columns that say least are left out first, in this order; then those at the right.
LEAST = ("conditions", "tape_offset", "flags", "sequence", "date", "channel", "ts_recv")


@dataclass(frozen=True)
class Shown:
    """A table as text, and what of it was cut."""

    text: str
    cut: str = ""


def as_table(
    columns: list[str], rows: list[tuple[object, ...]], screen: os.terminal_size | None = None
) -> Shown:
    """Returns rows as a table, or each as a block of its own where they are too wide."""
    cells = [[text(value) for value in row] for row in rows]
    right = [
        all(value is None or isinstance(value, NUMBERS) for value in column)
        for column in (zip(*rows, strict=True) if rows else [() for _ in columns])
    ]
    if screen is None:
        is_narrow = _width(columns, cells) <= PIPE_COLUMNS
        return Shown(_table(columns, cells, right) if is_narrow else _blocks(columns, cells))
    if _width(columns, cells) <= screen.columns:
        return Shown(_table(columns, cells, right))
    if len(rows) * (len(columns) + 1) < screen.lines:
        return _cut_blocks(columns, cells, screen.columns)
    return _cut_table(columns, cells, right, screen.columns)


def _widths(columns: Sequence[str], cells: list[list[str]]) -> list[int]:
    return [max([len(name), *(len(row[at]) for row in cells)]) for at, name in enumerate(columns)]


def _width(columns: Sequence[str], cells: list[list[str]]) -> int:
    return sum(_widths(columns, cells)) + 2 * (len(columns) - 1)


def _table(columns: Sequence[str], cells: list[list[str]], right: Sequence[bool]) -> str:
    widths = _widths(columns, cells)
    lines = [_line(row, widths, right) for row in (columns, *cells)]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str], widths: list[int], right: Sequence[bool]) -> str:
    padded = [
        cell.rjust(width) if to_right else cell.ljust(width)
        for cell, width, to_right in zip(cells, widths, right, strict=True)
    ]
    return "  ".join(padded).rstrip()


def _blocks(columns: Sequence[str], cells: list[list[str]], columns_max: int | None = None) -> str:
    label = max(len(name) for name in columns)
    blocks = [
        "\n".join(
            _clip(f"{name:<{label}}  {cell}".rstrip(), columns_max)
            for name, cell in zip(columns, row, strict=True)
        )
        for row in cells
    ]
    return "\n\n".join(blocks) + "\n"


def _clip(shown: str, columns_max: int | None) -> str:
    if columns_max is None or len(shown) <= columns_max:
        return shown
    return shown[: columns_max - 1] + CUT


def _cut_blocks(columns: Sequence[str], cells: list[list[str]], columns_max: int) -> Shown:
    label = max(len(name) for name in columns) + 2
    count = sum(label + len(cell) > columns_max for row in cells for cell in row)
    told = f"{count:,} value{' is' if count == 1 else 's are'} cut ({CUT})" if count else ""
    return Shown(_blocks(columns, cells, columns_max), told)


def _cut_table(
    columns: Sequence[str], cells: list[list[str]], right: Sequence[bool], columns_max: int
) -> Shown:
    clipped = [[_clip(cell, CELL_COLUMNS_MAX) for cell in row] for row in cells]
    widths = [width + 2 for width in _widths(columns, clipped)]
    kept = list(range(len(columns)))
    least = [columns.index(name) for name in LEAST if name in columns]
    for at in [*least, *(at for at in reversed(kept[1:]) if at not in least)]:
        if sum(widths[one] for one in kept) - 2 <= columns_max:
            break
        if len(kept) > 1:
            kept.remove(at)
    rows = [[_clip(row[at], columns_max) for at in kept] for row in clipped]
    names = [_clip(columns[at], columns_max) for at in kept]
    words = []
    if len(kept) < len(columns):
        hidden = ", ".join(name for at, name in enumerate(columns) if at not in kept)
        words.append(f"{len(kept)} of {len(columns)} columns fit; not shown: {hidden}")
    if rows != [[row[at] for at in kept] for row in cells]:
        words.append(f"values of over {CELL_COLUMNS_MAX} characters are cut ({CUT})")
    return Shown(_table(names, rows, [right[at] for at in kept]), "; ".join(words))
