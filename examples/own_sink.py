"""A sink of one's own: the trades of all sources in an SQLite database, each exactly once.

Settings: `[sinks.ledger]`, `kind = "own_sink:Ledger"`. Rows and their place: one transaction.
"""

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from tapeworks.errors import SinkUnavailable
from tapeworks.sinks.base import SinkConfig
from tapeworks.sinks.store import Items, StorePartition, StoreSink
from tapeworks.tape import Place

SCHEMA = """
create table if not exists trades (source, tape_offset, symbol, ts, trade_id, price, size);
create table if not exists places (source primary key, place, tape, fingerprint);
"""


@dataclass(frozen=True)
class LedgerConfig(SinkConfig):
    """Where the database is."""

    path: Path = Path("trades.db")


class Ledger(StoreSink):
    """Stores trades, with prices and sizes as exact decimal text."""

    Config = LedgerConfig

    def connect(self) -> None:
        self.database = sqlite3.connect(self.config.path, timeout=5.0)
        self.database.executescript(SCHEMA)

    def disconnect(self) -> None:
        if hasattr(self, "database"):
            self.database.close()

    def load_place(self, partition: StorePartition) -> Place | None:
        query = "select place, tape, fingerprint from places where source = ?"
        found = self.database.execute(query, [partition.source]).fetchone()
        return Place(*found) if found else None

    def store(self, partition: StorePartition, items: Items, place: Place) -> None:
        columns = ("tape_offset", "symbol", "ts_event", "trade_id", "price", "size")
        trades = [
            (partition.source, *(str(row[name]) for name in columns))
            for batch in items
            for row in partition.rows(batch, "trade")
        ]
        reached = (partition.source, place.offset, place.tape, place.fingerprint)
        try:
            with self.database:
                self.database.executemany("insert into trades values (?, ?, ?, ?, ?, ?, ?)", trades)
                self.database.execute("replace into places values (?, ?, ?, ?)", reached)
        except sqlite3.OperationalError as error:
            raise SinkUnavailable(f"{self.config.path}: {error}") from error
