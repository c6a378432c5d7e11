"""A campaign of kills: simulator -> recorder -> derive -> sink, and an oracle at the end.

Each lane is a whole pipeline in a folder of its own, over a simulated exchange of its own; the
venues take turns. A random child is killed with SIGKILL at a random instant, restarted by the
supervisor, and so on; all chance comes from the seed that is printed. Then everything is stopped
in order and checked:

1. Every frame that was seen published on the raw tape at any time is still there, the same.
2. Every derived tape is byte for byte what a straight run over the raw tape gives.
3. Every table of the lake holds each record of its tape exactly once.
4. Every trade that the exchange made since the first stored one is in the lake exactly once, or in
   the gap ledger: by its id, or where ids prove nothing by its time.
"""

import argparse
import contextlib
import logging
import random
import shutil
import signal
import sys
import tempfile
import time
import zlib
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.crash.venues import BINANCE, VENUES, Venue, set_keys

from tapeworks.child import Child
from tapeworks.config import Section
from tapeworks.errors import TapeError
from tapeworks.feeds.session import build
from tapeworks.pipeline import (
    Config,
    Supervisor,
    SupervisorConfig,
    processors_of,
    resolve_config,
)
from tapeworks.processors.derive import NORMALIZE, RAW, STEPS, Derivation
from tapeworks.settings import MetricSetsConfig
from tapeworks.simulators import Simulator, start_simulator
from tapeworks.tape import TapeReader, tape_hash
from tapeworks.views.audit import audit

PAUSE_S_MAX = 1.5
LOOK_S = 0.01
SETTLE_S = 3.0
READY_S_MAX = 60.0
TELL_KILLS = 50
SUPERVISOR = SupervisorConfig(restart_ms=1, restart_ms_max=20, healthy_ms=100, stop_ms_max=60_000)


@dataclass
class Observed:
    """What was seen published on a raw tape: one checksum a frame, from offset 0 on."""

    path: Path
    sums: "array[int]" = field(default_factory=lambda: array("I"))
    reader: TapeReader | None = None

    def look(self) -> None:
        """Reads what is new."""
        if self.reader is None:
            try:
                self.reader = TapeReader(self.path)
            except (TapeError, OSError):
                return
        while (blobs := self.reader.read_blobs()) is not None:
            self.sums.extend(zlib.crc32(blob.body, blob.ts_recv & 0xFFFFFFFF) for blob in blobs)

    def missing(self) -> int:
        """Reads the tape anew; returns how many of the frames seen are gone or changed."""
        again = Observed(self.path)
        again.look()
        same = sum(a == b for a, b in zip(self.sums, again.sums, strict=False))
        return len(self.sums) - same


class Lane:
    """One pipeline whose children are killed."""

    def __init__(self, number: int, venue: Venue, config: Config, seed: int, kills: int) -> None:
        self.number = number
        self.venue = venue
        self.config = config
        self.kills_left = kills
        self.killed: Counter[str] = Counter()
        self.source = next(iter(config.feeds))
        self.observed = Observed(config.data / "tape" / self.source / RAW)
        self._chance = random.Random(seed * 1_000 + number)
        self._supervisor = Supervisor(config)
        self._next = 0.0

    def start(self) -> None:
        """Starts the pipeline and waits until frames are published."""
        self._supervisor.start()
        deadline = time.monotonic() + READY_S_MAX
        while not self.observed.sums:
            if time.monotonic() > deadline:
                raise SystemExit(f"lane {self.number}: nothing recorded in {READY_S_MAX} s")
            self._supervisor.poll()
            self.observed.look()
            time.sleep(LOOK_S)

    def step(self) -> None:
        """Restarts what died, and kills when it is time to."""
        self._supervisor.poll()
        now = time.monotonic()
        alive = [child for child in self._supervisor.children if child.alive]
        if now < self._next or not self.kills_left or not alive:
            return
        self.observed.look()
        self._kill(self._chance.choice(alive))
        self._next = now + self._chance.uniform(0, PAUSE_S_MAX)

    def settle(self) -> None:
        """Restarts what died, and kills nothing."""
        self._supervisor.poll()

    def stop(self) -> None:
        """Stops in order: all that was recorded is derived and stored."""
        self.observed.look()
        self._supervisor.stop()

    def _kill(self, child: Child) -> None:
        assert child.process is not None
        child.process.send_signal(signal.SIGKILL)
        self.killed[child.worker.kind] += 1
        self.kills_left -= 1


class Rebuilt:
    """The processors' settings of a lane, with those of `normalize`, which the recorder runs."""

    def __init__(self, config: Config, source: str) -> None:
        self.batch_items = 777
        self.own = config.processors.own
        self.own_rules = config.processors.own_rules
        self._processors = processors_of(config, source)
        self._feed = build(config.feeds[source]).native

    def settings(self, processor: str) -> Mapping[str, int | str | Sequence[int]]:
        """Returns the settings of `processor` by name."""
        if processor == NORMALIZE.processor:
            return {"feed": self._feed}
        return self._processors.settings(processor)


def derived_tapes_that_differ(config: Config, source: str) -> list[str]:
    """Derives everything again from the raw tape; returns the topics that came out otherwise."""
    live = config.data / "tape" / source
    with tempfile.TemporaryDirectory(dir=config.data) as folder:
        again = Path(folder) / "tape" / source
        again.mkdir(parents=True)
        (again / RAW).symlink_to((live / RAW).resolve())
        processors = Rebuilt(config, source)
        steps = (NORMALIZE, *STEPS)
        derivation = Derivation(processors, config.tape, Path(folder), source, steps)
        derivation.drain(600.0)
        derivation.close()
        return [
            step.target
            for step in steps
            # Only feeds that tell news have a tape of it.
            if any((tapes / step.target).is_dir() for tapes in (again, live))
            and tape_hash(again / step.target) != tape_hash(live / step.target)
        ]


def findings(lane: Lane) -> list[str]:
    """Checks a lane that was stopped; returns what does not hold."""
    wrong = []
    missing = lane.observed.missing()
    if missing:
        wrong.append(f"{missing} published raw frames are gone or changed")
    wrong += [
        f"{topic} differs from a straight run"
        for topic in derived_tapes_that_differ(lane.config, lane.source)
    ]
    wrong += [str(found) for found in audit(lane.config.data) if not found.exact]
    return wrong + lane.venue.trades_unaccounted(lane.config.data)


def lane_config(data: Path, simulator: Simulator, venue: Venue = BINANCE) -> Config:
    """Returns a pipeline that records the simulator into `data`, and flushes often."""
    base = resolve_config(Section())
    sinks = {name: replace(sink, flush_seconds=0.1) for name, sink in base.sinks.items()}
    feeds = {venue.source: venue.feed(simulator)}
    measured = MetricSetsConfig(sets=("l1", "ofi", "flow", "cost"))
    return replace(
        base, data=data, feeds=feeds, metrics=measured, sinks=sinks, supervisor=SUPERVISOR
    )


def run(given: argparse.Namespace, folder: Path) -> list[str]:
    """Runs the campaign in `folder`; returns what does not hold."""
    kills, count = given.kills, given.lanes
    chosen = [venue for venue in VENUES if given.venue in ("", venue.name)]
    with contextlib.ExitStack() as simulators:
        lanes = []
        for number in range(count):
            venue = chosen[number % len(chosen)]
            log = folder / f"simulator-{number}.log"
            simulated = venue.simulated(given.seed + number, given.rate)
            simulator = simulators.enter_context(start_simulator(venue.name, *simulated, log=log))
            config = lane_config(folder / f"lane-{number}", simulator, venue)
            own = kills // count + (number < kills % count)
            lanes.append(Lane(number, venue, config, given.seed, own))
        try:
            kill_all(lanes, kills)
        finally:
            for lane in lanes:
                lane.stop()
    wrong = []
    for lane in lanes:
        frames, killed = len(lane.observed.sums), dict(lane.killed)
        print(f"lane {lane.number}, {lane.source}: {frames:,} frames, killed {killed}", flush=True)
        wrong += [f"lane {lane.number}, {lane.source}: {one}" for one in findings(lane)]
    return wrong


def kill_all(lanes: list[Lane], kills: int) -> None:
    """Starts all lanes, kills until none is left to do, and lets them come to rest."""
    for lane in lanes:
        lane.start()
    told, began = 0, time.monotonic()
    while any(lane.kills_left for lane in lanes):
        for lane in lanes:
            lane.step()
        done = kills - sum(lane.kills_left for lane in lanes)
        if done - told >= TELL_KILLS:
            told = done
            print(f"{done} kills in {time.monotonic() - began:.0f} s", flush=True)
        time.sleep(LOOK_S)
    until = time.monotonic() + SETTLE_S
    while time.monotonic() < until:
        for lane in lanes:
            lane.settle()
        time.sleep(LOOK_S)


def main() -> int:
    """Reads the command line, runs, and says what holds; returns the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/crash", description=__doc__, allow_abbrev=False)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    parser.add_argument("--lanes", type=int, default=3)
    parser.add_argument("--rate", type=float, default=200.0)
    names = [venue.name for venue in VENUES]
    parser.add_argument("--venue", choices=names, default="", help="this one alone (all in turn)")
    parser.add_argument("--keep", type=Path, help="work here, and leave everything for a look")
    given = parser.parse_args()
    # Every kill would be a line otherwise.
    logging.getLogger("tapeworks.pipeline").setLevel(logging.ERROR)
    folder = given.keep or Path(tempfile.mkdtemp(prefix="tapeworks-crash-"))
    folder.mkdir(parents=True, exist_ok=True)
    print(f"seed {given.seed}, {given.kills} kills in {given.lanes} lanes, in {folder}", flush=True)
    began = time.monotonic()
    set_keys()
    wrong = run(given, folder)
    print(f"{given.kills} kills and all checks in {time.monotonic() - began:.0f} s")
    for finding in wrong:
        print(f"WRONG: {finding}")
    if wrong:
        print(f"left for a look: {folder}")
        return 1
    print("lost 0, duplicated 0")
    if given.keep is None:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
