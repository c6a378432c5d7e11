"""ClickHouse in the campaign of stores."""

from typing import Any

import clickhouse_connect
from clickhouse_connect.driver.exceptions import DatabaseError
from tests.services import ClickHouseService

from tapeworks.sinks.clickhouse import ClickHouseConfig

from .base import Store

TOPIC = "market-data.normalized"
UNKNOWN = {60, 81}


class ClickHouseStore(Store):
    """Trades in the table of trades, read as a client would."""

    NAME = "clickhouse"

    def __init__(self) -> None:
        self.service: ClickHouseService = ClickHouseService()

    def settings(self, port: int) -> Any:
        """A sink that commits every few milliseconds."""
        return ClickHouseConfig(
            url=self.service.url(port=port),
            kind="clickhouse",
            topics=(TOPIC,),
            timeout_seconds=1.0,
            flush_seconds=0.05,
            flush_rows=2_000,
        )

    def prepare(self) -> None:
        """Needs nothing."""

    def rows(self, source: str) -> list[tuple[int, int]]:
        """Reads all trades; their order is that of `id`."""
        query = "select id, trade_id from tapeworks.trades where provider = {source:String} "
        try:
            found = self._ask(query + "order by id", source=source)
        except DatabaseError as error:
            if error.code in UNKNOWN:
                return []
            raise
        return [(offset, number) for offset, number in found]

    def poison(self, trade_ids: frozenset[int]) -> bool:
        """Adds a rule to the table, which exists by now."""
        listed = ", ".join(map(str, sorted(trade_ids)))
        rule = (
            f"alter table tapeworks.trades add constraint poison check trade_id not in ({listed})"
        )
        self._ask(rule)
        return True

    def _ask(self, query: str, **words: object) -> Any:
        with clickhouse_connect.get_client(dsn=self.service.url(), compress=False) as client:
            if query.startswith("alter"):
                return client.command(query)
            return client.query(query, parameters=words).result_rows
