"""The process of one sink: it feeds all tapes, keeps up what is stored, and stops in order."""

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tapeworks.errors import LakeError, SinkError, TapeError, TapeLockedError, TapeworksError
from tapeworks.heartbeat import beat
from tapeworks.registry import load_member
from tapeworks.sinks.base import Feeder, HasSinks, WriterLock
from tapeworks.stopping import on_stop

log = logging.getLogger("tapeworks.sinks")

IDLE_S = 0.02
MAINTENANCE_S = 15.0
FAILED_S = 30.0
DRAIN_S_MAX = 5.0


def feeders(config: HasSinks, name: str, *, live: bool = False) -> list[Feeder]:
    """Builds one feeder for each source and topic that the sink `name` wants.

    With `live`, recorders run beside it: a tape is read once its writer has opened it.
    """
    settings = config.sinks[name]
    kind = load_member("sink", getattr(settings, "kind", name))
    found = []
    for source in config.feeds:
        lock = WriterLock(kind.lock_folder(settings, config.data, source))
        for topic in kind.topics(settings):
            sink = kind(settings, config.data, source, topic, lock)
            tape = config.data / "tape" / source / topic
            feeder = Feeder(sink, tape, settings.policy, name=f"sink-{name}", live=live)
            found.append(feeder)
    return found


@dataclass
class Member:
    """One feeder of a worker: what it fails at must not keep the others from their work."""

    feeder: Feeder
    failure: TapeworksError | None = None
    retry_at: float = 0.0

    def step(self) -> int:
        """Moves one batch; returns how many records it moved.

        Raises:
            TapeLockedError: another process writes what this worker would write.
        """
        if self.failure is not None and time.monotonic() < self.retry_at:
            return 0
        try:
            moved = self.feeder.step()
        except TapeLockedError:
            raise
        except (TapeError, LakeError, SinkError) as error:
            if str(error) != str(self.failure):
                log.error("%s: nothing is stored until this is fixed: %s", self.feeder.label, error)
            self.feeder.close()
            self.failure, self.retry_at = error, time.monotonic() + FAILED_S
            return 0
        if self.failure is not None and moved:
            log.info("%s: stored again", self.feeder.label)
            self.failure = None
        return moved


def run_worker(config: HasSinks, name: str) -> None:
    """Runs the sink `name` over all sources until SIGTERM, then stores all that is durable.

    Raises:
        TapeLockedError: another process runs this sink on the same folder.
        TapeworksError: of one or more tapes not everything could be stored.
    """
    stopping = threading.Event()
    on_stop(lambda number, frame: stopping.set())
    members = [Member(feeder) for feeder in feeders(config, name, live=True)]
    upkeep = threading.Thread(target=_maintain, args=(members, stopping), name="maintenance")
    upkeep.start()
    try:
        while not stopping.is_set():
            beat()
            if not sum(member.step() for member in members):
                stopping.wait(IDLE_S)
        _drain_all(members)
    finally:
        stopping.set()
        for member in members:
            member.feeder.close()
        upkeep.join()


def _maintain(members: Sequence[Member], stopping: threading.Event) -> None:
    """Does the upkeep of all sinks beside their feeding, until asked to stop."""
    while not stopping.wait(MAINTENANCE_S):
        for member in members:
            try:
                while not stopping.is_set() and member.feeder.run_maintenance():
                    pass
            except (OSError, TapeworksError) as error:
                log.warning(
                    "%s: maintenance failed, will be retried: %s", member.feeder.label, error
                )


def _drain_all(members: Sequence[Member]) -> None:
    """Drains every feeder; one that fails must not keep the others from it."""
    failure: TapeworksError | None = None
    for member in members:
        beat()
        try:
            member.feeder.drain(DRAIN_S_MAX)
        except (TapeError, LakeError, SinkError) as error:
            failure = failure or error
    if failure is not None:
        raise failure
