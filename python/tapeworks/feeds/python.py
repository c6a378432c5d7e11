"""A user's own feed: one Python class that holds a session and decodes its frames.

Name it in the settings, as `kind = "my_package.my_module:MyFeed"` under `[feeds.<source>]`. The
session part is that of every feed (`base.py`): which connections, what to say, what the venue's
answers mean. What is more here is `decode`. It runs in the recorder, right behind the raw tape,
under the contract of the decoders of the core:

- It is given each frame once, in the order of the raw tape, when that frame is on it already.
- It gives the same records for the same frames: no clock, no chance, no environment. The time is
  `frame.ts_recv`; what it remembers from frame to frame goes through `snapshot` and `restore`.
- It raises on what it cannot read. The frame is then a dead letter: kept, counted and queryable.
  Nothing of it is published, and the feed goes on. A frame without records is no error.
- What any other method raises is logged and counted, and is as if it had asked for nothing; where
  `stop_on_error` is set, it ends the recorder.
- Numbers go from the venue's text to fixed point without ever being a float: hand the text to the
  builder, or to `price_units` and `size_units`. A float is refused.

Everything behind it works as for any feed: repeats are dropped, holes in sequences become gaps,
books are verified, bars, ticks, the lake, exactly once across `kill -9`. A decoder of the core is
faster by far; both are fully supported. `examples/own_feed.py` is a whole one.
"""

import logging
import re
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from tapeworks._core import Frame, RecordBuilder, price_units, size_units
from tapeworks.config import check_once, check_url, source_name
from tapeworks.errors import ConfigError
from tapeworks.feeds.base import Control, Feed, SessionRules
from tapeworks.feeds.hours import ExchangeHours, TradingHours
from tapeworks.feeds.limits import LogSampler, WeightBudget

__all__ = [
    "Frame",
    "PythonFeed",
    "PythonFeedConfig",
    "RecordBuilder",
    "SubscribeOnce",
    "price_units",
    "size_units",
]

URL_SCHEMES = {"ws_url": ("ws", "wss"), "rest_url": ("http", "https"), "proxy": ("http", "https")}

_log = logging.getLogger("tapeworks.feeds")


@dataclass(frozen=True)
class PythonFeedConfig:
    """The settings that every feed in Python has. A feed with more of its own derives from it."""

    kind: str = ""
    """Where the class is: `package.module:Class`."""
    symbols: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    source: str = ""
    """The name of the source; none: that of its table in the settings."""
    ws_url: str = ""
    rest_url: str = ""
    """Where requests go, without a path; none: no request is made."""
    rotation_s: float = 82_800.0
    """Connections are replaced, with overlap, at this age."""
    idle_timeout_s: float = 30.0
    """A connection that carries nothing for so long is replaced."""
    snapshot_refresh_s: float = 0.0
    definitions_s: float = 0.0
    """Repeat the opening requests after so long; 0: never."""
    request_weight: int = 600
    """Weight of requests a minute; a request weighs 1 unless the feed says otherwise."""
    calendar: str = ""
    """The exchange whose hours these are, such as XNYS: while it is closed, silence is no loss.
    None: it never closes. Needs `pip install "tapeworks[calendars]"`."""
    before_open_s: float = 0.0
    after_close_s: float = 0.0
    """Extended hours before the opening and after the close."""
    proxy: str = ""
    ca_file: str = ""
    insecure: bool = False
    """Accept any certificate: for a simulator on this machine only."""
    pending_bytes_max: int = 64 << 20
    """Frames waiting for a tape that cannot be written; beyond it the newest are shed, counted."""
    stop_on_error: bool = False
    """An error in the feed's session rules ends the recorder. Else it is logged and counted."""

    def __post_init__(self) -> None:
        for name, schemes in URL_SCHEMES.items():
            if url := str(getattr(self, name)):
                check_url(name, url, schemes)
        if self.source:
            source_name(self.source)
        check_once("symbols", self.symbols)
        check_once("channels", self.channels)
        wrong = [s for s in self.symbols if not s or not s.isprintable() or s != s.strip()]
        if wrong:
            raise ConfigError(f"symbols: expected the venue's own, got {wrong}")
        if not 1 << 16 <= self.pending_bytes_max <= 1 << 29:
            raise ConfigError(
                f"pending_bytes_max: expected {1 << 16} to {1 << 29}, got {self.pending_bytes_max}"
            )

    @property
    def name(self) -> str:
        """The source: the folder of its tapes."""
        return self.source

    @property
    def record_channels(self) -> frozenset[str]:
        """None is known: only the feed knows what its streams carry."""
        return frozenset()

    @property
    def ws(self) -> str:
        """Where the streams are."""
        return self.ws_url

    @property
    def rest(self) -> str:
        """Where the requests go; empty when there are none."""
        return self.rest_url.rstrip("/")


class PythonFeed(Feed):
    """A venue's session rules and its decoder, in Python. See the head of this file.

    To be written: `lines`, `subscriptions`, `control`, `decode`. A class that needs settings of its
    own names their dataclass as `Config`.
    """

    Config: ClassVar[type[PythonFeedConfig]] = PythonFeedConfig
    native = "foreign"
    counts_events: ClassVar[bool] = False
    """Whether the records of `decode` tell which streams spoke, by `symbol` and `channel` of each
    stream: a frame may hold events of many instruments. Else `control` names the streams."""

    def __init__(self, config: PythonFeedConfig) -> None:
        self.config = config
        self.source = config.name
        self.rest_url = config.rest
        self.ca_file = config.ca_file or None
        self.insecure = config.insecure
        self.proxy = config.proxy or None
        self.pending_bytes_max = config.pending_bytes_max
        self.snapshot_refresh_s = config.snapshot_refresh_s
        self.definitions_s = config.definitions_s
        self.budget = WeightBudget(config.request_weight, share=1.0)
        # No frame shows its stream where the core would look for it: `control` is shown them all.
        self.rules = SessionRules(idle_timeout_s=config.idle_timeout_s, age_s=config.rotation_s)
        self._refused = LogSampler()
        self._hours: TradingHours | None = None
        if config.calendar:
            self._hours = ExchangeHours(config.calendar, config.before_open_s, config.after_close_s)

    def is_trading(self, stream: str, wall_ns: int) -> bool:
        """Says whether the configured exchange is open."""
        return self._hours is None or self._hours.is_open(wall_ns)

    def symbol(self, stream: str) -> str:
        """Returns the configured symbol that the name of `stream` holds as a part of its own."""
        found = (
            s for s in self.config.symbols if re.search(rf"(?<!\w){re.escape(s)}(?!\w)", stream)
        )
        return next(found, "")

    def books(self) -> Sequence[str]:
        """Returns the symbols of the streams that carry changes of a book."""
        streams = (stream for line in self.lines() for stream in line.streams)
        moving = {self.symbol(stream) for stream in streams if self.channel(stream) == "depth"}
        return [symbol for symbol in self.config.symbols if symbol in moving]

    @abstractmethod
    def decode(self, frame: Frame, out: RecordBuilder) -> None:
        """Writes to `out` the records that `frame` holds, if any.

        Raises:
            DecodeError, ValueError, KeyError, ...: the frame breaks the venue's format.
        """

    def snapshot(self) -> bytes:
        """Returns what `decode` remembers from frame to frame; nothing unless overridden."""
        return b""

    def restore(self, state: bytes) -> None:
        """Takes in what `snapshot` gave; of nothing, forgets everything.

        Raises:
            ValueError: the state is not one of this feed's.
        """
        if state:
            raise ValueError("expected no state: this feed remembers nothing")

    def take(self, frame: Frame, out: RecordBuilder) -> None:
        """Decodes `frame`, and says in the log what was wrong with it. For the core to call."""
        try:
            try:
                self.decode(frame, out)
            except SystemExit as error:
                # A decoder does not decide when the recorder ends.
                raise ValueError(f"the decoder called sys.exit: {error}") from error
        except Exception as error:
            if self._refused.note():
                _log.warning(
                    "%s cannot decode a frame, which is kept as a dead letter count=%d: %s: %s: %r",
                    self.source,
                    self._refused.count,
                    type(error).__name__,
                    error,
                    frame.body[:200],
                )
            raise


class SubscribeOnce:
    """Subscribes a connection with one `message`; the answer lists the streams that it carries."""

    def __init__(self, message: bytes, streams: Sequence[str]) -> None:
        self.done = False
        self.failed: Sequence[str] = ()
        self._message: bytes | None = message
        self._streams = streams

    def next(self) -> bytes | None:
        """Returns the message, once."""
        message, self._message = self._message, None
        return message

    def receive(self, control: Control) -> None:
        """Takes in the answer: what it does not list was refused."""
        self.failed = [stream for stream in self._streams if stream not in control.streams]
        self.done = True

    def give_up(self) -> bool:
        """Says no: one answer is of all streams."""
        return False
