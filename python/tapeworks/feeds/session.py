"""The recorder: holds a feed's connections and puts all that they carry on the raw tape.

One task holds each connection, two make the requests, one watches. A connection that should be
replaced is closed only when its successor carries the same streams, so that a planned rotation
loses nothing. Whatever could not be received is a marker on the raw tape.
"""

import asyncio
import contextlib
import json
import logging
import os
import random
import signal
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from picows import WSError

from tapeworks import stopping
from tapeworks._core import Ingest
from tapeworks.config import redact
from tapeworks.durable import replace_file
from tapeworks.errors import FeedError, TapeworksError, VenueError
from tapeworks.feeds.backfill import Backfill
from tapeworks.feeds.base import Clock, Feed, FeedConfig, Line, build, group_lines
from tapeworks.feeds.books import BookRequests
from tapeworks.feeds.connection import Connection
from tapeworks.feeds.guard import guard
from tapeworks.feeds.limits import Backoff, RateLimiter
from tapeworks.feeds.notes import take_notes, times_of
from tapeworks.feeds.opening import open_feed
from tapeworks.feeds.outcome import Outcome, Tally
from tapeworks.feeds.python import PythonFeed
from tapeworks.feeds.recording_clock import RecordingClock, check_clock, log_clock_steps
from tapeworks.feeds.rest import Requests, tls_context
from tapeworks.feeds.watchdog import Watchdog
from tapeworks.heartbeat import BEAT_S, beat
from tapeworks.hot_path import Aside, prepare
from tapeworks.registry import load_name
from tapeworks.source_symbols import KeptDefinitions
from tapeworks.stage_times import Told, write_times
from tapeworks.tape import TapeConfig
from tapeworks.topics import RAW

_TICK_S = 0.1
_CHECK_S = 1.0
# Frames wait for nothing else that runs here.
_SLICE_US = 100
_GRACE_S = 1.0
"""After a successor carries all, the old connection is kept so long: it may lag behind."""
_RECENT_S = 5.0
_CONNECTIONS_MAX = 60_000

_log = logging.getLogger("tapeworks.feeds")


class Session:
    """Runs one feed until it is told to stop."""

    def __init__(
        self,
        feed: Feed,
        ingest: Ingest,
        *,
        clock: Clock | None = None,
        chance: random.Random | None = None,
        report: Callable[[Mapping[str, Any]], None] | None = None,
        data: Path | None = None,
    ) -> None:
        self.feed = feed
        self.ingest = ingest
        self.reconnects = 0
        self.rotations = 0
        self._clock = clock or RecordingClock(ingest)
        self._chance = chance or random.Random()
        self._context = tls_context(feed)
        stops = isinstance(feed, PythonFeed) and feed.config.stop_on_error
        self._errors = guard(feed, self._fail if stops else None)
        self._watchdog = Watchdog(feed, ingest)
        self._tally = Tally(feed, ingest, self._watchdog.excused)
        self._connections: dict[int, Connection] = {}
        self._connect: Callable[..., Connection] = load_name(feed.connection)
        self._connects = RateLimiter(feed.rules.connects, feed.rules.connects_window_s)
        self._requests = Requests(feed, ingest, self.flush, self._clock, self._context)
        self._books = BookRequests(feed, ingest, self._requests)
        self.backfill = Backfill(feed, ingest, self._requests, self._clock)
        self._report = report
        self._data = data
        self._kept = KeptDefinitions(data or Path(), feed.source)
        self._aside = Aside()
        self._refused = self._degraded = False
        self.trouble = ""
        """Why there is no connection; none while there is one."""
        self._failure: Exception | None = None
        self._failed = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Records until `stop` is set; then closes in good order.

        Raises:
            VenueError: the venue refuses what is asked for, such as a symbol that it does not know.
            FeedError: the feed's rules failed, and it is set to end the recorder then.
            TapeError: the tape cannot be written for good.
        """
        try:
            self.ingest.begin_subscriptions(self._clock.wall_ns(), list(self.feed.delays.items()))
            async with asyncio.TaskGroup() as group:
                waits = [group.create_task(event.wait()) for event in (stop, self._failed)]
                opening = group.create_task(self._opening())
                # A venue that does not answer must not keep the recorder from stopping.
                await asyncio.wait([opening, *waits], return_when=asyncio.FIRST_COMPLETED)
                tasks = [opening]
                if opening.done() and not opening.cancelled() and opening.exception() is None:
                    tasks += self._start(group)
                    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                for task in tasks + waits:
                    task.cancel()
        except* Exception as errors:
            # Raised from here, it would come out in a group once more.
            self._failure = self._failure or errors.exceptions[0]
        finally:
            await self._close()
        if self._failure is not None:
            raise self._failure

    def _start(self, group: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        """Starts what runs until the end."""
        tasks = [
            group.create_task(self._hold(line, copy))
            for line in self._lines()
            for copy in range(line.copies)
        ]
        tasks += [group.create_task(self._requests.work()) for _ in range(2)]
        return [*tasks, group.create_task(self._watch())]

    def _lines(self) -> list[Line]:
        """Returns the connections to hold, whose streams are what is asked for."""
        try:
            lines = group_lines(self.feed.lines())
        except Exception as error:
            raise FeedError(f"{self.feed.source}: the feed's lines() failed: {error!r}") from error
        for line in lines:
            self._tally.ask(line.streams)
        return lines

    def flush(self) -> None:
        """Publishes what is pending. A tape that is lost for good ends the session."""
        try:
            self.ingest.flush()
        except (TapeworksError, OSError) as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._failure = self._failure or error
        self._failed.set()

    def status(self) -> dict[str, Any]:
        """Returns counters and states, for the status screen."""
        now = self._clock.now()
        stats, live = self.ingest.stats(), list(self._connections.values())
        trouble = self.trouble or self._requests.last_failure or self._errors.last
        return {
            "source": self.feed.source,
            "pid": os.getpid(),
            "ts": time.time_ns(),
            **stats,
            "degraded": self.ingest.degraded(),
            "outcome": self._tally.outcome(live, now, stats, trouble).as_dict(),
            "feed_errors": dict(self._errors.counts),
            "latency_ns": {
                name: self.ingest.latency(quantile)
                for name, quantile in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
            },
            "trouble": self.trouble,
            "reconnects": self.reconnects,
            "rotations": self.rotations,
            "requests": self._requests.made,
            "requests_failed": self._requests.failed,
            "requests_cut": self._requests.cut,
            "gaps_filled": self.backfill.filled,
            "gaps_not_filled": self.backfill.failed,
            "request_trouble": self._requests.last_failure,
            "request_weight": [self.feed.budget.used, self.feed.budget.limit],
            "banned_s": round(self.feed.budget.banned_s(now), 1),
            "unsynchronised": self.ingest.needs_snapshot(),
            "books_unverified": [
                symbol
                for symbol in self.feed.books()
                if self.ingest.book_state(symbol) != "continuous"
            ],
            "connections": [
                {
                    "number": connection.number,
                    "line": connection.line.name,
                    "age_s": round(now - connection.opened_at, 1),
                    "quiet_s": round(now - connection.heard_at, 1) if connection.heard_ns else None,
                    "unknown_frames": connection.unknown_frames.count,
                    "streams": len(connection.line.streams),
                    "failed": connection.failed,
                    "silent": sorted(connection.alarmed),
                }
                for connection in live
            ],
        }

    async def _opening(self) -> None:
        """Fetches the definitions before the first frame, if the venue answers in time."""
        if unknown := await open_feed(self.feed, self._requests):
            self._tally.refuse(unknown, self.feed.without(unknown))

    async def _hold(self, line: Line, copy: int) -> None:
        """Keeps one connection of `line` open."""
        rules = self.feed.rules
        backoff = Backoff(rules.backoff_s, rules.backoff_max_s, self._chance)
        current = await self._opened(line, backoff)
        # Copies are replaced at different times, and so are the lines of a large feed.
        age_s = rules.age_s * (1 - 0.5 * copy / line.copies) * (1 - 0.05 * self._chance.random())
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(current.opened_at + age_s - self._clock.now()):
                    await current.changed.wait()
            backoff.lived(current.opened_at, self._clock.now(), rules.backoff_reset_s)
            if current.closed:
                await self._drop(current)
                self.reconnects += 1
                await asyncio.sleep(current.pause_s(backoff))
                current = await self._opened(line, backoff)
            else:
                current = await self._replaced(current, backoff)
            age_s = rules.age_s * (1 - 0.05 * self._chance.random())

    async def _replaced(self, old: Connection, backoff: Backoff) -> Connection:
        """Opens a successor and closes `old` when the successor carries what `old` does."""
        _log.info(
            "replacing line=%s connection=%d reason=%r",
            old.line.name,
            old.number,
            old.replace_reason or "age",
        )
        if not self.feed.rules.overlap_s:
            self.rotations += 1
            old.close_reason = f"replaced: {old.replace_reason or 'age'}"
            await self._drop(old)
            return await self._opened(old.line, backoff)
        new = await self._opened(old.line, backoff)
        deadline = self._clock.now() + self.feed.rules.overlap_s
        while not (old.closed or new.closed or self._carries(new, old)):
            if self._clock.now() >= deadline:
                _log.warning(
                    "successor lacks streams line=%s connection=%d", new.line.name, new.number
                )
                break
            await asyncio.sleep(0.05)
        await asyncio.sleep(_GRACE_S)
        self.rotations += 1
        if new.closed and not old.closed:
            await self._drop(new)
            await asyncio.sleep(backoff.delay())
            old.replace_reason = ""
            old.replace("the successor was cut")
            return old
        old.close_reason = f"replaced: {old.replace_reason or 'age'}"
        await self._drop(old)
        return new

    def _carries(self, new: Connection, old: Connection) -> bool:
        since = self._clock.wall_ns() - int(_RECENT_S * 1e9)
        lively = {name for name, _, _, last in self.ingest.activity(old.number) if last >= since}
        heard = {name for name, frames, _, _ in self.ingest.activity(new.number) if frames}
        return lively <= heard

    async def _opened(self, line: Line, backoff: Backoff) -> Connection:
        """Opens and subscribes a connection, however often it takes."""
        while True:
            await asyncio.sleep(self._connects.take(self._clock.now()))
            connection = self._connect(
                self._free_number(), line, self.feed, self.ingest, self.flush, self._clock
            )
            self._connections[connection.number] = connection
            try:
                await connection.open(self._context)
                await connection.subscribe()
            except (OSError, TimeoutError, WSError, VenueError, ValueError) as error:
                # ValueError: what a handshake holds that the client cannot read.
                reason = (str(error) or type(error).__name__)[:300]
                connection.close_reason = f"not subscribed: {reason}"
                await self._drop(connection)
                delay = connection.pause_s(backoff)
                self.trouble = f"cannot connect to {line.url}: {reason}"
                _log.warning(
                    "connect failed line=%s attempt=%d again_s=%.1f: %s",
                    line.name,
                    backoff.failures,
                    delay,
                    reason,
                )
                await asyncio.sleep(delay)
                continue
            self.trouble = ""
            told = line.name, connection.number, len(line.streams)
            _log.info("connected line=%s connection=%d streams=%d", *told)
            return connection

    async def _drop(self, connection: Connection) -> None:
        was_open = not connection.closed
        await connection.close()
        if self._connections.pop(connection.number, None) is not None:
            self._tally.add(connection, self._clock.now())
        if connection.opened_at:
            _log.log(
                logging.INFO if was_open else logging.WARNING,
                "disconnected line=%s connection=%d age_s=%.1f reason=%r",
                connection.line.name,
                connection.number,
                self._clock.now() - connection.opened_at,
                connection.close_reason,
            )

    def _free_number(self) -> int:
        # The lowest free one, so that what is kept per number stays small.
        return next(n for n in range(_CONNECTIONS_MAX) if n not in self._connections)

    async def _watch(self) -> None:
        """Looks after everything that no event tells of."""
        checked = defined = refreshed = self._clock.now()
        while True:
            await asyncio.sleep(_TICK_S)
            now = self._clock.now()
            self.flush()
            self._books.repair(self.ingest.needs_snapshot(), self._connections.values(), now)
            if now - checked < _CHECK_S:
                continue
            checked = now
            self.ingest.heartbeat(self._clock.wall_ns())
            self.flush()
            self._tell_refusal()
            self._degraded = log_clock_steps(self.ingest, told=self._degraded)
            for connection in list(self._connections.values()):
                connection.beat(now)
            self._books.begin(list(self._connections.values()), now)
            self._books.unblock(list(self._connections.values()), now)
            if self._data is not None:
                place = (self._data, self.feed.source, self.ingest)
                take_notes(*place, self._clock.wall_ns, self.flush)
            self.backfill.step(now)
            for request in self.feed.polls(now, self._clock.wall_ns()):
                self._requests.push(request)
            self._watchdog.check(list(self._connections.values()), now, self._clock.wall_ns())
            if 0 < self.feed.definitions_s <= now - defined:
                defined = now
                for request in self.feed.opening_requests():
                    self._requests.push(request)
            if 0 < self.feed.snapshot_refresh_s <= now - refreshed:
                refreshed = now
                self._books.refresh(now)
            # Times of late are gone once they are taken: not before somebody can tell them.
            if self._aside.is_free:
                self._aside.begin(partial(self._tell, times_of(self.ingest), self.status()))

    def _tell(self, times: Mapping[str, tuple[Told, Told]], status: Mapping[str, Any]) -> None:
        if self._data is not None:
            write_times(self._data, self.feed.source, "recorder", times)
            self._kept.follow(self.ingest)
        if self._report is not None:
            self._report(status)

    def _tell_refusal(self) -> None:
        """Logs when the tape begins to refuse what comes, and when it takes what waited."""
        stats = self.ingest.stats()
        refused = stats["failure"] is not None
        if refused and not self._refused:
            _log.error("frames are buffered; beyond the limit they are shed: %s", stats["failure"])
        elif self._refused and not refused:
            _log.warning("the tape is written again; since the start shed=%d", stats["shed"])
        self._refused = refused

    async def _close(self) -> None:
        for connection in list(self._connections.values()):
            connection.close_reason = connection.close_reason or "the recorder stops"
            connection.stops = not connection.closed
        await asyncio.gather(*(self._drop(c) for c in list(self._connections.values())))
        await self._requests.close()
        if self._failure is None:
            self.ingest.end_session(self._clock.wall_ns())
            self.flush()
        await asyncio.to_thread(self._aside.close)


async def record(
    config: FeedConfig,
    data_dir: str | os.PathLike[str],
    stop: asyncio.Event,
    *,
    tape: TapeConfig | None = None,
    report: Callable[[Mapping[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Records what `config` names into `data_dir` until `stop` is set; returns the last status.

    Everything received is published, noted as ended, and on disk when this returns.

    Raises:
        ConfigError: a setting is wrong.
        VenueError: the venue refuses what is asked for.
        TapeLockedError: another recorder writes this source.
    """
    feed = build(config)
    ingest = Ingest(
        os.fspath(data_dir),
        feed.source,
        feed.native,
        pending_bytes_max=feed.pending_bytes_max,
        decoder=feed if isinstance(feed, PythonFeed) else None,
        **(tape or TapeConfig()).settings(),
    )
    for note in ingest.notes():
        _log.warning("%s", note)
    check_clock(ingest)
    try:
        feed.resume(Path(data_dir) / "tape" / feed.source / RAW)
        session = Session(feed, ingest, report=report, data=Path(data_dir))
        session.backfill.resume(Path(data_dir))
        await session.run(stop)
        status = session.status()
        if status["pending_bytes"]:
            _log.error(
                "stopped with frames that could not be written and are lost bytes=%d: %s",
                status["pending_bytes"],
                status["failure"],
            )
        ingest.sync()
        KeptDefinitions(Path(data_dir), feed.source).follow(ingest)
        status = session.status()
    finally:
        ingest.close()
    return status


def run_worker(
    config: FeedConfig,
    data_dir: str | os.PathLike[str],
    *,
    tape: TapeConfig | None = None,
    run: str = "",
) -> int:
    """Runs `record` as the whole of this process; returns its exit code.

    SIGTERM and SIGINT end it in good order. `state/<source>/recorder.json`, its status, is replaced
    every second, and names `run`, so that whoever started it knows it from one of another run.
    `EXIT_INCOMPLETE`: not all that was asked for was recorded, see `outcome.py`.

    Raises:
        ConfigError, VenueError, TapeError: as `record`.
    """
    path = Path(data_dir) / "state" / config.name / "recorder.json"
    path.parent.mkdir(parents=True, exist_ok=True)

    def report(status: Mapping[str, Any]) -> None:
        told = redact(json.dumps({**status, "run": run}))
        try:
            replace_file(path, told, sync=False)
        except OSError:
            # The disk is full, which a reader should be told: the old file has its place.
            with contextlib.suppress(OSError), path.open("r+", encoding="utf-8") as file:
                file.write(told)
                file.truncate()

    async def main() -> int:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            # A parent that has Ctrl-C ignored here stops its children in the order of the flow.
            if signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, stop.set)
        if stopping.is_asked():
            stop.set()
        prepare(_SLICE_US)
        beating = asyncio.create_task(_keep_beating())
        try:
            status = await record(config, data_dir, stop, tape=tape, report=report)
        except Exception as error:
            told = {"source": config.name, "ts": time.time_ns(), "trouble": str(error)}
            report({**told, "refused": isinstance(error, VenueError), "ended": True})
            raise
        finally:
            beating.cancel()
        report({**status, "ended": True})
        return Outcome.of(status["outcome"]).exit_code

    return asyncio.run(main())


async def _keep_beating() -> None:
    """Gives signs of life for as long as the event loop turns."""
    while True:
        beat()
        await asyncio.sleep(BEAT_S)
