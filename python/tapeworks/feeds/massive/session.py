"""The session rules of Massive: the key, subscriptions, and what statuses mean."""

import os
from collections.abc import Mapping, Sequence

import msgspec

from tapeworks.errors import ConfigError, VenueError
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
from tapeworks.feeds.hours import ExchangeHours, TradingHours
from tapeworks.feeds.limits import WeightBudget
from tapeworks.feeds.massive import channels, history
from tapeworks.feeds.massive.config import MassiveConfig
from tapeworks.feeds.massive.news import NewsPolls

KEY_VARIABLES = ("MASSIVE_API_KEY", "POLYGON_API_KEY")
NAMES_MAX = 500
"""Streams in one message."""
CONNECTIONS_PAUSE_S = 60.0
"""After too many connections, the next is opened no sooner: trying again at once burns both."""
AUTH_PAUSE_S = 1.0
PROBE_S = 20.0
"""An idle market sends nothing: only the answer to a ping tells that the connection lives."""
IDLE_S = 60.0
"""Least silence of a symbol that spoke often which is a loss; see `LivenessPolicy.learned`."""
# The venue names no age at which it cuts; it allows one connection, so that a rotation is a gap.
NEVER_S = 1e9

SUBSCRIBED = "subscribed to: "
CONNECTED, AUTHENTICATED = "connected", "auth_success"
CUTS = ("slow_consumer", "force_disconnect")
LEARNED = LivenessPolicy(None, IDLE_S, learned=True)


class _Event(msgspec.Struct):
    """What tells statuses from data, and what they say."""

    ev: str = ""
    status: str = ""
    message: str = ""


_FRAME = msgspec.json.Decoder(list[_Event])


class MassiveFeed(Feed):
    """One market of Massive, on the one connection that it allows."""

    native = "massive"

    def __init__(self, config: MassiveConfig) -> None:
        self.config = config
        self.source = config.name
        self.ca_file = config.ca_file or None
        self.insecure = config.insecure
        self.proxy = config.proxy or None
        self.pending_bytes_max = config.pending_bytes_max
        self.rest_url = config.rest
        self.backfill_s = config.backfill_s
        self.delay_s = config.delay_s
        self.budget = WeightBudget(300)
        self._news = NewsPolls(config.symbols, config.news_poll_s, config.product)
        self.rules = SessionRules(
            overlap_s=0.0, age_s=NEVER_S, idle_timeout_s=config.idle_timeout_s, probe_s=PROBE_S
        )
        self._hours: TradingHours | None = (
            ExchangeHours(config.calendar) if config.calendar else None
        )
        self._key = config.api_key or next(
            (found for name in KEY_VARIABLES if (found := os.environ.get(name))), ""
        )
        if not self._key:
            raise ConfigError(
                f"{config.name}: no API key: set {KEY_VARIABLES[0]} in the environment to the key "
                "of your account"
            )
        self.secrets = (self._key,)
        self.rest_headers = {"Authorization": f"Bearer {self._key}"}

    def lines(self) -> Sequence[Line]:
        """Returns the one line that the venue allows for each market."""
        url = f"{self.config.ws}/{self.config.product}"
        return [Line(f"{self.source}/0", url, tuple(self.config.streams()))]

    def subscriptions(self, streams: Sequence[str]) -> "MassiveSubscriptions":
        """Returns the conversation: greeting, key, subscriptions channel by channel."""
        return MassiveSubscriptions(self._key, streams)

    def control(self, payload: bytes) -> Control:
        """Understands an array of statuses by the one that matters most."""
        try:
            events = _FRAME.decode(payload)
        except (msgspec.MsgspecError, RecursionError, ValueError) as error:
            return Control(ControlKind.UNKNOWN, message=str(error) or type(error).__name__)
        statuses = [event for event in events if event.ev == "status"]
        if not statuses:
            return Control(ControlKind.DATA)
        named = {event.status: event.message or event.status for event in statuses}
        accepted = tuple(
            name
            for event in statuses
            if event.status == "success" and event.message.startswith(SUBSCRIBED)
            for name in event.message.removeprefix(SUBSCRIBED).split(",")
        )
        return _meaning(named, accepted)

    def liveness(self, stream: str) -> LivenessPolicy:
        """Says that a symbol which spoke often may not fall silent, where hours are known."""
        channel = stream.partition(".")[0]
        if channel not in channels.RECORDS or channel == "FMV":
            return LivenessPolicy()
        has_hours = self._hours is not None or self.config.product == "crypto"
        return LEARNED if has_hours else LivenessPolicy()

    def is_trading(self, stream: str, wall_ns: int) -> bool:
        """Says whether it is within the regular hours, where these are known."""
        return self._hours is None or self._hours.is_open(wall_ns)

    def symbol(self, stream: str) -> str:
        """Returns the symbol of the stream's events."""
        return channels.stream_symbol(stream)

    def channel(self, stream: str) -> str:
        """Returns the core's name of the channel."""
        return channels.record_channel(stream)

    def polls(self, now: float, wall_ns: int) -> Sequence[Request]:
        """Returns the requests for news that are due."""
        return self._news.due(now, wall_ns)

    def answered(
        self, request: Request, headers: Mapping[str, str], body: bytes, wall_s: float
    ) -> None:
        """Sees whether an answer about news goes on."""
        self._news.answered(request, headers, body, wall_s)

    def history_request(self, gap: EndedGap) -> Request | None:
        """Returns the request for trades or quotes of the time of a gap."""
        return history.request_for(self.config.product, gap)

    def history_page(self, request: Request, body: bytes) -> HistoryPage | None:
        """Returns how far an answer reaches, and the request for the next page."""
        return history.page_of(request, body)

    def refused(
        self, status: int, headers: Mapping[str, str], body: bytes, wall_s: float
    ) -> VenueError:
        """Reads the reason; 429 is asked again after its time, and what the plan has not never."""
        return history.refusal(status, headers, body)


def _meaning(named: dict[str, str], accepted: tuple[str, ...]) -> Control:
    """Returns what statuses mean, by name and message, of which some accept streams."""
    if "auth_failed" in named:
        advice = "check the key, and whether the plan has this market"
        return Control(ControlKind.DENIED, message=f"{named['auth_failed']}: {advice}")
    if "max_connections" in named:
        return Control(
            ControlKind.DENIED,
            message=named["max_connections"],
            retry_after_s=CONNECTIONS_PAUSE_S,
        )
    if "auth_timeout" in named:
        message = named["auth_timeout"]
        return Control(ControlKind.DENIED, message=message, retry_after_s=AUTH_PAUSE_S)
    if any(status in named for status in CUTS):
        return Control(ControlKind.SHUTDOWN)
    if "error" in named:
        return Control(ControlKind.REFUSED, message=named["error"], streams=accepted)
    for status in (AUTHENTICATED, CONNECTED):
        if status in named:
            return Control(ControlKind.ACK, id=status)
    if accepted or "success" in named:
        return Control(ControlKind.ACK, streams=accepted)
    [(status, message), *_] = named.items()
    return Control(ControlKind.UNKNOWN, message=f"status {status}: {message}")


class MassiveSubscriptions:
    """Logs in and subscribes one connection.

    The venue greets first. It accepts each stream by name; where the plan has not a channel it says
    so once for it, without a name. So one channel is asked for at a time, and what is not accepted
    before that answer has failed.
    """

    def __init__(self, key: str, streams: Sequence[str]) -> None:
        self._key = key
        by_channel: dict[str, list[str]] = {}
        for stream in streams:
            by_channel.setdefault(stream.partition(".")[0], []).append(stream)
        self._batches = [
            names[start : start + NAMES_MAX]
            for names in by_channel.values()
            for start in range(0, len(names), NAMES_MAX)
        ]
        self._due: bytes | None = None
        self._waiting: dict[str, None] = {}
        self._failed: list[str] = []
        self._is_in = self._has_any = False

    @property
    def done(self) -> bool:
        """Whether every stream is accepted or has failed."""
        return self._is_in and not self._batches and not self._waiting

    @property
    def failed(self) -> Sequence[str]:
        """The streams that the venue refused."""
        return self._failed

    def next(self) -> bytes | None:
        """Returns the key once it was greeted, and then one subscription after the other."""
        if self._due is not None:
            message, self._due = self._due, None
            return message
        if not self._is_in or self._waiting or not self._batches:
            return None
        batch = self._batches.pop(0)
        self._waiting = dict.fromkeys(batch)
        return msgspec.json.encode({"action": "subscribe", "params": ",".join(batch)})

    def receive(self, control: Control) -> None:
        """Takes in a status."""
        if control.id == CONNECTED and not self._is_in:
            self._due = msgspec.json.encode({"action": "auth", "params": self._key})
        elif control.id == AUTHENTICATED:
            self._is_in = True
        for name in control.streams:
            self._waiting.pop(name.strip(), None)
            self._has_any = True
        if control.kind is ControlKind.REFUSED:
            self._failed += self._waiting
            self._waiting = {}

    def give_up(self) -> bool:
        """Goes on with what was accepted, if anything was."""
        if not self._has_any or not self._waiting:
            return False
        self._failed += self._waiting
        self._waiting = {}
        return True
