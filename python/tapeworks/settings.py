"""The settings of a whole pipeline: every table of `tapeworks.toml`, resolved and checked.

It knows which members there are and where their own settings are; it opens nothing, and loads of a
member what holds its settings and no more.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from tapeworks._core import Processor, metric_sets
from tapeworks.config import (
    Section,
    Value,
    check_once,
    check_within,
    resolve,
    source_name,
    unknown,
    write_toml,
)
from tapeworks.errors import ConfigError
from tapeworks.flink_config import FlinkConfig
from tapeworks.processors.alerts import AlertRule, LatencyConfig, check_rules, resolve_rules
from tapeworks.processors.derive import NORMALIZE, STEPS, TOPICS
from tapeworks.registry import MEMBERS, load_settings
from tapeworks.sinks.base import check_sinks
from tapeworks.tape import TapeConfig
from tapeworks.topics import NORMALIZED, PREFIX, TOPIC

# A topic or a processor is the name of a folder.
MEMBER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# What is recorded when the settings name no feed.
DEFAULT_FEED = "binance-spot"
DEFAULT_SYMBOLS = Value(["BTCUSDT", "ETHUSDT"], "defaults")
# Samples of metrics within one window, at most: as in the core.
STEPS_MAX = 1 << 16
# Units of size in one.
SIZE_SCALE = 100_000_000
# A year: what no window or horizon exceeds.
MS_MAX = 366 * 86_400_000
# The sink that is there without being named.
LAKE = "parquet"


@dataclass(frozen=True)
class ProcessorsConfig:
    """What is derived from the normalized tape."""

    trades: Literal["auto", "trade", "agg_trade"] = "auto"
    """Which stream of trades makes bars and ticks; `auto`: single fills where they are recorded."""
    bars_ms: tuple[int, ...] = (1_000, 60_000, 300_000)
    """Lengths of the bars built from trades."""
    bars_grace_ms: int = 2_000
    """A bar without later trades is closed so long after its end."""
    ticks_ms: int = 0
    """Least time between two ticks of an instrument; 0: every change."""
    tops_ms: int = 1_000
    """Least time between two rows of book_snapshots of an instrument; 0: none."""
    tops_levels: int = 20
    batch_items: int = 4_096
    """Items that one step takes at most."""
    measured: Mapping[str, int | str | Sequence[int]] = field(
        default_factory=dict, metadata={"inline": True}
    )
    """What is measured of one source, as the core names it; none: nothing."""
    alerted: Mapping[str, int | str | Sequence[int]] = field(
        default_factory=dict, metadata={"inline": True}
    )
    """The rules of alerts of one source, as the core names them; none: there are none."""
    host_rules: Mapping[str, AlertRule] = field(default_factory=dict, metadata={"inline": True})
    """Rules of one source about this host, by name."""
    own_rules: Mapping[str, AlertRule] = field(default_factory=dict, metadata={"inline": True})
    """Rules of one source whose class is the user's own, by name."""
    own: Mapping[str, Any] = field(default_factory=dict, metadata={"inline": True})
    """Processors of the user's own, by name: the tables in `[processors]`."""

    def __post_init__(self) -> None:
        if not self.bars_ms or min(self.bars_ms) < 1:
            raise ConfigError(f"bars_ms: expected lengths from 1 ms on, got {list(self.bars_ms)}")
        check_within("bars_grace_ms", self.bars_grace_ms, 0, 3_600_000)
        check_within("ticks_ms", self.ticks_ms, 0, 3_600_000)
        check_within("tops_ms", self.tops_ms, 0, 3_600_000)
        check_within("tops_levels", self.tops_levels, 1, 1_000)
        check_within("batch_items", self.batch_items, 1, 1 << 20)

    def settings(self, processor: str) -> Mapping[str, int | str | Sequence[int]]:
        """Returns the settings of `processor` as the core names them."""
        trades = "agg_trade" if self.trades == "agg_trade" else "trade"
        table: dict[str, Mapping[str, int | str | Sequence[int]]] = {
            "books": {
                "snapshot_interval_ms": self.tops_ms,
                "snapshot_levels": self.tops_levels,
            },
            "bars": {
                "intervals_ms": list(self.bars_ms),
                "grace_ms": self.bars_grace_ms,
                "channel": trades,
            },
            "ticks": {"interval_ms": self.ticks_ms, "channel": trades},
            "metrics": self.measured,
            "alerts": self.alerted,
        }
        return table.get(processor, {})


@dataclass(frozen=True)
class MetricSetsConfig:
    """What is measured of the normalized tape; without sets and windows, nothing is."""

    sets: tuple[str, ...] = ()
    """Sets of metrics, by name."""
    symbols: tuple[str, ...] = ()
    """The venue's symbols that are measured; none: all."""
    windows_ms: tuple[int, ...] = (1_000, 10_000, 60_000)
    """Lengths of rolling windows, multiples of `interval_ms`."""
    horizons_ms: tuple[int, ...] = (1_000, 5_000)
    """How long after a trade the mid is looked at."""
    interval_ms: int = 1_000
    """Time between two values of an instrument; 0: after every event."""
    grace_ms: int = 2_000
    """An instrument without later events is measured so long after the end of an interval."""
    step_ms: int = 1_000
    """Time between two prices that a return of `volatility`, `noise` or `dependence` is of."""
    bar_ms: int = 60_000
    """Length of the bars of `impact`, `range`, `noise`, `clocks` and `vpin_bvc`."""
    span_bars: int = 30
    """Bars that `impact`, `range`, `noise`, `clocks` are of; `noise` of 8,192 `step_ms` at most."""
    ofi_bar_ms: int = 10_000
    """Length of the buckets of `ofi_beta` and `ofi_integrated`."""
    ofi_span_bars: int = 180
    """Buckets that these are made of, at most."""
    hawkes: str = ""
    """Parameters of `hawkes`: mu, alpha, beta, as `research.hawkes` fits them; none: null."""
    bands_bps: tuple[int, ...] = (5, 10, 25)
    """How far from the mid `depth` is measured."""
    levels: tuple[int, ...] = (5, 10)
    """How many best levels of a side `depth` takes together."""
    sizes: tuple[float, ...] = (1.0,)
    """What it costs to trade so much at once, `depth` tells."""
    vpin_volume: float = 0.0
    """Volume of a bucket of `vpin`, as sizes are; 0: a fiftieth of the mean of whole days."""
    vpin_buckets: int = 50
    """Buckets that `vpin` is made of."""
    trade_windows: tuple[str, ...] = ()
    """Trades by event time: `tumbling 10ms`, `sliding 1s 100ms`, `session 5s`, `count 100`."""
    window_delay_ms: int = 0
    """How far a trade may be behind the newest event before it is late for `trade_windows`."""
    window_lateness_ms: int = 10_000
    """So long a late trade still corrects its windows; one that is later is counted."""
    partial: bool = False
    """Whether windows that are not covered yet have values."""

    def __post_init__(self) -> None:
        known = [name for name, _ in metric_sets()]
        for name in self.sets:
            if name not in known:
                raise ConfigError(f"sets: expected any of {', '.join(known)}, got {name!r}")
        check_once("sets", self.sets)
        check_within("interval_ms", self.interval_ms, 0, 3_600_000)
        check_within("grace_ms", self.grace_ms, 0, 3_600_000)
        check_within("step_ms", self.step_ms, 1, 3_600_000)
        check_within("bar_ms", self.bar_ms, 1, 86_400_000)
        check_within("span_bars", self.span_bars, 10, 4_096)
        check_within("ofi_bar_ms", self.ofi_bar_ms, 1, 3_600_000)
        check_within("ofi_span_bars", self.ofi_span_bars, 10, 4_096)
        _check_hawkes(self.hawkes)
        check_once("trade_windows", self.trade_windows)
        check_within("window_delay_ms", self.window_delay_ms, 0, 3_600_000)
        check_within("window_lateness_ms", self.window_lateness_ms, 0, 86_400_000)
        check_within("vpin_buckets", self.vpin_buckets, 1, 4_096)
        for name, most in (("bands_bps", 10_000), ("levels", 1_000)):
            values = getattr(self, name)
            if not values or not 1 <= min(values) <= max(values) <= most:
                raise ConfigError(f"{name}: expected numbers from 1 to {most}, got {list(values)}")
        if not self.sizes or not all(1 <= size * SIZE_SCALE < 2**62 for size in self.sizes):
            raise ConfigError(f"sizes: expected sizes above 0, got {list(self.sizes)}")
        if not 0 <= self.vpin_volume * SIZE_SCALE < 2**62:
            raise ConfigError(f"vpin_volume: expected a size from 0 on, got {self.vpin_volume}")
        for name in ("windows_ms", "horizons_ms"):
            lengths = getattr(self, name)
            if not lengths or min(lengths) < 1 or max(lengths) > MS_MAX:
                raise ConfigError(
                    f"{name}: expected lengths from 1 to {MS_MAX} ms, got {list(lengths)}"
                )
        for length in self.windows_ms if self.interval_ms else ():
            if length % self.interval_ms or length // self.interval_ms > STEPS_MAX:
                raise ConfigError(
                    f"windows_ms: expected multiples of interval_ms, {self.interval_ms}, up to "
                    f"{STEPS_MAX} times that, got {length}"
                )
        try:
            Processor("metrics", self.settings("trade"))
        except ValueError as error:
            raise ConfigError(str(error)) from None

    def settings(self, trades: str) -> Mapping[str, int | str | Sequence[int]]:
        """Returns the settings of the processor as the core names them; none without sets."""
        if not self.sets and not self.trade_windows:
            return {}
        return {
            "sets": ",".join(self.sets),
            "symbols": ",".join(self.symbols),
            "windows_ms": list(self.windows_ms),
            "horizons_ms": list(self.horizons_ms),
            "interval_ms": self.interval_ms,
            "grace_ms": self.grace_ms,
            "step_ms": self.step_ms,
            "bar_ms": self.bar_ms,
            "span_bars": self.span_bars,
            "ofi_bar_ms": self.ofi_bar_ms,
            "ofi_span_bars": self.ofi_span_bars,
            "hawkes": self.hawkes,
            "bands_bps": list(self.bands_bps),
            "levels": list(self.levels),
            "sizes": [round(size * SIZE_SCALE) for size in self.sizes],
            "vpin_volume": round(self.vpin_volume * SIZE_SCALE),
            "vpin_buckets": self.vpin_buckets,
            "trade_windows": ",".join(self.trade_windows),
            "window_delay_ms": self.window_delay_ms,
            "window_lateness_ms": self.window_lateness_ms,
            "partial": int(self.partial),
            "channel": trades,
        }


@dataclass(frozen=True)
class SupervisorConfig:
    """How child processes are kept running."""

    restart_ms: int = 200
    """Delay before the first restart; it doubles with each one that follows soon."""
    restart_ms_max: int = 30_000
    healthy_ms: int = 10_000
    """A child that ran for so long starts again without delay."""
    stop_ms_max: int = 15_000
    """What has not stopped by then is killed; nothing is lost by it."""
    hang_ms: int = 30_000
    """A child whose main loop gives no sign of life for so long, and uses no processor, is killed
    and started again; one that is busy all the time has twenty times as long."""
    log_bytes_max: int = 8 << 20
    """The log of a child is closed at this size; one closed log is kept beside it."""

    def __post_init__(self) -> None:
        check_within("restart_ms", self.restart_ms, 0, 3_600_000)
        check_within("restart_ms_max", self.restart_ms_max, self.restart_ms, 3_600_000)
        check_within("healthy_ms", self.healthy_ms, 0, 3_600_000)
        check_within("stop_ms_max", self.stop_ms_max, 100, 3_600_000)
        check_within("hang_ms", self.hang_ms, 1_000, 86_400_000)
        check_within("log_bytes_max", self.log_bytes_max, 1 << 16, 1 << 40)


@dataclass(frozen=True)
class Config:
    """Everything that `tapeworks.toml` says, checked."""

    data: Path = Path("data")
    feeds: Mapping[str, Any] = field(default_factory=dict)
    tape: TapeConfig = field(default_factory=TapeConfig)
    processors: ProcessorsConfig = field(default_factory=ProcessorsConfig)
    metrics: MetricSetsConfig = field(default_factory=MetricSetsConfig)
    latency: LatencyConfig = field(default_factory=LatencyConfig)
    alerts: tuple[AlertRule, ...] = field(default=(), metadata={"tables": True})
    """What is looked for in what is recorded."""
    sinks: Mapping[str, Any] = field(default_factory=dict)
    views: Mapping[str, Any] = field(default_factory=dict)
    jobs: Mapping[str, Any] = field(default_factory=dict)
    supervisor: SupervisorConfig = field(default_factory=SupervisorConfig)
    flink: FlinkConfig = field(default_factory=FlinkConfig)

    def symbols(self) -> dict[str, tuple[str, ...]]:
        """Returns the symbols that each source records; none of a feed that names none."""
        return {name: tuple(getattr(feed, "symbols", ())) for name, feed in self.feeds.items()}

    def endpoints(self) -> list[tuple[str, str, int]]:
        """Returns name, host and port of everything that the feeds connect to."""
        found = []
        for name, feed in self.feeds.items():
            for url in (feed.ws, feed.rest):
                parts = urlsplit(url)
                if parts.hostname:
                    secure = parts.scheme in ("wss", "https")
                    found.append((name, parts.hostname, parts.port or (443 if secure else 80)))
        return found

    def idle_sinks(self) -> dict[str, str]:
        """Returns the sinks that store nothing as they are set, and why."""
        # The lake has settings of its own kind, and needs nothing.
        others = {name: one for name, one in self.sinks.items() if hasattr(one, "idle")}
        return {name: why for name, one in others.items() if (why := one.idle(name))}


def resolve_config(written: Section) -> Config:
    """Turns what was written into a checked `Config`.

    Without a feed the default one is recorded. The lake is a sink beside those that are named,
    unless it is switched off by its name.

    Raises:
        ConfigError: says which setting is wrong, what was expected, what was got.
    """
    tables = frozenset({"alerts", "feeds", "processors", "sinks", "views", "jobs"})
    config = resolve(written, Config, ignore=tables)
    if "data" not in written.entries and written.folder is not None:
        config = replace(config, data=written.folder / config.data)
    feeds = _feeds(written.table("feeds"))
    sinks = written.table("sinks")
    if LAKE not in sinks.entries:
        sinks = replace(sinks, entries={LAKE: Section(f"sinks.{LAKE}"), **sinks.entries})
    alerts = resolve_rules(written.entries.get("alerts"))
    sources = set(feeds)
    if not written.table("feeds").entries:
        # Rules are then for what the data folder holds, which nothing here opens.
        sources.update(source for rule in alerts for source in rule.sources)
    measured = config.metrics.settings("trade")
    check_rules((*alerts, *config.latency.rules()), sorted(sources), measured)
    processors, members = _processors(written.table("processors")), _members(sinks, "sink")
    check_sinks(members, TOPICS | {own.output for own in processors.own.values()})
    return replace(
        config,
        feeds=feeds,
        alerts=alerts,
        processors=processors,
        sinks=members,
        views=_members(written.table("views"), "view"),
        jobs=_members(written.table("jobs"), "job"),
    )


def as_toml(config: Config) -> str:
    """Returns all of `config` as TOML that gives it again. Secrets are left out."""
    if LAKE not in config.sinks:
        off = load_settings("sink", LAKE)(enabled=False)
        config = replace(config, sinks={**config.sinks, LAKE: off})
    return write_toml(config)


def _feeds(section: Section) -> dict[str, Any]:
    """Returns the feeds by the name of their source: the one key of all that is stored of them."""
    if not section.entries:
        section = Section(section.name, {DEFAULT_FEED: Section(f"feeds.{DEFAULT_FEED}")})
    feeds: dict[str, Any] = {}
    tables: dict[str, list[str]] = {}
    for key in section.entries:
        table = section.table(key)
        is_variable = _only_from_environment(table)
        # A variable cannot hold a hyphen.
        name = key.replace("_", "-") if is_variable else key
        if name == DEFAULT_FEED and is_variable:
            # A variable that changes one setting of the default feed leaves it its symbols.
            table = Section(table.name, {"symbols": DEFAULT_SYMBOLS, **table.entries})
        feed = resolve_feed(name, table)
        feeds[feed.name] = feed
        tables.setdefault(feed.name, []).append(f"[{table.name}]")
    for source, named in tables.items():
        if len(named) > 1:
            raise ConfigError(
                f"expected one feed for each source, got {len(named)} for {source!r}: "
                f"{', '.join(named)}"
            )
    return feeds


def _only_from_environment(section: Section) -> bool:
    values = [entry for entry in section.entries.values() if isinstance(entry, Value)]
    return all(value.from_environment for value in values)


def resolve_feed(name: str, section: Section) -> Any:
    """Turns the settings of one feed into its dataclass.

    Its source is called `name`, unless its settings say otherwise.

    Raises:
        ConfigError: the kind of feed is not known, or a setting is wrong.
    """
    try:
        source_name(name)
    except ConfigError as error:
        raise ConfigError(f"[{section.name}]: {error}") from None
    entry = section.entries.get("kind")
    kind = str(entry.raw) if isinstance(entry, Value) else name.partition("-")[0]
    try:
        settings = load_settings("feed", kind)
    except ConfigError as error:
        raise ConfigError(f"[{section.name}]: {error}") from None
    config = resolve(section, settings, ignore=_without_field(settings))
    return config if config.source else replace(config, source=name)


def _processors(section: Section) -> ProcessorsConfig:
    known = {field.name for field in fields(ProcessorsConfig)}
    own = {
        name: entry
        for name, entry in section.entries.items()
        if isinstance(entry, Section) and name not in known - {"own"} and "kind" in entry.entries
    }
    entries = {name: entry for name, entry in section.entries.items() if name not in own}
    config = resolve(replace(section, entries=entries), ProcessorsConfig)
    # What may be read; each processor adds its output, so that none waits for itself.
    topics = {NORMALIZED, *(step.target for step in STEPS if not step.needs_raw)}
    found: dict[str, Any] = {}
    for name, table in own.items():
        processor = _own_processor(name, table)
        where = f"[{table.name}]: "
        if processor.input not in topics:
            raise ConfigError(
                f"{where}expected input to be one of {', '.join(sorted(topics))}, or the output of "
                f"a processor above it, got {processor.input!r}"
            )
        if processor.output in TOPICS | topics or TOPIC.fullmatch(processor.output) is None:
            raise ConfigError(
                f"{where}expected output to be a topic of its own, of a-z, 0-9, '.' and '-', got "
                f"{processor.output!r}"
            )
        topics.add(processor.output)
        found[name] = processor
    return replace(config, own=found)


def _own_processor(name: str, table: Section) -> Any:
    """Turns the settings of one processor of the user's own into its dataclass."""
    entry = table.entries["kind"]
    kind = str(entry.raw) if isinstance(entry, Value) else ""
    if TOPIC.fullmatch(name) is None or name in {step.processor for step in (NORMALIZE, *STEPS)}:
        raise ConfigError(
            f"[{table.name}]: expected a name of its own, of a-z, 0-9, '.' and '-', got {name!r}"
        )
    try:
        settings = load_settings("processor", kind)
    except ConfigError as error:
        raise ConfigError(f"[{table.name}]: {error}") from None
    config = resolve(table, settings)
    return config if config.output else replace(config, output=PREFIX + name)


def _members(section: Section, kind: str) -> dict[str, Any]:
    """Returns the members of `kind` in `section` by name, those that are switched off left out."""
    found: dict[str, Any] = {}
    for name in section.entries:
        # A variable cannot hold a hyphen.
        meant = name.replace("_", "-")
        if meant in MEMBERS[kind] and _only_from_environment(section.table(name)):
            section = replace(section, entries={**section.entries, meant: section.table(name)})
            name = meant
        member = resolve_member(kind, name, section)
        if getattr(member, "enabled", True):
            found[name] = member
    return found


def resolve_member(kind: str, name: str, section: Section) -> Any:
    """Turns the table `name` of `section`, the members of `kind`, into the dataclass of a member.

    Raises:
        ConfigError: there is no such member, or a setting is wrong.
    """
    table = section.table(name)
    entry = table.entries.get("kind")
    target = str(entry.raw) if isinstance(entry, Value) else name
    if target == name and name not in MEMBERS[kind]:
        raise unknown(section, name, MEMBERS[kind].keys())
    if kind == "sink" and target == LAKE and name != target:
        raise ConfigError(f"[{table.name}]: expected one lake, as [sinks.parquet], got another")
    if MEMBER_NAME.fullmatch(name) is None:
        # It is the name of a log file.
        raise ConfigError(
            f"[{table.name}]: expected a name of letters, digits, '.', '_' and '-', got {name!r}"
        )
    try:
        settings = load_settings(kind, target)
    except ConfigError as error:
        raise ConfigError(f"[{table.name}]: {error}") from None
    member = resolve(table, settings, ignore=_without_field(settings))
    return replace(member, kind=target) if hasattr(member, "kind") else member


def _without_field(settings: Any) -> frozenset[str]:
    """Returns `kind` unless `settings` has a field for it."""
    has_field = any(field.name == "kind" for field in fields(settings))
    return frozenset() if has_field else frozenset({"kind"})


def _check_hawkes(text: str) -> None:
    try:
        numbers = [float(one) for one in text.split(",")] if text else [1.0, 0.0, 1.0]
        mu, alpha, beta = numbers
        fits = 0 < mu < float("inf") and 0 <= alpha < 1 and 0 < beta < float("inf")
    except ValueError:
        fits = False
    if not fits:
        raise ConfigError(
            'hawkes: expected mu, alpha, beta, such as "0.2, 0.5, 1.0", with mu and beta above 0 '
            f"and alpha from 0 to below 1, got {text!r}"
        )
