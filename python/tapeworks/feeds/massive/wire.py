"""What is read of Massive's frames without decoding them."""

import re
from types import MappingProxyType

import msgspec

from tapeworks.feeds.wire import Wire

_TIME = re.compile(rb'"[te]" ?: ?(\d{13,19})\b')
_EVENT = re.compile(rb'"ev" ?: ?"([A-Z0-9]{1,4})"')
_LABELS_WITHIN = 1 << 16


class _Event(msgspec.Struct):
    """What tells of which stream an event is."""

    ev: str = ""
    sym: str = ""
    pair: str = ""
    ticker: str = msgspec.field(default="", name="T")


_FRAME = msgspec.json.Decoder(list[_Event])


class MassiveWire(Wire):
    """All markets of Massive."""

    quote_key = "(sequence, ts_event)"
    channels = MappingProxyType({"T": "trade", "XT": "trade"})

    def event_time(self, frame: bytes) -> int | None:
        """Returns the time of the first event: of a bar, that of its end."""
        found = _TIME.search(frame)
        return int(found[1].ljust(19, b"0")) if found else None

    def streams(self, frame: bytes) -> tuple[str, ...]:
        """Returns the channel and symbol of each event."""
        try:
            events = _FRAME.decode(frame)
        except (msgspec.MsgspecError, RecursionError, ValueError):
            return ()
        return tuple(
            f"{event.ev}.{event.sym or event.pair or event.ticker}"
            for event in events
            if event.ev != "status"
        )

    def labels(self, frame: bytes) -> tuple[str, ...]:
        """Returns the types of the events, each once."""
        found = _EVENT.findall(frame[:_LABELS_WITHIN])
        return tuple(dict.fromkeys(label.decode() for label in found))
