"""Receive times of a capture: they never fall, and follow no wrong stamp of its lines.

As for a recorder: a clock that was set back is not followed. Receive times go on from where they
are, at seven eighths, suspect until the stamps have caught up with them.
"""

from collections.abc import Callable
from statistics import median_low
from typing import NamedTuple

APART_NS_MAX = 60_000_000_000
"""Lines of several connections are out of order by no more than that, and captures that follow each
other overlap by no more."""
TRUSTED_NS = 250_000_000
"""A line that is moved by more is of suspect receive time."""
SLEW = 8


class Receipt(NamedTuple):
    """When a line was received, as far as is known."""

    ts: int
    is_suspect: bool = False
    wall: int | None = None
    """The stamp of the line, where the clock of the capture was found to step, or to be right."""


class CaptureClock:
    """Makes receive times of the stamps of one file."""

    def __init__(self) -> None:
        self.ts = 0
        """The last receive time; 0 before the first line."""
        self._stamp = 0
        """The newest stamp that was believed since the clock was set last."""
        self._behind = 0
        """By how much the clock of the capture is behind the receive times, since it was set."""

    def receipt(self, stamp: int, later: Callable[[], list[int]]) -> Receipt:
        """Returns the receipt of a line with this stamp; `later` gives those of lines behind it.

        A stamp is not believed where most of those behind it contradict it: the line was received
        when its neighbours were. A clock is set back where those behind it are set back as well.
        """
        if self.ts and abs(stamp - self._stamp) <= APART_NS_MAX:
            return self._next(stamp)
        ahead = later()
        usual = median_low(ahead) if ahead else stamp
        if not self.ts and usual < stamp - APART_NS_MAX:
            # The first line of the file.
            near = next(one for one in ahead if one <= usual + APART_NS_MAX)
            self.ts = self._stamp = near
            return Receipt(near, is_suspect=True)
        if self.ts and stamp > self._stamp + APART_NS_MAX and usual < stamp - APART_NS_MAX:
            return Receipt(self.ts, is_suspect=True)
        if stamp < self._stamp - APART_NS_MAX:
            if not ahead or usual >= self._stamp - APART_NS_MAX:
                return Receipt(self.ts, is_suspect=True)
            self._stamp, self._behind = stamp, self.ts - stamp
            return Receipt(self.ts, is_suspect=True, wall=stamp)
        return self._next(stamp)

    def follow(self, ts: int) -> int:
        """Returns the receive time of a line without a stamp, whose event has the time `ts`."""
        self.ts = max(self.ts, ts)
        self._stamp = max(self._stamp, ts)
        return self.ts

    def _next(self, stamp: int) -> Receipt:
        was_behind = self._behind > 0
        self._behind = max(0, self._behind - max(0, stamp - self._stamp) // SLEW)
        if stamp >= self.ts:
            self._behind = 0
        self._stamp = max(self._stamp, stamp)
        self.ts = max(self.ts, stamp + self._behind)
        if was_behind and not self._behind:
            return Receipt(self.ts, wall=stamp)
        is_suspect = self._behind > 0 or self.ts - stamp > TRUSTED_NS
        return Receipt(self.ts, is_suspect)
