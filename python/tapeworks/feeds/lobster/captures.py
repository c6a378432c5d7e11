"""Files of LOBSTER as the raw tape takes them: runs of lines of message files.

Zip archives as they are distributed, and message files, plain or gzip. Stock and day stand in the
name (`AMZN_2012-06-21_34200000_57600000_message_5.csv`), or are given. The order book file that
comes with them holds nothing that is not made of messages, and is not read.
"""

import gzip
import heapq
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import IO

from tapeworks.errors import ConfigError, FeedError
from tapeworks.feeds.captures import TEXT, Captured, CaptureOptions, text_name
from tapeworks.new_york import midnight_of, told_at

RUN_LINES_MAX, RUN_SPAN_S = 256, 1
LINE_BYTES_MAX = 256
COLUMNS = (6, 7)
EARLY_S = 60
"""So long before the end of its window a file may have its last message."""
_NAME = re.compile(
    r"(.+?)_(\d{4}-\d\d-\d\d)_\d+_(?P<until>\d+)_(?P<what>message|orderbook)_\d+\.csv"
)


class LobsterCaptures:
    """Reads files of LOBSTER."""

    endpoint = ""

    def __init__(self, options: CaptureOptions) -> None:
        options.refuse("stream")
        self._options = options
        self.doubts: list[str] = []
        self.notes: list[str] = []
        self.cuts: list[str] = []

    def read(self, path: Path) -> Iterator[Captured]:
        """Yields the lines of the message files of `path`. Receive times do not fall within one.

        Raises:
            FeedError: it is no message file, or not whole; what comes before was given.
            ConfigError: nothing tells its stock or day.
        """
        try:
            if zipfile.is_zipfile(path):
                yield from self._archive(path)
                return
            with path.open("rb") as raw:
                is_gzip = raw.read(2) == b"\x1f\x8b"
                raw.seek(0)
                if is_gzip:
                    with gzip.GzipFile(fileobj=raw) as lines:
                        name = text_name(path).removesuffix(".gz")
                        yield from self._lines(path, name, lines, raw)
                else:
                    yield from self._lines(path, text_name(path), raw, raw)
        except (gzip.BadGzipFile, zipfile.BadZipFile, EOFError, zlib.error) as error:
            raise FeedError(f"{path}: not whole: {error}") from None

    def _archive(self, path: Path) -> Iterator[Captured]:
        with zipfile.ZipFile(path) as archive:
            matches = {name: _NAME.fullmatch(Path(name).name) for name in archive.namelist()}
            names = sorted(
                name for name, found in matches.items() if found and found["what"] == "message"
            )
            if not names:
                raise FeedError(f"{path}: expected a message file in it, got none")
            with ExitStack() as opened:
                raw = opened.enter_context(path.open("rb"))
                every = [
                    self._lines(
                        path, Path(name).name, opened.enter_context(_member(archive, name)), raw
                    )
                    for name in names
                ]
                # Those of one day are of the same time: no receive time falls.
                yield from heapq.merge(*every, key=lambda captured: captured.ts_recv)

    def _lines(
        self, path: Path, name: str, lines: IO[bytes] | gzip.GzipFile, raw: IO[bytes]
    ) -> Iterator[Captured]:
        symbol, midnight = self._of(path, name)
        session = f"lobster?name={name}&symbol={symbol}&midnight={midnight}".encode()
        run: list[bytes] = []
        number, began, ts, columns, last = 1, 0, midnight, 0, b"\n"
        while line := lines.readline(LINE_BYTES_MAX + 1):
            place = f"{path}:{number + len(run)}"
            if len(line) > LINE_BYTES_MAX:
                raise FeedError(f"{place}: expected a message of LOBSTER, got a longer line")
            if number == 1 and not run and line.count(b",") + 1 not in COLUMNS:
                raise FeedError(
                    f"{place}: expected a message of LOBSTER, of 6 columns, got {line[:40]!r}; the "
                    "order book file is not imported: it is made of the messages"
                )
            columns, last = columns or line.count(b","), line
            second = _whole_seconds(line)
            if run and (len(run) >= RUN_LINES_MAX or second - began >= RUN_SPAN_S):
                yield _captured(session, number, ts, run, raw)
                number += len(run)
                run = []
            began = second if not run else began
            ts = max(ts, midnight + _time(line))
            run.append(line)
        if run:
            yield _captured(session, number, ts, run, raw)
        self._tell_end(path, name, ts, midnight, last, columns)

    def _tell_end(
        self, path: Path, name: str, ts: int, midnight: int, last: bytes, columns: int
    ) -> None:
        """Notes an end within a line, and one before that of the window: there may be no more."""
        found = _NAME.fullmatch(name)
        until = midnight + int(found["until"]) * 1_000_000 if found else ts
        is_early = ts < until - EARLY_S * 1_000_000_000
        # Many a whole file has no line break at its end.
        is_cut = not last.endswith(b"\n") and (is_early or last.count(b",") < columns)
        of, at = _named(path, name), told_at(ts)
        if is_cut:
            self.cuts.append(f"{of} is cut: it ends inside a line, at {at}")
        elif is_early:
            self.notes.append(
                f"{of} ends at {at}, before its window does at {told_at(until)}: what came behind "
                "it is not there"
            )

    def _of(self, path: Path, name: str) -> tuple[str, int]:
        """Returns stock and start of the day of a message file."""
        found = _NAME.fullmatch(name)
        if found and found["what"] == "orderbook":
            raise FeedError(f"{path}: it is the order book file: give the message file, or the zip")
        told_day = date.fromisoformat(found[2]) if found else None
        for option, given, told in (
            ("--symbol", self._options.symbol, found[1] if found else ""),
            ("--date", self._options.day, told_day),
        ):
            if given and told and given != told:
                raise ConfigError(
                    f"{_named(path, name)} is of {told} by its name, and of {given} by {option}"
                )
        symbol = self._options.symbol or (found[1] if found else "")
        day = self._options.day or told_day
        if not symbol or day is None or "&" in symbol or not symbol.isprintable():
            raise ConfigError(
                f"{path}: nothing tells its stock and day: expected a name such as "
                "AMZN_2012-06-21_34200000_57600000_message_5.csv, or --symbol AMZN and "
                "--date 2012-06-21"
            )
        return symbol, midnight_of(day)


def _named(path: Path, name: str) -> str:
    """Returns how a message file is called, which may be one of an archive."""
    return f"{name} of {path}" if zipfile.is_zipfile(path) else str(path)


def _captured(session: bytes, number: int, ts: int, run: list[bytes], raw: IO[bytes]) -> Captured:
    return Captured(ts, TEXT, session + b"&row=%d" % number, b"".join(run), raw.tell())


def _whole_seconds(line: bytes) -> int:
    digits = line.partition(b",")[0].partition(b".")[0]
    return int(digits) if digits.isdigit() and len(digits) < 6 else 0


def _time(line: bytes) -> int:
    """Returns the time of a line in ns since midnight; 0 of one that tells none."""
    fraction = line.partition(b",")[0].partition(b".")[2][:9]
    ns = int(fraction.ljust(9, b"0")) if fraction.isdigit() else 0
    return _whole_seconds(line) * 1_000_000_000 + ns


def _member(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    try:
        return archive.open(name)
    except (RuntimeError, NotImplementedError) as error:
        # What zipfile says of an archive with a password, or packed another way.
        raise FeedError(
            f"{archive.filename}: cannot be unpacked: {error}: unpack it, and import the files"
        ) from None
