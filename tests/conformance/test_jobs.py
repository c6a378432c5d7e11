"""The suite of every job: those of the table, and one of a user's own."""

import hashlib
import json
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import check_exact
from tapeworks._core import FolderLock, Ingest, verify
from tapeworks.cli.job import SAME_SIGNAL_S, run_named
from tapeworks.cli.options import text_settings
from tapeworks.config import Value
from tapeworks.errors import ConfigError, TapeLockedError, TapeworksError
from tapeworks.feeds.captures import TEXT
from tapeworks.jobs.base import DONE, INCOMPLETE, JobOutcome
from tapeworks.registry import MEMBERS as TABLE

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
OWN = "own_job:Volumes"
STARTED_NS = 1_723_161_255_000_000_000
# What a job may be told beside what all are.
MEMBERS: dict[str, dict[str, object]] = {
    "catch-up": {"stalled_s": 30.0},
    "iceberg": {"now": True},
    "lake-rebuild": {},
    "repair": {"apply": True},
    OWN: {"path": "mine.csv"},
}
# Jobs that go wrong, each in its way.
WRONG = """
from dataclasses import dataclass
from tapeworks.errors import TapeworksError
from tapeworks.jobs.base import DONE, FAILED, INCOMPLETE, Job, JobConfig, JobOutcome

@dataclass(frozen=True)
class DaysConfig(JobConfig):
    days: int = 1

class Base(Job):
    Config = DaysConfig

class Raises(Base):
    def run(self):
        raise KeyError("the reason why")

class Fails(Base):
    def run(self):
        raise TapeworksError("what to do")

class SaysNothing(Base):
    def run(self):
        pass

class SaysNonsense(Base):
    def run(self):
        return JobOutcome(2, "a code of wrong use")

class Faulty(Base):
    def run(self):
        self.tell(f"{self.config.days} days of {self.sources}")
        return JobOutcome(FAILED, "a fault was found")

class Waits(Base):
    def run(self):
        self.tell("waiting")
        while not self.stop.wait(60):
            pass
        return JobOutcome(INCOMPLETE, "stopped in good order")

class NeverLooks(Base):
    def run(self):
        self.tell("waiting")
        import threading
        threading.Event().wait()

class Resumable(NeverLooks):
    is_resumable = True

class NoConfig(Job):
    Config = dict
    def run(self):
        return JobOutcome()

class NoRun(Job):
    pass

class NoJob:
    pass
"""


@pytest.fixture(autouse=True)
def _examples(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    (tmp_path / "jobs_of_a_test.py").write_text(WRONG)
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    yield
    for name in ("own_job", "jobs_of_a_test"):
        sys.modules.pop(name, None)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with trades on the raw and the normalized tape of a source, and nothing else."""
    ingest = Ingest(tmp_path / "data", "binance-spot", "binance-spot", ts_first=STARTED_NS)
    for number in range(1, 301):
        ts = STARTED_NS + number * 1_000_000
        symbol = ("BTCUSDT", "ETHUSDT")[number % 2]
        trade = {"e": "trade", "E": ts // 10**6, "s": symbol, "t": number // 2, "p": "61837.63"}
        trade |= {"q": "0.5", "T": ts // 10**6, "m": True, "M": True}
        message = {"stream": f"{symbol.lower()}@trade", "data": trade}
        ingest.receive(0, TEXT, ts, json.dumps(message).encode(), b"")
    ingest.flush()
    ingest.sync()
    ingest.close()
    return tmp_path / "data"


def run(name: str, data: Path, **settings: object) -> JobOutcome:
    given = {key: Value(value, f"--set {key}") for key, value in settings.items()}
    return run_named(name, given, None, data)


def content(data: Path) -> dict[str, str]:
    """A hash of each file, but for those that say who holds a lock."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(data.rglob("*"))
        if path.is_file() and path.name != "LOCK"
    }


def items(data: Path) -> dict[str, int]:
    """How many items each tape holds, all of which must be whole."""
    found = {tape.name: verify(tape) for tape in (data / "tape/binance-spot").iterdir()}
    assert not any(one["fault"] for one in found.values())
    return {name: one["items"] for name, one in found.items()}


def test_every_job_of_the_table_is_tested_here():
    # A new line in the table fails until its job is under this suite.
    assert set(TABLE["job"]) < set(MEMBERS)


@pytest.mark.parametrize("name", MEMBERS)
def test_job_does_its_work_and_then_nothing(name: str, data: Path):
    # The second run finds all done, and leaves items and rows as they are.
    assert run("catch-up", data).exit_code == DONE
    check_exact(data, rows_min=300)
    before = items(data)
    for _ in range(2):
        assert run(name, data, **MEMBERS[name]).exit_code == DONE
    assert items(data) == before
    check_exact(data, rows_min=300)
    assert not (data / "run").exists()


@pytest.mark.parametrize("name", MEMBERS)
def test_wrong_settings_are_refused_before_anything_is_done(name: str, data: Path):
    # A key, a value, a source: what is expected is said, and no file is made or changed.
    before = content(data)
    with pytest.raises(ConfigError, match=r"--set source: .*\.source is not a setting; .*sources"):
        run(name, data, source="binance-spot")
    with pytest.raises(ConfigError, match=r"expected a list of texts for .*\.sources, got 7"):
        run(name, data, sources=7)
    # A repair asks which sources are meant when one is damaged.
    if name != "repair":
        with pytest.raises(ConfigError, match=r"a source of binance-spot, got 'binance-sport'"):
            run(name, data, sources=["binance-sport"])
    assert content(data) == before


def test_example_writes_volumes_of_the_symbols_that_are_asked_for(data: Path, tmp_path: Path):
    # Exact sums, in the file that is named.
    assert run(OWN, data, path="mine.csv", symbols=["ETHUSDT"]) == JobOutcome(
        DONE, "0 gaps; see `tape gaps`"
    )
    head, line = (tmp_path / "mine.csv").read_text().splitlines()
    assert head == "source,symbol,date,volume"
    assert line == "binance-spot,ETHUSDT,2024-08-08,75.00000000"
    with pytest.raises(ConfigError, match="symbols of BTCUSDT, ETHUSDT, got XRPUSDT"):
        run(OWN, data, symbols=["XRPUSDT"])


@pytest.mark.parametrize(
    ("name", "error", "told"),
    [
        ("rebuild", ConfigError, r"a job of catch-up, iceberg, lake-rebuild, repair, or a class "),
        ("jobs_of_a_test:None", ConfigError, r"has no 'None'; jobs there: \['Base', 'Raises', "),
        ("jobs_of_a_test:NoJob", ConfigError, r"expected a class derived from tapeworks\.jobs\."),
        ("jobs_of_a_test:NoRun", ConfigError, r"the class lacks run"),
        ("jobs_of_a_test:NoConfig", ConfigError, r"expected Config to be a dataclass derived from"),
        ("no_such_module:Job", ConfigError, r"cannot import no_such_module: ModuleNotFoundError"),
        (
            "jobs_of_a_test:Raises",
            TapeworksError,
            r"^job Raises failed: KeyError: 'the reason",
        ),
        ("jobs_of_a_test:Fails", TapeworksError, r"^what to do$"),
        ("jobs_of_a_test:SaysNothing", TapeworksError, r"expected `run` to return a JobOutcome, "),
        ("jobs_of_a_test:SaysNonsense", TapeworksError, r"exit_code: expected 0, 1 or 3, got 2"),
    ],
)
def test_wrong_job_is_one_clear_error(name, error, told, data: Path):
    # Whether it cannot be found, is none, or breaks its contract.
    with pytest.raises(error, match=told):
        run(name, data)
    if error is ConfigError:
        # Also where nothing is recorded: it is told first.
        with pytest.raises(error, match=told):
            run(name, data / "nowhere")


def test_jobs_that_write_are_refused_beside_what_writes(data: Path):
    # A stage that derives, and a sink, hold their locks.
    assert run("catch-up", data).exit_code == DONE
    with FolderLock(data / "tape/binance-spot/market-data.bars"):
        with pytest.raises(TapeLockedError):
            run("catch-up", data)
    with FolderLock(data / "lake/_commits/binance-spot"):
        with pytest.raises(TapeLockedError):
            run("lake-rebuild", data)


def waiting(tape: Any, name: str, data: Path) -> Any:
    """A job that has begun to wait."""
    process = tape.start("job", f"jobs_of_a_test:{name}", "--data", data)
    assert process.stdout.readline() == "waiting\n"
    return process


@pytest.mark.parametrize("stop", ["interrupt", "down"])
def test_job_that_looks_whether_to_stop_ends_in_good_order(stop: str, tape: Any, data: Path):
    # Ctrl-C, and `tape down`, which knows it by its name.
    process = waiting(tape, "Waits", data)
    if stop == "down":
        told = tape.run("down", "--data", data)
        assert told == f"stopped process {process.pid}: job-Waits\n"
        shown, errors = process.communicate(timeout=20)
    else:
        shown, errors = tape.interrupt(process)
    assert (process.returncode, shown) == (INCOMPLETE, "stopped in good order\n")
    assert errors == "stopping when the job can; Ctrl-C again ends it at once\n"


def test_job_that_does_not_look_is_ended_by_a_second_interrupt(tape: Any, data: Path):
    # One that may be ended anywhere is ended by the first.
    process = waiting(tape, "NeverLooks", data)
    process.send_signal(signal.SIGINT)
    assert "Ctrl-C again" in process.stderr.readline()
    # One that comes sooner is taken for the same.
    time.sleep(SAME_SIGNAL_S)
    tape.interrupt(process)
    assert process.returncode == 130
    process = waiting(tape, "Resumable", data)
    tape.interrupt(process)
    assert process.returncode == 130


def test_settings_that_are_named_say_which_folder_is_meant(data: Path, tmp_path: Path, capsys: Any):
    # Without others of the default name, and beside some that say another folder.
    data.rename(tmp_path / "elsewhere")
    named = tmp_path / "named.toml"
    named.write_text('data = "elsewhere"\n')
    for others in ((), (tmp_path / "tapeworks.toml",)):
        for path in others:
            path.write_text('data = "demo"\n')
            (tmp_path / "demo" / "tape" / "other").mkdir(parents=True)
        run_named("jobs_of_a_test:Faulty", {}, named, None)
        assert capsys.readouterr().out == "1 days of ['binance-spot']\n"


def test_command_lists_jobs_and_runs_one_of_the_settings(tape: Any, data: Path):
    # Its table says what it is; the command line stands above that.
    kind = 'kind = "jobs_of_a_test:Faulty"'
    (tape.folder / "tapeworks.toml").write_text(f"[jobs.nightly]\n{kind}\ndays = 7\n")
    assert [line.split()[0] for line in tape.run("job").splitlines()] == [
        *("catch-up", "iceberg", "lake-rebuild", "nightly", "repair")
    ]
    assert "job nightly: `tape job nightly` runs it" in tape.run("config", "check")
    assert run("nightly", data).told == "a fault was found"
    shown = tape.run("job", "nightly", "--set", "days=8", "--data", data, code=1)
    assert shown == "8 days of ['binance-spot']\na fault was found\n"
    with pytest.raises(ConfigError, match="expected --set KEY=VALUE, got --set days"):
        text_settings(["days"])
    assert "lists them" in tape.refuse("job", "--set", "days=8", code=2)
