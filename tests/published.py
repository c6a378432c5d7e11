"""Stores of messages as tests see them: what is in a topic of Kafka, or in a stream of Redis.

Read by clients of their own, never through the sinks.
"""

import numpy as np
import redis
from confluent_kafka import Consumer, TopicPartition

from tapeworks._core import decode_messages, dtype_descr


def topic_messages(port: int, topic: str) -> list[tuple[bytes, bytes]]:
    """Returns key and value of all committed messages, in the order of each partition."""
    settings = {"bootstrap.servers": f"127.0.0.1:{port}", "group.id": "reader"}
    settings |= {"isolation.level": "read_committed", "enable.partition.eof": "true"}
    consumer = Consumer(settings)
    try:
        known = consumer.list_topics(timeout=10).topics
        if topic not in known:
            return []
        partitions = list(known[topic].partitions)
        consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        found, ended = [], set()
        while len(ended) < len(partitions):
            for message in consumer.consume(10_000, 0.1):
                if message.error():
                    ended.add(message.partition())
                else:
                    found.append((message.key(), message.value()))
        return found
    finally:
        consumer.close()


def stream_messages(url: str, stream: str) -> list[tuple[bytes, bytes]]:
    """Returns id and message of all entries."""
    with redis.from_url(url) as client:
        return [(entry, fields[b"m"]) for entry, fields in client.xrange(stream)]


def trade_ids(messages: list[bytes]) -> list[int]:
    """Returns the ids of the trades among messages, in their order."""
    records, _, rejected = decode_messages(messages)
    assert not rejected
    rows = np.frombuffer(records.numpy("trade"), dtype=np.dtype(dtype_descr("trade")))
    return [int(one) for one in rows["trade_id"]]


def in_tape_order(messages: list[bytes]) -> list[bytes]:
    """Returns messages of several partitions in the order of their tape."""
    _, origins, _ = decode_messages(messages)
    order = sorted(range(len(messages)), key=lambda at: origins[at][1])
    return [messages[at] for at in order]
