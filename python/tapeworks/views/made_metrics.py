"""Metrics made when they are asked for: of records that are held, by the core's own processor.

What is made is what would have been measured live of the same records: the sets and windows follow
from the names that are asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tapeworks import _core
from tapeworks._core import Processor, Records, numbers
from tapeworks.errors import QueryError
from tapeworks.views.conditions import time_condition
from tapeworks.views.initial_state import InitialState, definitions
from tapeworks.views.live_order import Part
from tapeworks.views.made_begin import LATE_NS, Beginning, begin_of
from tapeworks.views.metric_settings import settings_at
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
# Those to which the venue's own word on it is not enough, or the last changes of the price matter.
MOVED_SETS = {"sign", "impact"}
# Tables whose rows tell how far clocks were apart, but for those with these flags: of the venue's
# history, or without a time of the venue.
TIMED, UNTIMED = ("trades", "quotes", "orders"), 4 | 128
NS_PER_MS = 1_000_000
# What is asked for says these.
FIXED = {"sets", "symbols"}
TRADES, AGGREGATES = "trade", "agg_trade"


def _number(settings: Settings, name: str, default: int) -> int:
    value = settings.get(name, default)
    return value if isinstance(value, int) else default


def _delay_ns(settings: Settings) -> int:
    """Returns how long behind its end a window of trades is made final, and corrected."""
    names = ("window_delay_ms", "window_lateness_ms")
    return sum(_number(settings, name, 0) for name in names) * NS_PER_MS


@dataclass(frozen=True)
class Made:
    """What was made."""

    table: pa.Table
    """A row for each moment that is measured within the range."""
    knows_prices: bool
    """Whether the best prices were known at any of them."""
    settings: Settings
    """What it was made with, of the last source."""
    begun_anew: list[tuple[str, str, str]]
    """Source, symbol and metric of what may be other than live: it is made of a part of what live
    values remember."""


def make_metrics(replay: Replay, names: Sequence[str], asked: Settings, given: Settings) -> Made:
    """Returns what is measured within the range of `replay`.

    `asked` are the settings that follow from `names`, `given` those that are wanted.
    """
    if refused := FIXED.intersection(given):
        raise QueryError(
            f"make: the names of metrics and the symbols that are asked for say what is made, got "
            f"{', '.join(sorted(refused))}"
        )
    first, last = replay.start, replay.end
    tables, knows_prices, anew = [], False, list[tuple[str, str, str]]()
    settings = {**asked, **given}
    for source in replay.chosen.sources:
        settings = {**asked, **_defining(replay, source), **given}
        processor = _processor(settings)
        end = None if last is None else last + LATE_NS + _delay_ns(settings)
        one = replace(replay, chosen=_only(replay.chosen, source))
        beginning = begin_of(one, names, settings)
        part = _part_of(one, beginning.ts, end)
        symbols = {number: symbol for symbol, number in replay.engine.tail(source).symbols().ids()}
        measured = _measured(part, processor, settings, beginning)
        parts = [rows[_within(rows, names, first, last)] for rows in measured]
        rows = np.concatenate(parts) if parts else np.zeros(0, METRIC)
        tables.append(_wide(rows, names, source, symbols))
        knows_prices |= bool(rows["state"].any())
        anew += [(source, symbol, name) for symbol, name in beginning.unknown]
    keys = [(name, "ascending") for name in ("ts_event", "ts_event_ns", "venue", "symbol")]
    return Made(pa.concat_tables(tables).sort_by(keys), knows_prices, settings, anew)


def _only(chosen: Chosen, source: str) -> Chosen:
    symbols = None if chosen.symbols is None else {source: chosen.symbols[source]}
    return Chosen([source], symbols)


def _defining(replay: Replay, source: str) -> Settings:
    """Returns settings by which metrics of one name differ, as they held when the range ended.

    Where none were noted, the trades are those that there are: aggregate ones alone, of some.
    """
    if noted := settings_at(replay.data, source, replay.end):
        return noted
    has = {
        channel: replay.engine.run(
            f"select 1 from trades where channel = {quote(channel)} limit 1",
            ["trades"],
            Scope([source]),
        ).num_rows
        for channel in (TRADES, AGGREGATES)
    }
    return {"channel": AGGREGATES if has[AGGREGATES] and not has[TRADES] else TRADES}


def _part_of(replay: Replay, begin: int | None, end: int | None) -> Part:
    """Returns the part of the source of `replay` of which a range of events is made."""
    behind, ahead, delay = _clocks_apart(replay, begin, end)
    one = replace(
        replay,
        start=None if begin is None else begin - behind,
        end=None if end is None else end + ahead,
    )
    return Part(one, begin, end, delay)


def _clocks_apart(replay: Replay, begin: int | None, end: int | None) -> tuple[int, int, int]:
    """Returns how far this host's clock was behind the venue's in a range, and ahead of it, and how
    much later than it happened an event was received, in ns.

    Of each minute it is the median, and of all minutes the least, the most, and the median.
    """
    [source] = replay.chosen.sources
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


def _processor(settings: Settings) -> Processor:
    try:
        return Processor("metrics", settings)
    except (TypeError, ValueError, OverflowError) as error:
        raise QueryError(f"the metrics cannot be made: {error}") from None


def _measured(
    part: Part, processor: Processor, settings: Settings, beginning: Beginning
) -> Iterator[npt.NDArray[np.void]]:
    def process(records: Records) -> npt.NDArray[np.void]:
        return np.frombuffer(memoryview(processor.process(records)), METRIC)

    newest = newest_receipt(part.replay.engine.tail(part.source))
    for rows in _initial(part, settings, beginning):
        yield process(Records.from_bytes(rows.tobytes()))
    for records in part.in_live_order():
        yield process(records)
    if newest is not None:
        end = part.replay.end
        yield process(_silence(newest if end is None else min(newest, end)))


def _initial(
    part: Part, settings: Settings, beginning: Beginning
) -> Iterator[npt.NDArray[np.void]]:
    """Yields records of what held when `part` begins."""
    yield definitions(part)
    if part.begin is None:
        return
    channel = str(settings.get("channel", TRADES))
    state = InitialState(part, channel)
    yield state.statuses()
    yield state.doubts()
    if beginning.is_of_orders:
        # A day of single orders begins with an empty book, and nothing before it goes on.
        return
    yield from state.quotes()
    sets, shapes = set(str(settings["sets"]).split(",")), str(settings.get("trade_windows", ""))
    # A window of so many trades would count them.
    if (sets & SIGNED_SETS or shapes) and "count" not in shapes:
        yield state.trades(bool(sets & MOVED_SETS))


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
