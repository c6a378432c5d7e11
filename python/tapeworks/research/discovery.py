"""Where the price of an asset is found, of two venues that trade it."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tapeworks.errors import QueryError
from tapeworks.research.arrays import Floats, floats, same_length


class PriceDiscovery(NamedTuple):
    """What an error-correction model of two prices says. Shares add up to 1."""

    alpha: Floats
    """How fast each price goes back to the other."""
    const: Floats
    gammas: npt.NDArray[np.float64]
    """A row for each lag and price: how each price follows it."""
    omega: npt.NDArray[np.float64]
    """Covariance of what is left, divided by n."""
    gg_share: Floats
    """Gonzalo & Granger 1995; may leave 0 to 1."""
    is_lower: Floats
    """Hasbrouck 1995, in the order that is worse for the venue."""
    is_upper: Floats
    is_mid: Floats
    ils: Floats
    """Information leadership, of both (Putnins 2013)."""
    n: int


def price_discovery(
    first: npt.ArrayLike, second: npt.ArrayLike, lags: int = 10
) -> PriceDiscovery | None:
    """Returns the shares of two venues, of log prices on a common grid, the last value of each.

    Wide bounds mean that the grid is too coarse to tell: a shorter one may. An error between the
    clocks of the venues shows up as leadership. None of fewer than `20 (2 lags + 2)` rows, or where
    the prices do not tell.

    Raises:
        QueryError: the columns are not of one length, or a price is missing.
    """
    p1, p2 = floats("first", first), floats("second", second)
    same_length(first=p1, second=p2)
    prices = np.column_stack([p1, p2])
    if not np.all(np.isfinite(prices)):
        raise QueryError("expected a price in each row: leave out what lies before the first")
    changes = np.diff(prices, axis=0)
    n = len(changes) - lags
    if lags < 0 or n < 20 * (2 * lags + 2):
        return None
    columns = [np.ones(n), (p1 - p2)[lags:-1]]
    for lag in range(1, lags + 1):
        columns += list(changes[lags - lag : len(changes) - lag].T)
    design, target = np.column_stack(columns), changes[lags:]
    found, _, rank, _ = np.linalg.lstsq(design, target, rcond=None)
    rest = target - design @ found
    omega = np.asarray(rest.T @ rest / n, np.float64)
    alpha = found[1]
    psi = np.array([alpha[1], -alpha[0]])
    if rank < design.shape[1] or psi.sum() == 0 or np.linalg.det(omega) <= 0:
        return None
    shares = np.array([_shares(psi, omega, order) for order in ([0, 1], [1, 0])])
    gg, mid = psi / psi.sum(), shares.mean(axis=0)
    lead = np.abs(mid / mid[::-1] * gg[::-1] / gg)
    return PriceDiscovery(
        alpha,
        found[0],
        np.asarray(found[2:], np.float64),
        omega,
        gg,
        shares.min(axis=0),
        shares.max(axis=0),
        mid,
        lead / lead.sum(),
        n,
    )


def _shares(psi: Floats, omega: npt.NDArray[np.float64], order: list[int]) -> Floats:
    """Returns the information shares with the venues in `order`."""
    factor = np.linalg.cholesky(omega[np.ix_(order, order)])
    parts = (psi[order] @ factor) ** 2 / (psi @ omega @ psi)
    shares = np.empty(2)
    shares[order] = parts
    return shares
