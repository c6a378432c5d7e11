"""QuestDB in the campaign of stores."""

import json
import urllib.error
from typing import Any

from tests.services import QuestDBService

from tapeworks.sinks.questdb import QuestDBConfig

from .base import Store

TOPIC = "market-data.normalized"


class QuestDBStore(Store):
    """Trades in the table of trades, read as a client would."""

    NAME = "questdb"

    def __init__(self) -> None:
        self.service: QuestDBService = QuestDBService()

    def settings(self, port: int) -> Any:
        """A sink that commits every few milliseconds."""
        return QuestDBConfig(
            url=self.service.url(port=port),
            kind="questdb",
            topics=(TOPIC,),
            timeout_seconds=1.5,
            flush_seconds=0.02,
            flush_rows=2_000,
        )

    def prepare(self) -> None:
        """Needs nothing."""

    def rows(self, source: str) -> list[tuple[int, int]]:
        """Reads all trades; their order is that of `id`."""
        query = f"select id, trade_id from trades where provider = '{source}' order by id"
        try:
            found = self.service.ask(query)
        except urllib.error.HTTPError as error:
            if "does not exist" in json.load(error)["error"]:
                return []
            raise
        return [(offset, int(number)) for offset, number in found]

    def revoke(self) -> bool:
        """Asks for a password that the sink does not have; that takes a restart."""
        self.service.halt()
        self.service.set(http__user="admin", http__password="revoked")
        self.service.start()
        return True

    def restore(self) -> None:
        """Asks for none again."""
        self.service.halt()
        self.service.set()
        self.service.start()
