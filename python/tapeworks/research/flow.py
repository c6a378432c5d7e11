"""What order flow and volume say of prices."""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tapeworks import _core
from tapeworks.errors import QueryError
from tapeworks.research.arrays import Floats, floats, integers, same_length


class Regression(NamedTuple):
    """A line fitted by least squares, with intercept."""

    slope: float
    intercept: float
    t: float
    r2: float
    n: int


def regression(x: npt.ArrayLike, y: npt.ArrayLike) -> Regression | None:
    """Returns the regression of `y` on `x`; rows in which either is missing are left out.

    None where `x` does not vary, or of fewer than three rows.
    """
    columns = floats("x", x), floats("y", y)
    same_length(x=columns[0], y=columns[1])
    known = np.isfinite(columns[0]) & np.isfinite(columns[1])
    found = _core.regress(columns[0][known], columns[1][known])
    return None if found is None else Regression(*found, n=int(known.sum()))


class Microprice(NamedTuple):
    """What is added to the mid, by the spread and the imbalance (Stoikov 2018)."""

    adjustment: Floats
    """In ticks, a row for each spread from 1 tick, a column for each bucket of the imbalance."""
    first: Floats
    """What the next move of the mid is expected to be, alike."""
    terms: tuple[float, ...]
    """The largest value of each term of the sum; the last is about how far it is from its limit."""
    counts: npt.NDArray[np.int64]
    """Steps that began in each state, and their mirrors."""


def microprice(
    bid: npt.ArrayLike,
    bid_size: npt.ArrayLike,
    ask: npt.ArrayLike,
    ask_size: npt.ArrayLike,
    tick: int,
    *,
    spreads: int = 4,
    buckets: int = 5,
) -> Microprice | None:
    """Returns the table of quotes in their order, as integers in any unit; None if no mid moved.

    Use it on what comes later: fitted on what it is used on, it looks ahead.
    """
    named = {"bid": bid, "bid_size": bid_size, "ask": ask, "ask_size": ask_size}
    columns = {name: integers(name, values) for name, values in named.items()}
    same_length(**columns)
    values = (columns["bid"], columns["bid_size"], columns["ask"], columns["ask_size"])
    found = _core.microprice_table(values, tick, spreads, buckets)
    if found is None:
        return None
    adjustment, first, terms, counts = found
    shape = (spreads, buckets)
    table = np.array([math.nan if one is None else one for one in adjustment])
    return Microprice(
        table.reshape(shape),
        np.array(first).reshape(shape),
        tuple(terms),
        np.array(counts, np.int64).reshape(shape),
    )


class IntegratedOfi(NamedTuple):
    """The flow of all levels as one number a bucket (Cont, Cucuringu & Zhang 2023)."""

    values: Floats
    weights: Floats
    explained: float
    """Share of the variance that the first component explains."""
    scaled: npt.NDArray[np.float64]


def integrated_ofi(mlofi: npt.ArrayLike, depth: npt.ArrayLike) -> IntegratedOfi | None:
    """Returns the integrated flow of buckets: a row of `mlofi` for each, a column for each level.

    `depth` is the mean size of a side of a level, over the events and the levels of each bucket;
    buckets in which it is 0 are left out. None of no more buckets than levels. The weights are of
    the same buckets: to use them on later ones, multiply.

    Raises:
        QueryError: there are not as many depths as buckets.
    """
    flow = np.asarray(mlofi, np.float64)
    size = floats("depth", depth)
    if flow.ndim != 2 or len(flow) != len(size):
        raise QueryError(f"expected a row of mlofi for each depth, got {flow.shape}, {len(size)}")
    known = size > 0
    scaled = flow[known] / size[known, None]
    if len(scaled) <= scaled.shape[1]:
        return None
    found = _core.principal(np.ascontiguousarray(scaled).reshape(-1), scaled.shape[1])
    if found is None:
        return None
    weights = np.array(found[0])
    return IntegratedOfi(scaled @ weights, weights, found[1], scaled)


def bulk_vpin(
    volume: npt.ArrayLike,
    change: npt.ArrayLike,
    bucket: float,
    n: int = 50,
    *,
    sigma: float | None = None,
) -> Floats:
    """Returns VPIN behind each bucket, of bars whose volume is split by their change of price.

    Of a bar's volume Phi(change / sigma) is bought. Without `sigma` it is the standard deviation of
    all changes: so is the paper's, which knows the whole sample. The metric `vpin_bvc` knows only
    what came before. NaN before `n` buckets are full; the last one, if not full, is left out. A
    missing change, as that of the first bar, leaves its bar out.
    """
    sizes, moves = floats("volume", volume), floats("change", change)
    same_length(volume=sizes, change=moves)
    known = np.isfinite(moves)
    sizes, moves = sizes[known], moves[known]
    scale = float(np.std(moves, ddof=1)) if sigma is None else sigma
    z = moves / scale if scale > 0 else np.zeros_like(moves)
    share = np.array([0.5 * math.erfc(-one / math.sqrt(2)) for one in z])
    edges = np.arange(1, int(sizes.sum() // bucket) + 1) * bucket
    ends = np.concatenate([[0.0], np.cumsum(sizes)])
    difference = np.concatenate([[0.0], np.cumsum(sizes * (2 * share - 1))])
    # A bar's volume lies evenly over the buckets that it fills.
    at_edges = np.interp(np.concatenate([[0.0], edges]), ends, difference)
    imbalance = np.abs(np.diff(at_edges))
    found = np.full(len(imbalance), math.nan)
    sums = np.concatenate([[0.0], np.cumsum(imbalance)])
    found[n - 1 :] = (sums[n:] - sums[:-n]) / (n * bucket)
    return found
