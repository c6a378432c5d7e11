"""Kills a recording pipeline and the job of Flink at random, and compares what the two made.

A simulated exchange is recorded; the tape of its records is derived by the local worker, and
published to Kafka by the sink. The job reads that topic and writes to topics of its own. Recorder,
derive worker, sinks, JobManager and TaskManager are killed with SIGKILL at random instants; where
the JobManager was, the job goes on with another parallelism and another size of batches. At the
end, for each instrument and topic, the bytes of the local worker, of a replay of the raw tape, and
of the job have to be the same. Then the job reads the tape itself, with batches of each size at
each parallelism; is rescaled from savepoints, 1 to 2 to 4; is given states that it must refuse; and
`tape flink run` is killed, which leaves no process behind.

The last line begins with `OK` or `FAILED`, as the exit code says, 0 or 1.
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
import traceback
from collections import Counter
from dataclasses import replace
from pathlib import Path

from tests.crash.campaign import Lane, derived_tapes_that_differ, lane_config
from tests.crash.venues import BINANCE, set_keys
from tests.flink import outputs
from tests.flink.attacked import LEVELS, SIZES, AttackedJob
from tests.flink.orphans import orphans
from tests.flink.savepoints import refusals, rescale
from tests.services import KafkaService

from tapeworks.flink.cluster import LocalJob
from tapeworks.flink.job import CHECKPOINT_S_MAX
from tapeworks.flink_config import FlinkConfig
from tapeworks.settings import Config
from tapeworks.simulators import start_simulator
from tapeworks.sinks.kafka import KafkaConfig

# Longer than a checkpoint may hang, which stands still until the job is begun again.
STALLED_S_MAX = 2 * CHECKPOINT_S_MAX + 60.0
LOOK_S = 0.01
ASK_S = 2.0
PAUSE_S_MAX = 3.0
SHARE = 0.4
"""Of the kills, those that hit the job."""
SETTLE_S = 2.0
RATE = 200.0
FETCH = "metrics.fetcher.update-interval"


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


def kill_all(lane: Lane, job: AttackedJob, kills: int, chance: random.Random) -> None:
    """Kills so often, at random, whatever of the two runs."""
    of_job, due = round(kills * SHARE), 0.0
    of_lane = kills - of_job
    while of_lane or of_job or lane.kills_left:
        lane.step()
        if of_job and job.is_due():
            of_job -= job.kill()
        elif job.failure:
            raise SystemExit(f"the job is over: {job.failure}")
        now = time.monotonic()
        # The lane's kills are spread over the time that the job's take.
        if of_lane and now >= due and (not of_job or chance.random() < 0.5):
            lane.kills_left += 1
            of_lane -= 1
            due = now + chance.uniform(0, PAUSE_S_MAX)
        time.sleep(LOOK_S)
    until = time.monotonic() + SETTLE_S
    while time.monotonic() < until:
        lane.settle()
        time.sleep(LOOK_S)


def attack(kills: int, seed: int, folder: Path) -> tuple[Counter[str], list[str]]:
    """Runs the campaign; returns counts and what does not hold."""
    chance = random.Random(seed)
    counts, wrong = Counter[str](), list[str]()
    with contextlib.ExitStack() as running:
        broker = running.enter_context(KafkaService())
        simulated = BINANCE.simulated(seed, RATE)
        log = folder / "simulator.log"
        simulator = running.enter_context(start_simulator(BINANCE.name, *simulated, log=log))
        config = pipeline(folder / "lane", simulator, broker)
        lane = Lane(0, BINANCE, config, seed, 0)
        job = AttackedJob(config, chance)
        running.callback(job.close)
        try:
            lane.start()
            job.start()
            kill_all(lane, job, kills, chance)
        finally:
            lane.stop()
        source = lane.source
        counts.update({name.partition("-")[0]: count for name, count in lane.killed.items()})
        counts.update(job.killed)
        print(
            f"killed {told_of(counts)}; the job ran at parallelism {sorted(job.levels)} with "
            f"batches of {sorted(job.sizes)}",
            flush=True,
        )
        missing = lane.observed.missing()
        wrong += [f"{missing} published raw frames are gone or changed"] if missing else []
        differing = derived_tapes_that_differ(config, source)
        wrong += [f"{topic}: live differs from replay" for topic in differing]
        expected = outputs.of_tapes(config.data / "tape" / source, source)
        counts["killed"] = counts.total()
        counts["messages"] = outputs.total(expected)
        found = settle(job, broker, config, outputs.total(expected))
        differ, told = outputs.differences(expected, found)
        counts += differ
        wrong += told
        wrong += [f"the job is over: {job.failure}"] if job.failure else []
    return counts, wrong


def told_of(killed: Counter[str]) -> str:
    """Returns who was killed how often."""
    return ", ".join(f"{name} {count}" for name, count in sorted(killed.items()))


def settle(job: AttackedJob, broker: KafkaService, config: Config, count: int) -> outputs.Messages:
    """Waits until the job has written as much as is expected, or gets no further."""
    before, deadline = -1, time.monotonic() + STALLED_S_MAX
    while True:
        found = outputs.of_topics(broker.port, config.flink.topic_prefix)
        now = outputs.total(found)
        # What is published too often would come within a checkpoint or two.
        if (now >= count and before >= count) or job.failure or time.monotonic() > deadline:
            return found
        if now > before:
            before, deadline = now, time.monotonic() + STALLED_S_MAX
        time.sleep(ASK_S)


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
            f"batches of {size:,}, parallelism {level}: {outputs.total(found):,} messages, "
            f"{'equal' if not told else 'DIFFERENT'}",
            flush=True,
        )
    return wrong


def try_savepoints(data: Path, source: str, folder: Path) -> list[str]:
    """Rescales the job from savepoints, and gives it states to refuse; returns what is wrong."""
    folder.mkdir()
    config = tape_job(data, source, folder, max(SIZES), 1)
    cluster = {"taskmanager.numberOfTaskSlots": str(max(LEVELS)), FETCH: "200"}
    config = replace(config, data=folder, flink=replace(config.flink, cluster=cluster))
    told, savepoint = rescale(config, folder, source, data / "tape" / source)
    print(f"rescaled 1 to 2 to 4: {'equal' if not told else 'DIFFERENT'}", flush=True)
    return [f"rescaled: {one}" for one in told] + refusals(config, folder, savepoint)


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


def check(given: argparse.Namespace, folder: Path, counts: Counter[str], wrong: list[str]) -> None:
    """Runs all parts; adds to counts and to what does not hold."""
    set_keys()
    counted, told = attack(given.kills, given.seed, folder)
    counts.update(counted)
    wrong += told
    print(
        f"{counts['messages']:,} messages live, replayed and by the job: "
        f"{'equal' if not told else 'DIFFERENT'}",
        *told,
        sep="\n",
        flush=True,
    )
    pairs = list(zip(SIZES, LEVELS, strict=True))
    if not given.short:
        pairs = [(size, level) for size in SIZES for level in LEVELS]
    wrong += compare_sizes(folder / "lane", BINANCE.source, pairs=pairs)
    if not given.short:
        wrong += try_savepoints(folder / "lane", BINANCE.source, folder / "savepoints")
    wrong += orphans(folder / "orphans")


def main() -> int:
    """Reads the command line, runs, and says what holds; returns the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/flink", description=__doc__, allow_abbrev=False)
    parser.add_argument("--check", action="store_true", required=True, help="what this does")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    parser.add_argument(
        "--short", action="store_true", help="each size and level once, no savepoints"
    )
    parser.add_argument("--keep", type=Path, help="work here, and leave everything for a look")
    given = parser.parse_args()
    logging.getLogger("tapeworks.pipeline").setLevel(logging.ERROR)
    # As Ctrl-C: all that was started is stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = (given.keep or Path(tempfile.mkdtemp(prefix="tapeworks-flink-"))).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    print(f"seed {given.seed}, {given.kills} kills, in {folder}", flush=True)
    began = time.monotonic()
    counts, wrong = Counter[str](), list[str]()
    try:
        check(given, folder, counts, wrong)
    except BaseException as error:
        traceback.print_exc()
        wrong.append(f"it broke off: {type(error).__name__}: {error}")
    for finding in wrong:
        print(f"WRONG: {finding}")
    if wrong:
        print(f"left for a look: {folder}")
    elif given.keep is None:
        shutil.rmtree(folder)
    print(
        f"{'FAILED' if wrong else 'OK'}: seed {given.seed}, {counts['killed']} of {given.kills} "
        f"kills, {counts['messages']:,} messages, lost {counts['lost']}, duplicated "
        f"{counts['doubled']}, disordered {counts['disordered']}, {len(wrong)} findings, in "
        f"{time.monotonic() - began:.0f} s",
        flush=True,
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
