"""What goes wrong, when, and for whom: on demand, from a list, or from a seed.

A fault begins at a simulated time. Faults of frames pick the frames that they hit once, for all
connections or for one; so two connections that carry the same stream agree on what was lost.
"""

import fnmatch
import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from tapeworks._core import Frames
from tapeworks.errors import ConfigError
from tapeworks.simulators.source import NS_PER_S, Source

FRAME_KINDS = ("drop", "duplicate", "reorder", "delay", "mute", "malformed", "gap")
CONNECTION_KINDS = ("cut", "close", "shutdown", "slow")
REST_KINDS = ("late_snapshot", "stale_snapshot", "rest_429", "rest_418", "rest_500")
KINDS = FRAME_KINDS + CONNECTION_KINDS + REST_KINDS
SEEDED_KINDS = (*FRAME_KINDS, "cut", "close", "slow", "late_snapshot", "stale_snapshot")


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong."""

    kind: str
    at_s: float = 0.0
    """Simulated seconds after the start; when asked for over the control interface, from then."""
    stream: str = "*"
    """A pattern of stream names."""
    connection: int | None = None
    """The number of the connection; none: all."""
    count: int = 1
    """So many frames, trade ids, requests."""
    duration_s: float = 0.0
    """Instead of a count, so long; `late_snapshot`: the delay; `delay`: how late frames come."""
    amount: float = 0.0
    """`slow`: bytes a second; `rest_429`: seconds of Retry-After."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f"expected a fault of {', '.join(KINDS)}, got {self.kind!r}")
        if self.count < 0 or self.duration_s < 0 or self.at_s < 0:
            raise ConfigError(f"expected no negative number in {self}")


def parse_fault(entry: dict[str, Any]) -> Fault:
    """Reads a fault as the control interface and fault files write it.

    Raises:
        ConfigError: an unknown key or kind.
    """
    known = {field.name for field in fields(Fault)}
    if not isinstance(entry, dict) or not entry.keys() <= known:
        raise ConfigError(f"expected a fault with keys of {sorted(known)}, got {entry!r}")
    try:
        return Fault(**entry)
    except TypeError as error:
        raise ConfigError(f"{entry!r}: {error}") from None


def plan_faults(
    text: str, seed: int, duration_s: float, streams: Sequence[str], kinds: Sequence[str] = KINDS
) -> list[Fault]:
    """Reads `seed:COUNT`, of which each is one of `kinds`, or the path of a JSON list.

    Raises:
        ConfigError: it is neither.
    """
    if not text:
        return []
    if text.startswith("seed:"):
        count = int(text.removeprefix("seed:"))
        return seeded_faults(seed, count, duration_s, streams, kinds)
    try:
        return [parse_fault(entry) for entry in json.loads(Path(text).read_text("utf-8"))]
    except (OSError, json.JSONDecodeError) as error:
        raise ConfigError(f"--faults {text}: {error}") from None


def seeded_faults(
    seed: int, count: int, duration_s: float, streams: Sequence[str], kinds: Sequence[str] = KINDS
) -> list[Fault]:
    """Chooses `count` faults of `kinds` in the middle of `duration_s`: all can be recovered."""
    chance = random.Random(seed)
    chosen = [kind for kind in SEEDED_KINDS if kind in kinds]
    span = duration_s or 60.0
    faults = []
    for _ in range(count):
        kind = chance.choice(chosen)
        stream = chance.choice(list(streams)) if streams else "*"
        at_s = round(chance.uniform(0.15, 0.75) * span, 3)
        match kind:
            case "mute" | "delay":
                # A stream is muted for as long as it takes to lose something.
                fault = Fault(kind, at_s, stream, duration_s=round(chance.uniform(0.1, 1.0), 3))
            case "slow":
                fault = Fault(kind, at_s, duration_s=0.5, amount=chance.choice([2e4, 1e5]))
            case "cut" | "close":
                fault = Fault(kind, at_s)
            case "late_snapshot":
                # The snapshot is asked for again when the book breaks: so break it.
                faults.append(Fault("cut", at_s))
                fault = Fault(kind, at_s, count=2, duration_s=round(chance.uniform(0.1, 0.8), 3))
            case "stale_snapshot":
                faults.append(Fault("cut", at_s))
                fault = Fault(
                    kind, max(0.0, at_s - 0.3), duration_s=round(0.5 * chance.random(), 3)
                )
            case _:
                fault = Fault(kind, at_s, stream, count=chance.randint(1, 5))
        faults.append(fault)
    return sorted(faults, key=lambda fault: fault.at_s)


@dataclass
class Active:
    """A fault that has begun."""

    number: int
    fault: Fault
    begin_ns: int
    left: int
    end_ns: int
    victim: int | None = None
    hits: int = 0

    def over(self, now_ns: int) -> bool:
        """Whether it will hit nothing more."""
        return self.left <= 0 and now_ns >= self.end_ns


@dataclass(frozen=True)
class Hit:
    """What is to happen to one frame, on one connection or on all."""

    fault: int
    kind: str
    connection: int | None
    until_ns: int = 0


class Faults:
    """All faults of a run: those to come, those at work, and what each has hit."""

    def __init__(self, source: Source, planned: Iterable[Fault]) -> None:
        self._source = source
        self._coming: list[Active] = []
        self._active: list[Active] = []
        self._refusals: list[Active] = []
        self._stale: dict[str, tuple[bytes, int]] = {}
        self.all: list[Active] = []
        for fault in planned:
            self.add(fault, source.start_ns)

    def add(self, fault: Fault, from_ns: int) -> Active:
        """Adds a fault whose `at_s` counts from `from_ns`."""
        begin = from_ns + int(fault.at_s * NS_PER_S)
        timed = fault.kind in ("mute", "delay", "slow", "stale_snapshot")
        end = begin + int(fault.duration_s * NS_PER_S) if timed else begin
        left = 0 if timed and fault.duration_s else fault.count
        active = Active(len(self.all) + 1, fault, begin, left, end, fault.connection)
        self.all.append(active)
        self._coming.append(active)
        self._coming.sort(key=lambda one: one.begin_ns)
        return active

    def is_coming(self, active: Active) -> bool:
        """Returns whether a fault has yet to begin."""
        return active in self._coming

    def begin(self, now_ns: int) -> list[Active]:
        """Returns the faults that begin by `now_ns`; those of frames and REST are at work then."""
        begun = [active for active in self._coming if active.begin_ns <= now_ns]
        for active in begun:
            self._coming.remove(active)
            kind = active.fault.kind
            if kind == "stale_snapshot":
                self._freeze(active)
            elif kind in REST_KINDS:
                self._refusals.append(active)
            elif kind == "gap" and active.fault.stream.lower().endswith("trade"):
                self._skip(active)
            elif kind in FRAME_KINDS:
                self._active.append(active)
        return begun

    @property
    def next_ns(self) -> int | None:
        """When the next fault begins."""
        return self._coming[0].begin_ns if self._coming else None

    def hits(self, frames: Frames, name_of: Sequence[str]) -> dict[int, Hit]:
        """Returns what is to happen to which frames of a batch, by their place in it."""
        hits: dict[int, Hit] = {}
        if not self._active:
            return hits
        for at in range(len(frames)):
            stream, ts, *_ = frames.frame(at)
            for active in self._active:
                hit = self._hit(active, name_of[stream], ts)
                if hit is not None:
                    hits[at] = hit
                    break
        self._active = [one for one in self._active if not one.over(self._source.now)]
        return hits

    def _hit(self, active: Active, name: str, ts: int) -> Hit | None:
        fault = active.fault
        if ts < active.begin_ns or not fnmatch.fnmatchcase(name, fault.stream):
            return None
        if active.left > 0:
            active.left -= 1
        elif ts > active.end_ns or active.end_ns == active.begin_ns:
            return None
        active.hits += 1
        kind = "drop" if fault.kind == "gap" else fault.kind
        connection = None if fault.kind == "gap" else active.victim
        return Hit(active.number, kind, connection, active.end_ns)

    def _freeze(self, active: Active) -> None:
        # What the venue's cache holds from now on, for as long as it is stale.
        for symbol in self._source.symbols:
            body = self._source.stale_book(symbol)
            self._stale[symbol] = (body, active.end_ns)
        active.hits += 1

    def _skip(self, active: Active) -> None:
        symbol = active.fault.stream.partition("@")[0].upper()
        self._source.skip_trades(symbol, active.fault.count)
        active.left = 0
        active.hits += 1

    def refusal(self) -> int | None:
        """Returns the HTTP status with which the next request is refused, if any."""
        for active in self._refusals:
            if active.fault.kind.startswith("rest_") and self._take(active):
                return int(active.fault.kind.removeprefix("rest_"))
        return None

    def retry_after_s(self) -> int:
        """Returns what a forced 429 says."""
        for active in reversed(self.all):
            if active.fault.kind == "rest_429" and active.hits:
                return max(1, int(active.fault.amount))
        return 1

    def answer_delay_s(self, path: str) -> float:
        """Returns by how much the answer to a request for a book comes too late."""
        if path.endswith("/depth"):
            for active in self._refusals:
                if active.fault.kind == "late_snapshot" and self._take(active):
                    return active.fault.duration_s
        return 0.0

    def stale_body(self, symbol: str) -> bytes | None:
        """Returns an old book while the venue's cache is stale."""
        body, until = self._stale.get(symbol, (b"", 0))
        if self._source.now <= until:
            return body
        self._stale.pop(symbol, None)
        return None

    def _take(self, active: Active) -> bool:
        if active.left <= 0:
            return False
        active.left -= 1
        active.hits += 1
        return True

    def report(self) -> list[dict[str, object]]:
        """Returns every fault with when it began and how much it hit."""
        return [
            {
                "number": active.number,
                **asdict(active.fault),
                "begin_ns": active.begin_ns,
                "end_ns": active.end_ns,
                "connection": active.victim,
                "hits": active.hits,
            }
            for active in self.all
        ]
