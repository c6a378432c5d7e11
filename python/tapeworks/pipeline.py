"""Builds the flow from a `Config` and keeps it running; the only file that knows every member.

    recorder (one a source) -> derive (one a source) -> sink (one a sink, over all sources)

Each is a child process around the tapes between them: killed at any instant, it goes on from what
it wrote last. A child that dies is restarted with back-off; a wrong setting is not retried. On
stop, the order of the flow is kept, so that what was recorded is also derived and stored. A child
whose parent is gone stops by itself: its standard input is a pipe from the parent.
"""

import contextlib
import importlib
import logging
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import IO, Any, Literal
from urllib.parse import urlsplit

from tapeworks.config import Section, Value, resolve, source_name, unknown
from tapeworks.errors import ConfigError, TapeworksError, VenueError
from tapeworks.processors.derive import STEPS, Derivation, Step
from tapeworks.sinks.base import feeders
from tapeworks.tape import TapeConfig

log = logging.getLogger("tapeworks.pipeline")

# Kind of feed -> where its settings are; then what finds a class of the user's own.
FEED_CONFIGS = {"binance": "tapeworks.feeds.binance.config:BinanceConfig"}
OWN_FEED = "tapeworks.feeds.python:class_named"
# Name of a sink -> where its settings are.
SINK_CONFIGS = {"parquet": "tapeworks.sinks.parquet:ParquetConfig"}
# Kind of worker -> what runs it, and loads the libraries that it alone needs.
RUNNERS = {
    "recorder": "tapeworks.feeds.session:run_worker",
    "derive": "tapeworks.processors.derive:run_worker",
    "sink": "tapeworks.sinks.base:run_worker",
}
# What is recorded when the settings name no feed.
DEFAULT_FEED = "binance-spot"
DEFAULT_SYMBOLS = Value(["BTCUSDT", "ETHUSDT"], "defaults")
ORDER = ("recorder", "derive", "sink")
EXIT_CONFIG, EXIT_INCOMPLETE, EXIT_REFUSED = 2, 3, 4
LOG_BYTES_MAX = 8 << 20
CATCH_UP_S_MAX = 86_400.0
# Date, time, level and logger before a message.
LOG_HEAD = re.compile(r"^\S+ \S+ [A-Z]+ [\w.]+: ")
CHILD = "from tapeworks.pipeline import run_child; run_child()"


@dataclass(frozen=True)
class ProcessorsConfig:
    """What is derived from the normalized tape."""

    trades: Literal["auto", "trade", "agg_trade"] = "auto"
    """Which stream of trades makes bars and ticks; `auto`: single fills where they are recorded."""
    bars_ms: tuple[int, ...] = (1_000, 60_000, 300_000)
    """Lengths of the bars built from trades."""
    bars_grace_ms: int = 2_000
    """A bar without later trades is closed so long after its end."""
    ticks_ms: int = 0
    """Least time between two ticks of an instrument; 0: every change."""
    tops_ms: int = 1_000
    """Least time between two rows of book_snapshots of an instrument; 0: none."""
    tops_levels: int = 20
    batch_items: int = 4_096
    """Items that one step takes at most."""

    def __post_init__(self) -> None:
        if not self.bars_ms or min(self.bars_ms) < 1:
            raise ConfigError(f"bars_ms: wanted lengths from 1 ms on; found {list(self.bars_ms)}")
        _within("bars_grace_ms", self.bars_grace_ms, 0, 3_600_000)
        _within("ticks_ms", self.ticks_ms, 0, 3_600_000)
        _within("tops_ms", self.tops_ms, 0, 3_600_000)
        _within("tops_levels", self.tops_levels, 1, 1_000)
        _within("batch_items", self.batch_items, 1, 1 << 20)

    def settings(self, processor: str) -> Mapping[str, int | str | Sequence[int]]:
        """Returns the settings of `processor` as the core names them."""
        trades = "agg_trade" if self.trades == "agg_trade" else "trade"
        table: dict[str, Mapping[str, int | str | Sequence[int]]] = {
            "books": {
                "snapshot_interval_ms": self.tops_ms,
                "snapshot_levels": self.tops_levels,
            },
            "bars": {
                "intervals_ms": list(self.bars_ms),
                "grace_ms": self.bars_grace_ms,
                "channel": trades,
            },
            "ticks": {"interval_ms": self.ticks_ms, "channel": trades},
        }
        return table.get(processor, {})


@dataclass(frozen=True)
class SupervisorConfig:
    """How child processes are kept running."""

    restart_ms: int = 200
    """Delay before the first restart; it doubles with each one that follows soon."""
    restart_ms_max: int = 30_000
    healthy_ms: int = 10_000
    """A child that ran for so long starts again without delay."""
    stop_ms_max: int = 15_000
    """What has not stopped by then is killed; nothing is lost by it."""

    def __post_init__(self) -> None:
        _within("restart_ms", self.restart_ms, 0, 3_600_000)
        _within("restart_ms_max", self.restart_ms_max, self.restart_ms, 3_600_000)
        _within("healthy_ms", self.healthy_ms, 0, 3_600_000)
        _within("stop_ms_max", self.stop_ms_max, 100, 3_600_000)


@dataclass(frozen=True)
class Config:
    """Everything that `tapeworks.toml` says, checked."""

    data: Path = Path("data")
    feeds: Mapping[str, Any] = field(default_factory=dict)
    tape: TapeConfig = field(default_factory=TapeConfig)
    processors: ProcessorsConfig = field(default_factory=ProcessorsConfig)
    sinks: Mapping[str, Any] = field(default_factory=dict)
    supervisor: SupervisorConfig = field(default_factory=SupervisorConfig)

    def endpoints(self) -> list[tuple[str, str, int]]:
        """Returns name, host and port of everything that the feeds connect to."""
        found = []
        for name, feed in self.feeds.items():
            for url in (feed.ws, feed.rest):
                parts = urlsplit(url)
                if parts.hostname:
                    secure = parts.scheme in ("wss", "https")
                    found.append((name, parts.hostname, parts.port or (443 if secure else 80)))
        return found


def resolve_config(written: Section) -> Config:
    """Turns what was written into a checked `Config`; absent feeds and sinks get the defaults.

    Raises:
        ConfigError: says which setting is wrong, what was wanted, what was found.
    """
    tables = frozenset({"feeds", "sinks"})
    config = resolve(written, Config, ignore=tables)
    if "data" not in written.entries and written.folder is not None:
        config = replace(config, data=written.folder / config.data)
    feeds = _feeds(written.table("feeds"))
    sinks = _sinks(written.table("sinks"))
    return replace(config, feeds=feeds, sinks=sinks)


def _feeds(section: Section) -> dict[str, Any]:
    """Returns the feeds by the name of their source: the one key of all that is stored of them."""
    if not section.entries:
        section = Section(section.name, {DEFAULT_FEED: Section(f"feeds.{DEFAULT_FEED}")})
    feeds: dict[str, Any] = {}
    tables: dict[str, list[str]] = {}
    for key in section.entries:
        table = section.table(key)
        is_variable = _only_from_environment(table)
        # A variable cannot hold a hyphen.
        name = key.replace("_", "-") if is_variable else key
        if name == DEFAULT_FEED and is_variable:
            # A variable that changes one setting of the default feed leaves it its symbols.
            table = Section(table.name, {"symbols": DEFAULT_SYMBOLS, **table.entries})
        feed = resolve_feed(name, table)
        feeds[feed.name] = feed
        tables.setdefault(feed.name, []).append(f"[{table.name}]")
    for source, named in tables.items():
        if len(named) > 1:
            raise ConfigError(
                f"expected one feed for each source; got {len(named)} for {source!r}: "
                f"{', '.join(named)}"
            )
    return feeds


def _only_from_environment(section: Section) -> bool:
    values = [entry for entry in section.entries.values() if isinstance(entry, Value)]
    return all(value.from_environment for value in values)


def resolve_feed(name: str, section: Section) -> Any:
    """Turns the settings of one feed into its dataclass.

    Its source is called `name`, unless its settings say otherwise.

    Raises:
        ConfigError: the kind of feed is not known, or a setting is wrong.
    """
    try:
        source_name(name)
    except ConfigError as error:
        raise ConfigError(f"[{section.name}]: {error}") from None
    entry = section.entries.get("kind")
    kind = str(entry.raw) if isinstance(entry, Value) else name.partition("-")[0]
    if ":" in kind:
        config = resolve(section, load_name(OWN_FEED)(kind).Config)
    elif kind in FEED_CONFIGS:
        config = resolve(section, load_name(FEED_CONFIGS[kind]), ignore=frozenset({"kind"}))
    else:
        raise ConfigError(
            f"[{section.name}]: wanted kind to be one of {', '.join(FEED_CONFIGS)}, or a "
            f"class of your own such as 'my_package.my_module:MyFeed'; found {kind!r}"
        )
    return config if config.source else replace(config, source=name)


def _sinks(section: Section) -> dict[str, Any]:
    names = list(section.entries) or ["parquet"]
    for name in names:
        if name not in SINK_CONFIGS:
            raise unknown(section, name, SINK_CONFIGS.keys())
    sinks = {name: resolve(section.table(name), load_name(SINK_CONFIGS[name])) for name in names}
    return {name: sink for name, sink in sinks.items() if getattr(sink, "enabled", True)}


def load_name(target: str) -> Any:
    """Imports `module:name`. Tables hold such texts so that only what is used is loaded."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def _within(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{name}: wanted {low} to {high}; found {value}")


@dataclass(frozen=True)
class Worker:
    """One child process: what it runs, and for which source or sink."""

    kind: str
    member: str

    @property
    def name(self) -> str:
        """The name in messages, in log files and in the list of processes."""
        return f"{self.kind}-{self.member}"


def workers(config: Config) -> list[Worker]:
    """Returns all workers of `config` in the order of the flow."""
    found = [Worker(kind, name) for kind in ("recorder", "derive") for name in config.feeds]
    return found + [Worker("sink", name) for name in config.sinks]


class Stop:
    """Whether this process was asked to stop; runners look at it between steps."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def __bool__(self) -> bool:
        return self._event.is_set()

    def set(self, *_: object) -> None:
        """Asks to stop. Fit to be a signal handler."""
        self._event.set()

    def wait(self, timeout_s: float) -> bool:
        """Waits until asked to stop, at most `timeout_s`; returns whether it was asked."""
        return self._event.wait(timeout_s)


def run_child() -> None:
    """The main function of a child process. What it runs comes through standard input."""
    name, target, arguments, named, stop_s_max = pickle.load(sys.stdin.buffer)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level="INFO")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_watch_parent, args=(stop_s_max,), daemon=True).start()
    try:
        sys.exit(load_name(target)(*arguments, **named) or 0)
    except ConfigError as error:
        log.error("%s: %s", name, error)
        sys.exit(EXIT_CONFIG)
    except TapeworksError as error:
        log.error("%s: %s", name, error)
        sys.exit(EXIT_REFUSED if isinstance(error, VenueError) else 1)


def _order(config: Config, worker: Worker) -> tuple[object, ...]:
    """Returns what `run_child` is told. It holds no more than the worker needs.

    Taking in the settings of a member loads its module: a derive process has no use for sockets.
    """
    tape, member = config.tape, worker.member
    arguments: tuple[object, ...]
    named: dict[str, object] = {}
    if worker.kind == "recorder":
        arguments = (config.feeds[member], config.data)
        named = {"tape": tape}
    elif worker.kind == "derive":
        arguments = (processors_of(config, member), tape, config.data, member)
    else:
        feeds = dict.fromkeys(config.feeds)
        arguments = (Config(config.data, feeds, sinks={member: config.sinks[member]}), member)
    stop_s_max = config.supervisor.stop_ms_max / 1000
    return worker.name, RUNNERS[worker.kind], arguments, named, stop_s_max


def processors_of(config: Config, source: str) -> ProcessorsConfig:
    """Returns the settings of the processors for `source`, whose stream of trades is known."""
    channels = getattr(config.feeds[source], "channels", ("trade",))
    if config.processors.trades != "auto" or "trade" in channels or "aggTrade" not in channels:
        return config.processors
    return replace(config.processors, trades="agg_trade")


def catch_up(config: Config, steps: Sequence[Step] = STEPS) -> None:
    """Derives and stores in this process all that is on the tapes of `config.feeds`, and ends.

    Raises:
        TapeLockedError: another process does so at this moment.
    """
    for source in config.feeds:
        processors = processors_of(config, source)
        derivation = Derivation(processors, config.tape, config.data, source, steps)
        try:
            derivation.drain(CATCH_UP_S_MAX)
        finally:
            derivation.close()
    for name in config.sinks:
        for feeder in feeders(config, name):
            try:
                feeder.drain(CATCH_UP_S_MAX)
            finally:
                feeder.close()


def _watch_parent(stop_s_max: float) -> None:
    # The pipe ends when the parent does, by whatever death. Then stop as if asked to; and if that
    # takes too long, stop at once: the tape keeps everything that was published.
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(stop_s_max)
    os._exit(1)


@dataclass
class Child:
    """A worker's process, and how often it died."""

    worker: Worker
    process: "subprocess.Popen[bytes] | None" = None
    started: float = 0.0
    failures: int = 0
    restart_at: float = 0.0

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self.process is not None and self.process.poll() is None


class Supervisor:
    """Starts all workers of a `Config`, restarts what dies, and stops them in order.

    Call `poll` now and then, at least a few times a second.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.children = [Child(worker) for worker in workers(config)]
        self.logs = config.data / "log"

    def start(self) -> None:
        """Starts all workers."""
        self.logs.mkdir(parents=True, exist_ok=True)
        for child in self.children:
            self._spawn(child)

    def poll(self) -> None:
        """Restarts what died, after its delay.

        Raises:
            ConfigError: a worker says that its settings are wrong: no restart would help.
        """
        now = time.monotonic()
        for child in self.children:
            if child.alive:
                continue
            if child.process is not None:
                self._bury(child, now)
            if now >= child.restart_at:
                self._spawn(child)

    def stop(self) -> None:
        """Stops recorders, then derivation, then sinks, so that each drains what came before."""
        deadline = time.monotonic() + self.config.supervisor.stop_ms_max / 1000
        for kind in ORDER:
            group = [child for child in self.children if child.worker.kind == kind and child.alive]
            for child in group:
                if child.process is not None:
                    child.process.terminate()
            for child in group:
                self._await(child, deadline)
        for child in self.children:
            if child.process is not None and child.process.stdin is not None:
                child.process.stdin.close()

    def run(self, until: Callable[[], bool], pause_s: float = 0.1) -> None:
        """Starts, polls until `until` says so, and stops, whatever happens in between."""
        self.start()
        try:
            while not until():
                self.poll()
                time.sleep(pause_s)
        finally:
            self.stop()

    def _spawn(self, child: Child) -> None:
        command = [sys.executable, "-c", CHILD, child.worker.name]
        with self._open_log(child.worker) as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                # Ctrl-C goes to the whole group of the terminal: only the supervisor may act on
                # it, or the order of stopping would be lost.
                start_new_session=True,
            )
        child.process, child.started = process, time.monotonic()
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            pickle.dump(_order(self.config, child.worker), process.stdin)
            process.stdin.flush()

    def _open_log(self, worker: Worker) -> IO[bytes]:
        path = self.logs / f"{worker.name}.log"
        if path.exists() and path.stat().st_size > LOG_BYTES_MAX:
            path.replace(path.with_suffix(".log.1"))
        return path.open("ab")

    def _bury(self, child: Child, now: float) -> None:
        assert child.process is not None
        code, settings = child.process.returncode, self.config.supervisor
        last = self._last_line(child.worker)
        if child.process.stdin is not None:
            child.process.stdin.close()
        if code == EXIT_CONFIG:
            raise ConfigError(last or f"{child.worker.name}: its settings are wrong")
        if code == EXIT_REFUSED and len(self.config.feeds) == 1:
            raise VenueError(last)
        child.process = None
        if (now - child.started) * 1000 >= settings.healthy_ms:
            child.failures = 0
        delay_ms = min(settings.restart_ms << min(child.failures, 20), settings.restart_ms_max)
        child.failures += 1
        child.restart_at = now + delay_ms / 1000
        log.warning("%s ended with %s, again in %d ms: %s", child.worker.name, code, delay_ms, last)

    def _last_line(self, worker: Worker) -> str:
        try:
            with (self.logs / f"{worker.name}.log").open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
                lines = file.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return ""
        return LOG_HEAD.sub("", lines[-1]) if lines else ""

    def _await(self, child: Child, deadline: float) -> None:
        assert child.process is not None
        try:
            child.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            log.warning("%s did not stop in time: killed", child.worker.name)
            child.process.kill()
            child.process.wait()
            return
        # One that was still loading ends by the signal itself.
        if (code := child.process.returncode) not in (0, EXIT_INCOMPLETE, -signal.SIGTERM):
            last = self._last_line(child.worker)
            log.warning("%s ended with %s while stopping: %s", child.worker.name, code, last)


def stop_on_signals() -> Stop:
    """Makes Ctrl-C and SIGTERM ask this process to stop, and returns what they set."""
    stop = Stop()

    def ask(number: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGINT, ask)
    signal.signal(signal.SIGTERM, ask)
    return stop
