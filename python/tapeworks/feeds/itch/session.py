"""The session rules of live ITCH: lines that carry the same, and whom to ask again."""

import struct
from collections.abc import Sequence
from pathlib import Path

from tapeworks._core import MoldHoles, TapeReader
from tapeworks.feeds.base import (
    Control,
    ControlKind,
    Feed,
    Line,
    LivenessPolicy,
    SessionRules,
    Subscriptions,
)
from tapeworks.feeds.itch.config import SOUP, ItchConfig
from tapeworks.feeds.limits import WeightBudget
from tapeworks.new_york import day_at, midnight_of
from tapeworks.tape import has_segments

STREAM, REQUESTS = "itch", "requests"
UDP = "udp://"
DAY_NS = 86_400_000_000_000
LIVE = b"moldudp64?hold_ms="
"""What is noted with the packets of lines begins so."""
STREAM_NOTE = b"&soupbintcp="
LOGIN = struct.Struct(">HB6s10s10s20s")
LAST_PACKETS = 8_192
"""Of so many packets on the tape it is seen what is missing, when the recorder starts again."""
# Nothing cuts a line.
NEVER_S = 1e9


class ItchFeed(Feed):
    """One session of messages with numbers, on one line or several."""

    native = "itch"
    connection = "tapeworks.feeds.itch.lines:connection_of"

    def __init__(self, config: ItchConfig) -> None:
        self.config = config
        self.source = config.name
        self.pending_bytes_max = config.pending_bytes_max
        self.budget = WeightBudget(1)
        # One port is bound once: the old socket is closed first.
        self.rules = SessionRules(
            overlap_s=0.0, age_s=NEVER_S, idle_timeout_s=config.idle_timeout_s, backoff_max_s=5.0
        )
        self._start_max = config.start_messages_max if config.requests else 0
        self.holes = MoldHoles(self._start_max)
        self._context = b""
        self._day = (0, 0)
        self.has_session = True
        """False once a server has it no more: then whatever is current is asked for."""

    def resume(self, tape: Path) -> None:
        """Takes in the last packets: what is sent until the first new one is then asked for."""
        if not has_segments(tape):
            return
        reader = TapeReader(tape)
        reader.seek(max(reader.first, reader.end - LAST_PACKETS))
        # What came before them is not asked for: it was received, or was given up.
        self.holes.ask_start(0)
        while blobs := reader.read_blobs(LAST_PACKETS):
            for blob in blobs:
                if blob.context.startswith(LIVE):
                    self.holes.observe(blob.context, blob.body, blob.ts_recv)
        self.holes.ask_start(self._start_max)

    def lines(self) -> Sequence[Line]:
        """Returns the lines, and what lost messages are asked for with."""
        lines = [
            Line(
                f"{self.source}/{number}",
                address if address.startswith(SOUP) else f"{UDP}{address}",
                (STREAM,),
            )
            for number, address in enumerate(self.config.lines)
        ]
        if self.config.requests:
            lines.append(Line(f"{self.source}/{REQUESTS}", "", ()))
        return lines

    def login(self) -> bytes:
        """Returns the request that begins a stream: from the next message on, or the first."""
        session, following, *_ = self.holes.state()
        is_known = following > 0 and self.has_session
        name = session.decode("ascii", "replace").strip() if is_known else ""
        return LOGIN.pack(
            LOGIN.size - 2,
            ord("L"),
            self.config.user.encode().ljust(6),
            self.config.password.encode().ljust(10),
            name.encode().rjust(10),
            str(following if is_known else 1).encode().rjust(20),
        )

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
        """Returns what is noted with packets that came at `ts`: above all, on which day they came.

        A session is of the day on which its first messages came: the core sees to that.
        """
        first, end = self._day
        if not first <= ts < end:
            midnight = midnight_of(day_at(ts))
            self._day = midnight, midnight_of(day_at(midnight + DAY_NS + DAY_NS // 4))
            hold = self.config.hold_ms
            self._context = LIVE + f"{hold}&midnight={midnight}".encode()
        return self._context


def stream_note(session: bytes, first: int) -> bytes:
    """Returns what is noted of packets without numbers: session and number of the first message."""
    return STREAM_NOTE + session.strip() + b":%d" % first


class _NothingToAsk:
    """Subscriptions of a connection that is sent everything."""

    done = True
    failed = ()

    def next(self) -> bytes | None:
        """Returns nothing to send."""
        return None

    def receive(self, control: Control) -> None:
        """Takes in what no line says."""

    def give_up(self) -> bool:
        """Says no: nothing is asked."""
        return False
