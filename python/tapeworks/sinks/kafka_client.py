"""The client library of Kafka: what its settings and errors mean, and what it calls back with."""

import logging
from typing import Any

from confluent_kafka import KafkaError, KafkaException

FAILURES_MAX = 100
# What exactly once, the order of keys, and the settings of their own depend on.
OWN_PROPERTIES = frozenset(
    {
        *("bootstrap.servers", "transactional.id", "enable.idempotence", "acks", "partitioner"),
        *("max.in.flight.requests.per.connection", "isolation.level", "compression.type"),
        *("delivery.report.only.error", "transaction.timeout.ms", "linger.ms"),
    }
)
FENCED = frozenset(
    {
        KafkaError._FENCED,
        KafkaError.PRODUCER_FENCED,
        KafkaError.INVALID_PRODUCER_EPOCH,
    }
)
REJECTED = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD})


class ClientReports:
    """What the client library calls back with. It knows no sink, so that none is held by it."""

    def __init__(self) -> None:
        self.problem = ""
        """What was said last of the connection."""
        self.failed: list[KafkaError] = []
        """Why messages were not delivered: the first ones."""

    def on_error(self, error: KafkaError) -> None:
        """Called for problems that are of no message."""
        if error.code() != KafkaError._ALL_BROKERS_DOWN or not self.problem:
            # That all are down follows from what was said of each.
            self.problem = error.str()

    def on_failure(self, error: KafkaError | None, _: Any) -> None:
        """Called for messages that were not delivered, and for no other."""
        if error is not None and len(self.failed) < FAILURES_MAX:
            self.failed.append(error)


def client_log(log: logging.Logger) -> logging.Logger:
    """Returns where the client library logs, below `log`: all but its attempts to connect, which
    it makes many times a second. What they failed for comes to `error_cb`."""
    found = log.getChild("client")
    if not found.filters:
        found.addFilter(lambda record: not record.getMessage().startswith("FAIL "))
    return found


def client_error(error: KafkaException | SystemError) -> KafkaException:
    """Returns what went wrong: a fatal error that the client library raises out of a callback of
    its own, as when it was fenced, arrives as the cause of a `SystemError`.
    """
    if isinstance(error, KafkaException):
        return error
    if isinstance(error.__cause__, KafkaException):
        return error.__cause__
    raise error
