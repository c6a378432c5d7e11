"""PostgreSQL in the campaign of stores."""

from typing import Any

import psycopg
from tests.services import PostgresService

from tapeworks.sinks.postgres import PostgresConfig

from .base import Store

ROLE = "recorder"


class PostgresStore(Store):
    """Trades in the table of trades, read as a client would."""

    NAME = "postgres"

    def __init__(self) -> None:
        self.service: PostgresService = PostgresService(durable=False)

    def settings(self, port: int) -> Any:
        """A sink that commits every few milliseconds."""
        url = self.service.url(port=port, user=ROLE)
        return PostgresConfig(
            url=url,
            kind="postgres",
            topics=("market-data.normalized",),
            timeout_seconds=1.0,
            flush_seconds=0.02,
            flush_rows=2_000,
        )

    def prepare(self) -> None:
        """Makes the role of the sink.

        Its commits do not wait for the log: a server that is killed forgets what it confirmed last.
        """
        self._execute(
            f"create role {ROLE} login",
            f"alter role {ROLE} set synchronous_commit = off",
            f"grant create on database postgres to {ROLE}",
        )

    def rows(self, source: str) -> list[tuple[int, int]]:
        """Reads all trades; their order is that of `id`."""
        with psycopg.connect(self.service.url(), connect_timeout=5) as connection:
            if connection.execute("select to_regclass('tapeworks.trades')").fetchone() == (None,):
                return []
            query = "select id, trade_id::bigint from tapeworks.trades where provider = %s"
            found = connection.execute(f"{query} order by id", [source]).fetchall()
        return [(offset, number) for offset, number in found]

    def poison(self, trade_ids: frozenset[int]) -> bool:
        """Adds a rule to the table, which exists by now."""
        listed = ", ".join(map(str, sorted(trade_ids)))
        rule = f"check (trade_id not in ({listed})) not valid"
        self._execute(f"alter table tapeworks.trades add constraint poison {rule}")
        return True

    def revoke(self) -> bool:
        """Keeps the role from logging in, and ends its sessions."""
        self._execute(
            f"alter role {ROLE} nologin",
            f"select pg_terminate_backend(pid) from pg_stat_activity where usename = '{ROLE}'",
        )
        return True

    def restore(self) -> None:
        """Lets the role log in again."""
        self._execute(f"alter role {ROLE} login")

    def _execute(self, *statements: str) -> None:
        with psycopg.connect(self.service.url(), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)
