"""Kafka with a real broker that asks for a user and a password, by SASL with SCRAM."""

import time

import pytest
from confluent_kafka.admin import (
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from published import topic_messages, trades
from services import KafkaService
from services.base import free_port
from tapeworks.errors import SinkUnavailable
from tapeworks.sinks.base import SinkContext
from tapeworks.sinks.feeder import Feeder
from tapeworks.sinks.kafka import KafkaConfig, KafkaSink
from tapeworks.topics import NORMALIZED

MECHANISM = "SCRAM-SHA-512"
LOGIN = "org.apache.kafka.common.security.scram.ScramLoginModule required;"


class ScramKafka(KafkaService):
    """A broker with a second listener, which asks for a password."""

    secure = 0

    def prepare(self) -> None:
        """Adds the listener to the settings."""
        super().prepare()
        self.secure = free_port()
        path = self.folder / "server.properties"
        settings = dict(line.split("=", 1) for line in path.read_text().splitlines())
        settings["listeners"] += f",SECURE://127.0.0.1:{self.secure}"
        settings["advertised.listeners"] += f",SECURE://127.0.0.1:{self.secure}"
        settings["listener.security.protocol.map"] = (
            "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SECURE:SASL_PLAINTEXT"
        )
        settings["inter.broker.listener.name"] = "PLAINTEXT"
        settings["listener.name.secure.sasl.enabled.mechanisms"] = MECHANISM
        settings[f"listener.name.secure.{MECHANISM.lower()}.sasl.jaas.config"] = LOGIN
        path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))

    def set_password(self, user: str, password: str) -> None:
        """Makes a user, or gives it another password."""
        admin = AdminClient({"bootstrap.servers": f"127.0.0.1:{self.port}"})
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4_096)
        change = UserScramCredentialUpsertion(user, info, password.encode())
        for done in admin.alter_user_scram_credentials([change]).values():
            done.result(30)


@pytest.mark.slow
def test_a_password_that_is_wrong_is_lag_until_it_is_right(spine, maker, monkeypatch):
    # The broker refuses the sink, which says so; once the broker knows the password, all trades are
    # published, and the password is in no message.
    spine.append(maker.definitions())
    spine.append(maker.trades(50))
    monkeypatch.setenv("BROKER_PASSWORD", "right-password")
    with ScramKafka() as broker:
        broker.set_password("tapeworks", "another")
        properties = {
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": MECHANISM,
            "sasl.username": "tapeworks",
            "sasl.password": "env:BROKER_PASSWORD",
        }
        config = KafkaConfig(
            servers=f"127.0.0.1:{broker.secure}",
            topics=(NORMALIZED,),
            timeout_seconds=3.0,
            properties=properties,
        )
        sink = KafkaSink(config, SinkContext("kafka", spine.path))
        tape = spine.tape(NORMALIZED)
        feeder = Feeder(sink.partition(spine.source, NORMALIZED), tape, config.policy)
        with pytest.raises(SinkUnavailable, match="uthentication failed") as told:
            sink.ensure_connected()
        assert "right-password" not in str(told.value)
        broker.set_password("tapeworks", "right-password")
        deadline = time.monotonic() + 60
        while feeder.stored is None:
            assert time.monotonic() < deadline
            feeder.step()
            time.sleep(0.05)
        assert feeder.drain(60)
        feeder.close()
        stored = [message for _, message in topic_messages(broker.port, NORMALIZED)]
    assert sorted(trades(stored)) == [(3 + at, at) for at in range(50)]
