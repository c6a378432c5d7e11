"""A few rows as text that fits the terminal, and as HTML that a notebook shows."""

import shutil
from collections.abc import Sequence
from html import escape
from textwrap import wrap

Columns = Sequence[tuple[str, list[object]]]
"""Names and values."""

BETWEEN = "  "
CELL_MAX = 40
LIST_MAX = 20
# What makes the answer is left out last, the more so the further in front it stands; of a table
# that is joined as well.
FIRST = (
    *("finding", "ts_event", "ts_from", "price", "bid_price", "ask_price"),
    *("symbol", "cause", "missing", "size", "asset_class", "action", "side", "order_id"),
)
# Left out first where the screen is narrow, also of a table that is joined, whose name stands in
# front; then whatever is on the right.
LEAST = (
    "tape_offset",
    "conditions",
    "participant",
    "printed",
    "cross",
    "match_id",
    "order_price",
    "previous_id",
    "previous",
    "span",
    "flags",
    "sequence",
    "ts_recv",
    "closed",
    "partial",
    "interval_ms",
    "channel",
    "count",
)


def draw_text(title: str, rows: int, shown: Columns, notices: Sequence[str] = ()) -> str:
    """Returns title, rows and notices, no wider than the terminal; names what is cut."""
    room = shutil.get_terminal_size().columns
    cells = {name: [cell_text(value) for value in column] for name, column in shown}
    widths = {name: max(map(len, [name, *column])) for name, column in cells.items()}
    kept = _fitting(widths, room, _is_of_several(shown))
    lines = [
        f"{title}: {count_text(rows)}",
        BETWEEN.join(name.ljust(widths[name]) for name in kept),
    ]
    count = min(len(cells[name]) for name in cells) if cells else 0
    for row in range(count):
        lines.append(BETWEEN.join(cells[name][row].ljust(widths[name]) for name in kept))
    if rows > count:
        lines.append(f"... {rows - count:,} more")
    lines = [_cut(line.rstrip(), room) for line in lines]
    if hidden := [name for name in widths if name not in kept]:
        lines += wrap(f"not shown: {', '.join(hidden)}", max(room, 1))
    for notice in notices:
        lines += wrap(notice, max(room, 1))
    return "\n".join(lines)


def draw_html(title: str, rows: int, shown: Columns, notices: Sequence[str] = ()) -> str:
    """Returns title and rows as an HTML table; nothing in it is markup of the data's own."""
    head = "".join(f"<th>{escape(name)}</th>" for name, _ in shown)
    columns = [[escape(cell_text(value)) for value in column] for _, column in shown]
    body = "".join(
        f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
        for cells in zip(*columns, strict=True)
    )
    more = rows - (len(columns[0]) if columns else 0)
    told = f"<p>... {more:,} more</p>" if more else ""
    told += "".join(f"<p>{escape(notice)}</p>" for notice in notices)
    return (
        f"<div><p>{escape(title)}: {count_text(rows)}</p><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>{told}</div>"
    )


def cell_text(value: object) -> str:
    """Writes a value in short: decimals without zeros at their end, nothing for none."""
    if value is None:
        return ""
    if isinstance(value, list):
        return _cut(f"[{', '.join(map(cell_text, value))}]", LIST_MAX)
    text = format(value, "f") if type(value).__name__ == "Decimal" else str(value)
    if "." in text and text.replace(".", "").lstrip("-").isdigit():
        text = text.rstrip("0").rstrip(".")
    return _cut(text, CELL_MAX)


def count_text(rows: int) -> str:
    """Returns a number of rows in words."""
    return "1 row" if rows == 1 else f"{rows:,} rows"


def _is_of_several(shown: Columns) -> bool:
    """Whether the rows are of several sources, so that a symbol alone does not tell of which."""
    return any(name == "venue" and len(set(values)) > 1 for name, values in shown)


def _rank(name: str) -> int | None:
    """Returns the place of a column in `FIRST`; none if it has none."""
    for place, first in enumerate(FIRST):
        if name == first or (first in ("bid_price", "ask_price") and name.endswith(f"_{first}")):
            return place
    return None


def _fitting(widths: dict[str, int], room: int, names_venue: bool) -> list[str]:
    kept = list(widths)
    joined = tuple(f"_{name}" for name in ("ts_event", *LEAST))
    least = [name for name in widths if name not in LEAST and name.endswith(joined)]
    least += [name for name in LEAST if name in widths]
    ranks = {name: place for name in widths if (place := _rank(name)) is not None}
    if names_venue:
        ranks["venue"] = FIRST.index("symbol")
    rest = [name for name in reversed(widths) if name not in least and name not in ranks]
    for name in (*least, *rest, *sorted(ranks, key=lambda name: -ranks[name])):
        if sum(widths[one] + len(BETWEEN) for one in kept) - len(BETWEEN) <= room:
            break
        if len(kept) > 1:
            kept.remove(name)
    return kept


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: max(width - 3, 0)]}..."
