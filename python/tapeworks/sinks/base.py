"""The contract of sinks, their table, and the loop that feeds one from the tapes.

A sink is given one tape. It says at `open` from which offset it wants records, is given all from
there on, in order and without holes, and makes them final at `flush`. The tape keeps what is not
final, so a sink that fails or is killed at any instant goes on from its last flush.
"""

import importlib
import logging
import signal
import struct
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from tapeworks._core import Blob, Records, TapeReader
from tapeworks.errors import ConfigError, SinkUnavailable, TapeError, TapeRangeError
from tapeworks.heartbeat import beat
from tapeworks.lake import BLOBS_MAX
from tapeworks.tape import Loss, load_offset, note_loss, save_offset

log = logging.getLogger("tapeworks.sinks")

# Name of a sink -> its class. A client library is loaded only when a config names its sink.
SINKS = {"parquet": "tapeworks.sinks.parquet:ParquetSink"}

BATCH_RECORDS = 65_536
IDLE_S = 0.02
TIDY_S = 30.0
BACKOFF_S_MAX = 30.0
DRAIN_S_MAX = 5.0
# Retention waits for a sink that says where it is, also while nothing comes.
REGISTER_S = 3_600.0
UNKNOWN = -(2**63)
# Where the receive time lies in every record.
TS_RECV, TS_RECV_AT = struct.Struct("<q"), 16


@dataclass(frozen=True)
class FlushPolicy:
    """When what was written becomes final: at whichever limit is reached first."""

    rows: int = 1_000_000
    bytes: int = 192 << 20
    seconds: float = 10.0


class Sink(ABC):
    """Records of one tape leaving for another system."""

    @staticmethod
    @abstractmethod
    def topics(config: Any) -> tuple[str, ...]:
        """Returns the topics that the sink wants, in the order in which they are to be read."""

    @abstractmethod
    def __init__(self, config: Any, data: Path, source: str, topic: str) -> None:
        """Only remembers its arguments."""

    @abstractmethod
    def open(self) -> int:
        """Recovers from whatever happened before; returns the offset to be given next."""

    @abstractmethod
    def write(self, batch: Records) -> None:
        """Takes records that follow those of the last call."""

    def write_blobs(self, blobs: list[Blob]) -> None:
        """Takes one or more blobs that follow those of the last call.

        Raises:
            NotImplementedError: the sink asks for no topic that holds blobs.
        """
        raise NotImplementedError

    @abstractmethod
    def flush(self) -> None:
        """Makes everything that was written final, or nothing.

        Raises:
            SinkUnavailable: may work later; what was written is kept, call again.
        """

    @abstractmethod
    def close(self) -> None:
        """Gives up what it holds. What was not flushed is written again after the next `open`."""

    def tidy(self) -> bool:
        """Does one piece of upkeep, if any is due; called when nothing is to be written."""
        return False

    @property
    @abstractmethod
    def committed(self) -> tuple[int, int]:
        """What `open` would return now; a receive time before which all is final, or `UNKNOWN`."""

    @abstractmethod
    def skip(self, offset: int) -> None:
        """Goes on at `offset`, for good, as retention took all that is not final before it.

        Nothing that was written may be pending.
        """

    @property
    @abstractmethod
    def pending(self) -> tuple[int, int]:
        """Rows and bytes that were written and are not yet final."""


class HasSinks(Protocol):
    """The part of the config that a sink worker reads."""

    @property
    def data(self) -> Path: ...

    @property
    def feeds(self) -> Any: ...

    @property
    def sinks(self) -> Any: ...


def load_sink(name: str) -> type[Sink]:
    """Returns the class of the sink called `name`.

    Raises:
        ConfigError: no such sink; the message lists all.
    """
    if name not in SINKS:
        raise ConfigError(f"wanted a sink of {', '.join(sorted(SINKS))}; found {name!r}")
    module, _, attribute = SINKS[name].partition(":")
    found: type[Sink] = getattr(importlib.import_module(module), attribute)
    return found


class Feeder:
    """Feeds one sink from one tape, up to what is durable; opens both when the tape is there."""

    def __init__(
        self,
        sink: Sink,
        tape: Path,
        policy: FlushPolicy,
        *,
        name: str | None = None,
        live: bool = False,
    ) -> None:
        self.sink = sink
        self._tape = tape
        self._policy = policy
        self._name = name
        self._live = live
        self._registered: tuple[int, float] | None = None
        self._reader: TapeReader | None = None
        self._flushed = time.monotonic()
        self._retry_at = 0.0
        self._failures = 0

    def step(self) -> int:
        """Moves one batch and flushes when it is due; returns how many records it moved."""
        if time.monotonic() < self._retry_at:
            return 0
        try:
            moved = self._move()
            rows, size = self.sink.pending
            due = time.monotonic() - self._flushed >= self._policy.seconds
            if rows >= self._policy.rows or size >= self._policy.bytes or (due and rows):
                self.flush()
            elif due:
                self._register()
        except SinkUnavailable as error:
            self._back_off(error)
            return 0
        self._failures = 0
        return moved

    def flush(self) -> None:
        """Makes everything final that was moved."""
        if self._reader is not None:
            self.sink.flush()
            self._register()
        self._flushed = time.monotonic()

    def tidy(self) -> bool:
        """Lets the sink do a piece of upkeep; returns whether it did."""
        return self._reader is not None and self.sink.tidy()

    def drain(self, seconds_max: float) -> None:
        """Moves and flushes all that is durable; what fails is tried again for `seconds_max`.

        Raises:
            SinkUnavailable: it could not be done in time; the tape keeps what is missing.
        """
        deadline = time.monotonic() + seconds_max
        self._retry_at = 0.0
        while time.monotonic() < deadline:
            if self.step():
                continue
            if time.monotonic() >= self._retry_at:
                break
            time.sleep(IDLE_S)
        while True:
            try:
                self.flush()
                return
            except SinkUnavailable as error:
                if time.monotonic() + error.retry_after_ms / 1000 > deadline:
                    raise
                time.sleep(error.retry_after_ms / 1000)

    def close(self) -> None:
        """Closes the sink."""
        if self._reader is not None:
            self.sink.close()
            self._reader = None

    def _move(self) -> int:
        reader = self._reader or self._open()
        if reader is None:
            return 0
        durable = reader.durable
        rows, _ = self.sink.pending
        room = min(BATCH_RECORDS, durable - reader.position, max(1, self._policy.rows - rows))
        if room <= 0:
            return 0
        try:
            if reader.kind == "blobs":
                blobs = reader.read_blobs(min(room, BLOBS_MAX))
                if blobs:
                    self.sink.write_blobs(blobs)
                return len(blobs or ())
            batch = reader.read(room)
        except TapeRangeError as error:
            self._skip(reader, reader.position, error.first)
            return 0
        if batch is None:
            return 0
        self.sink.write(batch)
        return len(batch)

    def _skip(self, reader: TapeReader, wanted: int, first: int) -> None:
        """Goes on at `first`, as what comes before is gone, and has the loss declared.

        To stop here would lose all that comes, too, until somebody looks.
        """
        if first <= wanted:
            raise TapeRangeError(f"{self._tape} ends before offset {wanted}: is it another tape?")
        self.sink.flush()
        reader.seek(first)
        ts_end = _received_next(reader)
        reader.seek(first)
        _, ts_start = self.sink.committed
        loss = Loss(self._tape.name, self._name or "sink", wanted, first - 1, ts_start, ts_end)
        log.error("%s: retention took offsets %d to %d", self._tape, wanted, first - 1)
        # The note first: what is told twice is one gap, what is never told would be a silent one.
        note_loss(self._tape.parents[2], self._tape.parent.name, loss)
        self.sink.skip(first)
        self._register()

    def _register(self) -> None:
        """Tells the tape's retention what this sink still needs."""
        needed, now = self.sink.committed[0], time.monotonic()
        known = self._registered
        if self._name is None or (
            known is not None and known[0] == needed and now - known[1] < REGISTER_S
        ):
            return
        try:
            save_offset(self._tape, self._name, needed)
        except (OSError, TapeError) as error:
            # Retention then keeps more than is needed.
            log.warning("%s: %s", self._tape, error)
        self._registered = needed, now

    def _open(self) -> TapeReader | None:
        if not self._tape.is_dir() or not any(self._tape.iterdir()):
            return None
        try:
            reader = TapeReader(self._tape)
        except OSError:
            # The writer is just making the folder; look again at the next step.
            return None
        if self._live and not reader.settled:
            # The writer has yet to mend what a loss of power left.
            return None
        offset = self.sink.open()
        is_known = offset > 0 or (
            self._name is not None and load_offset(self._tape, self._name) is not None
        )
        # Before anything is read: what is not final must not be taken away.
        self._register()
        try:
            reader.seek(offset)
        except TapeRangeError as error:
            if is_known:
                self._skip(reader, offset, error.first)
            else:
                # A sink that is new here begins with what there is.
                reader.seek(error.first)
        self._reader, self._flushed = reader, time.monotonic()
        return reader

    def _back_off(self, error: SinkUnavailable) -> None:
        delay_s = min(error.retry_after_ms / 1000 * 2**self._failures, BACKOFF_S_MAX)
        self._failures = min(self._failures + 1, 16)
        self._retry_at = time.monotonic() + delay_s
        log.warning("%s: again in %.1f s: %s", self._tape.name, delay_s, error)


def _received_next(reader: TapeReader) -> int:
    if reader.kind == "blobs":
        blobs = reader.read_blobs(1)
        return blobs[0].ts_recv if blobs else UNKNOWN
    batch = reader.read(1)
    return UNKNOWN if batch is None else received(batch)


def received(batch: Records) -> int:
    """Returns the receive time of the first record of `batch`."""
    ts: int = TS_RECV.unpack_from(memoryview(batch), TS_RECV_AT)[0]
    return ts


def feeders(config: HasSinks, name: str, *, live: bool = False) -> list[Feeder]:
    """Builds one feeder for each source and topic that the sink `name` wants.

    With `live`, recorders run beside it: a tape is read once its writer has opened it.
    """
    kind, settings = load_sink(name), config.sinks[name]
    return [
        Feeder(
            kind(settings, config.data, source, topic),
            config.data / "tape" / source / topic,
            settings.policy,
            name=f"sink-{name}",
            live=live,
        )
        for source in config.feeds
        for topic in kind.topics(settings)
    ]


def run_worker(config: HasSinks, name: str) -> None:
    """Runs the sink `name` over all sources until SIGTERM, then stores all that is durable."""
    stopping: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        stopping.append(number)

    signal.signal(signal.SIGTERM, ask)
    work = feeders(config, name, live=True)
    try:
        tidied = time.monotonic()
        while not stopping:
            beat()
            if sum(feeder.step() for feeder in work):
                continue
            time.sleep(IDLE_S)
            if time.monotonic() - tidied >= TIDY_S and not any(f.tidy() for f in work):
                tidied = time.monotonic()
        _drain_all(work)
    finally:
        for feeder in work:
            feeder.close()


def _drain_all(work: list[Feeder]) -> None:
    """Drains every feeder; one that fails must not keep the others from it."""
    failure: SinkUnavailable | None = None
    for feeder in work:
        try:
            feeder.drain(DRAIN_S_MAX)
        except SinkUnavailable as error:
            failure = failure or error
    if failure is not None:
        raise failure
