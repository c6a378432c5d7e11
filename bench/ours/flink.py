"""Books and l1 of ten instruments: the Flink job at parallelism 1, beside the local worker.

Argument 1: how many events, as a multiple of the numbers below; 2: what is measured:

- `tape`: the job in one process, from a tape to a sink that does nothing, records as they are;
- `worker`, its peer: the stages of the local worker in this process, from the same tape to tapes;
- `kafka`: the job from a topic of a real broker on this machine to topics, messages, exactly once.

A JVM takes seconds to start and to compile what it runs. So each is measured at two lengths, and
what is said is of the difference: events a second of wall clock, and of processor time of all
threads of the job, which has three at parallelism 1.

Sketch: 64 bytes an event are copied into the JVM and out of it twice, 20 ns; to deal it takes 30
ns, a book and l1 200 ns, and what a book tells of it goes the same way. A message is 130 bytes, and
takes 1 us to fetch and 2 us to send, in Java.
"""

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]

import numpy as np  # noqa: E402
from tests.services import SERVICES  # noqa: E402

from tapeworks import _core  # noqa: E402
from tapeworks.config import Section, Value  # noqa: E402
from tapeworks.flink.cluster import LocalJob  # noqa: E402
from tapeworks.flink_config import FlinkConfig  # noqa: E402
from tapeworks.pipeline import processors_of, resolve_config  # noqa: E402
from tapeworks.processors.derive import STEPS, Derivation  # noqa: E402
from tapeworks.registry import load_member, load_settings  # noqa: E402
from tapeworks.settings import Config, MetricSetsConfig, resolve_feed  # noqa: E402
from tapeworks.sinks.base import SinkContext  # noqa: E402
from tapeworks.sinks.feeder import Feeder  # noqa: E402
from tapeworks.topics import BOOK, NORMALIZED  # noqa: E402

SOURCE, INSTRUMENTS, LEVELS = "binance-spot", 10, 200
EVENTS = {"tape": 12_000_000, "worker": 12_000_000, "kafka": 1_200_000}
# The shorter length is so much of the longer.
SHORT = 1 / 6
# Of ten events; the rest are trades.
LEVELS_OF_TEN, QUOTES_OF_TEN = 5, 3
PROCESSORS = ("books", "metrics")
START = 1_780_000_000_000_000_000
NS_BETWEEN = 50_000
TICK, MID, UNIT = 10**7, 60_000 * 10**9, 10**8
SECONDS_MAX = 500.0


def rows(kind: str, count: int) -> np.ndarray:
    """Returns records of `kind`, all zero but for what tells it."""
    made = np.zeros(count, dtype=_core.dtype_descr(kind))
    made["length"], made["kind"] = made.dtype.itemsize // 8, _core.kind_of(kind)
    made["feed"], made["ts_event"], made["ts_recv"] = 1, START, START
    return made


def beginning() -> bytes:
    """Returns definitions, and a snapshot of each book."""
    channels, codes = _core.numbers("channel"), _core.numbers("marker_code")
    ids = np.arange(1, INSTRUMENTS + 1)
    definitions = rows("definition", INSTRUMENTS)
    definitions["instrument"] = ids
    definitions["symbol"] = [f"S{number:02}USDT".encode() for number in ids]
    parts = [definitions.tobytes()]
    for number in ids:
        ends, levels = rows("marker", 2), rows("level", 2 * LEVELS)
        for part in (ends, levels):
            part["instrument"], part["channel"], part["sequence"] = number, channels["snapshot"], 1
        ends["code"] = codes["snapshot_begin"], codes["snapshot_end"]
        ends["first"] = ends["last"] = 1
        ends["count"], ends["flags"] = 2 * LEVELS, (0, 1)
        steps = np.arange(1, LEVELS + 1) * TICK
        levels["side"] = np.repeat((1, 2), LEVELS)
        levels["price"] = np.concatenate((MID - steps, MID + steps))
        levels["size"], levels["flags"] = UNIT, 2
        parts += [ends[:1].tobytes(), levels.tobytes(), ends[1:].tobytes()]
    return b"".join(parts)


def events(count: int) -> bytes:
    """Returns updates of levels, quotes and trades of all instruments in turn, at 20 k/s."""
    random, channels = np.random.default_rng(7), _core.numbers("channel")
    levels = rows("level", count)
    quotes, trades = (levels.view(_core.dtype_descr(kind)) for kind in ("quote", "trade"))
    chance = random.integers(0, 10, count)
    is_level, is_trade = chance < LEVELS_OF_TEN, chance >= LEVELS_OF_TEN + QUOTES_OF_TEN
    levels["instrument"] = np.arange(count) % INSTRUMENTS + 1
    levels["ts_event"] = START + np.cumsum(random.integers(1, 2 * NS_BETWEEN, count))
    levels["ts_recv"], levels["flags"] = levels["ts_event"] + 1_000_000, 1
    sides, steps = random.integers(1, 3, count), random.integers(1, LEVELS, count) * TICK
    sizes = random.integers(1, 10**9, count)
    for number in range(INSTRUMENTS):
        own, updates = levels["sequence"][number::INSTRUMENTS], is_level[number::INSTRUMENTS]
        own[:] = 1 + np.cumsum(updates)
    quotes["bid_price"], quotes["ask_price"] = MID - TICK, MID + TICK
    quotes["bid_size"], quotes["ask_size"] = sizes, sizes[::-1]
    quotes["kind"] = _core.kind_of("quote")
    for kind, made, which in (("level", levels, is_level), ("trade", trades, is_trade)):
        new = rows(kind, count)
        for name in ("instrument", "ts_event", "ts_recv", "sequence", "flags"):
            new[name] = levels[name]
        new["price"] = np.where(sides == 1, MID - steps, MID + steps)
        new["size"], new["side"] = sizes, sides
        new["channel"] = channels["depth" if kind == "level" else "trade"]
        if kind == "trade":
            new["trade_id"], new["count"] = np.arange(count), 1
        made[which] = new[which]
    return levels.tobytes()


def fill(data: Path, count: int) -> Path:
    """Writes a tape of so many events; returns it."""
    tape = data / "tape" / SOURCE / NORMALIZED
    tape.mkdir(parents=True)
    content = events(count)
    with _core.TapeWriter(tape, durability="never") as writer:
        writer.append(beginning())
        for at in range(0, len(content), 64 * 1_000):
            writer.append(content[at : at + 64 * 1_000])
        writer.sync()
    return tape


def settings(data: Path) -> Config:
    """Returns what runs: books, and the set l1."""
    written = {"symbols": Value(["S01USDT"], "the benchmark")}
    feed = resolve_feed(SOURCE, Section(f"feeds.{SOURCE}", written))
    measured = MetricSetsConfig(sets=("l1",))
    return replace(resolve_config(Section()), data=data, feeds={SOURCE: feed}, metrics=measured)


def job(data: Path, **more: object) -> Callable[[], None]:
    """Returns what runs the job to the end of what there is."""
    places = {"folder": str(data / "output"), "checkpoints": str(data / "checkpoints")}
    flink = FlinkConfig(processors=PROCESSORS, **places, **more)  # type: ignore[arg-type]

    def work() -> None:
        local = LocalJob(replace(settings(data), flink=flink), bounded=True)
        try:
            local.run(lambda: False)
        finally:
            local.close()

    return work


def worker(data: Path) -> Callable[[], None]:
    """Returns what lets the stages of the local worker take all of the tape."""
    config = settings(data)
    steps = [step for step in STEPS if step.processor in PROCESSORS]
    processors = processors_of(config, SOURCE)

    def work() -> None:
        derivation = Derivation(processors, config.tape, data, SOURCE, steps)
        derivation.drain(SECONDS_MAX)
        derivation.close()

    return work


def publish(servers: str, data: Path, tape: Path, topic: str) -> None:
    """Publishes a tape by the Kafka sink."""
    given = {"servers": servers, "topics": (NORMALIZED,), "topic_prefix": topic}
    config = load_settings("sink", "kafka")(**given)
    sink = load_member("sink", "kafka")(config, SinkContext("kafka", data))
    feeder = Feeder(sink.partition(SOURCE, NORMALIZED), tape, config.policy)
    assert feeder.drain(SECONDS_MAX)
    feeder.close()


def measure(work: Callable[[], None]) -> np.ndarray:
    """Returns the seconds of wall clock and of processor time that it takes."""
    began = clocks()
    work()
    return clocks() - began


def clocks() -> np.ndarray:
    """Returns wall clock, and processor time of this process and those that ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    busy = sum(one.ru_utime + one.ru_stime for one in used)
    return np.array([time.perf_counter(), busy])


def taken(mode: str, data: Path, count: int, servers: str) -> np.ndarray:
    """Returns what a number of events takes."""
    tape = fill(data, count)
    if mode == "worker":
        took = measure(worker(data))
        books = _core.TapeReader(data / "tape" / SOURCE / BOOK)
        # A book that is not continuous would be quick.
        assert books.end > count * LEVELS_OF_TEN / 10 * 0.9
        return took
    if mode == "tape":
        return measure(job(data, source="tape", sink="none", form="records"))
    publish(servers, data, tape, prefix := f"{count}.")
    names = {"topic": prefix + NORMALIZED, "topic_prefix": f"made.{prefix}"}
    return measure(job(data, servers=servers, name=f"bench{count}", **names))


def main() -> None:
    """Prints events a second, by both clocks."""
    scale, mode = float(sys.argv[1]), sys.argv[2]
    count = max(60_000, int(EVENTS[mode] * scale))
    with tempfile.TemporaryDirectory() as name:
        if mode == "kafka":
            with SERVICES["kafka"]() as server:
                print(json.dumps(compare(mode, Path(name), count, f"127.0.0.1:{server.port}")))
        else:
            print(json.dumps(compare(mode, Path(name), count, "")))


def compare(mode: str, folder: Path, count: int, servers: str) -> dict[str, float]:
    """Returns the figures of the difference between two lengths."""
    few = int(count * SHORT)
    short, long = (taken(mode, folder / str(size), size, servers) for size in (few, count))
    # So few that starting is all: what is said then is of no worth.
    wall, busy = np.maximum(long - short, 1e-3)
    return {"value": (count - few) / wall, "core": (count - few) / busy, "start_s": short[0]}


if __name__ == "__main__":
    main()
