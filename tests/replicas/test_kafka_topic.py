"""A reader of a topic against a real broker: what becomes of it while the topic changes."""

import logging
import time

import numpy as np
import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tapeworks import _core
from tapeworks._core import Records
from tapeworks.errors import ConfigError, TapeReplacedError
from tapeworks.replicas.base import Outage, ReplicaContext, parse_address
from tapeworks.replicas.kafka import KafkaTopicReader
from tapeworks.sinks.base import SinkContext
from tapeworks.sinks.feeder import Feeder
from tapeworks.sinks.kafka import KafkaConfig, KafkaSink, partition_of
from tapeworks.tape import TapeConfig, TapeReader
from tapeworks.topics import NORMALIZED

SECONDS_MAX = 40.0
LOCAL = "binance-spot-p0"


class Rig:
    """A tape, the sink that publishes it into one partition, and a reader of that."""

    def __init__(self, spine, broker, folder, prefix):
        self.spine, self.folder, self.topic = spine, folder, prefix + NORMALIZED
        self.servers = f"127.0.0.1:{broker.port}"
        self.admin = AdminClient({"bootstrap.servers": self.servers})
        self._settings = {"servers": self.servers, "topic_prefix": prefix, "partitions": 1}
        self.reader = None

    def publish(self, name="kafka"):
        """Publishes the tape, by a sink of that name: a new one publishes all of it."""
        config = KafkaConfig(topics=(NORMALIZED,), **self._settings)
        sink = KafkaSink(config, SinkContext(name, self.spine.path))
        partition = sink.partition(self.spine.source, NORMALIZED)
        feeder = Feeder(partition, self.spine.tape(NORMALIZED), config.policy)
        assert feeder.drain(30)
        feeder.close()

    def open(self):
        text = f"kafka://{self.servers}/{self.topic}?topic.metadata.refresh.interval.ms=500"
        context = ReplicaContext(self.folder, TapeConfig(), lambda sources: None)
        self.reader = KafkaTopicReader(parse_address(text, ("kafka",)), context)

    def read_until(self, holds):
        deadline = time.monotonic() + SECONDS_MAX
        while not holds():
            assert time.monotonic() < deadline, self.reader.troubles
            self.reader.poll(0.05)
        self.reader.checkpoint()

    def content(self):
        """Returns all records of the local tape."""
        tape = self.folder / "tape" / LOCAL / NORMALIZED
        if not any(tape.glob("*.seg*")):
            return b""
        reader, found = TapeReader(tape), []
        while (batch := reader.read()) is not None:
            found.append(bytes(batch))
        return b"".join(found)

    def has_trades(self, count):
        return len(trade_ids(self.content())) >= count


def trade_ids(content):
    rows = np.frombuffer(Records.from_bytes(content).numpy("trade"), _core.dtype_descr("trade"))
    return rows["trade_id"].tolist()


@pytest.fixture
def rig(spine, server, tmp_path):
    broker, rigs = server("kafka"), []

    def make(prefix):
        rigs.append(Rig(spine, broker, tmp_path / "reader", prefix))
        return rigs[-1]

    yield make
    for one in rigs:
        if one.reader is not None:
            one.reader.close()


@pytest.mark.slow
def test_a_topic_that_comes_late_is_cut_and_is_made_again(spine, maker, rig, caplog):
    # The reader is there first, and waits. Then records are deleted before it is back: a gap, and
    # the rest is read. A stranger's message is passed over. At last the topic is deleted and made
    # again: the reader refuses it, and what it has stays.
    one = rig("late.")
    one.open()
    one.read_until(lambda: "late.market-data.normalized" in " ".join(one.reader.troubles))
    spine.append(maker.definitions())
    spine.append(maker.trades(50))
    one.publish()
    one.read_until(lambda: one.has_trades(50))
    one.reader.close()
    whole = one.content()
    spine.append(maker.trades(50, 50))
    spine.append(maker.trades(50, 100))
    one.publish()
    kept = TopicPartition(one.topic, 0, 120)
    [deleted] = one.admin.delete_records([kept]).values()
    deleted.result(20)
    one.open()
    one.read_until(lambda: one.has_trades(83))
    stranger = Producer({"bootstrap.servers": one.servers})
    stranger.produce(one.topic, b"what is this", partition=0)
    assert stranger.flush(20) == 0
    one.read_until(lambda: one.reader.status()["0"]["unreadable"] == 1)
    content = one.content()
    assert content.startswith(whole)
    ids, lost = trade_ids(content), set(range(150)) - set(trade_ids(content))
    assert ids == sorted(ids)
    assert lost == set(range(min(lost), max(lost) + 1))
    gaps = Records.from_bytes(content).select([_core.kind_of("marker")], layout="gap")
    [gap] = np.frombuffer(gaps, _core.dtype_descr("marker"))
    assert gap["cause"] == _core.numbers("gap_cause")["retention"]
    assert gap["last"] == 119
    [gone] = one.admin.delete_topics([one.topic]).values()
    gone.result(20)
    deadline = time.monotonic() + SECONDS_MAX
    while one.topic in one.admin.list_topics(timeout=10).topics:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    [made] = one.admin.create_topics([NewTopic(one.topic, 1, 1)]).values()
    made.result(20)
    with pytest.raises(TapeReplacedError, match="made again"):
        one.read_until(lambda: False)
    assert one.content() == content


def test_keys_are_placed_as_the_client_library_does():
    # The values are those of Java's `Utils.murmur2`, which its own tests state.
    known = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536}
    known |= {b"a-little-bit-longer-string": -1486304829, b"abc": 479470107}
    for key, value in known.items():
        assert partition_of(key, 1 << 30) == (value & 0x7FFFFFFF) % (1 << 30)


def test_an_address_says_what_is_wrong_with_it():
    schemes = ("kafka",)
    for text, told in (
        ("localhost:9092/market-data.normalized", "expected kafka://HOST:PORT/TOPIC"),
        ("kafka://localhost:9092/market-data.ticks", "expected a topic market-data.normalized"),
        ("kafka://u:secret@h:9092/market-data.normalized", "a password does not stand there"),
        ("kafka://h:9092/market-data.normalized?group", "expected such as"),
    ):
        with pytest.raises(ConfigError, match=told) as found:
            parse_address(text, schemes)
        assert "secret" not in str(found.value)
    context = ReplicaContext(None, TapeConfig(), lambda sources: None)
    base = "kafka://127.0.0.1:1/market-data.normalized?"
    for query, told in (
        ("auto.offset.reset=latest", "is set by the reader itself"),
        ("speed=1", "speed is no setting"),
        ("sasl.password=hunter2", "is a secret: expected env:NAME"),
        ("no.such.setting=1", "no.such.setting"),
    ):
        with pytest.raises(ConfigError, match=told):
            KafkaTopicReader(parse_address(base + query, schemes), context)


def test_an_outage_is_told_as_it_begins_while_it_lasts_and_when_it_is_over(caplog, monkeypatch):
    caplog.set_level("INFO")
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    outage = Outage(logging.getLogger("tapeworks.test"), "Kafka at h:1")
    for moment, problem in ((100, "refused"), (101, "all are down"), (159, "refused")):
        now[0] = moment
        outage.note(problem)
    assert [one.getMessage() for one in caplog.records] == [
        "Kafka at h:1: refused: it is tried again"
    ]
    now[0] = 161
    outage.note("timed out")
    assert outage.problem == "timed out"
    outage.end()
    outage.end()
    told = [one.getMessage() for one in caplog.records[1:]]
    assert told == ["Kafka at h:1: timed out: it is tried again", "Kafka at h:1: answers again"]
    assert outage.problem == ""


@pytest.mark.slow
def test_brokers_that_are_down_are_told_once(tmp_path, caplog):
    # The client tries some twenty times a second, and says so each time.
    caplog.set_level("INFO")
    context = ReplicaContext(tmp_path, TapeConfig(), lambda sources: None)
    address = parse_address("kafka://127.0.0.1:1/market-data.normalized", ("kafka",))
    reader = KafkaTopicReader(address, context)
    end = time.monotonic() + 3
    while time.monotonic() < end:
        reader.poll(0.1)
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith("Kafka at 127.0.0.1:1: ")
    assert "refused" in line
    assert any("refused" in trouble for trouble in reader.troubles)
    reader.close()
