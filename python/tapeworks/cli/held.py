"""What a source holds already of a capture that is imported: nothing is stored twice."""

import hashlib
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tapeworks._core import Blob, TapeReader
from tapeworks.errors import ConfigError
from tapeworks.feeds.capture_clock import APART_NS_MAX
from tapeworks.feeds.captures import Captured
from tapeworks.tape import has_segments
from tapeworks.views.times import format_time

FILE_NAME = re.compile(rb"(?<=[?&])(?:name|file)=[^&]*&?")
"""What the context of a frame says of the file that it came in."""
RECORDS = 4
"""Blobs of the recorder itself."""
OTHERS_MAX = 2_000_000
"""So many frames of so short a time that are not in the capture are looked through; about 1 GB."""


@dataclass(slots=True)
class _Stored:
    """A frame on the tape."""

    said: bytes
    ts: int
    is_moved: bool
    """Its time may be that of the frame before it, and not its own."""
    is_found: bool = False

    def stands_for(self, ts: int, is_moved: bool) -> bool:
        """Whether it can be a frame that says the same, received at `ts` or moved to there."""
        return self.ts == ts or (self.is_moved if self.ts > ts else is_moved)


class Held:
    """The frames that a raw tape held when the import of a capture began, from its first time on.

    A frame of the capture is there if the tape holds one that says the same, received at the same
    time. Receipt never goes back, neither on a tape nor within a capture: a frame may have been
    moved to the time of the one before it, and that of the other be earlier, on either side. Each
    frame on the tape stands for one.
    What is not there, and older than the tape by more than captures overlap, is refused: it would
    be taken for repeats of what came later.
    """

    def __init__(self, raw: Path, source: str, ts_first: int) -> None:
        self._source = source
        self.newest = 0
        """The newest receive time on the tape, as far as it was read."""
        self._frames: Iterator[_Stored] = iter(())
        if has_segments(raw):
            reader = TapeReader(raw)
            end = reader.end
            ts_first -= APART_NS_MAX
            reader.seek_time(ts_first)
            self._frames = _frames(reader, ts_first, end)
        # Those around the time of the capture that are not in it so far: in their order; and by
        # what they say, one or several.
        self._near: deque[_Stored] = deque()
        self._by_said: dict[bytes, _Stored | deque[_Stored]] = {}
        self._is_read = False
        self._last_ts: int | None = None

    def has(self, captured: Captured) -> bool:
        """Returns whether the tape holds this frame. Times of calls do not fall.

        Raises:
            ConfigError: the tape goes on for long behind the place where the frame should be, or
                holds too many others beside it.
        """
        ts, said = captured.ts_recv, _said(captured)
        is_moved, self._last_ts = ts == self._last_ts, ts
        self._forget(ts - APART_NS_MAX)
        if self._find(said, ts, is_moved) or self._read_to(said, ts, is_moved):
            return True
        if self.newest > ts + APART_NS_MAX:
            raise ConfigError(
                f"{self._source} holds other frames from {format_time(ts)} on than "
                "this capture: captures of one source come in the order of time, each once; import "
                "it as a source of its own: --source NAME"
            )
        return False

    def _find(self, said: bytes, ts: int, is_moved: bool) -> bool:
        """Finds the frame among those that were read."""
        same = self._by_said.get(said)
        if isinstance(same, _Stored):
            if not same.stands_for(ts, is_moved):
                return False
            same.is_found = True
            del self._by_said[said]
            return True
        for at, stored in enumerate(same or ()):
            if stored.stands_for(ts, is_moved):
                stored.is_found = True
                self._remove(said, at)
                return True
        return False

    def _read_to(self, said: bytes, ts: int, is_moved: bool) -> bool:
        """Reads on up to the frame, or to where it cannot be any more."""
        while self.newest <= ts + APART_NS_MAX and not self._is_read:
            stored = next(self._frames, None)
            if stored is None:
                self._is_read = True
                return False
            self.newest = max(self.newest, stored.ts)
            if stored.ts < ts - APART_NS_MAX:
                continue
            if stored.said == said and stored.stands_for(ts, is_moved):
                return True
            self._keep(stored)
        return False

    def _keep(self, stored: _Stored) -> None:
        if len(self._near) >= OTHERS_MAX:
            raise ConfigError(
                f"{self._source} holds over {OTHERS_MAX:,} frames around "
                f"{format_time(stored.ts)} that are not in this capture, or not in its order: "
                "import it as a source of its own: --source NAME"
            )
        self._near.append(stored)
        same = self._by_said.setdefault(stored.said, stored)
        if isinstance(same, deque):
            same.append(stored)
        elif same is not stored:
            self._by_said[stored.said] = deque((same, stored))

    def _forget(self, ts: int) -> None:
        while self._near and (self._near[0].is_found or self._near[0].ts < ts):
            stored = self._near.popleft()
            if not stored.is_found:
                self._remove(stored.said, 0)

    def _remove(self, said: bytes, at: int) -> None:
        same = self._by_said[said]
        if isinstance(same, deque) and len(same) > 1:
            del same[at]
        else:
            del self._by_said[said]


def _said(frame: Captured | Blob) -> bytes:
    # The same by another name is the same.
    context = FILE_NAME.sub(b"", frame.context)
    found = hashlib.blake2b(b"%d %d " % (frame.kind, len(context)), digest_size=16)
    found.update(context)
    found.update(frame.body)
    return found.digest()


def _frames(reader: TapeReader, ts_first: int, end: int) -> Iterator[_Stored]:
    before = None
    while blobs := reader.read_blobs():
        for blob in blobs:
            if blob.offset >= end:
                return
            ts = blob.ts_recv
            if blob.kind != RECORDS and ts >= ts_first:
                yield _Stored(_said(blob), ts, ts == before)
            before = ts
