"""Bars of trades that close by what was traded, and what bars imply."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tapeworks import _core
from tapeworks.errors import QueryError
from tapeworks.research.arrays import floats, integers, same_length

# Name -> how a bar closes, and what it measures.
KINDS: Mapping[str, tuple[str, str]] = {
    "time": ("time", "trades"),
    "tick": ("sum", "trades"),
    "volume": ("sum", "volume"),
    "dollar": ("sum", "value"),
    "tick_imbalance": ("imbalance", "trades"),
    "volume_imbalance": ("imbalance", "volume"),
    "dollar_imbalance": ("imbalance", "value"),
    "tick_runs": ("runs", "trades"),
    "volume_runs": ("runs", "volume"),
    "dollar_runs": ("runs", "value"),
}
COLUMNS = (
    "first_ts",
    "last_ts",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "trades",
    "notional",
    "buy_volume",
)


def trade_bars(
    kind: str,
    threshold: int,
    ts: npt.ArrayLike,
    price: npt.ArrayLike,
    size: npt.ArrayLike,
    sign: npt.ArrayLike | None = None,
    *,
    tick_rule: bool = False,
    flush: bool = False,
) -> pa.Table:
    """Returns bars that close once `threshold` is reached, in the units that are given.

    `kind` is a key of `KINDS`; `time` has windows of `threshold` ns. Prices and sizes are integers,
    in any unit: sums are exact. A trade that crosses belongs to its bar as a whole. `sign` is 1
    where the buyer took and -1 where the seller did; where it is 0, or not given, the tick rule
    tells. With `tick_rule` it tells of imbalances and runs always, and `sign` of `buy_volume`
    alone. The last bar, if it is not finished, is given with `flush` alone.

    Raises:
        QueryError: there is no such kind, or the columns are not of one length.
    """
    if kind not in KINDS:
        raise QueryError(f"expected a kind of bars of {', '.join(KINDS)}, got {kind!r}")
    closing, measure = KINDS[kind]
    columns = (integers("ts", ts), integers("price", price), integers("size", size))
    signs = np.zeros_like(columns[0]) if sign is None else integers("sign", sign)
    same_length(ts=columns[0], price=columns[1], size=columns[2], sign=signs)
    if threshold <= 0:
        raise QueryError(f"expected a threshold above 0, got {threshold}")
    bars = _core.trade_bars((*columns, signs), closing, measure, int(threshold), (tick_rule, flush))
    table = dict(zip(COLUMNS, zip(*bars, strict=True), strict=True)) if bars else {}
    wide = {"volume", "notional", "buy_volume"}
    return pa.table(
        {
            name: pa.array(table.get(name, ()), pa.decimal128(38) if name in wide else pa.int64())
            for name in COLUMNS
        }
    )


def bar_estimates(
    open: npt.ArrayLike,  # noqa: A002
    high: npt.ArrayLike,
    low: npt.ArrayLike,
    close: npt.ArrayLike,
) -> dict[str, float | None]:
    """Returns the spreads and variances that bars imply, by name; missing prices are NaN.

    Spreads are fractions of the price: Corwin & Schultz (`spread_cs_signed`, and `spread_cs_zero`
    with negative terms as 0), Abdi & Ranaldo (`spread_ar`), EDGE, Roll; signed. Variances are means
    over bars: Parkinson, Garman & Klass, Rogers & Satchell, Yang & Zhang.

    Raises:
        QueryError: the columns are not of one length.
    """
    columns = {"open": open, "high": high, "low": low, "close": close}
    prices = {name: floats(name, values) for name, values in columns.items()}
    same_length(**prices)
    return _core.bar_estimates(prices["open"], prices["high"], prices["low"], prices["close"])
