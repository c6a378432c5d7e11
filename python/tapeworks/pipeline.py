"""Starts the flow of a `Config` as processes, and keeps it running in its order.

    recorder (one a source) -> derive (one a source) -> sink (one a sink, over all sources)
                                                     -> view (one a view, reads all of it)

Each is a child process around the tapes between them: killed at any instant, it goes on from what
it wrote last. A child that dies, or hangs, is restarted with back-off; one that is refused by its
venue is asked again seldom; wrong settings and damaged tapes wait for an operator, and the others
go on. On stop, the order of the flow is kept, so that what was recorded is also derived and stored.
The supervisor holds the lock of every source that it records: there is no second recorder.
"""

import contextlib
import logging
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from tapeworks._core import FolderLock
from tapeworks.child import LOOP_FAILURES, Child, Worker
from tapeworks.errors import (
    ConfigError,
    CorruptTapeError,
    TapeError,
    TapeLockedError,
    VenueError,
)
from tapeworks.exits import EXIT_CONFIG, EXIT_DAMAGED, EXIT_INCOMPLETE, EXIT_REFUSED
from tapeworks.feeds.capture_channels import trade_channels
from tapeworks.processors.alerts import alert_settings
from tapeworks.register import Register, registered, supervisors, writing_in
from tapeworks.registry import MEMBERS, target_of
from tapeworks.replicas.base import parse_address
from tapeworks.replicas.worker import REPLICA_STEPS
from tapeworks.settings import (
    Config,
    ProcessorsConfig,
    SupervisorConfig,
    resolve_config,
    resolve_feed,
)
from tapeworks.stopping import Stop
from tapeworks.topics import RAW
from tapeworks.worker import (
    Order,
    run_alone,
)

__all__ = [
    "Config",
    "Stop",
    "Supervisor",
    "SupervisorConfig",
    "Worker",
    "lock_sources",
    "resolve_config",
    "resolve_feed",
    "run_replica",
    "run_worker",
    "stop_on_signals",
    "workers",
]

log = logging.getLogger("tapeworks.pipeline")

# Views come last: one that does not stop takes no time from what is recorded and stored.
ORDER = ("recorder", "derive", "sink", "view")
# Of the time for stopping, what is over when the workers of each kind must be gone.
STOP_SHARES = {"recorder": 0.5, "derive": 0.75, "sink": 0.95, "view": 1.0}
# What one that ends with `EXIT_INCOMPLETE` did not finish. A recorder tells it by its outcome.
WORK = {"derive": "derive", "sink": "store"}
REFUSED_RETRY_MS = 60_000
# One that is busy without a sign of life may be so for so many times `hang_ms`.
BUSY_FACTOR = 20
# A process that was killed is gone at once, unless the kernel waits for a device in its place.
KILLED_S_MAX = 5.0
NOT_ENDING = "was killed and does not end"
NOT_ENDING_ADVICE = (
    "the system waits for a device on its behalf, such as a disk that does not answer; its tapes "
    "stay locked until it has ended"
)
REGISTER_S = 1.0


def workers(config: Config) -> list[Worker]:
    """Returns all workers of `config` in the order of the flow."""
    found = [Worker(kind, name) for kind in ("recorder", "derive") for name in config.feeds]
    found += [Worker("sink", name) for name in config.sinks]
    return found + [Worker("view", name) for name in config.views]


def _order(config: Config, worker: Worker, run_id: str = "") -> Order:
    """Returns what a worker is told to run, as part of the run `run_id`.

    Taking in the settings of a member loads its module: a derive process has no use for sockets.
    """
    member = worker.member
    arguments: tuple[object, ...]
    named: dict[str, object] = {}
    if worker.kind == "recorder":
        arguments = (config.feeds[member], config.data)
        named = {"tape": config.tape, "run": run_id}
    elif worker.kind == "derive":
        arguments = (processors_of(config, member), config.tape, config.data, member)
    elif worker.kind == "view":
        arguments = (config.views[member], config.data, member, config.symbols())
    else:
        feeds = dict.fromkeys(config.feeds)
        arguments = (Config(config.data, feeds, sinks={member: config.sinks[member]}), member)
    limits = config.supervisor
    return Order(
        worker.name,
        target_of("worker", worker.kind),
        arguments,
        named,
        stop_s_max=limits.stop_ms_max / 1000,
        hang_s=limits.hang_ms / 1000,
        log_path=(config.data / "log" / f"{worker.name}.log").absolute(),
        log_bytes_max=limits.log_bytes_max,
    )


def run_worker(config: Config, worker: Worker) -> int:
    """Runs one worker as the whole of this process, without a supervisor; returns its exit code.

    Raises:
        ConfigError: the settings name no such worker.
        TapeLockedError: another process records this source.
    """
    known = workers(config)
    if worker not in known:
        names = ", ".join(f"{one.kind} {one.member}" for one in known)
        raise ConfigError(f"expected a worker of {names}, got {worker.kind} {worker.member}")
    with contextlib.ExitStack() as stack:
        # A view reads, also where it may not write.
        is_recorder, may_write = worker.kind == "recorder", worker.kind != "view"
        entry = registered(config.data, worker.kind, worker.member, may_write=may_write)
        stack.enter_context(entry)
        if is_recorder:
            stack.enter_context(lock_sources(config.data, [worker.member]))
        # Of a recorder that is still being loaded, nothing was recorded.
        return run_alone(_order(config, worker), EXIT_INCOMPLETE if is_recorder else 0)


def run_replica(config: Config, address: str, only: Sequence[str] = ()) -> int:
    """Reads a topic into local tapes and derives from them, as the whole of this process.

    Raises:
        ConfigError: the address is none, or `only` names no processor that runs there.
    """
    place = parse_address(address, MEMBERS["replica"])
    trades = "agg_trade" if config.processors.trades == "agg_trade" else "trade"
    processors = replace(config.processors, measured=config.metrics.settings(trades))
    known = {step.processor for step in REPLICA_STEPS}
    if unknown := sorted(set(only) - known):
        raise ConfigError(
            f"--only: expected processors of {', '.join(sorted(known))}, got {', '.join(unknown)}"
        )
    arguments = (place, processors, config.tape, config.data, tuple(only))
    with registered(config.data, "derive", place.topic):
        return run_alone(Order("replica", target_of("worker", "replica"), arguments))


@contextlib.contextmanager
def lock_sources(data: Path, sources: Sequence[str]) -> Iterator[list[FolderLock]]:
    """Holds the locks of `sources` in `data`: of all, or of none.

    Raises:
        TapeLockedError: another process records one of them; the message names it.
    """
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(lock_source(data, source)) for source in sources]


def unfinished_repair(data: Path, source: str) -> Path:
    """Returns the file that is there while a repair of `source` is not finished."""
    return data / "state" / source / "repair.json"


def lock_source(data: Path, source: str, *, repairing: bool = False) -> FolderLock:
    """Takes the right to record `source` into `data`; `repairing` is for what repairs it.

    Raises:
        TapeLockedError: another process has it; the message names it.
        TapeError: a repair was not finished.
    """
    try:
        with writing_in(data / "state" / source):
            lock = FolderLock(data / "state" / source)
    except TapeLockedError as error:
        holder = f"process {error.holder}" if error.holder else "another process"
        done, other = ("changed", "") if repairing else ("started", "; --data names another folder")
        if _is_repairing(data, source, error.holder):
            again = "it says what is left" if repairing else "start again when it has ended"
            raise TapeLockedError(
                f"{source} in {data} is being repaired, by {holder}; nothing was {done}: {again}"
            ) from None
        raise TapeLockedError(
            f"{source} in {data} is written already, by {holder}; nothing was {done}. "
            f"`tape down --data {data}` stops it" + other
        ) from None
    if not repairing and unfinished_repair(data, source).exists():
        lock.release()
        raise TapeError(
            f"{source}: a repair in {data} was not finished, nothing was started: "
            f"`tape repair --yes --data {data}` finishes it"
        )
    return lock


def _is_repairing(data: Path, source: str, holder: int | None) -> bool:
    """Whether what holds the lock of `source` is a repair; `holder` is its process, if known."""
    name = f"repair-{source}"
    return any(
        one.pid == holder if holder else one.pid != os.getpid()
        for one in supervisors(data)
        if name in (worker.get("name") for worker in one.workers)
    )


def processors_of(config: Config, source: str) -> ProcessorsConfig:
    """Returns the settings of the processors for `source`, whose symbols and trades are known."""
    feed, processors = config.feeds[source], config.processors
    symbols = tuple(getattr(feed, "symbols", ()))
    if processors.trades == "auto" and _has_aggregates_alone(config, source):
        processors = replace(processors, trades="agg_trade")
    trades = "agg_trade" if processors.trades == "agg_trade" else "trade"
    measured = config.metrics.settings(trades)
    own = {
        name: replace(one, symbols=one.symbols or symbols) for name, one in processors.own.items()
    }
    for name, one in own.items():
        if getattr(one, "trades", "") == "auto":
            own[name] = replace(one, trades=trades)
    rules = alert_settings((*config.alerts, *config.latency.rules()), source, measured, trades)
    return replace(processors, own=own, measured=measured, **rules)


def _has_aggregates_alone(config: Config, source: str) -> bool:
    feed = config.feeds[source]
    channels: Collection[str] = getattr(feed, "record_channels", ())
    if feed is None:
        # Nobody says what was subscribed: what was recorded does.
        channels = trade_channels(config.data / "tape" / source / RAW)
    return "trade" not in channels and "agg_trade" in channels


class Supervisor:
    """Starts all workers of a `Config`, restarts what dies or hangs, and stops them in order.

    Call `poll` now and then, at least a few times a second.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.logs = config.data / "log"
        self.children = [
            Child(worker, self.logs / f"{worker.name}.log", config.supervisor.log_bytes_max)
            for worker in workers(config)
        ]
        self.run_id = uuid.uuid4().hex
        """What its recorders name in what they say of themselves."""
        self.complaints: list[str] = []
        """What went wrong at the end, for whoever started this."""
        self.on_start: Callable[[], None] = lambda: None
        """Called when all locks are held, before the first worker starts."""
        self._locks = contextlib.ExitStack()
        self._held: list[FolderLock] = []
        self._register: Register | None = None
        self._registered_at = 0.0

    def start(self) -> None:
        """Starts all workers.

        Raises:
            TapeLockedError: a source is recorded already; nothing was started.
        """
        # The entry outlives the locks: who waits for its end, `tape down`, finds them free.
        with contextlib.ExitStack() as stack:
            self._register = stack.enter_context(Register(self.config.data))
            held = lock_sources(self.config.data, list(self.config.feeds))
            self._held = stack.enter_context(held)
            self.logs.mkdir(parents=True, exist_ok=True)
            self._locks = stack.pop_all()
        self.on_start()
        for child in self.children:
            self._start(child, time.monotonic())
        self._write_register()

    def poll(self) -> None:
        """Restarts what died, after its delay, and kills what hangs.

        Raises:
            ConfigError, VenueError, CorruptTapeError: nothing can be recorded, and why.
            TapeReplacedError: the data folder was moved away or replaced.
        """
        now = time.monotonic()
        for child in self.children:
            if child.alive and child.killed:
                self._check_killed(child, now)
            elif child.alive:
                self._check_heartbeat(child, now)
            elif child.process is not None:
                self._reap(child, now)
            if child.process is None and now >= child.restart_at and not child.needs_operator:
                self._start(child, now)
        if now - self._registered_at >= REGISTER_S:
            self._registered_at = now
            for lock in self._held:
                lock.check()
            self._write_register()

    def stop(self) -> None:
        """Stops recorders, then derivation, then sinks, so that each drains what came before."""
        began, total = time.monotonic(), self.config.supervisor.stop_ms_max / 1000
        for child in self.children:
            # Nobody has looked at it since it died, or was killed.
            if child.process is not None and not child.alive:
                self._take_end(child, began)
        self._note_failures()
        for kind in ORDER:
            # Those that die meanwhile are among them: what they had not done is told as well.
            group = [c for c in self.children if c.worker.kind == kind and c.process is not None]
            for child in group:
                if child.process is not None:
                    child.process.terminate()
                    # One that somebody has stopped could not act on it.
                    child.process.send_signal(signal.SIGCONT)
            for child in group:
                self._await(child, began + total * STOP_SHARES[kind])
        for child in self.children:
            child.close()
        self._locks.close()

    def run(self, until: Callable[[], bool], pause_s: float = 0.1) -> None:
        """Starts, polls until `until` says so, and stops, whatever happens in between."""
        try:
            self.start()
            while not until():
                self.poll()
                time.sleep(pause_s)
        finally:
            self.stop()

    def _start(self, child: Child, now: float) -> None:
        try:
            child.spawn(_order(self.config, child.worker, self.run_id))
        except OSError as error:
            # No process, no descriptor, no room for a log: as if it had died at once.
            child.last = f"cannot be started: {error}"
            self._back_off(child, now)
            self._warn_of_restart(child)

    def _check_heartbeat(self, child: Child, now: float) -> None:
        """Kills a child that hangs: without a sign of life, and idle, for too long."""
        assert child.process is not None
        limit_s = self.config.supervisor.hang_ms / 1000
        silent_s, idle_s = child.check_heartbeat(now, limit_s / 2)
        if idle_s >= limit_s or silent_s >= BUSY_FACTOR * limit_s:
            log.error("%s hangs: no sign of life for %.0f s: killed", child.worker.name, silent_s)
            child.kill(now, f"it hung: no sign of life for {silent_s:.0f} s")

    def _check_killed(self, child: Child, now: float) -> None:
        """Says so, once, if a process that was killed does not end."""
        assert child.process is not None
        if not child.last.startswith(NOT_ENDING) and now - child.killed_at >= KILLED_S_MAX:
            child.last = f"{NOT_ENDING} (process {child.process.pid}): {NOT_ENDING_ADVICE}"
            log.error("%s: %s", child.worker.name, child.last)

    def _reap(self, child: Child, now: float) -> None:
        self._take_end(child, now)
        if child.worker.kind == "recorder":
            # The error says it all: a warning of it beside would be the same twice.
            self._end_if_nothing_can_be_recorded()
        self._warn_of_restart(child)

    def _take_end(self, child: Child, now: float) -> None:
        """Notes why `child`, whose process has ended, did so."""
        assert child.process is not None
        child.code = child.process.returncode
        child.last = child.killed or child.last_line()
        child.close()
        self._back_off(child, now)

    def _back_off(self, child: Child, now: float) -> None:
        """Says when `child` is started again."""
        settings = self.config.supervisor
        if child.started and (now - child.started) * 1000 >= settings.healthy_ms:
            child.failures, child.served = 0, True
        delay_ms = min(settings.restart_ms << min(child.failures, 20), settings.restart_ms_max)
        if child.code == EXIT_REFUSED:
            delay_ms = max(delay_ms, REFUSED_RETRY_MS)
        elif child.code == EXIT_DAMAGED:
            # It may be repaired while the others go on.
            delay_ms = settings.restart_ms_max
        child.failures += 1
        child.restarts += 1
        child.restart_at = now + delay_ms / 1000
        child.delay_ms = delay_ms

    def _warn_of_restart(self, child: Child) -> None:
        again = "" if child.needs_operator else f", restart in {child.delay_ms} ms"
        log.warning("%s ended with %s%s: %s", child.worker.name, child.code, again, child.last)

    def _end_if_nothing_can_be_recorded(self) -> None:
        """Raises where no recorder will run; one that cannot is no reason to end the others."""
        recorders = [child for child in self.children if child.worker.kind == "recorder"]
        idle = [c for c in recorders if c.needs_operator or c.code == EXIT_REFUSED]
        if len(idle) < len(recorders) or any(c.alive or c.served for c in recorders):
            return
        told = "; ".join(child.last or f"{child.worker.name} failed" for child in idle)
        codes = {child.code for child in idle}
        if EXIT_DAMAGED in codes:
            raise CorruptTapeError(told)
        raise ConfigError(told) if EXIT_CONFIG in codes else VenueError(told)

    def _await(self, child: Child, deadline: float) -> None:
        assert child.process is not None
        name = child.worker.name
        try:
            child.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.complaints.append(
                f"{name} did not stop in time and was killed; it resumes at the next start"
            )
            child.process.kill()
            try:
                child.process.wait(KILLED_S_MAX)
            except subprocess.TimeoutExpired:
                pid = child.process.pid
                self.complaints.append(f"{name} {NOT_ENDING} (process {pid}): {NOT_ENDING_ADVICE}")
            return
        if (code := child.process.returncode) == EXIT_INCOMPLETE and child.worker.kind in WORK:
            work = WORK[child.worker.kind]
            self.complaints.append(
                f"{name} had no time to {work} everything; it goes on there at the next start"
            )
        elif code not in (0, EXIT_INCOMPLETE):
            last = child.last_line()
            self.complaints.append(f"{name} ended with {code} while stopping: {last}")

    def _note_failures(self) -> None:
        """Complains of all that does not run at the end, or did not for long."""
        healthy_s = self.config.supervisor.healthy_ms / 1000
        for child in self.children:
            # What a refused source lacks is told with what all others achieved.
            is_told = child.code == EXIT_REFUSED and not child.alive
            lives = child.alive and (
                child.failures < LOOP_FAILURES or time.monotonic() - child.started >= healthy_s
            )
            if child.failures and not is_told and not lives:
                times = "1 failure" if child.restarts == 1 else f"{child.restarts} failures"
                self.complaints.append(
                    f"{child.worker.name} is {child.state}, after {times}: {child.last}"
                )

    def _write_register(self) -> None:
        """Says in the data folder what runs, for status screens and `tape down`."""
        if self._register is None:
            return
        now = time.monotonic()
        self._register.write(
            [
                {
                    "name": child.worker.name,
                    "kind": child.worker.kind,
                    "member": child.worker.member,
                    "pid": child.process.pid if child.process is not None else None,
                    "state": child.state,
                    "restarts": child.restarts,
                    "failures": child.failures,
                    "last": child.last,
                    "silent_s": round(now - child.beat_at, 1),
                }
                for child in self.children
            ]
        )


def stop_on_signals() -> Stop:
    """Makes Ctrl-C and SIGTERM ask this process to stop, and returns what they set."""
    stop = Stop()

    signal.signal(signal.SIGINT, stop.set)
    signal.signal(signal.SIGTERM, stop.set)
    return stop
