"""Binance, whose ids prove what is missing: its run is compared with frames and ids.

1. Every decodable trade that reached the raw tape is a record exactly once, and no other is.
2. Every id that is missing is in the ledger, and the ledger names no id that was not lost.
3. Every loss that the oracle knows of, and that a later message proves, is in the ledger.
4. An outage is in the ledger of unsequenced streams when there was one, and only then.
5. No change leaves a book that is not verified, and what leaves it is continuous.
6. In the end every book is verified and equals the exchange's, to the checksum.
"""

import json
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from tests.faults.check import (
    DEPTH,
    QUOTE,
    REPAIRED,
    SEQUENCE,
    SLACK_NS,
    TEXT,
    TRADE,
    Check,
    Outcome,
)

from tapeworks._core import BookHistory, TapeReader


class Ids:
    """A set of whole numbers, as ranges."""

    def __init__(self) -> None:
        self.ranges: list[tuple[int, int]] = []

    def add(self, first: int, last: int) -> None:
        """Adds `first` to `last`."""
        self.ranges.append((first, last))

    def union(self) -> list[tuple[int, int]]:
        """Returns the ranges in order, joined where they touch."""
        joined: list[tuple[int, int]] = []
        for first, last in sorted(self.ranges):
            if joined and first <= joined[-1][1] + 1:
                joined[-1] = (joined[-1][0], max(joined[-1][1], last))
            else:
                joined.append((first, last))
        return joined

    def covers(self, first: int, last: int) -> bool:
        """Whether all of `first` to `last` are in it."""
        return any(a <= first and last <= b for a, b in self.union())

    def touches(self, first: int, last: int) -> bool:
        """Whether any of `first` to `last` is in it."""
        return any(a <= last and first <= b for a, b in self.ranges)

    def holes(self) -> list[tuple[int, int]]:
        """Returns what lies between its ranges."""
        joined = self.union()
        return [(a[1] + 1, b[0] - 1) for a, b in pairwise(joined)]


@dataclass
class Received:
    """What reached the raw tape of one stream, by our own reading of the frames."""

    ids: Ids = field(default_factory=Ids)
    events: list[tuple[int, int, int]] = field(default_factory=list)
    """First and last id, and the last one before (futures)."""
    late: Ids = field(default_factory=Ids)
    newest: int = -1

    def add(self, first: int, last: int, previous: int) -> None:
        """Takes in one message."""
        if last <= self.newest:
            self.late.add(first, last)
        self.newest = max(self.newest, last)
        self.ids.add(first, last)
        self.events.append((first, last, previous))


def read_raw(path: Path) -> tuple[dict[str, Received], int]:
    """Reads the sequenced streams of a raw tape with Python's own JSON."""
    streams: dict[str, Received] = defaultdict(Received)
    frames, reader = 0, TapeReader(path)
    while (blobs := reader.read_blobs()) is not None:
        for blob in blobs:
            frames += 1
            if blob.kind != TEXT:
                continue
            try:
                frame = json.loads(blob.body)
                data = frame["data"]
            except (ValueError, KeyError, TypeError):
                continue
            try:
                if data.get("e") == "trade":
                    streams[frame["stream"]].add(data["t"], data["t"], data["t"] - 1)
                elif data.get("e") == "depthUpdate":
                    previous = data.get("pu", data["U"] - 1)
                    streams[frame["stream"]].add(data["U"], data["u"], previous)
            except (KeyError, AttributeError):
                continue
    return streams, frames


class NumberedCheck(Check):
    """Compares one run with the truth."""

    def __init__(self, outcome: Outcome, data: Path, source: str, oracle: dict[str, Any]) -> None:
        super().__init__(outcome, data, source, oracle)
        self.futures = source == "binance-usdm"
        self.raw, outcome.frames = read_raw(self.folder / "market-data.raw")

    def lost(self, instrument: int, channel: int) -> Ids:
        """Returns the ids that the ledger holds for lost in the end."""
        closed, repaired = Ids(), Ids()
        for entry in self.ledger(instrument, channel):
            if entry["cause"] == SEQUENCE:
                self.outcome.entries += 1
                ids = repaired if entry["state"] == REPAIRED else closed
                ids.add(int(entry["first"]), int(entry["last"]))
        left = Ids()
        for first, last in closed.union():
            for a, b in repaired.union():
                if a <= last and first <= b:
                    if first < a:
                        left.add(first, a - 1)
                    first = b + 1
            if first <= last:
                left.add(first, last)
        return left

    def run(self) -> None:
        """Runs all comparisons."""
        for symbol, instrument in self.instruments.items():
            stream = symbol.lower()
            self.trades_once(stream, instrument)
            self.trade_gaps(stream, instrument)
            self.depth_gaps(stream, instrument)
            self.known_losses(stream, instrument)
            self.outages(symbol)
        self.books()

    def trades_once(self, stream: str, instrument: int) -> None:
        """1: records equal frames."""
        mine = self.trades[self.trades["instrument"] == instrument]["sequence"]
        ids, counts = np.unique(mine, return_counts=True)
        self.outcome.trades += len(mine)
        if (counts > 1).any():
            self.complain(f"{stream}: trades {ids[counts > 1][:5]} are there twice")
        received = {first for first, _, _ in self.raw[f"{stream}@trade"].events}
        differ = received ^ set(ids.tolist())
        if differ:
            self.complain(f"{stream}: trades {sorted(differ)[:5]} are in one place only")

    def trade_gaps(self, stream: str, instrument: int) -> None:
        """2, for trades: the ledger is exactly what is missing."""
        missing = self.raw[f"{stream}@trade"].ids.holes()
        ledger = self.lost(instrument, TRADE).union()
        self.outcome.lost_ids += sum(last - first + 1 for first, last in missing)
        if missing != ledger:
            self.complain(f"{stream}: trades {missing} are missing, the ledger has {ledger}")

    def depth_gaps(self, stream: str, instrument: int) -> None:
        """2, for books: every hole is in the ledger, every entry is a hole or came too late."""
        name = next((n for n in self.raw if n.startswith(f"{stream}@depth")), None)
        if name is None:
            return
        raw, ledger = self.raw[name], self.lost(instrument, DEPTH)
        if self.futures:
            known = {last for _, last, _ in raw.events}
            start = min(first for first, _, _ in raw.events)
            holes = [
                (previous, first)
                for first, _, previous in raw.events
                if previous not in known and previous >= start
            ]
            for previous, first in holes:
                if not ledger.touches(previous, first):
                    self.complain(f"{name}: nothing in the ledger before {first}")
        else:
            holes = raw.ids.holes()
            for first, last in holes:
                if not ledger.covers(first, last):
                    self.complain(f"{name}: {first} to {last} is not in {ledger.union()}")
        for first, last in ledger.union():
            real = any(a <= last and first <= b for a, b in holes)
            if not real and not raw.late.touches(first, last):
                self.complain(f"{name}: the ledger's {first} to {last} was not lost")

    def known_losses(self, stream: str, instrument: int) -> None:
        """3: what the exchange withheld, and then went on, is in the ledger."""
        for loss in self.oracle["losses"]:
            name, _, rest = loss["stream"].partition("@")
            channel = TRADE if rest == "trade" else DEPTH if rest.startswith("depth") else None
            if name != stream or channel is None or not loss["after"] or not loss["before"]:
                continue
            raw = self.raw[loss["stream"]]
            shown = raw.events and raw.events[0][1] <= loss["before"]
            if shown and raw.newest >= loss["after"]:
                first, last = loss["first"], loss["last"]
                if not self.lost(instrument, channel).touches(first, last):
                    self.complain(f"{loss['stream']}: the loss of {first} to {last} is unknown")

    def outages(self, symbol: str) -> None:
        """4: unsequenced streams have an entry for each outage, and no other."""
        # On futures a line of its own carries the quotes.
        links = [
            (self.quote_time(link["opened_ns"]), self.quote_time(link["closed_ns"] or 1 << 61))
            for link in self.oracle["connections"]
            if not self.futures or "public" in link["path"]
        ]
        self.check_outages(symbol, QUOTE, links)

    def quote_time(self, ts: int) -> int:
        """Returns the time that quotes have at the market's `ts`.

        Those of futures have the market's, those of spot this host's. The market is behind it by
        the time that it waited for a listener, and by more where the machine is too slow for it.
        """
        if self.futures or not len(self.trades):
            return ts
        behind = self.trades["ts_recv"] - self.trades["ts_event"]
        near = abs(self.trades["ts_event"] - ts) <= SLACK_NS
        return ts + int((behind[near] if near.any() else behind).min())

    def books(self) -> None:
        """5 and 6: what leaves the books is verified, and they end as the exchange's."""
        path = self.derive_books()
        history = BookHistory(path)
        for symbol, instrument in self.instruments.items():
            facts = self.oracle["symbols"][symbol]
            mine = self.levels[self.levels["instrument"] == instrument]["ts_recv"]
            book = history.at(instrument, ts_recv=int(mine.max(initial=0)))
            if not hasattr(book, "checksum"):
                self.complain(f"{symbol}: no verified book in the end: {book.state}")
            elif (book.sequence, book.checksum()) != (facts["update_id"], facts["checksum"]):
                self.complain(
                    f"{symbol}: the book at {book.sequence} is not that of the exchange "
                    f"at {facts['update_id']}"
                )
