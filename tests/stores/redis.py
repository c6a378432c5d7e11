"""Redis in the campaign of stores."""

from typing import Any

import redis
from tests.published import stream_messages, trades
from tests.services import RedisService

from tapeworks._core import decode_messages
from tapeworks.sinks.redis import RedisConfig

from .base import Store

TOPIC = "market-data.normalized"
PASSWORD = "revoked"


class RedisStore(Store):
    """Trades in streams, read as a client would."""

    NAME = "redis"

    def __init__(self) -> None:
        self.service: RedisService = RedisService()

    def settings(self, port: int) -> Any:
        """A sink that adds entries every few milliseconds, and keeps all."""
        return RedisConfig(
            url=self.service.url(port=port),
            kind="redis",
            topics=(TOPIC,),
            timeout_seconds=1.0,
            flush_seconds=0.02,
            flush_rows=2_000,
            entries_max=0,
        )

    def prepare(self) -> None:
        """Needs nothing."""

    def rows(self, source: str) -> list[tuple[int, int]]:
        """Reads all trades of a stream, whose ids have to be those of their tape."""
        entries = stream_messages(self.service.url(), f"{TOPIC}:{source}")
        _, origins, _ = decode_messages([message for _, message in entries])
        assert [entry for entry, _ in entries] == [b"%d-1" % offset for _, offset in origins]
        return trades([message for _, message in entries])

    def revoke(self) -> bool:
        """Sets a password that the sink does not have, and ends its connections."""
        with redis.from_url(self.service.url()) as client:
            client.config_set("requirepass", PASSWORD)
            client.execute_command("CLIENT", "KILL", "TYPE", "normal")
        return True

    def restore(self) -> None:
        """Takes the password away."""
        with redis.from_url(self.service.url(), password=PASSWORD) as client:
            client.config_set("requirepass", "")
