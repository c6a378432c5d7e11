"""What was generated, what was sent to whom, and what was withheld: the truth of a run.

Memory is bounded by what went wrong, not by what was sent: counts and ranges of ids. A frame is
lost when it was made after its stream was first delivered and no connection was given it. What a
connection was given just before it was cut may be lost too; `cut` says whether all of it had
reached the other side.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field

SKIPPED = "skipped"
"""Cause of a loss: the venue never gave these ids."""


@dataclass(frozen=True)
class Naming:
    """What the name of a stream says at a venue."""

    symbol: Callable[[str], str]
    channel: Callable[[str], str]
    """By the core's name."""
    is_counted: Callable[[str], bool]
    """Whether each frame of the stream has the id after that of the frame before."""


@dataclass
class Loss:
    """Consecutive frames of a stream that nobody was given."""

    stream: str
    cause: str
    first: int
    last: int
    count: int
    ts_first: int
    ts_last: int
    before: int | None
    """Last id that somebody was given before."""
    fault: int | None = None
    after: int | None = None
    """First id of the first frame that somebody was given after; none so far."""


@dataclass
class Delivered:
    """What was delivered of a stream: to anybody, or to one connection."""

    count: int = 0
    first: int = 0
    last: int = 0

    def add(self, count: int, first: int, last: int) -> None:
        """Adds frames with ids from `first` to `last`."""
        if not self.count:
            self.first = first
        self.count += count
        self.last = last


@dataclass
class Link:
    """One connection as the oracle knows it."""

    number: int
    path: str
    opened_ns: int
    closed_ns: int | None = None
    reason: str = ""
    drained: bool = True
    streams: dict[str, Delivered] = field(default_factory=dict)
    extra: dict[str, int] = field(default_factory=dict)
    """Copies and malformed frames that were sent on top, by fault kind."""


class Oracle:
    """Keeps the truth of one run."""

    def __init__(self, naming: Naming) -> None:
        self._naming = naming
        self.generated: dict[str, Delivered] = {}
        self.delivered: dict[str, Delivered] = {}
        self.losses: list[Loss] = []
        self.links: dict[int, Link] = {}
        self._open: dict[str, Loss] = {}
        self._reach: dict[str, int] = {}

    def generate(self, name: str, count: int, first: int, last: int) -> None:
        """Notes frames that were made."""
        self.generated.setdefault(name, Delivered()).add(count, first, last)

    def deliver(self, name: str, count: int, first: int, last: int, ts: int) -> None:
        """Notes frames, the first of `ts`, that at least one connection was given.

        Where a stream's ids have no holes and there is one all the same, the venue skipped them.
        """
        before = self._reach.get(name)
        loss = self._open.pop(name, None)
        if loss is not None:
            loss.after = first
        elif before is not None and self._naming.is_counted(name) and first > before + 1:
            skipped = first - before - 1
            skip = Loss(name, SKIPPED, before + 1, first - 1, skipped, ts, ts, before)
            skip.after = first
            self.losses.append(skip)
        self.delivered.setdefault(name, Delivered()).add(count, first, last)
        self._reach[name] = max(last, before or 0)

    def lose(
        self,
        name: str,
        count: int,
        ids: tuple[int, int],
        times: tuple[int, int],
        cause: str,
        fault: int | None = None,
    ) -> None:
        """Notes frames that nobody was given. Before the first delivery nothing can be lost."""
        if name not in self.delivered:
            return
        loss = self._open.get(name)
        if loss is None or (loss.cause, loss.fault) != (cause, fault):
            before = self._reach.get(name)
            loss = Loss(name, cause, *ids, 0, *times, before, fault)
            self.losses.append(loss)
            self._open[name] = loss
        loss.count += count
        loss.last, loss.ts_last = ids[1], times[1]

    def give(self, link: int, name: str, count: int, first: int, last: int) -> None:
        """Notes frames that one connection was given."""
        self.links[link].streams.setdefault(name, Delivered()).add(count, first, last)

    def give_extra(self, link: int, kind: str) -> None:
        """Notes a frame that one connection was given and should not have been."""
        extra = self.links[link].extra
        extra[kind] = extra.get(kind, 0) + 1

    def report(self, facts: Mapping[str, Mapping[str, int]]) -> dict[str, object]:
        """Returns everything, ready for JSON. `facts` says how each symbol stands."""
        naming = self._naming
        return {
            "generated": {name: asdict(of) for name, of in self.generated.items()},
            "delivered": {
                name: asdict(of) | {"symbol": naming.symbol(name), "channel": naming.channel(name)}
                for name, of in self.delivered.items()
            },
            "losses": [asdict(loss) for loss in self.losses],
            "connections": [asdict(link) for link in self.links.values()],
            "symbols": {symbol: dict(of) for symbol, of in facts.items()},
            "frames": sum(of.count for of in self.delivered.values()),
        }
