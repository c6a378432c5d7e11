"""How many alerts of a source are open and were opened: what a screen and Prometheus show."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from tapeworks import _core
from tapeworks._core import Records, TapeReader
from tapeworks.views.reach import new_records

ALERT = np.dtype(_core.dtype_descr("alert"))
STATES = _core.numbers("alert_state")
SEVERITIES = {number: name for name, number in _core.numbers("severity").items()}
BATCH_RECORDS = 65_536


@dataclass(frozen=True)
class AlertCount:
    """The alerts of one rule."""

    rule: str
    severity: str
    open: int
    """How many are not closed."""
    opened: int
    """How many were ever opened, as far as the tape still has them."""


class AlertCounts:
    """Reads a tape of alerts piece by piece. Keeps one entry per alert that is open."""

    def __init__(self) -> None:
        self._open: dict[int, tuple[str, str]] = {}
        self._opened: Counter[tuple[str, str]] = Counter()

    def read(self, reader: TapeReader | None) -> list[AlertCount]:
        """Takes what is new on the tape, and returns what is so by then, by rule.

        Raises:
            TapeError: it is damaged.
        """
        for records in new_records(reader, BATCH_RECORDS):
            self._take(records)
        still = Counter(self._open.values())
        return [
            AlertCount(*rule, still[rule], self._opened[rule])
            for rule in sorted({*still, *self._opened})
        ]

    def _take(self, records: Records) -> None:
        rows = np.frombuffer(records.numpy("alert"), ALERT)
        columns = (rows[name].tolist() for name in ("id", "rule", "severity", "state"))
        for number, name, severity, state in zip(*columns, strict=True):
            rule = name.decode(errors="replace"), SEVERITIES.get(severity, str(severity))
            self._opened[rule] += state == STATES["opened"]
            if state == STATES["closed"]:
                self._open.pop(number, None)
            else:
                self._open[number] = rule
