"""The session rules of Alpaca: keys, subscriptions, and what its messages mean."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from tapeworks.errors import ConfigError, VenueError
from tapeworks.feeds.alpaca import channels, history
from tapeworks.feeds.alpaca.config import AlpacaConfig
from tapeworks.feeds.alpaca.subscriptions import SUBSCRIPTION, AlpacaSubscriptions, request
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
from tapeworks.feeds.checks import ALL
from tapeworks.feeds.hours import ExchangeHours, TradingHours
from tapeworks.feeds.limits import WeightBudget

KEY_VARIABLE, SECRET_VARIABLE = "APCA_API_KEY_ID", "APCA_API_SECRET_KEY"
CONNECTIONS_PAUSE_S = 30.0
"""Another session lives; one of our own may take minutes until the venue notices its end."""
AGAIN_S = 1.0
PROBE_S = 20.0
"""An idle market sends nothing: only the answer to a ping tells that the connection lives."""
IDLE_S = 60.0
"""Least silence of a symbol that spoke often which is a loss; see `LivenessPolicy.learned`."""
# The venue names no age at which it cuts; it allows one connection, so that a rotation is a gap.
NEVER_S = 1e9
LEARNED = LivenessPolicy(None, IDLE_S, learned=True)

FATAL = {
    402: "check the key and its secret, and whether they are of this endpoint",
    408: "the account has not this interface",
    409: "the plan has no right to this feed; iex, test and crypto need none",
    411: "the key has no right to market data",
}
AGAIN = {401: AGAIN_S, 404: AGAIN_S, 406: CONNECTIONS_PAUSE_S, 500: AGAIN_S}
"""Those after which another connection is opened, no sooner than after so long."""
HARMLESS, SLOW = 403, 407
REFUSALS = (400, 405, 410, 412, 413)
ANSWERS = ("success", "error", SUBSCRIPTION)


class _Event(msgspec.Struct):
    """What tells messages of the session from data, and what they say."""

    T: str = ""
    code: int = 0
    msg: str = ""
    symbols: list[str] = []  # Of news.
    trades: list[str] = []
    quotes: list[str] = []
    bars: list[str] = []
    updatedBars: list[str] = []  # noqa: N815
    dailyBars: list[str] = []  # noqa: N815
    statuses: list[str] = []
    lulds: list[str] = []
    imbalances: list[str] = []
    orderbooks: list[str] = []
    news: list[str] = []

    def streams(self) -> tuple[str, ...]:
        """Returns what is subscribed, by the names of streams."""
        names = (*channels.STOCKS, "orderbooks", "news")
        return tuple(f"{name}.{symbol}" for name in names for symbol in getattr(self, name))


_JSON = msgspec.json.Decoder(list[_Event])
_MSGPACK = msgspec.msgpack.Decoder(list[_Event])


class AlpacaFeed(Feed):
    """One feed of Alpaca, on the one connection that it allows."""

    native = "alpaca"

    def __init__(self, config: AlpacaConfig) -> None:
        self.config = config
        self.source = config.name
        self.ca_file = config.ca_file or None
        self.insecure = config.insecure
        self.proxy = config.proxy or None
        self.pending_bytes_max = config.pending_bytes_max
        self.sends_binary = config.is_binary
        self.rest_url = config.rest
        self.backfill_s = config.backfill_s
        self.delay_s, self.delays = config.delay_s, config.delays
        self.budget = WeightBudget(300)
        self.rules = SessionRules(
            overlap_s=0.0, age_s=NEVER_S, idle_timeout_s=config.idle_timeout_s, probe_s=PROBE_S
        )
        self._hours: TradingHours | None = (
            ExchangeHours(config.calendar) if config.calendar else None
        )
        self._key = config.api_key or os.environ.get(KEY_VARIABLE, "")
        self._secret = config.api_secret or os.environ.get(SECRET_VARIABLE, "")
        if not (self._key and self._secret):
            missing = KEY_VARIABLE if not self._key else SECRET_VARIABLE
            raise ConfigError(
                f"{config.name}: no API key: set {missing} in the environment; an account has both "
                f"{KEY_VARIABLE} and {SECRET_VARIABLE}"
            )
        self.secrets = (self._secret, self._key)
        self.rest_headers = {"APCA-API-KEY-ID": self._key, "APCA-API-SECRET-KEY": self._secret}
        self._again: set[str] = set()
        """Symbols whose book was unsubscribed, to be subscribed again."""

    def lines(self) -> Sequence[Line]:
        """Returns the one line that the venue allows for each feed."""
        form = "application/msgpack" if self.config.is_binary else "application/json"
        streams = tuple(self.config.streams())
        headers = (("Content-Type", form),)
        return [Line(f"{self.source}/0", self.config.ws, streams, headers=headers)]

    def subscriptions(self, streams: Sequence[str]) -> AlpacaSubscriptions:
        """Returns the conversation: greeting, login, subscriptions channel by channel."""
        self._again.clear()
        return AlpacaSubscriptions(self._key, self._secret, streams, self._encode)

    def control(self, payload: bytes) -> Control:
        """Understands an array of messages by the first that is of the session."""
        decoder = _JSON if payload[:1] in (b"[", b"{") else _MSGPACK
        try:
            events = decoder.decode(payload)
        except (msgspec.MsgspecError, RecursionError, ValueError) as error:
            return Control(ControlKind.UNKNOWN, message=str(error) or type(error).__name__)
        event = next((event for event in events if event.T in ANSWERS), None)
        if event is None:
            told = [symbol for event in events if event.T == "n" for symbol in event.symbols]
            names = ("news." + symbol for symbol in dict.fromkeys([*told, ALL]))
            streams = tuple(name for name in names if name in self.config.streams())
            return Control(ControlKind.DATA, streams=streams)
        if event.T == "error":
            return _refusal(event.code, event.msg)
        if event.T == "success":
            return Control(ControlKind.ACK, id=event.msg)
        streams = event.streams()
        due = self._due(streams)
        reply = self._encode(request("subscribe", due)) if due else b""
        return Control(
            ControlKind.ACK, id=SUBSCRIPTION, streams=streams, reply=reply, paused=tuple(due)
        )

    def liveness(self, stream: str) -> LivenessPolicy:
        """Says that a symbol which spoke often may not fall silent, where hours are known."""
        if channels.record_channel(stream) == "none":
            return LivenessPolicy()
        has_hours = self._hours is not None or self.config.is_crypto
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
        return history.refusal(status, headers, body, wall_s)

    def books(self) -> Sequence[str]:
        """Returns the symbols whose books are recorded and can be asked for by name."""
        if "orderbooks" not in self.config.asked_channels:
            return ()
        return [symbol for symbol in self.config.symbols if symbol != ALL]

    def snapshot_message(self, symbol: str) -> bytes | None:
        """Returns the message that ends the stream of a book: begun again, it is told as a whole.

        What begins it again follows the venue's answer.
        """
        self._again.add(symbol)
        return self._encode(request("unsubscribe", [f"orderbooks.{symbol}"]))

    def _due(self, streams: Sequence[str]) -> list[str]:
        """Returns what is to be subscribed again, now that `streams` are."""
        due = [f"orderbooks.{symbol}" for symbol in sorted(self._again)]
        due = [name for name in due if name not in streams]
        self._again.difference_update(channels.stream_symbol(name) for name in due)
        return due

    def _encode(self, message: dict[str, Any]) -> bytes:
        encode = msgspec.msgpack.encode if self.config.is_binary else msgspec.json.encode
        return encode(message)


def _refusal(code: int, message: str) -> Control:
    """Returns what an error of the venue means."""
    if code in FATAL:
        return Control(ControlKind.DENIED, id=code, message=f"{message} ({code}): {FATAL[code]}")
    if code in AGAIN:
        told = f"{message} ({code})"
        return Control(ControlKind.DENIED, id=code, message=told, retry_after_s=AGAIN[code])
    if code == SLOW:
        return Control(ControlKind.SHUTDOWN, id=code, message=f"the venue says: {message} ({code})")
    if code == HARMLESS:
        return Control(ControlKind.ACK, id=code, message=message)
    if code in REFUSALS:
        return Control(ControlKind.REFUSED, id=code, message=f"{message} ({code})")
    return Control(ControlKind.UNKNOWN, id=code, message=f"error {code}: {message}")
