"""Notices what does not come: silent streams, silent connections, missing pings. Sans I/O.

Most streams are quiet at times, and their silence says nothing. The feed's `LivenessPolicy` says
which ones should speak; how often, a stream shows by itself: only a silence of many times its mean
interval, and never less than the policy says, is reported. All times are of the clock that only
rises: a step of the wall clock is no silence. Nor is what comes while the market is closed
(`Feed.is_trading`), or while it is not known which streams spoke (`Ingest.is_hearing`): then all
times begin anew when it opens, or is known again.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from tapeworks._core import Ingest
from tapeworks.feeds.base import Feed, LivenessPolicy
from tapeworks.feeds.connection import Connection

LEARNED_TIMES = 50.0
"""A stream is silent after so many of its mean intervals."""
LEARNED_MESSAGES = 100
"""Its interval is known after so many messages."""
REPLACE_PAUSE_S = 60.0
"""A silent stream has its connection replaced at most once in this time, per line; then doubling.
A line that needed none for as long again starts anew."""
REPLACE_PAUSE_MAX_S = 3600.0

_log = logging.getLogger("tapeworks.feeds")


@dataclass
class _StreamActivity:
    """What a connection carried of one stream, as far as `check` saw it."""

    frames: int
    first_at: float
    last_at: float


def idle_limit_s(
    policy: LivenessPolicy, frames: int, first_at: float, last_at: float
) -> float | None:
    """Returns after how long a stream counts as silent; none while that cannot be said."""
    if policy.idle_timeout_s is None:
        return None
    if not policy.learned:
        return policy.idle_timeout_s
    if frames < LEARNED_MESSAGES:
        return None
    return max(policy.idle_timeout_s, LEARNED_TIMES * (last_at - first_at) / (frames - 1))


class Watchdog:
    """Checks all connections of one feed, about once a second."""

    def __init__(self, feed: Feed, ingest: Ingest) -> None:
        self._feed = feed
        self._ingest = ingest
        self._activity: dict[Connection, dict[str, _StreamActivity]] = {}
        self._replace_due: dict[str, tuple[float, float]] = {}
        self.excused: dict[str, float] = {}
        """When the silence of a stream was last without a meaning."""

    def check(self, connections: Sequence[Connection], now: float, wall_ns: int) -> None:
        """Drops dead connections, reports silent streams, and has their connections replaced."""
        live = [c for c in connections if c.subscribed and not c.closed]
        self._excuse(live, now, wall_ns)
        self._activity = {c: self._look(c, self._activity.get(c, {}), now) for c in live}
        heard: dict[str, float] = {}
        for streams in self._activity.values():
            for stream, activity in streams.items():
                heard[stream] = max(heard.get(stream, activity.last_at), activity.last_at)
        for connection in live:
            if not self._check_connection(connection, now, wall_ns):
                self._check_streams(connection, heard, now, wall_ns)

    def _look(
        self, connection: Connection, known: dict[str, _StreamActivity], now: float
    ) -> dict[str, _StreamActivity]:
        """Returns what each stream of `connection` that ever spoke has carried."""
        for stream, frames, _, _ in self._ingest.activity(connection.number):
            activity = known.get(stream)
            if activity is None and frames:
                known[stream] = _StreamActivity(frames, now, now)
            elif activity is not None and frames != activity.frames:
                activity.frames, activity.last_at = frames, now
        return known

    def _excuse(self, live: Sequence[Connection], now: float, wall_ns: int) -> None:
        """Notes which streams need not speak at the moment."""
        is_hearing = self._ingest.is_hearing()
        for stream in {stream for connection in live for stream in connection.line.streams}:
            # What comes now happened so long ago.
            told_ns = wall_ns - int(self._feed.delay_of(self._feed.channel(stream)) * 1e9)
            if not (is_hearing and self._feed.is_trading(stream, told_ns)):
                self.excused[stream] = now

    def _excused_at(self, stream: str) -> float:
        return self.excused.get(stream, 0.0)

    def _check_connection(self, connection: Connection, now: float, wall_ns: int) -> bool:
        """Drops a connection that is dead; says whether it did."""
        rules = self._feed.rules
        if not connection.line.streams:
            # What only answers need not speak.
            return False
        if rules.ping_s is not None and now - connection.pinged_at > rules.ping_s:
            connection.kill(f"no ping for {rules.ping_s:.0f} s")
            return True
        # A connection of nothing but streams that may be quiet is judged by its pings alone. Where
        # the venue sends none, any word counts, and there is nothing else to tell life from death.
        speaks = rules.ping_s is None or any(
            self._feed.liveness(s).idle_timeout_s is not None for s in connection.line.streams
        )
        # It need not speak while the market of all its streams is closed.
        excused = min(map(self._excused_at, connection.line.streams), default=0.0)
        quiet_s = now - max(connection.heard_at, connection.opened_at, excused)
        if not speaks or quiet_s <= rules.idle_timeout_s:
            return False
        since_ns = connection.heard_ns or wall_ns - int(quiet_s * 1e9)
        self._ingest.silent_connection(connection.number, since_ns, wall_ns)
        connection.kill(f"silent for {quiet_s:.0f} s")
        return True

    def _check_streams(
        self, connection: Connection, heard: dict[str, float], now: float, wall_ns: int
    ) -> None:
        streams = self._activity[connection]
        for stream in connection.line.streams:
            policy, activity = self._feed.liveness(stream), streams.get(stream)
            if activity is None:
                limit_s, since = policy.first_message_timeout_s, connection.subscribed_at
            else:
                limit_s = idle_limit_s(policy, activity.frames, activity.first_at, activity.last_at)
                since = activity.last_at
            is_excused = self._excused_at(stream) > since
            since = max(since, self._excused_at(stream))
            if limit_s is None or now - since <= limit_s or stream in connection.failed:
                connection.alarmed.discard(stream)
                continue
            self._report(connection, stream, "silent" if activity else "never spoke", now - since)
            # Where a copy of the stream is alive on another connection, nothing was lost.
            if now - heard.get(stream, since) > limit_s:
                since_ns = wall_ns - int((now - since) * 1e9)
                self._ingest.silent_stream(
                    connection.number, stream, wall_ns, since_ns, is_exact=is_excused
                )
            self._replace(connection, stream, now)

    def _report(self, connection: Connection, stream: str, what: str, quiet_s: float) -> None:
        """Logs once that a stream of a connection is silent."""
        if stream in connection.alarmed:
            return
        connection.alarmed.add(stream)
        _log.warning(
            "stream %s line=%s connection=%d stream=%s quiet_s=%.0f",
            what,
            connection.line.name,
            connection.number,
            stream,
            quiet_s,
        )

    def _replace(self, connection: Connection, stream: str, now: float) -> None:
        name = connection.line.name
        due, pause_s = self._replace_due.get(name, (now, REPLACE_PAUSE_S))
        if now < due or connection.replace_reason:
            return
        if now >= due + pause_s:
            pause_s = REPLACE_PAUSE_S
        self._replace_due[name] = (now + pause_s, min(pause_s * 2, REPLACE_PAUSE_MAX_S))
        connection.replace(f"{stream} is silent")
