"""How a series depends on its past, and two on each other."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tapeworks.errors import QueryError
from tapeworks.research.arrays import Floats, floats, integers, rising, same_length


def autocorrelation(x: npt.ArrayLike, lags: int) -> Floats | None:
    """Returns the autocorrelation at lags 0 to `lags`, of one mean, biased towards 0.

    None of fewer than `10 lags` values, or where they do not vary.
    """
    values = floats("x", x)
    if len(values) < max(2, 10 * lags):
        return None
    centred = values - values.mean()
    whole = centred @ centred
    if whole <= 0:
        return None
    return np.array([1.0, *(centred[lag:] @ centred[:-lag] / whole for lag in range(1, lags + 1))])


def variance_ratio(price: npt.ArrayLike, q: int) -> float | None:
    """Returns the variance over `q` steps by `q` times that over one (Lo & MacKinlay 1988).

    Of log prices, overlapping, unbiased: 1 where they are a random walk, below it where they turn
    back. None of fewer than `10 q` steps, or where they do not vary.
    """
    logs = floats("price", price)
    n = len(logs) - 1
    if q < 2 or n < 10 * q:
        return None
    drift = (logs[-1] - logs[0]) / n
    one = np.sum((np.diff(logs) - drift) ** 2) / (n - 1)
    factor = q * (n - q + 1) * (1 - q / n)
    several = np.sum((logs[q:] - logs[:-q] - q * drift) ** 2) / factor
    return float(several / one) if one > 0 else None


def hayashi_yoshida(
    ts1: npt.ArrayLike, log1: npt.ArrayLike, ts2: npt.ArrayLike, log2: npt.ArrayLike
) -> float:
    """Returns the covariance of two log prices, each at its own times, without a common grid.

    The sum of products of returns whose times overlap (Hayashi & Yoshida 2005).

    Raises:
        QueryError: times run back, or columns are not of one length.
    """
    times1, logs1 = _series("1", ts1, log1)
    times2, logs2 = _series("2", ts2, log2)
    return _overlapping(times1, logs1, times2, logs2)


class LeadLag(NamedTuple):
    """How two prices move together, with the times of the second moved by each lag."""

    lags: npt.NDArray[np.int64]
    correlation: Floats
    best: int
    """The lag at which they do most: above 0 the first leads."""
    ratio: float
    """Squared correlations at lags above 0 by those below it: above 1 the first leads."""


def lead_lag(
    ts1: npt.ArrayLike,
    log1: npt.ArrayLike,
    ts2: npt.ArrayLike,
    log2: npt.ArrayLike,
    lags: npt.ArrayLike,
) -> LeadLag:
    """Returns which of two prices leads (Hoffmann, Rosenbaum & Yoshida 2013); lags as times.

    Raises:
        QueryError: times run back, or a price does not move.
    """
    times1, logs1 = _series("1", ts1, log1)
    times2, logs2 = _series("2", ts2, log2)
    shifts = integers("lags", lags)
    size = float(np.sum(np.diff(logs1) ** 2) * np.sum(np.diff(logs2) ** 2)) ** 0.5
    if size <= 0 or not len(shifts):
        raise QueryError("expected lags, and two prices that move")
    found = np.array([_overlapping(times1, logs1, times2 - lag, logs2) for lag in shifts]) / size
    best = int(shifts[np.argmax(np.abs(found))])
    below = float(np.sum(found[shifts < 0] ** 2))
    above = float(np.sum(found[shifts > 0] ** 2))
    return LeadLag(shifts, found, best, above / below if below > 0 else float("nan"))


def _series(
    which: str, ts: npt.ArrayLike, log: npt.ArrayLike
) -> tuple[npt.NDArray[np.int64], Floats]:
    times, logs = integers(f"ts{which}", ts), floats(f"log{which}", log)
    same_length(ts=times, log=logs)
    rising(f"ts{which}", times)
    # Of one time, the last price counts.
    last = np.append(np.diff(times) > 0, True) if len(times) else np.zeros(0, bool)
    if last.sum() < 2:
        raise QueryError(f"ts{which}: expected two times or more")
    return times[last], logs[last]


def _overlapping(
    times1: npt.NDArray[np.int64], logs1: Floats, times2: npt.NDArray[np.int64], logs2: Floats
) -> float:
    """Sums products of returns over (a, b] and (c, d] that overlap."""
    before = np.searchsorted(times2, times1[:-1], "right") - 1
    after = np.searchsorted(times2, times1[1:], "left")
    before, after = np.maximum(before, 0), np.minimum(after, len(times2) - 1)
    return float(np.diff(logs1) @ (logs2[np.maximum(before, after)] - logs2[before]))
