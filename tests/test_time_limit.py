"""The limit of a call of the user's code, at its edges."""

import signal
import sys
import time

import pytest

from tapeworks.processors import time_limit
from tapeworks.processors.time_limit import CallTimeoutError, ended_after


class Ending:
    """Sends the signal before a line of what ends a call, once its time is over."""

    def __init__(self, place, seen):
        self.place, self.seen, self.is_over = place, seen, False
        self.code = time_limit._ended_after.__wrapped__.__code__

    def trace(self, frame, *_):
        return self.at_line if frame.f_code is self.code else None

    def at_line(self, frame, event, _):
        if event == "line" and self.is_over:
            self.seen.append(frame.f_lineno)
            if len(self.seen) == self.place + 1:
                time.sleep(0.02)
                signal.raise_signal(signal.SIGALRM)
        return self.at_line


def test_a_signal_at_the_very_end_of_a_call_leaves_nothing_behind():
    # The time is over while the call returns: the signal comes before each line that ends it in
    # turn. Afterwards no timer runs, and whatever stood for the signal before stands again.
    before = signal.getsignal(signal.SIGALRM)
    outcomes = []
    for place in range(8):
        seen: list[int] = []
        ending = Ending(place, seen)
        sys.settrace(ending.trace)
        try:
            with ended_after(0.01):
                ending.is_over = True
            outcomes.append("returned")
        except CallTimeoutError:
            outcomes.append("late")
        finally:
            sys.settrace(None)
            left, handler = signal.getitimer(signal.ITIMER_REAL), signal.getsignal(signal.SIGALRM)
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert (left, handler) == ((0.0, 0.0), before), (place, seen)
    assert set(outcomes) == {"late", "returned"}


def test_a_call_that_takes_longer_is_ended():
    with pytest.raises(CallTimeoutError, match=r"did not return within 0\.05 s"), ended_after(0.05):
        time.sleep(10)
