"""A venue's server: one port for streams, REST and the control interface; one pump moves time.

The pump alone advances the source, so that what is sent depends on the seed and on simulated time
only. At speed 0 it goes as fast as the slowest connection reads: it waits while a connection has
much unread.
"""

import asyncio
import contextlib
import fcntl
import json
import struct
import sys
import termios
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import IO

from aiohttp import WSMsgType, web

from tapeworks.errors import ConfigError
from tapeworks.simulators.config import ServerConfig
from tapeworks.simulators.connection import PING, PONG, Connection, message
from tapeworks.simulators.delivery import Delivery
from tapeworks.simulators.faults import Active, Fault, Faults, parse_fault, plan_faults
from tapeworks.simulators.oracle import Link, Naming, Oracle
from tapeworks.simulators.source import NS_PER_S, Source

TICK_S = 0.005
STEP_NS_MIN, STEP_NS_MAX = 1_000_000, 1_000_000_000
FRAMES_WANTED = 2_000
"""Frames a step makes at speed 0, about."""
UNREAD_BYTES_MAX = 4 << 20
"""At speed 0 time stands still while a connection has so much unread."""
REST_S_MAX = 5.0
DRAIN_S_MAX = 2.0
GOODBYE_S_MAX = 2.0
BEGIN_S_MAX = 5.0


class Server(ABC):
    """A simulated venue."""

    naming: Naming
    fault_kinds: Sequence[str]
    """What can go wrong at this venue; see `faults.KINDS`."""
    shutdown_s = 10.0
    """So long before it ends a connection the venue tells of it."""

    def __init__(
        self, config: ServerConfig, source: Source, seeded: Sequence[str], full: IO[str] | None
    ) -> None:
        self.config = config
        self.source = source
        self.faults = Faults(self.source, [])
        planned = plan_faults(
            config.faults, config.seed, config.duration_s, seeded, self.fault_kinds
        )
        for fault in planned:
            self._check_kind(fault)
            self.faults.add(fault, source.start_ns)
        self.oracle = Oracle(self.naming)
        self.delivery = Delivery(self.oracle, full)
        self.connections: dict[int, Connection] = {}
        self.opened = 0
        self.started = asyncio.Event()
        self.done = asyncio.Event()
        self.ended = asyncio.Event()
        self.paused = False
        self.resting = asyncio.Event()
        self._step_ns = STEP_NS_MIN
        self._slow: list[tuple[Active, list[Connection]]] = []

    def _check_kind(self, fault: Fault) -> None:
        if fault.kind not in self.fault_kinds:
            known = ", ".join(self.fault_kinds)
            raise ConfigError(f"expected a fault of {known}, got {fault.kind!r}")

    @abstractmethod
    def routes(self) -> Sequence[web.RouteDef]:
        """Returns the venue's own paths, for streams and for requests."""

    @abstractmethod
    def ready(self) -> dict[str, object]:
        """Returns what the first line says beside the port."""

    @property
    @abstractmethod
    def requests(self) -> dict[str, int]:
        """Requests that were answered and refused, by path and status."""

    @abstractmethod
    def receive(self, connection: Connection, received: bytes, is_text: bool) -> bool:
        """Takes in a message; returns whether the connection may stay."""

    def announce(self, connection: Connection) -> None:
        """Tells that the connection will end, where the venue does."""
        return

    def overflow(self, connection: Connection) -> None:
        """Tells a client that it reads too slowly, right before it is cut, where the venue does."""
        return

    def application(self) -> web.Application:
        """Returns the routes of everything."""
        application = web.Application()
        application.add_routes(self.routes())
        application.add_routes(
            [
                web.get("/sim/state", self._say(self._state)),
                web.get("/sim/oracle", self._say(self._report)),
                web.post("/sim/fault", self._take_fault),
                web.post("/sim/start", self._take_start),
                web.post("/sim/pause", self._take_pause),
            ]
        )
        return application

    # Connections.

    def find(self, name: str) -> int | None:
        """Returns the number of the stream called `name`, and makes its frames from now on."""
        number = self.source.stream(name)
        if number is not None:
            self.source.want(number)
            names = self.delivery.names
            names.extend([""] * (number + 1 - len(names)))
            names[number] = name
        return number

    async def converse(self, connection: Connection, request: web.Request) -> None:
        """Speaks with a connection that was opened until it ends."""
        link = Link(connection.number, request.path_qs, self.source.now)
        self.oracle.links[connection.number] = link
        self.connections[connection.number] = connection
        try:
            await self._converse(connection)
        finally:
            self.connections.pop(connection.number, None)
            self.delivery.forget(connection)
            link.closed_ns = link.closed_ns or self.source.now
            link.reason = connection.closing or "left"

    async def _converse(self, connection: Connection) -> None:
        async for received in connection.socket:
            if not connection.admit():
                await self.refuse(connection, 1008, "Too many requests")
                return
            match received.type:
                case WSMsgType.TEXT | WSMsgType.BINARY:
                    is_text = received.type is WSMsgType.TEXT
                    data = received.data.encode() if is_text else received.data
                    if not self.receive(connection, data, is_text):
                        await self.refuse(connection, 1003, "Unsupported data")
                        return
                case WSMsgType.PING:
                    connection.write(message(PONG, received.data))
                case WSMsgType.PONG:
                    # An unsolicited pong does not keep a connection alive.
                    if received.data:
                        connection.ponged_at = time.monotonic()

    async def refuse(self, connection: Connection, code: int, reason: str) -> None:
        """Closes a connection by way of the library, whose own close frame would be a second."""
        connection.closing = connection.closing or reason
        await connection.socket.close(code=code, message=reason.encode())

    async def keep(self) -> None:
        """Pings, and ends what is too old, too quiet or too slow; until cancelled."""
        limits, last = self.config.limits, time.monotonic()
        while True:
            await asyncio.sleep(0.02)
            now = time.monotonic()
            for connection in list(self.connections.values()):
                connection.trickle(now - last)
                if now - connection.pinged_at >= limits.ping_s:
                    connection.pinged_at = now
                    connection.write(message(PING, b"%d" % (time.time_ns() // 1_000_000)))
                if now - connection.ponged_at >= limits.pong_s + limits.ping_s:
                    self._end(connection, 1008, "Pong timeout")
                elif now - connection.opened_at >= limits.age_s:
                    self._end(connection, 1001, "24 hours are over")
                elif connection.unread_bytes > limits.buffer_bytes_max:
                    self.overflow(connection)
                    connection.closing = "slow consumer"
                    self.oracle.links[connection.number].drained = False
                    connection.reset()
            last = now

    def _end(self, connection: Connection, code: int, reason: str) -> None:
        self.delivery.flush([connection])
        connection.say_goodbye(code, reason)
        self.oracle.links[connection.number].closed_ns = self.source.now
        loop = asyncio.get_running_loop()
        loop.call_later(GOODBYE_S_MAX, connection.transport.close)

    # Time.

    async def pump(self) -> None:
        """Moves time from start to end."""
        if self.config.wait:
            await self._wait_for_listeners()
        self.started.set()
        if not self.config.start_ns and self.source.rest_ns:
            # Waiting took time that the simulated clock has yet to make up for.
            late_ns = time.time_ns() - self.source.start_ns
            if self.config.wait and self.config.speed and self.source.end_ns is None:
                self.source.advance(self.source.now + late_ns, other=False)
        origin_s, origin_ns = time.monotonic(), self.source.now
        while self.source.end_ns is None or self.source.now < self.source.end_ns:
            if self.paused:
                await self._rest()
                await self._begin_faults()
                await asyncio.sleep(TICK_S)
                origin_s, origin_ns = time.monotonic(), self.source.now
                continue
            if self.config.speed:
                elapsed_s = time.monotonic() - origin_s
                to_ns = origin_ns + int(elapsed_s * self.config.speed * NS_PER_S)
            else:
                await self._wait_for_readers()
                to_ns = self.source.now + self._step_ns
            allowed_ns = self._allow(to_ns)
            await self._advance(allowed_ns)
            if self.config.speed or allowed_ns <= self.source.now < to_ns:
                await asyncio.sleep(TICK_S)
            else:
                await asyncio.sleep(0)
            if allowed_ns < to_ns:
                origin_s, origin_ns = time.monotonic(), self.source.now
        self.delivery.flush(self.connections.values())
        self.done.set()
        while True:
            # The venue has nothing more to say, and its connections can still break.
            await self._begin_faults()
            await asyncio.sleep(TICK_S)

    async def _rest(self) -> None:
        """Brings time to where every depth stream has told all, so that books can be compared."""
        rest_ns = self.source.rest_ns
        part_ns = self.source.now % rest_ns if rest_ns else 0
        if rest_ns and part_ns:
            if self.config.speed:
                # Nothing is told of before it happens: at the speed 1 by the clock of the machine.
                await asyncio.sleep((rest_ns - part_ns) / (self.config.speed * NS_PER_S))
            await self._advance(self._allow(self.source.now + rest_ns - part_ns))
        else:
            self.resting.set()

    def _allow(self, to_ns: int) -> int:
        """Returns how far time may go in one step: faults begin exactly when they should."""
        if self.source.end_ns is not None:
            to_ns = min(to_ns, self.source.end_ns)
        if self.faults.next_ns is not None:
            to_ns = min(to_ns, max(self.faults.next_ns, self.source.now))
        return self.source.clip(to_ns)

    async def _advance(self, to_ns: int) -> None:
        other = any(connection.other for connection in self.connections.values())
        frames = self.source.advance(to_ns, other)
        if not self.config.speed:
            if len(frames) < FRAMES_WANTED // 2:
                self._step_ns = min(self._step_ns * 2, STEP_NS_MAX)
            elif len(frames) > FRAMES_WANTED * 2:
                self._step_ns = max(self._step_ns // 2, STEP_NS_MIN)
        hits = self.faults.hits(frames, self.delivery.names)
        self.delivery.send(frames, self.connections.values(), hits, self.source.now)
        await self._begin_faults()
        for active, victims in list(self._slow):
            if self.source.now >= active.end_ns:
                self._slow.remove((active, victims))
                for connection in victims:
                    connection.throttle = None

    async def _begin_faults(self) -> None:
        for active in self.faults.begin(self.source.now):
            await self._strike(active)

    async def _strike(self, active: Active) -> None:
        fault = active.fault
        victims = [
            connection
            for connection in self.connections.values()
            if connection.is_open and fault.connection in (None, connection.number)
        ]
        if fault.kind == "slow":
            for connection in victims:
                connection.throttle = fault.amount or 10_000.0
            self._slow.append((active, victims))
        elif fault.kind == "cut":
            for connection in victims:
                link = self.oracle.links[connection.number]
                self.delivery.flush([connection])
                connection.throttle = None
                connection.trickle(0.0)
                link.drained = await self._drain(connection)
                connection.closing = "cut"
                link.closed_ns = self.source.now
                connection.reset()
        elif fault.kind == "close":
            for connection in victims:
                self._end(connection, 1001, "close")
        elif fault.kind == "shutdown":
            for connection in victims:
                self.announce(connection)
                loop = asyncio.get_running_loop()
                delay = fault.duration_s or self.shutdown_s
                loop.call_later(delay, self._end, connection, 1001, "shutdown")
        else:
            return
        active.hits += len(victims)
        active.left = 0

    async def _drain(self, connection: Connection) -> bool:
        """Waits until the other side's kernel has everything; returns whether it has."""
        until = time.monotonic() + DRAIN_S_MAX
        raw = connection.transport.get_extra_info("socket")
        while time.monotonic() < until and not connection.transport.is_closing():
            unsent = struct.unpack("i", fcntl.ioctl(raw.fileno(), termios.TIOCOUTQ, bytes(4)))[0]
            if not connection.unread_bytes and not unsent:
                return True
            await asyncio.sleep(0.001)
        return False

    async def _wait_for_readers(self) -> None:
        # Transports have no event for what is unread in them.
        while any(  # noqa: ASYNC110
            connection.is_open and connection.unread_bytes > UNREAD_BYTES_MAX
            for connection in self.connections.values()
        ):
            await asyncio.sleep(0.001)

    async def _wait_for_listeners(self) -> None:
        while not self.started.is_set():
            await asyncio.sleep(0.01)
            listening = [one for one in self.connections.values() if any(one.mask)]
            if not listening:
                continue
            changed = max(connection.changed_at for connection in self.connections.values())
            if time.monotonic() - changed >= self.config.settle_s:
                return

    # The control interface.

    def _state(self) -> dict[str, object]:
        return {
            "now_ns": self.source.now,
            "start_ns": self.source.start_ns,
            "end_ns": self.source.end_ns,
            "started": self.started.is_set(),
            "done": self.done.is_set(),
            "connections": len(self.connections),
            "opened": self.opened,
            "streams": sum(len(one.names) for one in self.connections.values()),
            "unread_bytes": sum(one.unread_bytes for one in self.connections.values()),
            "frames": sum(of.count for of in self.oracle.delivered.values()),
            "requests": self.requests,
        }

    def _report(self) -> dict[str, object]:
        facts = {symbol: self.source.facts(symbol) for symbol in self.source.symbols}
        return {
            **self.ready(),
            "seed": self.config.seed,
            **self._state(),
            "faults": self.faults.report(),
            **self.oracle.report(facts),
        }

    def report(self) -> str:
        """Returns the oracle's report as JSON."""
        return json.dumps(self._report())

    def _say(
        self, make: Callable[[], dict[str, object]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def say(request: web.Request) -> web.Response:
            return web.json_response(make())

        return say

    async def _take_fault(self, request: web.Request) -> web.Response:
        try:
            fault = parse_fault(await request.json())
            self._check_kind(fault)
        except (ConfigError, json.JSONDecodeError) as error:
            return web.json_response({"error": str(error)}, status=400)
        active = self.faults.add(fault, self.source.now)
        until = time.monotonic() + BEGIN_S_MAX
        # What is to begin at once has begun when the answer is read.
        while self._is_due(active) and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        return web.json_response({"number": active.number, "begin_ns": active.begin_ns})

    def _is_due(self, active: Active) -> bool:
        return not active.fault.at_s and self.faults.is_coming(active)

    async def _take_start(self, request: web.Request) -> web.Response:
        self.started.set()
        return web.json_response({})

    async def _take_pause(self, request: web.Request) -> web.Response:
        self.resting.clear()
        self.paused = bool((await request.json()).get("paused", True))
        if self.paused and self.started.is_set() and not self.done.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.resting.wait(), REST_S_MAX)
        return web.json_response({"paused": self.paused, "now_ns": self.source.now})


async def serve(server: Server, ended: asyncio.Event) -> None:
    """Serves until `ended` is set or, where the config says so, until all was sent."""
    config = server.config
    runner = web.AppRunner(server.application(), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, config.host, config.port)
    await site.start()
    port = runner.addresses[0][1]
    print(json.dumps({"port": port, **server.ready()}), flush=True)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(server.pump()), group.create_task(server.keep())]
        stopping = group.create_task(_until_end(server, ended))
        await stopping
        for task in tasks:
            task.cancel()
    for connection in list(server.connections.values()):
        connection.say_goodbye(1001, "done")
    await asyncio.sleep(0.05)
    if config.oracle:
        config.oracle.write_text(server.report(), encoding="utf-8")
    await runner.cleanup()
    sys.stdout.flush()


async def _until_end(server: Server, ended: asyncio.Event) -> None:
    waits = [asyncio.ensure_future(ended.wait())]
    if server.config.exit_at_end:
        waits.append(asyncio.ensure_future(server.done.wait()))
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
