"""The tables of QuestDB: how they are made, and which rows they were left with.

A row is named by the source and its offset on the tape; with the time they are the keys by which
the server drops what is sent again. Of a row that amends another both are kept, and a view shows
the latest, since requests may reach a server late: what is newer is told by the offset, never by
the order of arrival.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tapeworks._core import IlpTable
from tapeworks.errors import SinkError
from tapeworks.sinks.questdb_client import QuestClient
from tapeworks.sinks.store_tables import StoreTable
from tapeworks.tape import Place

# Views and exact decimals. The commercial edition counts otherwise, and is not refused.
VERSION_LEAST = (9, 3)
VERSION = re.compile(r"QuestDB (\d+)\.(\d+)")
PLACES = "places"
PLACE_COLUMNS = (
    "at timestamp, source symbol, topic symbol, slot symbol, tape_offset long, tape varchar, "
    "fingerprint varchar, last_rows varchar, owner varchar, stored_at timestamp"
)


@dataclass(frozen=True, eq=False)
class QuestTable:
    """One table, in a database that may hold tables of others: all names begin with `prefix`."""

    table: StoreTable
    prefix: str

    @property
    def name(self) -> str:
        """The table that rows are added to."""
        return self.view + ("_versions" if self.table.key else "")

    @property
    def view(self) -> str:
        """What readers ask: the table, or a view of it that shows the latest of each row."""
        return self.prefix + self.table.name

    @cached_property
    def encoder(self) -> IlpTable:
        """What makes rows of records."""
        table = self.table
        columns = [(column, table.field_of(column)) for column in table.whole_time_columns]
        return IlpTable(table.kind, self.name, table.time[1], columns)

    def make(self, client: QuestClient, ttl_days: int) -> None:
        """Makes the table and its view, adds columns that it lacks, and sets its TTL.

        Raises:
            SinkError: there is a table of that name that would take rows twice.
        """
        time, cut = self.table.time[0], "day" if self.table.by_day else "year"
        types = {**dict(self.encoder.types), time: "TIMESTAMP_NS"}
        columns = ", ".join(f"{column} {kind}" for column, kind in types.items())
        client.ask(
            f"create table if not exists {self.name} ({columns}) timestamp({time}) "
            f"partition by {cut} wal dedup upsert keys({time}, provider, id)"
        )
        found = {row[0]: row for row in client.ask(f"show columns from {self.name}")}
        keys = {row[0] for row in found.values() if row[8]}
        if keys != {time, "provider", "id"}:
            raise SinkError(
                f"QuestDB: expected {self.name} to drop copies by {time}, provider and id, got "
                f"{', '.join(sorted(keys)) or 'no keys'}: rows would be stored twice"
            )
        for column, kind in types.items():
            if column not in found:
                client.ask(f"alter table {self.name} add column {column} {kind}")
            elif found[column][1] != kind:
                raise SinkError(
                    f"QuestDB: expected {self.name}.{column} to be {kind}, got {found[column][1]}"
                )
        self._set_ttl(client, ttl_days)
        if self.table.key:
            shown = ", ".join([time, *dict(self.encoder.types)])
            key = ", ".join(self.table.key)
            client.ask(
                f"create or replace view {self.view} as (select {shown} from (select *, "
                f"row_number() over (partition by {key} order by id desc) as version "
                f"from {self.name}) where version = 1)"
            )

    def _set_ttl(self, client: QuestClient, ttl_days: int) -> None:
        if not self.table.by_day:
            return
        query = f"select ttlValue, ttlUnit from tables() where table_name = '{self.name}'"
        [[value, unit]] = client.ask(query)
        if (value, unit if value else "DAY") != (ttl_days, "DAY"):
            client.ask(f"alter table {self.name} set ttl {ttl_days} days")

    def holds(self, client: QuestClient, provider: str, ts: str, offset: int) -> bool:
        """Whether the row is there, or was dropped with its whole day, as retention does."""
        time, named = self.table.time[0], _quoted(provider)
        where = f"where {time} = '{ts}' and provider = {named} and id = {offset}"
        if _value(client, f"select count() from {self.name} {where}"):
            return True
        day = ts[:10]
        count = _value(client, f"select count() from {self.name} where {time} in '{day}'")
        last = _value(client, f"select max({time}) from {self.name}")
        return not count and last is not None and str(last)[:10] > day


def _value(client: QuestClient, query: str) -> Any:
    """Returns the one value of a question; none where there is no row, as of an empty table."""
    rows = client.ask(query)
    return rows[0][0] if rows else None


def make_places(client: QuestClient, prefix: str) -> None:
    """Makes the table of places, unless it is there."""
    client.ask(
        f"create table if not exists {prefix}{PLACES} ({PLACE_COLUMNS}) timestamp(at) "
        "partition by year wal dedup upsert keys(at, source, topic, slot)"
    )


@dataclass(frozen=True)
class StoredPlace:
    """A place that was stored, by whom, and which row each table ended with then."""

    place: Place
    owner: str
    last_rows: dict[str, tuple[str, int]]
    """Table -> time and offset."""


def check_version(client: QuestClient) -> None:
    """Refuses a server that is too old.

    Raises:
        SinkError: it is.
    """
    [[told]] = client.ask("select build()")
    found = VERSION.search(str(told))
    if found and (int(found[1]), int(found[2])) < VERSION_LEAST:
        least = ".".join(map(str, VERSION_LEAST))
        raise SinkError(f"expected QuestDB {least} or later, got {found[1]}.{found[2]}")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
