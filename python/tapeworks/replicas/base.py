"""The contract of what reads a topic into local tapes, and the address by which it is named.

A reader is a member of a group that shares the partitions of a topic out. It opens a
`PartitionReplica` for each partition that it is given, and closes it before it gives it back.
"""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from tapeworks.config import redact
from tapeworks.errors import ConfigError
from tapeworks.tape import TapeConfig
from tapeworks.topics import NORMALIZED

GROUP = "tapeworks"
TELL_AGAIN_S = 60.0


@dataclass(frozen=True)
class TopicAddress:
    """Where a topic is: `kafka://host:port,host:port/topic?group=NAME&client.setting=value`."""

    scheme: str
    servers: str
    path: str
    group: str = GROUP
    properties: dict[str, str] = field(default_factory=dict)

    @property
    def topic(self) -> str:
        """The topic: the last part of the path."""
        return self.path.rpartition("/")[2]


def parse_address(text: str, schemes: Iterable[str]) -> TopicAddress:
    """Reads an address.

    Raises:
        ConfigError: it is none, or of a topic of which nothing is derived.
    """
    shown, known = redact(text), " or ".join(f"{scheme}://" for scheme in schemes)
    example = f"kafka://localhost:9092/{NORMALIZED}"
    try:
        parts = urlsplit(text)
        words = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError as error:
        raise ConfigError(f"--from: {shown!r}: {error}; expected such as {example}") from None
    if parts.scheme not in schemes or not parts.netloc or parts.fragment:
        raise ConfigError(f"--from: expected {known}HOST:PORT/TOPIC, got {shown!r}")
    if "@" in parts.netloc:
        raise ConfigError("--from: a password does not stand there: see the page of the store")
    properties = dict(words)
    group = properties.pop("group", GROUP)
    address = TopicAddress(
        parts.scheme, parts.netloc, parts.path.strip("/"), group or GROUP, properties
    )
    if not address.topic.partition(":")[0].endswith(NORMALIZED):
        raise ConfigError(
            f"--from: expected a topic {NORMALIZED}, from which all else is derived, got "
            f"{address.topic or 'none'!r}: such as {example}"
        )
    return address


@dataclass(frozen=True)
class ReplicaContext:
    """What the pipeline tells a reader about its place in it."""

    data: Path
    tape: TapeConfig
    on_close: Callable[[list[str]], None]
    """Called with local sources before their tapes are closed."""


class TopicReader(ABC):
    """Reads the partitions that it is given into tapes. Called from one thread."""

    @abstractmethod
    def __init__(self, address: TopicAddress, context: ReplicaContext) -> None:
        """Checks the address; connects to nothing."""

    @abstractmethod
    def poll(self, timeout_s: float) -> int:
        """Reads what there is, and waits for it up to `timeout_s`; returns how many messages.

        Servers that do not answer are no error: they are in `troubles`, and asked again.

        Raises:
            TapeReplacedError: a topic or a tape is another one than before.
        """

    @abstractmethod
    def checkpoint(self) -> None:
        """Makes durable what was read, and notes it where the servers show it."""

    @abstractmethod
    def local_sources(self) -> list[str]:
        """Returns the local sources whose tapes are open."""

    @abstractmethod
    def status(self) -> dict[str, dict[str, int | str]]:
        """Returns, by partition, `position`, `lag` and what else is counted."""

    @property
    @abstractmethod
    def troubles(self) -> list[str]:
        """What an operator should know, a line each."""

    @abstractmethod
    def close(self) -> None:
        """Gives all partitions back. What is not noted is read again by whoever gets them."""


class Outage:
    """What is wrong with the connection to the servers. The log has it when it begins, once a
    minute while it lasts, and when it is over: a client tries again many times a second."""

    def __init__(self, log: logging.Logger, servers: str) -> None:
        self.problem = ""
        """What was said last; empty while there is none."""
        self._log = log
        self._servers = servers
        self._told = 0.0

    def note(self, problem: str) -> None:
        """Takes in that an attempt failed."""
        now = time.monotonic()
        if not self.problem or now - self._told >= TELL_AGAIN_S:
            self._log.warning("%s: %s: it is tried again", self._servers, problem)
            self._told = now
        self.problem = problem

    def end(self) -> None:
        """Takes in that the servers answer."""
        if self.problem:
            self._log.info("%s: answers again", self._servers)
        self.problem = ""
