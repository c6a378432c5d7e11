"""A campaign of faults: each seed is a market, a recorder and a list of things that go wrong.

A simulated exchange (its own process, real sockets) drops, repeats, swaps, delays, mutes, breaks
and skips frames, cuts and slows connections, and serves late and stale books, as its seed says.
What the recorder made of it is compared with the frames themselves and with the exchange's oracle:

1. Every decodable trade that reached the raw tape is a record exactly once, and no other is.
2. Every id that is missing is in the ledger, and the ledger names no id that was not lost.
3. Every loss that the oracle knows of, and that a later message proves, is in the ledger.
4. An outage is in the ledger of unsequenced streams when there was one, and only then.
5. No change leaves a book that is not verified, and what leaves it is continuous.
6. In the end every book is verified and equals the exchange's, to the checksum.
"""

import argparse
import asyncio
import json
import multiprocessing
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from tapeworks._core import BookHistory, Records, Stage, TapeReader, dtype_descr
from tapeworks.feeds.binance.config import BinanceConfig
from tapeworks.feeds.session import record
from tapeworks.simulators.base import Simulator, start_simulator
from tapeworks.simulators.faults import seeded_faults
from tapeworks.tape import TapeConfig

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
TRADE, QUOTE, DEPTH = 1, 3, 4
GAP, BOOK_STATE = 3, 10
CONTINUOUS = 3
SEQUENCE, SILENCE, DISCONNECT = 1, 2, 3
OPEN, CLOSED, REPAIRED = 1, 2, 3
TEXT = 1
DURATION_S, FAULTS_S, SETTLE_S, FAULTS = 10.0, 5.0, 1.0, 5
DONE_S_MAX = 40.0


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


class Check:
    """Compares one run with the truth."""

    def __init__(self, outcome: Outcome, data: Path, feed: str, oracle: dict[str, Any]) -> None:
        self.outcome = outcome
        self.oracle = oracle
        self.futures = feed == "binance-usdm"
        self.folder = data / "tape" / feed
        self.state = data / "state" / feed
        self.raw, outcome.frames = read_raw(self.folder / "market-data.raw")
        records = read_all(self.folder / "market-data.normalized")
        self.markers = rows(records, "marker")
        self.trades = rows(records, "trade")
        self.levels = rows(records, "level")
        definitions = rows(records, "definition")
        self.instruments = {
            text(bytes(row["symbol"])): int(row["instrument"]) for row in definitions
        }

    def complain(self, message: str) -> None:
        """Notes what does not hold."""
        self.outcome.complaints.append(message)

    def ledger(self, instrument: int, channel: int) -> Iterator[Any]:
        """Yields the gap entries of a stream."""
        wanted = (self.markers["code"] == GAP) & (self.markers["instrument"] == instrument)
        yield from self.markers[wanted & (self.markers["channel"] == channel)]

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
            self.outages(symbol, instrument)
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

    def outages(self, symbol: str, instrument: int) -> None:
        """4: unsequenced streams have an entry for each outage, and no other."""
        # The market's clock is behind this host's by the time it waited for a listener. Quotes of
        # futures have the market's times, those of spot have this host's.
        behind = int((self.trades["ts_recv"] - self.trades["ts_event"]).min(initial=1 << 62))
        behind = 0 if self.futures else behind
        # On futures a line of its own carries the quotes.
        links = sorted(
            (link["opened_ns"] + behind, (link["closed_ns"] or 1 << 61) + behind)
            for link in self.oracle["connections"]
            if not self.futures or "public" in link["path"]
        )
        outages, until = [], None
        for opened, closed in links:
            if until is not None and opened > until:
                outages.append((until, opened))
            until = closed if until is None else max(until, closed)
        entries = [e for e in self.ledger(instrument, QUOTE) if e["cause"] == DISCONNECT]
        closed_entries = [e for e in entries if e["state"] == CLOSED]
        slack = 1_000_000_000
        for entry in closed_entries:
            start, end = int(entry["ts_start"]), int(entry["ts_event"])
            if not any(a - slack <= end and start <= b + slack for a, b in outages):
                self.complain(f"{symbol}: an outage {start} to {end} that was none")
        if outages and not entries:
            self.complain(f"{symbol}: {len(outages)} outages, none in the ledger")

    def books(self) -> None:
        """5 and 6: what leaves the books is verified, and they end as the exchange's."""
        path = self.folder / "market-data.book"
        stage = Stage("books", self.folder / "market-data.normalized", path, self.state / "books")
        stage.run_until_idle()
        stage.close()
        records = read_all(path)
        self.verified_only(records)
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


async def record_until_done(config: BinanceConfig, data: Path, simulator: Simulator) -> None:
    """Records until the simulated market is over and what it caused has settled."""
    stop = asyncio.Event()
    recorder = asyncio.create_task(record(config, data, stop, tape=TapeConfig(interval_ms=1000)))
    until = time.monotonic() + DONE_S_MAX
    while time.monotonic() < until and not recorder.done():
        if (await asyncio.to_thread(simulator.state))["done"]:
            break
        await asyncio.sleep(0.2)
    await asyncio.sleep(SETTLE_S)
    stop.set()
    await recorder


def run_seed(seed: int) -> Outcome:
    """Runs one seed and checks it."""
    outcome = Outcome(seed)
    chance = random.Random(seed)
    product = chance.choice(["spot", "usdm"])
    depth = "depth@100ms"
    streams = [f"{s.lower()}@{c}" for s in SYMBOLS for c in ("trade", depth)]
    faults = seeded_faults(seed, FAULTS, FAULTS_S, streams)
    folder = Path(tempfile.mkdtemp(prefix=f"tapeworks-faults-{seed}-"))
    try:
        plan = folder / "faults.json"
        plan.write_text(json.dumps([asdict(fault) for fault in faults]))
        arguments = ["--product", product, "--symbols", *SYMBOLS, "--seed", str(seed)]
        arguments += ["--rate", "60", "--levels", "150", "--duration", str(DURATION_S)]
        arguments += ["--wait", "--faults", str(plan)]
        with start_simulator("binance", *arguments, log=folder / "simulator.log") as simulator:
            config = BinanceConfig(
                symbols=SYMBOLS,
                product=product,
                ws_url=simulator.ws_url,
                rest_url=simulator.rest_url,
                connections=chance.choice([1, 1, 2]),
                weight_share=1.0,
            )
            data = folder / "data"
            asyncio.run(record_until_done(config, data, simulator))
            oracle = simulator.oracle()
        outcome.hits = sum(int(fault["hits"]) for fault in oracle.get("faults", ()))
        Check(outcome, data, config.feed, oracle).run()
    except Exception:
        outcome.complaints.append(traceback.format_exc(limit=-3))
    if not outcome.complaints:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        outcome.complaints.append(f"kept in {folder}")
    return outcome


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/faults",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--seeds", type=int, default=500, help="how many (500)")
    parser.add_argument("--seed", type=int, default=1, help="the first seed (1)")
    parser.add_argument("--at-once", type=int, default=6, help="how many at the same time (6)")
    arguments = parser.parse_args()
    seeds = range(arguments.seed, arguments.seed + arguments.seeds)
    total, bad = Outcome(0), 0
    context = multiprocessing.get_context("spawn")
    with context.Pool(min(arguments.at_once, len(seeds)), maxtasksperchild=25) as pool:
        for done, outcome in enumerate(pool.imap_unordered(run_seed, seeds), 1):
            for name in ("frames", "trades", "lost_ids", "entries", "hits", "resyncs"):
                setattr(total, name, getattr(total, name) + getattr(outcome, name))
            if outcome.complaints:
                bad += 1
                print(f"seed {outcome.seed}:", *outcome.complaints, sep="\n  ", flush=True)
            if sys.stdout.isatty() or done % 25 == 0:
                end = "\r" if sys.stdout.isatty() else "\n"
                print(f"{done} of {len(seeds)} seeds, {bad} bad", end=end, flush=True)
    print(
        f"{len(seeds)} seeds from {seeds[0]}: {total.hits:,} fault hits, {total.frames:,} frames, "
        f"{total.lost_ids:,} trades lost, {total.entries:,} ledger entries, "
        f"{total.resyncs:,} book proofs; {bad} seeds with a complaint"
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
