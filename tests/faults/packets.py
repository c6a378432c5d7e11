"""ITCH, whose messages have numbers: its run is compared with the packets of all its lines.

1. Every number that no packet brought, of the lines or of the request server, is in the ledger.
2. The ledger names no other, but for what came later than it is waited for.
3. Every event of an order of all other messages is a record exactly once, in the order of numbers.
4. Where nothing is missing, every open order is the exchange's own, and in its place.
5. The raw tape normalised again gives the same bytes.
"""

import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.conftest import derive
from tests.faults.check import SEQUENCE, Check, Outcome, rows
from tests.feeds.test_itch_live import assert_replay_is_the_same
from tests.simulators.test_itch_simulator import assert_books_are

import tapeworks as tw
from tapeworks._core import TapeReader
from tapeworks.feeds.itch.config import ItchConfig
from tapeworks.feeds.itch.wire import HEADER, LENGTH, ORDERS
from tapeworks.simulators.itch.demo import HOST, free_ports

MESSAGES, RATE, STOCKS = 8_000, 2_000, 3
HEARTBEAT = 0xFFFF


def plan(chance: random.Random, seed: int) -> tuple[list[str], ItchConfig]:
    """Returns the arguments of the simulator and the settings of the feed."""
    ports = [f"{HOST}:{port}" for port in free_ports(3)]
    lines = ports[: chance.choice([1, 2, 2])]
    has_server = chance.random() < 0.7
    faults = {
        "drop": chance.choice([0.005, 0.05]),
        "duplicate": chance.choice([0.0, 0.02]),
        "reorder": chance.choice([0.0, 0.05]),
    }
    words = [word for line in lines for word in ("--line", line)]
    words += [word for name, part in faults.items() for word in (f"--{name}", str(part))]
    # A server that keeps little has not all that is asked for.
    words += ["--requests", ports[2], "--keep", str(chance.choice([200, 1_000_000]))]
    words += ["--messages", str(MESSAGES), "--rate", str(RATE), "--stocks", str(STOCKS)]
    words += ["--seed", str(seed), "--packet-bytes", str(chance.choice([200, 1472]))]
    words += ["--port", "0", "--wait", "--end-s", "600"]
    config = ItchConfig(
        lines=tuple(lines),
        requests=(ports[2],) if has_server else (),
        hold_ms=chance.choice([500, 2_000]),
    )
    return words, config


class PacketsCheck(Check):
    """Compares one run with the truth."""

    def __init__(self, outcome: Outcome, data: Path, source: str, oracle: dict[str, Any]) -> None:
        super().__init__(outcome, data, source, oracle)
        self.data = data
        self.arrived: dict[int, tuple[int, int]] = {}
        """By number: when the first copy came, and the type of the message."""
        self.late: set[int] = set()
        """Numbers that came when one behind them was there for as long as it is waited for."""
        self.read_raw()

    def read_raw(self) -> None:
        """Reads all packets, whatever line they came on."""
        reader = TapeReader(self.folder / "market-data.raw")
        hold_ns = int(self.oracle["hold_ms"] * 1_000_000 * 0.9)
        # What is known to exist from which time on: highest numbers and when they came.
        known: list[tuple[int, int]] = []
        while (blobs := reader.read_blobs()) is not None:
            for blob in blobs:
                if not blob.context.startswith(b"moldudp64?"):
                    continue
                self.outcome.frames += 1
                end = 0
                for number, kind in messages(blob.body):
                    end = max(end, number + 1)
                    if number not in self.arrived:
                        since = next((ts for top, ts in known if top > number), blob.ts_recv)
                        if blob.ts_recv - since >= hold_ns:
                            self.late.add(number)
                        self.arrived[number] = (blob.ts_recv, kind)
                end = end or HEADER.unpack_from(blob.body)[1]
                if not known or end > known[-1][0]:
                    known.append((end, blob.ts_recv))

    def run(self) -> None:
        """Runs all comparisons."""
        lost = self.losses()
        self.events_once(lost)
        derive(self.data, "itch")
        for check in (
            *((lambda: assert_books_are(tw.open(self.data), self.oracle["orders"]),) * (not lost)),
            lambda: assert_replay_is_the_same(self.data),
        ):
            try:
                check()
            except AssertionError as error:
                self.complain(str(error)[:500])

    def losses(self) -> set[int]:
        """1 and 2: the ledger is what is missing. Returns all numbers that it names."""
        gaps = self.markers[(self.markers["code"] == 3) & (self.markers["cause"] == SEQUENCE)]
        named: set[int] = set()
        for gap in gaps:
            self.outcome.entries += 1
            numbers = range(int(gap["first"]), int(gap["last"]) + 1)
            if named & set(numbers):
                self.complain(f"{numbers} are in the ledger twice")
            if int(gap["count"]) != len(numbers):
                self.complain(f"{numbers} count as {int(gap['count'])}")
            named |= set(numbers)
        missing = set(range(1, self.oracle["messages"] + 1)) - self.arrived.keys()
        self.outcome.lost_ids += len(missing)
        if unknown := missing - named:
            self.complain(f"{sorted(unknown)[:5]} are missing, and not in the ledger")
        if untrue := named - missing - self.late:
            self.complain(f"{sorted(untrue)[:5]} are in the ledger, and came in time")
        return named

    def events_once(self, lost: set[int]) -> None:
        """3: records are what the packets tell."""
        found = [int(number) for number in rows(self.records, "order")["sequence"]]
        self.outcome.trades += len(self.trades)
        if found != sorted(set(found)):
            self.complain("numbers of events do not only rise")
        told = {number for number, (_, kind) in self.arrived.items() if kind in ORDERS} - lost
        if differ := told ^ set(found):
            self.complain(f"events {sorted(differ)[:5]} are in one place only")
        if self.oracle["dead_letters"]:
            self.complain(f"{self.oracle['dead_letters']} dead letters, of packets that are whole")


def messages(packet: bytes) -> Iterator[tuple[int, int]]:
    """Yields number and type of each message of a packet."""
    _, first, count = HEADER.unpack_from(packet)
    at = HEADER.size
    for number in range(first, first + (count if count != HEARTBEAT else 0)):
        (length,) = struct.unpack_from(">H", packet, at)
        yield number, packet[at + LENGTH.size]
        at += LENGTH.size + length
