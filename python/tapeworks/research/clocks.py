"""Delays, and how far two clocks are apart."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tapeworks import _core
from tapeworks.errors import QueryError
from tapeworks.research.arrays import Floats, Integers, integers, rising, same_length


class ClockLine(NamedTuple):
    """The line under all delays: what a drift of the clocks, and the least delay, explain."""

    slope: float
    """Relative drift: ns of delay a ns of time."""
    intercept: float
    """Its height at the first time, ns: offset and least delay together."""
    start: int
    """The first time, ns."""
    corners: int
    """Corners of the lower hull of the delays."""

    def excess(self, ts_event: npt.ArrayLike, ts_recv: npt.ArrayLike) -> Floats:
        """Returns by how much each delay is above the line, ns: without offset and drift."""
        sent, received = integers("ts_event", ts_event), integers("ts_recv", ts_recv)
        line = self.slope * (sent - self.start) + self.intercept
        return (received - sent) - line


def clock_line(ts_event: npt.ArrayLike, ts_recv: npt.ArrayLike) -> ClockLine | None:
    """Returns the line; None of fewer than two times.

    One-way delays cannot tell the offset of the clocks from the least delay.

    Raises:
        QueryError: times run back.
    """
    sent, received = integers("ts_event", ts_event), integers("ts_recv", ts_recv)
    same_length(ts_event=sent, ts_recv=received)
    rising("ts_event", sent)
    found = _core.delay_line(sent, received - sent)
    return None if found is None else ClockLine(found[0], found[1], int(sent[0]), found[2])


class Exchange(NamedTuple):
    """What a request and its answer say of two clocks."""

    offset: float
    """By how much the other clock is ahead, ns."""
    delay: int
    """Time on the way, there and back, ns: half of it bounds the error."""
    row: int


def best_exchange(
    sent: npt.ArrayLike, taken: npt.ArrayLike, answered: npt.ArrayLike, received: npt.ArrayLike
) -> Exchange:
    """Returns the exchange with the least delay, as RFC 5905 chooses it of its last eight.

    `sent` and `received` are of this clock, `taken` and `answered` of the other.

    Raises:
        QueryError: there is none, or columns are not of one length.
    """
    named = {"sent": sent, "taken": taken, "answered": answered, "received": received}
    times = {name: integers(name, values) for name, values in named.items()}
    if not same_length(**times):
        raise QueryError("expected an exchange or more")
    there, back = times["taken"] - times["sent"], times["answered"] - times["received"]
    delay: Integers = there - back
    row = int(np.argmin(delay))
    return Exchange(float(there[row] + back[row]) / 2, int(delay[row]), row)


def nearest_rank(values: npt.ArrayLike, *shares: float) -> list[float]:
    """Returns quantiles that are values themselves: the smallest that so large a share is up to.

    Raises:
        QueryError: there is no value.
    """
    ranked = np.sort(np.asarray(values))
    if not len(ranked):
        raise QueryError("expected a value or more")
    ranks = [max(1, int(np.ceil(round(share * len(ranked), 9)))) for share in shares]
    return [ranked[rank - 1].item() for rank in ranks]
