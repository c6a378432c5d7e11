"""A campaign against the sinks of stores: kills and faults, and then store and tape are compared.

Trades of two sources are appended to tapes all the time, while the worker of the sink, a process,
stores them by way of a proxy. It is killed at random instants; the server is killed, restarted and
paused, and may forget what it confirmed last; the network is cut, silenced, slowed, and loses
answers to commits; a second instance runs; the rights are revoked; some trades are such that the
store refuses them for good. At random moments, and at the end, what readers of the store see has to
be a prefix of the tape: nothing lost, nothing doubled, in order, without what was rejected. All
chance comes from the seed.
"""

import argparse
import importlib
import json
import logging
import multiprocessing
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import numpy as np
from tests.conftest import RecordMaker

from tapeworks import _core

from . import proxy as net
from .base import Store
from .worker import SOURCES, TOPIC

STORES = {
    "clickhouse": "tests.stores.clickhouse:ClickHouseStore",
    "iceberg": "tests.stores.iceberg:IcebergStore",
    "kafka": "tests.stores.kafka:KafkaStore",
    "postgres": "tests.stores.postgres:PostgresStore",
    "questdb": "tests.stores.questdb:QuestDBStore",
    "redis": "tests.stores.redis:RedisStore",
}
"""Name of a sink -> its `Store`."""
POISON_EVERY = 5_003
ROWS_MAX = 900
BACKLOG_MAX = 50_000
SETTLE_S_MAX = 120.0
SLOW_S_MAX = 900.0
TOLD_LINES = 12
CONTEXT = multiprocessing.get_context("forkserver")


class Tapes:
    """The tapes of all sources, which grow; and what is on them, to compare with."""

    def __init__(self, data: Path) -> None:
        self._maker = RecordMaker()
        self._writers = {}
        self.ids: dict[str, int] = dict.fromkeys(SOURCES, 0)
        for source in SOURCES:
            folder = data / "tape" / source / TOPIC
            folder.mkdir(parents=True)
            writer = self._writers[source] = _core.TapeWriter(folder)
            writer.append(self._maker.definitions().tobytes())
            writer.sync()

    def grow(self, source: str, count: int) -> None:
        """Appends trades, durably."""
        rows = self._maker.trades(count, self.ids[source])
        # Ten a second and two days more for each million: days pass while the campaign runs.
        rows["ts_event"] += np.int64(self.ids[source]) * 172_800_000
        self._writers[source].append(rows.tobytes(), ts=int(rows["ts_recv"].max()))
        self._writers[source].sync()
        self.ids[source] += count

    def close(self) -> None:
        """Closes the tapes."""
        for writer in self._writers.values():
            writer.close()


@dataclass
class Result:
    """What a campaign found; `complaints` are what is wrong."""

    figures: Counter[str] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)

    def line(self, name: str) -> str:
        """Returns the summary of one store."""
        counts = ("kills", "faults", "rows", "lost", "duplicated", "disordered", "rejected")
        told = ", ".join(f"{key} {self.figures[key]}" for key in counts)
        return f"{name}: {told}, complaints {len(self.complaints)}"


class Lane:
    """One store under attack."""

    def __init__(self, store: Store, folder: Path, seed: int) -> None:
        self.store = store
        self.random = random.Random(seed)
        self.data = folder / "data"
        self.log = folder / "sink.log"
        self.tapes = Tapes(self.data)
        self.proxy = net.Proxy(*store.proxied)
        self.result = Result()
        self.poisoned: frozenset[int] = frozenset()
        self.settings = store.settings(self.proxy.port)
        self.worker: ForkServerProcess | None = None
        # The same tapes under another data folder: the store itself has to keep it out.
        self.twin = folder / "twin"
        self.twin.mkdir()
        for name in store.SHARED:
            (self.twin / name).symlink_to(self.data / name)

    def spawn(self, data: Path | None = None) -> ForkServerProcess:
        """Starts a worker."""
        arguments = (data or self.data, self.store.NAME, self.settings, self.log)
        process = CONTEXT.Process(target=self.store.RUN, args=arguments)
        process.start()
        return process

    def work(self, seconds: float) -> None:
        """Lets the tapes grow for a while, and keeps a worker running."""
        deadline = time.monotonic() + seconds
        while True:
            if self.worker is None or not self.worker.is_alive():
                if self.worker is not None and self.worker.exitcode not in (-signal.SIGKILL, 0, 3):
                    self.complain(f"the worker ended with {self.worker.exitcode}")
                self.worker = self.spawn()
            source = self.random.choice(SOURCES)
            # The store is attacked where it keeps up: no backlog of the last fault is in the way.
            if self.backlog(source) < BACKLOG_MAX:
                self.tapes.grow(source, self.random.randint(1, ROWS_MAX))
            if time.monotonic() >= deadline:
                return
            time.sleep(self.random.uniform(0, 0.02))

    def backlog(self, source: str) -> int:
        """Returns how many trades are not yet stored, as the sink says to the retention."""
        tape = self.data / "tape" / source / TOPIC
        stored = _core.load_offset(tape, self.store.stage) or 0
        return self.tapes.ids[source] - stored

    def kill(self) -> None:
        """Kills the worker at a random instant."""
        self.work(self.random.uniform(0, 0.6 * self.store.PACE))
        assert self.worker is not None
        self.worker.kill()
        self.worker.join()
        self.result.figures["kills"] += 1

    def complain(self, told: str) -> None:
        """Notes what is wrong."""
        self.result.complaints.append(told)

    # Faults.

    def server_killed(self) -> None:
        """The server is killed, may forget what it confirmed, and starts again after a while."""
        self.store.service.kill()
        self.work(self.random.uniform(0, 1))
        self.store.service.start()

    def server_restarted(self) -> None:
        """The server is stopped in good order, and starts again."""
        self.store.service.halt()
        self.work(self.random.uniform(0, 1))
        self.store.service.start()

    def server_paused(self) -> None:
        """The server hangs for longer than a sink waits."""
        self.store.service.pause()
        self.work(self.random.uniform(0.2, 3))
        self.store.service.unpause()

    def connection_cut(self) -> None:
        """All connections are reset."""
        self.proxy.cut()

    def network_silent(self) -> None:
        """The network is half open; then the connections are gone."""
        self._in_mode(net.SILENT, self.random.uniform(0.2, 3))

    def answers_lost(self) -> None:
        """Requests arrive, and answers do not: commits whose outcome is unknown."""
        self._in_mode(net.MUTE, self.random.uniform(0.2, 2))

    def network_slow(self) -> None:
        """Every packet is late."""
        self.proxy.mode = net.SLOW
        self.work(1)
        self.proxy.mode = net.OPEN

    def second_instance(self) -> None:
        """Another worker stores the same tapes; then one of the two is killed."""
        second = self.spawn(self.twin)
        self.work(self.random.uniform(0.5, 2))
        if self.random.random() < 0.5 and self.worker is not None:
            self.worker.kill()
            self.work(1)
        second.kill()
        second.join()

    def rights_revoked(self) -> None:
        """The sink may not write for a while."""
        if self.store.revoke():
            self.work(self.random.uniform(0.2, 1))
            self.store.restore()

    def _in_mode(self, mode: str, seconds: float) -> None:
        self.proxy.mode = mode
        self.work(seconds)
        if self.random.random() < 0.7:
            self.proxy.cut()
        self.proxy.mode = net.OPEN

    def faults(self) -> list[Callable[[], None]]:
        """Returns all kinds of faults."""
        every = [
            *(self.server_killed, self.server_restarted, self.server_paused),
            *(self.connection_cut, self.network_silent, self.answers_lost, self.network_slow),
            *(self.second_instance, self.rights_revoked),
        ]
        return [fault for fault in every if fault.__name__ not in self.store.WITHOUT]

    # What has to hold.

    def compare(self, source: str, rows: list[tuple[int, int]], *, is_end: bool) -> None:
        """Compares what readers see with the tape: it is a prefix, or all of it at the end."""
        first = len(RecordMaker().definitions())
        end = self.tapes.ids[source] if is_end else (rows[-1][1] + 1 if rows else 0)
        expected = [(first + one, one) for one in range(end) if one not in self.poisoned]
        if rows == expected:
            self.result.figures["rows"] += len(rows) if is_end else 0
            return
        seen, wanted = Counter(rows), set(expected)
        figures = self.result.figures
        figures["lost"] += len(wanted - set(seen))
        figures["duplicated"] += sum(count - 1 for count in seen.values())
        figures["disordered"] += rows != sorted(rows)
        extra = sorted(set(seen) - wanted)[:5]
        missing = sorted(wanted - set(seen))[:5]
        self.complain(f"{source}: {len(rows)} rows seen; missing {missing}, not expected {extra}")

    def look(self) -> None:
        """Compares what readers see now, if the server answers."""
        for source in SOURCES:
            try:
                rows = self.store.rows(source)
            except Exception as error:
                logging.info("%s cannot be read now: %s", self.store.NAME, error)
                return
            self.compare(source, rows, is_end=False)

    def settle(self) -> None:
        """Waits until all is stored, and compares it."""
        self.proxy.mode = net.OPEN
        expected = {
            source: sum(one not in self.poisoned for one in range(count))
            for source, count in self.tapes.ids.items()
        }
        # It may take as long as it gets on, and as the server is slower than the sink waits for it.
        before, deadline, latest = -1, 0.0, time.monotonic() + SLOW_S_MAX
        while True:
            if self.worker is None or not self.worker.is_alive():
                self.worker = self.spawn()
            began = time.monotonic()
            found = self.count_rows()
            if all(found[source] >= expected[source] for source in SOURCES):
                break
            if (total := sum(found.values())) > before:
                before, deadline = total, time.monotonic() + SETTLE_S_MAX
            if self.answer_s() > 1.0 and time.monotonic() < latest:
                deadline = time.monotonic() + SETTLE_S_MAX
            if time.monotonic() > deadline:
                self.complain(f"nothing was stored for {SETTLE_S_MAX:.0f} s: {self.explain()}")
                break
            # To count takes the server's time from the sink.
            time.sleep(max(0.2, 3 * (time.monotonic() - began)))
        assert self.worker is not None
        self.worker.terminate()
        self.worker.join(30)
        # How often a store was met behind what it had confirmed.
        self.result.figures["forgot"] = self.log.read_text().count(" forg")
        for source in SOURCES:
            self.compare(source, self.store.rows(source), is_end=True)
            self.check_rejected(source)

    def count_rows(self) -> dict[str, int]:
        """Returns how many rows of each source readers see; none if the server does not answer."""
        try:
            return {source: len(self.store.rows(source)) for source in SOURCES}
        except Exception as error:
            logging.info("%s cannot be read now: %s", self.store.NAME, error)
            return dict.fromkeys(SOURCES, 0)

    def answer_s(self) -> float:
        """Returns how long the server takes to answer the least question, without the proxy."""
        began = time.monotonic()
        self.store.service.answers()
        return time.monotonic() - began

    def explain(self) -> str:
        """Returns what the sink says of itself now, and the last lines of its log."""
        told = []
        for source in SOURCES:
            path = self.data / "state" / source / f"sink-{self.store.NAME}.json"
            status = json.loads(path.read_text()) if path.exists() else {}
            age_s = time.time() - status.get("ts", 0) / 1e9
            if status:
                told.append(f"{source}, {age_s:.0f} s ago: {status['tapes']} {status['troubles']}")
        code = self.worker.exitcode if self.worker is not None else None
        told.append(f"the server answers in {self.answer_s():.2f} s")
        told.append(f"worker {'runs' if code is None else f'ended with {code}'}")
        told += read_lines(self.log)[-TOLD_LINES:]
        return "\n  ".join(["", *told])

    def check_rejected(self, source: str) -> None:
        """Each trade that the store refuses is in the file of rejected records once."""
        name = f"{self.store.NAME}.{TOPIC}.jsonl"
        path = self.data / "state" / source / "rejected" / name
        twin = self.twin / "state" / source / "rejected" / name
        lines = [*read_lines(path), *read_lines(twin)]
        kept = [json.loads(line)["fields"]["trade_id"] for line in lines]
        wanted = sorted(one for one in self.poisoned if one < self.tapes.ids[source])
        # Each instance keeps what it met: what was killed before its place passed meets it again.
        if sorted(set(kept)) != wanted:
            self.complain(f"{source}: rejected {sorted(set(kept))}, expected {wanted}")
        if len(read_lines(path)) != len({*read_lines(path)}):
            self.complain(f"{source}: {path} holds a record twice")
        self.result.figures["rejected"] += len(wanted)

    def close(self) -> None:
        """Ends all that runs."""
        if self.worker is not None and self.worker.is_alive():
            self.worker.kill()
            self.worker.join()
        self.tapes.close()
        self.proxy.close()


def read_lines(path: Path) -> list[str]:
    """Returns the lines of a file; none if there is no file."""
    return path.read_text().splitlines() if path.exists() else []


def run(store: Store, kills: int, faults: int, seed: int, folder: Path) -> Result:
    """Attacks one store; returns what was found."""
    with store.service:
        store.prepare()
        lane = Lane(store, folder, seed)
        try:
            lane.work(2)
            deadline = time.monotonic() + SETTLE_S_MAX
            while not all(store.rows(source) for source in SOURCES):
                lane.work(0.1)
                if time.monotonic() > deadline:
                    lane.complain(f"nothing was stored: {lane.explain()}")
                    return lane.result
            begin = max(lane.tapes.ids.values()) + 1_000
            poisoned = frozenset(range(begin, begin + 400 * POISON_EVERY, POISON_EVERY))
            if store.poison(poisoned):
                lane.poisoned = poisoned
            kinds: list[Callable[[], None]] = []
            steps = ["kill"] * kills + ["fault"] * faults
            lane.random.shuffle(steps)
            for step in steps:
                if step == "kill":
                    lane.kill()
                else:
                    # Each kind comes before any comes again.
                    kinds = kinds or lane.random.sample(lane.faults(), len(lane.faults()))
                    fault = kinds.pop()
                    lane.work(lane.random.uniform(0, 0.5))
                    fault()
                    lane.result.figures["faults"] += 1
                    lane.result.figures[fault.__name__] += 1
                if lane.random.random() < 0.1:
                    lane.look()
            lane.settle()
        finally:
            lane.close()
            if lane.result.complaints:
                (folder / "server.log").write_text(store.service.log())
        return lane.result


def main() -> int:
    """Attacks the stores that are asked for; the last line names each."""
    parser = argparse.ArgumentParser(prog="scripts/sinks", description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--faults", type=int, default=50)
    parser.add_argument("--sink", choices=STORES, action="append", help="none: all")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    words = parser.parse_args()
    print(f"seed {words.seed}", flush=True)
    names = words.sink or list(STORES)
    # Stores wait for most of their time: they are attacked side by side, each from a process of its
    # own, as threads that start processes take exit codes from each other.
    with ProcessPoolExecutor(len(names), multiprocessing.get_context("spawn")) as pool:
        attacks = [
            pool.submit(attack, name, words.kills, words.faults, words.seed) for name in names
        ]
        lines = [one.result() for one in attacks]
    print("; ".join(line for line, _ in lines), flush=True)
    return 0 if all(is_right for _, is_right in lines) else 1


def attack(name: str, kills: int, faults: int, seed: int) -> tuple[str, bool]:
    """Attacks one store; returns its summary, and whether nothing was wrong."""
    module, _, class_name = STORES[name].partition(":")
    CONTEXT.set_forkserver_preload(["tests.stores.worker", module])
    store: Store = getattr(importlib.import_module(module), class_name)()
    folder = Path(tempfile.mkdtemp(prefix=f"tapeworks-sinks-{name}-"))
    began = time.monotonic()
    try:
        result = run(store, kills, faults, seed, folder)
    except Exception as error:
        # The others go on, and the summary names each.
        logging.exception("%s", name)
        result = Result(complaints=[f"the campaign ended: {type(error).__name__}: {error}"])
    print(json.dumps({"store": name, **result.figures}), flush=True)
    for complaint in result.complaints:
        print(f"{name}: {complaint}", flush=True)
    if result.complaints:
        print(f"{name}: kept in {folder}", flush=True)
    else:
        shutil.rmtree(folder)
    return f"{result.line(name)}, {time.monotonic() - began:.0f} s", not result.complaints


if __name__ == "__main__":
    sys.exit(main())
