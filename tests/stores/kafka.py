"""Kafka in the campaign of stores."""

from typing import Any

from tests.published import topic_messages, trades
from tests.services import KafkaService
from tests.services.base import free_port

from tapeworks.sinks.kafka import KafkaConfig

from .base import Store

TOPIC = "market-data.normalized"


class ProxiedKafka(KafkaService):
    """A broker with a second listener, which tells clients to come by way of the proxy."""

    inner = outer = 0

    def prepare(self) -> None:
        """Adds the listener to the settings."""
        super().prepare()
        self.inner, self.outer = free_port(), free_port()
        path = self.folder / "server.properties"
        settings = dict(line.split("=", 1) for line in path.read_text().splitlines())
        settings["listeners"] += f",PROXIED://127.0.0.1:{self.inner}"
        settings["advertised.listeners"] += f",PROXIED://127.0.0.1:{self.outer}"
        names = ("CONTROLLER", "PLAINTEXT", "PROXIED")
        protocols = ",".join(f"{name}:PLAINTEXT" for name in names)
        settings["listener.security.protocol.map"] = protocols
        settings["inter.broker.listener.name"] = "PLAINTEXT"
        path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))


class KafkaStore(Store):
    """Trades in a topic, read with `read_committed`.

    It has one partition: what is committed in several is seen in one before the other, so that no
    prefix of the tape could be expected while the sink runs.
    """

    NAME = "kafka"

    def __init__(self) -> None:
        self.service: ProxiedKafka = ProxiedKafka()

    @property
    def proxied(self) -> tuple[int, int]:
        """The proxy stands before the second listener, where that says that it is."""
        return self.service.inner, self.service.outer

    def settings(self, port: int) -> Any:
        """A sink that commits every few milliseconds."""
        return KafkaConfig(
            servers=f"127.0.0.1:{port}",
            kind="kafka",
            topics=(TOPIC,),
            partitions=1,
            timeout_seconds=2.0,
            transaction_timeout_s=10.0,
            flush_seconds=0.02,
            flush_rows=2_000,
        )

    def prepare(self) -> None:
        """Needs nothing."""

    def rows(self, source: str) -> list[tuple[int, int]]:
        """Reads all trades of a source in the order of the partition."""
        messages = [
            message
            for key, message in topic_messages(self.service.port, TOPIC)
            if key.startswith(f"{source}/".encode())
        ]
        return trades(messages)
