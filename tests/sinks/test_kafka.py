"""Kafka with a real broker: what the suite of sinks and the campaign of stores do not ask."""

import contextlib
import subprocess
import sys
import time

import pytest
from confluent_kafka import Consumer
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
)
from tests.test_layout import ROOT

from published import topic_messages, trades
from tapeworks import _core
from tapeworks.errors import ConfigError, SinkError
from tapeworks.sinks.base import SinkContext
from tapeworks.sinks.feeder import Feeder
from tapeworks.sinks.kafka import AT_LEAST_ONCE, KafkaConfig, KafkaSink
from tapeworks.sinks.kafka_places import read_places
from tapeworks.sinks.kafka_producers import TURNS
from tapeworks.tape import Place
from tapeworks.topics import NORMALIZED, RAW

CONSUMER = "org.apache.kafka.tools.consumer.ConsoleConsumer"
DECODE = ["-m", "grpc_tools.protoc", "--proto_path=proto", "--decode=tapeworks.v1.MarketData"]


@pytest.fixture
def broker(server):
    return server("kafka")


def feeder_of(spine, broker, prefix, topic=NORMALIZED, **settings):
    config = KafkaConfig(
        servers=f"127.0.0.1:{broker.port}", topic_prefix=prefix, topics=(topic,), **settings
    )
    sink = KafkaSink(config, SinkContext("kafka", spine.path))
    return Feeder(sink.partition(spine.source, topic), spine.tape(topic), config.policy)


def decoded(message: bytes) -> bytes:
    """Returns a message as `protoc --decode` prints it."""
    line = [sys.executable, *DECODE, "tapeworks/v1/market_data.proto"]
    return subprocess.run(line, input=message, cwd=ROOT, capture_output=True, check=True).stdout


@pytest.mark.slow
def test_the_console_consumer_and_protoc_read_what_is_published(spine, maker, broker):
    # Java's own client prints the first message of the topic; protoc, which knows the schema alone,
    # reads it. At least once has the same messages.
    spine.append(maker.definitions())
    spine.append(maker.trades(50))
    for prefix, delivery in (("java.", "exactly-once"), ("least.", AT_LEAST_ONCE)):
        feeder = feeder_of(spine, broker, prefix, delivery=delivery, kinds=("trade",))
        assert feeder.drain(30)
        feeder.close()
        stored = [message for _, message in topic_messages(broker.port, prefix + NORMALIZED)]
        assert sorted(trades(stored)) == [(3 + at, at) for at in range(50)]
    words = ["--bootstrap-server", f"127.0.0.1:{broker.port}", "--topic", f"java.{NORMALIZED}"]
    words += ["--from-beginning", "--max-messages", "1", "--timeout-ms", "30000"]
    words += ["--command-property", "isolation.level=read_committed"]
    done = subprocess.run(broker.java(CONSUMER, *words), capture_output=True, timeout=90)
    assert done.returncode == 0, done.stderr[-2_000:]
    told = decoded(done.stdout.removesuffix(b"\n")).decode()
    for line in ('source: "binance-spot"', "kind: KIND_TRADE", 'exchange: "binance-spot"'):
        assert line in told
    assert "last_price: " in told


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["compact", "compact,delete"])
def test_a_topic_that_is_compacted_is_refused(spine, maker, broker, policy):
    # Of an instrument the last message alone would be left. Made anew, or set right, it is taken.
    admin = AdminClient({"bootstrap.servers": f"127.0.0.1:{broker.port}"})
    name = f"{policy.replace(',', '-')}.{NORMALIZED}"
    made = NewTopic(name, 1, 1, config={"cleanup.policy": policy})
    admin.create_topics([made])[name].result(30)
    spine.append(maker.definitions())
    feeder = feeder_of(spine, broker, name.removesuffix(NORMALIZED))
    with pytest.raises(SinkError, match=f"{name}: expected cleanup.policy delete, got {policy}:"):
        feeder.drain(30)
    assert topic_messages(broker.port, name) == []
    change = ConfigEntry("cleanup.policy", "delete", incremental_operation=AlterConfigOpType.SET)
    topic = ConfigResource(ConfigResource.Type.TOPIC, name, incremental_configs=[change])
    admin.incremental_alter_configs([topic])[topic].result(30)
    assert feeder.drain(30)
    feeder.close()
    assert len(topic_messages(broker.port, name)) == 3


@pytest.mark.slow
def test_topics_that_are_made_say_themselves_that_nothing_is_compacted(spine, maker, broker):
    # Whatever holds for topics of these brokers that say nothing.
    spine.append(maker.definitions())
    feeder = feeder_of(spine, broker, "made.")
    assert feeder.drain(30)
    feeder.close()
    admin = AdminClient({"bootstrap.servers": f"127.0.0.1:{broker.port}"})
    topic = ConfigResource(ConfigResource.Type.TOPIC, f"made.{NORMALIZED}")
    [told] = admin.describe_configs([topic]).values()
    policy = told.result(30)["cleanup.policy"]
    assert (policy.value, policy.is_default) == ("delete", False)


@pytest.mark.slow
def test_second_instance_fences_the_first_until_it_stands_still(spine, maker, broker, tmp_path):
    # Another machine with the same tapes begins. The first one is refused with an error that says
    # why, while the other gets on, and takes over when it does not; all is published once.
    spine.append(maker.definitions())
    spine.append(maker.trades(50))
    first = feeder_of(spine, broker, "fence.")
    assert first.drain(30)
    twin = type(spine)(tmp_path / "twin")
    twin.path.mkdir()
    (twin.path / "tape").symlink_to(spine.path / "tape")
    second = feeder_of(twin, broker, "fence.")
    assert second.drain(30)
    for number in (50, 100):
        spine.append(maker.trades(50, number))
        with pytest.raises(SinkError, match="another instance of this sink publishes it"):
            first.drain(30)
        assert second.drain(30)
    first.close()
    with pytest.raises(SinkError, match="another instance of this sink publishes it"):
        first.drain(30)
    spine.append(maker.trades(50, 150))
    assert first.drain(30)
    with pytest.raises(SinkError, match="another instance of this sink publishes it"):
        second.drain(30)
    second.close()
    first.close()
    stored = [message for _, message in topic_messages(broker.port, f"fence.{NORMALIZED}")]
    assert sorted(trades(stored)) == [(3 + at, at) for at in range(200)]


@pytest.mark.slow
def test_who_opens_a_source_fences_all_of_its_ids(spine, maker, broker, tmp_path):
    # Whichever of its transactional ids is next: an instance commits nothing more once another one
    # has read the places. All trades are published once.
    spine.append(maker.definitions())
    count = 0
    for turn in range(TURNS):
        first = feeder_of(spine, broker, f"turn{turn}.")
        for _ in range(turn):
            spine.append(maker.trades(10, count))
            count += 10
            assert first.drain(30)
        while first.stored is None:
            first.step()
        spine.append(maker.trades(10, count))
        count += 10
        twin = type(spine)(tmp_path / str(turn))
        twin.path.mkdir()
        (twin.path / "tape").symlink_to(spine.path / "tape")
        second = feeder_of(twin, broker, f"turn{turn}.")
        while second.stored is None:
            second.step()
        with pytest.raises(SinkError, match="another instance of this sink publishes it"):
            first.drain(30)
        assert second.drain(30)
        stored = [message for _, message in topic_messages(broker.port, f"turn{turn}.{NORMALIZED}")]
        assert sorted(trades(stored)) == [(3 + at, at) for at in range(count)]
        first.close()
        second.close()


@pytest.mark.slow
def test_low_latency_sends_what_is_not_durable_and_notes_only_what_is(spine, maker, broker):
    # A tape that nobody makes durable: its records are in the topic, each once, before there is a
    # place. Then a part becomes durable, and the place is there. A sink that starts anew sends what
    # comes behind that again, and no more.
    spine.append(maker.definitions())
    writer = spine.writer()
    feeder = feeder_of(spine, broker, "fast.", delivery="low-latency", flush_seconds=0.01)
    settings = KafkaConfig(servers=f"127.0.0.1:{broker.port}", topic_prefix="fast.").client()

    def seen():
        stored = [message for _, message in topic_messages(broker.port, f"fast.{NORMALIZED}")]
        return [trade for _, trade in sorted(trades(stored))]

    def place():
        found = read_places(settings | {"group.id": "places"}, "tapeworks.offsets", 10)
        return found.get(f"fast.kafka/binance-spot/{NORMALIZED}".encode())

    def step_until(count, offset):
        deadline = time.monotonic() + 30
        while len(seen()) < count or (place() or Place()).offset < offset:
            assert time.monotonic() < deadline, (len(seen()), place())
            for _ in range(20):
                feeder.step()
                feeder.wait(1)

    writer.append(maker.trades(30).tobytes())
    step_until(30, 3)
    assert place().offset == 3
    writer.append(maker.trades(20, 30).tobytes())
    writer.sync()
    step_until(50, 53)
    writer.append(maker.trades(10, 50).tobytes())
    step_until(60, 53)
    assert seen() == list(range(60))
    # What was sent and is not durable is sent again after a stop without a flush.
    feeder.close()
    feeder = feeder_of(spine, broker, "fast.", delivery="low-latency", flush_seconds=0.01)
    writer.sync()
    assert feeder.drain(30)
    feeder.close()
    assert seen() == sorted([*range(60), *range(50, 60)])
    assert place().offset == 63


@pytest.mark.slow
def test_raw_frames_are_published_but_for_one_that_is_too_large(spine, broker):
    # The venue's bytes with their context as headers. One of two megabytes is more than the client
    # takes: it is kept aside, and what stands around it is published.
    folder = spine.tape(RAW)
    folder.mkdir(parents=True)
    bodies = [b"first", b"x" * (2 << 20), b"last"]
    with _core.TapeWriter(folder, kind="blobs") as writer:
        for number, body in enumerate(bodies):
            writer.append_blob(1, body, ts=1_780_000_000_000_000_000 + number)
        writer.sync()
    feeder = feeder_of(spine, broker, "raw.", RAW)
    assert feeder.drain(30)
    assert "1 record rejected" in feeder.partition.troubles[0]
    feeder.close()
    settings = {"bootstrap.servers": f"127.0.0.1:{broker.port}", "group.id": "raw"}
    consumer = Consumer(settings | {"auto.offset.reset": "earliest"})
    consumer.subscribe([f"raw.{RAW}"])
    found = []
    while len(found) < 2:
        found += [one for one in consumer.consume(10, 1.0) if not one.error()]
    consumer.close()
    assert [(one.key(), one.value()) for one in found] == [
        (b"binance-spot", b"first"),
        (b"binance-spot", b"last"),
    ]
    assert [dict(one.headers())["offset"] for one in found] == [b"0", b"2"]


def test_a_password_comes_from_the_environment_alone(monkeypatch):
    # In the file it is refused; `env:NAME` stands for the variable, and says which one is missing.
    with pytest.raises(ConfigError, match=r"sasl\.password is a secret: expected env:NAME"):
        KafkaConfig(properties={"sasl.password": "hunter2"})
    config = KafkaConfig(properties={"sasl.password": "env:BROKER_PASSWORD"})
    with pytest.raises(ConfigError, match="BROKER_PASSWORD is not in the environment"):
        config.client()
    monkeypatch.setenv("BROKER_PASSWORD", "hunter2")
    assert config.client()["sasl.password"] == "hunter2"
    assert "hunter2" not in repr(config)
    with pytest.raises(ConfigError, match="acks is set by Tapeworks itself"):
        KafkaConfig(properties={"acks": "1"})


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        *[(name, True) for name in ("sasl.password", "ssl.key.pem", "ssl_key", "ssl.key.password")],
        *[(name, True) for name in ("ssl.keystore.password", "sasl.oauthbearer.config")],
        ("sasl.oauthbearer.client.secret", True),
        ("sasl.oauthbearer.client.credentials.client.secret", True),
        ("sasl.oauthbearer.assertion.private.key.passphrase", True),
        ("sasl.oauthbearer.assertion.private.key.pem", True),
        ("sasl.oauthbearer.assertion.private.key.file", False),
        ("sasl.oauthbearer.client.credentials.client.id", False),
        ("sasl.oauthbearer.token.endpoint.url", False),
        *[(name, False) for name in ("ssl.key.location", "ssl.certificate.pem", "sasl.username")],
        *[
            (name, False)
            for name in ("ssl.keystore.location", "ssl.ca.pem", "message.copy.max.bytes")
        ],
        *[(name, False) for name in ("ssl.keystore.type", "ssl.keymanager.algorithm")],
    ],
)
def test_what_is_secret_is_told_by_its_name(name, secret):
    # Settings of librdkafka, also those that a later version of it may add.
    told = pytest.raises(ConfigError, match="is a secret") if secret else contextlib.nullcontext()
    with told:
        KafkaConfig(properties={name: "geheim"})
    assert "geheim" not in str(getattr(told, "excinfo", ""))
    KafkaConfig(properties={name: "env:GEHEIM"})
