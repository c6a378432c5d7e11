"""Variance of prices over a range: realized, robust to jumps, robust to noise."""

import numpy as np
import numpy.typing as npt

from tapeworks import _core
from tapeworks.errors import QueryError
from tapeworks.research.arrays import Floats, floats, integers, rising, same_length


def log_returns(price: npt.ArrayLike) -> Floats:
    """Returns the log returns between prices: one fewer than there are prices.

    Raises:
        QueryError: a price is not above 0.
    """
    prices = floats("price", price)
    if not np.all(prices > 0):
        raise QueryError("price: expected prices above 0")
    return np.diff(np.log(prices))


def previous_tick(ts: npt.ArrayLike, value: npt.ArrayLike, step: int) -> Floats:
    """Returns values on multiples of `step`, each the last at or before it; the first in front.

    The grid ends with the first multiple at or behind the last row.

    Raises:
        QueryError: times run back.
    """
    times, values = integers("ts", ts), floats("value", value)
    same_length(ts=times, value=values)
    rising("ts", times)
    if not len(times):
        return values
    first, last = -(-int(times[0]) // step) * step, -(-int(times[-1]) // step) * step
    grid = np.arange(first, last + 1, step)
    found = values[np.searchsorted(times, grid, "right") - 1]
    return found if first == times[0] else np.concatenate([values[:1], found])


def realized(returns: npt.ArrayLike) -> dict[str, float | None]:
    """Returns realized variance and its kin of log returns, by name; None of fewer than 10.

    `rv`, `rsv_down`, `rsv_up`, `bv`, `bv_ss`, `min_rv`, `med_rv`, `rq`, `tpq`, `qpq`, `bns_z`,
    `bns_z_ratio`, `relative_jump`, `noise_var`.
    """
    return _core.realized_measures(floats("returns", returns))


def two_scale(price: npt.ArrayLike, k: int) -> float | None:
    """Returns the two-scale variance of prices `k` apart; None of fewer than `4 k` prices."""
    return _core.two_scale(np.log(floats("price", price)), k)


def kernel_lags(noise: float, variance: float, count: int) -> int | None:
    """Returns the lags of a realized kernel of `count` returns, by the variances of both."""
    return _core.kernel_bandwidth(noise, variance, count)


def realized_kernel(
    returns: npt.ArrayLike,
    lags: int,
    *,
    flat_top: bool = False,
    weights: str = "parzen",
    scaled: bool = False,
) -> float | None:
    """Returns the realized kernel of log returns.

    The weights are `k(h / (lags + 1))`, with which it is never negative; with `flat_top`,
    `k((h - 1) / lags)`, with which it may be. `k` is that of Parzen, or 1 with
    `weights = "rectangular"`. With `scaled`, the autocovariance at lag h counts n / (n - h) times.

    Raises:
        QueryError: there are no such weights, or fewer lags than none.
    """
    if weights not in ("parzen", "rectangular"):
        raise QueryError(f"expected weights of parzen, rectangular, got {weights!r}")
    if lags < 0:
        raise QueryError(f"lags: expected 0 or more, got {lags}")
    return _core.realized_kernel(
        floats("returns", returns), lags, (flat_top, weights == "rectangular", scaled)
    )
