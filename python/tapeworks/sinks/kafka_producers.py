"""The producers of one source, which take turns so that no transaction waits for the last one.

A broker confirms the end of a transaction before it has written its markers. Until they are
written it refuses the next transaction of the same id, and the client library then waits for 20 ms.
So an exactly-once source has several transactional ids, each with a producer of its own. One
transaction is open at a time, and the next one, of the next id, begins once it is confirmed.

Whoever opens a source opens all of its ids, the first one first, before it reads the places, and
its first transaction is of the first id. So whoever had opened them before can commit at most the
one transaction that it has open, which the places then tell of, and of two that open them at the
same time only one has the first id.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaException, Producer

from tapeworks.heartbeat import beat

TURNS = 3
"""Transactional ids of a source: with two, the markers of the last but one may be missing."""


def transactional_ids(first: str) -> tuple[str, ...]:
    """Returns the ids of a source."""
    return (first, *(f"{first}.{number}" for number in range(1, TURNS)))


class Producers:
    """The producers of one source. `ids` are their transactional ids; none: one without."""

    def __init__(
        self,
        make: Callable[[Mapping[str, Any]], Producer],
        ids: Sequence[str],
        timeout_s: float,
    ) -> None:
        """Opens all of them, which ends what others left open under their ids.

        Raises:
            KafkaException: a broker refuses, or does not answer.
        """
        self._all: list[Producer] = []
        self._turn = 0
        try:
            for name in ids:
                beat()
                self._all.append(make({"transactional.id": name}))
                self._all[-1].init_transactions(timeout_s)
            if not ids:
                self._all.append(make({}))
        except KafkaException:
            self.purge()
            raise

    @property
    def current(self) -> Producer:
        """The one whose turn it is."""
        return self._all[self._turn]

    def on_committed(self) -> None:
        """Gives the turn to the next one, as the transaction of this one is confirmed."""
        self._turn = (self._turn + 1) % len(self._all)

    def purge(self) -> None:
        """Drops what they have not sent.

        They are not closed: that would wait for brokers, which may not answer.
        """
        for producer in self._all:
            try:
                producer.purge()
            except KafkaException:
                continue
