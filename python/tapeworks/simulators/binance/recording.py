"""Reads recordings of Binance: what came, on which stream, and when.

Two forms are known. In one, each line is the receive time in ns and the frame; the answer to a
request for the book stands bare among them. In the other, streams and requests have files of their
own, and each line names the second and, for requests, the address.
"""

import gzip
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from tapeworks.errors import ConfigError

_ENVELOPE = re.compile(rb'\{"stream":"([^"]+)","data":(.*)\}\s*', re.DOTALL)
_NANOSECONDS = re.compile(rb"(\d{19}) (\{.*)", re.DOTALL)
_SECONDS = re.compile(rb"(\d{10}\.\d+): (\{.*)", re.DOTALL)
_ANSWER = re.compile(rb"https?://[^/]+(/\S+) -> (\d{10}\.\d+): (\{.*)", re.DOTALL)
_SYMBOL = re.compile(rb"[?&]symbol=(\w+)")
_LAST_ID = re.compile(rb'"(?:t|a|u)":(\d+)')
_FIRST_ID = re.compile(rb'"U":(\d+)')
_UPDATE_ID = re.compile(rb'"lastUpdateId":(\d+)')
_NUMBER = re.compile(rb'"(\d+\.?\d*)"')


@dataclass(frozen=True)
class Recorded:
    """One recorded frame."""

    ts: int
    stream: str
    payload: bytes
    first: int
    last: int


@dataclass
class Book:
    """A recorded answer to a request for the book."""

    ts: int
    symbol: str
    body: bytes
    update_id: int


@dataclass
class Recording:
    """Everything that files of one product hold."""

    frames: list[Recorded] = field(default_factory=list)
    books: list[Book] = field(default_factory=list)
    exchange_info: bytes = b""

    @property
    def symbols(self) -> list[str]:
        """The symbols that frames or books are about."""
        named = {frame.stream.partition("@")[0].upper() for frame in self.frames}
        return sorted(named | {book.symbol for book in self.books})


def read_recording(paths: Iterable[Path]) -> Recording:
    """Reads all files, and puts what they hold in order of time.

    Raises:
        ConfigError: a file is not there, or holds a line that is neither form.
    """
    recording = Recording()
    for path in paths:
        try:
            with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
                _read(file, path, recording)
        except OSError as error:
            raise ConfigError(f"cannot play back {path}: {error}") from None
    recording.frames.sort(key=lambda frame: frame.ts)
    recording.books.sort(key=lambda book: book.ts)
    if not recording.frames:
        raise ConfigError("expected recorded frames to play back, got none")
    return recording


def _read(lines: Iterable[bytes], path: Path, recording: Recording) -> None:
    bare: list[tuple[int, bytes]] = []
    start = len(recording.frames)
    for number, line in enumerate(lines, 1):
        line = line.strip()
        if not line or line.startswith((b"wss://", b"configuration:")):
            continue
        if match := _ANSWER.fullmatch(line):
            _add_answer(recording, match)
        elif match := _NANOSECONDS.fullmatch(line):
            _add_line(recording, int(match[1]), match[2], bare)
        elif match := _SECONDS.fullmatch(line):
            _add_line(recording, int(Decimal(match[1].decode()) * 10**9), match[2], bare)
        else:
            raise ConfigError(f"{path}:{number}: neither a frame nor an answer: {line[:60]!r}")
    # A bare book names no symbol: it is that of the file's streams.
    named = {frame.stream.partition("@")[0].upper() for frame in recording.frames[start:]}
    for ts, body in bare:
        if len(named) != 1:
            raise ConfigError(f"{path}: a book without a symbol among streams of {sorted(named)}")
        recording.books.append(Book(ts, min(named), body, _update_id(body)))


def _add_answer(recording: Recording, match: re.Match[bytes]) -> None:
    path, ts, body = match[1], int(Decimal(match[2].decode()) * 10**9), match[3]
    if b"exchangeInfo" in path:
        recording.exchange_info = body
    elif b"/depth" in path and (symbol := _SYMBOL.search(path)):
        recording.books.append(Book(ts, symbol[1].decode(), body, _update_id(body)))


def _add_line(recording: Recording, ts: int, frame: bytes, bare: list[tuple[int, bytes]]) -> None:
    envelope = _ENVELOPE.fullmatch(frame)
    if envelope is None:
        bare.append((ts, frame))
        return
    payload = envelope[2]
    last = _LAST_ID.search(payload)
    first = _FIRST_ID.search(payload)
    number = int(last[1]) if last else 0
    recording.frames.append(
        Recorded(ts, envelope[1].decode(), payload, int(first[1]) if first else number, number)
    )


def _update_id(body: bytes) -> int:
    found = _UPDATE_ID.search(body)
    return int(found[1]) if found else 0


def decimals(bodies: Iterable[bytes]) -> Iterator[int]:
    """Yields the digits after the point of each decimal in quotes that means something."""
    for body in bodies:
        for text in _NUMBER.findall(body):
            _, _, fraction = text.partition(b".")
            yield len(fraction.rstrip(b"0"))
