"""What a source holds already of a capture that is imported: nothing is stored twice."""

from collections.abc import Iterator
from pathlib import Path

from tapeworks._core import TapeReader, TapeWriter
from tapeworks.errors import ConfigError
from tapeworks.feeds.captures import Captured
from tapeworks.views.times import format_time

RECORDS = 4
"""Blobs of the recorder itself."""
APART_NS_MAX = 60_000_000_000
"""Captures that follow each other may overlap by so much, as their lines are not all in order."""


class Held:
    """The frames on a raw tape from the first receive time of a capture on.

    A capture was imported whole, or up to where an import was stopped: then the tape holds its
    frames in the same order. One that is older than the tape, and is not on it, is refused: what it
    holds would be taken for repeats of what came later.
    """

    def __init__(self, raw: Path, source: str, ts_first: int) -> None:
        self._source = source
        self.count = 0
        """Frames that were there."""
        self._frames: Iterator[Captured] = iter(())
        if (raw / "LOCK").exists() or any(raw.glob("*")):
            # What a loss of power left of its end is settled first.
            TapeWriter(raw, kind="blobs").close()
            self._frames = _frames(raw, ts_first)
        self._next = next(self._frames, None)

    def has(self, captured: Captured) -> bool:
        """Returns whether the tape holds this frame, which follows that of the last call.

        Raises:
            ConfigError: the tape holds other frames of that time.
        """
        held = self._next
        if held is None:
            return False
        if _said(held) == _said(captured):
            self._next = next(self._frames, None)
            self.count += 1
            return True
        if not self.count and _newest(held, self._frames) <= captured.ts_recv + APART_NS_MAX:
            self._next = None
            return False
        raise ConfigError(
            f"{self._source} holds other frames from {format_time(captured.ts_recv)} on than this "
            "capture: captures of one source come in the order of time, each once; import it as a "
            "source of its own: --source NAME"
        )


def _said(frame: Captured) -> tuple[int, int, bytes, bytes]:
    return frame.ts_recv, frame.kind, frame.context, frame.body


def _newest(held: Captured, rest: Iterator[Captured]) -> int:
    ts = held.ts_recv
    for frame in rest:
        ts = max(ts, frame.ts_recv)
    return ts


def _frames(raw: Path, ts_first: int) -> Iterator[Captured]:
    reader = TapeReader(raw)
    reader.seek_time(ts_first)
    while blobs := reader.read_blobs():
        for blob in blobs:
            if blob.kind != RECORDS and blob.ts_recv >= ts_first:
                context, body = bytes(blob.context), bytes(blob.body)
                yield Captured(blob.ts_recv, blob.kind, context, body, 0)
