"""By how much the events of a source came late, and what of the venue's time is recorded by that.

Of a source that is sold a quarter of an hour late, what was received in a range happened a quarter
of an hour before it. The core measures how late events are, and notes least and most of it.
"""

from dataclasses import dataclass, field
from typing import NamedTuple


class Delay(NamedTuple):
    """What was noted of one moment; in ns."""

    ts_recv: int
    least: int
    most: int
    is_certain: bool
    """Whether enough events told it."""


@dataclass
class Delays:
    """What was noted in one recording, in order of receipt."""

    noted: list[Delay] = field(default_factory=list)
    before: int = 0
    """By how much events came late at most at the end of the recording before it."""

    def start(self, ts: int) -> int:
        """Returns from when on all that happened was received after `ts`."""
        known = [delay for delay in self.noted if delay.is_certain]
        return ts - min((delay.least for delay in _around(known, ts)), default=0)

    def end(self, ts: int) -> int:
        """Returns up to when all that happened was received before `ts`."""
        return ts - max((delay.most for delay in _around(self.noted, ts)), default=self.before)

    @property
    def least(self) -> int:
        """By how much events came late at least, as far as enough of them told it."""
        return min((delay.least for delay in self.noted if delay.is_certain), default=0)

    @property
    def most(self) -> int:
        """By how much events came late at most, at the end."""
        return self.noted[-1].most if self.noted else self.before


def _around(delays: list[Delay], ts: int) -> list[Delay]:
    """Returns what was noted last by `ts`, and first behind it."""
    at = sum(delay.ts_recv <= ts for delay in delays)
    return delays[max(at - 1, 0) : at + 1]
