"""Metrics made when they are asked for: of records that are held, by the core's own processor.

What is made is what would have been measured live of the same records: the sets and windows follow
from the names that are asked for.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tapeworks import _core
from tapeworks._core import Processor, Records, metric_table, numbers
from tapeworks.errors import QueryError
from tapeworks.nearest import nearest
from tapeworks.views.conditions import time_condition
from tapeworks.views.initial_state import InitialState, definitions
from tapeworks.views.live_order import Part
from tapeworks.views.query import Scope, quote
from tapeworks.views.reach import newest_receipt
from tapeworks.views.replay import Replay
from tapeworks.views.symbols import Chosen

Settings = Mapping[str, int | str | Sequence[int]]
METRIC, MARKER = (np.dtype(_core.dtype_descr(kind)) for kind in ("metric", "marker"))
# A time far behind the one before is believed when it was told so often.
TOLD = 3
# What the processor reads of a tape, but for gaps and the ends of recordings: those are added.
KINDS = ("trades", "quotes", "orders", "statuses", "definitions")
# Sets to which it matters who took, which the last move of the price may tell.
SIGNED_SETS = {"flow", "sign", "cost", "impact", "vpin", "rates", "hawkes", "dependence"}
# Sets of the whole book, which is on tapes alone.
BOOK_SETS = ("depth", "mlofi", "ofi_integrated")
INTERVAL_MS = 1_000
# So much later than it happened an event may be received, and so far may clocks be apart.
LATE_NS = 60_000_000_000
# Tables whose rows tell how far clocks were apart, but for those with these flags: of the venue's
# history, or without a time of the venue.
TIMED, UNTIMED = ("trades", "quotes", "orders"), 4 | 128
NS_PER_MS = 1_000_000
UNITS_MS = {"s": 1_000, "ms": 1}
LENGTH = r"(\d+)(s|ms)"
LAGS = "none, of each lag"
# Metrics of the book by what of the settings there is one of each, and what stands in its name.
OF_BOOK = {"bands_bps": r"_\d+bps", "levels": r"\d+", "sizes": r"_\d+(?:\.\d*[1-9])?"}
LATE_TRADES = "late_trades"
# Windows of trades: their shape, and what is told of it.
SHAPE = r"(?:(tumbling|session)_(\d+m?s)|(sliding)_(\d+m?s)_(\d+m?s)|(count)_(\d+))"
OF_SHAPE = rf"{SHAPE}_(?:open|high|low|close|vwap|volume|buy_volume|trades)"
LENGTH_OF_SHAPE = re.compile(rf" {LENGTH}\b")
# What is made of bars or buckets that are over reaches back by so many of so many ms.
SPANS = {
    "impact": ("bar_ms", 60_000, "span_bars", 30),
    "range": ("bar_ms", 60_000, "span_bars", 30),
    "noise": ("bar_ms", 60_000, "span_bars", 30),
    "clocks": ("bar_ms", 60_000, "span_bars", 30),
    "ofi_beta": ("ofi_bar_ms", 10_000, "ofi_span_bars", 180),
}
DAY_MS = 86_400_000
# Of what decays by the length of a window, nothing is left after so many of it.
DECAYING, DECAYED = re.compile(r"\b(?:rate_ewma_trade|ewma_vol)_"), 40


def settings_of(names: Sequence[str], given: Settings) -> dict[str, int | str | Sequence[int]]:
    """Returns the settings of the processor with which it makes `names`; `given` override.

    Raises:
        QueryError: there is no such metric.
    """
    table = {name: (place, window) for place, name, window, *_ in metric_table()}
    of_book = {one: window for one, (place, window) in table.items() if place in BOOK_SETS}
    sets, windows, horizons, shapes = set[str](), set[int](), set[int](), set[str]()
    for name in names:
        if shape := re.fullmatch(OF_SHAPE, name):
            shapes.add(" ".join(word for word in shape.groups() if word))
            continue
        if name == LATE_TRADES:
            continue
        if name in of_book or name not in table:
            # One of the best prices may be named like one of the book.
            _refuse(name, of_book)
        _check_lengths(name, table)
        base, lengths = _parts(name)
        lag = re.fullmatch(r"(.+)_([1-9]|10)", name)
        if lag and table.get(lag[1], ("", ""))[1] == LAGS:
            sets.add(table[lag[1]][0])
            continue
        place, window = table.get(base, ("", ""))
        # None, a window, or a horizon and a window.
        wanted = {"none": 0, "rolling": 1}.get(window, 2)
        if not place or len(lengths) != wanted:
            raise _unknown(name, [_example(*one) for one in table.items()])
        sets.add(place)
        windows.update(lengths[-1:])
        horizons.update(lengths[:-1])
    if LATE_TRADES in names and not shapes:
        raise QueryError(
            f"{LATE_TRADES} counts those of windows of trades: expected one beside it, such as "
            "tumbling_10s_vwap"
        )
    settings: dict[str, int | str | Sequence[int]] = {"sets": ",".join(sorted(sets))}
    if shapes:
        settings["trade_windows"] = ",".join(sorted(shapes))
    if windows:
        settings["windows_ms"] = sorted(windows)
    if horizons:
        settings["horizons_ms"] = sorted(horizons)
    settings["interval_ms"] = math.gcd(INTERVAL_MS, *windows)
    return settings | dict(given)


def can_be_made(name: str) -> bool:
    """Says whether a metric can be made of what is held."""
    try:
        settings_of([name], {})
    except QueryError:
        return False
    return True


def _refuse(name: str, of_book: Mapping[str, str]) -> None:
    for one, window in of_book.items():
        parameters = rf"_{LENGTH}" if window == "rolling" else ""
        if window == "rolling, of each rank":
            parameters = rf"_(?:[1-9]|10)_{LENGTH}"
        for setting, pattern in OF_BOOK.items():
            parameters = pattern if f"`{setting}`" in window else parameters
        if re.fullmatch(re.escape(one) + parameters, name):
            raise QueryError(
                f"{name} is of the whole book, and can only be measured live: its set is switched "
                "on in [metrics] of the settings"
            )


def _example(name: str, found: tuple[str, str]) -> str:
    """Returns a name as one asks for it, with its parameters."""
    window = found[1]
    of_book = {"bands_bps": "_5bps", "levels": "5", "sizes": "_1"}
    for setting, parameters in of_book.items():
        if f"`{setting}`" in window:
            return name + parameters
    others = {"rolling": "_10s", "rolling, of each rank": "_1_10s", LAGS: "_1"}
    return name + others.get(window, "")


def _check_lengths(name: str, table: Mapping[str, tuple[str, str]]) -> None:
    """Refuses a name of a known metric whose window is missing, or not written as names have it."""
    if name in table and table[name][1] == "rolling":
        raise QueryError(f"{name} has a window: expected a name such as {name}_10s, got {name!r}")
    found = re.fullmatch(r"(.+?)_(\d+)([a-z]+)", name)
    if found is None or found[1] not in table or not table[found[1]][1].startswith("rolling"):
        return
    base, number, unit = found[1], int(found[2]), found[3]
    seconds = number * {"ms": 1, "s": 1_000, "m": 60_000, "min": 60_000, "h": 3_600_000}.get(
        unit, 0
    )
    wanted = f"{seconds // 1_000}s" if seconds % 1_000 == 0 else f"{seconds}ms"
    if not seconds:
        raise QueryError(f"{name}: expected a window above 0 in s or ms, such as {base}_10s")
    if wanted != f"{number}{unit}":
        raise QueryError(f"expected {base}_{wanted}, got {name!r}: windows are in s, or in ms")


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
    """Returns how far back a value reaches: windows and horizons, bars, or windows of trades.

    A session has no length: one that has the pause before it within reach is whole.
    """
    lengths = 0
    for name in ("windows_ms", "horizons_ms"):
        value = settings.get(name, 0)
        lengths += value if isinstance(value, int) else max(map(int, value), default=0)
    sets = str(settings["sets"]).split(",")
    for length, of_length, count, of_count in (SPANS[name] for name in sets if name in SPANS):
        bars = _number(settings, count, of_count) + 1
        lengths = max(lengths, _number(settings, length, of_length) * bars)
    # Its table is that of the day before.
    lengths = max(lengths, 2 * DAY_MS if "microprice" in sets else 0)
    # The first length of a shape is the longer one, and a count has none.
    shapes = str(settings.get("trade_windows", "")).split(",")
    for found in filter(None, map(LENGTH_OF_SHAPE.search, shapes)):
        lengths = max(lengths, int(found[1]) * UNITS_MS[found[2]])
    return lengths * NS_PER_MS


def _number(settings: Settings, name: str, default: int) -> int:
    value = settings.get(name, default)
    return value if isinstance(value, int) else default


def _delay_ns(settings: Settings) -> int:
    """Returns how long behind its end a window of trades is made final, and corrected."""
    names = ("window_delay_ms", "window_lateness_ms")
    return sum(_number(settings, name, 0) for name in names) * NS_PER_MS


class Made(NamedTuple):
    """What was made."""

    table: pa.Table
    """A row for each moment that is measured within the range."""
    knows_prices: bool
    """Whether the best prices were known at any of them."""


def make_metrics(replay: Replay, names: Sequence[str], settings: Settings) -> Made:
    """Returns what is measured within the range of `replay`."""
    first, last = replay.start, replay.end
    reach = longest_ns(settings) * (DECAYED if DECAYING.search(",".join(names)) else 1)
    begin = None if first is None else first - reach - LATE_NS
    end = None if last is None else last + LATE_NS + _delay_ns(settings)
    tables, knows_prices = [], False
    for source in replay.chosen.sources:
        part = _part_of(replay, source, begin, end)
        known = replay.engine.tail(source).symbols()
        symbols = {number: symbol for symbol, number in known.ids()}
        parts = [rows[_within(rows, names, first, last)] for rows in _measured(part, settings)]
        rows = np.concatenate(parts) if parts else np.zeros(0, METRIC)
        tables.append(_wide(rows, names, source, symbols))
        knows_prices |= bool(rows["state"].any())
    keys = [(name, "ascending") for name in ("ts_event", "ts_event_ns", "venue", "symbol")]
    return Made(pa.concat_tables(tables).sort_by(keys), knows_prices)


def _part_of(replay: Replay, source: str, begin: int | None, end: int | None) -> Part:
    """Returns the part of a source of which a range of events is made."""
    behind, ahead, delay = _clocks_apart(replay, source, begin, end)
    chosen = replay.chosen
    symbols = None if chosen.symbols is None else {source: chosen.symbols[source]}
    one = replace(
        replay,
        chosen=Chosen([source], symbols),
        start=None if begin is None else begin - behind,
        end=None if end is None else end + ahead,
    )
    return Part(one, begin, end, delay)


def _clocks_apart(
    replay: Replay, source: str, begin: int | None, end: int | None
) -> tuple[int, int, int]:
    """Returns how far this host's clock was behind the venue's in a range, and ahead of it, and how
    much later than it happened an event was received, in ns.

    Of each minute it is the median, and of all minutes the least, the most, and the median.
    """
    where = " and ".join(
        [
            f"venue = {quote(source)} and flags & {UNTIMED} = 0",
            *time_condition("ts_event", begin, end),
        ]
    )
    parts = " union all ".join(
        f"select epoch_us(ts_event) as happened, epoch_us(ts_recv) - epoch_us(ts_event) as late "
        f"from {table} where {where}"
        for table in TIMED
    )
    rows = replay.engine.run(
        "select min(late), max(late), median(late) from (select median(late) as late "
        f"from ({parts}) group by happened // 60000000)",
        TIMED,
        Scope([source], begin, end),
    )
    least, most, delay = (column[0].as_py() or 0 for column in rows.columns)
    return (
        max(0, -math.floor(least)) * 1_000,
        max(0, math.ceil(most)) * 1_000,
        round(delay) * 1_000,
    )


def _measured(part: Part, settings: Settings) -> Iterator[npt.NDArray[np.void]]:
    try:
        processor = Processor("metrics", settings)
    except ValueError as error:
        raise QueryError(f"the metrics cannot be made: {error}") from None

    def process(records: Records) -> npt.NDArray[np.void]:
        return np.frombuffer(memoryview(processor.process(records)), METRIC)

    newest = newest_receipt(part.replay.engine.tail(part.source))
    for rows in _initial(part, settings):
        yield process(Records.from_bytes(rows.tobytes()))
    for records in part.in_live_order():
        yield process(records)
    if newest is not None:
        end = part.replay.end
        yield process(_silence(newest if end is None else min(newest, end)))


def _initial(part: Part, settings: Settings) -> Iterator[npt.NDArray[np.void]]:
    """Yields records of what held when `part` begins."""
    yield definitions(part)
    if part.begin is None:
        return
    state = InitialState(part)
    yield state.statuses()
    yield state.quotes()
    sets = set(str(settings["sets"]).split(","))
    # A window of so many trades would count them.
    if sets & SIGNED_SETS and "count" not in str(settings.get("trade_windows", "")):
        yield state.trades(str(settings.get("channel", "trade")), "sign" in sets)


def _silence(until: int) -> Records:
    """Returns records that tell nothing but that the receive times of the source are at `until`."""
    rows = np.zeros(TOLD, MARKER)
    rows["length"], rows["kind"] = MARKER.itemsize // 8, _core.kind_of("marker")
    rows["code"] = numbers("marker_code")["heartbeat"]
    rows["ts_event"] = rows["ts_recv"] = until
    rows["ts_start"] = _core.NONE
    return Records.from_bytes(rows.tobytes())


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
    """Returns a row for each moment with the values of `names`, of several the last ones.

    So nulls that are written where something broke the stream take the place of what was there.
    """
    order = np.lexsort((rows["ts_event"], rows["instrument"]))
    keys = rows[["instrument", "ts_event"]][order]
    is_first = np.append(np.ones(len(keys[:1]), np.bool_), keys[1:] != keys[:-1])
    moments = keys[is_first]
    at = np.empty(len(rows), np.int64)
    at[order] = np.cumsum(is_first) - 1
    ts = moments["ts_event"]
    named = [symbols.get(int(number)) for number in moments["instrument"]]
    columns: dict[str, pa.Array] = {
        "venue": pa.array([source] * len(moments), pa.string()),
        "symbol": pa.array(named, pa.string()),
        "ts_event": pa.array(ts // 1_000, pa.timestamp("us", "UTC")),
        "ts_event_ns": pa.array((ts % 1_000).astype(np.int16)),
    }
    for name in names:
        of_name = np.flatnonzero(rows["metric"] == name.encode())
        values = np.full(len(moments), np.nan)
        values[at[of_name]] = rows["value"][of_name]
        columns[name] = pa.array(values, pa.float64(), mask=np.isnan(values))
    return pa.table(columns)
