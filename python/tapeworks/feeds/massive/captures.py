"""Files of Massive as the raw tape takes them: captured frames by line, or flat files.

A flat file (CSV, plain or gzip) has no times of receipt. All its rows are taken as received at the
end of the day that its name or `--date` tells, two hours after midnight UTC: past the last event,
and within a day of the first. The file stands for the day up to then.
"""

import gzip
import os
import re
import zlib
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import IO
from urllib.parse import quote

from tapeworks.errors import ConfigError, FeedError
from tapeworks.feeds.captures import REST, Captured, CaptureOptions, Captures
from tapeworks.feeds.massive.flat_files import LINE_MAX, bodies, span_of

HEADER, BOM = b"ticker,", b"\xef\xbb\xbf"
INSTRUMENTS_MAX = 20_000
"""So many symbols a source holds."""
NS_PER_DAY = 86_400 * 10**9
PUBLISHED, MADE = b'"sip_timestamp":', b'"participant_timestamp":'
_DAY = re.compile(r"\d{4}-\d\d-\d\d")


class MassiveCaptures:
    """Reads files of Massive."""

    endpoint = "https://files.massive.com"

    def __init__(self, options: CaptureOptions) -> None:
        options.refuse("symbol", "stream")
        self._options = options
        self._lines = Captures(CaptureOptions(options.feed))
        self.doubts, self.notes = self._lines.doubts, self._lines.notes
        self.cuts = self._lines.cuts

    def read(self, path: Path) -> Iterator[Captured]:
        """Yields the frames of a capture, or the rows of a flat file as answers of the REST API.

        Raises:
            FeedError: it is neither, or not whole; what comes before was given.
            ConfigError: nothing tells the day of a flat file, or its rows are of another.
        """
        try:
            with path.open("rb") as raw:
                is_gzip = raw.read(2) == b"\x1f\x8b"
                raw.seek(0)
                with gzip.GzipFile(fileobj=raw) if is_gzip else raw as content:
                    start = content.read(len(BOM) + len(HEADER))
                    if start.removeprefix(BOM).startswith(HEADER):
                        content.seek(len(BOM) if start.startswith(BOM) else 0)
                        yield from self._rows(path, _lines_of(content), raw.tell)
                        return
        except (gzip.BadGzipFile, EOFError, zlib.error, UnicodeDecodeError) as error:
            raise FeedError(f"{path}: not whole: {error}") from None
        self._options.refuse("day")
        yield from self._lines.read(path)

    def _rows(
        self, path: Path, lines: Iterator[str], position: Callable[[], int]
    ) -> Iterator[Captured]:
        day = self._day(path)
        span = span_of(day)
        # Packed or not, it is the same file: its rows are known again.
        name = quote(os.fsencode(path.name.removesuffix(".gz")))
        tickers, is_noted = set(), False
        for request, body, size in bodies(lines, str(path), day, position):
            tickers.add(request)
            if len(tickers) > INSTRUMENTS_MAX:
                raise FeedError(
                    f"{path}: over {INSTRUMENTS_MAX:,} tickers, more than a source holds: import "
                    "it in parts, each into a source of its own (--source)"
                )
            if not is_noted and MADE in body and PUBLISHED not in body:
                is_noted = True
                self.notes.append(
                    f"{path}: has no sip_timestamp: its rows are of the time of their exchange, "
                    "participant_timestamp"
                )
            context = f"{request}?file={name}".encode()
            # The venue's record of a day, from the end of that of the day before it on.
            yield Captured(span.stop, REST, context, body, size, since=span.stop - NS_PER_DAY)

    def _day(self, path: Path) -> date:
        found = _DAY.search(path.name)
        try:
            day = self._options.day or (date.fromisoformat(found[0]) if found else None)
        except ValueError:
            day = None
        if day is None:
            raise ConfigError(
                f"{path}: nothing tells its day: expected a name such as 2026-10-01.csv.gz, as the "
                "venue gives it, or --date 2026-10-01"
            )
        return day


def _lines_of(content: IO[bytes] | gzip.GzipFile) -> Iterator[str]:
    while line := content.readline(LINE_MAX + 1):
        yield line.decode()
