"""A topic of Kafka as tapes: a member of a consumer group, `read_committed`.

Where to read on is what the local tapes say, never the group's offsets: these are committed behind
them, for tools that show lag. So a member that is given a partition which another one had reads it
from where its own tapes end, from the beginning if it has none: its tapes have no holes, and its
books are those of the recorder. A partition is shared out to one member at a time.
"""

import bisect
import contextlib
import logging
import time
from typing import Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from tapeworks.errors import (
    ConfigError,
    DiskFullError,
    SinkUnavailable,
    TapeLockedError,
    TapeReplacedError,
    TapeworksError,
)
from tapeworks.replicas.base import Outage, ReplicaContext, TopicAddress, TopicReader
from tapeworks.replicas.partition import Origin, PartitionReplica
from tapeworks.sinks.kafka import KafkaConfig
from tapeworks.sinks.kafka_client import client_log
from tapeworks.tape import RETENTION

log = logging.getLogger("tapeworks.replicas.kafka")

BATCH_MESSAGES = 10_000
RETRY_S = 1.0
ANSWER_S_MAX = 10.0
TOPIC_CHECK_S = 10.0
SETTINGS: dict[str, Any] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "error",
    "isolation.level": "read_committed",
    "enable.partition.eof": True,
    "partition.assignment.strategy": "cooperative-sticky",
    "queued.max.messages.kbytes": 64 << 10,
}
# What may be set otherwise in the address.
DEFAULTS: dict[str, Any] = {"session.timeout.ms": 10_000, "heartbeat.interval.ms": 2_000}


class KafkaTopicReader(TopicReader):
    """Reads the partitions of a topic that its group gives it."""

    def __init__(self, address: TopicAddress, context: ReplicaContext) -> None:
        if own := SETTINGS.keys() & address.properties.keys():
            raise ConfigError(f"--from: {', '.join(sorted(own))} is set by the reader itself")
        plain = [name for name in address.properties if "." not in name]
        if plain:
            raise ConfigError(
                f"--from: {', '.join(plain)} is no setting: expected group, or one of the client "
                "library, such as security.protocol"
            )
        config = KafkaConfig(servers=address.servers, properties=address.properties)
        self._client = DEFAULTS | config.client() | {"error_cb": self._on_error}
        self._topic = address.topic
        self._group = address.group
        self._context = context
        self._outage = Outage(log, f"Kafka at {address.servers}")
        self._replicas: dict[int, PartitionReplica] = {}
        self._waiting: dict[int, float] = {}
        self._failure: TapeworksError | None = None
        self._rebalances = 0
        self._topic_id = ("", 0.0)
        try:
            self._admin = AdminClient(config.client(), logger=client_log(log))
            settings = self._client | SETTINGS | {"group.id": self._group}
            self._consumer = Consumer(settings, logger=client_log(log))
        except KafkaException as error:
            raise ConfigError(f"--from: {error.args[0].str()}") from None
        self._consumer.subscribe(
            [self._topic],
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_revoke,
        )

    def poll(self, timeout_s: float) -> int:
        """Reads a batch of all partitions, in the order of each."""
        try:
            messages = self._consumer.consume(BATCH_MESSAGES, timeout_s)
        except KafkaException as error:
            self._on_error(error.args[0])
            time.sleep(timeout_s)
            return 0
        if self._failure is not None:
            raise self._failure
        batches: dict[int, list[Any]] = {}
        ends: dict[int, int] = {}
        for message in messages:
            failure, number = message.error(), message.partition() or 0
            if failure is None or failure.code() == KafkaError._PARTITION_EOF:
                self._outage.end()
            if failure is None:
                batches.setdefault(number, []).append(message)
            elif failure.code() == KafkaError._PARTITION_EOF:
                ends[number] = message.offset() or 0
            else:
                self._on_partition_error(message)
        for number, batch in batches.items():
            self._append(number, batch)
        for number, end in ends.items():
            if (replica := self._replicas.get(number)) is not None:
                # Behind the last message stands the mark of its commit.
                replica.position = max(replica.position, end)
        self._open_waiting()
        self._check_topic()
        return sum(map(len, batches.values()))

    def checkpoint(self) -> None:
        """Notes what is durable; the group's offsets follow for those who look at lag."""
        moved = []
        for number, replica in list(self._replicas.items()):
            if not replica.has_news:
                continue
            try:
                replica.checkpoint()
            except (DiskFullError, OSError) as error:
                self._reopen(number, error)
                continue
            moved.append(TopicPartition(self._topic, number, replica.position))
        if moved:
            with contextlib.suppress(KafkaException):
                self._consumer.commit(offsets=moved, asynchronous=True)

    def local_sources(self) -> list[str]:
        """Returns the local sources of the partitions that it was given."""
        return [name for one in self._replicas.values() for name in one.local_sources()]

    def status(self) -> dict[str, dict[str, int | str]]:
        """Returns what is known of each partition without asking the brokers."""
        found: dict[str, dict[str, int | str]] = {}
        for number, replica in self._replicas.items():
            at = TopicPartition(self._topic, number)
            end = -1
            with contextlib.suppress(KafkaException):
                _, end = self._consumer.get_watermark_offsets(at, cached=True)
            found[str(number)] = {
                "position": replica.position,
                "lag": max(0, end - replica.position),
                "unreadable": replica.unreadable,
                "repeated": replica.repeated,
                "rebalances": self._rebalances,
            }
        return found

    @property
    def troubles(self) -> list[str]:
        """What the client said last of the connection, and what waits."""
        told = [f"Kafka: {self._outage.problem}"] if self._outage.problem else []
        told += [f"{self._topic} [{number}] is not read yet" for number in self._waiting]
        return told

    def close(self) -> None:
        """Leaves the group; on the way it closes all partitions."""
        with contextlib.suppress(KafkaException, RuntimeError):
            self._consumer.close()
        for number in list(self._replicas):
            self._close(number)

    # Partitions.

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._rebalances += 1
        for one in partitions:
            # Where it cannot be opened yet, nothing is read: it is paused right below.
            one.offset = OFFSET_BEGINNING
            self._waiting[one.partition] = 0.0
        consumer.incremental_assign(partitions)
        consumer.pause(partitions)
        log.info("%s: was given %s", self._topic, [one.partition for one in partitions])

    def _on_revoke(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self._rebalances += 1
        for one in partitions:
            self._waiting.pop(one.partition, None)
            replica = self._replicas.get(one.partition)
            if replica is not None:
                with contextlib.suppress(OSError, TapeworksError):
                    replica.checkpoint()
            self._close(one.partition)
        log.info("%s: gave back %s", self._topic, [one.partition for one in partitions])

    def _open_waiting(self) -> None:
        now = time.monotonic()
        for number in [one for one, retry_at in self._waiting.items() if now >= retry_at]:
            try:
                self._open(number)
            except (TapeLockedError, SinkUnavailable, DiskFullError, OSError) as error:
                if self._waiting[number] == 0.0:
                    log.warning("%s [%d]: is read once it can be: %s", self._topic, number, error)
                self._waiting[number] = time.monotonic() + RETRY_S

    def _open(self, number: int) -> None:
        origin = Origin("kafka", self._topic, self._read_topic_id(), number)
        replica = PartitionReplica(self._context.data, origin, self._context.tape)
        position = replica.open()
        try:
            self._go_to(number, OFFSET_BEGINNING if position is None else position)
        except KafkaException as error:
            replica.close()
            raise SinkUnavailable(error.args[0].str()) from error
        self._replicas[number] = replica
        self._waiting.pop(number)
        log.info("%s [%d]: read from %s", self._topic, number, position or "the beginning")

    def _go_to(self, number: int, offset: int) -> None:
        """Has a partition read from `offset`, in whatever state the client has left it.

        Of one that was paused, or that met an offset which is not there, it takes no `seek`.
        """
        at = TopicPartition(self._topic, number, offset)
        self._consumer.incremental_unassign([at])
        self._consumer.incremental_assign([at])
        self._consumer.resume([at])

    def _close(self, number: int) -> None:
        replica = self._replicas.pop(number, None)
        if replica is not None:
            self._context.on_close(replica.local_sources())
            replica.close()

    def _reopen(self, number: int, error: Exception) -> None:
        """Closes a partition that could not be written; it is read again once it can be."""
        log.error("%s [%d]: not written: %s", self._topic, number, error)
        self._consumer.pause([TopicPartition(self._topic, number)])
        self._close(number)
        self._waiting[number] = time.monotonic() + RETRY_S

    def _append(self, number: int, batch: list[Any]) -> None:
        replica = self._replicas.get(number)
        if replica is None:
            # It was taken away meanwhile, or could not be written: it is read again.
            return
        positions = [message.offset() for message in batch]
        # What was fetched before the reader was sent elsewhere.
        start = bisect.bisect_left(positions, replica.position)
        values = [message.value() or b"" for message in batch[start:]]
        keys = [message.key() for message in batch[start:]]
        try:
            replica.append(values, positions[start:], keys)
        except (DiskFullError, OSError) as error:
            self._reopen(number, error)

    # What the brokers say.

    def _on_error(self, error: KafkaError) -> None:
        if error.code() != KafkaError._ALL_BROKERS_DOWN or not self._outage.problem:
            # That all are down follows from what was said of each.
            self._outage.note(error.str())

    def _on_partition_error(self, message: Any) -> None:
        error, number = message.error(), message.partition()
        replica = self._replicas.get(number)
        if error.code() != KafkaError._AUTO_OFFSET_RESET or replica is None:
            self._on_error(error)
            return
        at = TopicPartition(self._topic, number)
        try:
            low, high = self._consumer.get_watermark_offsets(at, timeout=ANSWER_S_MAX)
            if replica.position > high:
                raise TapeReplacedError(
                    f"{self._topic} [{number}]: {replica.position} was read, and it ends at "
                    f"{high}: the brokers lost what they had confirmed, or it was made again"
                )
            if replica.position < low:
                first, last = replica.position, low - 1
                log.error(
                    "%s [%d]: positions %d to %d are lost: retention took them before they were "
                    "read",
                    *(self._topic, number, first, last),
                )
                replica.lose(first, last, RETENTION)
            self._go_to(number, replica.position)
        except KafkaException as passing:
            self._reopen(number, SinkUnavailable(passing.args[0].str()))

    def _check_topic(self) -> None:
        """Notices that the topic was deleted and made again while it was read."""
        if not self._replicas or time.monotonic() - self._topic_id[1] < TOPIC_CHECK_S:
            return
        try:
            now = self._read_topic_id()
        except SinkUnavailable:
            # It is looked at again; meanwhile the client says what is wrong.
            self._topic_id = (self._topic_id[0], time.monotonic())
            return
        for number, replica in self._replicas.items():
            if replica.origin.topic_id != now:
                raise TapeReplacedError(
                    f"{self._topic} [{number}]: the topic was deleted and made again: what was "
                    "read before is kept; to read the new one, name another folder with --data"
                )

    def _read_topic_id(self) -> str:
        name, read_at = self._topic_id
        if name and time.monotonic() - read_at < RETRY_S:
            return name
        asked = TopicCollection([self._topic])
        try:
            [found] = self._admin.describe_topics(asked, request_timeout=ANSWER_S_MAX).values()
            name = str(found.result(ANSWER_S_MAX).topic_id)
        except (KafkaException, TimeoutError) as error:
            told = error.args[0].str() if isinstance(error, KafkaException) else "no answer"
            raise SinkUnavailable(f"{self._topic}: {told}") from error
        self._topic_id = (name, time.monotonic())
        return name
