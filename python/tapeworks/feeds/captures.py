"""Captured frames in files: lines in, what the raw tape wants out.

Lines that are understood, gzipped or not:

    1723161255123456789 {"stream": ...}      receive time in ns, us or ms by its digits, and a frame
    1634000000.123456: {"stream": ...}       receive time in seconds, and a frame
    https://host/path?query -> 1634000000.1: {...}    the answer to a request
    {"stream": ...}                          a frame alone: its event time stands for its receipt

What bounds a time is the lines behind it: one that says to be over a minute later than most of
these is not believed, and a clock that was set back is not followed; see `capture_clock.py`. A
depth snapshot among the frames of one symbol is taken as the answer to the request that it must
have been.
"""

import gzip
import os
import re
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import date
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median_low
from typing import IO, ClassVar, NamedTuple, Protocol

from tapeworks.config import redact
from tapeworks.errors import ConfigError, FeedError
from tapeworks.feeds.capture_clock import APART_NS_MAX, CaptureClock, Receipt
from tapeworks.feeds.wire import wire_of

TEXT, REST = 1, 3
LINE_BYTES_MAX = 64 << 20
"""A longer line is no frame, and perhaps a small file that unpacks without end."""
TS_MAX = (1 << 63) - 1
LOOKED_AT = 9
"""So many lines say whether the time of a frame alone can be that of its receipt."""
LINES_AHEAD, BYTES_AHEAD = 256, 8 << 20
"""So many lines, or bytes of them, say whether a stamp can be right."""

_STAMPED = re.compile(rb"(\d{13,19}) +(?=[\[{])")
_SECONDS = re.compile(rb"(\d{9,10}(?:\.\d+)?): ?(?=[\[{])")
_ANSWER = re.compile(rb"https?://[^/\s]+(/\S*) -> (\d{9,10}(?:\.\d+)?): ?(?=[\[{])")
_OPENED = re.compile(rb"wss?://\S+ <-> \d")


@dataclass(frozen=True)
class Captured:
    """One frame or answer, as the raw tape takes it."""

    ts_recv: int
    kind: int
    context: bytes
    body: bytes
    size: int
    """Bytes of the file up to about the end of this line, for a progress bar; compressed ones."""
    is_suspect: bool = False
    """The receive time is not that of the line's stamp, which cannot be right."""
    wall: int | None = None
    """The stamp, where the clock of the capture was set back, or is right again."""
    since: int | None = None
    """From when on its file stands for all that happened, where that is before `ts_recv`."""


@dataclass(frozen=True)
class CaptureOptions:
    """What is said of capture files beside their names."""

    feed: str
    symbol: str = ""
    """What they are of, where they do not tell."""
    stream: str = ""
    """The stream of frames that do not name theirs."""
    day: date | None = None
    """The venue's day, where they do not tell."""

    def refuse(self, *names: str) -> None:
        """Refuses options that mean nothing for files of this feed.

        Raises:
            ConfigError: one of `names` is given.
        """
        given = [f"--{name.replace('day', 'date')}" for name in names if getattr(self, name)]
        if given:
            raise ConfigError(f"files of {self.feed} take no {', '.join(given)}")


class CaptureReader(Protocol):
    """Reads the capture files of one feed."""

    doubts: list[str]
    """Where a clock was set back: the line, and both times."""
    notes: list[str]
    """What else should be known of the files."""
    cuts: list[str]
    """Files without the end that the venue gives each, and where they end."""
    endpoint: ClassVar[str]
    """The venue's own object store, if it has one."""

    def __init__(self, options: CaptureOptions) -> None: ...

    def read(self, path: Path) -> Iterator[Captured]:
        """Yields what `path` holds. Receive times do not fall within a file.

        Raises:
            FeedError: it is no such file, or not whole; what comes before was given.
        """
        ...


class _Line(NamedTuple):
    """A line that was read ahead."""

    number: int
    text: bytes
    ts: int | None
    """Its stamp."""
    start: int
    """Where what was received begins."""
    path: bytes | None
    """Of the request that it answers."""


class Captures:
    """Reads files of captured frames, a line each."""

    endpoint: ClassVar[str] = ""

    def __init__(self, options: CaptureOptions) -> None:
        options.refuse("day")
        self._wire = wire_of(options.feed)
        self._symbol = options.symbol
        self._seen: set[str] = set()
        """Symbols of the frames of this file."""
        self._stream = options.stream.encode()
        self._clock = CaptureClock()
        self._before = 0
        """The last time of the file before this one."""
        self.doubts: list[str] = []
        """Where a clock was set back: the line, and both times."""
        self.notes: list[str] = []
        self.cuts: list[str] = []

    def read(self, path: Path) -> Iterator[Captured]:
        """Yields what the lines of `path` hold. Receive times do not fall within a file.

        Raises:
            FeedError: a line is none of those above; says its number and how it starts.
        """
        self._before, self._clock = self._clock.ts or self._before, CaptureClock()
        self._seen = set()
        with path.open("rb") as file, _opened(path, file) as lines:
            read = partial(lines.readline, LINE_BYTES_MAX + 1)
            ahead: deque[_Line] = deque()
            waiting, trouble = 0, ""
            try:
                for number, line in enumerate(iter(read, b""), 1):
                    if len(line) > LINE_BYTES_MAX:
                        trouble = f"{path}:{number}: a line of over {LINE_BYTES_MAX} bytes"
                        break
                    text = line.strip()
                    if not text or _OPENED.match(text):
                        continue
                    ahead.append(_line(number, text))
                    waiting += len(text)
                    while len(ahead) >= LOOKED_AT and (
                        len(ahead) >= LINES_AHEAD or waiting >= BYTES_AHEAD
                    ):
                        waiting -= len(ahead[0].text)
                        yield self._next(path, ahead, file.tell())
            except (gzip.BadGzipFile, EOFError, zlib.error) as error:
                trouble = f"{path}: not whole gzip: {error}"
            # What came before the trouble is given first.
            while ahead:
                yield self._next(path, ahead, file.tell())
            if trouble:
                raise FeedError(trouble)

    def _next(self, path: Path, ahead: deque[_Line], size: int) -> Captured:
        line = ahead[0]
        if line.ts is None:
            if line.text[:1] not in b"[{":
                raise FeedError(
                    f"{path}:{line.number}: expected `<receive time> <frame>` or a JSON frame, got "
                    f"{line.text[:40].decode('utf-8', 'replace')!r}"
                )
            receipt = Receipt(self._clock.follow(self._told(path, ahead)))
        else:
            before = self._clock.ts
            _check_time(path, line.number, line.ts)
            receipt = self._clock.receipt(line.ts, partial(_later, ahead))
            if receipt.wall is not None and receipt.is_suspect:
                self.doubts.append(f"{path}:{line.number}: {clock_told(before, line.ts)}")
        ahead.popleft()
        return self._captured(path, line, receipt, size, ahead)

    def _told(self, path: Path, ahead: Sequence[_Line]) -> int:
        """Returns the event time of the first line, unless most of those behind it are earlier."""
        told = [self._wire.event_time(line.text) for line in islice(ahead, LOOKED_AT)]
        ts, known = told[0], [each for each in told if each is not None]
        last = self._clock.ts
        if ts is None:
            # Before any time: that of the next frames, not the year 1970.
            known_before = median_low(known) if known else self._before
            return last or known_before or self._first(path, ahead)
        usual = median_low(known)
        if ts <= max(usual, last) + APART_NS_MAX:
            _check_time(path, ahead[0].number, ts)
            return ts
        return last or usual

    def _first(self, path: Path, ahead: Sequence[_Line]) -> int:
        """Returns the first time that any line ahead tells."""
        for line in ahead:
            ts = line.ts if line.ts is not None else self._wire.event_time(line.text)
            if ts is not None:
                return ts
        raise FeedError(
            f"{path}:{ahead[0].number}: expected `<receive time> <frame>`, or frames that tell "
            f"when they were sent: none of the {len(ahead):,} from here on does"
        )

    def _captured(
        self, path: Path, line: _Line, receipt: Receipt, size: int, ahead: Sequence[_Line]
    ) -> Captured:
        body, kind, context = line.text[line.start :], TEXT, self._stream
        if line.path is not None:
            kind, context = REST, line.path
        elif self._wire.is_book_answer(body) and not self._stream:
            kind = REST
            symbol = self._symbol or self._only_symbol(path, line, ahead)
            context = self._wire.book_request(symbol).encode()
        elif symbol := self._wire.symbol(body):
            self._seen.add(symbol)
        return Captured(receipt.ts, kind, context, body, size, receipt.is_suspect, receipt.wall)

    def _only_symbol(self, path: Path, line: _Line, ahead: Sequence[_Line]) -> str:
        """Returns the symbol of a snapshot that does not tell: the only one of its file so far."""
        later = (self._wire.symbol(one.text[one.start :]) for one in ahead)
        symbols = self._seen.union(filter(None, later))
        if len(symbols) == 1 and self._seen:
            return symbols.pop()
        among = f" among frames of {', '.join(sorted(symbols))}" if len(symbols) > 1 else ""
        raise FeedError(
            f"{path}:{line.number}: a depth snapshot without its symbol{among}: give it by "
            "--symbol, in a file of that symbol alone"
        )


def text_name(path: Path) -> str:
    """Returns the name of a file as text, whatever bytes it is made of."""
    return os.fsencode(path.name).decode("utf-8", "replace")


def _line(number: int, text: bytes) -> _Line:
    if match := _STAMPED.match(text):
        return _Line(number, text, int(match[1].ljust(19, b"0")), match.end(), None)
    if match := _SECONDS.match(text):
        return _Line(number, text, _nanoseconds(match[1]), match.end(), None)
    if match := _ANSWER.match(text):
        request = redact(match[1].decode("utf-8", "surrogateescape"))
        path = request.encode("utf-8", "surrogateescape")
        return _Line(number, text, _nanoseconds(match[2]), match.end(), path)
    return _Line(number, text, None, 0, None)


def _later(ahead: Iterable[_Line]) -> list[int]:
    return [line.ts for line in islice(ahead, 1, None) if line.ts is not None]


def _check_time(path: Path, number: int, ts: int) -> None:
    if ts > TS_MAX:
        raise FeedError(
            f"{path}:{number}: expected a receive time up to the year 2262, got {ts} ns"
        )


def clock_told(before: int, stamp: int) -> str:
    """Says that a clock was set back: from when to when."""
    back_s = (before - stamp) / 1e9
    return f"receive times go back by {back_s:,.0f} s, from {before} to {stamp} ns"


def _opened(path: Path, file: IO[bytes]) -> AbstractContextManager[IO[bytes] | gzip.GzipFile]:
    return gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else nullcontext(file)


def _nanoseconds(text: bytes) -> int:
    # Not by way of a float: that has not the digits.
    whole, _, fraction = text.partition(b".")
    return int(whole) * 1_000_000_000 + int(fraction[:9].ljust(9, b"0") or b"0")
