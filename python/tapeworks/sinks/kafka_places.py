"""The places of tapes in a compacted topic of Kafka, read to its end as of now."""

import logging
import time
from collections.abc import Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from tapeworks.errors import SinkUnavailable
from tapeworks.heartbeat import beat
from tapeworks.sinks.kafka_client import client_log
from tapeworks.sinks.messages import read_place
from tapeworks.tape import Place

log = logging.getLogger("tapeworks.sinks.kafka")

NO_LEADER_YET = frozenset({KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE})


def read_places(client: Mapping[str, Any], topic: str, timeout_s: float) -> dict[bytes, Place]:
    """Returns the last committed place of each key.

    An open transaction of another source holds `read_committed` back, so where the end is, is
    asked without it; what is committed before that end is waited for.

    Raises:
        SinkUnavailable: an open transaction does not end in time.
        KafkaException: a broker refuses, or does not answer.
    """
    settings = dict(client) | {
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "earliest",
    }
    raw = Consumer(settings | {"isolation.level": "read_uncommitted"}, logger=client_log(log))
    try:
        ends = {}
        for number in raw.list_topics(topic, timeout=timeout_s).topics[topic].partitions:
            if (end := _end_of(raw, TopicPartition(topic, number), timeout_s)) > 0:
                ends[number] = end
    finally:
        raw.close()
    if not ends:
        return {}
    reader = Consumer(settings | {"isolation.level": "read_committed"}, logger=client_log(log))
    try:
        reader.assign([TopicPartition(topic, number, 0) for number in ends])
        return _read_until(reader, topic, ends, timeout_s)
    finally:
        reader.close()


def _read_until(
    reader: Consumer, topic: str, ends: Mapping[int, int], timeout_s: float
) -> dict[bytes, Place]:
    found: dict[bytes, Place] = {}
    left = dict(ends)
    deadline = time.monotonic() + timeout_s
    while left:
        if time.monotonic() > deadline:
            raise SinkUnavailable(f"{topic}: a transaction is open, its end cannot be read yet")
        beat()
        for message in reader.consume(1_000, timeout=0.05):
            error, key = message.error(), message.key()
            if error is None:
                place = read_place(message.value())
                if key is not None and place is not None:
                    found[key] = place
            elif error.code() != KafkaError._PARTITION_EOF:
                raise KafkaException(error)
            elif (message.offset() or 0) >= left.get(message.partition() or 0, 0):
                left.pop(message.partition() or 0, None)
    return found


def _end_of(consumer: Consumer, at: TopicPartition, timeout_s: float) -> int:
    """Returns the offset behind the last message of a partition; 0 if it has none.

    A topic that was just made may have no leader for a moment.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            low, high = consumer.get_watermark_offsets(at, timeout=timeout_s)
        except KafkaException as error:
            is_passing = error.args[0].retriable() or error.args[0].code() in NO_LEADER_YET
            if not is_passing or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return high if low < high else 0
