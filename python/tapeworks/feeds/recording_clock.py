"""Receive times that no step of the host's clock reaches, and what is to be said of such steps."""

import logging

from tapeworks._core import Ingest
from tapeworks.feeds.base import Clock

_log = logging.getLogger("tapeworks.feeds")


class RecordingClock(Clock):
    """The time of this host, and receive times that no step of its clock reaches."""

    def __init__(self, ingest: Ingest) -> None:
        self._ingest = ingest

    def wall_ns(self) -> int:
        """Returns the receive time of this moment: it never falls."""
        return self._ingest.now()


def log_clock_steps(ingest: Ingest, *, told: bool) -> bool:
    """Logs steps of the wall clock, and once a normalized tape that is given up.

    `told` says whether that was logged; returns whether it is by now.
    """
    for ts, wall, suspect, moved in ingest.take_clock_steps():
        _log.warning(
            "the host's clock and the receive times differ off_s=%.3f suspect=%s moved_s=%.3f",
            (wall - ts) / 1e9,
            suspect,
            moved / 1e9,
        )
    degraded = ingest.degraded()
    if degraded and not told:
        _log.error(
            "the normalized tape cannot be written; recording goes on to the raw tape alone; "
            "stop, run `tape repair`, and it is normalized from there: %s",
            degraded,
        )
    return bool(degraded)
