"""Which channels of a capture could be decoded: a capture of another feed is decoded in part.

Products of a venue may share the form of trades, and differ in that of depth. Then all trades are
stored as of the wrong feed, and not one update of a book. So frames are counted by channel, as
their own words call it.
"""

from collections import Counter
from pathlib import Path

from tapeworks._core import TapeReader, decode, kind_of, numbers
from tapeworks.errors import TapeworksError
from tapeworks.feeds.captures import REST, TEXT, Captured
from tapeworks.feeds.wire import Wire, wire_of

# More is no accident of a few frames.
UNDECODED_PART = 0.9
LETTERS = 4_096
FRAMES_MAX = 100_000
SAMPLES = 20
# All that the core decodes: for a foreign one, it needs a decoder from outside.
NAMES = {number: name for name, number in numbers("feed").items() if name != "foreign"}
FEEDS = tuple(NAMES.values())
# Where the marker of a dead letter has the offset of its frame on the raw tape.
_FRAME_AT = slice(40, 48)
# Any time of receipt will do.
TS = 10**18


class ChannelTally:
    """Counts the frames of each channel of a capture."""

    def __init__(self, feed: str) -> None:
        self._wire = wire_of(feed)
        self._counts: Counter[str] = Counter()

    def add(self, captured: Captured) -> None:
        """Counts one frame."""
        found = _channels_of(self._wire, captured.kind, captured.context, captured.body)
        self._counts.update(found)

    def undecoded(self, letters: TapeReader | None) -> dict[str, tuple[int, int, list[bytes]]]:
        """Returns the channels of which nearly nothing could be decoded.

        Each with the number of its frames that could not, that of all, and some of them. `letters`
        stands at the first dead letter that counts.
        """
        dead: Counter[str] = Counter()
        samples: dict[str, list[bytes]] = {}
        last = b""
        while letters is not None and (blobs := letters.read_blobs(LETTERS)):
            for blob in blobs:
                # Of a frame of many events each that failed has a letter: all of them are one.
                if (frame := blob.context[_FRAME_AT]) == last:
                    continue
                last = frame
                # A REST answer says what it is by the request that follows the marker.
                for channel in _channels_of(self._wire, blob.kind, blob.context[64:], blob.body):
                    dead[channel] += 1
                    if len(held := samples.setdefault(channel, [])) < SAMPLES:
                        held.append(blob.body)
        return {
            channel: (dead[channel], count, samples[channel])
            for channel, count in self._counts.items()
            if dead[channel] > UNDECODED_PART * count
        }


def has_events(tape: Path, offset: int) -> bool:
    """Whether the normalized tape in the folder `tape` holds an event from `offset` on."""
    reader = TapeReader(tape)
    reader.seek(max(offset, reader.first))
    notes = {kind_of("marker"), kind_of("definition")}
    while (batch := reader.read(LETTERS)) is not None:
        if batch.kinds() - notes:
            return True
    return False


def trade_channels(tape: Path) -> set[str]:
    """Returns which of `trade` and `agg_trade` the raw tape in the folder `tape` holds.

    It is looked through from its front, to the first single trade or to `FRAMES_MAX` frames.
    """
    found: set[str] = set()
    wire: Wire | None = None
    try:
        reader = TapeReader(tape)
        while reader.position < reader.first + FRAMES_MAX and "trade" not in found:
            blobs = reader.read_blobs(LETTERS)
            if not blobs:
                break
            wire = wire or wire_of(NAMES.get(blobs[0].feed, ""))
            labels = (wire.labels(blob.body) for blob in blobs if blob.kind != REST)
            found |= {wire.channels.get(each, "") for label in labels for each in label}
    except (TapeworksError, OSError):
        # There is no tape yet, or it is damaged, which whoever derives from it tells.
        return set()
    return found & {"trade", "agg_trade"}


def _channels_of(wire: Wire, kind: int, context: bytes, body: bytes) -> tuple[str, ...]:
    """Returns what a frame is by its own words; nothing for one that does not say."""
    if kind == REST:
        return (context.partition(b"?")[0].decode("utf-8", "replace"),)
    return wire.labels(body)


def feed_that_decodes(frames: list[bytes]) -> str | None:
    """Returns a feed that can decode all of `frames`."""
    return next((feed for feed in FEEDS if _can_decode(feed, frames)), None)


def _can_decode(feed: str, frames: list[bytes]) -> bool:
    try:
        return all(len(decode(feed, TEXT, b"", frame, TS)) for frame in frames)
    except TapeworksError:
        return False
