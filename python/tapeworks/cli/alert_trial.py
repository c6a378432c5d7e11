"""What rules of alerts would have found in what is recorded, as a table."""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from tapeworks._core import Records, TapeReader, numbers
from tapeworks.alert_watches import UNITS
from tapeworks.cli.output import note
from tapeworks.errors import ArgumentError
from tapeworks.nearest import nearest
from tapeworks.pipeline import Config, processors_of
from tapeworks.processors.alert_trial import try_rules
from tapeworks.processors.alerts import HOST_RULES, AlertRule
from tapeworks.processors.base import Ending
from tapeworks.source_symbols import SourceSymbols
from tapeworks.tape import has_segments
from tapeworks.topics import NORMALIZED

TELL_S = 5.0
OPENED = numbers("alert_state")["opened"]
TIME = pa.timestamp("us", "UTC")
SCHEMA = pa.schema(
    [
        ("venue", pa.string()),
        ("rule", pa.string()),
        ("symbol", pa.string()),
        ("opened", pa.int64()),
        ("first", TIME),
        ("last", TIME),
        ("value", pa.float64()),
        ("unit", pa.string()),
    ]
)


@dataclass
class Found:
    """What one rule would have told of one instrument."""

    opened: int = 0
    first: int | None = None
    last: int | None = None
    value: float | None = None
    """Furthest from zero of all openings."""

    def count(self, ts: int, value: float) -> None:
        """Takes in an alert that was opened at `ts`, in ns."""
        self.opened += 1
        self.first = ts if self.first is None else min(self.first, ts)
        self.last = ts if self.last is None else max(self.last, ts)
        if not math.isnan(value) and (self.value is None or abs(value) > abs(self.value)):
            self.value = value

    def row(self, venue: str, rule: AlertRule, symbol: str | None) -> dict[str, Any]:
        """Returns a row of the table."""
        first, last = (None if ts is None else ts // 1_000 for ts in (self.first, self.last))
        counted = {"opened": self.opened, "first": first, "last": last, "value": self.value}
        unit = None if self.value is None else UNITS.get(rule.rule)
        return {"venue": venue, "rule": rule.name, "symbol": symbol, **counted, "unit": unit}


def chosen_rules(config: Config, name: str | None) -> tuple[AlertRule, ...]:
    """Returns the rule `name` of the settings, or all that can be tried.

    Raises:
        ArgumentError: there is none of that name, or it is about the host.
    """
    rules = config.alerts
    if name is not None:
        known = [rule.name for rule in rules]
        rules = tuple(rule for rule in rules if rule.name == name)
        if not rules:
            near = nearest(name, known, likeness=0.5)
            advice = f"did you mean {near[0]}?" if near else f"expected any of {', '.join(known)}"
            raise ArgumentError(
                f"the settings have no rule {name!r}: {advice if known else 'they have none'}"
            )
    tried = tuple(rule for rule in rules if rule.rule not in HOST_RULES)
    if not tried:
        what = "no rules" if name is None else f"the rule {name}"
        raise ArgumentError(
            f"expected rules of what is recorded as [[alerts]] of the settings, got {what} "
            f"({', '.join(HOST_RULES)} follow from the host, not from what is recorded)"
        )
    return tried


def trial(
    config: Config,
    folder: Path,
    rules: Sequence[AlertRule],
    sources: Iterable[str],
    bounds: tuple[int | None, int | None],
    stopped: list[str] | None = None,
) -> pa.Table:
    """Returns a row for each rule and instrument: how often it would have opened an alert.

    A rule that would have found nothing of a source has a row without an instrument. Rules that
    raise are added to `stopped`, a line each; what they found before is in the table.
    """
    endings: dict[tuple[str, str], str] = {}
    rows: list[dict[str, Any]] = []
    for source in sources:
        of_source = [rule for rule in rules if not rule.sources or source in rule.sources]
        names = {rule.name: rule for rule in of_source}
        if names and has_segments(folder / "tape" / source / NORMALIZED):
            known = SourceSymbols(folder, source)
            defined = (source, known.read().records())
            found = _found(config, folder, rules, defined, bounds, endings)
            symbols = known.names()
            rows += [
                one.row(source, names[rule], symbols.get(number))
                for (rule, number), one in found.items()
                if rule in names
            ]
            told = {rule for rule, _ in found} | {rule for of, rule in endings if of == source}
            rows += [Found().row(source, one, None) for one in of_source if one.name not in told]
    if stopped is not None:
        stopped.extend(endings.values())
    rows.sort(key=lambda row: (row["venue"], row["rule"], row["symbol"] or ""))
    return pa.Table.from_pylist(rows, SCHEMA)


def _found(
    config: Config,
    folder: Path,
    rules: Sequence[AlertRule],
    defined: tuple[str, Records],
    bounds: tuple[int | None, int | None],
    endings: dict[tuple[str, str], str],
) -> dict[tuple[str, int], Found]:
    """Returns what was found of a source by rule and instrument; with it are its definitions."""
    source, definitions = defined
    feeds = {source: config.feeds.get(source)}
    settings = replace(config, data=folder, feeds=feeds, alerts=tuple(rules))
    processors = processors_of(settings, source)
    own, tape = list(processors.own_rules.values()), folder / "tape" / source / NORMALIZED
    if TapeReader(tape).first and not len(definitions):
        note(
            f"{source}: the start of its tape is gone, and no copy of its definitions is kept: "
            "rules for symbols do not look at instruments that were defined there"
        )
    start, end = bounds

    def note_ending(one: Ending) -> None:
        line = f"{source}: the rule {one.part} stopped at the record {one.offset}: {one.why}"
        endings[source, one.part] = line

    found: dict[tuple[str, int], Found] = {}
    tell = _teller(source)
    items = processors.batch_items
    for batch in try_rules(processors.alerted, own, tape, definitions, items, tell, note_ending):
        for row in batch[batch["state"] == OPENED]:
            ts = int(row["ts_event"])
            if (start is None or ts >= start) and (end is None or ts < end):
                key = (row["rule"].decode(), int(row["instrument"]))
                found.setdefault(key, Found()).count(ts, float(row["value"]))
    return found


def _teller(source: str) -> Callable[[int, int], None]:
    """Returns what says every few seconds how far it is."""
    told = time.monotonic()

    def tell(done: int, whole: int) -> None:
        nonlocal told
        if time.monotonic() - told >= TELL_S:
            told = time.monotonic()
            note(f"{source}: {done:,} of {whole:,} records")

    return tell
