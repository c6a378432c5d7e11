"""What every run of the campaign of faults is checked for, at whatever venue.

Connections that were down, and no others, are in the ledger of streams whose messages prove no
loss; and no change leaves a book that is not verified.
"""

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tapeworks._core import Records, Stage, TapeReader, dtype_descr

TRADE, QUOTE, DEPTH = 1, 3, 4
GAP, BOOK_STATE = 3, 10
CONTINUOUS = 3
SEQUENCE, SILENCE, DISCONNECT = 1, 2, 3
OPEN, CLOSED, REPAIRED = 1, 2, 3
TEXT, BINARY = 1, 2
SLACK_NS = 1_000_000_000


@dataclass
class Outcome:
    """What one seed showed."""

    seed: int
    complaints: list[str] = field(default_factory=list)
    frames: int = 0
    trades: int = 0
    lost_ids: int = 0
    entries: int = 0
    hits: int = 0
    resyncs: int = 0


def rows(records: Records, kind: str) -> np.ndarray:
    """Returns the records of a kind as rows."""
    return np.frombuffer(records.numpy(kind), np.dtype(dtype_descr(kind)))


def read_all(path: Path) -> Records:
    """Returns all records of a tape."""
    reader, parts = TapeReader(path), []
    while (batch := reader.read(1 << 20)) is not None:
        parts.append(bytes(memoryview(batch)))
    return Records.from_bytes(b"".join(parts))


def text(field_bytes: bytes) -> str:
    """Returns the text of a padded field."""
    return field_bytes.rstrip(b"\0").decode()


class Check(ABC):
    """What a run left, read once, and compared with the truth."""

    def __init__(self, outcome: Outcome, data: Path, source: str, oracle: dict[str, Any]) -> None:
        self.outcome = outcome
        self.oracle = oracle
        self.folder = data / "tape" / source
        self.state = data / "state" / source
        self.records = read_all(self.folder / "market-data.normalized")
        self.markers = rows(self.records, "marker")
        self.trades = rows(self.records, "trade")
        self.levels = rows(self.records, "level")
        self.instruments = {
            text(bytes(row["symbol"])): int(row["instrument"])
            for row in rows(self.records, "definition")
        }

    @abstractmethod
    def run(self) -> None:
        """Runs all comparisons."""

    def complain(self, message: str) -> None:
        """Notes what does not hold."""
        self.outcome.complaints.append(message)

    def ledger(self, instrument: int, channel: int) -> Iterator[Any]:
        """Yields the gap entries of a stream."""
        wanted = (self.markers["code"] == GAP) & (self.markers["instrument"] == instrument)
        yield from self.markers[wanted & (self.markers["channel"] == channel)]

    def check_outages(
        self, symbol: str, channel: int, links: Sequence[tuple[int, int]], since_ns: int = 0
    ) -> None:
        """An unsequenced stream has entries for outages of its `links`, and no other.

        A stream that said nothing before `since_ns` had nothing to lose before.
        """
        outages, until = [], None
        for opened, closed in sorted(links):
            if until is not None and opened > until:
                outages.append((until, opened))
            until = closed if until is None else max(until, closed)
        ledger = self.ledger(self.instruments[symbol], channel)
        entries = [entry for entry in ledger if entry["cause"] == DISCONNECT]
        for entry in entries:
            if entry["state"] != CLOSED:
                continue
            start, end = int(entry["ts_start"]), int(entry["ts_event"])
            if not any(a - SLACK_NS <= end and start <= b + SLACK_NS for a, b in outages):
                self.complain(f"{symbol}: an outage {start} to {end} that was none")
        if any(start > since_ns for start, _ in outages) and not entries:
            self.complain(f"{symbol}: outages {outages}, none in the ledger of channel {channel}")

    def derive_books(self) -> Path:
        """Derives the books, and returns their tape, which no unverified change is on."""
        path = self.folder / "market-data.book"
        stage = Stage("books", self.folder / "market-data.normalized", path, self.state / "books")
        stage.run_until_idle()
        stage.close()
        self.verified_only(read_all(path))
        return path

    def verified_only(self, records: Records) -> None:
        """5: changes leave a book only between its proof and its next break."""
        verified: dict[int, bool] = defaultdict(bool)
        last: dict[int, int] = {}
        levels = np.dtype(dtype_descr("level"))
        markers = np.dtype(dtype_descr("marker"))
        view, at = memoryview(records).cast("B"), 0
        while at < len(view):
            length, kind = view[at] * 8, view[at + 1]
            if kind == 8:
                row = np.frombuffer(view[at : at + 64], markers)[0]
                if row["code"] == BOOK_STATE:
                    instrument = int(row["instrument"])
                    verified[instrument] = int(row["state"]) == CONTINUOUS
                    self.outcome.resyncs += int(verified[instrument])
                    last.pop(instrument, None)
            elif kind == 3:
                row = np.frombuffer(view[at : at + 64], levels)[0]
                if row["channel"] == DEPTH:
                    self.follow(row, verified, last)
            at += length

    def follow(self, row: Any, verified: dict[int, bool], last: dict[int, int]) -> None:
        """One level that left a book."""
        instrument, sequence = int(row["instrument"]), int(row["sequence"])
        if not verified[instrument]:
            self.complain(f"instrument {instrument}: {sequence} left a book that is not verified")
        known = last.get(instrument)
        if known is not None and known != sequence and known != int(row["previous"]):
            self.complain(f"instrument {instrument}: {sequence} does not follow {known}")
        last[instrument] = sequence
