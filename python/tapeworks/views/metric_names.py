"""Names of metrics with their parameters: what makes them, and which lengths they have."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence

from tapeworks._core import metric_table
from tapeworks.errors import QueryError
from tapeworks.nearest import nearest

Settings = Mapping[str, int | str | Sequence[int]]
# Sets of the whole book, which is on tapes alone.
BOOK_SETS = ("depth", "mlofi", "ofi_integrated")
INTERVAL_MS = 1_000
UNITS_MS = {"s": 1_000, "ms": 1}
LENGTH = r"(\d+)(s|ms)"
LAGS = "none, of each lag"
# Metrics of the book by what of the settings there is one of each, and what stands in its name.
OF_BOOK = {"bands_bps": r"_\d+bps", "levels": r"\d+", "sizes": r"_\d+(?:\.\d*[1-9])?"}
LATE_TRADES = "late_trades"
# Windows of trades: their shape, and what is told of it.
SHAPE = r"(?:(tumbling|session)_(\d+m?s)|(sliding)_(\d+m?s)_(\d+m?s)|(count)_(\d+))"
OF_SHAPE = rf"{SHAPE}_(?:open|high|low|close|vwap|volume|buy_volume|trades)"


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
        base, lengths = parts_of(name)
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


def parts_of(name: str) -> tuple[str, list[int]]:
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
