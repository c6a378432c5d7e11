"""A campaign of kills: simulator -> recorder -> derive -> sink, and an oracle at the end.

Each lane is a whole pipeline in a folder of its own, over one simulated exchange. A random child
is killed with SIGKILL at a random instant, restarted by the supervisor, and so on; all chance
comes from the seed that is printed. Then everything is stopped in order and checked:

1. Every frame that was seen published on the raw tape at any time is still there, the same.
2. Every derived tape is byte for byte what a straight run over the raw tape gives.
3. Every table of the lake holds each record of its tape exactly once.
4. Every trade that the exchange made since the first stored one is in the lake exactly once, or in
   the gap ledger.
"""

import argparse
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

from tapeworks.child import Child
from tapeworks.config import Section, Value
from tapeworks.errors import TapeError
from tapeworks.pipeline import (
    Config,
    Supervisor,
    SupervisorConfig,
    processors_of,
    resolve_config,
    resolve_feed,
)
from tapeworks.processors.derive import NORMALIZE, RAW, STEPS, Derivation
from tapeworks.settings import MetricSetsConfig
from tapeworks.simulators import Simulator, start_simulator
from tapeworks.tape import TapeReader, tape_hash
from tapeworks.views.audit import audit
from tapeworks.views.lake import Lake

PAUSE_S_MAX = 1.5
LOOK_S = 0.01
SETTLE_S = 3.0
READY_S_MAX = 60.0
TELL_KILLS = 50
SYMBOLS = ("BTCUSDT", "ETHUSDT")
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

    def __init__(self, number: int, config: Config, seed: int, kills: int) -> None:
        self.number = number
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
        self._processors = processors_of(config, source)
        self._feed = config.feeds[source].feed

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
            if tape_hash(again / step.target) != tape_hash(live / step.target)
        ]


def trades_unaccounted(data: Path) -> list[str]:
    """Returns what the lake and the ledger together do not say of the trades, by symbol."""
    lake = Lake(data)
    wrong = []
    for symbol in SYMBOLS:
        where = f"symbol = '{symbol}' and channel = 'trade'"
        ids = lake.sql(f"select trade_id from trades where {where} order by 1").to_arrow()
        stored = [int(number) for number in ids.column(0).to_pylist()]
        if len(stored) != len(set(stored)):
            wrong.append(f"{symbol}: {len(stored) - len(set(stored))} trade ids twice")
        gaps = lake.sql(
            f"select first_missing, last_missing from gaps where {where} and cause = 'sequence'"
        ).to_pylist()
        excused = [(int(gap["first_missing"]), int(gap["last_missing"])) for gap in gaps]
        missing = sorted(set(range(stored[0], stored[-1] + 1)) - set(stored)) if stored else []
        silent = [id_ for id_ in missing if not any(low <= id_ <= high for low, high in excused)]
        if silent:
            wrong.append(f"{symbol}: {len(silent)} trades missing, not in the ledger: {silent[:5]}")
        false = sum(id_ in set(stored) for low, high in excused for id_ in range(low, high + 1))
        if false:
            wrong.append(f"{symbol}: {false} trades in the ledger that are stored")
    return wrong


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
    return wrong + trades_unaccounted(lane.config.data)


def lane_config(data: Path, simulator: Simulator) -> Config:
    """Returns a pipeline that records the simulator into `data`, and flushes often."""
    written: dict[str, Value | Section] = {
        "symbols": Value(list(SYMBOLS), "the campaign"),
        "ws_url": Value(simulator.ws_url, "the campaign"),
        "rest_url": Value(simulator.rest_url, "the campaign"),
    }
    feed = resolve_feed("binance-spot", Section("feeds.binance-spot", written))
    base = resolve_config(Section())
    sinks = {name: replace(sink, flush_seconds=0.1) for name, sink in base.sinks.items()}
    measured = MetricSetsConfig(sets=("l1", "ofi", "flow", "cost"))
    return replace(
        base,
        data=data,
        feeds={"binance-spot": feed},
        metrics=measured,
        sinks=sinks,
        supervisor=SUPERVISOR,
    )


def run(kills: int, seed: int, count: int, rate: float, folder: Path) -> list[str]:
    """Runs the campaign in `folder`; returns what does not hold."""
    arguments = ["--symbols", *SYMBOLS, "--seed", str(seed), "--rate", str(rate)]
    # Every restart asks for both books: at any other limit the campaign would test back-off.
    arguments += ["--weight-per-minute", "100000000", "--levels", "200"]
    with start_simulator("binance", *arguments, log=folder / "simulator.log") as simulator:
        lanes = [
            Lane(
                number,
                lane_config(folder / f"lane-{number}", simulator),
                seed,
                kills // count + (number < kills % count),
            )
            for number in range(count)
        ]
        try:
            kill_all(lanes, kills)
        finally:
            for lane in lanes:
                lane.stop()
    wrong = []
    for lane in lanes:
        frames = len(lane.observed.sums)
        print(f"lane {lane.number}: {frames:,} frames, killed {dict(lane.killed)}", flush=True)
        wrong += [f"lane {lane.number}: {finding}" for finding in findings(lane)]
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
    parser.add_argument("--keep", type=Path, help="work here, and leave everything for a look")
    given = parser.parse_args()
    # Every kill would be a line otherwise.
    logging.getLogger("tapeworks.pipeline").setLevel(logging.ERROR)
    folder = given.keep or Path(tempfile.mkdtemp(prefix="tapeworks-crash-"))
    folder.mkdir(parents=True, exist_ok=True)
    print(f"seed {given.seed}, {given.kills} kills in {given.lanes} lanes, in {folder}", flush=True)
    began = time.monotonic()
    wrong = run(given.kills, given.seed, given.lanes, given.rate, folder)
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
