"""The process that reads a topic into local tapes, and derives from them what the settings say.

It may run on any number of machines, and as often as there are partitions: the group shares these
out. The books of an instrument are made where its partition is read.
"""

import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from tapeworks.durable import make_folder, replace_file
from tapeworks.errors import DiskFullError, TapeLockedError
from tapeworks.exits import EXIT_INCOMPLETE
from tapeworks.processors.derive import (
    DRAIN_S_MAX,
    STEPS,
    Derivation,
    HasProcessors,
    Step,
)
from tapeworks.processors.derive_status import write_lags
from tapeworks.registry import load_member
from tapeworks.replicas.base import ReplicaContext, TopicAddress, TopicReader
from tapeworks.stopping import Stop, on_stop
from tapeworks.tape import TapeConfig

log = logging.getLogger("tapeworks.replicas")

IDLE_S = 0.02
TELL_S = 1.0
FULL_RETRY_S = 1.0
# Frames that could not be decoded are with the recorder: a topic has records.
REPLICA_STEPS = tuple(step for step in STEPS if step.processor != "dead_letters")


class ReplicaDerivations:
    """What is derived from the tapes that are open: all of a partition is closed with it."""

    def __init__(
        self, processors: HasProcessors, tape: TapeConfig, data: Path, steps: Sequence[Step]
    ) -> None:
        self._settings = (processors, tape, data)
        self._steps = steps
        self._open: dict[str, Derivation] = {}
        self._is_full = False

    def step(self, sources: Sequence[str]) -> int:
        """Lets every stage of `sources` take one batch; returns how many items they took.

        Raises:
            TapeError: a tape is damaged.
        """
        processors, tape, data = self._settings
        taken = 0
        for source in sources:
            derivation = self._open.get(source)
            if derivation is None:
                derivation = Derivation(processors, tape, data, source, self._steps, live=True)
                self._open[source] = derivation
            try:
                taken += derivation.step()
                self._is_full = False
            except TapeLockedError:
                # Whoever had the partition before, on this machine, is about to end.
                self._close(source)
            except (DiskFullError, OSError) as error:
                if not self._is_full:
                    log.error("%s: waiting for the disk: %s", source, error)
                self._is_full = True
                time.sleep(FULL_RETRY_S)
        return taken

    def drain(self, seconds_max: float) -> int:
        """Takes all that is published; returns how many items are left."""
        deadline = time.monotonic() + seconds_max
        for derivation in self._open.values():
            derivation.drain(max(0.0, deadline - time.monotonic()))
        return sum(sum(one.lags().values()) for one in self._open.values())

    def close(self, sources: Sequence[str]) -> None:
        """Saves all states of `sources`."""
        for source in sources:
            self._close(source)

    def tell(self, state: Path) -> None:
        """Replaces the files that status screens read, and covers quiet tapes."""
        for source, derivation in self._open.items():
            derivation.cover()
            derivation.index_books()
            write_lags(state / source / "derive.json", derivation.lags(), derivation.stopped())

    def _close(self, source: str) -> None:
        derivation = self._open.pop(source, None)
        if derivation is not None:
            derivation.close()


def run_worker(
    address: TopicAddress,
    processors: HasProcessors,
    tape: TapeConfig,
    data: Path,
    only: Sequence[str] = (),
) -> int:
    """Reads the topic at `address` and derives until SIGTERM, then takes what is on the tapes.

    `only` names the processors that run; none: all.

    Returns `EXIT_INCOMPLETE` if there was no time for all; the next start goes on there.

    Raises:
        TapeReplacedError: the topic, or a tape, is another one than before.
        TapeError: a tape is damaged.
    """
    stop = Stop()
    on_stop(stop.set)
    steps = [step for step in REPLICA_STEPS if not only or step.processor in only]
    derivations = ReplicaDerivations(processors, tape, data, steps)
    context = ReplicaContext(data, tape, derivations.close)
    reader: TopicReader = load_member("replica", address.scheme)(address, context)
    told = 0.0
    try:
        while not stop:
            moved = reader.poll(IDLE_S)
            while derivations.step(reader.local_sources()) and not moved and not stop:
                pass
            if time.monotonic() - told >= TELL_S:
                told = time.monotonic()
                reader.checkpoint()
                derivations.tell(data / "state")
                tell(data / "replicas" / address.topic, reader)
        reader.checkpoint()
        left = derivations.drain(DRAIN_S_MAX)
        if left:
            log.warning("stopped with %d items that are not derived yet", left)
        return EXIT_INCOMPLETE if left else 0
    finally:
        reader.close()


def tell(folder: Path, reader: TopicReader) -> None:
    """Replaces the files that status screens and the metrics page read, one a partition."""
    try:
        for partition, told in reader.status().items():
            make_folder(folder / partition)
            known = {**told, "troubles": reader.troubles, "ts": time.time_ns()}
            replace_file(folder / partition / "status.json", json.dumps(known), sync=False)
    except OSError as error:
        log.warning("the status cannot be written: %s", error)
