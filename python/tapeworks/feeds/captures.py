"""Captured frames in files: lines in, what the raw tape wants out.

Lines that are understood, gzipped or not:

    1723161255123456789 {"stream": ...}      receive time in ns, us or ms by its digits, and a frame
    1634000000.123456: {"stream": ...}       receive time in seconds, and a frame
    https://host/path?query -> 1634000000.1: {...}    the answer to a request
    {"stream": ...}                          a frame alone: its event time stands for its receipt

A frame alone is flagged as of suspect receive time. What bounds that is the frames behind it: one
that says to be over a minute later than most of these is not believed. A depth snapshot among the
frames of one symbol is taken as the answer to the request that it must have been.
"""

import gzip
import re
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median_low
from typing import IO

from tapeworks.errors import FeedError

TEXT, REST = 1, 3
LINE_BYTES_MAX = 64 << 20
"""A longer line is no frame, and perhaps a small file that unpacks without end."""
TS_MAX = (1 << 63) - 1
LOOKED_AT = 9
"""So many lines say whether the time of a frame alone can be that of its receipt."""
AHEAD_NS_MAX = 60_000_000_000

_STAMPED = re.compile(rb"(\d{13,19}) +(?=[\[{])")
_SECONDS = re.compile(rb"(\d{9,10}(?:\.\d+)?): ?(?=[\[{])")
_ANSWER = re.compile(rb"https?://[^/\s]+(/\S*) -> (\d{9,10}(?:\.\d+)?): ?(?=[\[{])")
_OPENED = re.compile(rb"wss?://\S+ <-> \d")
_EVENT_TIME = re.compile(rb'"E" ?: ?(\d{13,16})')
_STREAM = re.compile(rb'^\{"stream" ?: ?"([^"@]+)@')
_DEPTH_ANSWER = re.compile(rb'^\s*\{"lastUpdateId"')
_DEPTH_PATHS = {"binance-spot": "/api/v3/depth", "binance-usdm": "/fapi/v1/depth"}


@dataclass(frozen=True)
class Captured:
    """One frame or answer, as the raw tape takes it."""

    ts_recv: int
    kind: int
    context: bytes
    body: bytes
    size: int
    """Bytes of the file up to the end of this line, for a progress bar; compressed ones too."""


class Captures:
    """Reads capture files of one feed."""

    def __init__(self, feed: str, symbol: str = "", stream: str = "") -> None:
        self._feed = feed
        self._symbol = symbol
        self._stream = stream.encode()
        self._last_ts = 0
        self._before = 0
        """The last time of the file before this one."""

    def read(self, path: Path) -> Iterator[Captured]:
        """Yields what the lines of `path` hold. Receive times do not fall within a file.

        Raises:
            FeedError: a line is none of those above; says its number and how it starts.
        """
        self._before, self._last_ts = self._last_ts or self._before, 0
        with path.open("rb") as file, _opened(path, file) as lines:
            read = partial(lines.readline, LINE_BYTES_MAX + 1)
            ahead: deque[tuple[int, bytes]] = deque()
            trouble = ""
            try:
                for number, line in enumerate(iter(read, b""), 1):
                    if len(line) > LINE_BYTES_MAX:
                        trouble = f"{path}:{number}: a line of over {LINE_BYTES_MAX} bytes"
                        break
                    ahead.append((number, line.strip()))
                    if len(ahead) == LOOKED_AT:
                        yield from self._next(path, ahead, file.tell())
            except (gzip.BadGzipFile, EOFError, zlib.error) as error:
                trouble = f"{path}: not whole gzip: {error}"
            # What came before the trouble is given first.
            while ahead:
                yield from self._next(path, ahead, file.tell())
            if trouble:
                raise FeedError(trouble)

    def _next(self, path: Path, ahead: deque[tuple[int, bytes]], size: int) -> Iterator[Captured]:
        captured = self._line(path, ahead, size)
        ahead.popleft()
        if captured is not None:
            yield captured

    def _line(self, path: Path, ahead: Sequence[tuple[int, bytes]], size: int) -> Captured | None:
        number, line = ahead[0]
        if not line or _OPENED.match(line):
            return None
        if match := _STAMPED.match(line):
            ts = int(match[1].ljust(19, b"0"))
        elif match := _SECONDS.match(line):
            ts = _nanoseconds(match[1])
        elif match := _ANSWER.match(line):
            ts = self._advance(_nanoseconds(match[2]))
            return Captured(ts, REST, match[1], line[match.end() :], size)
        elif line[:1] in b"[{":
            return self._frame(path, number, self._told(ahead), line, size)
        else:
            raise FeedError(
                f"{path}:{number}: expected `<receive time> <frame>` or a JSON frame, got "
                f"{line[:40].decode('utf-8', 'replace')!r}"
            )
        return self._frame(path, number, ts, line[match.end() :], size)

    def _told(self, ahead: Sequence[tuple[int, bytes]]) -> int:
        """Returns the event time of the first line, unless most of those behind it are earlier."""
        told = [
            int(found[1].ljust(19, b"0")) if found else None
            for found in (_EVENT_TIME.search(line) for _, line in ahead)
        ]
        ts, known = told[0], [each for each in told if each is not None]
        if ts is None:
            # Before any time: that of the next frames, not the year 1970.
            return self._last_ts or (median_low(known) if known else self._before)
        usual = median_low(known)
        if ts <= max(usual, self._last_ts) + AHEAD_NS_MAX:
            return ts
        return self._last_ts or usual

    def _frame(self, path: Path, number: int, ts: int, body: bytes, size: int) -> Captured:
        ts = self._advance(ts)
        if _DEPTH_ANSWER.match(body) and self._feed in _DEPTH_PATHS and not self._stream:
            if not self._symbol:
                raise FeedError(
                    f"{path}:{number}: a depth snapshot without its symbol: give it by --symbol"
                )
            context = f"{_DEPTH_PATHS[self._feed]}?symbol={self._symbol}"
            return Captured(ts, REST, context.encode(), body, size)
        if not self._symbol and (stream := _STREAM.match(body)):
            self._symbol = stream[1].decode().upper()
        return Captured(ts, TEXT, self._stream, body, size)

    def _advance(self, ts: int) -> int:
        # Captures of several connections interleave slightly.
        if ts > TS_MAX:
            raise FeedError(f"expected a receive time up to the year 2262, got {ts} ns")
        self._last_ts = max(self._last_ts, ts)
        return self._last_ts


def _opened(path: Path, file: IO[bytes]) -> AbstractContextManager[IO[bytes] | gzip.GzipFile]:
    return gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else nullcontext(file)


def _nanoseconds(text: bytes) -> int:
    # Not by way of a float: that has not the digits.
    whole, _, fraction = text.partition(b".")
    return int(whole) * 1_000_000_000 + int(fraction[:9].ljust(9, b"0") or b"0")
