"""Stores of messages as tests see them: what is in a topic of Kafka, or in a stream of Redis.

Read by clients of their own, never through the sinks.
"""

import numpy as np
import redis
from confluent_kafka import Consumer, TopicPartition

from tapeworks._core import Records, decode_messages, dtype_descr, kind_of

TRADE = kind_of("trade")
PAGE = 10_000


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
    found: list[tuple[bytes, bytes]] = []
    with redis.from_url(url) as client:
        first = "-"
        while part := client.xrange(stream, min=first, count=PAGE):
            found += [(entry, fields[b"m"]) for entry, fields in part]
            first = "(" + part[-1][0].decode()
        return found


def trades(messages: list[bytes]) -> list[tuple[int, int]]:
    """Returns tape offset and id of the trades among messages, in their order."""
    records, origins, rejected = decode_messages(messages)
    assert not rejected
    kinds = _kinds(records)
    rows = np.frombuffer(records.numpy("trade"), dtype=np.dtype(dtype_descr("trade")))
    places = [offset for (_, offset), kind in zip(origins, kinds, strict=True) if kind == TRADE]
    return list(zip(places, rows["trade_id"].tolist(), strict=True))


def _kinds(records: Records) -> list[int]:
    """Returns the kind of each record: its second byte, behind its length in words."""
    view, at, found = memoryview(records), 0, []
    while at < len(view):
        found.append(view[at + 1])
        at += view[at] * 8
    return found
