"""Alerts that opened again while their rule was quiet: told later, if they are open by then."""

from collections.abc import Mapping
from typing import Any

HELD_MAX = 1_000
# What a message says of an alert, beside its body.
KEPT = ("id", "rule", "state", "severity", "symbol", "detail")
Row = dict[str, Any]


class HeldBack:
    """Alerts of one outbox that wait for the end of a quiet time, the oldest first."""

    def __init__(self, entries: list[Row] | None = None) -> None:
        self.entries: list[Row] = list(entries or [])
        """Each with the alert as a row, its body, what it is counted under, and when it is due."""

    def hold(self, key: str, row: Mapping[str, Any], body: str, due: float) -> None:
        """Keeps an alert until `due`, in s since 1970; of very many the oldest are given up."""
        kept = {name: row.get(name) for name in KEPT}
        self.entries = [
            *self.entries[1 - HELD_MAX :],
            {"key": key, "row": kept, "body": body, "due": due},
        ]

    def closed(self, number: int) -> None:
        """Forgets an alert that is over."""
        self.entries = [one for one in self.entries if one["row"]["id"] != number]

    def take_due(self, now: float, longest: float) -> list[Row]:
        """Takes out what is due: also where the clock was set back by more than `longest`."""
        due = [one for one in self.entries if not now < one["due"] <= now + longest]
        self.entries = [one for one in self.entries if one not in due]
        return due
