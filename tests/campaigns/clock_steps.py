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
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

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

from tapeworks._core import TapeReader
from tapeworks.processors.derive import Derivation
from tapeworks.settings import ProcessorsConfig
from tapeworks.simulators.base import start_simulator
from tapeworks.tape import TapeConfig

ROOT = Path(__file__).resolve().parents[2]
SOURCE = "binance-spot"
SYMBOLS = ("BTCUSDT", "ETHUSDT")
MARKET_S, END_S_MAX = 6.0, 40.0
STEPS_S = (1, 40, 3_600, 86_400, 30 * 86_400)
CLOCK_STEP, CONNECTED, SUSPECT = 13, 4, 64
RECORDS = 4
OUT_OF_ORDER = 8
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
static volatile long long *moved;
static long long offset(void) {
    if (!moved) {
        const char *path = getenv("CLOCK_OFFSET");
        int file = path ? open(path, O_RDONLY) : -1;
        if (file < 0) return 0;
        moved = mmap(0, 8, PROT_READ, MAP_SHARED, file, 0);
    }
    return *moved;
}
int clock_gettime(clockid_t clock, struct timespec *ts) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int code = real(clock, ts);
    if (!code && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        ts->tv_sec += offset();
    return code;
}
int gettimeofday(struct timeval *tv, void *zone) {
    struct timespec ts;
    int code = clock_gettime(CLOCK_REALTIME, &ts);
    tv->tv_sec = ts.tv_sec;
    tv->tv_usec = ts.tv_nsec / 1000;
    return code;
}
time_t time(time_t *out) {
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    if (out) *out = ts.tv_sec;
    return ts.tv_sec;
}
"""
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


def built_shim() -> Path:
    """Returns the shim, built once a machine."""
    path = Path(tempfile.gettempdir()) / f"tapeworks-clock-{os.getuid()}.so"
    if not path.exists():
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            raise RuntimeError("expected a C compiler, got none: install gcc")
        aside = path.with_suffix(f".{os.getpid()}")
        command = [compiler, "-shared", "-fPIC", "-O1", "-x", "c", "-", "-o", str(aside), "-ldl"]
        subprocess.run(command, input=SHIM.encode(), check=True)
        aside.replace(path)
    return path


def set_clock(path: Path, seconds: int) -> None:
    """Moves the recorder's wall clock by `seconds` from the true one."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 8) as view:
        view[:8] = struct.pack("<q", seconds)


def played(chance: random.Random, folder: Path, outcome: Outcome) -> list[int]:
    """Records a market while the clock is set; returns the ids of all trades that it sent."""
    clock = folder / "clock"
    clock.write_bytes(struct.pack("<q", chance.choice((0, 0, -86_400, 3_600))))
    arguments = ["--seed", str(chance.randrange(1 << 30)), "--symbols", *SYMBOLS]
    arguments += ["--rate", "80", "--levels", "100", "--duration", str(MARKET_S), "--wait"]
    environment = {**os.environ, "LD_PRELOAD": str(built_shim()), "CLOCK_OFFSET": str(clock)}
    with start_simulator(*arguments, log=folder / "simulator.log") as simulator:
        urls = [simulator.ws_url, simulator.rest_url, str(folder)]
        with (folder / "recorder.log").open("ab") as log:
            recorder = subprocess.Popen(
                [sys.executable, "-c", RECORDER, *urls],
                env=environment, cwd=ROOT, stdout=log, stderr=log,
            )  # fmt: skip
        until = time.monotonic() + END_S_MAX
        while not simulator.state()["done"] and time.monotonic() < until:
            time.sleep(chance.uniform(0.2, 2.0))
            step = chance.choice((0, *STEPS_S, *(-step for step in STEPS_S)))
            set_clock(clock, step)
            outcome.figures["steps"] += 1
        time.sleep(1.0)
        recorder.send_signal(signal.SIGTERM)
        code = recorder.wait(END_S_MAX)
        outcome.expect(code == 0, f"the recorder ended with {code}")
        delivered = simulator.oracle()["delivered"]
        streams = [delivered[f"{symbol.lower()}@trade"] for symbol in SYMBOLS]
        return [number for of in streams for number in range(of["first"], of["last"] + 1)]


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
    sent = played(random.Random(seed), folder, outcome)
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
