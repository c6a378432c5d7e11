"""What is not told yet: alerts that opened again while their rule was quiet, and those that are not
as severe as is told. They are, if they are open when it is over, and when they become so."""

from collections.abc import Mapping
from typing import Any

HELD_MAX = 1_000
OPEN_MAX = 10_000
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

    def forget(self, number: int) -> None:
        """Forgets an alert that is over, or that somebody has seen."""
        self.entries = [one for one in self.entries if one["row"]["id"] != number]

    def update(self, row: Mapping[str, Any], body: str) -> None:
        """Takes in what is known of an alert now."""
        now = {name: row.get(name) for name in KEPT if name != "state"}
        self.entries = [
            {**one, "row": {**one["row"], **now}, "body": body}
            if one["row"]["id"] == row["id"]
            else one
            for one in self.entries
        ]

    def take_due(self, now: float, longest: float) -> list[Row]:
        """Takes out what is due: also where the clock was set back by more than `longest`."""
        due = [one for one in self.entries if not now < one["due"] <= now + longest]
        self.entries = [one for one in self.entries if one not in due]
        return due


class SevereOnce:
    """By number, open alerts of one outbox, and whether they were ever as severe as is told."""

    def __init__(self, entries: dict[str, bool] | None = None) -> None:
        self.entries = dict(entries or {})

    def note(self, number: int, is_severe: bool) -> None:
        """Takes in how severe an alert is; of very many the oldest are forgotten.

        First those that were never severe: nobody waits for their end.
        """
        self.entries[str(number)] = is_severe
        while len(self.entries) > OPEN_MAX:
            mild = (one for one, was_severe in self.entries.items() if not was_severe)
            del self.entries[next(mild, next(iter(self.entries)))]

    def look(self, number: int, *, forgets: bool) -> bool | None:
        """Returns whether an alert was ever severe; none where that is not known."""
        if forgets:
            return self.entries.pop(str(number), None)
        return self.entries.get(str(number))
