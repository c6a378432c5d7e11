"""How far back the values of a metric reach: one table, by set.

What makes metrics of a range when they are asked for begins so far before it, and what says which
stored values a gap took something from looks so far behind the gap.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

from tapeworks._core import metric_table
from tapeworks.views.metric_names import LENGTH, OF_SHAPE, UNITS_MS, parts_of

Settings = Mapping[str, int | str | Sequence[int]]
NS_PER_MS = 1_000_000
DECAYED = 40
"""Of what decays by the length of a window, nothing is left after so many of it."""
# What is made of bars or buckets that are over: names of settings, and what they are without any.
BARS = ("bar_ms", 60_000, "span_bars", 30)
OFI_BARS = ("ofi_bar_ms", 10_000, "ofi_span_bars", 180)
# The first length of a shape is the longer one, and a count has none.
LENGTH_OF_SHAPE = re.compile(rf"_{LENGTH}_")


class Reach(NamedTuple):
    """How far back values reach: as far as the longest of these."""

    windows: int = 0
    """So many of the length in the name; the horizon in the name is added."""
    bars: tuple[str, int, str, int] | None = None
    """Bars by time, whatever was in them."""
    counts_bars: bool = False
    """Whether bars without an event are left out, so that those that count may be of any age."""
    counts_days: bool = False
    """Whether it is made of the day before, or of the last one that had events."""
    is_endless: bool = False
    """Whether it is made of all since the stream began, or since something broke it."""


WINDOW, NOW, ENDLESS = Reach(windows=1), Reach(), Reach(is_endless=True)
REACHES: Mapping[str, Reach] = {
    "l1": WINDOW,
    "ofi": WINDOW,
    "flow": WINDOW,
    "sign": NOW,
    "cost": WINDOW,
    "impact": Reach(bars=BARS),
    "vpin": ENDLESS,
    # The price before a crossed quote stands for a step.
    "volatility": Reach(windows=2),
    "latency": WINDOW,
    "depth": NOW,
    "mlofi": WINDOW,
    "microprice": Reach(counts_days=True),
    "ofi_beta": Reach(bars=OFI_BARS),
    "ofi_integrated": Reach(bars=OFI_BARS),
    "range": Reach(bars=BARS, counts_bars=True),
    "noise": Reach(bars=BARS),
    "rates": WINDOW,
    "hawkes": ENDLESS,
    "dependence": ENDLESS,
    "clocks": Reach(bars=BARS, counts_bars=True),
    "orders": ENDLESS,
    # What is over in a window may have begun one before it.
    "resilience": Reach(windows=2),
    "decayed": Reach(windows=DECAYED + 1),
}
"""By set; those of single metrics that reach otherwise are in `OTHERS`."""
OTHERS: Mapping[str, Reach] = {
    "rate_ewma_trade": Reach(windows=DECAYED),
    "latency_negative": ENDLESS,
    "stamp_resolution": ENDLESS,
    **{f"latency_p{share}": Reach(bars=("bar_ms", 60_000, "", 1)) for share in (50, 90, 99, 999)},
}


def reach_of(name: str) -> Reach:
    """Returns how far back a metric, such as `ofi_10s`, reaches."""
    if re.fullmatch(OF_SHAPE, name):
        return ENDLESS if name.startswith("count_") else WINDOW
    return OTHERS.get(_base_of(name)) or REACHES.get(set_of(name), ENDLESS)


def set_of(name: str) -> str:
    """Returns the set of a metric; none where it is of none of the core's."""
    return _sets().get(_base_of(name), "")


def _base_of(name: str) -> str:
    base, sets = parts_of(name)[0], _sets()
    if base in sets:
        return base
    # Of a lag, or of what the settings of `depth` name.
    return next((one for one in sorted(sets, reverse=True) if name.startswith(one)), base)


def reach_ns(name: str, settings: Settings) -> int:
    """Returns how far back a metric reaches by time alone, of what is not endless."""
    reach = reach_of(name)
    if found := re.fullmatch(OF_SHAPE, name) and LENGTH_OF_SHAPE.search(name):
        return int(found[1]) * UNITS_MS[found[2]] * NS_PER_MS
    lengths = parts_of(name)[1]
    far = reach.windows * lengths[-1] + sum(lengths[:-1]) if lengths else 0
    if reach.bars is not None:
        length, count = bars_of(name, settings)
        # One that is not over yet is beside them.
        return max(far * NS_PER_MS, length * (count + 1))
    return far * NS_PER_MS


def bars_of(name: str, settings: Settings) -> tuple[int, int]:
    """Returns how long the bars are in ns that a metric is made of, and how many there are."""
    length, of_length, count, of_count = reach_of(name).bars or BARS
    return (
        _number(settings, length, of_length) * NS_PER_MS,
        _number(settings, count, of_count),
    )


def _number(settings: Settings, name: str, default: int) -> int:
    value = settings.get(name, default)
    return value if isinstance(value, int) else default


@cache
def _sets() -> Mapping[str, str]:
    """Returns the set of each metric without parameters."""
    return {name: group for group, name, *_ in metric_table()}
