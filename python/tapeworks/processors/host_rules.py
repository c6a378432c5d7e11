"""Rules about this host: how long records take on their way, and how full the disk is.

They follow from no record, so they are looked at here, once a second, beside the derivation of
their source. What begins or ends is left as a note for the recorder, which puts it on its tape.
What is open outlives a restart:

    data/state/<source>/host-rules.json
"""

import contextlib
import json
import logging
import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tapeworks.alert_notes import AlertNote, leave_note
from tapeworks.durable import make_folder, replace_file
from tapeworks.processors.alerts import DEFAULTS, HOST_RULES
from tapeworks.stage_times import StageTimes, read_times
from tapeworks.standing import Standing

log = logging.getLogger("tapeworks.alerts")

LOOK_S = 1.0
# A breach is over when there was none for so long: one that comes and goes is one alert.
OVER_S = 10.0
# A stage stands still that moves nothing for so long: input waits in between anyway.
STANDING_S = 10.0
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


class _Unknown:
    """Nothing was measured, though there was something to measure: no breach begins or ends."""


UNKNOWN = _Unknown()
Found = Breach | _Unknown | None


@dataclass
class _Open:
    """A breach that was told."""

    worst: float
    told_at: float | None
    """None: not since this process runs."""
    seen_at: float | None
    ts_start: int


class HostRules:
    """The rules about the host of one source."""

    def __init__(self, rules: Sequence[Any], data: Path, source: str) -> None:
        self._rules = [rule for rule in rules if rule.rule in HOST_RULES]
        self._data = data
        self._source = source
        self._path = data / "state" / source / "host-rules.json"
        self._open = self._read()
        self._standing = Standing(data, source)
        self._looked_at = 0.0

    def look(self, now: float | None = None) -> None:
        """Looks at all rules, if it is time to; tells what began, got worse, or ended."""
        now = time.monotonic() if now is None else now
        if not (self._rules or self._open) or now - self._looked_at < LOOK_S:
            return
        self._looked_at = now
        times = read_times(self._data, self._source)
        for rule in self._rules:
            # A full disk takes no note; it is told when it takes one again.
            with contextlib.suppress(OSError):
                self._tell(rule.name, self._check(rule, times, now), now)
        for name in set(self._open) - {rule.name for rule in self._rules}:
            # The rule was taken out of the settings.
            with contextlib.suppress(OSError):
                self._close(name)

    def _check(self, rule: Any, times: Mapping[str, StageTimes], now: float) -> Found:
        parameters = {**DEFAULTS[rule.rule], **rule.parameters}
        if rule.rule == "disk":
            return _disk(parameters, rule.parameters.keys(), self._data)
        return _latency(parameters, times, self._standing, now)

    def _tell(self, name: str, breach: Found, now: float) -> None:
        known = self._open.get(name)
        if isinstance(breach, _Unknown):
            if known is not None:
                known.seen_at = now
        elif breach is None:
            if known is not None and known.seen_at is None:
                # Open since before the start: it is over after as long as any other.
                known.seen_at = now
            elif known is not None and now - (known.seen_at or now) >= OVER_S:
                self._close(name)
        elif known is None:
            opened = _Open(breach.value, now, now, time.time_ns())
            # Stored first: what is open on the tape is known here. Noted twice, it is told once.
            self._write(self._open | {name: opened})
            if self._note(name, "opened", breach, opened.ts_start):
                self._open[name] = opened
        else:
            self._update(name, known, breach, now)

    def _update(self, name: str, known: _Open, breach: Breach, now: float) -> None:
        known.seen_at = now
        is_due = known.told_at is None or now - known.told_at >= UPDATE_S
        is_worse = breach.value > known.worst * WORSE
        if (is_worse or is_due) and self._note(name, "updated", breach, known.ts_start):
            known.worst, known.told_at = max(known.worst, breach.value), now

    def _close(self, name: str) -> None:
        if self._note(name, "closed"):
            del self._open[name]
            self._write(self._open)

    def _read(self) -> dict[str, _Open]:
        """Returns what was open when the last process ended."""
        try:
            told = json.loads(self._path.read_bytes())
            return {
                str(name): _Open(float(one["worst"]), None, None, int(one["ts_start"]))
                for name, one in told.items()
            }
        except FileNotFoundError:
            return {}
        except (OSError, AttributeError, KeyError, TypeError, ValueError) as error:
            log.error("%s cannot be read: what was open stays so: %s", self._path, error)
            return {}

    def _write(self, opened: Mapping[str, _Open]) -> None:
        make_folder(self._path.parent)
        replace_file(self._path, json.dumps({name: asdict(one) for name, one in opened.items()}))

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
    parameters: Mapping[str, Any], times: Mapping[str, StageTimes], standing: Standing, now: float
) -> Found:
    stage, quantile = str(parameters["stage"]), str(parameters["quantile"])
    limit_ms = float(parameters["above_ms"])
    found = standing.look(stage, now)
    if found is not None and found[0] * 1e3 > limit_ms and found[0] >= STANDING_S:
        return Breach(found[0] * 1e3, limit_ms, 0, stage, f"stands still; {found[1]} items wait")
    window = times[stage].recent if stage in times else None
    if window is None or not window.count:
        return None if found is None else UNKNOWN
    value_ms = window.quantile(quantile) / 1e6
    if value_ms <= limit_ms:
        return None
    return Breach(value_ms, limit_ms, window.count, stage, f"quantile={quantile}")


def _disk(parameters: Mapping[str, Any], named: Collection[str], data: Path) -> Breach | None:
    usage = shutil.disk_usage(data)
    limits = {
        "free_gb": float(parameters["free_gb"]) * GB,
        "free_share": float(parameters["free_share"]) * usage.total,
    }
    # What the rule does not give has no say, unless it gives neither. Of two, both must be short: a
    # large disk is not full while gigabytes are left, nor is a small one.
    given = [limit for name, limit in limits.items() if name in named]
    least = min(given or limits.values())
    if usage.free >= least:
        return None
    detail = f"free_share={usage.free / usage.total:.4f}"
    return Breach(usage.free / GB, least / GB, 0, "data", detail)
