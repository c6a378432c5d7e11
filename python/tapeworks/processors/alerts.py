"""Rules of alerts: the settings of each, checked against the core's table of what rules look for.

    [[alerts]]
    name = "wide"
    rule = "spread"
    above_bps = 25

The core runs all rules of a source in one processor. Its settings are a line a rule.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tapeworks._core import Processor, detector_table, metric_table
from tapeworks.alert_notes import SEVERITIES
from tapeworks.config import Section, Value
from tapeworks.errors import ConfigError
from tapeworks.nearest import nearest
from tapeworks.registry import load_member

SCOPES = ("", "instrument", "source")
NAME_BYTES_MAX = 32
# Bounds of the core's table that stand for "more than 0" and for "none".
LEAST_MIN, UNBOUNDED = 1e-300, 1e15
CoreSettings = Mapping[str, int | str | Sequence[int]]


@dataclass(frozen=True)
class AlertRule:
    """One rule: what it looks for, where, and how bad it is."""

    name: str
    """What its alerts are called; unique."""
    rule: str = ""
    """What it looks for: a name of the table in docs/alerts.md."""
    kind: str = ""
    """Or where a class of the user's own is that does: `package.module:Class`."""
    severity: str = "warning"
    """`info`, `warning` or `critical`."""
    scope: str = ""
    """`instrument` or `source`: whether it looks at each instrument, or at a source as a whole."""
    symbols: tuple[str, ...] = ()
    """The venue's symbols that it is for; none: all."""
    sources: tuple[str, ...] = ()
    """The sources that it is for; none: all."""
    parameters: Mapping[str, float | str] = field(default_factory=dict, metadata={"inline": True})
    """By name, as the table lists them."""

    def to_core(self) -> str:
        """Returns the line by which the core knows it."""
        words = [self.name, self.rule, self.severity, self.scope, ",".join(self.symbols)]
        pairs = [f"{name}={_text(value)}" for name, value in self.parameters.items()]
        return "\t".join([*words, *pairs])


def _text(value: float | str) -> str:
    return value if isinstance(value, str) else repr(float(value))


DEFAULTS: Mapping[str, Mapping[str, float | str]] = {
    head[0]: {one[0]: one[1] for one in of_numbers} | {one[0]: one[1] for one in of_texts}
    for head, of_numbers, of_texts in detector_table()
}
"""Of each rule of the core the parameters, with their defaults."""
BOUNDS: Mapping[tuple[str, str], tuple[float, float]] = {
    (head[0], name): (least, most)
    for head, of_numbers, _ in detector_table()
    for name, _, least, most, _ in of_numbers
}
"""Of each rule of the core and each number of it the least and the most."""
HOST_RULES = ("latency", "disk")
"""Rules about the host: what they look at is on no tape before they tell of it."""


@dataclass(frozen=True)
class LatencyConfig:
    """How long a record may take to each stage; what takes longer is an alert that names it."""

    receive_ms: float = 0.0
    """From the venue's time to the receipt; 0: no budget, as for all others."""
    publish_ms: float = 0.0
    """From the receipt to the raw tape."""
    normalize_ms: float = 0.0
    """To the normalized tape."""
    book_ms: float = 0.0
    """To the tape of books."""
    metrics_ms: float = 0.0
    """To the tape of metrics."""
    sink_ms: float = 0.0
    """To the slowest store: until its rows are final."""
    quantile: Literal["p50", "p99", "max"] = "p99"
    """Which of the durations of a second is held against the budget."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name != "quantile" and value < 0:
                raise ConfigError(f"{name}: expected 0 or more, got {value}")

    def rules(self) -> tuple["AlertRule", ...]:
        """Returns the rules of all budgets."""
        budgets = {
            name.removesuffix("_ms"): value
            for name, value in vars(self).items()
            if name != "quantile" and value > 0
        }
        return tuple(
            AlertRule(
                f"latency-{stage}",
                "latency",
                parameters={"stage": stage, "above_ms": value, "quantile": self.quantile},
            )
            for stage, value in budgets.items()
        )


FIELDS = ("name", "rule", "kind", "severity", "scope", "symbols", "sources")


def resolve_rules(entry: "Section | Value | None") -> tuple[AlertRule, ...]:
    """Turns `[[alerts]]` into rules.

    Raises:
        ConfigError: a rule is not complete, or one of its settings is wrong.
    """
    if entry is None:
        return ()
    if isinstance(entry, Section) or not isinstance(entry.raw, list):
        raise ConfigError("expected rules of alerts as tables [[alerts]], got another value")
    rules = [
        _rule(entry.origin, number, written) for number, written in enumerate(entry.raw, start=1)
    ]
    names = [rule.name for rule in rules]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{entry.origin}: [[alerts]]: expected one rule {name!r}, got more")
    return tuple(rules)


def _rule(origin: str, number: int, written: object) -> AlertRule:
    where = f"{origin}: [[alerts]] {number}"
    if not isinstance(written, dict):
        raise ConfigError(f"{where}: expected a table, got {written!r}")
    values: dict[str, Any] = {}
    parameters: dict[str, float | str] = {}
    for key, value in written.items():
        if key in ("symbols", "sources"):
            if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
                raise ConfigError(f"{where}: {key}: expected a list of texts, got {value!r}")
            values[key] = tuple(value)
        elif key in FIELDS:
            values[key] = value
        elif isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ConfigError(f"{where}: {key}: expected a number or a text, got {value!r}")
        else:
            parameters[key] = value
    wrong = [key for key in ("name", "rule", "kind") if not isinstance(values.get(key, ""), str)]
    if wrong or not values.get("name") or bool(values.get("rule")) == bool(values.get("kind")):
        raise ConfigError(f"{where}: expected a name, and a rule or a kind, got {written!r}")
    rule = AlertRule(**values, parameters=parameters)
    try:
        _check(rule)
    except ConfigError as error:
        raise ConfigError(f"{where} ({rule.name}): {error}") from None
    return rule


def _check(rule: AlertRule) -> None:
    _check_common(rule)
    if rule.kind:
        known = load_member("rule", rule.kind).defaults
        if known is not None:
            _check_parameters(rule, rule.kind.rpartition(":")[2], known)
        return
    if rule.rule not in DEFAULTS:
        near = nearest(rule.rule, DEFAULTS.keys(), likeness=0.5)
        advice = f"did you mean {near[0]}?" if near else f"expected any of {', '.join(DEFAULTS)}"
        raise ConfigError(f"rule: there is none called {rule.rule!r}: {advice}")
    _check_parameters(rule, rule.rule, DEFAULTS[rule.rule])


def _check_parameters(rule: AlertRule, what: str, defaults: Mapping[str, float | str]) -> None:
    for name, value in rule.parameters.items():
        if name not in defaults:
            known = [*defaults, *FIELDS]
            near = nearest(name, known, likeness=0.5)
            advice = f"did you mean {near[0]}?" if near else f"expected any of {', '.join(known)}"
            raise ConfigError(f"{name} is not a setting of {what}: {advice}")
        if isinstance(defaults[name], str) != isinstance(value, str):
            wanted = "a text" if isinstance(defaults[name], str) else "a number"
            raise ConfigError(f"{name}: expected {wanted}, got {value!r}")
        if not isinstance(value, str):
            least, most = BOUNDS.get((rule.rule, name), (-math.inf, math.inf))
            if not (math.isfinite(value) and least <= value <= most):
                raise ConfigError(f"{name}: expected a number{_bounds(least, most)}, got {value}")
        if isinstance(value, str) and set("\t\n\r") & set(value):
            raise ConfigError(f"{name}: expected a text of one line, got {value!r}")


def _bounds(least: float, most: float) -> str:
    """Returns the bounds of a number as words; those that nothing reaches are none."""
    above = " above 0" if 0 < least < LEAST_MIN else f" from {least:g}"
    start = "" if least <= -UNBOUNDED else above
    if most >= UNBOUNDED:
        return start
    return f"{start}, up to {most:.15g}" if 0 < least < LEAST_MIN else f"{start} to {most:.15g}"


def _check_common(rule: AlertRule) -> None:
    if len(rule.name.encode()) > NAME_BYTES_MAX or set("\t\n\r\0") & set(rule.name):
        raise ConfigError(
            f"name: expected 1 to {NAME_BYTES_MAX} bytes of a line, got {rule.name!r}"
        )
    if rule.severity not in SEVERITIES:
        raise ConfigError(f"severity: expected {', '.join(SEVERITIES)}, got {rule.severity!r}")
    if rule.scope not in SCOPES:
        raise ConfigError(f"scope: expected instrument or source, got {rule.scope!r}")
    if any(set(",\t\n") & set(symbol) for symbol in rule.symbols):
        raise ConfigError(f"symbols: expected names, got {list(rule.symbols)}")


def rules_of(rules: Iterable[AlertRule], source: str) -> list[AlertRule]:
    """Returns the rules that are for `source`."""
    return [rule for rule in rules if not rule.sources or source in rule.sources]


def core_settings(
    rules: Iterable[AlertRule], source: str, measured: CoreSettings, trades: str
) -> CoreSettings:
    """Returns the settings of the core's processor for `source`; none without rules.

    `measured` are those of its metrics, which rules may name.
    """
    chosen = [rule for rule in rules_of(rules, source) if not rule.kind]
    if not chosen:
        return {}
    measuring = [rule for rule in chosen if "metric" in DEFAULTS[rule.rule]]
    lines = "\n".join(rule.to_core() for rule in chosen)
    made = _made_for(measuring, measured) if measuring else {}
    return {**made, "channel": trades, "rules": lines}


def _made_for(rules: Sequence[AlertRule], measured: CoreSettings) -> CoreSettings:
    """Returns the settings of metrics that are made for `rules`, of the symbols of these.

    Which symbols are recorded with metrics says nothing of those that a rule is for.
    """
    if not measured.get("symbols"):
        return measured
    are_named = all(rule.symbols for rule in rules)
    symbols = {symbol for rule in rules for symbol in rule.symbols} if are_named else set()
    return {**measured, "symbols": ",".join(sorted(symbols))}


def alert_settings(
    rules: Iterable[AlertRule], source: str, measured: CoreSettings, trades: str
) -> dict[str, Any]:
    """Returns what the processors of `source` are told of rules: of the core, own, of the host."""
    chosen = rules_of(rules, source)
    return {
        "alerted": core_settings(chosen, source, measured, trades),
        "own_rules": {rule.name: rule for rule in chosen if rule.kind},
        "host_rules": {rule.name: rule for rule in chosen if rule.rule in HOST_RULES},
    }


def _set_of(metric: str) -> str:
    """Returns the set of a metric, whose name may have parameters; that of the mid if none has."""
    sets = {name: group for group, name, *_ in metric_table()}
    likely = [name for name in sets if re.fullmatch(rf"{re.escape(name)}(?:_?\d.*)?", metric)]
    return sets[max(likely, key=len, default="mid")]


def check_rules(rules: Sequence[AlertRule], sources: Iterable[str], measured: CoreSettings) -> None:
    """Has the core build the rules of each source, as the pipeline would.

    Raises:
        ConfigError: the core refuses one; the message names it.
    """
    known = list(sources)
    for rule in rules:
        metric = DEFAULTS.get(rule.rule, {}).get("metric", "")
        if not measured and (metric := rule.parameters.get("metric", metric)):
            raise ConfigError(
                f"[[alerts]] ({rule.name}): metric: [metrics] names no sets, so that nothing makes "
                f'{metric}: add its set, sets = ["{_set_of(str(metric))}"]'
            )
        if missing := [source for source in rule.sources if source not in known]:
            raise ConfigError(
                f"[[alerts]] ({rule.name}): sources: expected any of {', '.join(known)}, got "
                f"{', '.join(missing)}"
            )
    for source in known:
        settings = core_settings(rules, source, measured, "trade")
        if not settings:
            continue
        try:
            Processor("alerts", settings)
        except ValueError as error:
            raise ConfigError(f"[[alerts]]: {error}") from None
