"""Kills a recording pipeline and the job of Flink at random, and compares what the two made.

A simulated exchange is recorded; the tape of its records is derived by the local worker, and
published to Kafka by the sink. The job reads that topic and writes to topics of its own. Recorder,
derive worker, sink, JobManager and TaskManager are killed with SIGKILL at random instants; where
the JobManager was, the job goes on with another parallelism. At the end, for each instrument and
topic, the bytes of the local worker, of a replay of the raw tape, and of the job have to be the
same. Then the job reads the tape itself, with batches of several sizes.
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
from collections import Counter
from dataclasses import replace
from pathlib import Path

from tests.crash.campaign import Lane, derived_tapes_that_differ, lane_config
from tests.crash.venues import BINANCE, set_keys
from tests.flink import outputs
from tests.services import KafkaService

from tapeworks.flink.cluster import LocalJob
from tapeworks.flink_config import FlinkConfig
from tapeworks.settings import Config
from tapeworks.simulators import start_simulator
from tapeworks.sinks.kafka import KafkaConfig

LEVELS = (1, 2, 4)
SIZES = (1, 7, 4_096)
STALLED_S_MAX = 90.0
READY_S_MAX = 60.0
LOOK_S = 0.02
SHARE = 0.35
"""Of the kills, those that hit the job."""


class AttackedJob:
    """The job on a JobManager and a TaskManager, either of which is killed.

    Where the JobManager was, the job goes on with another parallelism.
    """

    def __init__(self, config: Config, chance: random.Random) -> None:
        self._chance = chance
        self._job = LocalJob(config, task_managers=1)
        self.killed = Counter[str]()

    def poll(self) -> None:
        """Starts what ended."""
        self._job.start()

    def kill(self) -> None:
        """Kills one of the two at once."""
        [worker] = self._job.task_managers
        name = self._chance.choice(("JobManager", "TaskManager"))
        process = self._job.process if name == "JobManager" else worker
        assert process is not None
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.killed[name] += 1
        if name == "JobManager":
            self._job.rescale(self._chance.choice(LEVELS))

    def close(self) -> None:
        """Ends both."""
        self._job.close()


def pipeline(data: Path, simulator, broker: KafkaService) -> Config:  # type: ignore[no-untyped-def]
    """Returns a lane that also publishes its records, and the job that reads them."""
    config = lane_config(data, simulator, BINANCE)
    servers = f"127.0.0.1:{broker.port}"
    sink = KafkaConfig(
        kind="kafka",
        servers=servers,
        topics=(outputs.NORMALIZED,),
        partitions=3,
        flush_seconds=0.1,
        timeout_seconds=5.0,
    )
    flink = FlinkConfig(
        servers=servers,
        checkpoints=str(data / "checkpoints"),
        checkpoint_ms=500,
        partitions=2,
        cluster={"taskmanager.numberOfTaskSlots": str(max(LEVELS))},
    )
    return replace(config, sinks={**config.sinks, "kafka": sink}, flink=flink)


def attack(kills: int, seed: int, folder: Path) -> tuple[Counter[str], list[str]]:
    """Runs the campaign; returns counts and what does not hold."""
    chance = random.Random(seed)
    of_job = round(kills * SHARE) if kills > 1 else kills
    counts, wrong = Counter[str](), list[str]()
    with contextlib.ExitStack() as running:
        broker = running.enter_context(KafkaService())
        simulated = BINANCE.simulated(seed, 200.0)
        log = folder / "simulator.log"
        simulator = running.enter_context(start_simulator(BINANCE.name, *simulated, log=log))
        config = pipeline(folder / "lane", simulator, broker)
        lane = Lane(0, BINANCE, config, seed, kills - of_job)
        job = AttackedJob(config, chance)
        running.callback(job.close)
        try:
            lane.start()
            job.poll()
            due = time.monotonic() + 6.0
            while lane.kills_left or job.killed.total() < of_job:
                lane.step()
                job.poll()
                if job.killed.total() < of_job and time.monotonic() >= due:
                    job.kill()
                    due = time.monotonic() + chance.uniform(0.5, 12.0)
                time.sleep(LOOK_S)
        finally:
            lane.stop()
        source = lane.source
        counts.update({f"killed {name}": count for name, count in lane.killed.items()})
        counts.update({f"killed {name}": count for name, count in job.killed.items()})
        differing = derived_tapes_that_differ(config, source)
        wrong += [f"{topic}: live differs from replay" for topic in differing]
        expected = outputs.of_tapes(config.data / "tape" / source, source)
        found = settle(job, broker, config, outputs.total(expected))
        differ, told = outputs.differences(expected, found)
        counts += differ
        counts["messages"] = outputs.total(expected)
        wrong += told
    return counts, wrong


def settle(job: AttackedJob, broker: KafkaService, config: Config, count: int) -> outputs.Messages:
    """Waits until the job has written as much as is expected, or gets no further."""
    before, deadline = -1, time.monotonic() + STALLED_S_MAX
    while True:
        job.poll()
        found = outputs.of_topics(broker.port, config.flink.topic_prefix)
        if (now := outputs.total(found)) >= count or time.monotonic() > deadline:
            return found
        if now > before:
            before, deadline = now, time.monotonic() + STALLED_S_MAX
        time.sleep(0.5)


def compare_sizes(data: Path, source: str, *, pairs: list[tuple[int, int]]) -> list[str]:
    """Runs the job over a tape with batches of each size; returns what differs."""
    wrong = []
    expected = outputs.of_tapes(data / "tape" / source, source)
    for size, level in pairs:
        with tempfile.TemporaryDirectory(dir=data) as folder:
            found = run_on_tape(data, source, Path(folder), size, level)
        _, told = outputs.differences(expected, found)
        wrong += [f"batches of {size}, parallelism {level}: {one}" for one in told]
        print(
            f"batches of {size}, parallelism {level}: {outputs.total(found):,} messages, "
            f"{'equal' if not told else 'DIFFERENT'}",
            flush=True,
        )
    return wrong


def run_on_tape(data: Path, source: str, folder: Path, size: int, level: int) -> outputs.Messages:
    """Runs the job over the tape of a source to its end; returns what it wrote to files."""
    config = tape_job(data, source, folder, size, level)
    job = LocalJob(config, bounded=True)
    try:
        job.run(lambda: False)
    finally:
        job.close()
    return outputs.of_files(folder / "output")


def tape_job(data: Path, source: str, folder: Path, size: int, level: int) -> Config:
    """Returns the job that reads the tape of a source."""
    config = lane_settings(data, source)
    flink = FlinkConfig(
        source="tape",
        sink="files",
        folder=str(folder / "output"),
        checkpoints=str(folder / "checkpoints"),
        parallelism=level,
        batch_items=size,
    )
    return replace(config, flink=flink)


def lane_settings(data: Path, source: str) -> Config:
    """Returns the settings that a lane was derived with."""

    class NoServer:
        ws_url, rest_url = "ws://127.0.0.1:1", "http://127.0.0.1:1"

    config = lane_config(data, NoServer(), BINANCE)  # type: ignore[arg-type]
    assert source in config.feeds
    return config


def main() -> int:
    """Reads the command line, runs, and says what holds; returns the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/flink --check", description=__doc__)
    parser.add_argument("--check", action="store_true", help="what this does")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    parser.add_argument("--short", action="store_true", help="each size and parallelism once")
    parser.add_argument("--keep", type=Path, help="work here, and leave everything for a look")
    given = parser.parse_args()
    logging.getLogger("tapeworks.pipeline").setLevel(logging.ERROR)
    folder = given.keep or Path(tempfile.mkdtemp(prefix="tapeworks-flink-"))
    folder.mkdir(parents=True, exist_ok=True)
    print(f"seed {given.seed}, {given.kills} kills, in {folder}", flush=True)
    began = time.monotonic()
    set_keys()
    counts, wrong = attack(given.kills, given.seed, folder)
    pairs = list(zip(SIZES, LEVELS, strict=True))
    if not given.short:
        pairs = [(size, level) for size in SIZES for level in LEVELS]
    wrong += compare_sizes(folder / "lane", BINANCE.source, pairs=pairs)
    for finding in wrong:
        print(f"WRONG: {finding}")
    told = ", ".join(f"{name} {counts[name]}" for name in sorted(counts) if "killed" in name)
    print(
        f"{told}; {counts['messages']:,} messages, lost {counts['lost']}, doubled "
        f"{counts['doubled']}, disordered {counts['disordered']}, in "
        f"{time.monotonic() - began:.0f} s"
    )
    if wrong:
        print(f"left for a look: {folder}")
        return 1
    if given.keep is None:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
