"""All simulated venues, recorded by one `tape up` into the lake and all stores: do all agree?

Sketch: 20 k messages a second are 3 MB/s of frames; with tapes, lake and four stores on one machine
some 30 MB/s to the disk, and about one core, half of it the servers'. Each server is stopped and
started once, at a random instant, and is down for some seconds.

At the end each message that a simulator gave to a connection has to be on the raw tape and in the
lake exactly once (`tapeworks.simulators.proof`). Each store must have every trade and quote of the
tapes once: their number, the sum of their offsets, and the exact sums of prices and sizes are
compared. The memory that is a worker's own must not grow in the last third of the time.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import redis
from confluent_kafka import Consumer, TopicPartition

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]

from streams import KEYS, RATES, SETTINGS, SOURCES, part_of, until  # noqa: E402
from tests.services import (  # noqa: E402
    KafkaService,
    PostgresService,
    QuestDBService,
    RedisService,
    Service,
)
from tests.services.base import children_of  # noqa: E402

from tapeworks import _core  # noqa: E402
from tapeworks.simulators.base import Simulator, start_simulator  # noqa: E402
from tapeworks.simulators.proof import prove  # noqa: E402
from tapeworks.topics import NORMALIZED  # noqa: E402

COMMAND = "from tapeworks.cli import main; main()"
STORES = ("kafka", "postgres", "questdb", "redis")
SINKS = """
[sinks.parquet]
flush_seconds = 1
[sinks.kafka]
servers = "127.0.0.1:{kafka}"
topics = ["market-data.normalized"]
[sinks.postgres]
url = "{postgres}"
[sinks.questdb]
url = "{questdb}"
[sinks.redis]
url = "{redis}"
topics = ["market-data.normalized"]
entries_max = 0
"""
SUMMED = {"trade": ("price", "size"), "quote": ("bid_price", "ask_price")}
PLACES = {"price": 9, "size": 8, "bid_price": 9, "ask_price": 9}
DOWN_S = 3.0
SAMPLE_S = 2.0
CATCH_UP_S_MAX = 900.0
# What a worker's memory may be above that of the middle third of the time.
GROWTH_MAX, GROWTH_BYTES_MAX = 1.25, 48 << 20


@dataclass
class Summary:
    """What is compared of one kind of record and one source."""

    count: int = 0
    distinct: int = 0
    offsets: int = 0
    sums: tuple[Decimal, Decimal] = (Decimal(0), Decimal(0))

    def add(self, rows: "np.ndarray", offsets: "np.ndarray", kind: str) -> None:
        """Adds rows that come once."""
        self.count += len(rows)
        self.distinct += len(np.unique(offsets))
        self.offsets += int(offsets.sum())
        found = [exact_sum(rows[name], PLACES[name]) for name in SUMMED[kind]]
        self.sums = self.sums[0] + found[0], self.sums[1] + found[1]


Summaries = dict[tuple[str, str], Summary]
"""Source and kind -> what there is."""


def exact_sum(values: "np.ndarray", places: int) -> Decimal:
    """Returns the sum of fixed-point values, without those that are absent."""
    values = values[values != _core.NONE]
    # In two halves: the sum of millions of prices is beyond 64 bits.
    total = (int((values >> 32).sum()) << 32) + int((values & 0xFFFF_FFFF).sum())
    return Decimal(total).scaleb(-places)


def of_tapes(data: Path, sources: list[str]) -> Summaries:
    """Returns what the normalized tapes hold."""
    found: Summaries = defaultdict(Summary)
    for source in sources:
        reader = _core.TapeReader(data / "tape" / source / NORMALIZED)
        while (batch := reader.read(16_384)) is not None:
            take(found, source, batch, np.arange(batch.first_offset, batch.next_offset))
    return found


def take(
    found: Summaries,
    source: str,
    records: _core.Records,
    offsets: "np.ndarray",
    seen: dict[tuple[str, str], "np.ndarray"] | None = None,
) -> None:
    """Adds the trades and quotes of `records`, of which each has an offset; `seen` were before."""
    view, at, kinds = memoryview(records), 0, []
    while at < len(view):
        kinds.append(view[at + 1])
        at += view[at] * 8
    numbers = np.array(kinds)
    for kind in SUMMED:
        rows = np.frombuffer(records.numpy(kind), np.dtype(_core.dtype_descr(kind)))
        places = offsets[numbers == _core.kind_of(kind)]
        found[source, kind].add(rows, places, kind)
        if seen is not None and len(places):
            known = seen[source, kind]
            while len(known) <= places.max():
                known = seen[source, kind] = np.concatenate([known, np.zeros_like(known)])
            found[source, kind].distinct -= int(known[np.unique(places)].sum())
            known[places] = True


def of_messages(batches: Iterator[list[bytes]]) -> Summaries:
    """Returns what messages hold; an offset that comes again is not distinct."""
    found: Summaries = defaultdict(Summary)
    # Records of no instrument are in all partitions; trades and quotes are in one.
    seen: dict[tuple[str, str], np.ndarray] = defaultdict(lambda: np.zeros(1 << 20, bool))
    for messages in batches:
        records, origins, rejected = _core.decode_messages(messages)
        if rejected:
            raise SystemExit(f"messages that cannot be read: {rejected[:3]}")
        names = np.array([source for source, _ in origins])
        offsets = np.array([offset for _, offset in origins])
        view, at, starts = memoryview(records), 0, []
        while at < len(view):
            starts.append(at)
            at += view[at] * 8
        starts.append(at)
        for source in np.unique(names):
            chosen = np.flatnonzero(names == source)
            content = b"".join(bytes(view[starts[one] : starts[one + 1]]) for one in chosen)
            part = _core.Records.from_bytes(content)
            take(found, str(source), part, offsets[chosen], seen)
    return found


def of_kafka(servers: str) -> Summaries:
    """Returns what a consumer that reads committed messages sees."""
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "soak",
            "isolation.level": "read_committed",
            "enable.partition.eof": "true",
        }
    )
    partitions = list(consumer.list_topics(timeout=20).topics[NORMALIZED].partitions)
    consumer.assign([TopicPartition(NORMALIZED, number, 0) for number in partitions])

    def batches() -> Iterator[list[bytes]]:
        ended: set[int] = set()
        while len(ended) < len(partitions):
            found = []
            for message in consumer.consume(10_000, 0.2):
                if message.error():
                    ended.add(message.partition())
                else:
                    found.append(message.value())
            if found:
                yield found

    try:
        return of_messages(batches())
    finally:
        consumer.close()


def of_redis(url: str, sources: list[str]) -> Summaries:
    """Returns what the streams hold."""

    def batches() -> Iterator[list[bytes]]:
        with redis.from_url(url) as client:
            for source in sources:
                last = "-"
                while entries := client.xrange(f"{NORMALIZED}:{source}", last, "+", 10_000):
                    yield [fields[b"m"] for _, fields in entries]
                    last = "(" + entries[-1][0].decode()

    return of_messages(batches())


def of_postgres(url: str) -> Summaries:
    """Returns what the tables hold."""
    found: Summaries = {}
    with psycopg.connect(url, options="-c search_path=tapeworks") as connection:
        for kind, (first, second) in SUMMED.items():
            query = (
                "select provider, count(*), count(distinct id), sum(id), "
                f"coalesce(sum({first}), 0), coalesce(sum({second}), 0) from {kind}s group by 1"
            )
            for source, count, distinct, offsets, one, two in connection.execute(query.encode()):
                found[source, kind] = Summary(count, distinct, int(offsets), (one, two))
    return found


def of_questdb(server: QuestDBService) -> Summaries:
    """Returns what the tables hold."""
    while server.ask("select 1 from wal_tables() where writerTxn < sequencerTxn"):
        time.sleep(0.1)
    found: Summaries = {}
    for kind, (first, second) in SUMMED.items():
        query = (
            f"select provider, count(), count_distinct(id), sum(id), sum({first}), sum({second}) "
            f"from {kind}s"
        )
        for source, count, distinct, offsets, one, two in server.ask(query):
            sums = Decimal(one or 0), Decimal(two or 0)
            found[source, kind] = Summary(count, distinct, offsets, sums)
    return found


@dataclass
class Memory:
    """The memory of each worker, which is its own, over time."""

    samples: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    def sample(self, parent: int) -> None:
        """Looks at the supervisor and all that it started."""
        for pid, name in workers_of(parent):
            try:
                status = Path(f"/proc/{pid}/status").read_text()
            except OSError:
                continue
            own = next(line for line in status.splitlines() if line.startswith("RssAnon"))
            self.samples[name].append(int(own.split()[1]) << 10)

    def grown(self) -> list[str]:
        """Returns which workers grew in the last third of the time."""
        told = []
        for name, values in sorted(self.samples.items()):
            third = len(values) // 3
            before = max(values[third : 2 * third], default=0)
            after = max(values[2 * third :], default=0)
            if third and after > before * GROWTH_MAX + GROWTH_BYTES_MAX:
                told.append(f"{name}: {before >> 20} MiB, then {after >> 20} MiB")
        return told


def workers_of(parent: int) -> list[tuple[int, str]]:
    """Returns a process and what it started, each with its last words."""
    found = [(parent, "supervisor")]
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            above = int(path.read_text().rpartition(")")[2].split()[1])
            words = (path.parent / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if above == parent:
            shown = [word.decode(errors="replace") for word in words if word]
            found.append((int(path.parent.name), shown[-1] if shown else ""))
    return found


def settings_of(simulators: dict[str, Simulator], services: dict[str, Any]) -> str:
    """Returns the settings of everything; each venue's sources have its name before theirs."""
    text = ""
    for venue, simulator in simulators.items():
        of = SETTINGS[venue].format(ws=simulator.ws_url, rest=simulator.rest_url)
        text += of.replace("[feeds.", f"[feeds.{venue}-")
    return text + SINKS.format(
        kafka=services["kafka"].port,
        **{name: services[name].url() for name in ("postgres", "questdb", "redis")},
    )


def behind(data: Path, sources: list[str]) -> Counter[str]:
    """Returns how many durable records of a normalized tape each store lacks, of the worst one."""
    worst: Counter[str] = Counter()
    for source in sources:
        tape = data / "tape" / source / NORMALIZED
        durable = _core.TapeReader(tape).durable
        for name in STORES:
            stored = _core.load_offset(tape, f"sink-{name}") or 0
            worst[name] = max(worst[name], durable - stored)
    return worst


def processor_s(pid: int) -> float:
    """Returns the processor time of a process and of all that it started."""
    own = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = sum(map(int, own[11:15])) / os.sysconf("SC_CLK_TCK")
    return ticks + sum(processor_s(child) for child in children_of(pid))


@dataclass
class Run:
    """One run: what was sent, and what became of it."""

    seconds: float
    rate: float
    seed: int
    folder: Path
    memory: Memory = field(default_factory=Memory)
    told: dict[str, Any] = field(default_factory=dict)

    @property
    def sources(self) -> list[str]:
        """All sources."""
        return [f"{venue}-{name}" for venue, found in SOURCES.items() for name in found]

    def __call__(self) -> list[str]:
        """Runs; returns what is wrong."""
        with ExitStack() as stack:
            kinds = (KafkaService, PostgresService, QuestDBService, RedisService)
            services: dict[str, Any] = {kind.NAME: kind() for kind in kinds}
            for service in services.values():
                stack.enter_context(service)
            simulators = {}
            for venue, found in SOURCES.items():
                symbols = [symbol for of in found.values() for symbol in of.symbols]
                share = RATES[venue] * self.rate / 20_000 / len(SOURCES)
                words = ["--symbols", *symbols, "--seed", str(self.seed), "--wait"]
                words += ["--rate", str(share), "--settle", "3600"]
                words += ["--duration", str(self.seconds)]
                log = self.folder / f"{venue}.log"
                simulators[venue] = stack.enter_context(start_simulator(venue, *words, log=log))
            (self.folder / "tapeworks.toml").write_text(settings_of(simulators, services))
            oracles = self._record(simulators, services)
            return self._compare(oracles, services)

    def _record(
        self, simulators: dict[str, Simulator], services: dict[str, Service]
    ) -> dict[str, dict[str, Any]]:
        with (self.folder / "up.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", COMMAND, "up"],
                cwd=self.folder,
                env={**os.environ, **KEYS},
                stdout=log,
                stderr=log,
            )
        try:
            for venue, simulator in simulators.items():
                wanted = sum(of.streams for of in SOURCES[venue].values())
                until(lambda one=simulator, w=wanted: one.state()["streams"] >= w, process)
            for simulator in simulators.values():
                simulator.start()
            self._attack(process, simulators, services)
            oracles = {
                f"{venue}-{name}": part_of(oracle, of.symbols)
                for venue, oracle in ((v, s.oracle()) for v, s in simulators.items())
                for name, of in SOURCES[venue].items()
            }
        finally:
            # At once: a venue that is silent after its end would be a gap.
            process.send_signal(signal.SIGINT)
            self.told["exit_code"] = process.wait(120)
        # What the sinks had no time for is on the tapes.
        began = time.monotonic()
        words = [sys.executable, "-c", COMMAND, "job", "catch-up"]
        environment = {**os.environ, **KEYS}
        with (self.folder / "catch-up.log").open("wb") as log:
            subprocess.run(
                words,
                cwd=self.folder,
                env=environment,
                stdout=log,
                stderr=log,
                check=True,
                timeout=CATCH_UP_S_MAX,
            )
        self.told["caught_up_s"] = round(time.monotonic() - began, 1)
        return oracles

    def _attack(
        self,
        process: "subprocess.Popen[bytes]",
        simulators: dict[str, Simulator],
        services: dict[str, Service],
    ) -> None:
        """Restarts each server once while the simulators send, and watches memory."""
        chance = random.Random(self.seed)
        names = chance.sample(sorted(services), len(services))
        room = self.seconds * 0.6 / len(names)
        at = [self.seconds * 0.2 + room * (one + chance.random() * 0.5) for one in range(4)]
        due = list(zip(at, names, strict=True))
        began, down, lag_max = time.monotonic(), [], Counter[str]()
        cores = {name: -processor_s(one.pid) for name, one in services.items()}
        while due or not all(one.state()["done"] for one in simulators.values()):
            if process.poll() is not None:
                raise SystemExit(f"tape up ended: see {self.folder}/up.log")
            now = time.monotonic() - began
            if due and now >= due[0][0]:
                _, name = due.pop(0)
                cores[name] += processor_s(services[name].pid)
                services[name].halt()
                time.sleep(DOWN_S)
                services[name].start()
                down.append(name)
            self.memory.sample(process.pid)
            if now > 5:
                lag_max |= behind(self.folder / "data", self.sources)
            time.sleep(SAMPLE_S)
        while any(one.state()["unread_bytes"] for one in simulators.values()):
            time.sleep(0.1)
        self.told["sent_s"] = round(time.monotonic() - began, 1)
        self.told["restarted"], self.told["lag_max"] = down, dict(lag_max)
        for name, one in services.items():
            cores[name] += processor_s(one.pid)
        cores |= {f"tape up, {name}": processor_s(pid) for pid, name in workers_of(process.pid)[1:]}
        took = self.told["sent_s"]
        self.told["cores"] = {name: round(used / took, 2) for name, used in cores.items()}
        print(json.dumps(self.told), flush=True)
        time.sleep(1.0)

    def _compare(self, oracles: dict[str, dict[str, Any]], services: dict[str, Any]) -> list[str]:
        data, wrong = self.folder / "data", []
        proof = prove(data, oracles)
        sent = sum(of["count"] for part in oracles.values() for of in part["delivered"].values())
        self.told |= {
            "messages": sent,
            "messages_per_s": round(sent / self.told["sent_s"]),
            "lost": sum(stream.lost for stream in proof.streams),
            "doubled": sum(stream.duplicated for stream in proof.streams),
            "gaps": proof.gaps,
        }
        if not proof.holds or proof.gaps:
            wrong.append("the lake is not what the simulators sent")
        expected = {
            key: value for key, value in of_tapes(data, self.sources).items() if value.count
        }
        self.told["records_compared"] = sum(of.count for of in expected.values())
        for name, found in (
            ("kafka", of_kafka(f"127.0.0.1:{services['kafka'].port}")),
            ("postgres", of_postgres(services["postgres"].url())),
            ("questdb", of_questdb(services["questdb"])),
            ("redis", of_redis(services["redis"].url(), self.sources)),
        ):
            stored = {key: value for key, value in found.items() if value.count}
            self.told[name] = sum(of.count for of in stored.values())
            wrong += [
                f"{name}: {source}: {kind}: expected {expected.get((source, kind))}, "
                f"got {stored.get((source, kind))}"
                for source, kind in sorted(expected.keys() | stored.keys())
                if expected.get((source, kind)) != stored.get((source, kind))
            ]
        self.told["memory_max_mib"] = {
            name: max(values) >> 20 for name, values in sorted(self.memory.samples.items())
        }
        return wrong + [f"memory grew: {line}" for line in self.memory.grown()]


def main() -> int:
    """Prints, as JSON, what was while it ran, then what was found; what is wrong, a line each."""
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--rate", type=float, default=20_000.0, help="messages a second, in all")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--keep", type=Path, help="work here, and leave everything for a look")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tapeworks-soak-") as made:
        folder = given.keep or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        run = Run(given.seconds, given.rate, given.seed, folder)
        wrong = run()
    print(json.dumps(run.told))
    for line in wrong:
        print(line)
    agree = "disagree" if wrong else "agree"
    print(f"soak: {', '.join(('the lake', *STORES))} {agree}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
