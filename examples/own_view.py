"""A view of one's own: the last trade of each symbol, kept in a JSON file that any page can read.

In the settings it is `[views.board]` with `kind = "own_view:Board"` and `path = "board.json"`; then
`tape up` runs it beside the rest. Alone, also over a finished folder: `tape worker view board`.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from tapeworks.views.base import View, ViewConfig

LAST = "select venue as source, symbol, arg_max(price, tape_offset) as price from trades"


@dataclass(frozen=True)
class BoardConfig(ViewConfig):
    """Where the file is, and how often it is replaced."""

    path: Path = Path("board.json")
    every_s: float = 1.0


class Board(View):
    """Writes `{source: {symbol: price}}`."""

    Config = BoardConfig

    def run(self) -> None:
        while not self.stop.wait(self.config.every_s):
            board: dict[str, dict[str, str]] = {source: {} for source in self.symbols}
            for row in self.lake.sql(f"{LAST} group by all"):
                if row["symbol"] in self.symbols.get(row["source"], ()):
                    board[row["source"]][row["symbol"]] = str(row["price"])
            aside = self.config.path.with_suffix(".part")
            aside.write_text(json.dumps(board))
            aside.replace(self.config.path)
