"""Files of Massive as the raw tape takes them: captured frames by line, or flat files.

A flat file (CSV, plain or gzip) has no times of receipt. All its rows are taken as received at the
end of the day that its name or `--date` tells, two hours after midnight UTC: past the last event,
and within a day of the first.
"""

import gzip
import re
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import IO

from tapeworks.errors import ConfigError, FeedError
from tapeworks.feeds.captures import REST, Captured, CaptureOptions, Captures
from tapeworks.feeds.massive.flat_files import LINE_MAX, bodies

HEADER = b"ticker,"
AFTER_MIDNIGHT = timedelta(days=1, hours=2)
_DAY = re.compile(r"\d{4}-\d\d-\d\d")


class MassiveCaptures:
    """Reads files of Massive."""

    def __init__(self, options: CaptureOptions) -> None:
        options.refuse("symbol", "stream")
        self._options = options
        self._lines = Captures(CaptureOptions(options.feed))
        self.doubts = self._lines.doubts

    def read(self, path: Path) -> Iterator[Captured]:
        """Yields the frames of a capture, or the rows of a flat file as answers of the REST API.

        Raises:
            FeedError: it is neither, or not whole; what comes before was given.
            ConfigError: nothing tells the day of a flat file.
        """
        try:
            with path.open("rb") as raw:
                is_gzip = raw.read(2) == b"\x1f\x8b"
                raw.seek(0)
                with gzip.GzipFile(fileobj=raw) if is_gzip else raw as content:
                    if content.read(len(HEADER)) == HEADER:
                        content.seek(0)
                        yield from self._rows(path, _lines_of(content), raw.tell)
                        return
        except (gzip.BadGzipFile, EOFError, zlib.error, UnicodeDecodeError) as error:
            raise FeedError(f"{path}: not whole: {error}") from None
        self._options.refuse("day")
        yield from self._lines.read(path)

    def _rows(
        self, path: Path, lines: Iterator[str], position: Callable[[], int]
    ) -> Iterator[Captured]:
        midnight = datetime.combine(self._day(path), datetime.min.time(), UTC)
        ts = int((midnight + AFTER_MIDNIGHT).timestamp()) * 1_000_000_000
        for request, body, size in bodies(lines, str(path), position):
            # Packed or not, it is the same file: its rows are known again.
            context = f"{request}?file={path.name.removesuffix('.gz')}".encode()
            yield Captured(ts, REST, context, body, size)

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
