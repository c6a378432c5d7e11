"""Settings by which a metric of one name has other values, as the source had them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from tapeworks.metric_stretches import Stretch, read_stretches
from tapeworks.views.metric_names import OF_SHAPE, Settings
from tapeworks.views.metric_reach import set_of
from tapeworks.views.times import format_time

# Of all metrics, of windows of trades, and of single sets.
OF_ALL = ("channel", "grace_ms", "partial")
OF_WINDOWS = ("window_delay_ms", "window_lateness_ms")
BARS = ("bar_ms", "span_bars")
OF_SETS: Mapping[str, Sequence[str]] = {
    "impact": BARS,
    "range": BARS,
    "clocks": BARS,
    "noise": ("step_ms", *BARS),
    "volatility": ("step_ms",),
    "dependence": ("step_ms",),
    "ofi_beta": ("ofi_bar_ms", "ofi_span_bars"),
    "ofi_integrated": ("ofi_bar_ms", "ofi_span_bars"),
    "hawkes": ("hawkes",),
    "vpin": ("vpin_volume", "vpin_buckets", "bar_ms"),
}
ALL = {*OF_ALL, *OF_WINDOWS, *(name for names in OF_SETS.values() for name in names)}


def settings_at(data: Path, source: str, end: int | None) -> Settings:
    """Returns those of these settings that held when a range ended; none where none are noted."""
    held = _held(data, source, None, end)
    return {name: value for name, value in held[-1].settings.items() if name in ALL} if held else {}


def changes(
    data: Path, source: str, metrics: Sequence[str], first: int | None, last: int | None
) -> list[str]:
    """Returns a sentence for each change within a range of a setting that makes values others."""
    lines = []
    for before, after in pairwise(_held(data, source, first, last)):
        assert after.since is not None
        for name in sorted(ALL):
            was, became = before.settings.get(name), after.settings.get(name)
            touched = [metric for metric in metrics if name in _defining(metric)]
            if was != became and touched:
                lines.append(
                    f"the setting {name} was {was}, and {became} from {format_time(after.since)} "
                    f"on ({source}): live values of {', '.join(touched)} before it are others"
                )
    return lines


def _defining(metric: str) -> Sequence[str]:
    if re.fullmatch(OF_SHAPE, metric):
        return (*OF_ALL, *OF_WINDOWS)
    return (*OF_ALL, *OF_SETS.get(set_of(metric), ()))


def _held(data: Path, source: str, first: int | None, last: int | None) -> list[Stretch]:
    """Returns the stretches that hold within a range, oldest first."""
    stretches = read_stretches(data, source)
    ends = [*(one.since for one in stretches), None][1:]
    return [
        one
        for one, end in zip(stretches, ends, strict=False)
        if (one.since is None or last is None or one.since < last)
        and (end is None or first is None or end >= first)
    ]
