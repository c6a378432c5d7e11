"""What is read of Alpaca's frames without decoding them."""

import re
from datetime import UTC, datetime
from types import MappingProxyType

import msgspec

from tapeworks.feeds.wire import Wire

_TIME = re.compile(rb'"(?:t|updated_at)": ?"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z"')
_PACKED_TIME = re.compile(rb"(?:\xa1t|\xaaupdated_at)(?:\xd7\xff(.{8})|\xd6\xff(.{4}))", re.DOTALL)
_EVENT = re.compile(rb'"T": ?"([a-z]+)"')
_PACKED_EVENT = re.compile(rb"\xa1T[\xa1-\xbf]([a-z]+?)[\x80-\xff]")
_LABELS_WITHIN = 1 << 16
_CHANNELS = {
    "t": "trades",
    "q": "quotes",
    "b": "bars",
    "u": "updatedBars",
    "d": "dailyBars",
    "o": "orderbooks",
}
_LATER_NS = {"b": 60_000_000_000, "u": 60_000_000_000}
"""Events that tell when their minute began: they are sent when it is over."""


class _Event(msgspec.Struct):
    """What tells of which stream an event is."""

    T: str = ""
    S: str = ""


_JSON = msgspec.json.Decoder(list[_Event])
_MSGPACK = msgspec.msgpack.Decoder(list[_Event])


class AlpacaWire(Wire):
    """All feeds of Alpaca."""

    channels = MappingProxyType({"t": "trade"})
    quote_key = "(ts_event, ts_event_ns)"

    def event_time(self, frame: bytes) -> int | None:
        """Returns the time of the first event: of a bar, that of its end; none of a day's."""
        label = next(iter(self.labels(frame)), "")
        told = _time_of(frame)
        return None if told is None or label == "d" else told + _LATER_NS.get(label, 0)

    def streams(self, frame: bytes) -> tuple[str, ...]:
        """Returns the channel and symbol of each event."""
        try:
            events = (_JSON if frame[:1] == b"[" else _MSGPACK).decode(frame)
        except (msgspec.MsgspecError, RecursionError, ValueError):
            return ()
        found = ((_CHANNELS.get(event.T, ""), event.S) for event in events)
        return tuple(f"{channel}.{symbol}" for channel, symbol in found if channel)

    def labels(self, frame: bytes) -> tuple[str, ...]:
        """Returns the types of the events, each once."""
        pattern = _EVENT if frame[:1] == b"[" else _PACKED_EVENT
        found = pattern.findall(frame[:_LABELS_WITHIN])
        return tuple(dict.fromkeys(label.decode() for label in found))


def _time_of(frame: bytes) -> int | None:
    """Returns the first time in `frame`, in ns."""
    if found := _TIME.search(frame):
        try:
            second = datetime.fromisoformat(found[1].decode()).replace(tzinfo=UTC)
        except ValueError:
            return None
        return int(second.timestamp()) * 1_000_000_000 + int((found[2] or b"").ljust(9, b"0"))
    if found := _PACKED_TIME.search(frame):
        if found[2]:
            return int.from_bytes(found[2], "big") * 1_000_000_000
        both = int.from_bytes(found[1], "big")
        return (both & 0x3_FFFF_FFFF) * 1_000_000_000 + (both >> 34)
    return None
