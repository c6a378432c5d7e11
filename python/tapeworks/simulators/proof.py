"""What a simulator sent against what is on the tapes and in the lake.

The oracle counts what it delivered, by stream, and says of each which symbol and which of the
core's channels it is of; `*` is all symbols. Each delivered frame must be on the raw tape, each
event of it on the normalized tape or in the lake exactly once, and each book the simulator's own:
of prices by its checksum, of single orders order by order.
What the ledger explains (a connection that the simulator cut) is named, not hidden.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from tapeworks import _core
from tapeworks._core import TapeReader
from tapeworks.errors import QueryError
from tapeworks.feeds.wire import Wire, wire_of
from tapeworks.topics import NORMALIZED, RAW
from tapeworks.views.audit import TableAudit, audit
from tapeworks.views.lake import Lake

FEEDS = {number: name for name, number in _core.numbers("feed").items()}
BLOB_KINDS = _core.numbers("blob_kind")
MESSAGES = (BLOB_KINDS["text"], BLOB_KINDS["binary"])
LEVEL = np.dtype(_core.dtype_descr("level"))
MARKER = np.dtype(_core.dtype_descr("marker"))
ALL = "*"
DEPTH_CHANNEL, FLAG_LAST = _core.numbers("channel")["depth"], 1
EMPTY_UPDATE = _core.numbers("marker_code")["empty_update"]


@dataclass(frozen=True)
class StreamProof:
    """One stream: frames sent, on the tape, and events stored."""

    source: str
    stream: str
    sent: int
    recorded: int
    stored: int
    duplicated: int

    @property
    def lost(self) -> int:
        """Frames that were sent and are not stored."""
        return max(0, self.sent - min(self.recorded, self.stored))

    @property
    def holds(self) -> bool:
        """Whether every frame is stored exactly once."""
        return self.lost == 0 and self.duplicated == 0 and self.stored <= self.sent


@dataclass
class Proof:
    """Everything that was compared."""

    streams: list[StreamProof] = field(default_factory=list)
    tables: list[TableAudit] = field(default_factory=list)
    books: dict[str, bool] = field(default_factory=dict)
    """Whether the book is the simulator's own, by source and symbol."""
    gaps: int = 0
    """Entries of the ledger that are not of the recorder's own end."""

    @property
    def holds(self) -> bool:
        """Whether nothing was lost, nothing doubled, and every book is right."""
        return (
            bool(self.streams)
            and all(stream.holds for stream in self.streams)
            and all(table.exact for table in self.tables)
            and all(self.books.values())
        )


def prove(data: Path, oracles: Mapping[str, Mapping[str, Any]]) -> Proof:
    """Compares what each source's oracle says with what is stored in `data`."""
    proof = Proof(tables=list(audit(data)))
    lake = Lake(data)
    for source, oracle in oracles.items():
        wire = _wire_of(data, source)
        recorded = _recorded(data, source, wire)
        stored = _stored(lake, data, source, wire)
        for stream, sent in sorted(oracle["delivered"].items()):
            rows, distinct = _found(stored, sent["symbol"], sent["channel"])
            proof.streams.append(
                StreamProof(
                    source, stream, sent["count"], recorded[stream], distinct, rows - distinct
                )
            )
        with_book = {
            of["symbol"] for of in oracle["delivered"].values() if of["channel"] == "depth"
        }
        for symbol in with_book & oracle["symbols"].keys():
            facts = oracle["symbols"][symbol]
            proof.books[f"{source} {symbol}"] = _same_book(
                lake, source, symbol, facts, oracle["now_ns"]
            )
        for symbol, facts in oracle["symbols"].items():
            if "orders" in facts:
                proof.books[f"{source} {symbol}"] = _same_orders(lake, source, symbol, facts)
    proof.gaps = sum(row["state"] != "open" for row in lake.gaps().to_pylist())
    return proof


def _found(
    stored: Mapping[tuple[str, str], tuple[int, int]], symbol: str, channel: str
) -> tuple[int, int]:
    """Returns rows and distinct rows of a symbol, or of all of them."""
    if symbol != ALL:
        return stored.get((symbol, channel), (0, 0))
    counts = [of for (_, its_channel), of in stored.items() if its_channel == channel]
    return sum(rows for rows, _ in counts), sum(distinct for _, distinct in counts)


def _wire_of(data: Path, source: str) -> Wire:
    """Returns the words of the feed whose frames are on the raw tape."""
    blobs = TapeReader(data / "tape" / source / RAW).read_blobs()
    return wire_of(FEEDS[next(iter(blobs)).feed]) if blobs else Wire("")


def _recorded(data: Path, source: str, wire: Wire) -> Counter[str]:
    """Counts the events of each stream on the raw tape."""
    counts: Counter[str] = Counter()
    reader = TapeReader(data / "tape" / source / RAW)
    while (blobs := reader.read_blobs()) is not None:
        for blob in blobs:
            if blob.kind in MESSAGES:
                counts.update(wire.streams(blob.body))
    return counts


def _stored(
    lake: Lake, data: Path, source: str, wire: Wire
) -> dict[tuple[str, str], tuple[int, int]]:
    """Returns rows and distinct rows of each symbol and channel."""
    found: dict[tuple[str, str], tuple[int, int]] = {}
    # The table that the events of a channel fill, and what tells its rows apart.
    tables = {
        "trade": ("trades", "trade_id"),
        "quote": ("quotes", wire.quote_key),
        "order": ("orders", "sequence"),
    }
    for channel, (table, key) in tables.items():
        sql = (
            f"select symbol, count(*), count(distinct {key}) from {table} "
            f"where venue = '{source}' group by symbol"
        )
        for symbol, *counts in zip(*lake.sql(sql).to_arrow().to_pydict().values(), strict=True):
            found[symbol, channel] = (counts[0], counts[1])
    return found | _depth_events(lake, data, source)


def _depth_events(lake: Lake, data: Path, source: str) -> dict[tuple[str, str], tuple[int, int]]:
    sql = f"select distinct instrument, symbol from instruments where venue = '{source}'"
    names = {row["instrument"]: str(row["symbol"]) for row in lake.sql(sql).to_pylist()}
    sequences: dict[int, list[np.ndarray[Any, Any]]] = {}
    reader = TapeReader(data / "tape" / source / NORMALIZED)
    while (batch := reader.read()) is not None:
        levels = np.frombuffer(batch.numpy("level"), LEVEL)
        ends = levels[(levels["channel"] == DEPTH_CHANNEL) & (levels["flags"] & FLAG_LAST > 0)]
        markers = np.frombuffer(batch.numpy("marker"), MARKER)
        empty = markers[markers["code"] == EMPTY_UPDATE]
        for events in (ends, empty):
            for instrument in np.unique(events["instrument"]):
                mine = events["sequence"][events["instrument"] == instrument]
                sequences.setdefault(int(instrument), []).append(mine)
    found = {}
    for instrument, parts in sequences.items():
        every = np.concatenate(parts)
        found[names[instrument], "depth"] = (len(every), len(np.unique(every)))
    return found


def _same_book(lake: Lake, source: str, symbol: str, facts: Mapping[str, Any], now_ns: int) -> bool:
    try:
        book = lake.book(symbol, now_ns, source=source)
    except QueryError:
        return False
    return bool(book.native.checksum() == facts["checksum"])


def _same_orders(lake: Lake, source: str, symbol: str, facts: Mapping[str, Any]) -> bool:
    """Compares the open orders, each with its id, its price and its size, in the order of rank."""
    try:
        book = lake.book(symbol, source=source, depth="orders")
    except QueryError:
        return False
    found = [
        (order.order_id, side, order.price, order.size)
        for side in ("bid", "ask")
        for order in book.orders(side)
    ]
    told = [(at, side, Decimal(price), size) for at, side, price, size in facts["orders"]]
    return book.is_whole and found == told


def as_json(proof: Proof) -> str:
    """Returns the proof as JSON."""
    return json.dumps(
        {
            "holds": proof.holds,
            "streams": [vars(stream) | {"lost": stream.lost} for stream in proof.streams],
            "tables": [vars(table) for table in proof.tables],
            "books": proof.books,
            "gaps": proof.gaps,
        }
    )
