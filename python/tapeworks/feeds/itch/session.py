"""The session rules of ITCH over MoldUDP64: lines that carry the same, and whom to ask again."""

from collections.abc import Sequence

from tapeworks._core import MoldHoles
from tapeworks.feeds.base import (
    Control,
    ControlKind,
    Feed,
    Line,
    LivenessPolicy,
    SessionRules,
    Subscriptions,
)
from tapeworks.feeds.itch.config import ItchConfig
from tapeworks.feeds.limits import WeightBudget
from tapeworks.new_york import day_at, midnight_of

STREAM, REQUESTS = "itch", "requests"
UDP = "udp://"
DAY_NS = 86_400_000_000_000
QUIET_NS = 60_000_000_000
"""After so long without a packet, the next one may be of another day."""
# Nothing cuts a line.
NEVER_S = 1e9


class ItchFeed(Feed):
    """One session of MoldUDP64, on one line or several."""

    native = "itch"
    connection = "tapeworks.feeds.itch.connection:MoldConnection"

    def __init__(self, config: ItchConfig) -> None:
        self.config = config
        self.source = config.name
        self.pending_bytes_max = config.pending_bytes_max
        self.budget = WeightBudget(1)
        # One port is bound once: the old socket is closed first.
        self.rules = SessionRules(
            overlap_s=0.0, age_s=NEVER_S, idle_timeout_s=config.idle_timeout_s, backoff_max_s=5.0
        )
        self.holes = MoldHoles(config.start_messages_max if config.requests else 0)
        self._context = b""
        self._day_end = 0
        self._heard = 0

    def lines(self) -> Sequence[Line]:
        """Returns the lines, and what lost messages are asked for with."""
        lines = [
            Line(f"{self.source}/{number}", f"{UDP}{address}", (STREAM,))
            for number, address in enumerate(self.config.lines)
        ]
        if self.config.requests:
            lines.append(Line(f"{self.source}/{REQUESTS}", "", ()))
        return lines

    def subscriptions(self, streams: Sequence[str]) -> Subscriptions:
        """Returns a conversation that is over: who joins a group is sent everything."""
        return _NothingToAsk()

    def control(self, payload: bytes) -> Control:
        """Every packet is data."""
        return Control(ControlKind.DATA)

    def liveness(self, stream: str) -> LivenessPolicy:
        """Says that a line must speak: where nothing happens, there are heartbeats."""
        return LivenessPolicy(self.rules.idle_timeout_s)

    def is_trading(self, stream: str, wall_ns: int) -> bool:
        """Says whether packets are due: not of a session that was ended."""
        return not self.holes.state()[4]

    def channel(self, stream: str) -> str:
        """Returns the core's name of the channel."""
        return "order"

    def context(self, ts: int) -> bytes:
        """Returns what is noted with packets that came at `ts`: above all, of which day they are.

        A session stays one of the day on which it began.
        """
        is_new = ts >= self._day_end
        if is_new and (ts - self._heard >= QUIET_NS or self.holes.state()[4]):
            midnight = midnight_of(day_at(ts))
            self._day_end = midnight_of(day_at(midnight + DAY_NS + DAY_NS // 4))
            hold = self.config.hold_ms
            self._context = f"moldudp64?hold_ms={hold}&midnight={midnight}".encode()
        self._heard = ts
        return self._context


class _NothingToAsk:
    """Subscriptions of a connection that is sent everything."""

    done = True
    failed = ()

    def next(self) -> bytes | None:
        """Returns nothing to send."""
        return None

    def receive(self, control: Control) -> None:
        """Takes in what no line says."""
