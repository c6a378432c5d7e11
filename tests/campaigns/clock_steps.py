"""A recorder whose wall clock is set, ahead and back, by a second up to a month, while it records.

A shim before the system's library moves the wall clock of the recorder alone, at random moments of
a seeded market with two connections. Old segments are to be removed after an hour. In the end
nothing that the market sent is lost or doubled, receive times never fell, what was received while
the clocks differed is flagged and told, no connection was cut for it, no segment was removed, and
each bar is there once.
"""

import mmap
import os
import random
import signal
import struct
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from tests.arrivals import wait_until_recorded
from tests.campaigns.base import Outcome
from tests.campaigns.poison import (
    DEPTH,
    GAP,
    LEVEL,
    MARKER,
    QUOTE,
    TRADE,
    TRADE_CHANNEL,
    rows_of,
)  # fmt: skip
from tests.disk import library

from tapeworks import _core
from tapeworks._core import TapeReader
from tapeworks.processors.derive import Derivation
from tapeworks.settings import ProcessorsConfig
from tapeworks.simulators.base import Simulator, start_simulator
from tapeworks.tape import TapeConfig

ROOT = Path(__file__).resolve().parents[2]
SOURCE = "binance-spot"
SYMBOLS = ("BTCUSDT", "ETHUSDT")
MARKET_S, READY_S_MAX, END_S_MAX = 8.0, 60.0, 40.0
STEPS_S = (1, 40, 3_600, 86_400, 30 * 86_400)
# A difference of so much that lasted so long while frames came is flagged and told.
TOLD_STEP_S, TOLD_AFTER_S = 40, 2.0
CODES = _core.numbers("marker_code")
RECORDS = _core.numbers("blob_kind")["records"]
CONNECTED, CLOCK_STEP = CODES["connected"], CODES["clock_step"]
OUT_OF_ORDER, SUSPECT = 8, 64
SHIM = ROOT / "tests" / "clock.c"
RECORDER = """
import sys
from tapeworks.feeds.binance import BinanceConfig
from tapeworks.feeds.session import run_worker
from tapeworks.tape import TapeConfig
ws, rest, data = sys.argv[1:]
config = BinanceConfig(symbols=("BTCUSDT", "ETHUSDT"), ws_url=ws, rest_url=rest, connections=2)
tape = TapeConfig(keep_hours=1.0, segment_bytes=64 << 10, compress_after=-1)
sys.exit(run_worker(config, data, tape=tape))
"""


def set_clock(path: Path, seconds: int) -> None:
    """Moves the recorder's wall clock by `seconds` from the true one."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 8) as view:
        view[:8] = struct.pack("<q", seconds)


class Recording:
    """A recorder under the shim, and the clock that moves it."""

    def __init__(self, chance: random.Random, folder: Path, urls: list[str]) -> None:
        self.chance, self.folder = chance, folder
        self.clock = folder / "clock"
        self.began_at = chance.choice((0, 0, -86_400, 3_600))
        self.clock.write_bytes(struct.pack("<q", self.began_at))
        shim = str(library(folder, SHIM))
        environment = {**os.environ, "LD_PRELOAD": shim, "CLOCK_OFFSET": str(self.clock)}
        with (folder / "recorder.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", RECORDER, *urls, str(folder)],
                env=environment, cwd=ROOT, stdout=log, stderr=log,
            )  # fmt: skip

    def wait_until_it_records(self) -> None:
        """Waits until the recorder has set its own clock by the wall clock."""
        raw = self.folder / "tape" / SOURCE / "market-data.raw"
        until = time.monotonic() + READY_S_MAX
        while not (raw.is_dir() and any(raw.glob("*.seg")) and TapeReader(raw).end):
            if time.monotonic() > until or self.process.poll() is not None:
                raise AssertionError(f"expected a recorder, got {self.process.poll()}")
            time.sleep(0.05)

    def play(self, simulator: Simulator, outcome: Outcome) -> bool:
        """Sets the clock until the market is over; says whether a step must have been told."""
        until = time.monotonic() + END_S_MAX
        must_be_told = False
        while not simulator.state()["done"] and time.monotonic() < until:
            step = self.chance.choice((0, *STEPS_S, *(-step for step in STEPS_S)))
            set_clock(self.clock, step)
            outcome.figures["steps"] += 1
            since = time.monotonic()
            time.sleep(self.chance.uniform(0.2, 3.0))
            stood = time.monotonic() - since if not simulator.state()["done"] else 0.0
            far = abs(step - self.began_at) >= TOLD_STEP_S
            must_be_told |= far and stood > TOLD_AFTER_S
        outcome.expect(simulator.state()["done"], f"the market is not over after {END_S_MAX} s")
        return must_be_told

    def end(self, outcome: Outcome) -> None:
        """Stops the recorder in good order."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(END_S_MAX)
        outcome.expect(code == 0, f"the recorder ended with {code}")


def played(chance: random.Random, folder: Path, outcome: Outcome) -> tuple[list[int], bool]:
    """Records a market while the clock is set.

    Returns the ids of all trades that it sent, and whether a step must have been told.
    """
    arguments = ["--seed", str(chance.randrange(1 << 30)), "--symbols", *SYMBOLS]
    arguments += ["--rate", "80", "--levels", "100", "--duration", str(MARKET_S), "--wait"]
    with start_simulator("binance", *arguments, log=folder / "simulator.log") as simulator:
        recording = Recording(chance, folder, [simulator.ws_url, simulator.rest_url])
        try:
            recording.wait_until_it_records()
            must_be_told = recording.play(simulator, outcome)
            # What the market sent last is on its way.
            wait_until_recorded(simulator, folder, SOURCE)
            recording.end(outcome)
        finally:
            recording.process.kill()
            recording.process.wait()
        delivered = simulator.oracle()["delivered"]
        streams = [delivered[f"{symbol.lower()}@trade"] for symbol in SYMBOLS]
        sent = [number for of in streams for number in range(of["first"], of["last"] + 1)]
        return sent, must_be_told


def check_raw(folder: Path, outcome: Outcome) -> None:
    """Receive times rise, nothing was removed, and no connection came in place of another."""
    reader = TapeReader(folder / "tape" / SOURCE / "market-data.raw")
    outcome.expect(reader.first == 0, f"items before {reader.first} were removed")
    newest, falls, connects = 0, 0, 0
    while (blobs := reader.read_blobs(1_000)) is not None:
        for blob in blobs:
            falls += blob.ts_recv < newest
            newest = max(newest, blob.ts_recv)
            body = bytes(blob.body)
            connects += blob.kind == RECORDS and body[32] == CONNECTED
            outcome.figures["suspect"] += bool(blob.flags & SUSPECT)
    outcome.expect(falls == 0, f"receive times fell {falls} times")
    # The recorder itself, and its two connections.
    outcome.expect(connects == 3, f"{connects} connects")


def run(seed: int, folder: Path) -> Outcome:
    """Runs the campaign once."""
    outcome = Outcome()
    sent, must_be_told = played(random.Random(seed), folder, outcome)
    outcome.expect(bool(sent), "the market sent no trade")
    check_raw(folder, outcome)
    derivation = Derivation(ProcessorsConfig(), TapeConfig("never"), folder, SOURCE)
    outcome.expect(derivation.drain(), "not all was derived")
    derivation.close()
    tapes = folder / "tape" / SOURCE
    rows = rows_of(tapes / "market-data.normalized")
    found = Counter(
        int(row["sequence"]) for row in rows
        if row["kind"] == TRADE and row["channel"] == TRADE_CHANNEL
    )  # fmt: skip
    wanted = Counter(sent)
    outcome.expect(not wanted - found, f"lost trades: {list(wanted - found)[:5]}")
    outcome.expect(not found - wanted, f"trades too many: {list(found - wanted)[:5]}")
    losses = [
        row for row in rows
        if row["kind"] == MARKER and row["code"] == GAP and row["channel"] in (TRADE_CHANNEL, DEPTH)
    ]  # fmt: skip
    outcome.expect(not losses, f"losses that were none: {losses[:3]}")
    steps = [row for row in rows if row["kind"] == MARKER and row["code"] == CLOCK_STEP]
    outcome.figures["noted"] += len(steps)
    if must_be_told:
        outcome.expect(bool(steps), "no step of the clock is in the ledger")
        outcome.expect(outcome.figures["suspect"] > 0, "no receive time is flagged as suspect")
    bars = Counter(
        (int(row["instrument"]), int(row["interval_ms"]), int(row["ts_event"]))
        for row in rows_of(tapes / "market-data.bars")
        if not int(row["flags"]) & OUT_OF_ORDER
    )
    doubled = [bar for bar, times in bars.items() if times > 1]
    outcome.expect(not doubled, f"bars written twice: {doubled[:3]}")
    kinds = {int(row["kind"]) for row in rows}
    outcome.expect({TRADE, QUOTE, LEVEL} <= kinds and bool(bars), f"only {kinds}")
    outcome.figures["trades"] += sum(found.values())
    return outcome
