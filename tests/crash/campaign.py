"""A campaign of kills: simulator -> recorder -> derive -> sink, and an oracle at the end.

Each lane is a whole pipeline in a folder of its own, over one simulated exchange. A random child
is killed with SIGKILL at a random instant, restarted by the supervisor, and so on; all chance
comes from the seed that is printed. Then everything is stopped in order and compared:

1. Every frame that was seen published on the raw tape at any time is still there, the same.
2. Every derived tape is byte for byte what a straight run over the raw tape gives.
3. Every table of the lake holds each record of its tape exactly once.
4. Every trade that the exchange sent is in the lake exactly once, or in the gap ledger.
"""

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
import zlib
from array import array
from dataclasses import dataclass, field, replace
from pathlib import Path

from tapeworks._core import TapeReader
from tapeworks.errors import TapeError
from tapeworks.pipeline import Child, Config, Supervisor, SupervisorConfig

PAUSE_S_MAX = 0.6
LOOK_S = 0.01
SETTLE_S = 3.0
READY_S_MAX = 30.0
SUPERVISOR = SupervisorConfig(restart_ms=1, restart_ms_max=20, healthy_ms=100, stop_ms_max=60_000)


@dataclass
class Observed:
    """What was seen published on a raw tape: one checksum a frame, from offset 0 on."""

    path: Path
    sums: array[int] = field(default_factory=lambda: array("I"))
    reader: TapeReader | None = None

    def look(self) -> None:
        """Reads what is new."""
        if self.reader is None:
            try:
                self.reader = TapeReader(self.path)
            except TapeError:
                return
        while (blobs := self.reader.read_blobs()) is not None:
            self.sums.extend(zlib.crc32(blob.body, blob.ts_recv & 0xFFFFFFFF) for blob in blobs)

    def missing(self) -> int:
        """Reads the tape anew; returns how many frames are gone or changed."""
        again = Observed(self.path)
        again.look()
        same = sum(a == b for a, b in zip(self.sums, again.sums, strict=False))
        return len(self.sums) - same


class Lane:
    """One pipeline whose children are killed."""

    def __init__(self, number: int, config: Config, seed: int, kills: int) -> None:
        self.number = number
        self.config = config
        self.kills_left = kills
        self.killed: dict[str, int] = {}
        self._chance = random.Random(seed * 1_000 + number)
        self._supervisor = Supervisor(config)
        self._next = 0.0
        self.observed = [
            Observed(config.data / "tape" / name / "market-data.raw") for name in config.feeds
        ]

    def start(self) -> None:
        """Starts the pipeline and waits until frames are published."""
        self._supervisor.start()
        deadline = time.monotonic() + READY_S_MAX
        while not all(len(observed.sums) for observed in self.observed):
            if time.monotonic() > deadline:
                raise SystemExit(f"lane {self.number}: nothing recorded in {READY_S_MAX} s")
            self.step(kill=False)
            time.sleep(LOOK_S)

    def step(self, *, kill: bool = True) -> None:
        """Restarts what died; kills when it is time to."""
        self._supervisor.poll()
        now = time.monotonic()
        if not kill or now < self._next or not self.kills_left:
            return
        alive = [child for child in self._supervisor.children if child.alive]
        if not alive:
            return
        for observed in self.observed:
            observed.look()
        self._kill(self._chance.choice(alive))
        self._next = now + self._chance.uniform(0, PAUSE_S_MAX)

    def look(self) -> None:
        """Takes in what is published now."""
        for observed in self.observed:
            observed.look()

    def stop(self) -> None:
        """Stops in order: all that was recorded is derived and stored."""
        self.look()
        self._supervisor.stop()

    def _kill(self, child: Child) -> None:
        assert child.process is not None
        child.process.send_signal(signal.SIGKILL)
        self.killed[child.worker.kind] = self.killed.get(child.worker.kind, 0) + 1
        self.kills_left -= 1
