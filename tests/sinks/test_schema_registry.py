"""A schema registry: a real one, and what it may answer."""

import json
import urllib.request

import pytest
from grpc_tools import protoc
from tests.test_layout import ROOT

from published import topic_messages, trades
from tapeworks.errors import ConfigError, SinkError, SinkUnavailable
from tapeworks.sinks.base import SinkContext
from tapeworks.sinks.feeder import Feeder
from tapeworks.sinks.kafka import KafkaConfig, KafkaSink
from tapeworks.sinks.schema_registry import SchemaRegistry, schema
from tapeworks.topics import NORMALIZED

OTHER = 'syntax = "proto3"; message Else { string name = 1; }'


def asked(url, path, body=None):
    """Asks a registry as any client of Confluent's API does."""
    content = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/vnd.schemaregistry.v1+json"}
    request = urllib.request.Request(url + path, content, headers)
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.loads(answer.read())


def test_the_schema_that_is_registered_is_the_released_one():
    # The package holds what `proto/` does, and it compiles by itself.
    assert schema() == (ROOT / "proto/tapeworks/v1/market_data.proto").read_text()
    folder = ROOT / "python/tapeworks/sinks"
    words = ["protoc", f"-I{folder}", "--descriptor_set_out=/dev/null", "market_data.proto"]
    assert protoc.main(words) == 0


def test_settings_of_a_registry(monkeypatch):
    # One id for all topics, or a registry; an address, and no password in the file.
    with pytest.raises(ConfigError, match="expected schema_id or schema_registry, got both"):
        KafkaConfig(schema_id=3, schema_registry="http://localhost:8081")
    with pytest.raises(ConfigError, match="schema_registry: expected http://host:port"):
        KafkaConfig(schema_registry="localhost:8081")
    assert "hunter2" not in repr(KafkaConfig(schema_registry_password="hunter2"))


def test_a_registry_that_does_not_answer_is_waited_for():
    registry = SchemaRegistry("http://127.0.0.1:1", "", "", 1.0)
    with pytest.raises(SinkUnavailable, match=r"127\.0\.0\.1:1: ticks-value: .*refused"):
        registry.schema_id("ticks")


@pytest.mark.slow
def test_messages_are_framed_by_the_id_that_a_registry_gives(spine, maker, server):
    # A topic whose schema is registered by the sink: the id stands before each message, and the
    # registry gives it to any client. A subject that holds another schema refuses this one, and
    # where nothing is to be registered, nothing is.
    url, broker = server("registry").url(), server("kafka")
    spine.append(maker.definitions())
    spine.append(maker.trades(20))

    def publish(prefix, **more):
        config = KafkaConfig(
            servers=f"127.0.0.1:{broker.port}",
            topic_prefix=prefix,
            topics=(NORMALIZED,),
            schema_registry=url,
            kinds=("trade",),
            **more,
        )
        sink = KafkaSink(config, SinkContext("kafka", spine.path))
        partition = sink.partition(spine.source, NORMALIZED)
        feeder = Feeder(partition, spine.tape(NORMALIZED), config.policy)
        try:
            return feeder.drain(30)
        finally:
            feeder.close()

    with pytest.raises(SinkError, match="set schema_register = true"):
        publish("framed.", schema_register=False)
    assert publish("framed.")
    known = asked(url, f"/subjects/framed.{NORMALIZED}-value/versions/latest")
    assert known["schemaType"] == "PROTOBUF"
    assert "message MarketData" in asked(url, f"/schemas/ids/{known['id']}")["schema"]
    stored = [message for _, message in topic_messages(broker.port, f"framed.{NORMALIZED}")]
    assert {message[:6] for message in stored} == {
        b"\0" + known["id"].to_bytes(4, "big") + b"\0",
    }
    assert sorted(trades(stored)) == [(3 + at, at) for at in range(20)]
    # What is known is not registered again.
    assert publish("framed.", schema_register=False)
    subject = f"/subjects/other.{NORMALIZED}-value"
    asked(url, f"{subject}/versions", {"schemaType": "PROTOBUF", "schema": OTHER})
    asked_config = urllib.request.Request(
        f"{url}/config/other.{NORMALIZED}-value",
        json.dumps({"compatibility": "FULL"}).encode(),
        {"Content-Type": "application/vnd.schemaregistry.v1+json"},
        method="PUT",
    )
    urllib.request.urlopen(asked_config, timeout=20).close()
    with pytest.raises(SinkError, match="HTTP 4"):
        publish("other.")
