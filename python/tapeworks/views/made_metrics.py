"""Metrics made when they are asked for: of records that are held, by the core's own processor.

What is made is what would have been measured live of the same records: the sets and windows follow
from the names that are asked for.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tapeworks import _core
from tapeworks._core import Processor, Records, metric_table
from tapeworks.errors import QueryError
from tapeworks.nearest import nearest
from tapeworks.views.replay import Replay
from tapeworks.views.symbols import Chosen

Settings = Mapping[str, int | str | Sequence[int]]
METRIC = np.dtype(_core.dtype_descr("metric"))
# What the processor reads of a tape, but for the definitions: those are the newest.
KINDS = ("trades", "quotes", "gaps", "statuses")
# Sets of the whole book, which is on tapes alone.
BOOK_SETS = ("depth", "mlofi")
INTERVAL_MS = 1_000
# So much later than it happened an event may be received, and so far may clocks be apart.
LATE_NS = 60_000_000_000
NS_PER_MS = 1_000_000
UNITS_MS = {"s": 1_000, "ms": 1}
LENGTH = r"(\d+)(s|ms)"


def settings_of(names: Sequence[str], given: Settings) -> dict[str, int | str | Sequence[int]]:
    """Returns the settings of the processor with which it makes `names`; `given` override.

    Raises:
        QueryError: there is no such metric.
    """
    table = {name: (place, window) for place, name, window, *_ in metric_table()}
    sets, windows, horizons = set[str](), set[int](), set[int]()
    for name in names:
        _refuse(name, [one for one, (place, _) in table.items() if place in BOOK_SETS])
        base, lengths = _parts(name)
        place, window = table.get(base, ("", ""))
        # None, a window, or a horizon and a window.
        wanted = {"none": 0, "rolling": 1}.get(window, 2)
        if not place or len(lengths) != wanted:
            raise _unknown(name, table.keys())
        sets.add(place)
        windows.update(lengths[-1:])
        horizons.update(lengths[:-1])
    settings: dict[str, int | str | Sequence[int]] = {"sets": ",".join(sorted(sets))}
    if windows:
        settings["windows_ms"] = sorted(windows)
    if horizons:
        settings["horizons_ms"] = sorted(horizons)
    settings["interval_ms"] = math.gcd(INTERVAL_MS, *windows)
    return settings | dict(given)


def _refuse(name: str, of_book: Sequence[str]) -> None:
    if any(name.startswith(one) for one in of_book):
        raise QueryError(
            f"{name} is of the whole book, and can only be measured live: its set is switched on "
            "in [metrics] of the settings"
        )


def _parts(name: str) -> tuple[str, list[int]]:
    """Returns a name without parameters, and their lengths in ms."""
    for pattern in (rf"(.+)_{LENGTH}_mean_{LENGTH}", rf"(.+)_{LENGTH}"):
        if found := re.fullmatch(pattern, name):
            base, *rest = found.groups()
            lengths = zip(rest[::2], rest[1::2], strict=True)
            return base, [int(number) * UNITS_MS[unit] for number, unit in lengths]
    return name, []


def _unknown(name: str, known: Iterable[str]) -> QueryError:
    near = nearest(name, known, likeness=0.5)
    advice = f"did you mean {near[0]}? " if near else ""
    return QueryError(
        f"expected a metric such as mid, or ofi_10s with its window, got {name!r}: {advice}"
        "`docs/metrics.md` lists all"
    )


def longest_ns(settings: Settings) -> int:
    """Returns the length of the longest window and horizon together."""
    lengths = 0
    for name in ("windows_ms", "horizons_ms"):
        value = settings.get(name, 0)
        lengths += value if isinstance(value, int) else max(map(int, value), default=0)
    return lengths * NS_PER_MS


def make_metrics(replay: Replay, names: Sequence[str], settings: Settings) -> pa.Table:
    """Returns a row for each moment that is measured within the range of `replay`."""
    first, last = replay.start, replay.end
    begin = None if first is None else first - longest_ns(settings) - LATE_NS
    end = None if last is None else last + LATE_NS
    tables = []
    for source in replay.chosen.sources:
        known = replay.engine.tail(source).symbols()
        symbols = {number: symbol for symbol, number in known.ids()}
        parts = [
            rows[_within(rows, names, first, last)]
            for rows in _measured(replay, source, known.records(), (begin, end), settings)
        ]
        rows = np.concatenate(parts) if parts else np.zeros(0, METRIC)
        tables.append(_wide(rows, names, source, symbols))
    keys = [(name, "ascending") for name in ("ts_event", "ts_event_ns", "venue", "symbol")]
    return pa.concat_tables(tables).sort_by(keys)


def _measured(
    replay: Replay,
    source: str,
    definitions: Records,
    bounds: tuple[int | None, int | None],
    settings: Settings,
) -> Iterator[npt.NDArray[np.void]]:
    chosen = replay.chosen
    symbols = None if chosen.symbols is None else {source: chosen.symbols[source]}
    start, end = bounds
    one = replace(replay, chosen=Chosen([source], symbols), start=start, end=end)
    try:
        processor = Processor("metrics", settings)
    except ValueError as error:
        raise QueryError(f"the metrics cannot be made: {error}") from None
    processor.process(definitions)
    for batch in one:
        yield np.frombuffer(memoryview(processor.process(batch.records)), METRIC)


def _within(
    rows: npt.NDArray[np.void], names: Sequence[str], first: int | None, last: int | None
) -> npt.NDArray[np.bool_]:
    kept = np.isin(rows["metric"], [name.encode() for name in names])
    if first is not None:
        kept &= rows["ts_event"] >= first
    if last is not None:
        kept &= rows["ts_event"] < last
    return kept


def _wide(
    rows: npt.NDArray[np.void], names: Sequence[str], source: str, symbols: Mapping[int, str]
) -> pa.Table:
    """Returns the rows of samples, whose names are all there, side by side."""
    samples = rows[rows["metric"] == names[0].encode()]
    ts = samples["ts_event"]
    named = [symbols.get(int(number)) for number in samples["instrument"]]
    columns: dict[str, pa.Array] = {
        "venue": pa.array([source] * len(samples), pa.string()),
        "symbol": pa.array(named, pa.string()),
        "ts_event": pa.array(ts // 1_000, pa.timestamp("us", "UTC")),
        "ts_event_ns": pa.array((ts % 1_000).astype(np.int16)),
    }
    for name in names:
        values = rows["value"][rows["metric"] == name.encode()]
        columns[name] = pa.array(values, pa.float64(), mask=np.isnan(values))
    return pa.table(columns)
