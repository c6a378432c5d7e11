"""What the settings name and what stays empty: symbols of no feed, metrics without parameters."""

from collections.abc import Iterable, Iterator, Mapping

from tapeworks._core import metric_table
from tapeworks.nearest import nearest
from tapeworks.pipeline import Config

WILDCARD = "*"
HAWKES = "hawkes"
# Symbols of one venue share their endings.
LIKENESS = 0.8


def unmatched_symbols(settings: Config) -> Iterator[str]:
    """Yields a sentence for each symbol of metrics and rules that none of their feeds names.

    Of a feed that records all symbols it is not known which ones there are.
    """
    recorded = settings.symbols()
    yield from _unmatched("[metrics] symbols", settings.metrics.symbols, recorded, ())
    for rule in settings.alerts:
        yield from _unmatched(f"the rule {rule.name}", rule.symbols, recorded, rule.sources)


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
