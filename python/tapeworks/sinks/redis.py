"""Tapes as streams of Redis or Valkey: each record one entry, whose id is its offset on the tape.

A stream is of one sink, whose name stands beside the places: the entries of another one that come
later on the tape would take the ids of its earlier ones.

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
# Keys: the stream, and the hash of places. Arguments: the field that says whose stream it is, this
# sink, field and value of the place that is expected, the one that follows or nothing, then id and
# content of each entry.
SCRIPT = """
local owner = redis.call('HGET', KEYS[2], ARGV[1])
local place = redis.call('HGET', KEYS[2], ARGV[3]) or ''
if place ~= ARGV[4] or (owner and owner ~= ARGV[2]) then
  return {place, owner}
end
if not owner then
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
end
local added = 0
for at = 6, #ARGV, 2 do
  local got = redis.pcall('XADD', KEYS[1], ARGV[at], 'm', ARGV[at + 1])
  if type(got) ~= 'table' or not got.err then
    added = added + 1
  elseif not string.find(got.err, 'equal or smaller') then
    return redis.error_reply(got.err)
  end
end
if ARGV[5] ~= '' then
  redis.call('HSET', KEYS[2], ARGV[3], ARGV[5])
end
return added
"""
# Says whose stream it is, and the place of this sink in it. A stream that nobody has claimed is of
# the sink that has a place in it, this one first. An empty one in which no sink has a place is of
# whoever stores first: a sink that is refused behind this leaves it to another one.
# Keys and the first arguments as above; then what the field of each place in the stream ends with.
CLAIM = """
local owner = redis.call('HGET', KEYS[2], ARGV[1])
local place = redis.call('HGET', KEYS[2], ARGV[3]) or ''
local stored = place ~= '' and ARGV[2]
if not stored then
  for _, field in ipairs(redis.call('HKEYS', KEYS[2])) do
    if string.sub(field, -#ARGV[4]) == ARGV[4] then
      stored = string.sub(field, 1, -#ARGV[4] - 1)
    end
  end
end
if not stored and redis.call('XLEN', KEYS[1]) == 0 then
  redis.call('HDEL', KEYS[2], ARGV[1])
  return {place, ARGV[2]}
end
owner = owner or stored or ''
if owner == ARGV[2] then
  redis.call('HSET', KEYS[2], ARGV[1], owner)
end
return {place, owner}
"""


@dataclass(frozen=True)
class RedisConfig(SinkConfig):
    """Where the server is, and how much it keeps."""

    STORE_KEY: ClassVar[tuple[str, ...]] = ("url", "prefix")
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
    """Adds each tape to the stream `<topic>:<source>`, which is of one sink: ids only rise."""

    Config = RedisConfig
    TOPICS: ClassVar[tuple[str, ...]] = (NORMALIZED, TICKS, BOOK, BARS, GAPS)

    def __init__(self, config: RedisConfig, context: SinkContext) -> None:
        super().__init__(config, context)
        self._config = config
        self._client: Any = None
        self._connection: Any = None
        self._script = self._claim = b""
        self._encoders = MessageEncoders()
        # By key, up to when the bars reach that were stored.
        self._bars: dict[bytes, int] = {}

    @classmethod
    def topics(cls, config: SinkConfig) -> tuple[str, ...]:
        """Returns the topics of the settings, which must be of records."""
        if frames := [topic for topic in config.topics if topic in (RAW, DEAD, NEWS)]:
            raise ConfigError(f"topics: expected topics of records, got {', '.join(frames)}")
        return super().topics(config)

    def connect(self) -> None:
        """Connects, and hands the scripts over."""
        try:
            self._client = redis.from_url(
                self._config.url,
                socket_timeout=self._config.timeout_seconds,
                socket_connect_timeout=self._config.timeout_seconds,
                # What was lost with a connection is asked for, never sent again unseen.
                retry=Retry(NoBackoff(), 0),
            )
            self._script = self._client.script_load(SCRIPT).encode()
            self._claim = self._client.script_load(CLAIM).encode()
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
        """Reads the place from the hash of places, and claims the stream where one is there.

        Raises:
            SinkUnavailable: the server does not answer.
            SinkError: the stream is another sink's. It takes no id below its newest: what that sink
                has passed would be left out.
        """
        ending = f"/{partition.source}/{partition.topic}".encode()
        try:
            found, owner = self._call(b"EVALSHA", self._claim, b"2", *self._head(partition), ending)
        except (RedisError, OSError) as error:
            raise self._unavailable(error) from error
        self._check_owner(partition, owner)
        return read_place(found)

    def store(self, partition: StorePartition, items: Sequence[Any], place: Place) -> None:
        """Adds `items` to the stream, part by part, and the place with the last part."""
        parts = [self._encoders.encode(partition, item) for item in items]
        expected = place_text(partition.committed)
        head = [b"EVALSHA", self._script, b"2", *self._head(partition), expected]
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
            place, owner = answer
            self._check_owner(partition, owner or self.context.name.encode())
            raise SinkError(
                f"{partition.source}: {partition.topic}: expected the place of "
                f"{partition.committed} in {self._places.decode()}, got {place!r}: does "
                "another instance of this sink run, or did the server lose what it had confirmed?"
            )

    def _check_owner(self, partition: StorePartition, owner: bytes) -> None:
        if owner != self.context.name.encode():
            stream = self._stream(partition).decode()
            told = f"got one of the sink {owner.decode()}" if owner else "got one of nobody's"
            raise SinkError(
                f"{stream}: expected a stream of the sink {self.context.name}, {told}: give this "
                f"one another prefix; or, to begin the stream anew, remove it with `DEL {stream}`, "
                f"and its fields in {self._places.decode()}"
            )

    def _keep_latest(self, parts: list[EncodedMessages]) -> None:
        if not self._config.latest_seconds:
            return
        last: dict[tuple[bytes, str], bytes] = {}
        for part in parts:
            for key, state, message, ts, is_late in part.latest():
                if state == "bar":
                    # What a late trade or a filled gap amends is mostly not the last one. Of what
                    # is there from before this process began, nobody knows.
                    reached = self._bars.get(key)
                    if is_late and (reached is None or ts < reached):
                        continue
                    self._bars[key] = ts if reached is None else max(ts, reached)
                last[key, state] = message
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

    def _head(self, partition: StorePartition) -> tuple[bytes, ...]:
        """Returns the keys and the first arguments of both scripts."""
        owner = f"owner {partition.topic}:{partition.source}".encode()
        name = self.context.name.encode()
        return self._stream(partition), self._places, owner, name, self._field(partition)

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
