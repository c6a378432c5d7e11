"""Kafka as one node that is broker and controller, of the artifacts in Maven's repository."""

import os
import shutil
import socket
import struct
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import ClassVar

from .base import (
    Service,
    ServiceUnavailable,
    cache,
    free_port,
    install_package,
    one_at_a_time,
    run,
)

VERSION = "4.3.1"
LOGGING = "2.25.4"
COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"
POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>tapeworks</groupId><artifactId>kafka</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId>
      <version>{VERSION}</version></dependency>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId>
      <version>{VERSION}</version></dependency>
    <dependency><groupId>org.apache.logging.log4j</groupId>
      <artifactId>log4j-slf4j-impl</artifactId><version>{LOGGING}</version></dependency>
  </dependencies>
</project>
"""
# ApiVersions, version 0, correlation id 1, no client id: what every broker answers.
QUESTION = struct.pack(">ihhih", 10, 18, 0, 1, -1)


class KafkaService(Service):
    """A Kafka broker. `libraries` is a class path that also holds the console tools."""

    NAME = "kafka"
    SETTINGS: ClassVar[dict[str, object]] = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.listener.names": "CONTROLLER",
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 4,
        "group.initial.rebalance.delay.ms": 0,
        # After a kill the next start takes three seconds in place of thirteen.
        "broker.session.timeout.ms": 1_000,
        "broker.heartbeat.interval.ms": 300,
    }

    @property
    def libraries(self) -> Path:
        """The folder of the jars."""
        return cache() / f"kafka-{VERSION}"

    def install(self) -> None:
        """Copies the artifacts to the cache, once."""
        for program, package in (("java", "default-jre-headless"), ("mvn", "maven")):
            if shutil.which(program) is None:
                install_package(package)
        with one_at_a_time("kafka"):
            if not self.libraries.is_dir():
                self._download()

    def _download(self) -> None:
        aside = cache() / f"kafka-{VERSION}.part"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        (aside / "pom.xml").write_text(POM)
        words = ["mvn", "-q", "-B", "-f", aside / "pom.xml", COPY]
        made = run([*words, f"-DoutputDirectory={aside}"])
        if made.returncode != 0:
            raise ServiceUnavailable(f"maven: {made.stdout[-1_000:]}{made.stderr[-1_000:]}")
        aside.rename(self.libraries)

    def java(self, *words: str) -> list[str]:
        """Returns the command line that runs a class of Kafka."""
        path = f"{self.libraries}/*"
        return ["java", "-Xmx512m", "-XX:+UseSerialGC", "-cp", path, *words]

    def prepare(self) -> None:
        """Writes the settings, and formats the storage."""
        controller = free_port()
        settings = {
            **self.SETTINGS,
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "log.dirs": str(self.folder / "logs"),
        }
        path = self.folder / "server.properties"
        path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if cluster.startswith("-"):
            cluster = "A" + cluster[1:]
        words = ["kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(path)]
        made = run(self.java(*words), dict(os.environ))
        if made.returncode != 0:
            raise ServiceUnavailable(f"kafka: {made.stdout}{made.stderr}")

    def command(self) -> list[str]:
        """The broker in the foreground."""
        return self.java("kafka.Kafka", str(self.folder / "server.properties"))

    def answers(self) -> bool:
        """Asks which requests it takes: answered once the broker serves."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                connection.settimeout(2)
                connection.sendall(QUESTION)
                answer = connection.recv(10)
        except OSError:
            return False
        return len(answer) == 10 and answer[4:10] == struct.pack(">ih", 1, 0)

    def environment(self) -> dict[str, str]:
        """The bootstrap server, and where the console tools are."""
        return {
            "TEST_KAFKA": f"127.0.0.1:{self.port}",
            "TEST_KAFKA_CLASSPATH": f"{self.libraries}/*",
        }
