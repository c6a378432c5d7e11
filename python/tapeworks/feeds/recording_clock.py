"""Receive times that no step of the host's clock reaches, and what is to be said of such steps."""

import logging
import time
from datetime import UTC, datetime, timedelta

from tapeworks._core import Ingest
from tapeworks.feeds.base import Clock

EARLIEST = datetime(2020, 1, 1, tzinfo=UTC)
"""A clock that says less was never set: that of a board without a battery begins with 1970."""
BEHIND_MAX = timedelta(days=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_log = logging.getLogger("tapeworks.feeds")


class RecordingClock(Clock):
    """The time of this host, and receive times that no step of its clock reaches."""

    def __init__(self, ingest: Ingest) -> None:
        self._ingest = ingest

    def wall_ns(self) -> int:
        """Returns the receive time of this moment: it never falls."""
        return self._ingest.now()


def check_clock(ingest: Ingest) -> None:
    """Warns of a wall clock that must be wrong when a recording starts."""
    wall, receipt = _utc(time.time_ns()), _utc(ingest.now())
    if wall < EARLIEST or receipt - wall > BEHIND_MAX:
        _log.warning(
            "the host's clock must be wrong: it says %s, receive times go on from %s; set it and "
            "start again",
            f"{wall:%Y-%m-%dT%H:%M:%SZ}",
            f"{receipt:%Y-%m-%dT%H:%M:%SZ}",
        )


def _utc(ns: int) -> datetime:
    return EPOCH + timedelta(microseconds=ns // 1_000)


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
