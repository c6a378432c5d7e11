"""What tests build from. Tests build components through this file only."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tests.services import SERVICES, Service, ServiceUnavailable
from xdist.scheduler import LoadScopeScheduling

from tapeworks import _core, commits
from tapeworks.lake import files_on_disk
from tapeworks.processors.derive import Derivation
from tapeworks.settings import ProcessorsConfig
from tapeworks.simulators import Simulator, start_simulator
from tapeworks.sinks import commit_log
from tapeworks.sinks.feeder import Feeder
from tapeworks.sinks.parquet import ParquetConfig, ParquetPartition
from tapeworks.tape import TapeConfig, place_at
from tapeworks.views.audit import audit

ROOT = Path(__file__).resolve().parents[1]
# Recordings lie beside the repository, where they are there at all.
REAL_DATA = ROOT.parent / "shared" / "data"
ALL_SLOW = re.compile(r"^pytestmark = [^)]*\bpytest\.mark\.slow\b", re.MULTILINE)


# Tests of these files share what is expensive to make, or measure what others of their kind would
# disturb: they run one after the other, in one process.
TOGETHER = {
    "tests/e2e/test_cli.py",
    "tests/e2e/test_demo.py",
    "tests/e2e/test_live_equals_replay.py",
    "tests/e2e/test_memory.py",
    "tests/e2e/test_retention.py",
    "tests/real/test_playback_real.py",
    "tests/research/test_research.py",
    "tests/sinks/test_kafka.py",
    "tests/test_layout.py",
    "tests/views/test_past.py",
}


class FilesTogether(LoadScopeScheduling):  # type: ignore[misc]
    """Gives the tests of a file in TOGETHER to one process, and all others to whoever is free."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::")[0]
        return file if file in TOGETHER else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FilesTogether:
    """Says who runs what where several processes run tests."""
    return FilesTogether(config, log)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leaves out a file of slow tests alone where none is asked for: each process imports it."""
    is_file = collection_path.suffix == ".py" and "not slow" in config.option.markexpr
    if is_file and ALL_SLOW.search(collection_path.read_text(encoding="utf-8")):
        return True
    return None


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps the developer's own TAPEWORKS_ variables out of the tests."""
    for name in list(os.environ):
        if name.startswith("TAPEWORKS_"):
            monkeypatch.delenv(name)


def derive(data: Path, source: str) -> None:
    """Derives all that follows from the records of a source, the ledger of gaps among it."""
    derivation = Derivation(ProcessorsConfig(), TapeConfig("never"), data, source)
    assert derivation.drain(60.0)
    derivation.close()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of recordings: a skip without it, a failure in CI."""
    if not REAL_DATA.is_dir():
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI expected the recordings at {REAL_DATA}, got none")
        pytest.skip(f"no recordings at {REAL_DATA}")
    return REAL_DATA


# A Friday, one hour before midnight UTC: workloads cross into a second day.
START = 1_700_262_000_000_000_000
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")


class RecordMaker:
    """Makes records from a seed, as NumPy arrays of the layouts; `tobytes()` goes on a tape."""

    def rows(self, kind: str, count: int, /, **columns: Any) -> npt.NDArray[Any]:
        """Returns `count` records of `kind`; columns that are not given are zero."""
        rows = np.zeros(count, dtype=_core.dtype_descr(kind))
        rows["length"] = rows.dtype.itemsize // 8
        rows["kind"] = _core.kind_of(kind)
        rows["feed"] = 1
        for name, values in columns.items():
            rows[name] = values
        return rows

    def definitions(self, symbols: tuple[str, ...] = SYMBOLS) -> npt.NDArray[Any]:
        """Returns the definitions of instruments 1, 2, ... by the given symbols."""
        count = len(symbols)
        return self.rows(
            "definition",
            count,
            instrument=np.arange(1, count + 1),
            symbol=[symbol.encode() for symbol in symbols],
            canonical=[f"{symbol[:-4]}-{symbol[-4:]}".encode() for symbol in symbols],
            ts_event=START,
            ts_recv=START,
            tick_size=_core.NONE,
            lot_size=_core.NONE,
            valid_to=_core.NONE,
        )

    def trades(self, count: int, first: int = 0, seed: int = 1) -> npt.NDArray[Any]:
        """Returns trades with ids from `first` on, ten a second, of all symbols."""
        random = np.random.default_rng([seed, first])
        ts = START + (first + np.arange(count)) * 100_000_000
        ids = np.arange(first, first + count)
        return self.rows(
            "trade",
            count,
            instrument=random.integers(1, len(SYMBOLS) + 1, count),
            ts_event=ts,
            ts_recv=ts + random.integers(1_000_000, 2_000_000, count),
            price=random.integers(1, 2**53, count),
            size=random.integers(1, 2**40, count),
            trade_id=ids,
            sequence=ids,
            count=1,
            side=random.integers(1, 3, count),
            channel=1,
            flags=1,
        )

    def imbalances(self, count: int, seed: int = 1) -> npt.NDArray[Any]:
        """Returns what auctions to come would do, ten a second, of all symbols and all kinds."""
        random, at = np.random.default_rng(seed), np.arange(count)
        prices = random.integers(0, 2**60, (3, count))
        prices[:, ::3] = _core.NONE
        return self.rows(
            "imbalance",
            count,
            instrument=1 + (at + 1) % len(SYMBOLS),
            ts_event=START + at * 100_000_000 + at % 1_000,
            ts_recv=START + at * 100_000_000 + 1_000_001,
            paired_size=random.integers(0, 2**60, count),
            imbalance_size=np.where(at % 5, random.integers(0, 2**60, count), _core.NONE),
            reference_price=prices[0],
            near_price=prices[1],
            far_price=prices[2],
            code=b"OSL",
            auction_time=930,
            side=(at + 2) % 3,
            cross=1 + at % 6,
            state=at % 3,
            sequence=at,
            flags=1,
        )


@pytest.fixture
def maker() -> RecordMaker:
    """Makes records from a seed."""
    return RecordMaker()


def restate_lake(lake: Path, source: str, topic: str, tape: Path | None = None) -> None:
    """Makes the files of a topic, as they are now, those that its commit lists.

    With `tape`, the commit then names that one.
    """
    place = lake, source, topic
    commit = commits.read_commit(*place)
    assert commit is not None
    files = [
        commit_log.describe_file(lake, name)
        for name in files_on_disk(*place)
        if commit.version == 1 or name in commits.TopicReader(*place).read().live
    ]
    number, generation = commit.number + 1, commit.manifest.generation + 1
    end = commit.place if tape is None else place_at(_core.TapeReader(tape), commit.offset)
    commit_log.start_log(*place, files, end, commit.context, number=number, generation=generation)


def as_version_1(lake: Path, source: str, *topics: str) -> None:
    """Makes of a lake one of the first version, whose commits list names alone."""
    symbols, folder = commits.load_symbols(lake, source), commits.commit_folder(lake, source)
    for topic in topics:
        commit = commits.read_commit(lake, source, topic)
        assert commit is not None
        written = {"version": 1, "offset": commit.offset, "removes": [], "context": commit.context}
        written["files"] = [file.name for file in commit.files]
        commits.commit_path(lake, source, topic).write_text(json.dumps(written))
        for path in folder.glob(f"{topic}.manifest.*"):
            path.unlink()
    if symbols is not None:
        (folder / commits.SYMBOLS_FILE).write_bytes(bytes(symbols.records()))


def check_exact(data: Path, rows_min: int = 1) -> None:
    """Fails unless the lake holds what the tapes do, and that is at least `rows_min` rows."""
    found = list(audit(data))
    assert [one for one in found if not one.exact] == []
    assert sum(one.recorded for one in found) >= rows_min


class SpineFolder:
    """A data folder with tapes of one source, written by the test."""

    def __init__(self, path: Path, source: str = "binance-spot") -> None:
        self.path = path
        self.source = source
        self._writers: dict[str, _core.TapeWriter] = {}

    def append(
        self,
        records: npt.NDArray[Any],
        topic: str = "market-data.normalized",
        covers: int | None = None,
    ) -> int:
        """Appends records to the tape of `topic`, durably; returns its end.

        `covers` is the offset up to which they cover their input.
        """
        writer = self.writer(topic)
        writer.append(records.tobytes(), input_offset=covers)
        writer.sync()
        return writer.end

    def writer(self, topic: str = "market-data.normalized") -> _core.TapeWriter:
        """Returns the writer of a tape, which makes nothing durable unasked."""
        if topic not in self._writers:
            folder = self.tape(topic)
            folder.mkdir(parents=True, exist_ok=True)
            self._writers[topic] = _core.TapeWriter(folder, durability="never")
        return self._writers[topic]

    def tape(self, topic: str = "market-data.normalized") -> Path:
        """Returns the folder of a tape."""
        return self.path / "tape" / self.source / topic

    def drain(
        self,
        topic: str = "market-data.normalized",
        name: str | None = None,
        seconds_max: float = 30,
        **settings: float,
    ) -> None:
        """Puts all of a tape into the lake, and closes the sink; `settings` are the sink's."""
        config = ParquetConfig(**settings)
        sink = ParquetPartition(config, self.path, self.source, topic)
        feeder = Feeder(sink, self.tape(topic), config.policy, name=name)
        try:
            feeder.drain(seconds_max=seconds_max)
        finally:
            feeder.close()

    def derive(self) -> None:
        """Brings the gap ledger up to all that is on the normalized tape."""
        target = self.tape("market-data.gaps")
        target.parent.mkdir(parents=True, exist_ok=True)
        states = self.path / "state" / self.source
        stage = _core.Stage("gaps", self.tape(), target, states)
        stage.run_until_idle()
        stage.save()
        stage.close()

    def close(self) -> None:
        """Closes all tapes."""
        for writer in self._writers.values():
            writer.close()


@pytest.fixture
def spine(tmp_path: Path) -> Iterator[SpineFolder]:
    """A data folder without tapes."""
    folder = SpineFolder(tmp_path / "data")
    yield folder
    folder.close()


Start = Callable[..., Simulator]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts simulators with given arguments; ends them with the test."""
    with contextlib.ExitStack() as stack:

        def start_one(*arguments: object, venue: str = "binance", **more: object) -> Simulator:
            texts = [str(argument) for argument in arguments]
            log = tmp_path / "simulator.log"
            return stack.enter_context(start_simulator(venue, *texts, log=log, **more))

        yield start_one
        # What the server complained about is the test's business.
        log = tmp_path / "simulator.log"
        assert not log.exists() or "Traceback" not in log.read_text(), log.read_text()


class Command:
    """The command line `tape` in processes of its own, in one working folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen[str]] = []

    def start(
        self, *words: object, environment: Mapping[str, str] | None = None, **more: Any
    ) -> subprocess.Popen[str]:
        """Starts `tape` with `words`; its output can be read from the process."""
        start = "from tapeworks.cli import main; main()"
        process = subprocess.Popen(
            [sys.executable, "-c", start, *map(str, words)],
            cwd=self.folder,
            env={**os.environ, "NO_COLOR": "1", **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **more,
        )
        self.started.append(process)
        return process

    def run(self, *words: object, code: int | None = 0) -> str:
        """Runs `tape` to its end, which must be with exit code `code`; returns what it printed."""
        process = self.start(*words)
        shown, errors = process.communicate(timeout=60)
        assert code is None or process.returncode == code, shown + errors
        return shown

    def refuse(self, *words: object, code: int) -> str:
        """Runs `tape`, which must refuse; returns the one line in which it says why."""
        process = self.start(*words)
        shown, errors = process.communicate(timeout=60)
        assert process.returncode == code, shown + errors
        assert "Traceback" not in errors
        assert not shown
        [line] = errors.strip().splitlines()
        return line

    def told(self, *words: object) -> str:
        """Runs `tape`; returns what it says on standard error, where it prints nothing."""
        process = self.start(*words)
        shown, errors = process.communicate(timeout=60)
        assert (process.returncode, shown) == (0, ""), errors
        return errors

    def answer(self, *words: object) -> Any:
        """Runs `tape` and returns the JSON that it prints."""
        return json.loads(self.run(*words))

    def interrupt(self, process: subprocess.Popen[str], timeout_s: float = 30) -> tuple[str, str]:
        """Sends Ctrl-C, waits, and returns what was printed to both outputs."""
        process.send_signal(signal.SIGINT)
        return process.communicate(timeout=timeout_s)

    def close(self) -> None:
        """Ends what a failed test has left."""
        for process in self.started:
            if process.poll() is None:
                process.terminate()
                try:
                    process.communicate(timeout=20)
                except subprocess.TimeoutExpired:
                    process.kill()
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
            process.wait()


@pytest.fixture(scope="module")
def command() -> Iterator[Callable[[Path], Command]]:
    """Makes the command line of a working folder; ends what it started with the module."""
    made: list[Command] = []

    def make(folder: Path) -> Command:
        made.append(Command(folder))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(scope="session")
def server() -> Iterator[Callable[[str], Service]]:
    """Starts real servers by name, each once a session, and stops them with it.

    A server that cannot be had fails the test; where packages cannot be installed, it is skipped.
    """
    with contextlib.ExitStack() as stack:
        started: dict[str, Service] = {}

        def start_server(name: str) -> Service:
            if name not in started:
                try:
                    started[name] = stack.enter_context(SERVICES[name]())
                except ServiceUnavailable as error:
                    if os.environ.get("CI") or shutil.which("apt-get"):
                        raise
                    pytest.skip(str(error))
            return started[name]

        yield start_server


@pytest.fixture
def tape(tmp_path: Path) -> Iterator[Command]:
    """The command line, in a folder of its own."""
    command = Command(tmp_path)
    yield command
    command.close()
