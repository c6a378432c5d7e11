"""What is read of Massive's frames without decoding them."""

import re
from types import MappingProxyType

from tapeworks.feeds.wire import Wire

_TIME = re.compile(rb'"[te]" ?: ?(\d{13,19})\b')
_EVENT = re.compile(rb'"ev" ?: ?"([A-Z0-9]{1,4})"')
_LABELS_WITHIN = 1 << 16


class MassiveWire(Wire):
    """All markets of Massive."""

    channels = MappingProxyType({"T": "trade", "XT": "trade"})

    def event_time(self, frame: bytes) -> int | None:
        """Returns the time of the first event: of a bar, that of its end."""
        found = _TIME.search(frame)
        return int(found[1].ljust(19, b"0")) if found else None

    def labels(self, frame: bytes) -> tuple[str, ...]:
        """Returns the types of the events, each once."""
        found = _EVENT.findall(frame[:_LABELS_WITHIN])
        return tuple(dict.fromkeys(label.decode() for label in found))
