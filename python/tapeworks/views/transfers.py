"""What sinks and readers of topics say of themselves: how far they are, and what went wrong.

Each writes a small file every second, which is replaced whole. One that is older than a few seconds
is of a process that does not run: it says nothing about now.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tapeworks.printable import one_line

STALE_S = 5.0


@dataclass
class SinkState:
    """One tape in one sink."""

    sink: str
    topic: str
    stored: int = 0
    """The offset up to which it is stored."""
    lag: int = 0
    """Durable items that are not stored yet."""
    errors: int = 0
    """How often storing failed since the sink was started."""
    lag_s: int = 0
    """How long ago the oldest of these was received."""
    rejected: int = 0
    """Records that the store will never take, and that are kept aside."""
    refusal: str = ""
    """Why the store took nothing when it was asked last; empty if it did."""


@dataclass
class ReplicaState:
    """One partition of a topic that is read here."""

    topic: str
    partition: str
    position: int = 0
    """The position to be read next."""
    lag: int = 0
    """Positions that are there and were not read yet."""
    unreadable: int = 0
    """Messages that are no records."""
    repeated: int = 0
    """Messages that were left out, as they were read before."""
    rebalances: int = 0
    """How often the group shared its partitions out anew while this process was in it."""


def sink_states(sink: str, told: dict[str, Any]) -> Iterator[SinkState]:
    """Yields what a sink said of the tapes of one source, if it runs."""
    if not _is_fresh(told):
        return
    tapes = told.get("tapes")
    for topic, one in tapes.items() if isinstance(tapes, dict) else ():
        refusal = one.get("refusal", "") if isinstance(one, dict) else ""
        names = ("stored", "lag", "errors", "lag_s", "rejected")
        yield SinkState(sink, topic, refusal=one_line(str(refusal)), **_numbers(one, names))


def replica_states(data: Path, troubles: list[str]) -> Iterator[ReplicaState]:
    """Yields the partitions that are read now; what their readers complain of goes to `troubles`.

    Raises:
        OSError, ValueError: a file cannot be read.
    """
    names = ("position", "lag", "unreadable", "repeated", "rebalances")
    for path in sorted((data / "replicas").glob("*/*/status.json")):
        try:
            told = json.loads(path.read_bytes())
        except FileNotFoundError:
            continue
        if not isinstance(told, dict) or not _is_fresh(told):
            continue
        topic, partition = path.parts[-3:-1]
        troubles += [line for line in map(one_line, told["troubles"]) if line not in troubles]
        yield ReplicaState(topic, partition, **_numbers(told, names))


def _is_fresh(told: dict[str, Any]) -> bool:
    written = told.get("ts")
    return isinstance(written, int) and time.time_ns() - written < STALE_S * 1e9


def _numbers(told: Any, names: tuple[str, ...]) -> dict[str, int]:
    found = told if isinstance(told, dict) else {}
    return {name: found[name] for name in names if isinstance(found.get(name), int)}
