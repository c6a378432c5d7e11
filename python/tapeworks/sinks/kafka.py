"""Tapes as topics of Kafka: each record one message, keyed by its instrument.

Exactly once: the messages of a flush and the place on the tape that they reach up to are one
transaction. The place is a message of a compacted topic, which is read with `read_committed` before
anything is written. Each source has producers of its own with fixed transactional ids, so that a
second instance fences the first; one that was fenced stays out while the other makes progress.

At least once, `delivery = "at-least-once"`: no transactions, so that a reader sees a message at
once. The place follows what was acknowledged; after a crash what came behind it is sent again. With
`low-latency`, what is published on the tape is sent at once, also before it is durable there.
"""

import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient

from tapeworks._core import Blob, Records, numbers
from tapeworks.config import FROM_ENVIRONMENT, check_properties, check_url
from tapeworks.errors import ConfigError, SinkError, SinkRejected, SinkUnavailable
from tapeworks.heartbeat import beat
from tapeworks.sinks.base import SinkConfig, SinkContext
from tapeworks.sinks.kafka_client import (
    FENCED,
    OWN_PROPERTIES,
    REJECTED,
    ClientReports,
    client_error,
    client_log,
)
from tapeworks.sinks.kafka_places import read_places
from tapeworks.sinks.kafka_producers import Producers, transactional_ids
from tapeworks.sinks.kafka_topics import (
    check_topics,
    count_partitions,
    create_topics,
    partition_of,
)
from tapeworks.sinks.messages import MessageEncoders, place_text
from tapeworks.sinks.schema_registry import SchemaRegistry, frame
from tapeworks.sinks.store import Items, StorePartition, StoreSink
from tapeworks.tape import Place
from tapeworks.topics import BARS, BOOK, GAPS, NORMALIZED, RAW, TICKS

log = logging.getLogger("tapeworks.sinks.kafka")

EXACTLY_ONCE, AT_LEAST_ONCE = "exactly-once", "at-least-once"
LOW_LATENCY = "low-latency"
LINGER_MS_MAX = 0.1
BEAT_S = 0.5
# The header of what is in a partition beside the one of its key.
COPY = {"copy": "1"}


@dataclass(frozen=True)
class KafkaConfig(SinkConfig):
    """Where the brokers are, and what the topics are like."""

    STORE_KEY: ClassVar[tuple[str, ...]] = ("servers", "topic_prefix")
    flush_seconds: float = 0.25
    """What was written is final, and visible to `read_committed`, after so long at most."""
    flush_rows: int = 100_000
    """Records of one tape in a transaction."""
    flush_bytes: int = 32 << 20
    servers: str = "localhost:9092"
    """Addresses to begin with, separated by commas: `host:port,host:port`."""
    delivery: Literal["exactly-once", "at-least-once", "low-latency"] = "exactly-once"
    """`exactly-once`; `at-least-once` without transactions; or `low-latency`: at least once, and
    sent as soon as it is on the tape, durable or not."""
    topic_prefix: str = ""
    """What comes before the name of each topic."""
    offsets_topic: str = "tapeworks.offsets"
    """The compacted topic of places."""
    partitions: int = 6
    """Partitions of a topic that is made."""
    replication: int = -1
    """Copies of a topic that is made; -1: as the brokers are set."""
    retention_hours: float = 168.0
    """How long the messages of a topic that is made are kept; 0: as the brokers are set."""
    create_topics: bool = True
    """Whether a missing topic is made; else it is an error."""
    compression: Literal["none", "lz4", "zstd", "snappy", "gzip"] = "lz4"
    """How messages are packed."""
    linger_ms: float = 5.0
    """How long a message may wait for others of its partition."""
    timeout_seconds: float = 15.0
    """Brokers that do not answer for so long count as gone."""
    transaction_timeout_s: float = 60.0
    """After so long the broker gives up a transaction of a sink that died in it."""
    schema_id: int = 0
    """Id of the schema in a registry: messages have the header of Confluent's wire format. 0: no
    header, unless `schema_registry` gives one."""
    schema_registry: str = ""
    """Address of a schema registry by Confluent's API, which is asked for the id of each topic."""
    schema_register: bool = True
    """Whether the schema is registered there; else it must be."""
    schema_registry_user: str = ""
    schema_registry_password: str = field(default="", metadata={"secret": True}, repr=False)
    properties: Mapping[str, str] = field(default_factory=dict)
    """Settings of the client library by its names, such as TLS and SASL. `env:NAME` stands for the
    value of an environment variable; passwords can be given in no other way."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("partitions", "timeout_seconds", "transaction_timeout_s"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name}: expected more than 0, got {getattr(self, name)}")
        if not 0 <= self.schema_id < 2**31:
            raise ConfigError(f"schema_id: expected 0 to 2^31 - 1, got {self.schema_id}")
        if self.schema_registry:
            check_url("schema_registry", self.schema_registry, ("http", "https"))
            if self.schema_id:
                raise ConfigError("expected schema_id or schema_registry, got both")
        check_properties("properties", self.properties, OWN_PROPERTIES)

    def client(self) -> dict[str, Any]:
        """Returns the settings of any client.

        Raises:
            ConfigError: an environment variable that is named is not set.
        """
        found: dict[str, Any] = {
            "bootstrap.servers": self.servers,
            "reconnect.backoff.max.ms": 1_000,
            "socket.keepalive.enable": True,
        }
        for name, value in self.properties.items():
            if value.startswith(FROM_ENVIRONMENT):
                variable = value.removeprefix(FROM_ENVIRONMENT)
                if variable not in os.environ:
                    raise ConfigError(f"properties: {name}: {variable} is not in the environment")
                value = os.environ[variable]
            found[name] = value
        return found


class KafkaSink(StoreSink):
    """Publishes tapes to topics of the same names."""

    Config = KafkaConfig
    TOPICS: ClassVar[tuple[str, ...]] = (NORMALIZED, TICKS, BOOK, BARS, GAPS)

    def __init__(self, config: KafkaConfig, context: SinkContext) -> None:
        super().__init__(config, context)
        self._config = config
        self._producers: dict[str, Producers] = {}
        self._places: dict[str, dict[bytes, Place]] = {}
        self._fenced: dict[str, dict[bytes, Place] | None] = {}
        self.reads_published = config.delivery == LOW_LATENCY
        self._sent: dict[bytes, int | None] = {}
        self._partitions: dict[str, int] = {}
        self._reports = ClientReports()
        self._encoders: dict[str, MessageEncoders] = {}
        self._registry = SchemaRegistry(
            config.schema_registry,
            config.schema_registry_user,
            config.schema_registry_password,
            config.timeout_seconds,
            registers=config.schema_register,
        )

    # What a store does.

    def connect(self) -> None:
        """Looks at the topics, and makes those that are missing."""
        admin = AdminClient(self._client(), logger=client_log(log))
        names = {self._topic(name) for name in self.topics(self._config)}
        try:
            found = admin.list_topics(timeout=self._config.timeout_seconds).topics
            missing = (names | {self._config.offsets_topic}) - found.keys()
            if missing:
                create_topics(admin, self._config, missing)
            self._partitions = count_partitions(admin, names, self._config.timeout_seconds)
            check_topics(admin, self._config, names)
        except KafkaException as error:
            # Why it has no connection, such as a wrong password, is told by a callback alone.
            admin.poll(0)
            raise self._unavailable("cannot look at topics", error) from error
        self._encoders = {
            name: self._encoders.get(name) or self._make_encoders(name)
            for name in self.topics(self._config)
            if name != RAW
        }

    def _make_encoders(self, topic: str) -> MessageEncoders:
        if self._config.schema_registry:
            return MessageEncoders(frame(self._registry.schema_id(self._topic(topic))))
        return MessageEncoders(frame(self._config.schema_id) if self._config.schema_id else None)

    def disconnect(self) -> None:
        """Gives the producers up; a transaction that is open is aborted by their successors."""
        for producers in self._producers.values():
            producers.purge()
        self._producers.clear()
        self._places.clear()
        self._sent.clear()
        self._reports.failed.clear()

    def load_place(self, partition: StorePartition) -> Place | None:
        """Fences whoever wrote this source before; returns what was committed."""
        self._open_producers(partition.source)
        return self._places[partition.source].get(self._place_key(partition))

    def store(self, partition: StorePartition, items: Items, place: Place) -> None:
        """Publishes `items` and their place, in one transaction if that is how it is delivered."""
        producers, key = self._open_producers(partition.source), self._place_key(partition)
        producer = producers.current
        stored = self._places[partition.source].get(key)
        if stored != partition.committed:
            # Somebody else published while the connection was lost, and was just fenced.
            raise SinkError(
                f"{partition.source}: {partition.topic}: expected the offset of "
                f"{partition.committed} in {self._config.offsets_topic}, got {stored}: does "
                "another instance of this sink run?"
            )
        is_exact = self._config.delivery == EXACTLY_ONCE
        sent = self._sent.get(key)
        if sent is None:
            self._reports.failed.clear()
        # Whatever goes wrong, the next attempt sends all of it.
        self._sent[key] = None
        try:
            if is_exact:
                producer.begin_transaction()
            self._produce(producer, partition, items, sent)
            if not is_exact:
                self._flush(producer)
            producer.produce(
                self._config.offsets_topic,
                place_text(place),
                key,
                on_delivery=self._reports.on_failure,
            )
            self._flush(producer)
            if is_exact:
                producer.commit_transaction(self._config.timeout_seconds)
                producers.on_committed()
        except SinkRejected:
            if is_exact:
                self._abort(partition.source, producer)
            raise
        except (KafkaException, SystemError) as error:
            cause = client_error(error)
            self._check_fenced(partition.source, cause)
            raise self._unavailable("cannot publish", cause) from error
        self._places[partition.source][key] = place
        self._sent[key] = None if sent is None else max(sent, place.offset)
        if self.reads_published and sent is None:
            self._sent[key] = place.offset

    def send(self, partition: StorePartition) -> None:
        """Sends what was not sent, unless something failed: all of that goes with the place."""
        key = self._place_key(partition)
        sent = self._sent.get(key, -1)
        if sent is None or self._reports.failed:
            return
        producer = self._open_producers(partition.source).current
        end, items = partition.pending_from(None if sent < 0 else sent)
        self._sent[key] = None
        try:
            self._produce(producer, partition, items, None)
            producer.poll(0)
        except SinkRejected:
            # `store` finds it, and keeps it aside.
            return
        except KafkaException as error:
            raise self._unavailable("cannot publish", error) from error
        self._sent[key] = end

    # Messages.

    def _produce(
        self, producer: Producer, partition: StorePartition, items: Items, sent: int | None
    ) -> None:
        """Hands over what of `items` stands at the offset `sent` or behind."""
        for item in items:
            if isinstance(item, Blob):
                if sent is None or item.offset >= sent:
                    self._produce_blob(producer, partition, item)
            elif sent is None or item.first_offset >= sent:
                self._produce_records(producer, partition, item)
            elif item.next_offset > sent:
                rest = item.slice(sent - item.first_offset, len(item))
                self._produce_records(producer, partition, rest)

    def _produce_records(
        self, producer: Producer, partition: StorePartition, batch: Records
    ) -> None:
        topic = self._topic(partition.topic)
        encoded = self._encoders[partition.topic].encode(partition, batch)
        produce, report = producer.produce, self._reports.on_failure
        # What concerns all instruments is for whoever reads one partition, too.
        common = partition.source.encode() if partition.topic == NORMALIZED else None
        for key, message, offset in encoded.items():
            if key == common:
                self._copy(producer, offset, topic, message, key)
            try:
                produce(topic, message, key, -1, report)
            except (BufferError, KafkaException):
                # What it means is looked at there; here is the path of every message.
                self._send(producer, offset, topic, message, key)

    def _copy(
        self, producer: Producer, offset: int, topic: str, message: bytes, key: bytes
    ) -> None:
        """Puts a message into all partitions but that of its key, marked as a copy."""
        count = self._partitions.get(topic, 1)
        home = partition_of(key, count)
        for number in range(count):
            if number != home:
                self._send(producer, offset, topic, message, key, COPY, number)

    def _produce_blob(self, producer: Producer, partition: StorePartition, blob: Blob) -> None:
        headers: dict[str, str | bytes] = {
            "offset": str(blob.offset),
            "received": str(blob.ts_recv),
            "kind": BLOB_KINDS.get(blob.kind, str(blob.kind)),
            "connection": str(blob.connection),
            "context": blob.context,
        }
        topic, key = self._topic(partition.topic), partition.source.encode()
        self._send(producer, blob.offset, topic, blob.body, key, headers)

    def _send(
        self,
        producer: Producer,
        offset: int,
        topic: str,
        message: bytes,
        key: bytes,
        headers: Mapping[str, str | bytes] | None = None,
        number: int = -1,
    ) -> None:
        more: dict[str, Any] = {"partition": number}
        if headers is not None:
            more["headers"] = dict(headers)
        deadline = 0.0
        while True:
            try:
                producer.produce(topic, message, key, on_delivery=self._reports.on_failure, **more)
                return
            except BufferError:
                # Its queue is full: that of a broker that does not answer stays so.
                deadline = deadline or time.monotonic() + self._config.timeout_seconds
                if time.monotonic() > deadline:
                    raise SinkUnavailable(self._told("the queue of the client is full")) from None
                producer.poll(0.05)
            except KafkaException as error:
                if error.args[0].code() in REJECTED:
                    raise SinkRejected(error.args[0].str(), offset=offset) from error
                raise

    def _flush(self, producer: Producer) -> None:
        """Waits until all is acknowledged.

        Raises:
            SinkUnavailable: not in time, or a broker refuses for now.
            SinkRejected: a broker will never take one of the messages.
        """
        deadline = time.monotonic() + self._config.timeout_seconds
        while producer.flush(BEAT_S) > 0 and not self._reports.failed:
            beat()
            if time.monotonic() > deadline:
                raise SinkUnavailable(self._told("messages were not acknowledged in time"))
        if self._reports.failed:
            error = self._reports.failed[0]
            if error.code() in REJECTED:
                raise SinkRejected(error.str())
            raise KafkaException(error)

    # Producers.

    def _open_producers(self, source: str) -> Producers:
        if source in self._fenced:
            self._check_progress(source)
        producers = self._producers.get(source)
        if producers is None:
            is_exact = self._config.delivery == EXACTLY_ONCE
            ids = transactional_ids(self._transactional_id(source)) if is_exact else ()
            try:
                producers = Producers(self._make_producer, ids, self._config.timeout_seconds)
            except KafkaException as error:
                raise self._unavailable(f"{source}: cannot open a producer", error) from error
            # Only now: what the one before it left open is committed or aborted.
            self._places[source] = self._read_places()
            self._producers[source] = producers
        return producers

    def _check_progress(self, source: str) -> None:
        """Stays out while the instance that fenced this one gets on; else takes over from it."""
        found = self._read_places()
        now = {key: place for key, place in found.items() if f"/{source}/".encode() in key}
        before, self._fenced[source] = self._fenced[source], now
        if now != before:
            raise self._fenced_error(source)
        log.warning("%s: the other instance makes no progress: taking over", source)
        del self._fenced[source]

    def _read_places(self) -> dict[bytes, Place]:
        group = self._transactional_id("places")
        settings, timeout_s = self._client() | {"group.id": group}, self._config.timeout_seconds
        try:
            return read_places(settings, self._config.offsets_topic, timeout_s)
        except KafkaException as error:
            raise self._unavailable("cannot read places", error) from error

    def _fenced_error(self, source: str) -> SinkError:
        return SinkError(
            f"{source}: another instance of this sink publishes it with the transactional id "
            f"{self._transactional_id(source)}: stop one of the two. This one goes on once the "
            "other makes no progress"
        )

    @property
    def _linger_ms(self) -> float:
        """How long the client waits for more; of what is sent at once the worker waits already."""
        linger_ms = self._config.linger_ms
        return min(linger_ms, LINGER_MS_MAX) if self.reads_published else linger_ms

    def _make_producer(self, more: Mapping[str, Any]) -> Producer:
        wait_s = self._config.transaction_timeout_s
        settings = self._client() | {
            "enable.idempotence": True,
            "compression.type": self._config.compression,
            "linger.ms": self._linger_ms,
            "batch.size": 1 << 20,
            # As Java's clients do, so that a key is in the same partition whoever writes it.
            "partitioner": "murmur2_random",
            "delivery.report.only.error": True,
            "queue.buffering.max.messages": max(100_000, 2 * self._config.flush_rows),
            "queue.buffering.max.kbytes": 1 << 18,
            "message.timeout.ms": int(min(self._config.timeout_seconds, wait_s) * 1000),
        }
        if more:
            settings["transaction.timeout.ms"] = int(wait_s * 1000)
        return Producer(settings | dict(more), logger=client_log(log))

    def _transactional_id(self, source: str) -> str:
        return f"{self._config.topic_prefix}tapeworks.{self.context.name}.{source}"

    def _abort(self, source: str, producer: Producer) -> None:
        self._reports.failed.clear()
        try:
            producer.abort_transaction(self._config.timeout_seconds)
        except (KafkaException, SystemError) as error:
            self._check_fenced(source, client_error(error))
            self.drop_connection()

    def _check_fenced(self, source: str, error: KafkaException) -> None:
        if error.args[0].code() in FENCED:
            self._fenced[source] = None
            self._producers.pop(source, None)
            raise self._fenced_error(source) from error

    # Topics and places.

    def _topic(self, name: str) -> str:
        return self._config.topic_prefix + name

    def _place_key(self, partition: StorePartition) -> bytes:
        name = self._config.topic_prefix + self.context.name
        return f"{name}/{partition.source}/{partition.topic}".encode()

    # Errors.

    def _client(self) -> dict[str, Any]:
        return self._config.client() | {"error_cb": self._reports.on_error}

    def _told(self, problem: str) -> str:
        told = f"Kafka at {self._config.servers}: {problem}"
        return f"{told} ({self._reports.problem})" if self._reports.problem else told

    def _unavailable(self, doing: str, error: KafkaException) -> SinkUnavailable:
        told = self._told(f"{doing}: {error.args[0].str()}")
        self._reports.problem = ""
        return SinkUnavailable(told, retry_after_ms=500)


BLOB_KINDS = {number: name for name, number in numbers("blob_kind").items()}
