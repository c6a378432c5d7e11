"""What the settings name and what stays empty: symbols of no feed, metrics without parameters."""

from collections.abc import Iterable, Iterator, Mapping

from tapeworks._core import metric_table
from tapeworks.nearest import nearest
from tapeworks.pipeline import Config
from tapeworks.registry import load_member
from tapeworks.topics import ALERTS, BARS, GAPS, METRICS, TICKS

WILDCARD = "*"
HAWKES = "hawkes"
# Symbols of one venue share their endings.
LIKENESS = 0.8
# What is on tapes of one kind of records; on others there are several.
KINDS = {TICKS: "tick", BARS: "bar", METRICS: "metric", ALERTS: "alert", GAPS: "gap"}


def unmatched_symbols(settings: Config) -> Iterator[str]:
    """Yields a sentence for each symbol of metrics, rules and sinks that none of their feeds names.

    Of a feed that records all symbols it is not known which ones there are.
    """
    recorded = settings.symbols()
    yield from _unmatched("[metrics] symbols", settings.metrics.symbols, recorded, ())
    for rule in settings.alerts:
        yield from _unmatched(f"the rule {rule.name}", rule.symbols, recorded, rule.sources)
    for name, sink in settings.sinks.items():
        yield from _unmatched(f"[sinks.{name}] symbols", getattr(sink, "symbols", ()), recorded, ())


def unmatched_kinds(settings: Config) -> Iterator[str]:
    """Yields a sentence for each sink that stores nothing, as its topics have none of its kinds."""
    for name, sink in settings.sinks.items():
        if kinds := set(getattr(sink, "kinds", ())):
            topics = load_member("sink", sink.kind or name).topics(sink)
            # A gap is a marker.
            held = {KINDS.get(topic, "") for topic in topics}
            if "" not in held and not held & (kinds | ({"gap"} if "marker" in kinds else set())):
                told = f"{', '.join(topics)} {'has' if len(topics) == 1 else 'have'} none of "
                yield f"[sinks.{name}] kinds: {told}{', '.join(sorted(kinds))}"


def unset_parameters(settings: Config) -> Iterator[str]:
    """Yields a sentence for what has no value, and finds nothing, as its parameters are not set."""
    if settings.metrics.hawkes:
        return
    if HAWKES in settings.metrics.sets:
        yield f"[metrics] sets: all values of {HAWKES} are null without its parameters, `hawkes`"
    names = {name for group, name, *_ in metric_table() if group == HAWKES}
    for rule in settings.alerts:
        if (metric := rule.parameters.get("metric")) in names:
            yield (
                f"the rule {rule.name}: finds nothing: {metric} is null without `hawkes` of "
                "[metrics]"
            )


def _unmatched(
    place: str,
    symbols: Iterable[str],
    recorded: Mapping[str, tuple[str, ...]],
    sources: tuple[str, ...],
) -> Iterator[str]:
    feeds = {name: known for name, known in recorded.items() if not sources or name in sources}
    if not all(feeds.values()) or any(WILDCARD in one for known in feeds.values() for one in known):
        return
    known = {symbol for of_feed in feeds.values() for symbol in of_feed}
    for symbol in symbols:
        if known and symbol not in known:
            near = nearest(symbol, known, likeness=LIKENESS)
            advice = f": did you mean {near[0]}?" if near else ""
            yield f"{place}: no feed of it records {symbol}{advice}"
