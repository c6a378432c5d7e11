"""A live day: messages at a rate, on all lines, until it is over or told to stop."""

import asyncio
import contextlib
import time

from tapeworks._core import ItchMarket, mold_packets
from tapeworks.new_york import day_at, midnight_of
from tapeworks.simulators.itch.config import LineFaults, SimulatorConfig
from tapeworks.simulators.itch.market import oracle_of, stock_names
from tapeworks.simulators.itch.requests import RequestServer, SentPackets
from tapeworks.simulators.itch.sender import Lines, SendingLine
from tapeworks.simulators.itch.streams import StreamServer

TICK_S = 0.001
RESTING_HEARTBEAT_S = 0.1
LOOK_S = 0.02
BATCH_MESSAGES_MAX = 5_000


class LiveDay:
    """One session from its first packet to its last."""

    def __init__(self, config: SimulatorConfig) -> None:
        self.config = config
        self.market = ItchMarket(stock_names(config.stocks), config.seed, config.messages)
        faults = config.faults or (LineFaults(),) * len(config.lines)
        self.lines = Lines(
            config.session,
            [
                SendingLine(address, one, f"{config.seed}/{number}", config.interface)
                for number, (address, one) in enumerate(zip(config.lines, faults, strict=True))
            ],
        )
        self.kept = SentPackets(self.lines.session, config.keep)
        self.server = RequestServer(self.kept, config.packet_bytes)
        self.streams = StreamServer(self.kept, config.user, config.password)
        self._midnight = midnight_of(day_at(time.time_ns()))
        self.started = self.ended = 0.0
        self.is_started = asyncio.Event()
        self.is_paused = False
        """While it is set, nothing happens, and heartbeats tell so."""
        if not config.wait:
            self.is_started.set()

    def packets(self, count: int) -> list[tuple[int, int, bytes]]:
        """Returns packets of the next `count` messages, which can be asked for from now on."""
        blocks, _ = self.market.take(count, time.time_ns() - self._midnight)
        size = self.config.packet_bytes
        packets = mold_packets(blocks, self.lines.session, self.lines.next, size)
        if self.config.requests is not None or self.config.soup is not None:
            self.kept.add(packets)
        return packets

    def send(self, count: int) -> None:
        """Sends the next `count` messages."""
        self.lines.send(self.packets(count))

    async def run(self, ended: asyncio.Event) -> None:
        """Sends the whole day. `ended` ends it early, in good order."""
        await self._until_started(ended)
        self.started = started = beat = time.monotonic()
        rate, due = self.config.rate, 0.0
        while not self.market.is_over:
            now = time.monotonic()
            if ended.is_set():
                self.market.finish()
                self.send(BATCH_MESSAGES_MAX)
                continue
            if self.is_paused:
                if now - beat >= RESTING_HEARTBEAT_S:
                    self.lines.heartbeat()
                    beat = now
                await asyncio.sleep(TICK_S)
                # What would have happened meanwhile does not.
                started += time.monotonic() - now
                continue
            due = (now - started) * rate - self.market.sent if rate else BATCH_MESSAGES_MAX
            if due >= 1:
                self.send(min(int(due), BATCH_MESSAGES_MAX))
                beat = now
            elif now - beat >= self.config.heartbeat_s:
                self.lines.heartbeat()
                beat = now
            await asyncio.sleep(0 if not rate or due > BATCH_MESSAGES_MAX else TICK_S)
        self.ended = time.monotonic()
        await self._end(ended)

    async def _until_started(self, ended: asyncio.Event) -> None:
        """Sends heartbeats until somebody receives them on all lines, or it is told to begin."""
        while not (self.is_started.is_set() or ended.is_set()):
            # What became of a packet is told with the next one.
            for _ in range(2):
                self.lines.heartbeat()
            if all(line.is_heard for line in self.lines.lines):
                self.is_started.set()
            await asyncio.sleep(LOOK_S)

    @property
    def pace(self) -> float:
        """Messages a second that were sent, from the first to the last."""
        return self.market.sent / max(self.ended - self.started, 1e-9)

    async def _end(self, ended: asyncio.Event) -> None:
        """Tells that it is over, and answers requests for a while, or until `ended` is set."""
        until = time.monotonic() + self.config.end_s
        self.streams.is_over = True
        # Who ended the day itself is told of its end for as long as all others.
        stops = asyncio.Event() if ended.is_set() else ended
        while True:
            self.lines.heartbeat(ends=True)
            left = until - time.monotonic()
            if left <= 0 or stops.is_set():
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stops.wait(), min(left, self.config.heartbeat_s / 2))

    def report(self) -> dict[str, object]:
        """Returns the oracle, and what became of the packets of each line."""
        return {
            **oracle_of(self.market),
            "session": self.config.session,
            "lines": [line.report() for line in self.lines.lines],
            "answered": self.server.answered,
            "unanswered": self.server.unanswered,
            "streams": {"logins": self.streams.logins, "sent": self.streams.sent},
        }
