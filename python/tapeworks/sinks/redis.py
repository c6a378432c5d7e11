"""Tapes as streams of Redis or Valkey: each record one entry, whose id is its offset on the tape.

Exactly once: a script adds a part of a flush, and refuses all of it unless the place that the store
has is the one that this sink left there. An entry that is in the stream already is passed over, as
Redis takes no id twice. The place follows with the last part, in the same step. What a server that
lost its last second has forgotten is read from the tape again.

The last message of each instrument is kept beside the streams, and expires.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from tapeworks._core import EncodedMessages
from tapeworks.config import redact
from tapeworks.errors import ConfigError, SinkError, SinkUnavailable
from tapeworks.heartbeat import beat
from tapeworks.sinks.base import SinkConfig, SinkContext
from tapeworks.sinks.messages import MessageEncoders, place_text, read_place
from tapeworks.sinks.store import StorePartition, StoreSink
from tapeworks.tape import Place
from tapeworks.topics import BARS, BOOK, DEAD, GAPS, NEWS, NORMALIZED, RAW, TICKS

# Entries of one call of the script: the server answers nobody else meanwhile, for a millisecond.
CHUNK = 500
# Keys: the stream, and the hash of places. Arguments: field and value of the place that is
# expected, the one that follows or nothing, then id and content of each entry.
SCRIPT = """
local place = redis.call('HGET', KEYS[2], ARGV[1]) or ''
if place ~= ARGV[2] then
  return {place}
end
local added = 0
for at = 4, #ARGV, 2 do
  local got = redis.pcall('XADD', KEYS[1], ARGV[at], 'm', ARGV[at + 1])
  if type(got) ~= 'table' or not got.err then
    added = added + 1
  elseif not string.find(got.err, 'equal or smaller') then
    return redis.error_reply(got.err)
  end
end
if ARGV[3] ~= '' then
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
end
return added
"""


@dataclass(frozen=True)
class RedisConfig(SinkConfig):
    """Where the server is, and how much it keeps."""

    flush_seconds: float = 0.25
    """What was written is in the stream after so long at most."""
    flush_rows: int = 100_000
    """Records of one tape after which they are sent."""
    flush_bytes: int = 32 << 20
    url: str = "redis://localhost:6379/0"
    """`redis://host:port/database`, or `rediss://` for TLS. One with a password comes from the
    environment."""
    prefix: str = ""
    """What comes before the name of each key."""
    entries_max: int = 1_000_000
    """Entries that each stream keeps, about; 0: all."""
    latest_seconds: float = 3_600.0
    """How long the last message of an instrument is kept after it came; 0: none is kept."""

    timeout_seconds: float = 15.0
    """A server that does not answer for so long counts as gone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.timeout_seconds <= 0:
            raise ConfigError(f"timeout_seconds: expected more than 0, got {self.timeout_seconds}")
        for name in ("entries_max", "latest_seconds"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name}: expected 0 or more, got {getattr(self, name)}")


class RedisSink(StoreSink):
    """Adds each tape to the stream `<topic>:<source>`."""

    Config = RedisConfig
    TOPICS: ClassVar[tuple[str, ...]] = (NORMALIZED, TICKS, BOOK, BARS, GAPS)

    def __init__(self, config: RedisConfig, context: SinkContext) -> None:
        super().__init__(config, context)
        self._config = config
        self._client: Any = None
        self._connection: Any = None
        self._script = b""
        self._encoders = MessageEncoders()

    @classmethod
    def topics(cls, config: SinkConfig) -> tuple[str, ...]:
        """Returns the topics of the settings, which must be of records."""
        if frames := [topic for topic in config.topics if topic in (RAW, DEAD, NEWS)]:
            raise ConfigError(f"topics: expected topics of records, got {', '.join(frames)}")
        return super().topics(config)

    def connect(self) -> None:
        """Connects, and hands the script over."""
        try:
            self._client = redis.from_url(
                self._config.url,
                socket_timeout=self._config.timeout_seconds,
                socket_connect_timeout=self._config.timeout_seconds,
                # What was lost with a connection is asked for, never sent again unseen.
                retry=Retry(NoBackoff(), 0),
            )
            self._script = self._client.script_load(SCRIPT).encode()
            self._connection = self._client.connection_pool.get_connection()
        except (RedisError, OSError) as error:
            raise self._unavailable(error) from error

    def disconnect(self) -> None:
        """Closes all connections."""
        client, connection = self._client, self._connection
        self._client = self._connection = None
        for one in (connection and connection.disconnect, client and client.close):
            if one is not None:
                with contextlib.suppress(RedisError, OSError):
                    one()

    def load_place(self, partition: StorePartition) -> Place | None:
        """Reads the place from the hash of places."""
        try:
            found = self._call(b"HGET", self._places, self._field(partition))
        except (RedisError, OSError) as error:
            raise self._unavailable(error) from error
        return read_place(found)

    def store(self, partition: StorePartition, items: Sequence[Any], place: Place) -> None:
        """Adds `items` to the stream, part by part, and the place with the last part."""
        parts = [self._encoders.encode(partition, item) for item in items]
        expected = place_text(partition.committed)
        head = [b"EVALSHA", self._script, b"2", self._stream(partition), self._places]
        head += [self._field(partition), expected]
        try:
            for encoded in parts:
                for start in range(0, len(encoded), CHUNK):
                    end = min(start + CHUNK, len(encoded))
                    self._run(partition, encoded.redis_command([*head, b""], start, end))
                    beat()
            self._run_last(partition, [*head, place_text(place)])
            self._keep_latest(parts)
            if self._config.entries_max and parts:
                self._trim(partition)
        except (RedisError, OSError) as error:
            raise self._unavailable(error) from error

    def _run(self, partition: StorePartition, command: bytes) -> None:
        self._connection.send_packed_command([command])
        self._check(partition, self._connection.read_response())

    def _run_last(self, partition: StorePartition, words: list[bytes]) -> None:
        self._check(partition, self._call(*words))

    def _check(self, partition: StorePartition, answer: Any) -> None:
        if isinstance(answer, list):
            raise SinkError(
                f"{partition.source}: {partition.topic}: expected the place of "
                f"{partition.committed} in {self._places.decode()}, got {answer[0]!r}: does "
                "another instance of this sink run, or did the server lose what it had confirmed?"
            )

    def _keep_latest(self, parts: list[EncodedMessages]) -> None:
        if not self._config.latest_seconds:
            return
        last = {(key, state): message for part in parts for key, state, message in part.latest()}
        expiry = str(max(1, int(self._config.latest_seconds * 1000))).encode()
        commands: list[tuple[bytes, ...]] = []
        for (key, state), message in last.items():
            name = f"{self._config.prefix}latest:".encode() + key
            commands.append((b"HSET", name, state.encode(), message))
            commands.append((b"PEXPIRE", name, expiry))
        if commands:
            self._connection.send_packed_command(self._connection.pack_commands(commands))
            for _ in commands:
                self._connection.read_response()

    def _trim(self, partition: StorePartition) -> None:
        kept = str(self._config.entries_max).encode()
        self._call(b"XTRIM", self._stream(partition), b"MAXLEN", b"~", kept)

    def _call(self, *words: bytes) -> Any:
        self._connection.send_command(*words)
        return self._connection.read_response()

    @property
    def _places(self) -> bytes:
        return f"{self._config.prefix}tapeworks.offsets".encode()

    def _stream(self, partition: StorePartition) -> bytes:
        return f"{self._config.prefix}{partition.topic}:{partition.source}".encode()

    def _field(self, partition: StorePartition) -> bytes:
        return f"{self.context.name}/{partition.source}/{partition.topic}".encode()

    def _unavailable(self, error: Exception) -> SinkUnavailable:
        place = redact(self._config.url)
        return SinkUnavailable(f"Redis at {place}: {error}", retry_after_ms=500)
