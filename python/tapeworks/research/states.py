"""States of a market as vectors, their scaling, and the past states that are nearest to one.

    from tapeworks.research import states

    vectors = states.vectors_of(at, states.Quotes(...), states.Trades(...), tick)
    near = states.nearest(states.scaled(vectors), row=-1 + len(vectors))

A vector at time t is made of what had happened by t, its scaling of the vectors before it alone:
nothing of the future is in either.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tapeworks.errors import QueryError
from tapeworks.research.arrays import Floats, Integers, integers, rising, same_length

COMPONENTS = (
    "log_spread_ticks",
    "queue_imbalance",
    "queue_imbalance_tw_10s",
    "log_depth",
    "ofi_1s",
    "ofi_10s",
    "ofi_60s",
    "tfi_10s",
    "tfi_60s",
    "log_trades_10s",
    "log_messages_10s",
    "cancel_share_10s",
    "ret_1s_spreads",
    "ret_10s_spreads",
    "ret_60s_spreads",
    "log_rv_10s",
    "log_rv_60s",
    "burst_ratio",
)
"""The components of a vector, in their order."""

SECOND = 10**9
# Of a normal variable the standard deviation is so many times its median, and its mean, absolute
# deviation.
OF_MEDIAN, OF_MEAN = 1.4826, 1.2533
CLIP = 5.0


class Quotes(NamedTuple):
    """Best prices and sizes behind each change, in units of whatever scale."""

    ts: npt.ArrayLike
    bid: npt.ArrayLike
    bid_size: npt.ArrayLike
    ask: npt.ArrayLike
    ask_size: npt.ArrayLike


class Trades(NamedTuple):
    """Trades; `side` is 1 where the buyer took, -1 where the seller did, 0 where none tells."""

    ts: npt.ArrayLike
    size: npt.ArrayLike
    side: npt.ArrayLike


def vectors_of(
    at: npt.ArrayLike,
    quotes: Quotes,
    trades: Trades,
    tick: float,
    *,
    adds: npt.ArrayLike = (),
    cancels: npt.ArrayLike = (),
    messages: npt.ArrayLike | None = None,
) -> Floats:
    """Returns the vector of each time of `at`, as a row of `COMPONENTS`.

    `adds` and `cancels` are the times of orders that came and were cancelled, `messages` those of
    all messages, of the quotes unless given. A row is NaN where a side is empty, the market is
    locked or crossed, or no quote came yet.

    Raises:
        QueryError: times run back, or columns are not of one length.
    """
    moments, book = integers("at", at), _Book(quotes)
    done, size, side = (
        integers(f"trades.{name}", getattr(trades, name)) for name in Trades._fields
    )
    same_length(ts=done, size=size, side=side)
    came, gone = integers("adds", adds), integers("cancels", cancels)
    told = book.ts if messages is None else integers("messages", messages)
    for name, times in (("trades", done), ("adds", came), ("cancels", gone), ("messages", told)):
        rising(f"{name}.ts", times)
    now = book.last(moments)
    bought, sold = (np.where(side == sign, size, 0) for sign in (1, -1))
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = book.spread[now]

        def count(times: Integers, seconds: int) -> Integers:
            return _within(times, np.ones(len(times), np.int64), moments, seconds)

        def flow(seconds: int) -> Floats:
            buys, sells = (_within(done, each, moments, seconds) for each in (bought, sold))
            return np.where(buys + sells > 0, (buys - sells) / np.maximum(buys + sells, 1), 0.0)

        def variation(seconds: int) -> Floats:
            return np.log(tick / 2 + np.sqrt(book.squares_over(moments, seconds)))

        def change(seconds: int) -> Floats:
            before = book.last(moments - seconds * SECOND)
            moved = (book.mid2[now] - book.mid2[before]) / 2 / spread
            return np.where(book.is_sound[before] & (before >= 0), moved, 0.0)

        depth, orders = book.depth_over(moments, 60), count(came, 10) + count(gone, 10)
        fast, slow = count(told, 10), count(told, 60)
        columns = (
            np.log(spread / tick),
            book.imbalance[now],
            book.imbalance_over(moments, 10),
            np.log(book.size[now]),
            *(_within(book.ts, book.flow, moments, seconds) / depth for seconds in (1, 10, 60)),
            flow(10),
            flow(60),
            np.log1p(count(done, 10)),
            np.log1p(fast),
            np.where(orders > 0, count(gone, 10) / np.maximum(orders, 1), 0.5),
            *(change(seconds) for seconds in (1, 10, 60)),
            variation(10),
            variation(60),
            np.where(slow > 0, (fast / 10) / (np.maximum(slow, 1) / 60), 0.0),
        )
        found = np.column_stack(columns)
    found[(now < 0) | ~book.is_sound[now] | ~(spread > 0)] = np.nan
    return found


def scaled(vectors: npt.ArrayLike, window: int = 360, least: int = 120) -> Floats:
    """Returns vectors scaled by the median and spread of the `window` rows before each.

    (x - median) / (1.4826 MAD), within -5 and 5; where the MAD is 0, by 1.2533 times the mean
    absolute deviation, and 0 where that is 0, too. NaN with fewer than `least` rows before it.

    Raises:
        QueryError: it is no table of numbers.
    """
    rows = _table("vectors", vectors)
    made = np.full(rows.shape, np.nan)
    is_known = np.asarray(np.isfinite(rows).all(axis=1))
    for at in np.flatnonzero(is_known):
        begin = max(0, at - window)
        before = rows[begin:at][is_known[begin:at]]
        if len(before) < least:
            continue
        middle = np.median(before, axis=0)
        away = np.abs(before - middle)
        scale = OF_MEDIAN * np.median(away, axis=0)
        scale = np.where(scale > 0, scale, OF_MEAN * away.mean(axis=0))
        flat = scale == 0
        found = (rows[at] - middle) / np.where(flat, 1.0, scale)
        made[at] = np.clip(np.where(flat, 0.0, found), -CLIP, CLIP)
    return made


class NearStates(NamedTuple):
    """Past states by their distance, the nearest first; of equals the older one."""

    rows: Integers
    squared: Floats


def nearest(
    vectors: npt.ArrayLike, row: int, k: int = 50, *, until: int | None = None
) -> NearStates:
    """Returns the `k` rows before `until` (none: before `row`) that are nearest to `row`.

    Whoever looks at what followed those states leaves out the ones whose outcome was not known yet:
    of a horizon h, `until` is the first row later than t - h less the longest window, 60 s. Where
    that is 0 or less, there are none.

    Raises:
        QueryError: there is no such row, or it is no table of numbers.
    """
    rows = _table("vectors", vectors)
    if not 0 <= row < len(rows):
        raise QueryError(f"row: expected 0 to {len(rows) - 1}, got {row}")
    past = rows[: row if until is None else max(0, min(until, row))]
    squared = np.sum((past - rows[row]) ** 2, axis=1)
    known = np.flatnonzero(np.isfinite(squared))
    order = known[np.argsort(squared[known], kind="stable")][:k]
    return NearStates(order, squared[order])


class _Book:
    """Best prices as integers, what each change adds, and sums up to each."""

    def __init__(self, quotes: Quotes) -> None:
        self.ts, bid, bid_size, ask, ask_size = (
            integers(f"quotes.{name}", getattr(quotes, name)) for name in Quotes._fields
        )
        same_length(ts=self.ts, bid=bid, bid_size=bid_size, ask=ask, ask_size=ask_size)
        rising("quotes.ts", self.ts)
        if not len(self.ts):
            raise QueryError("quotes: expected at least one")
        self.is_sound = (bid_size > 0) & (ask_size > 0) & (bid <= ask)
        self.mid2, self.size = bid + ask, bid_size + ask_size
        self.spread = (ask - bid).astype(float)
        self.imbalance = np.where(
            self.is_sound, (bid_size - ask_size) / np.maximum(self.size, 1), np.nan
        )
        self.flow = np.zeros(len(bid), np.int64)
        self.flow[1:] = (
            np.where(bid[1:] >= bid[:-1], bid_size[1:], 0)
            - np.where(bid[1:] <= bid[:-1], bid_size[:-1], 0)
            - np.where(ask[1:] <= ask[:-1], ask_size[1:], 0)
            + np.where(ask[1:] >= ask[:-1], ask_size[:-1], 0)
        )
        both = self.is_sound[1:] & self.is_sound[:-1]
        moves = np.where(both, np.diff(self.mid2), 0)
        # What all moves are multiples of: squares of prices in 1e-9 are beyond 64 bits.
        self.step = int(np.gcd.reduce(moves)) or 1
        steps = moves // self.step
        if np.sum(steps.astype(np.float64) ** 2) >= 2.0**62:
            steps = steps.astype(object)
        self.steps2 = np.concatenate([[0], steps**2])

    def last(self, moments: Integers) -> Integers:
        """Returns the last row at or before each time; -1: there is none."""
        return np.searchsorted(self.ts, moments, "right") - 1

    def squares_over(self, moments: Integers, seconds: int) -> Floats:
        """Returns the sum of the squared moves of the mid."""
        steps = _within(self.ts, self.steps2, moments, seconds)
        return np.asarray(steps, np.float64) * float(self.step) ** 2 / 4

    def depth_over(self, moments: Integers, seconds: int) -> Floats:
        """Returns the mean size of a side behind each change, of the last one where none came."""
        changes = _within(self.ts, np.ones(len(self.ts), np.int64), moments, seconds)
        sizes = _within(self.ts, self.size, moments, seconds)
        return np.where(
            changes > 0, sizes / 2 / np.maximum(changes, 1), self.size[self.last(moments)] / 2
        )

    def imbalance_over(self, moments: Integers, seconds: int) -> Floats:
        """Returns the mean of the imbalance over the time in which it existed."""
        held = np.diff(self.ts)
        values = np.where(self.is_sound, self.imbalance, 0.0)
        area = np.concatenate([[0.0], np.cumsum(values[:-1] * held)])
        time = np.concatenate([[0], np.cumsum(np.where(self.is_sound[:-1], held, 0))])

        def up_to(ts: Integers) -> tuple[Floats, Floats]:
            row = self.last(ts)
            rest = np.where(row >= 0, ts - self.ts[row], 0)
            open_time = np.where(self.is_sound[row], rest, 0)
            inside = row >= 0
            return (
                np.where(inside, area[row] + values[row] * open_time, 0.0),
                np.where(inside, time[row] + open_time, 0),
            )

        (area_now, time_now), (area_then, time_then) = (
            up_to(moments),
            up_to(moments - seconds * SECOND),
        )
        return np.asarray((area_now - area_then) / (time_now - time_then))


def _within(times: Integers, values: Integers, moments: Integers, seconds: int) -> Integers:
    """Returns the sum of the values in (t - seconds, t] of each moment."""
    sums = np.concatenate([[0], np.cumsum(values)])
    ends = (np.searchsorted(times, ts, "right") for ts in (moments, moments - seconds * SECOND))
    now, then = (sums[end] for end in ends)
    return np.asarray(now - then)


def _table(name: str, values: npt.ArrayLike) -> Floats:
    rows = np.ascontiguousarray(values, dtype=np.float64)
    if rows.ndim != 2:
        raise QueryError(f"{name}: expected rows of vectors, got {rows.ndim} dimensions")
    return rows
