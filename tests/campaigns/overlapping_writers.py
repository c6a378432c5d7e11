"""Two sinks and two tape writers on one folder, started, stopped and killed at random instants.

Each is a process of its own. Whatever the overlap, of two that run at once one is refused, with an
exit code and the number of the process that holds the lock; and in the end the lake holds each
record of the tape once, and the tape each record that a writer said was durable.
"""

import contextlib
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.campaigns.base import Outcome
from tests.conftest import RecordMaker, SpineFolder

from tapeworks import _core, commits
from tapeworks.sinks.base import FlushPolicy
from tapeworks.sinks.feeder import Feeder
from tapeworks.sinks.parquet import ParquetConfig, ParquetPartition
from tapeworks.views.audit import audit
from tapeworks.views.lake_check import verify_lake

TOPIC, SOURCE = "market-data.normalized", "binance-spot"
ROUNDS = 5
WAIT_S = 60
ROOT = Path(__file__).resolve().parents[2]

SINK = """
import sys
from pathlib import Path
from types import SimpleNamespace
from tapeworks.errors import TapeworksError
from tapeworks.sinks.parquet import ParquetConfig
from tapeworks.sinks.worker import run_worker
settings = ParquetConfig(flush_rows=300, flush_seconds=0.02, row_group_rows=128)
data = Path(sys.argv[1])
config = SimpleNamespace(data=data, feeds=["binance-spot"], sinks={"parquet": settings})
try:
    run_worker(config, "parquet")
except TapeworksError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""
WRITER = """
import sys
from tapeworks import _core, commits
from tapeworks.errors import TapeworksError
from tests.conftest import RecordMaker
maker = RecordMaker()
try:
    with _core.TapeWriter(sys.argv[1]) as writer:
        while True:
            writer.append(maker.trades(50, writer.end).tobytes())
            writer.sync()
            print(writer.durable, flush=True)
except TapeworksError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


def run(seed: int, folder: Path) -> Outcome:
    """Starts two of a kind again and again; ends each in its own way."""
    chance, outcome = random.Random(seed), Outcome()
    data = folder / "data"
    spine = SpineFolder(data)
    spine.append(RecordMaker().definitions())
    spine.append(RecordMaker().trades(2_000))
    spine.close()
    durable = 0
    for _ in range(ROUNDS):
        script, target = chance.choice([(SINK, data), (SINK, data), (WRITER, spine.tape())])
        first = _start(script, target)
        held = chance.random() < 0.6
        if held:
            lock = commits.commit_folder(data / "lake", SOURCE) if script is SINK else target
            _wait_until_held(lock / "LOCK", first)
        time.sleep(chance.uniform(0, 0.8))
        second = _start(script, target)
        if held:
            with contextlib.suppress(subprocess.TimeoutExpired):
                second.wait(WAIT_S)
            code = second.poll()
            outcome.expect(bool(code and code > 0), f"the second of two ended with {code}")
        time.sleep(chance.uniform(0.0, 1.2))
        how = chance.choice([signal.SIGKILL, signal.SIGTERM])
        first.send_signal(how)
        time.sleep(chance.uniform(0, 0.3))
        second.send_signal(signal.SIGKILL if script is WRITER else chance.choice(list(ENDS)))
        for process, other in ((first, second), (second, first)):
            durable = max(durable, _check(outcome, process, other))
        outcome.figures["overlaps"] += 1
    _check_end(outcome, data, spine.tape(), durable)
    return outcome


def _wait_until_held(lock: Path, holder: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline and holder.poll() is None:
        if lock.exists() and str(holder.pid) in lock.read_text():
            return
        time.sleep(0.01)


ENDS = (signal.SIGKILL, signal.SIGTERM)


def _start(script: str, target: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", script, str(target)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _check(
    outcome: Outcome, process: "subprocess.Popen[str]", other: "subprocess.Popen[str]"
) -> int:
    """Waits for a process; returns the last offset that it said was durable."""
    try:
        shown, errors = process.communicate(timeout=WAIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        outcome.complaints.append("a process that was asked to stop hung")
        return 0
    if "TapeLockedError" in errors:
        outcome.figures["refused"] += 1
        # One that was refused may be met by our signal on its way out.
        is_told = process.returncode > 0 or -process.returncode in ENDS
        outcome.expect(is_told, f"refused with exit code {process.returncode}")
        named = re.findall(r"\d+", errors.partition("TapeLockedError")[2])
        outcome.expect(str(other.pid) in named, f"not named: {other.pid} in {errors[-300:]}")
    elif process.returncode not in (0, -signal.SIGKILL, -signal.SIGTERM):
        outcome.complaints.append(f"exit code {process.returncode}: {errors[-500:]}")
    whole = [line for line in shown.split("\n")[:-1] if line]
    return int(whole[-1]) if whole else 0


def _check_end(outcome: Outcome, data: Path, tape: Path, durable: int) -> None:
    with _core.TapeWriter(tape) as writer:
        outcome.expect(writer.end >= durable, f"{durable} were durable, {writer.end} are there")
        writer.sync()
    sink = ParquetPartition(ParquetConfig(), data, SOURCE, TOPIC)
    feeder = Feeder(sink, tape, FlushPolicy(), name="sink-parquet")
    feeder.drain(WAIT_S)
    feeder.close()
    found = list(audit(data))
    outcome.expect(bool(found), "nothing was stored")
    for one in found:
        outcome.figures["rows"] += one.stored
        outcome.expect(one.exact, str(one))
    for report in verify_lake(data):
        outcome.expect(not report.faults, f"{report.topic}: {report.faults}")
