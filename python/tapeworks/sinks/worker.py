"""The process of one sink: it feeds all tapes, keeps up what is stored, and stops in order."""

import contextlib
import json
import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tapeworks._core import StageTimer
from tapeworks.durable import replace_file
from tapeworks.errors import SinkUnavailable, TapeLockedError, TapeworksError
from tapeworks.exits import EXIT_INCOMPLETE
from tapeworks.heartbeat import beat
from tapeworks.registry import load_member
from tapeworks.sinks.base import SinkContext
from tapeworks.sinks.feeder import Feeder, HasSinks
from tapeworks.stage_times import write_times
from tapeworks.stopping import Stop, on_stop

log = logging.getLogger("tapeworks.sinks")

IDLE_S = 0.02
# A tape that is sent as it is published wakes its sink; the others are looked at so often.
LOOK_MS = 1
# What comes within so long of what was sent is sent together: a step costs as much as ten records.
GATHER_S = 0.002
GATHER_RECORDS_MAX = 1_000
FAILED_S = 30.0
UPKEEP_RETRY_S_MAX = 900.0
DRAIN_S_MAX = 5.0
TELL_S = 1.0
# What all feeders of one process together hold in memory before the largest is flushed.
HELD_BYTES_MAX = 256 << 20


def feeders(
    config: HasSinks, name: str, sources: Sequence[str] | None = None, *, live: bool = False
) -> list[Feeder]:
    """Builds one feeder for each topic that the sink `name` wants, of `sources` or of all.

    With `live`, recorders run beside it: a tape is read once its writer has opened it.
    """
    settings = config.sinks[name]
    kind = load_member("sink", getattr(settings, "kind", "") or name)
    sink = kind(settings, SinkContext(name, config.data))
    found = []
    for source in config.feeds if sources is None else sources:
        together = StageTimer()
        for topic in kind.topics(settings):
            tape = config.data / "tape" / source / topic
            partition = sink.partition(source, topic)
            feeder = Feeder(
                partition, tape, settings.policy, name=f"sink-{name}", live=live, together=together
            )
            found.append(feeder)
    return found


def lanes(config: HasSinks, name: str, *, live: bool = False) -> list[list[Feeder]]:
    """Shares the sources out to as many instances of the sink as its `parallel` says."""
    sources = list(config.feeds)
    count = max(1, min(getattr(config.sinks[name], "parallel", 1), len(sources)))
    return [feeders(config, name, sources[at::count], live=live) for at in range(count)]


@dataclass
class Upkeep:
    """How the upkeep of one sink went."""

    failures: int = 0
    """How often it failed, since it last did its work."""
    last: str = ""
    """Why it failed last."""
    retry_at: float = 0.0


@dataclass
class Member:
    """One feeder of a worker: what it fails at must not keep the others from their work."""

    feeder: Feeder
    failure: Exception | None = None
    retry_at: float = 0.0
    moved_at: float = 0.0
    """When it moved something last."""
    upkeep: Upkeep = field(default_factory=Upkeep)

    def step(self, *, is_full: bool = False) -> int:
        """Moves one batch; returns how many records it moved.

        Raises:
            TapeLockedError: another process writes what this worker would write.
        """
        if self.failure is not None and time.monotonic() < self.retry_at:
            return 0
        try:
            before = None if self.failure is None else self.feeder.stored
            moved = self.feeder.step(is_full=is_full)
            if moved:
                self.moved_at = time.monotonic()
            if self.failure is not None and self._is_mended(before):
                log.info("%s: stored again", self.feeder.label)
                self.failure = None
        except TapeLockedError:
            raise
        except Exception as error:
            self._fail(error)
            return 0
        return moved

    def _is_mended(self, before: int | None) -> bool:
        """Whether a step stored something, or left nothing to store: to read says nothing."""
        stored = self.feeder.stored
        if stored is None:
            return False
        return (before is not None and stored > before) or not self.feeder.backlog

    def _fail(self, error: Exception) -> None:
        if told_of(error) != told_of(self.failure):
            # What nobody foresaw is a fault of the program: where it is must be in the log.
            stack = None if isinstance(error, TapeworksError | OSError) else error
            log.error(
                "%s: not stored until this is mended: %s",
                self.feeder.label,
                told_of(error),
                exc_info=stack,
            )
        self.failure, self.retry_at = error, time.monotonic() + FAILED_S
        self.feeder.errors += 1
        self.close()

    def close(self) -> None:
        """Closes the feeder; what that fails at is logged."""
        try:
            self.feeder.close()
        except Exception as error:
            log.error("%s: cannot be closed: %s", self.feeder.label, told_of(error))

    def run_maintenance(self, stopping: threading.Event) -> None:
        """Does all upkeep that is due; what it fails at is tried again ever later."""
        if time.monotonic() < self.upkeep.retry_at:
            return
        try:
            while not stopping.is_set() and self.feeder.run_maintenance():
                pass
        except Exception as error:
            self.upkeep.failures += 1
            self.upkeep.last = told_of(error)
            wait_s = min(FAILED_S * 2 ** min(self.upkeep.failures - 1, 10), UPKEEP_RETRY_S_MAX)
            self.upkeep.retry_at = time.monotonic() + wait_s
            log.warning(
                "%s: upkeep failed, %d in a row, again in %.0f s: %s",
                self.feeder.label,
                self.upkeep.failures,
                wait_s,
                self.upkeep.last,
            )
        else:
            self.upkeep = Upkeep()

    def troubles(self) -> list[str]:
        """Returns what there is to say of it, a line each."""
        told = [f"{self.feeder.topic}: {line}" for line in self.feeder.partition.troubles]
        if self.failure is not None:
            told.append(f"{self.feeder.topic}: not stored: {told_of(self.failure)}")
        if self.upkeep.failures:
            count = f"{self.upkeep.failures} in a row"
            told.append(f"{self.feeder.topic}: upkeep failed, {count}: {self.upkeep.last}")
        return told


def told_of(error: Exception | None) -> str:
    """Returns the message of an error; the type is a part of it where nobody foresaw it."""
    if isinstance(error, TapeworksError | OSError):
        return str(error)
    return f"{type(error).__name__}: {error}"


def run_worker(config: HasSinks, name: str) -> int:
    """Runs the sink `name` over all sources until SIGTERM, then stores all that is durable.

    Returns `EXIT_INCOMPLETE` if there was no time for all; the next start goes on there.

    Raises:
        TapeLockedError: another process runs this sink on the same folder.
        TapeworksError, OSError: of one or more tapes not everything could be stored.
    """
    stop, stopping = Stop(), threading.Event()
    on_stop(stop.set)
    groups = [[Member(one) for one in lane] for lane in lanes(config, name, live=True)]
    members = [member for group in groups for member in group]
    first, *others = (Lane(config.data, name, group, len(groups)) for group in groups)
    threads = [threading.Thread(target=one.run, args=(stopping,), name=name) for one in others]
    threads.append(threading.Thread(target=_maintain, args=(members, stopping), name="maintenance"))
    for thread in threads:
        thread.start()
    try:
        while not stop and not any(one.failure for one in others):
            first.step()
        stopping.set()
        first.drain()
    finally:
        stopping.set()
        for member in first.members:
            member.close()
        for thread in threads:
            while thread.is_alive():
                beat()
                thread.join(TELL_S)
    for one in others:
        if one.failure is not None:
            raise one.failure
    return 0 if all(one.is_done for one in (first, *others)) else EXIT_INCOMPLETE


class Lane:
    """Some sources of a sink, and the instance of it that stores them: one thread's work."""

    def __init__(self, data: Path, name: str, members: Sequence[Member], count: int) -> None:
        self.members = members
        self.is_done = False
        """Whether it stored all that was durable when it ended."""
        self.failure: Exception | None = None
        """Why it ended early."""
        self._state = data / "state"
        self._name = name
        self._count = count
        self._is_hasty = any(one.feeder.partition.reads_published for one in members)
        self._told = 0.0

    def step(self) -> None:
        """Moves what there is, or waits for it; tells how far it is every second."""
        moved = step_all(self.members, self._count)
        if not moved:
            _wait(self.members)
        elif moved < GATHER_RECORDS_MAX and self._is_hasty:
            time.sleep(GATHER_S)
        if time.monotonic() - self._told >= TELL_S:
            self._told = time.monotonic()
            tell(self._state, self._name, self.members)

    def drain(self) -> None:
        """Stores all that is durable, as far as there is time."""
        self.is_done = _drain_all(self.members)

    def run(self, stopping: threading.Event) -> None:
        """Steps until asked to stop, then drains: the whole of a thread."""
        try:
            while not stopping.is_set():
                self.step()
            self.drain()
        except Exception as error:
            self.failure = error
        finally:
            for member in self.members:
                member.close()


def step_all(members: Sequence[Member], lanes_running: int = 1) -> int:
    """Moves one batch of each feeder; returns how many records were moved.

    All together, and those of the other lanes, hold no more than `HELD_BYTES_MAX` and a batch each:
    beyond that the largest is flushed, and while that fails nothing is read, from no tape.
    """
    held_max = HELD_BYTES_MAX // lanes_running
    moved, held = 0, {id(member): member.feeder.held_bytes for member in members}
    total = sum(held.values())
    for member in members:
        if total >= held_max:
            max(members, key=lambda one: held[id(one)]).step(is_full=True)
            held = {id(one): one.feeder.held_bytes for one in members}
            total = sum(held.values())
        moved += member.step(is_full=total >= held_max)
        total += member.feeder.held_bytes - held[id(member)]
        held[id(member)] = member.feeder.held_bytes
    return moved


def _wait(members: Sequence[Member]) -> None:
    """Waits for news of the tape that moved last if it is sent at once, else for a while.

    A sink whose settings make all final sooner than after that while is not kept longer.
    """
    hasty = [one for one in members if one.feeder.partition.reads_published]
    if not hasty:
        time.sleep(min((IDLE_S, *(one.feeder.flush_s for one in members))))
    else:
        max(hasty, key=lambda one: one.moved_at).feeder.wait(LOOK_MS)


def tell(state: Path, name: str, members: Sequence[Member]) -> None:
    """Replaces the files that status screens read, one a source."""
    sources: dict[str, list[Member]] = {}
    for member in members:
        sources.setdefault(member.feeder.source, []).append(member)
    for source, group in sources.items():
        troubles = _refusals(group)
        troubles += [line for member in group for line in member.troubles()]
        with contextlib.suppress(OSError):
            (state / source).mkdir(parents=True, exist_ok=True)
            tapes = {one.feeder.topic: _numbers_of(one.feeder) for one in group}
            told = json.dumps({"troubles": troubles, "ts": time.time_ns(), "tapes": tapes})
            replace_file(state / source / f"sink-{name}.json", told, sync=False)
        # What the tapes of a source count together only grows; of late they are as slow as the
        # slowest, which a busy one must not hide.
        timers = {id(one.feeder.together): one.feeder.together for one in group}
        total = max((timer.take()[0] for timer in timers.values()), key=lambda one: one[0])
        recent = max((one.feeder.timer.take()[1] for one in group), key=lambda one: one[2])
        write_times(state.parent, source, f"sink-{name}", {"sink": (total, recent)})


def _refusals(members: Sequence[Member]) -> list[str]:
    """Returns a line for each reason why a store takes nothing: one that is down has one."""
    waiting: dict[str, list[str]] = {}
    for member in members:
        if member.feeder.refusal and member.failure is None:
            waiting.setdefault(member.feeder.refusal, []).append(member.feeder.topic)
    return [
        f"{topics[0] if len(topics) == 1 else f'{len(topics)} tapes'}: not stored yet: {reason}"
        for reason, topics in waiting.items()
    ]


def _numbers_of(feeder: Feeder) -> dict[str, int | str]:
    """Returns how far a feeder is; a tape that cannot be read is among the troubles."""
    told: dict[str, int | str] = {"errors": feeder.errors, "refusal": feeder.refusal}
    with contextlib.suppress(OSError, ValueError, TapeworksError):
        told |= {"stored": feeder.stored or 0, "lag": feeder.backlog}
        told |= {"lag_s": int(feeder.lag_s), "rejected": feeder.partition.rejected}
    return told


def _maintain(members: Sequence[Member], stopping: threading.Event) -> None:
    """Does the upkeep of all sinks beside their feeding, until asked to stop."""
    pause_s = min((one.feeder.partition.MAINTENANCE_S for one in members), default=1.0)
    while not stopping.wait(pause_s):
        for member in members:
            member.run_maintenance(stopping)


def _drain_all(members: Sequence[Member]) -> bool:
    """Drains every feeder; one that fails must not keep the others from it.

    All together get `DRAIN_S_MAX`. Returns whether there was time for all that is durable.
    """
    deadline = time.monotonic() + DRAIN_S_MAX
    failures: dict[int, Exception] = {}
    left, pause_s = _drain_once(members, deadline, failures)
    while left and time.monotonic() + pause_s < deadline:
        time.sleep(pause_s)
        left, pause_s = _drain_once(left, deadline, failures)
    for member in members:
        if (failure := failures.get(id(member))) is not None:
            log.error("%s: not stored: %s", member.feeder.label, told_of(failure))
    for member in left:
        if id(member) not in failures:
            log.warning(
                "%s: stopped with %d items that are not stored; the next start goes on there",
                member.feeder.label,
                member.feeder.backlog,
            )
    for failure in failures.values():
        raise failure
    return not left


def _drain_once(
    members: Sequence[Member], deadline: float, failures: dict[int, Exception]
) -> tuple[list[Member], float]:
    """Drains each of `members` for a fair part of the time left, and of what the others spare.

    Returns those that need more time, and how long to wait until one of them may take something.
    """
    waiting, pauses = [], []
    for at, member in enumerate(members):
        beat()
        seconds = max(0.0, deadline - time.monotonic()) / (len(members) - at)
        failures.pop(id(member), None)
        try:
            if not member.feeder.drain(seconds):
                waiting.append(member)
                pauses.append(0.0)
        except SinkUnavailable as error:
            failures[id(member)] = error
            waiting.append(member)
            pauses.append(error.retry_after_ms / 1000)
        except Exception as error:
            failures[id(member)] = error
    return waiting, min(pauses, default=0.0)
