"""Rules about this host: how long records take on their way, and how full the disk is.

They follow from no record, so they are looked at here, once a second, beside the derivation of
their source. What begins or ends is left as a note for the recorder, which puts it on its tape.
"""

import contextlib
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tapeworks.alert_notes import AlertNote, leave_note
from tapeworks.processors.alerts import HOST_RULES
from tapeworks.stage_times import StageTimes, read_times

LOOK_S = 1.0
# A breach is over when there was none for so long: one that comes and goes is one alert.
OVER_S = 10.0
# An open alert that gets no worse is told again so seldom.
UPDATE_S = 60.0
WORSE = 2.0
GB = 1e9


@dataclass(frozen=True)
class Breach:
    """What is beyond its limit."""

    value: float
    threshold: float
    count: int = 0
    subject: str = ""
    detail: str = ""


@dataclass
class _Open:
    """A breach that was told."""

    worst: float
    told_at: float
    seen_at: float
    ts_start: int


class HostRules:
    """The rules about the host of one source."""

    def __init__(self, rules: Sequence[Any], data: Path, source: str) -> None:
        self._rules = [rule for rule in rules if rule.rule in HOST_RULES]
        self._data = data
        self._source = source
        self._open: dict[str, _Open] = {}
        self._looked_at = 0.0

    def look(self, now: float | None = None) -> None:
        """Looks at all rules, if it is time to; tells what began, got worse, or ended."""
        now = time.monotonic() if now is None else now
        if not self._rules or now - self._looked_at < LOOK_S:
            return
        self._looked_at = now
        times = read_times(self._data, self._source)
        for rule in self._rules:
            # A full disk takes no note; it is told when it takes one again.
            with contextlib.suppress(OSError):
                self._tell(rule.name, _CHECKS[rule.rule](rule.parameters, self._data, times), now)

    def _tell(self, name: str, breach: Breach | None, now: float) -> None:
        known = self._open.get(name)
        if breach is None:
            if known is not None and now - known.seen_at >= OVER_S and self._note(name, "closed"):
                del self._open[name]
            return
        if known is None:
            opened = _Open(breach.value, now, now, time.time_ns())
            if self._note(name, "opened", breach, opened.ts_start):
                self._open[name] = opened
            return
        known.seen_at = now
        is_worse = breach.value > known.worst * WORSE
        if (is_worse or now - known.told_at >= UPDATE_S) and self._note(
            name, "updated", breach, known.ts_start
        ):
            known.worst, known.told_at = max(known.worst, breach.value), now

    def _note(
        self, name: str, state: str, breach: Breach | None = None, ts_start: int | None = None
    ) -> bool:
        told = Breach(0.0, 0.0) if breach is None else breach
        note = AlertNote(
            name,
            state,
            ts_start=ts_start,
            value=told.value,
            threshold=told.threshold,
            count=told.count,
            subject=told.subject,
            detail=told.detail,
        )
        return leave_note(self._data, self._source, note) is not None


def _latency(
    parameters: Mapping[str, Any], data: Path, times: Mapping[str, StageTimes]
) -> Breach | None:
    stage, quantile = str(parameters["stage"]), str(parameters.get("quantile", "p99"))
    limit_ms = float(parameters.get("above_ms", 50.0))
    window = times[stage].recent if stage in times else None
    if window is None or not window.count:
        return None
    value_ms = window.quantile(quantile) / 1e6
    if value_ms <= limit_ms:
        return None
    return Breach(value_ms, limit_ms, window.count, stage, f"quantile={quantile}")


def _disk(
    parameters: Mapping[str, Any], data: Path, times: Mapping[str, StageTimes]
) -> Breach | None:
    usage = shutil.disk_usage(data)
    least = float(parameters.get("free_gb", 5.0)) * GB
    share = float(parameters.get("free_share", 0.02)) * usage.total
    # Both must be short: a large disk is not full while gigabytes are left, nor is a small one.
    if usage.free >= min(least, share):
        return None
    detail = f"free_share={usage.free / usage.total:.4f}"
    return Breach(usage.free / GB, min(least, share) / GB, 0, "data", detail)


_CHECKS: dict[str, Callable[..., Breach | None]] = {"latency": _latency, "disk": _disk}
