"""Notices what does not come: silent streams, silent connections, missing pings. Sans I/O.

Most streams are quiet at times, and their silence says nothing. The feed's table says which ones
should speak; how often, a stream shows by itself: only a silence of many times its mean interval,
and never less than the table says, is reported.
"""

import logging
from collections.abc import Sequence

from tapeworks._core import Ingest
from tapeworks.feeds.base import Feed, Speech
from tapeworks.feeds.connection import Connection

LEARNED_TIMES = 50.0
"""A stream is silent after so many of its mean intervals."""
LEARNED_MESSAGES = 100
"""Its pace is known after so many messages."""
REPLACE_PAUSE_S = 60.0
"""A silent stream makes its connection be replaced at most so often, per line; then doubling."""
REPLACE_PAUSE_MAX_S = 3600.0

_log = logging.getLogger("tapeworks.feeds")


def silence_limit_s(speech: Speech, frames: int, first_ns: int, last_ns: int) -> float | None:
    """Returns after how long a stream counts as silent; none while that cannot be said."""
    if speech.silence_s is None:
        return None
    if not speech.learned:
        return speech.silence_s
    if frames < LEARNED_MESSAGES:
        return None
    return max(speech.silence_s, LEARNED_TIMES * (last_ns - first_ns) / 1e9 / (frames - 1))


class Watchdog:
    """Checks all connections of one feed, about once a second."""

    def __init__(self, feed: Feed, ingest: Ingest) -> None:
        self._feed = feed
        self._ingest = ingest
        self._replace_due: dict[str, tuple[float, float]] = {}

    def check(self, connections: Sequence[Connection], now: float, wall_ns: int) -> None:
        """Drops dead connections, reports silent streams, and has their connections replaced."""
        live = [c for c in connections if c.subscribed and not c.closed]
        heard = self._heard(live)
        for connection in live:
            if not self._check_connection(connection, now, wall_ns):
                self._check_streams(connection, heard, now, wall_ns)

    def _heard(self, live: Sequence[Connection]) -> dict[str, int]:
        """Returns when each stream was last heard, on any connection."""
        heard: dict[str, int] = {}
        for connection in live:
            for stream, _, _, last in self._ingest.activity(connection.number):
                heard[stream] = max(heard.get(stream, 0), last)
        return heard

    def _check_connection(self, connection: Connection, now: float, wall_ns: int) -> bool:
        """Drops a connection that is dead; says whether it did."""
        rules = self._feed.rules
        if rules.ping_s is not None and now - connection.pinged_at > rules.ping_s:
            connection.kill(f"no ping for {rules.ping_s:.0f} s")
            return True
        # A connection of nothing but streams that may be quiet is judged by its pings alone. Where
        # the venue sends none, any word counts, and there is nothing else to tell life from death.
        speaks = rules.ping_s is None or any(
            self._feed.speech(s).silence_s is not None for s in connection.line.streams
        )
        opened_ns = wall_ns - int((now - connection.opened_at) * 1e9)
        quiet_s = (wall_ns - max(connection.heard_ns, opened_ns)) / 1e9
        if not speaks or quiet_s <= rules.silence_s:
            return False
        self._ingest.silent_connection(connection.number, connection.heard_ns or opened_ns, wall_ns)
        connection.kill(f"silent for {quiet_s:.0f} s")
        return True

    def _check_streams(
        self, connection: Connection, heard: dict[str, int], now: float, wall_ns: int
    ) -> None:
        for stream, frames, first, last in self._ingest.activity(connection.number):
            speech = self._feed.speech(stream)
            if frames == 0:
                self._check_first(connection, stream, speech, now)
                continue
            limit_s = silence_limit_s(speech, frames, first, last)
            if limit_s is None or (wall_ns - last) / 1e9 <= limit_s:
                connection.alarmed.discard(stream)
                continue
            if stream in connection.alarmed:
                continue
            connection.alarmed.add(stream)
            _log.warning(
                "silent stream line=%s connection=%d stream=%s quiet_s=%.0f limit_s=%.0f",
                connection.line.name,
                connection.number,
                stream,
                (wall_ns - last) / 1e9,
                limit_s,
            )
            # Where a copy of the stream is alive on another connection, nothing was lost.
            if (wall_ns - heard[stream]) / 1e9 > limit_s:
                self._ingest.silent_stream(connection.number, stream, wall_ns)
            self._replace(connection, stream, now)

    def _check_first(self, connection: Connection, stream: str, speech: Speech, now: float) -> None:
        is_due = speech.first_s is not None and now - connection.opened_at > speech.first_s
        if not is_due or stream in connection.alarmed or stream in connection.failed:
            return
        connection.alarmed.add(stream)
        _log.warning(
            "stream never spoke line=%s connection=%d stream=%s first_s=%.0f",
            connection.line.name,
            connection.number,
            stream,
            speech.first_s,
        )

    def _replace(self, connection: Connection, stream: str, now: float) -> None:
        name = connection.line.name
        due, pause_s = self._replace_due.get(name, (0.0, REPLACE_PAUSE_S))
        if now >= due:
            self._replace_due[name] = (now + pause_s, min(pause_s * 2, REPLACE_PAUSE_MAX_S))
            connection.replace(f"{stream} is silent")
