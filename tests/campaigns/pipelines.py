"""What campaigns on whole pipelines share: `tape up` over a simulated exchange, and the oracle."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
from tests.campaigns.base import Outcome
from tests.crash.campaign import (
    Observed,
    derived_tapes_that_differ,
    lane_config,
)
from tests.crash.venues import BINANCE

from tapeworks._core import TapeReader, kind_of
from tapeworks.jobs.base import DONE, FAILED, INCOMPLETE
from tapeworks.pipeline import Config
from tapeworks.processors.derive import NORMALIZED, RAW
from tapeworks.simulators import Simulator, start_simulator
from tapeworks.views.audit import audit

SYMBOLS = ("BTCUSDT", "ETHUSDT")
SOURCE = "binance-spot"
READY_S_MAX = 90.0
END_S_MAX = 90.0
GONE_S_MAX = 60.0
# Every process that a run starts has this in its environment.
MARK = "PIPELINE_OF_CAMPAIGN"
START = "from tapeworks.cli import main; main()"
# It was asked to stop while it was still loading: nothing had been started.
NOT_STARTED = -signal.SIGTERM


class Pipeline:
    """One data folder over one exchange, and the `tape up` that runs on it, if one does."""

    def __init__(self, folder: Path, simulator: Simulator, supervisor: str = "") -> None:
        self.folder = folder
        self.config: Config = lane_config(folder / "data", simulator)
        self.data = self.config.data
        self.observed = Observed(self.data / "tape" / SOURCE / RAW)
        self.process: subprocess.Popen[bytes] | None = None
        self._settings = folder / "tapeworks.toml"
        symbols = ", ".join(f'"{symbol}"' for symbol in SYMBOLS)
        self._settings.write_text(
            f'[feeds.{SOURCE}]\nsymbols = [{symbols}]\nws_url = "{simulator.ws_url}"\n'
            f'rest_url = "{simulator.rest_url}"\n[sinks.parquet]\nflush_seconds = 0.2\n'
            f"[metrics]\nsets = {list(self.config.metrics.sets)}\n"
            "[supervisor]\nrestart_ms = 10\nrestart_ms_max = 200\nstop_ms_max = 30000\n"
            f"{supervisor}"
        )

    def start(self) -> None:
        """Starts `tape up`."""
        with (self.folder / "up.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", START, "up"],
                cwd=self.folder,
                env={**os.environ, MARK: str(self.folder)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def wait_until(self, what: Callable[[], bool], seconds: float = READY_S_MAX) -> bool:
        """Looks at the tape until `what` holds; returns whether it did in time."""
        deadline = time.monotonic() + seconds
        while not what():
            if time.monotonic() >= deadline:
                return False
            self.observed.look()
            time.sleep(0.02)
        return True

    def grows(self) -> bool:
        """Waits until more frames are on the raw tape; returns whether there were in time."""
        seen = len(self.observed.sums)
        return self.wait_until(lambda: len(self.observed.sums) > seen)

    def records_all(self) -> bool:
        """Waits until the recorder says that it records all that was asked for."""
        path = self.data / "state" / SOURCE / "recorder.json"

        def says_so() -> bool:
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                told = json.loads(path.read_text())
                return told["outcome"]["verdict"] == "all" and told["pid"] in self.workers()
            return False

        return self.wait_until(says_so)

    def end(self) -> int | None:
        """Asks `tape up` to stop, and waits; returns its exit code, none if it did not end."""
        assert self.process is not None
        self.process.terminate()
        try:
            return self.process.wait(END_S_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None

    def workers(self) -> list[int]:
        """Returns the numbers of the worker processes, as the supervisor that runs told them."""
        assert self.process is not None
        found: list[int] = []
        for path in (self.data / "run").glob(f"{self.process.pid}.*/supervisor.json"):
            with contextlib.suppress(OSError, ValueError):
                told = json.loads(path.read_text())["workers"]
                found += [worker["pid"] for worker in told if worker["pid"] is not None]
        return found

    def running(self) -> list[int]:
        """Returns all processes of this run that are there, whoever started them."""
        mark = f"{MARK}={self.folder}".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if mark in path.read_bytes().split(b"\0"):
                    found.append(int(path.parent.name))
        return found

    def all_is_in_the_lake(self) -> bool:
        """Returns whether every trade of the tape is in a file of the lake."""
        reader, recorded = TapeReader(self.data / "tape" / SOURCE / NORMALIZED), 0
        while (batch := reader.read(65_536)) is not None:
            recorded += len(batch.select([kind_of("trade")]))
        files = [str(path) for path in (self.data / "lake" / "trades").glob("*/*/*.parquet")]
        if not files:
            return recorded == 0
        with duckdb.connect() as connection:
            found = connection.execute("select count(*) from read_parquet(?)", [files]).fetchone()
        return found is not None and found[0] == recorded

    def clean_up(self) -> None:
        """Ends what a run with complaints has left."""
        for pid in self.running():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.process is not None:
            self.process.wait()


@contextlib.contextmanager
def pipeline(seed: int, folder: Path, supervisor: str = "") -> Iterator[Pipeline]:
    """A pipeline over an exchange of its own, not yet started."""
    arguments = ["--symbols", *SYMBOLS, "--seed", str(seed), "--rate", "40", "--levels", "100"]
    # Every restart asks for both books: at any other limit this would test back-off.
    arguments += ["--weight-per-minute", "100000000"]
    with start_simulator("binance", *arguments, log=folder / "simulator.log") as simulator:
        one = Pipeline(folder, simulator, supervisor)
        try:
            yield one
        finally:
            one.clean_up()


def check_end(one: Pipeline, outcome: Outcome) -> None:
    """Stops what runs, runs it once more undisturbed, and compares everything with the oracle."""
    one.observed.look()
    code = one.end()
    known = (DONE, FAILED, INCOMPLETE, NOT_STARTED)
    outcome.expect(code in known, f"tape up ended with {code}")
    gone = one.wait_until(lambda: not one.running(), GONE_S_MAX)
    outcome.expect(gone, f"still running after the end: {one.running()}")
    if code == DONE:
        outcome.expect(one.all_is_in_the_lake(), "exit code 0, and not all is in the lake")
    one.start()
    outcome.expect(one.records_all(), "not all is recorded after the disturbances")
    code = one.end()
    outcome.expect(code == DONE, f"tape up ended with {code} when nothing disturbed it")
    outcome.expect(not one.running(), f"still running at the end: {one.running()}")
    outcome.expect(one.all_is_in_the_lake(), "not all is in the lake at the end")
    outcome.figures["frames"] += len(one.observed.sums)
    if missing := one.observed.missing():
        outcome.complaints.append(f"{missing} published raw frames are gone or changed")
    differing = derived_tapes_that_differ(one.config, SOURCE)
    outcome.complaints += [f"{topic} differs from a straight run" for topic in differing]
    outcome.complaints += [str(found) for found in audit(one.data) if not found.exact]
    outcome.complaints += BINANCE.trades_unaccounted(one.data)
