"""The session rules of Binance: what to connect to, how to subscribe, what control frames mean."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import msgspec

from tapeworks.errors import VenueError
from tapeworks.feeds.base import (
    Control,
    ControlKind,
    EndedGap,
    Feed,
    HistoryPage,
    Line,
    LivenessPolicy,
    Request,
    SessionRules,
)
from tapeworks.feeds.binance import history, rest
from tapeworks.feeds.binance.config import BinanceConfig
from tapeworks.feeds.binance.products import PRODUCTS
from tapeworks.feeds.binance.streams import grouped, stream_class, stream_symbol
from tapeworks.feeds.limits import WeightBudget

PARAMS_MAX = 200
"""Streams in one SUBSCRIBE: few messages under the venue's limit of five a second, and still
small frames."""

# The answer of futures is megabytes, and all of it goes to the raw tape.
SPOT_DEFINITIONS_S, FUTURES_DEFINITIONS_S = 300.0, 3600.0

_PRIORITY_DEFINITIONS = 0
_PRIORITY_BROKEN = 1
_PRIORITY_BOOK = 2


class _Error(msgspec.Struct):
    code: int = 0
    msg: str = ""


class _Reply(msgspec.Struct):
    """Any control frame: the reply to a request in both documented forms, or a shutdown."""

    id: int | str | None = None
    result: msgspec.Raw = msgspec.Raw(b"")
    error: _Error | None = None
    code: int | None = None
    msg: str = ""
    e: str = ""
    stream: str = ""
    data: msgspec.Raw = msgspec.Raw(b"")


_REPLY = msgspec.json.Decoder(_Reply)
_NAMES = msgspec.json.Decoder(list[str])


class BinanceFeed(Feed):
    """Binance spot or futures."""

    def __init__(self, config: BinanceConfig) -> None:
        is_futures = PRODUCTS[config.product].is_futures
        self.config = config
        self.native = config.feed
        self.source = config.name
        self.rest_url = config.rest
        self.ca_file = config.ca_file or None
        self.insecure = config.insecure
        self.proxy = config.proxy or None
        self.pending_bytes_max = config.pending_bytes_max
        self.rest_headers = {"X-MBX-TIME-UNIT": "MICROSECOND"} if config.microseconds else {}
        # The documented limits; the first exchangeInfo tells the true ones.
        self.budget = WeightBudget(2400 if is_futures else 6000, share=config.weight_share)
        self.backfill_s = config.backfill_s
        self.snapshot_refresh_s = config.snapshot_refresh_s
        default_s = FUTURES_DEFINITIONS_S if is_futures else SPOT_DEFINITIONS_S
        self.definitions_s = default_s if config.definitions_s < 0 else config.definitions_s
        self.rules = SessionRules(
            sends_per_s=8.0 if is_futures else 4.0,
            # Spot is pinged every 20 s, futures every 3 min.
            ping_s=540.0 if is_futures else 60.0,
            idle_timeout_s=config.idle_timeout_s,
            age_s=config.rotation_s,
        )
        self._snapshot_limit = config.snapshot_limit or (1000 if is_futures else 5000)

    def lines(self) -> Sequence[Line]:
        """Returns one line per routed path and per `streams_max` streams."""
        query = "?timeUnit=MICROSECOND" if self.config.microseconds else ""
        groups = grouped(self.config.product, self.config.streams(), self.config.streams_max)
        return [
            Line(
                name=f"{self.source}/{number}",
                url=f"{self.config.ws}{path}{query}",
                streams=tuple(names),
                group=number,
                copies=self.config.connections,
            )
            for number, (path, names) in enumerate(groups)
        ]

    def subscriptions(self, streams: Sequence[str]) -> "BinanceSubscriptions":
        """Returns the conversation that subscribes and verifies `streams`."""
        return BinanceSubscriptions(streams)

    def control(self, payload: bytes) -> Control:
        """Understands replies, errors nested and flat, and the two forms of serverShutdown."""
        try:
            reply = _REPLY.decode(payload)
        except (msgspec.MsgspecError, RecursionError, ValueError) as error:
            return Control(ControlKind.UNKNOWN, message=str(error) or type(error).__name__)
        if reply.e == "serverShutdown" or reply.stream == "!serverShutdown":
            return Control(ControlKind.SHUTDOWN)
        if reply.error is not None:
            text = f"code {reply.error.code}: {reply.error.msg}"
            return Control(ControlKind.REFUSED, reply.id, text)
        if reply.code is not None:
            return Control(ControlKind.REFUSED, reply.id, f"code {reply.code}: {reply.msg}")
        if reply.stream or reply.e or bytes(reply.data):
            return Control(ControlKind.DATA)
        if bytes(reply.result) not in (b"", b"null"):
            try:
                return Control(
                    ControlKind.LISTING, reply.id, streams=tuple(_NAMES.decode(reply.result))
                )
            except (msgspec.MsgspecError, RecursionError, ValueError):
                return Control(ControlKind.ACK, reply.id)
        if reply.id is not None:
            return Control(ControlKind.ACK, reply.id)
        return Control(ControlKind.UNKNOWN, message="neither a reply nor an event")

    def liveness(self, stream: str) -> LivenessPolicy:
        """Returns what the table of streams says of `stream`."""
        return stream_class(stream).liveness

    def symbol(self, stream: str) -> str:
        """Returns the venue symbol, upper case."""
        return stream_symbol(stream)

    def channel(self, stream: str) -> str:
        """Returns the core's name of the channel."""
        return stream_class(stream).channel

    def opening_requests(self) -> Sequence[Request]:
        """Returns the request for the definitions, and with them the rate limits."""
        return [self.definitions_request(self.config.symbols)]

    def definitions_request(self, symbols: Sequence[str]) -> Request:
        """Returns the request for the definitions of `symbols`; of futures it names none."""
        product = self.config.product
        return rest.exchange_info_request(product, symbols, _PRIORITY_DEFINITIONS)

    def without(self, symbols: Sequence[str]) -> Sequence[str]:
        """Leaves out `symbols`, which the venue does not know; returns their streams."""
        asked = self.config.streams()
        kept = tuple(symbol for symbol in self.config.symbols if symbol not in symbols)
        self.config = replace(self.config, symbols=kept)
        carried = set(self.config.streams())
        return [stream for stream in asked if stream not in carried]

    def snapshot_request(self, symbol: str, *, broken: bool) -> Request | None:
        """Returns the request for the whole book; broken books go first."""
        priority = _PRIORITY_BROKEN if broken else _PRIORITY_BOOK
        return rest.depth_request(self.config.product, symbol, self._snapshot_limit, priority)

    def history_request(self, gap: EndedGap) -> Request | None:
        """Returns the request for trades by their ids, where all may ask for them."""
        return history.request_for(self.config.product, gap)

    def history_page(self, request: Request, body: bytes) -> HistoryPage | None:
        """Returns how far an answer reaches, and the request for the next page."""
        return history.page_of(request, body)

    def flaw(self, request: Request, body: bytes) -> str:
        """Finds bodies that are cut, or no JSON at all, such as the page of a gateway."""
        return "" if rest.is_whole(body) else f"not one whole JSON value, {len(body)} bytes"

    def answered(
        self, request: Request, headers: Mapping[str, str], body: bytes, wall_s: float
    ) -> None:
        """Reads the used weight from the headers, and the limits from exchangeInfo."""
        self.budget.told(rest.weight_used(headers, 60), wall_s)
        if "exchangeInfo" in request.path:
            for limit in rest.rate_limits(body):
                if limit.kind == "REQUEST_WEIGHT" and limit.window_s == 60:
                    self.budget.change_limit(limit.limit)

    def refused(
        self, status: int, headers: Mapping[str, str], body: bytes, wall_s: float
    ) -> VenueError:
        """Reads Retry-After and the code; 418 and 429 are never asked again too early."""
        self.budget.told(rest.weight_used(headers, 60), wall_s)
        return rest.refusal(status, headers, body, int(wall_s * 1000))

    def books(self) -> Sequence[str]:
        """Returns all symbols when diff depth is recorded, else none."""
        return self.config.symbols if "depth" in self.config.channels else ()


class BinanceSubscriptions:
    """Subscribes one connection in batches and verifies it with LIST_SUBSCRIPTIONS.

    The venue refuses a whole batch for one bad name, and may forget one without a word. A refused
    batch is halved until the bad name stands alone; a name that the list lacks is asked for once
    more, and then counts as failed.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._wanted = tuple(names)
        self._queue = [
            list(names[start : start + PARAMS_MAX]) for start in range(0, len(names), PARAMS_MAX)
        ]
        self._waiting: dict[int, list[str]] = {}
        self._failed: dict[str, str] = {}
        self._listing: int | None = None
        self._verified = False
        self._retried: set[str] = set()
        self._id = 0

    @property
    def done(self) -> bool:
        """Whether every stream is either live or failed."""
        return self._verified

    @property
    def failed(self) -> Sequence[str]:
        """The streams that the venue refused or forgot."""
        return list(self._failed)

    @property
    def reasons(self) -> Mapping[str, str]:
        """Why each failed stream failed."""
        return self._failed

    def next(self) -> bytes | None:
        """Returns the next SUBSCRIBE; after the last answer, the LIST_SUBSCRIPTIONS."""
        if self._queue:
            batch = self._queue.pop(0)
            self._id += 1
            self._waiting[self._id] = batch
            return msgspec.json.encode({"method": "SUBSCRIBE", "params": batch, "id": self._id})
        if not self._waiting and self._listing is None and not self._verified:
            self._id += 1
            self._listing = self._id
            return msgspec.json.encode({"method": "LIST_SUBSCRIPTIONS", "id": self._id})
        return None

    def receive(self, control: Control) -> None:
        """Takes in a reply; one without an id belongs to the oldest request."""
        number = control.id if control.id is not None else next(iter(self._waiting), None)
        if control.kind is ControlKind.REFUSED:
            self._refused(number, control.message)
        elif number is not None and number == self._listing:
            self._listed(control.streams)
        elif isinstance(number, int):
            self._waiting.pop(number, None)

    def give_up(self) -> bool:
        """Says no: one answer is of all streams of a request."""
        return False

    def _refused(self, number: int | str | None, message: str) -> None:
        if number is not None and number == self._listing:
            # A venue that does not list cannot be verified; the first messages will tell.
            self._verified = True
            return
        batch = self._waiting.pop(number, []) if isinstance(number, int) else []
        if len(batch) == 1:
            self._failed[batch[0]] = message
        elif batch:
            middle = len(batch) // 2
            self._queue += [batch[:middle], batch[middle:]]

    def _listed(self, live: Sequence[str]) -> None:
        self._listing = None
        lacking = [s for s in self._wanted if s not in set(live) and s not in self._failed]
        for stream in [s for s in lacking if s in self._retried]:
            self._failed[stream] = "acknowledged, and not in the list of subscriptions"
        again = [s for s in lacking if s not in self._retried]
        self._retried.update(again)
        self._queue += [again[i : i + PARAMS_MAX] for i in range(0, len(again), PARAMS_MAX)]
        self._verified = not self._queue
