"""Files of ITCH 5.0 as the raw tape takes them: runs of messages, or packets of MoldUDP64.

Files are those of NASDAQ, each message behind its length, plain or gzip, and pcap. The day is not
in the messages: it stands in the file's name (`01302019.NASDAQ_ITCH50.gz`), or is given; a packet
has it in its time of capture. A file has no times of receipt: that of its events stands for them.
A time that most of those behind it contradict is not believed.
"""

import gzip
import re
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import date, datetime
from itertools import islice
from pathlib import Path
from statistics import median_low
from typing import IO

from tapeworks._core import itch_run
from tapeworks.errors import ConfigError, FeedError
from tapeworks.feeds.capture_clock import APART_NS_MAX, CaptureClock
from tapeworks.feeds.captures import LOOKED_AT, Captured, CaptureOptions, clock_told
from tapeworks.feeds.itch.packets import Datagram, PacketError, datagrams, is_pcap
from tapeworks.feeds.itch.wire import END_OF_SESSION, HEADER
from tapeworks.new_york import day_at, midnight_of, told_at

BINARY = 2
RUN_MESSAGES_MAX, RUN_SPAN_NS = 1_000, 1_000_000_000
READ_BYTES = 4 << 20
REORDER_MS = 1_000
"""So long a packet of a capture waits for those before it, which the other line may bring."""
QUIET_NS = 60_000_000_000
"""After so long without a packet, the next one may be of another day."""
GZIP = b"\x1f\x8b"
# 01302019.NASDAQ_ITCH50, S071321-v50.txt.gz
_DATES = (
    (re.compile(r"(?<!\d)(\d{8})\.[A-Z]*_?ITCH", re.IGNORECASE), "%m%d%Y"),
    (re.compile(r"(?<!\d)(\d{6})-v50", re.IGNORECASE), "%m%d%y"),
    (re.compile(r"(?<!\d)(\d{4}-\d\d-\d\d)(?!\d)"), "%Y-%m-%d"),
)


class ItchCaptures:
    """Reads files of ITCH 5.0."""

    endpoint = ""

    def __init__(self, options: CaptureOptions) -> None:
        options.refuse("symbol", "stream")
        self._day = options.day
        self._context_day: date | None = None
        self._heard = 0
        self.doubts: list[str] = []
        self.notes: list[str] = []
        self.cuts: list[str] = []

    def read(self, path: Path) -> Iterator[Captured]:
        """Yields the runs of messages, or the packets, of `path`. Receive times do not fall.

        Raises:
            FeedError: it is none of these files, or not whole; what comes before was given.
            ConfigError: nothing tells its day.
        """
        with path.open("rb") as raw:
            start = raw.read(2)
            raw.seek(0)
            opened = gzip.GzipFile(fileobj=raw) if start == GZIP else nullcontext(raw)
            try:
                yield from self._read(path, raw, opened)
            except (gzip.BadGzipFile, EOFError, zlib.error) as error:
                raise FeedError(f"{path}: not whole gzip: {error}") from None

    def _read(
        self, path: Path, raw: IO[bytes], opened: AbstractContextManager[IO[bytes] | gzip.GzipFile]
    ) -> Iterator[Captured]:
        with opened as file:
            start = file.read(4)
            file.seek(0)
            if is_pcap(start):
                yield from self._packets(path, raw, file)
            else:
                yield from self._runs(path, raw, file)

    def _packets(
        self, path: Path, raw: IO[bytes], file: IO[bytes] | gzip.GzipFile
    ) -> Iterator[Captured]:
        clock, ahead, trouble = CaptureClock(), deque[Datagram](), ""
        unnumbered = 0
        try:
            for datagram in datagrams(file):
                ahead.append(datagram)
                unnumbered += is_unnumbered(datagram.payload)
                if len(ahead) > LOOKED_AT:
                    yield self._packet(path, clock, ahead, raw.tell())
        except PacketError as error:
            trouble = f"{path}: {error}"
        # What came before the trouble is given first.
        while ahead:
            yield self._packet(path, clock, ahead, raw.tell())
        if unnumbered:
            self.notes.append(
                f"{path}: {unnumbered} packets have messages without a number: what is lost among "
                "them cannot be seen, and all their records are flagged"
            )
        if trouble:
            raise FeedError(trouble)
        if not clock.ts:
            raise FeedError(f"{path}: expected UDP datagrams, got none")

    def _packet(
        self, path: Path, clock: CaptureClock, ahead: deque[Datagram], size: int
    ) -> Captured:
        """Takes the first of the packets."""
        datagram, before = ahead[0], clock.ts
        receipt = clock.receipt(datagram.ts, lambda: [one.ts for one in islice(ahead, 1, None)])
        if receipt.wall is not None and receipt.is_suspect:
            self.doubts.append(f"{path}: {clock_told(before, datagram.ts)}")
        ahead.popleft()
        if self._context_day is None or receipt.ts - self._heard >= QUIET_NS:
            # A session stays one of the day on which it began.
            captured = day_at(receipt.ts)
            self._context_day = self._day or captured
            if captured != self._context_day:
                self.notes.append(
                    f"{path} was captured on {captured}, and is taken as of {self._context_day} "
                    "by --date"
                )
        self._heard = receipt.ts
        midnight = midnight_of(self._context_day)
        context = f"moldudp64?reorder_ms={REORDER_MS}&midnight={midnight}".encode()
        return Captured(
            receipt.ts, BINARY, context, datagram.payload, size, receipt.is_suspect, receipt.wall
        )

    def _runs(
        self, path: Path, raw: IO[bytes], file: IO[bytes] | gzip.GzipFile
    ) -> Iterator[Captured]:
        """Yields the runs of messages, with times that do not fall."""
        ahead: deque[Captured] = deque()
        ts, trouble = 0, None
        try:
            for run in self._told(path, raw, file):
                ahead.append(run)
                if len(ahead) > LOOKED_AT:
                    yield (believed := _believed(ahead, ts))
                    ts = believed.ts_recv
        except FeedError as error:
            trouble = error
        while ahead:
            yield (believed := _believed(ahead, ts))
            ts = believed.ts_recv
        if trouble is not None:
            raise trouble

    def _told(
        self, path: Path, raw: IO[bytes], file: IO[bytes] | gzip.GzipFile
    ) -> Iterator[Captured]:
        """Yields the runs of messages, with the times that they tell, or the last that was told."""
        data = file.read(READ_BYTES)
        _check_start(path, data)
        midnight = midnight_of(self._day_of(path))
        session = f"file?name={path.name}&midnight={midnight}".encode("utf-8", "replace")
        place, number, ts, last = 0, 1, midnight, b""
        while data:
            at, is_ended = 0, False
            while not is_ended:
                end, count, time, is_ended = itch_run(data, at, RUN_MESSAGES_MAX, RUN_SPAN_NS)
                if not count:
                    break
                ts = ts if time is None else midnight + time
                context = session + b"&sequence=%d" % number
                last = data[at:end]
                yield Captured(ts, BINARY, context, last, raw.tell())
                at, number = end, number + count
            rest = data[at:]
            more = file.read(READ_BYTES)
            if is_ended:
                _check_end(path, place + at, len(rest) + len(more))
                return
            place += at
            if not more and rest:
                # The bytes of a message that is not whole are kept, as what they are.
                context = session + b"&sequence=%d" % number
                yield Captured(ts, BINARY, context, rest, raw.tell())
                break
            data = rest + more
        if not _ends_day(last):
            self.cuts.append(
                f"{path} ends at {told_at(ts)} without the venue's end of messages: what came "
                "behind it is not there"
            )

    def _day_of(self, path: Path) -> date:
        told = _told_day(path)
        if told and self._day and told != self._day:
            raise ConfigError(f"{path} is of {told} by its name, and of {self._day} by --date")
        if day := self._day or told:
            return day
        raise ConfigError(
            f"{path}: nothing tells its day: expected a name such as 01302019.NASDAQ_ITCH50.gz, or "
            "--date 2019-01-30"
        )


def is_unnumbered(packet: bytes) -> bool:
    """Says whether a packet of MoldUDP64 holds messages, and numbers them by 0: they begin at 1."""
    if len(packet) <= HEADER.size:
        return False
    _, first, count = HEADER.unpack_from(packet)
    return bool(first == 0 and 0 < count < END_OF_SESSION)


def _believed(ahead: deque[Captured], before: int) -> Captured:
    """Takes the first run, with the time that it tells, unless those behind it disagree."""
    run = ahead.popleft()
    usual = median_low([one.ts_recv for one in ahead] or [run.ts_recv])
    if run.ts_recv > max(usual, before) + APART_NS_MAX:
        return replace(run, ts_recv=before or usual, is_suspect=True)
    return replace(run, ts_recv=max(run.ts_recv, before))


def _told_day(path: Path) -> date | None:
    for pattern, form in _DATES:
        if found := pattern.search(path.name):
            try:
                return datetime.strptime(found[1], form).date()
            except ValueError:
                continue
    return None


def _ends_day(run: bytes) -> bool:
    """Says whether the last message of a run is the one that ends the day: `S` of event `C`."""
    at, message = 0, b""
    while at + 2 <= len(run):
        length = int.from_bytes(run[at : at + 2], "big")
        message, at = run[at + 2 : at + 2 + length], at + 2 + length
    return message[:1] == b"S" and message[11:12] == b"C"


def _check_start(path: Path, data: bytes) -> None:
    """Refuses a file of which not one of the first messages has the length of its type."""
    _, count, time, is_ended = itch_run(data, 0, RUN_MESSAGES_MAX, 1 << 62)
    if is_ended and not count:
        raise FeedError(
            f"{path}: it starts with a message of length 0: expected each message behind its "
            "length, as in the files of NASDAQ; other programs write 0 before all of them"
        )
    if data[:1] == b"\0" and data[2:3] == b"S" and time is None:
        raise FeedError(f"{path}: it is of SoupBinTCP: expected a file of messages alone, or pcap")
    if time is None and len(data) > 2:
        raise FeedError(
            f"{path}: expected messages of ITCH 5.0, plain, gzip or pcap; got {data[:12].hex(' ')}"
        )


def _check_end(path: Path, place: int, rest: int) -> None:
    # The length of 0 itself is all that may stand at the end.
    if rest > 2:
        raise FeedError(
            f"{path}: a message of length 0, which ends a session, at byte {place}, and "
            "bytes behind it: what comes before is imported"
        )
