"""The topics of the Kafka sink: made where they are missing, and which partition a key is in."""

import logging
import time
from typing import Protocol

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.cimpl import NewTopic

from tapeworks.errors import SinkError

log = logging.getLogger("tapeworks.sinks.kafka")

MURMUR, MASK = 0x5BD1E995, 0xFFFFFFFF


class HasTopics(Protocol):
    """The part of the settings that topics follow from."""

    @property
    def offsets_topic(self) -> str: ...

    @property
    def create_topics(self) -> bool: ...

    @property
    def partitions(self) -> int: ...

    @property
    def replication(self) -> int: ...

    @property
    def retention_hours(self) -> float: ...

    @property
    def timeout_seconds(self) -> float: ...


def create_topics(admin: AdminClient, config: HasTopics, names: set[str]) -> None:
    """Makes the topics `names`, as the settings say.

    Raises:
        SinkError: the settings say that none is made.
        KafkaException: a broker refuses, or does not answer.
    """
    if not config.create_topics:
        raise SinkError(f"expected the topics {', '.join(sorted(names))}, got none")
    wanted = []
    for name in sorted(names):
        if name == config.offsets_topic:
            # A restart reads all of it: one partition, and segments that compaction reaches.
            kept = {"cleanup.policy": "compact", "segment.ms": "3600000"}
            partitions = 1
        else:
            # Whatever the brokers do with topics that do not say it.
            kept, hours = {"cleanup.policy": "delete"}, config.retention_hours
            if hours > 0:
                kept["retention.ms"] = str(int(hours * 3_600_000))
            partitions = config.partitions
        wanted.append(NewTopic(name, partitions, config.replication, config=kept))
    made = admin.create_topics(wanted, request_timeout=config.timeout_seconds)
    for name, done in made.items():
        try:
            done.result(config.timeout_seconds)
            log.info("made topic %s", name)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise


def check_topics(admin: AdminClient, config: HasTopics, names: set[str]) -> None:
    """Checks that no message of the topics `names` is taken by compaction, and no place by age.

    Raises:
        SinkError: some would be.
        KafkaException: a broker refuses, or does not answer.
    """
    places = config.offsets_topic
    policies = _cleanup_policies(admin, names | {places}, config.timeout_seconds)
    for name in sorted(names - {places}):
        policy = policies[name]
        if policy is None:
            log.warning(
                "%s: cannot see whether it is compacted: allow DescribeConfigs of this topic", name
            )
        elif "compact" in policy:
            raise SinkError(
                f"{name}: expected cleanup.policy delete, got {policy}: of each instrument only "
                f"the last messages would be left; set it by kafka-configs"
            )
    if (policy := policies[places]) != "compact":
        raise SinkError(
            f"{places}: expected cleanup.policy compact, got {policy or 'no right to see it'}: "
            f"places would be deleted with age, and all be published again; set it by "
            f"kafka-configs"
        )


def _cleanup_policies(
    admin: AdminClient, names: set[str], timeout_s: float
) -> dict[str, str | None]:
    """Returns what each topic says of compaction; none: the client may not see it."""
    found: dict[str, str | None] = {}
    deadline = time.monotonic() + timeout_s
    while left := sorted(names - found.keys()):
        resources = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in left]
        asked = admin.describe_configs(resources, request_timeout=timeout_s)
        for resource, answer in asked.items():
            try:
                found[resource.name] = str(answer.result(timeout_s)["cleanup.policy"].value)
            except KafkaException as error:
                code = error.args[0].code()
                if code == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                    found[resource.name] = None
                # A topic that was just made is not known to every broker for a moment.
                elif code != KafkaError.UNKNOWN_TOPIC_OR_PART or time.monotonic() > deadline:
                    raise
        if found.keys() != names:
            time.sleep(0.05)
    return found


def count_partitions(admin: AdminClient, names: set[str], timeout_s: float) -> dict[str, int]:
    """Returns how many partitions each topic has; of one that was just made, waits for its leaders.

    Raises:
        KafkaException: a broker does not answer, or a topic is not there in time.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        topics = admin.list_topics(timeout=timeout_s).topics
        found = {name: len(topics[name].partitions) for name in names & topics.keys()}
        if found.keys() == names and all(found.values()):
            return found
        if time.monotonic() > deadline:
            missing = sorted(name for name in names if not found.get(name))
            told = f"the topics {', '.join(missing)} are not there in time"
            raise KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART, told))
        time.sleep(0.05)


def partition_of(key: bytes, count: int) -> int:
    """Returns the partition of a key, as Java's clients and `murmur2_random` choose it."""
    value, at = 0x9747B28C ^ len(key), 0
    while at + 4 <= len(key):
        word = int.from_bytes(key[at : at + 4], "little") * MURMUR & MASK
        value = (value * MURMUR & MASK) ^ ((word ^ word >> 24) * MURMUR & MASK)
        at += 4
    if rest := key[at:]:
        value = (value ^ int.from_bytes(rest, "little")) * MURMUR & MASK
    value = (value ^ value >> 13) * MURMUR & MASK
    return ((value ^ value >> 15) & 0x7FFFFFFF) % count
