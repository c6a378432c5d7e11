"""Tells a second instance of a sink that stores the same tape from one that is gone.

For stores that have no lock: each place names the instance that left it. One that somebody else
left lately is watched for a moment; if it moves, the other one lives. What a process of this
machine left that has ended since needs no watching.
"""

import os
import random
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tapeworks.errors import SinkError

WATCH_S_MIN, WATCH_S_MAX = 0.5, 5.0
# What was left longer ago is of an instance that has nothing to store, or is gone.
LEFT_S = 60.0


@dataclass(frozen=True)
class Left:
    """What an instance left of one tape, and when."""

    offset: int
    owner: str
    at: datetime


Latest = Mapping[tuple[str, str], Left]
"""Source and topic -> what was left last."""


def host_of_processes() -> str:
    """Returns what tells apart where processes are numbered: a start of a machine, a container."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}:{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        # Of another system nobody knows: it is watched.
        return uuid.uuid4().hex


def is_over(owner: str) -> bool:
    """Whether an instance was a process of this machine that is gone."""
    host, _, rest = owner.partition("/")
    number = rest.partition("/")[0]
    if host != host_of_processes() or not number.isdigit():
        return False
    return not Path(f"/proc/{number}").exists()


def check_sink(tape: tuple[str, str], name: str, owner: str, where: str) -> None:
    """Fails if the place of a tape is of another sink than `name`; empty: that is not known.

    Raises:
        SinkError: it is: what the other one chose to leave out would be lacking, untold.
    """
    if owner and owner != name:
        raise SinkError(
            f"{tape[0]}: {tape[1]}: expected a place of the sink {name} in {where}, got one of the "
            f"sink {owner}: two sinks cannot store one topic in the same place. Give this one "
            "another, or the name that it had"
        )


@dataclass
class InstanceWatch:
    """Watches what others leave."""

    flush_seconds: float
    sink: str
    """The name of the sink."""
    owner: str = field(init=False)
    """This instance."""
    _seen: dict[tuple[str, str], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.owner = f"{host_of_processes()}/{os.getpid()}/{uuid.uuid4()}/{self.sink}"

    def watch(self, ask: Callable[[], Latest]) -> None:
        """Waits for a moment if another instance left something lately, and notes where it was.

        Each of two that waited as long as the other would see it move for ever.
        """
        lately = datetime.now(UTC).timestamp() - LEFT_S
        self._seen = {
            tape: left.offset
            for tape, left in ask().items()
            if left.owner != self.owner and left.at.timestamp() > lately and not is_over(left.owner)
        }
        if self._seen:
            watch_s = min(max(self.flush_seconds * 2, WATCH_S_MIN), WATCH_S_MAX)
            time.sleep(watch_s * random.uniform(1, 2))

    def check_sink(self, tape: tuple[str, str], owner: str, where: str) -> None:
        """Fails if what `owner` left is of another sink; earlier versions did not say which.

        Raises:
            SinkError: it is.
        """
        parts = owner.split("/", 3)
        check_sink(tape, self.sink, parts[3] if len(parts) > 3 else "", where)

    def has_moved(self, tape: tuple[str, str], owner: str, offset: int) -> bool:
        """Whether somebody else went on since the watch began."""
        seen = self._seen.get(tape)
        return owner != self.owner and seen is not None and offset > seen
