"""When metrics were not measured, of what was recorded.

Settings of metrics are noted when they begin to hold, and the core says what is made with them. Of
a time before the first note, or with settings that this version does not take, rows tell: a sample
has a row, also a null one, of each metric of its sets. Windows of trades have none without a trade,
so that these rows tell nothing of them.

What was lost when metrics were made, and came after that, is in none of them either.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from tapeworks.metric_stretches import LATE_TRADES, read_stretches
from tapeworks.views.conditions import time_condition
from tapeworks.views.findings import row_of
from tapeworks.views.metric_names import OF_SHAPE
from tapeworks.views.metric_reach import reach_ns
from tapeworks.views.query import Engine, Scope, quote
from tapeworks.views.recorded import (
    BEGUN_ANEW,
    FILLED_LATER,
    NOT_MEASURED,
    Asked,
    Recorded,
    Wanted,
)
from tapeworks.views.sessions import Range, intersect, subtract, union
from tapeworks.views.symbols import Chosen
from tapeworks.views.times import TIME_MAX, TIME_MIN, moment_ns
from tapeworks.views.valueless import is_made_of

TABLE = "metrics"
SESSION = "session"
# Gaps of these empty all windows.
BREAKING = ("trade", "agg_trade", "quote", "order", SESSION)


def unmeasured(
    engine: Engine,
    data: Path,
    recorded: Recorded,
    chosen: Chosen,
    metrics: Sequence[str],
    within: list[Range],
) -> Iterator[tuple[Wanted, Range]]:
    """Yields the parts of `within` in which a metric of a symbol was not measured."""
    stretches = read_stretches(data, recorded.source)
    begin = [TIME_MIN if one.since is None else one.since + 1 for one in stretches]
    noted = list(zip(stretches, begin, [*begin, TIME_MAX][1:], strict=True))
    is_first_known = bool(stretches) and stretches[0].first == 0
    unnoted = [] if is_first_known else [(TIME_MIN, begin[0] if begin else TIME_MAX)]
    unnoted += [(low, high) for one, low, high in noted if low < high and not one.is_known()]
    named = None if chosen.symbols is None else chosen.symbols[recorded.source]
    for metric in metrics:
        by_rows = _missing(engine, recorded.source, named, metric, intersect(within, unnoted))
        rest = subtract(within, unnoted)
        made = [(one.symbols, (low, high)) for one, low, high in noted if one.makes(metric)]
        missing: dict[str, list[Range]] = {}
        for symbol in named or sorted(recorded.defined) or [""]:
            spans = [span for symbols, span in made if not symbols or symbol in symbols]
            missing[symbol] = union([*by_rows, *subtract(rest, union(spans))])
        if not named and len({tuple(spans) for spans in missing.values()}) == 1:
            # Of all alike.
            missing = {"": next(iter(missing.values()))}
        for symbol, spans in missing.items():
            yield from ((Wanted(symbol, metric, []), span) for span in spans)


def unmeasured_rows(
    engine: Engine,
    data: Path,
    recorded: Iterable[Recorded],
    asked: Asked,
    chosen: Chosen,
    metrics: Sequence[str],
) -> Iterator[dict[str, Any]]:
    """Yields findings on when `metrics` were not measured within what was asked for."""
    for each in recorded:
        if each.source in chosen.sources:
            found = unmeasured(engine, data, each, chosen, metrics, each.within(asked))
            for one, span in found:
                yield row_of(each.source, NOT_MEASURED, NOT_MEASURED, one, span)


def begun_anew_rows(
    begun_anew: Iterable[tuple[str, str, str]], asked: Asked
) -> Iterator[dict[str, Any]]:
    """Yields findings on metrics, each with its source and symbol, that are made of a part of what
    live values remember."""
    for source, symbol, metric in begun_anew:
        yield row_of(source, NOT_MEASURED, BEGUN_ANEW, Wanted(symbol, metric, []), asked)


def farthest_ns(data: Path, chosen: Chosen, metrics: Sequence[str] | None) -> int:
    """Returns how far back the values of `metrics` reach, as they are measured; none means all."""
    settings = {source: _settings(data, source) for source in chosen.sources}
    every = (reach_ns(one, of) for of in settings.values() for one in metrics or ())
    return max(every, default=0)


def _settings(data: Path, source: str) -> Mapping[str, Any]:
    stretches = read_stretches(data, source)
    return stretches[-1].settings if stretches else {}


def filled_later(
    repaired: Iterable[Mapping[str, Any]],
    data: Path,
    asked: Asked,
    chosen: Chosen,
    metrics: Sequence[str] | None,
) -> Iterator[dict[str, Any]]:
    """Yields findings on what was lost of `metrics` when they were made; none means all.

    Where a gap was told, everything began anew: values lack what was before it for as long as they
    reach back, also those that are made of something else.

    `repaired` are entries of the ledger; those that overlap, as of one loss told twice, are one.
    """
    found: dict[tuple[str, str, str], list[Range]] = {}
    settings = {source: _settings(data, source) for source in chosen.sources}
    first, last = asked
    for row in repaired:
        symbols = None if chosen.symbols is None else chosen.symbols.get(row["venue"], [])
        is_asked = symbols is None or row["symbol"] is None or row["symbol"] in symbols
        if not is_asked or row["venue"] not in chosen.sources:
            continue
        start, end = (_ns(row[name], row[f"{name}_ns"]) for name in ("ts_from", "ts_to"))
        low, high = TIME_MIN if start is None else start, TIME_MAX if end is None else end
        channel = row["channel"] or SESSION
        for metric in [TABLE] if metrics is None else metrics:
            reach = 0 if metrics is None else reach_ns(metric, settings[row["venue"]])
            is_own = is_made_of(None if metrics is None else metric, channel)
            span = low if is_own else high, min(high + reach, TIME_MAX)
            is_within = (first is None or span[1] >= first) and (last is None or span[0] < last)
            if is_within and (is_own or (reach and channel in BREAKING)):
                found.setdefault((row["venue"], row["symbol"] or "", metric), []).append(span)
    for (source, symbol, metric), spans in sorted(found.items()):
        for low, high in union(spans):
            ends = None if low == TIME_MIN else low, None if high == TIME_MAX else high
            yield row_of(source, NOT_MEASURED, FILLED_LATER, Wanted(symbol, metric, []), ends)


def _ns(moment: datetime | None, rest: int | None) -> int | None:
    return None if moment is None else moment_ns(moment, rest)


def _missing(
    engine: Engine, source: str, symbols: Sequence[str] | None, metric: str, spans: list[Range]
) -> Iterator[Range]:
    """Yields the parts of `spans` whose samples have no row of `metric`."""
    if metric == LATE_TRADES or re.fullmatch(OF_SHAPE, metric):
        return
    chosen = Chosen([source], None if symbols is None else {source: list(symbols)})
    of_samples = f"not regexp_full_match(metric, {quote(f'{OF_SHAPE}|{LATE_TRADES}')})"
    for low, high in spans:
        bounds = (None if low == TIME_MIN else low, None if high == TIME_MAX else high)
        where = [chosen.condition(), of_samples, *time_condition("ts_event", *bounds)]
        # Where it changes whether samples have a row of it.
        rows = engine.run(
            "select instant, is_measured from (select epoch_ns(ts_event) + ts_event_ns as instant, "
            f"bool_or(metric = {quote(metric)}) as is_measured from {TABLE} "
            f"where {' and '.join(where)} group by 1) "
            "qualify is_measured is distinct from lag(is_measured) over (order by instant) "
            "order by instant",
            [TABLE],
            Scope([source], *bounds),
        )
        starts, are_measured = (rows[name].to_pylist() for name in ("instant", "is_measured"))
        # What is before the first sample of a range is as that one is.
        runs = zip([low, *starts[1:]], [*starts[1:], high], are_measured, strict=True)
        yield from ((start, end) for start, end, is_measured in runs if not is_measured)
