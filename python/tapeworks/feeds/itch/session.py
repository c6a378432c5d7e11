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
QUIET_NS = 60_000_000_000
"""After so long without a packet, the next one may be of another day."""
LIVE = b"moldudp64?hold_ms="
"""What is noted with the packets of lines begins so."""
STREAM_NOTE = b"&soupbintcp="
LOGIN = struct.Struct(">HB6s10s10s20s")
HEADER = struct.Struct(">10sQH")
SESSION_BYTES, COUNT_MAX = 10, 60_000
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
        self.holes = MoldHoles(config.start_messages_max if config.requests else 0)
        self._context = b""
        self.has_session = True
        """False once a server has it no more: then whatever is current is asked for."""
        self._day_end = 0
        self._heard = 0

    def resume(self, tape: Path) -> None:
        """Takes in the last packets: what is sent until the first new one is then asked for."""
        if not has_segments(tape):
            return
        reader = TapeReader(tape)
        reader.seek(max(reader.first, reader.end - LAST_PACKETS))
        found = []
        while blobs := reader.read_blobs(LAST_PACKETS):
            found += [
                (header, blob.ts_recv)
                for blob in blobs
                if (header := header_of(blob.context, blob.body)) is not None
            ]
        if not found:
            return
        session = found[-1][0][:SESSION_BYTES]
        mine = [one for one in found if one[0].startswith(session)]
        first = min(HEADER.unpack(header)[1] for header, _ in mine)
        # All before them is not asked for: it was received, or was given up.
        for at in range(1, first, COUNT_MAX):
            header = HEADER.pack(session, at, min(COUNT_MAX, first - at))
            self.holes.observe(header, mine[0][1])
        for header, ts in mine:
            self.holes.observe(header, ts)

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
        """Returns what is noted with packets that came at `ts`: above all, of which day they are.

        A session stays one of the day on which it began.
        """
        is_new = ts >= self._day_end
        if is_new and (ts - self._heard >= QUIET_NS or self.holes.state()[4]):
            midnight = midnight_of(day_at(ts))
            self._day_end = midnight_of(day_at(midnight + DAY_NS + DAY_NS // 4))
            hold = self.config.hold_ms
            self._context = LIVE + f"{hold}&midnight={midnight}".encode()
        self._heard = ts
        return self._context


def stream_note(session: bytes, first: int) -> bytes:
    """Returns what is noted of packets without numbers: session and number of the first message."""
    return STREAM_NOTE + session.strip() + b":%d" % first


def header_of(context: bytes, body: bytes) -> bytes | None:
    """Returns the header of a packet that a line brought, or that of what a stream brought.

    None of what neither did, and of what tells no number.
    """
    if not context.startswith(LIVE):
        return None
    _, is_stream, place = context.partition(STREAM_NOTE)
    if not is_stream:
        return body[: HEADER.size] if len(body) >= HEADER.size else None
    session, _, first = place.rpartition(b":")
    at = count = 0
    while at + 2 < len(body):
        count += body[at + 2] == ord("S")
        at += 2 + int.from_bytes(body[at : at + 2], "big")
    is_known = first.isdigit() and first != b"0"
    return HEADER.pack(session.ljust(SESSION_BYTES), int(first), count) if is_known else None


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
