"""One machine records and forwards, others read the topic and build the books again.

While the recorder runs, one reader is killed, a second and a third are added, and one is removed.
At the end each instrument's records on the book tape of the recorder are compared, hash for hash,
with those of the reader that has its partition; those of readers that had it before must be the
beginning of them, byte for byte.
"""

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from confluent_kafka import Consumer, TopicPartition
from tests.services import KafkaService

from tapeworks._core import Records, TapeReader, dtype_descr, numbers
from tapeworks.simulators import start_simulator
from tapeworks.topics import BOOK, NORMALIZED

SOURCE, GROUP = "binance-spot", "machines"
START = "from tapeworks.cli import main; main()"
END_S_MAX = 120.0
HEADER = np.dtype(dtype_descr("marker"))
LEVEL, MARKER = np.dtype(dtype_descr("level")), HEADER
SNAPSHOT = numbers("channel")["snapshot"]


@dataclass
class Machine:
    """A process group with a data folder of its own."""

    name: str
    folder: Path
    arguments: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0

    @property
    def data(self) -> Path:
        """Its data folder."""
        return self.folder / "data"

    def start(self) -> None:
        """Starts it, again after it was killed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.starts += 1
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", START, *self.arguments],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def end(self, number: int = signal.SIGTERM) -> int:
        """Ends it, by the signal `number` to all of its processes; returns its exit code."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            if number == signal.SIGKILL:
                os.killpg(self.process.pid, number)
            else:
                self.process.send_signal(number)
        code = self.process.wait(END_S_MAX)
        self.process = None
        return code

    def log(self) -> str:
        """What it wrote."""
        return (self.folder / "log").read_text(errors="replace")


@dataclass
class Verdict:
    """What came of a run."""

    instruments: int = 0
    records: int = 0
    equal: int = 0
    faults: list[str] = field(default_factory=list)

    def line(self, seconds: float) -> str:
        """The summary."""
        said = "equal" if not self.faults else f"{len(self.faults)} FAULTS"
        return (
            f"machines: {self.equal} of {self.instruments} books {said}, hash for hash, "
            f"{self.records} records of books, in {seconds:.0f} s"
        )


class Fleet:
    """A broker, a simulated exchange, the recorder, and its readers."""

    def __init__(self, folder: Path, symbols: int, rate: float, seed: int) -> None:
        self.folder = folder
        self.broker = KafkaService()
        self.symbols = [f"S{number:02}USDT" for number in range(symbols)]
        self._market = ("--rate", str(rate), "--seed", str(seed), "--symbols", *self.symbols)
        self._machines: list[Machine] = []

    @contextlib.contextmanager
    def running(self) -> Iterator["Fleet"]:
        """Starts broker and exchange, and ends all that was started."""
        log = self.folder / "simulator.log"
        with self.broker, start_simulator("binance", *self._market, log=log) as exchange:
            self.exchange = exchange
            try:
                yield self
            finally:
                for machine in self._machines:
                    if machine.process is not None:
                        machine.end(signal.SIGKILL)

    def recorder(self) -> Machine:
        """Makes the machine that records."""
        folder = self.folder / "recorder"
        folder.mkdir()
        names = ", ".join(f'"{symbol}"' for symbol in self.symbols)
        (folder / "tapeworks.toml").write_text(
            f'[feeds.{SOURCE}]\nsymbols = [{names}]\nws_url = "{self.exchange.ws_url}"\n'
            f'rest_url = "{self.exchange.rest_url}"\n'
            "[sinks.parquet]\nenabled = false\n"
            f'[sinks.kafka]\nservers = "127.0.0.1:{self.broker.port}"\n'
            f'topics = ["{NORMALIZED}"]\nflush_seconds = 0.1\n'
        )
        return self._add(Machine("recorder", folder, ("up",)))

    def reader(self, name: str) -> Machine:
        """Makes a machine that reads the topic."""
        address = f"kafka://127.0.0.1:{self.broker.port}/{NORMALIZED}?group={GROUP}"
        address += "&session.timeout.ms=6000&topic.metadata.refresh.interval.ms=1000"
        words = ("worker", "derive", "--from", address, "--data", "data", "--only", "books")
        return self._add(Machine(name, self.folder / name, words))

    def _add(self, machine: Machine) -> Machine:
        self._machines.append(machine)
        return machine


def book_hashes(tape: Path) -> dict[int, tuple[int, str, list[bytes]]]:
    """Returns, by instrument, how many records of its book a tape has, their hash, and them."""
    reader, found = TapeReader(tape), dict[int, list[bytes]]()
    while (batch := reader.read()) is not None:
        for instrument, content in split(batch):
            found.setdefault(instrument, []).append(content)
    made = {}
    for instrument, parts in found.items():
        whole = b"".join(parts)
        made[instrument] = (len(whole) // LEVEL.itemsize, hashlib.sha256(whole).hexdigest(), whole)
    return made


def split(batch: Records) -> Iterator[tuple[int, bytes]]:
    """Yields the records of each instrument: all records of a book are of one length."""
    rows = np.frombuffer(batch, dtype=HEADER)
    assert LEVEL.itemsize == HEADER.itemsize
    for instrument in np.unique(rows["instrument"]).tolist():
        yield instrument, rows[rows["instrument"] == instrument].tobytes()


def book_tapes(machine: Machine) -> list[Path]:
    """Returns the tapes of books on a machine."""
    return sorted(machine.data.glob(f"tape/*/{BOOK}"))


def wait_for(what: str, holds: object, seconds: float = 60.0) -> None:
    """Waits until `holds()` is true."""
    deadline = time.monotonic() + seconds
    while not holds():  # type: ignore[operator]
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.1)


def is_caught_up(readers: Sequence[Machine], end: dict[int, int]) -> bool:
    """Whether the partitions were read, by some reader, to their ends."""
    done: dict[int, int] = {}
    for reader in readers:
        for path in reader.data.glob(f"replicas/{NORMALIZED}/*/place.json"):
            number = int(path.parent.name)
            done[number] = max(done.get(number, 0), json.loads(path.read_text())["position"])
    return all(done.get(number, 0) >= offset for number, offset in end.items())


def has_partition(reader: Machine) -> bool:
    """Whether a reader was given a partition."""
    return any(reader.data.glob(f"replicas/{NORMALIZED}/*/place.json"))


def compare(recorder: Machine, readers: Sequence[Machine]) -> Verdict:
    """Compares the books of all machines."""
    verdict = Verdict()
    theirs = book_hashes(recorder.data / "tape" / SOURCE / BOOK)
    verdict.instruments = len(theirs)
    complete: set[int] = set()
    for reader in readers:
        for tape in book_tapes(reader):
            for instrument, (count, digest, content) in book_hashes(tape).items():
                known = theirs.get(instrument)
                where = f"{reader.name}: {tape.parent.name}: instrument {instrument}"
                if known is None:
                    verdict.faults.append(f"{where}: the recorder has no such book")
                elif digest == known[1]:
                    complete.add(instrument)
                elif not known[2].startswith(content):
                    verdict.faults.append(f"{where}: its {count} records are not the recorder's")
    for instrument, (count, _, _) in theirs.items():
        verdict.records += count
        if instrument not in complete:
            verdict.faults.append(f"no reader has all {count} records of instrument {instrument}")
    verdict.equal = len(complete)
    return verdict


def ends_of(port: int) -> dict[int, int]:
    """Returns, by partition, the position behind its last message that is no mark of a commit."""

    settings = {"bootstrap.servers": f"127.0.0.1:{port}", "group.id": "ends"}
    consumer = Consumer(settings | {"enable.partition.eof": True})
    try:
        partitions = list(
            consumer.list_topics(NORMALIZED, timeout=10).topics[NORMALIZED].partitions
        )
        consumer.assign([TopicPartition(NORMALIZED, number, 0) for number in partitions])
        found, ended = dict.fromkeys(partitions, 0), set()
        while len(ended) < len(partitions):
            for message in consumer.consume(10_000, 0.2):
                if message.error():
                    ended.add(message.partition())
                else:
                    found[message.partition()] = message.offset() + 1
        return found
    finally:
        consumer.close()


def run(folder: Path, seconds: float, symbols: int, rate: float, seed: int) -> Verdict:
    """Runs all of it once."""
    with Fleet(folder, symbols, rate, seed).running() as fleet:
        recorder, first, second, third = (
            fleet.recorder(),
            *(fleet.reader(name) for name in ("first", "second", "third")),
        )
        recorder.start()
        wait_for("frames", lambda: (recorder.data / "tape" / SOURCE / NORMALIZED).is_dir())
        first.start()
        wait_for("books of the first reader", lambda: book_tapes(first))
        time.sleep(seconds / 4)
        first.end(signal.SIGKILL)
        first.start()
        second.start()
        third.start()
        others = (second, third)
        wait_for("partitions of the others", lambda: all(map(has_partition, others)))
        time.sleep(seconds / 2)
        second.end(signal.SIGKILL)
        codes = {"third": third.end()}
        second.start()
        time.sleep(seconds / 4)
        # That not every book was verified in this time is none of the readers' business.
        codes["recorder"] = recorder.end() % 3
        end = ends_of(fleet.broker.port)
        readers = [first, second, third]
        wait_for("the end of the topic", lambda: is_caught_up(readers, end), END_S_MAX)
        codes |= {reader.name: reader.end() for reader in (first, second)}
        verdict = compare(recorder, readers)
        verdict.faults += [f"{name} ended with {code}" for name, code in codes.items() if code]
        for machine in readers:
            if "Traceback" in machine.log():
                verdict.faults.append(f"{machine.name}: see {machine.folder / 'log'}")
        return verdict


def main(words: Sequence[str] | None = None) -> int:
    """Runs it as the arguments say; returns 0 if all books are equal."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--seconds", type=float, default=30, help="how long is recorded, about")
    parser.add_argument("--symbols", type=int, default=12)
    parser.add_argument("--rate", type=float, default=200, help="orders a second and symbol")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="keep what the machines wrote")
    options = parser.parse_args(words)
    folder, began = Path(tempfile.mkdtemp(prefix="tapeworks-machines-")), time.monotonic()
    verdict = run(folder, options.seconds, options.symbols, options.rate, options.seed)
    for fault in verdict.faults:
        print(fault)
    if options.keep or verdict.faults:
        print(f"kept: {folder}")
    else:
        shutil.rmtree(folder)
    print(verdict.line(time.monotonic() - began))
    return 1 if verdict.faults else 0
