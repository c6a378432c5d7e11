"""Why a metric has no value at all in an answer: in plain words, once for each, as its table says.

What a recording lacks altogether is said where the metric cannot be without it. What is said of a
metric is always true of it: of several causes that may be all are named.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import pyarrow as pa

from tapeworks._core import metric_table
from tapeworks.views.metric_names import OF_SHAPE

SETS_OF_TRADES = frozenset({"flow", "sign", "cost", "impact", "vpin", "hawkes", "range"})
OF_TRADES = frozenset({"acf_sign", "acf_parent_sign", "rate_ewma_trade", "order_to_trade"})
OF_ORDERS = re.compile(r"(rate|size)_(add|cancel|fill)_(bid|ask)|cancel_ratio(_size)?")
NOT_OF_QUOTES = SETS_OF_TRADES | {"orders", "latency", "clocks", "rates", "dependence"}
QUOTED = frozenset({"cost", "impact"})
"""Sets of trades that need best prices as well."""
OF_BOTH = frozenset({"rates", "dependence", "latency", "clocks"})
"""Sets of which some are of trades, and others of best prices."""
SIGNED = frozenset({"flow", "sign", "vpin", "hawkes"})
"""Sets of trades whose takers best prices tell, where the venue does not."""
OF_BOOKS = frozenset({"depth", "mlofi", "ofi_integrated"})
UNKNOWN = (
    "the best prices were not known at any of its moments: none were told since a recording began, "
    "or since a gap, a halt or the end of a recording; one order that is missing leaves those of "
    "single orders unknown"
)
SIZE_OF_BUCKETS = "`vpin_volume` sets it; without it, it is a fiftieth of the mean of whole days"


def is_made_of(name: str | None, channel: str) -> bool:
    """Says whether a metric is, or may be, made of what a channel of the ledger carries.

    Without a name it is any of them.
    """
    is_of_windows = name is not None and re.fullmatch(OF_SHAPE, name)
    known = None if name is None or is_of_windows else _line_of(name)
    group = None if known is None else known[0]
    if channel in ("trade", "agg_trade"):
        return group is None or group in SETS_OF_TRADES | OF_BOTH
    if channel == "quote":
        is_quoted = group not in NOT_OF_QUOTES or group in QUOTED | OF_BOTH | SIGNED
        return is_quoted and not is_of_windows
    if channel in ("depth", "snapshot"):
        return (group is None and not is_of_windows) or group in OF_BOOKS
    return channel in ("session", "order")


def reasons(
    table: pa.Table,
    names: Sequence[str],
    settings: Mapping[str, object] | None,
    holds: Callable[[str], bool],
    knows_prices: Callable[[], bool],
) -> list[str]:
    """Returns a sentence for each metric of which `table` has rows, and no value.

    `settings` are those that it was made with; none: it was measured live. `holds` says whether
    anything of a table is held of what was asked for, at any time, `knows_prices` whether the best
    prices were known at any moment of `table`.
    """
    if not table.num_rows:
        return []
    held: dict[str, bool] = {}

    def lacks(what: str) -> bool:
        if what not in held:
            held[what] = holds(what)
        return not held[what]

    empty = [name for name in names if table[name].null_count == table.num_rows]
    found = ((name, _reason(name, settings, lacks, knows_prices)) for name in empty)
    return [f"{name} has no value in this answer: {why}" for name, why in found if why]


def _reason(
    name: str,
    settings: Mapping[str, object] | None,
    lacks: Callable[[str], bool],
    knows_prices: Callable[[], bool],
) -> str | None:
    if re.fullmatch(OF_SHAPE, name):
        return "no trades are recorded" if lacks("trades") else None
    if (known := _line_of(name)) is None:
        # A metric of the user's own.
        return None
    group, base, null = known
    if (group in SETS_OF_TRADES or base in OF_TRADES) and lacks("trades"):
        return "it is made of trades, and none are recorded"
    is_of_orders = group == "orders" or OF_ORDERS.fullmatch(base) or base == "order_to_trade"
    if is_of_orders and lacks("orders"):
        return "it is made of single orders, and none are recorded: the feed tells none"
    is_quoted = group not in NOT_OF_QUOTES or group in QUOTED
    if is_quoted and lacks("quotes") and lacks("orders") and lacks("book_levels"):
        return "it is made of best prices, and no quotes are recorded"
    if is_quoted and not knows_prices():
        return UNKNOWN
    if group == "hawkes" and settings is not None and not settings.get("hawkes"):
        return 'no parameters are given, as by make={"hawkes": "0.2,0.5,1.0"}'
    if group == "vpin" and not (settings or {}).get("vpin_volume"):
        return f"{null} ({SIZE_OF_BUCKETS})"
    return null


def _line_of(name: str) -> tuple[str, str, str] | None:
    """Returns set, name without parameters, and when it is null, of the metric `name`."""
    table = {base: (group, null) for group, base, *_, null in metric_table()}
    for base in sorted(table, key=len, reverse=True):
        if re.fullmatch(rf"{re.escape(base)}(?:_?\d.*)?", name):
            group, null = table[base]
            if like := re.match(r"as (\w+)", null):
                null = table[like[1]][1] + null.removeprefix(like[0])
            return group, base, null
    return None
