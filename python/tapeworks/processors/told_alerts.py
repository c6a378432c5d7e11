"""What the output of rules of the user's own holds of alerts: which are open, and their numbers."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from tapeworks._core import numbers

STATES = numbers("alert_state")
# Alerts of rules in Python are numbered from here on, each rule for itself.
IDS = 1_000_000_000
Rows = npt.NDArray[Any]


@dataclass
class Open:
    """An alert that is open."""

    row: Rows
    """Its last record, as it was told."""
    is_acknowledged: bool = False

    @property
    def id(self) -> int:
        """Its number."""
        return int(self.row["id"][0])

    def to_json(self) -> tuple[str, bool]:
        """Returns it as a state holds it."""
        return self.row.tobytes().hex(), self.is_acknowledged


class Told:
    """What the output holds of alerts."""

    def __init__(self) -> None:
        self.open: dict[int, Open] = {}
        """Each alert that is open, by number."""
        self.newest: defaultdict[int, int] = defaultdict(int)
        """The largest number that the rule in each place had."""

    def take(self, rows: Rows) -> None:
        """Takes in records of the output."""
        for row in rows.reshape(-1, 1):
            identity = int(row["id"][0])
            place = identity // IDS
            self.newest[place] = max(self.newest[place], identity)
            before = self.open.pop(identity, None)
            if row["state"][0] != STATES["closed"]:
                is_seen = row["state"][0] == STATES["acknowledged"]
                is_seen = is_seen or (before is not None and before.is_acknowledged)
                self.open[identity] = Open(row.copy(), is_seen)

    def known(self, rule: str, instrument: int) -> Open | None:
        """Returns the alert that a rule has open of an instrument, which is then known."""
        for identity, one in self.open.items():
            if one.row["rule"][0] == rule.encode() and one.row["instrument"][0] == instrument:
                return self.open.pop(identity)
        return None
