"""One connection of a session, a WebSocket: frames in, control messages out.

Every frame is put into the ingest before anything else looks at it, and all frames of one read
from the socket are published together. Nothing here starts a task: the session awaits `open`,
`subscribe` and `changed`.
"""

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from tapeworks._core import Ingest, SocketReader, numbers
from tapeworks.errors import VenueError
from tapeworks.feeds.base import CUT_MARK, Clock, Control, ControlKind, Feed, Line, Subscriptions
from tapeworks.feeds.limits import Backoff, LogSampler, RateLimiter
from tapeworks.feeds.socket import read_directly, to_wire

KIND_TEXT, KIND_BINARY = numbers("blob_kind")["text"], numbers("blob_kind")["binary"]
FRAME_BYTES_MAX = 16 << 20
FRAGMENTS_MAX = 65_536
"""A message in more fragments than this is an attack or a fault: the connection is dropped."""
UNSENT_BYTES_MAX = 1 << 20
"""A peer that leaves more than this unread of what is sent to it is dropped."""
REPLIES_MAX = 1_000
"""A peer that wants more answers than may be sent to it is dropped."""
TEXT_LOGGED = 200
"""Characters of what the venue said that are logged."""
CUT_BYTES_KEPT = 1 << 20
"""This much of a message that never ended is kept on the raw tape."""
_CLOSE_S = 2.0
_CLOSE, _PING = WSMsgType.CLOSE.value, WSMsgType.PING.value
_CLOSE_CODES = {code.value: code for code in WSCloseCode}

_log = logging.getLogger("tapeworks.feeds")
# What the socket's library has to say is known here already, but for its warnings.
_socket_log = logging.getLogger("tapeworks.feeds.socket")
_socket_log.setLevel(logging.WARNING)


class Connection(WSListener):
    """A socket that carries the streams of one line."""

    def __init__(
        self,
        number: int,
        line: Line,
        feed: Feed,
        ingest: Ingest,
        flush: Callable[[], None],
        clock: Clock,
    ) -> None:
        self.number = number
        self.line = line
        self.opened_at = 0.0
        self.pinged_at = 0.0
        self._beat_at = 0.0
        self._probed_at = 0.0
        self.heard_ns = 0
        """When the last read of data was, by the wall clock; 0 before the first."""
        self.heard_at = 0.0
        """The same by the clock that only rises."""
        self.subscribed = False
        self.subscribed_at = 0.0
        self.closed = False
        self.closed_at = 0.0
        self.carried: dict[str, int] = {}
        """Messages of each stream, once closed."""
        self.changed = asyncio.Event()
        """Set when it closed, or should be replaced."""
        self.replace_reason = ""
        self.close_reason = ""
        self.denied: VenueError | None = None
        """Why the venue lets this client in no more, if it said so."""
        self.stops = False
        """Whether it is closed because the recorder stops."""
        self.alarmed: set[str] = set()
        """Streams whose silence was reported."""
        self.failed: list[str] = []
        self.unknown_frames = LogSampler()
        """Frames that are neither market data nor a control message."""
        self.refusals = LogSampler()
        self._feed = feed
        self._ingest = ingest
        self._reader = SocketReader(
            ingest, number, message_bytes_max=FRAME_BYTES_MAX, fragments_max=FRAGMENTS_MAX
        )
        self._flush = flush
        self._clock = clock
        self._message_type = WSMsgType.BINARY if feed.sends_binary else WSMsgType.TEXT
        self._transport: WSTransport | None = None
        # Binance counts pongs as well; a window of slightly over a second leaves room for jitter.
        self._limiter = RateLimiter(max(1, int(feed.rules.sends_per_s)), 1.05)
        self._subscriptions: Subscriptions | None = None
        self._answered = asyncio.Event()
        self._gone = asyncio.Event()
        self._ts = 0
        self._pong_due: bytes | None = None
        """The newest ping that the rate limit kept from being answered at once."""
        self._replies: deque[bytes] = deque()
        """What is to be sent back, in that order, as the rate limit allows."""

    async def open(self, context: ssl.SSLContext | None) -> None:
        """Connects.

        Raises:
            OSError, TimeoutError, picows.WSError: it could not be done.
            VenueError: the feed has no way to subscribe.
        """
        self._subscriptions = self._feed.subscriptions(self.line.streams)
        timeout = self._feed.rules.connect_s
        async with asyncio.timeout(timeout):
            self._transport, _ = await ws_connect(
                lambda: self,
                self.line.url,
                ssl_context=context,
                websocket_handshake_timeout=timeout,
                enable_auto_pong=False,
                enable_auto_ping=False,
                max_frame_size=FRAME_BYTES_MAX,
                read_buffer_init_size=256 * 1024,
                extra_headers=self.line.headers or None,
                proxy=self._feed.proxy,
                logger_name=_socket_log,
            )

    async def subscribe(self) -> None:
        """Subscribes to all streams of the line and verifies it.

        Raises:
            VenueError: the venue did not answer in time, or the connection closed meanwhile.
        """
        talk = self._subscriptions
        if talk is None:
            raise VenueError("this connection was not opened")
        deadline, sent = self._clock.now() + self._feed.rules.ack_s, b""
        while not talk.done:
            if self.denied is not None:
                raise self.denied
            if self.closed:
                raise VenueError("the venue closed the connection while subscribing")
            message = talk.next()
            if message is not None:
                await self._paced(message)
                # A venue that asks for the same again and again answers nothing.
                if message != sent:
                    deadline = self._clock.now() + self._feed.rules.ack_s
                sent = message
                continue
            self._answered.clear()
            wait = deadline - self._clock.now()
            if wait <= 0 and talk.give_up():
                continue
            if wait <= 0:
                raise VenueError(f"no answer to a subscription in {self._feed.rules.ack_s} s")
            try:
                async with asyncio.timeout(wait):
                    await self._answered.wait()
            except TimeoutError:
                continue
        self.subscribed = True
        self.subscribed_at = self._clock.now()
        self.failed = list(talk.failed)
        self._ingest.subscribed(self.number, self.failed, self._clock.wall_ns())
        self._flush()
        for stream in self.failed:
            _log.error(
                "subscription failed line=%s connection=%d stream=%s",
                self.line.name,
                self.number,
                stream,
            )

    def pause_s(self, backoff: Backoff) -> float:
        """Returns how long to wait after it before another is opened.

        Raises:
            VenueError: the venue denied it for good.
        """
        if self.denied is None:
            return backoff.delay()
        if not self.denied.retry_after_ms:
            raise self.denied
        return max(backoff.delay(), self.denied.retry_after_ms / 1000)

    def replace(self, reason: str) -> None:
        """Asks the session to open another connection and then close this one."""
        if not self.replace_reason:
            self.replace_reason = reason
            self.changed.set()

    def kill(self, reason: str) -> None:
        """Drops the connection at once."""
        self.close_reason = self.close_reason or reason
        if self._transport is not None:
            self._transport.disconnect(graceful=False)

    def beat(self, now: float) -> None:
        """Sends what is due: the heartbeat, and replies that had to wait. Call it every second.

        Drops a peer that does not read what is sent to it.
        """
        if self._transport is None or self.closed:
            return
        unsent = self._transport.underlying_transport.get_write_buffer_size()
        if unsent > UNSENT_BYTES_MAX:
            self.kill(f"the venue does not read what is sent: {unsent} bytes wait")
            return
        if self._pong_due is not None and self._limiter.try_take(now):
            self._transport.send_pong(self._pong_due)
            self._pong_due = None
        self._send_replies(now)
        probe_s = self._feed.rules.probe_s
        if probe_s is not None and now - self._probed_at >= probe_s:
            self._probed_at = now
            self._limiter.spend(now)
            self._transport.send_ping()
        heartbeat_s = self._feed.rules.heartbeat_s
        if heartbeat_s is None or now - self._beat_at < heartbeat_s:
            return
        self._beat_at = now
        message = self._feed.heartbeat()
        if message:
            self.send_now(message, now)

    @property
    def is_replying(self) -> bool:
        """Whether something is still to be sent back."""
        return bool(self._replies)

    def _send_replies(self, now: float) -> None:
        """Sends what is to be sent back, as far as the rate limit allows."""
        if self._transport is not None and not self.closed:
            while self._replies and self._limiter.try_take(now):
                self._transport.send(self._message_type, self._replies.popleft())

    def send_now(self, message: bytes, now: float) -> None:
        """Sends what cannot wait."""
        if self._transport is not None and not self.closed:
            self._limiter.spend(now)
            self._transport.send(self._message_type, message)

    async def close(self) -> None:
        """Closes in good order within two seconds, and else at once."""
        if self._transport is None or self.closed:
            return
        self.close_reason = self.close_reason or "closed by us"
        self._transport.send_close()
        self._transport.disconnect()
        for _ in range(2):
            try:
                async with asyncio.timeout(_CLOSE_S):
                    await self._gone.wait()
                return
            except TimeoutError:
                # Its end must be on the tape before its number is another connection's.
                self._transport.disconnect(graceful=False)
        self._end()

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Notes the connection on the raw tape."""
        self._transport = transport
        self._note_opened()

    def _note_opened(self) -> None:
        self.opened_at = self.pinged_at = self._beat_at = self.heard_at = self._clock.now()
        self._probed_at = self.opened_at
        for stream in self.line.streams:
            self._ingest.watch(
                self.number, stream, self._feed.symbol(stream), self._feed.channel(stream)
            )
        self._ingest.connected(self.number, self.line.group, self._clock.wall_ns())
        self._flush()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Takes in a frame that came before reads are passed on as a whole."""
        wire = to_wire(frame)
        self._take_in(transport, wire, len(wire))
        if frame.last_in_buffer:
            self._ts = 0
            self._flush()
            # With bytes left in the buffer, what is still to be read would lack its front.
            if frame.tail_size == 0 and not self.closed:
                read_directly(transport, self._on_read)

    def _on_read(self, buffer: bytearray, count: int) -> None:
        """Takes in one read of the socket, and publishes all that ended in it."""
        if self._transport is not None:
            self._take_in(self._transport, buffer, count)
        self._ts = 0
        self._flush()

    def _take_in(self, transport: WSTransport, data: bytes | bytearray, count: int) -> None:
        # One time for all frames of a read: that is when they reached this process.
        if not self._ts:
            self._ts = self.heard_ns = self._clock.wall_ns()
            self.heard_at = self._clock.now()
        for opcode, code, payload in self._reader.receive(data, count, self._ts):
            if opcode in (KIND_TEXT, KIND_BINARY):
                self._shown(payload)
            elif opcode == _PING:
                self._on_ping(transport, payload)
            elif opcode == _CLOSE:
                reason = f"close code {code} {payload.decode()}" if code else "close without a code"
                self.close_reason = self.close_reason or reason
                transport.send_close(_CLOSE_CODES.get(code, WSCloseCode.OK))
                transport.disconnect()
            else:
                transport.send_close(_CLOSE_CODES[code])
                self.kill(payload.decode())

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Publishes what is left and notes the end on the raw tape."""
        self._end()

    def _end(self) -> None:
        """Notes the end, once."""
        if self.closed:
            return
        self.closed = True
        self.closed_at = self._clock.now()
        self.carried = {name: n for name, n, _, _ in self._ingest.activity(self.number)}
        self.close_reason = self.close_reason.strip() or "cut"
        self._keep_cut_message()
        self._ingest.disconnected(self.number, self._clock.wall_ns(), self.stops)
        self._flush()
        self._gone.set()
        self._answered.set()
        self.changed.set()

    def _on_ping(self, transport: WSTransport, payload: bytes) -> None:
        """Answers a ping, or keeps the newest of many for later: one pong answers all of them."""
        self.pinged_at = self._clock.now()
        if self._limiter.try_take(self.pinged_at):
            self._pong_due = None
            transport.send_pong(payload)
        else:
            self._pong_due = payload

    def _keep_cut_message(self) -> None:
        """Puts what came of a message that never ended on the raw tape: a dead letter."""
        unfinished = self._reader.unfinished()
        if unfinished is not None and unfinished[1]:
            kind, payload = unfinished
            now_ns, mark = self._clock.wall_ns(), CUT_MARK.encode()
            self._ingest.receive(self.number, kind, now_ns, payload[:CUT_BYTES_KEPT], mark)

    def _shown(self, payload: bytes) -> None:
        """Handles a frame that does not start like market data. It is on its way to the tape."""
        control = self._feed.control(payload)
        for secret in self._feed.secrets:
            # A venue may tell a login back: what it says is logged and shown.
            control = replace(control, message=control.message.replace(secret, "***"))
            payload = payload.replace(secret.encode(), b"***")
        self._handle(payload, control)

    def _handle(self, payload: bytes, control: Control) -> None:
        if control.reply:
            self._replies.append(control.reply)
            self._send_replies(self._clock.now())
            if len(self._replies) > REPLIES_MAX:
                self.kill(f"the venue wants more than {REPLIES_MAX} answers at once")
        for stream in control.paused:
            ts = self._ts or self.heard_ns
            self._ingest.silent_stream(self.number, stream, ts, ts)
        if control.kind is ControlKind.SHUTDOWN:
            self.replace(control.message[:TEXT_LOGGED] or "the venue announced a shutdown")
        elif control.kind is ControlKind.DENIED:
            reason = f"the venue denies: {control.message[:TEXT_LOGGED]}"
            self.denied = VenueError(reason, retry_after_ms=int(control.retry_after_s * 1000))
            self.kill(reason)
            self._answered.set()
        elif control.kind is ControlKind.UNKNOWN:
            if self.unknown_frames.note():
                _log.warning(
                    "unknown frame line=%s connection=%d count=%d: %s: %r",
                    self.line.name,
                    self.number,
                    self.unknown_frames.count,
                    control.message[:TEXT_LOGGED],
                    payload[:TEXT_LOGGED],
                )
        elif control.kind is ControlKind.DATA:
            for stream in control.streams:
                self._ingest.heard(self.number, stream, self._ts or self.heard_ns)
        else:
            if control.kind is ControlKind.REFUSED and self.refusals.note():
                _log.warning(
                    "refused line=%s connection=%d count=%d: %s",
                    self.line.name,
                    self.number,
                    self.refusals.count,
                    control.message[:TEXT_LOGGED],
                )
            if self._subscriptions is not None:
                self._subscriptions.receive(control)
            self._answered.set()

    async def _paced(self, message: bytes) -> None:
        await asyncio.sleep(self._limiter.take(self._clock.now()))
        if self._transport is not None and not self.closed:
            self._transport.send(self._message_type, message)
