"""Frames of files onto the tapes of one source: each file a recording of its own time."""

import contextlib
import time
from collections.abc import Mapping
from typing import Any

from tapeworks._core import Ingest
from tapeworks.cli.console import problems
from tapeworks.errors import DiskFullError, TapeError
from tapeworks.feeds.capture_clock import APART_NS_MAX
from tapeworks.feeds.captures import LINE_BYTES_MAX, Captured
from tapeworks.pipeline import Config
from tapeworks.source_symbols import KeptDefinitions

FLUSH_FRAMES = 512
FLUSH_BYTES = 16 << 20
PENDING_BYTES_MAX = 4 * LINE_BYTES_MAX
"""More than ever waits for the tapes: of a file, no frame is shed."""
GROUP = 0
"""All files carry the same streams."""
RETRY_S = 0.2
HOLE_NS = 12 * 3_600_000_000_000
"""A file without a frame for so long was not recorded meanwhile."""


class ImportWriter:
    """Puts frames onto the tapes of one source, which are opened for the first.

    A file does not go away as a socket's frames do: what cannot be written is waited for.
    """

    def __init__(self, settings: Config, name: str, feed: str, wait_s: float) -> None:
        self._settings, self._name, self._feed, self.wait_s = settings, name, feed, wait_s
        self._ingest: Ingest | None = None
        self._line: int | None = None
        self._ts = 0
        """When the last frame was received."""
        self._is_suspect = False
        self.found = 0
        """Frames that were there already."""
        self.repeats = 0
        """Events that the tape held already, in other frames; known at the end."""
        self.suspects = 0
        """Frames whose receive time is suspect."""
        self._pending, self._bytes = 0, 0
        self.stored = 0
        """Frames on the tape by this import."""
        self.written = 0
        """Of these, those that were not told yet."""

    def __enter__(self) -> "ImportWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._ingest is None:
            return
        # What broke says more than what closing the tapes then meets.
        with contextlib.suppress(TapeError, OSError) if kind else contextlib.nullcontext():
            self._ingest.close()

    @property
    def is_full(self) -> bool:
        """Whether as much waits as is put onto the tapes at once."""
        return self._pending >= FLUSH_FRAMES or self._bytes >= FLUSH_BYTES

    @property
    def dead_letters(self) -> int:
        """How many frames could not be decoded."""
        count: int = self._ingest.stats()["dead_letters"] if self._ingest else 0
        return count

    def open(self, ts: int) -> Ingest:
        """Opens the tapes, unless they are open. Without a frame nothing is written to them."""
        if self._ingest is None:
            self._ingest = Ingest(
                self._settings.data,
                self._name,
                self._feed,
                ts_first=ts,
                pending_bytes_max=PENDING_BYTES_MAX,
                **self._settings.tape.settings(),
            )
            self.repeats = -self._ingest.stats()["duplicates"]
        return self._ingest

    def receive(self, captured: Captured, ts: int, line: int) -> None:
        """Takes in a frame that was received at `ts`.

        Each file is a `line` of its own: the clock of its host may be behind or ahead of that of
        another, so that what it repeats is no news. One that begins over a minute behind the one
        before it is a recording of its own: nothing says that what lies between was recorded.
        """
        since = min(ts, max(self._ts, captured.since or ts))
        ingest = self.open(since)
        apart = ts - self._ts
        if self._line is not None and apart > (HOLE_NS if line == self._line else APART_NS_MAX):
            ingest.end_session(self._ts)
            self._line = None
        if line != self._line:
            ingest.connected(line, GROUP, since)
            if self._line is not None:
                # Only now: there is always a line, and so no gap.
                ingest.disconnected(self._line, ts)
            self._line = line
        self._ts = ts
        self._note_clock(ingest, captured, ts)
        ingest.receive(line, captured.kind, ts, captured.body, captured.context)
        self._pending += 1
        self._bytes += len(captured.body) + len(captured.context)

    def _note_clock(self, ingest: Ingest, captured: Captured, ts: int) -> None:
        """Says what is to be thought of the receive times from `captured` on."""
        if captured.wall is not None:
            ingest.clock_step(ts, captured.wall, captured.is_suspect)
        elif captured.is_suspect != self._is_suspect:
            ingest.doubt(captured.is_suspect)
        self._is_suspect = captured.is_suspect
        self.suspects += captured.is_suspect

    def flush(self) -> None:
        """Puts all that was taken in onto both tapes.

        Raises:
            DiskFullError: a tape could not be written for all the time that is waited.
        """
        if self._ingest is None or self._line is None:
            return
        ends = time.monotonic() + self.wait_s
        is_told = False
        self._ingest.flush()
        while failure := self._failure(self._ingest.stats()):
            if time.monotonic() >= ends:
                raise DiskFullError(
                    f"{failure}; {self.stored:,} frames of this import are on the tape of "
                    f"{self._name}, and none behind them; make room and run the same again: it "
                    "goes on there"
                )
            if not is_told:
                is_told = True
                told = f"{failure}; waiting for up to {self.wait_s:g} s"
                problems.print(told, markup=False, soft_wrap=True)
            time.sleep(RETRY_S)
            self._ingest.flush()

    def _failure(self, stats: Mapping[str, Any]) -> str | None:
        """Returns why a tape cannot be written, and counts what is on the raw one."""
        if not stats["pending_bytes"]:
            self.stored += self._pending
            self.written += self._pending
            self._pending, self._bytes = 0, 0
        failure: str | None = stats["failure"]
        return failure

    def take_written(self) -> int:
        """Returns how many frames were written since the last call."""
        count, self.written = self.written, 0
        return count

    def end(self, ts: int) -> None:
        """Ends the import at `ts`, and puts what is left onto the tapes.

        Raises:
            TapeError: there is no normalized tape, or what `flush` raises.
        """
        if self._ingest is None:
            return
        if self._line is not None:
            self._ingest.end_session(ts)
            self.flush()
        self.repeats += self._ingest.stats()["duplicates"]
        KeptDefinitions(self._settings.data, self._name).follow(self._ingest)
        if reason := self._ingest.degraded():
            raise TapeError(f"the raw frames are kept; they are not normalized: {reason}")
