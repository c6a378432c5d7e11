"""A sink whose store keeps the place of each tape beside the rows, in the same transaction.

What is common to such sinks stands here: one connection for all tapes, what is pending, which
symbols and kinds are wanted, what an attempt of unknown outcome means, and records that the store
will never take. A class derived from `StoreSink` connects, and stores a batch with its place.
"""

import contextlib
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeAlias, TypeVar

import pyarrow as pa

from tapeworks._core import Blob, Records, Symbols, kind_of, undefined
from tapeworks.errors import SinkError, SinkRejected, SinkUnavailable
from tapeworks.lake import DEFINITIONS_ADVICE
from tapeworks.sinks.base import Sink, SinkConfig, SinkContext, SinkPartition
from tapeworks.sinks.rejected import RejectedRecords, content_of
from tapeworks.sinks.source_state import SourceState
from tapeworks.sinks.store_tables import RowEncoder, T
from tapeworks.tape import UNKNOWN, Place, received
from tapeworks.topics import NORMALIZED

DEFINITION = kind_of("definition")
E = TypeVar("E")
Encode: TypeAlias = Callable[[list[Records], Symbols, str, list[int] | None], E]
"""Makes rows of batches, with symbols, source and chosen instruments; none: all."""
Items = Sequence[Records] | Sequence[Blob]
"""Batches of records, or blobs, in the order of their tape."""


class StoreSink(Sink):
    """Stores rows together with the place on the tape that they reach up to: exactly once."""

    TOPICS: ClassVar[tuple[str, ...]] = (NORMALIZED,)
    """The topics that it is made for; the settings may name others."""

    reads_published = False
    """Whether partitions are given what is published, and `send` all of it at once."""

    @classmethod
    def topics(cls, config: SinkConfig) -> tuple[str, ...]:
        """Returns the topics of the settings, or those that the sink is made for."""
        return config.topics or cls.TOPICS

    def __init__(self, config: Any, context: SinkContext) -> None:
        self.config = config
        self.context = context
        self._sources: dict[str, SourceState] = {}
        self._is_connected = False
        self._holders = 0
        self._retry_at = 0.0
        self._refusal: SinkUnavailable | None = None

    @abstractmethod
    def connect(self) -> None:
        """Opens what all partitions share; called before the first use, and after a failure.

        Raises:
            SinkUnavailable: may work later.
        """

    @abstractmethod
    def disconnect(self) -> None:
        """Gives up what `connect` opened, also if that failed half way. Must not fail."""

    @abstractmethod
    def load_place(self, partition: "StorePartition") -> Place | None:
        """Returns the place up to which a tape is in the store; none if nothing of it is.

        Raises:
            SinkUnavailable: may work later.
        """

    @abstractmethod
    def store(self, partition: "StorePartition", items: Items, place: Place) -> None:
        """Stores all that is wanted of `items`, and `place`, in one step, or nothing.

        `items` are never changed; they may be none at all. `partition.committed` is the place that
        the store has, unless somebody else writes it.

        Raises:
            SinkUnavailable: may work later. Whether it was stored need not be known.
            SinkRejected: one or more of `items` will never be taken; nothing was stored.
        """

    def send(self, partition: "StorePartition") -> None:
        """With `reads_published`: sends what is pending and was not sent, ahead of its place.

        `store` is called later all the same, with all that its place covers.
        """

    def partition(self, source: str, topic: str) -> "StorePartition":
        """Makes the part of the sink that stores one tape; opens nothing."""
        state = self._sources.get(source)
        if state is None:
            state = self._sources[source] = SourceState(self.context, source)
        return self.partition_of(state, topic)

    def partition_of(self, state: SourceState, topic: str) -> "StorePartition":
        """Makes the part of the sink that stores one tape of a source."""
        return StorePartition(self, state, topic)

    def ensure_connected(self) -> None:
        """Connects, unless it is connected; what failed a moment ago is not tried again at once.

        Raises:
            SinkUnavailable: may work later.
        """
        if self._is_connected:
            return
        if self._refusal is not None and time.monotonic() < self._retry_at:
            raise self._refusal
        began = time.monotonic()
        try:
            self.connect()
        except SinkUnavailable as error:
            # Each partition asks: together they try no more often than one, and wait no longer for
            # a server that is silent.
            now = time.monotonic()
            self._refusal = error
            self._retry_at = now + max(error.retry_after_ms / 1000, now - began)
            self.disconnect()
            raise
        except BaseException:
            self.disconnect()
            raise
        self._is_connected, self._refusal = True, None

    def drop_connection(self) -> None:
        """Disconnects; the next use connects again."""
        self._is_connected = False
        self.disconnect()

    def hold(self) -> None:
        """Counts one more open partition."""
        self._holders += 1

    def release(self) -> None:
        """Counts one open partition less; the last disconnects."""
        self._holders -= 1
        if self._holders <= 0:
            self._holders = 0
            self.drop_connection()


class StorePartition(SinkPartition):
    """One tape in a store: what is pending of it, and the place that the store has."""

    LOST_ADVICE = (
        "was the database replaced or emptied? Restore it, or give the sink another name in the "
        "settings to begin with what the tape still holds"
    )

    def __init__(self, sink: StoreSink, state: SourceState, topic: str) -> None:
        self.source = state.source
        self.topic = topic
        self._sink = sink
        self._state = state
        name = f"{sink.context.name}.{topic}.jsonl"
        self._rejected = RejectedRecords(state.rejected / name, sink.config.rejected_max)
        self._items: list[Any] = []
        self._bytes = 0
        self._committed: Place | None = None
        self._offset = self._next = 0
        self._defined = 0
        self._ts = self._ts_committed = UNKNOWN
        self._in_doubt = False
        self._is_open = False
        self._chosen: tuple[int, list[int]] | None = None

    # What a store asks of it.

    @property
    def symbols(self) -> Symbols:
        """The symbols of the instruments of its source, as far as they are known."""
        return self._state.symbols

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of records that the settings choose; none: all."""
        kinds: tuple[str, ...] = self._sink.config.kinds
        return kinds

    @property
    def instruments(self) -> list[int] | None:
        """The instruments that the settings choose, and 0: what concerns all; none: all."""
        wanted = frozenset(self._sink.config.symbols)
        if not wanted:
            return None
        if self._chosen is None or self._chosen[0] != self._state.version:
            found = [number for symbol, number in self.symbols.ids() if symbol in wanted]
            self._chosen = self._state.version, [0, *found]
        return self._chosen[1]

    def between(self, first: int, end: int) -> Any:
        """Returns what is pending from offset `first` up to `end`."""
        found: list[Any] = []
        for item in self._items:
            if isinstance(item, Blob):
                if first <= item.offset < end:
                    found.append(item)
            elif item.first_offset < end and item.next_offset > first:
                start = max(first, item.first_offset) - item.first_offset
                stop = min(end, item.next_offset) - item.first_offset
                is_whole = (start, stop) == (0, len(item))
                found.append(item if is_whole else item.slice(start, stop))
        return found

    def rows(self, batch: Records, kind: str) -> list[dict[str, Any]]:
        """Returns the chosen records of one kind as rows, with `symbol` and `tape_offset`.

        What concerns all instruments concerns those that were chosen; it has no symbol.
        """
        if self.kinds and kind not in self.kinds:
            return []
        wanted = frozenset(self._sink.config.symbols)
        found = pa.record_batch(batch.arrow(kind, self.symbols, offsets=True)).to_pylist()
        if unknown := next((r for r in found if r["symbol"] is None and r["instrument"]), None):
            self.require_symbols(f"instrument {unknown['instrument']} has no definition")
            return self.rows(batch, kind)
        return [row for row in found if not wanted or row["symbol"] in {None, *wanted}]

    def encode(self, encoder: RowEncoder[T], batches: list[Records]) -> T:
        """Returns the chosen records of `batches` as rows of a table.

        Raises:
            SinkUnavailable: an instrument has no definition yet.
            SinkRejected: a record has no place in the table.
        """
        rows, refused = self.encode_by(encoder.encode, batches)
        if refused is not None:
            raise SinkRejected(refused[1], offset=refused[0])
        assert rows is not None, "what is not refused has rows"
        return rows

    def encode_by(self, encode: Encode[E], batches: list[Records]) -> E:
        """Returns what `encode` makes of the chosen records of `batches`.

        Raises:
            SinkUnavailable: an instrument has no definition yet.
        """
        try:
            return encode(batches, self.symbols, self.source, self.instruments)
        except LookupError as error:
            self.require_symbols(str(error))
            return self.encode_by(encode, batches)

    def require_symbols(self, problem: str) -> None:
        """Reads the definitions anew, as one was missing: a derived tape can be ahead of them.

        Raises:
            SinkUnavailable: there are no more than before.
        """
        before = len(self.symbols.ids())
        self._state.read()
        if len(self.symbols.ids()) == before:
            told = f"{self.source}: {self.topic}: {problem}; {DEFINITIONS_ADVICE}"
            raise SinkUnavailable(told, retry_after_ms=200, lacks_input=True)

    def reject(self, offset: int, reason: str) -> None:
        """Keeps one pending record as rejected; raises as `RejectedRecords.add`."""
        [item] = self.between(offset, offset + 1)
        self._rejected.add(offset, reason, content_of(item, self.symbols))

    # The contract.

    def open(self) -> int:
        """Reads the place that the store has; returns the offset to be given next.

        Raises:
            TapeLockedError: another process stores this source by this sink.
            SinkUnavailable: the store does not answer.
        """
        self._state.lock.acquire()
        self._sink.hold()
        self._is_open = True
        try:
            self._state.read()
            self._committed = self._load_place()
        except BaseException:
            self.close()
            raise
        self._items, self._bytes, self._in_doubt = [], 0, False
        self._offset = self._next = self._defined = self.resume
        self._ts = self._ts_committed = UNKNOWN
        return self._offset

    def write(self, batch: Records) -> None:
        """Takes records; nothing is sent before `flush`."""
        if DEFINITION in batch.kinds():
            self._state.load(batch.select([DEFINITION]))
        if self._committed is None and not self._items:
            # A sink that is new on a tape begins with what there is.
            self._offset = batch.first_offset
        self._items.append(batch)
        self._bytes += _bytes_of(batch)
        self._next = batch.next_offset
        if len(batch):
            self._ts = max(self._ts, received(batch))
        self._send()

    def write_blobs(self, blobs: list[Blob]) -> None:
        """Takes blobs; nothing is sent before `flush`."""
        if self._committed is None and not self._items:
            self._offset = blobs[0].offset
        self._items.extend(blobs)
        self._bytes += sum(map(_bytes_of, blobs))
        self._next = blobs[-1].offset + 1
        self._ts = max(self._ts, blobs[0].ts_recv)
        self._send()

    @property
    def reads_published(self) -> bool:
        """Whether its sink sends what is published at once."""
        return self._sink.reads_published

    def pending_from(self, offset: int | None) -> tuple[int, Any]:
        """Returns where what is pending ends, and what of it stands at `offset` or behind."""
        last = self._items[-1] if self._items else None
        if isinstance(last, Records) and last.first_offset == offset:
            return self._next, [last]
        first = self._offset if offset is None else max(offset, self._offset)
        return self._next, self.between(first, self._next)

    @property
    def pending(self) -> tuple[int, int]:
        """Items and bytes that are not yet in the store."""
        return self._next - self._offset, self._bytes

    def flush(self, place: Place | None = None) -> None:
        """Stores all that is pending, with its place.

        Raises:
            SinkUnavailable: the store does not answer; what is pending is kept.
            SinkError: somebody else wrote the place of this tape, or too much was rejected.
        """
        if self._next <= self._offset:
            return
        self._state.lock.check()
        place = place or Place(self._next)
        if place.offset != self._next and not self.reads_published:
            raise ValueError(f"flush: expected a place at offset {self._next}, got {place.offset}")
        if self._in_doubt:
            self._resolve_doubt()
        targets = [place] if place.offset > self._offset else []
        while targets:
            before = self.between(self._offset, targets[-1].offset)
            try:
                self._store(before, targets[-1])
            except SinkRejected as error:
                targets += self._isolate(before, targets[-1], error)
                continue
            self._on_stored(targets.pop())

    def skip(self, place: Place) -> None:
        """Stores that nothing is to come before `place`, as it is gone."""
        # An attempt without an answer may have arrived.
        stored = self._load_place() if self._in_doubt else self._committed
        self._in_doubt = False
        if stored != place:
            self._committed = stored
            self._store(self._items, place)
        self._next = place.offset
        self._on_stored(place)

    def close(self) -> None:
        """Drops what is pending; the last partition disconnects."""
        self._items, self._bytes = [], 0
        self._next = self._offset
        if self._is_open:
            self._is_open = False
            self._sink.release()
            self._state.lock.release()

    @property
    def committed(self) -> Place | None:
        """The place that the store has; none if it has nothing of this tape."""
        return self._committed

    @property
    def resume(self) -> int:
        """The offset to be read after a restart."""
        return 0 if self._committed is None else self._committed.offset

    @property
    def received(self) -> int:
        """A receive time before which all is stored, since this was opened."""
        return self._ts_committed

    @property
    def rejected(self) -> int:
        """The number of records that the store will never take, and that are kept aside."""
        return self._rejected.count

    @property
    def troubles(self) -> list[str]:
        """How many records the store refused for good."""
        with contextlib.suppress(OSError, ValueError):
            if count := self._rejected.count:
                noun = "record" if count == 1 else "records"
                return [f"{count} {noun} rejected by the store, see {self._rejected.path}"]
        return []

    def _send(self) -> None:
        if self.reads_published and not self._in_doubt:
            self._sink.ensure_connected()
            self._require_defined(self._next)
            self._sink.send(self)

    def _load_place(self) -> Place | None:
        try:
            self._sink.ensure_connected()
            return self._sink.load_place(self)
        except SinkUnavailable:
            self._sink.drop_connection()
            raise

    def _store(self, items: Items, place: Place) -> None:
        try:
            self._sink.ensure_connected()
            self._require_defined(place.offset)
            self._sink.store(self, items, place)
        except SinkUnavailable as error:
            if not error.lacks_input:
                # The store may have taken it all the same: the answer was lost, not the commit.
                self._in_doubt = True
                self._sink.drop_connection()
            raise

    def _require_defined(self, end: int) -> None:
        """With chosen symbols, nothing passes that may be of one whose definition is not read yet.

        Raises:
            SinkUnavailable: what is pending before `end` has an instrument without a definition.
        """
        if not self._sink.config.symbols:
            return
        for item in self.between(self._defined, end):
            while isinstance(item, Records) and (number := undefined(item, self.symbols)):
                self.require_symbols(f"instrument {number} has no definition")
        self._defined = max(self._defined, end)

    def _resolve_doubt(self) -> None:
        """Asks the store how far the last attempt came.

        Raises:
            SinkError: not to a place that was sent: somebody else writes there, or the store forgot
                what it had confirmed. Opened again, the partition goes on where the store is.
        """
        stored = self._load_place()
        offset = self._offset if stored is None else stored.offset
        if not self._offset <= offset <= self._next:
            raise SinkError(
                f"{self.source}: {self.topic}: expected the store to be at offset {self._offset} "
                f"to {self._next}, got {offset}: did it forget what it had confirmed, or does "
                "another sink write there?"
            )
        if stored is not None:
            self._on_stored(stored)
        self._in_doubt = False

    def _on_stored(self, place: Place) -> None:
        """Goes on behind `place`."""
        self._items = self.between(place.offset, self._next)
        self._committed, self._offset = place, place.offset
        if self._items:
            self._bytes = sum(map(_bytes_of, self._items))
        else:
            self._bytes, self._ts_committed = 0, self._ts

    def _isolate(self, items: Sequence[Any], end: Place, error: SinkRejected) -> list[Place]:
        """Finds what the store refuses; returns the places to store up to first, last one first.

        A single record is kept as rejected, and what is pending goes on without it.
        """
        first, last = self._offset, end.offset - 1
        if not items:
            raise SinkError(f"{self.source}: {self.topic}: the store refuses an empty batch") from (
                error
            )
        if first == last:
            self._rejected.add(first, str(error), content_of(items[0], self.symbols))
            self._items = self.between(last + 1, self._next)
            return []
        if error.offset is not None and first <= error.offset <= last:
            # What comes before it, then itself alone.
            ends = [error.offset + 1, error.offset]
            return [Place(at, end.tape) for at in ends if first < at <= last]
        return [Place((first + last + 1) // 2, end.tape)]


def _bytes_of(item: Records | Blob) -> int:
    if isinstance(item, Blob):
        return len(item.body) + len(item.context)
    return len(memoryview(item))
