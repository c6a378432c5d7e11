"""Limits towards a venue: pace of messages, new connections, back-off, request weight. Sans I/O.

Every class is told the time in seconds that only rise, and answers with the seconds to wait.
"""

import bisect
import random


class RateLimiter:
    """At most `count` events in any window of `window_s` seconds."""

    def __init__(self, count: int, window_s: float) -> None:
        self._count = count
        self._window_s = window_s
        self._taken: list[float] = []

    def take(self, now: float) -> float:
        """Takes the next free moment, and returns how long to wait for it."""
        self._forget(now)
        moment = now
        if len(self._taken) >= self._count:
            moment = max(now, self._taken[-self._count] + self._window_s)
        bisect.insort(self._taken, moment)
        return moment - now

    def try_take(self, now: float) -> bool:
        """Takes this very moment if it is free; says whether it was."""
        self._forget(now)
        if len(self._taken) >= self._count:
            return False
        bisect.insort(self._taken, now)
        return True

    def spend(self, now: float) -> None:
        """Counts an event that cannot wait."""
        self._forget(now)
        bisect.insort(self._taken, now)

    def _forget(self, now: float) -> None:
        del self._taken[: bisect.bisect_right(self._taken, now - self._window_s)]


class LogSampler:
    """Counts events of one sort and says which are logged: the first ten, then 100, 1000, ..."""

    def __init__(self) -> None:
        self.count = 0

    def note(self) -> bool:
        """Counts one event; returns whether it is to be logged."""
        self.count += 1
        return self.count <= 10 or str(self.count).strip("0") == "1"


class Backoff:
    """Delays that double from `first_s` to `max_s`, each with jitter of half to all of it."""

    def __init__(self, first_s: float, max_s: float, chance: random.Random) -> None:
        self._first_s = first_s
        self._max_s = max_s
        self._chance = chance
        self.failures = 0
        self._credited: float | None = None

    def delay(self) -> float:
        """Counts one failure and returns how long to wait before the next attempt."""
        whole = min(self._max_s, self._first_s * 2.0 ** min(self.failures, 30))
        self.failures += 1
        return whole * (0.5 + self._chance.random() / 2)

    def lived(self, opened_at: float, now: float, reset_s: float) -> None:
        """Starts anew if the connection opened then lived long enough: once for each connection.

        One that is kept while its successors are cut says nothing of how these fare.
        """
        if opened_at != self._credited and now - opened_at > reset_s:
            self.failures = 0
        self._credited = opened_at


class WeightBudget:
    """Says when a request of some weight may be made.

    The venue counts weight in fixed windows and tells the sum of all behind the same address in
    every answer. What this process used itself is held to its share of the limit, the sum to the
    whole of it: a busy neighbour takes what it takes, and not our share as well. Within a window,
    requests are spread: a bucket of `burst` weight refills evenly, so that many snapshots at once
    do not meet the limit at its start.
    """

    def __init__(
        self, limit: int, *, share: float = 0.5, window_s: int = 60, burst: int = 0
    ) -> None:
        self._limit = limit
        self._share = share
        self._window_s = window_s
        self._burst = burst or max(250, int(limit * share) // 2)
        self._window = -1
        self._own = 0
        self._told = 0
        self._tokens = float(self._burst)
        self._refilled = 0.0
        self._banned_until = 0.0

    @property
    def used(self) -> int:
        """The weight used in the current window by all behind this address, as far as known."""
        return max(self._own, self._told)

    @property
    def limit(self) -> int:
        """The venue's limit per window."""
        return self._limit

    def delay(self, weight: int, now: float, wall_s: float) -> float:
        """Returns how long to wait before a request of `weight`; 0 if it may be made now."""
        if now < self._banned_until:
            return self._banned_until - now
        self._roll(wall_s)
        # A single request above the share is still made, alone in its window.
        beyond_share = self._own and self._own + weight > int(self._limit * self._share)
        beyond_limit = self._told and self.used + weight > self._limit
        if beyond_share or beyond_limit:
            # A little past the border: the venue's clock and ours differ.
            return self._window_s - wall_s % self._window_s + 0.5
        self._refill(now)
        lacking = min(weight, self._burst) - self._tokens
        return max(0.0, lacking / self._rate())

    def spend(self, weight: int, now: float, wall_s: float) -> None:
        """Counts a request that is being made."""
        self._roll(wall_s)
        self._refill(now)
        self._own += weight
        self._told += weight if self._told else 0
        self._tokens -= weight

    def told(self, used: int, wall_s: float) -> None:
        """Takes in the weight that the venue says was used in this window.

        A sum above the limit is not believed: who is over it is refused, and so told.
        """
        self._roll(wall_s)
        self._told = max(self._told, min(used, self._limit))

    def change_limit(self, limit: int) -> None:
        """Takes in the venue's limit per window; one of nothing is no limit that can be kept."""
        if limit > 0:
            self._limit = limit

    def ban(self, retry_after_s: float, now: float) -> None:
        """Allows no request at all for `retry_after_s`."""
        self._banned_until = max(self._banned_until, now + retry_after_s)

    def banned_s(self, now: float) -> float:
        """Returns how much longer no request is allowed."""
        return max(0.0, self._banned_until - now)

    def _rate(self) -> float:
        return self._limit * self._share / self._window_s

    def _roll(self, wall_s: float) -> None:
        window = int(wall_s // self._window_s)
        if window != self._window:
            self._window = window
            self._own = self._told = 0

    def _refill(self, now: float) -> None:
        if self._refilled:
            gained = (now - self._refilled) * self._rate()
            self._tokens = min(float(self._burst), self._tokens + gained)
        self._refilled = now
