"""Streams of Redis or Valkey as tapes: one a source, read by one worker of a group at a time.

A stream is read from where the local tape ends, by plain `XREAD`. `XREADGROUP` would share the
entries of one stream out to several workers, whatever instrument they are of: their order would be
lost. So the group shares streams out, by a lease of each that expires; its own position follows
behind the tapes, for tools that show lag. The id of the tape that a stream is made from, which the
sink keeps beside it, tells a stream that was made anew.
"""

import contextlib
import logging
import os
import time
import uuid
from dataclasses import dataclass
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from tapeworks.config import FROM_ENVIRONMENT
from tapeworks.errors import (
    ConfigError,
    DiskFullError,
    TapeLockedError,
    TapeReplacedError,
)
from tapeworks.replicas.base import Outage, ReplicaContext, TopicAddress, TopicReader
from tapeworks.replicas.partition import Origin, PartitionReplica
from tapeworks.sinks.messages import read_place
from tapeworks.tape import RETENTION
from tapeworks.topics import NORMALIZED

log = logging.getLogger("tapeworks.replicas.redis")

ENTRIES = 5_000
TIMEOUT_S = 15.0
LOOK_S = 1.0
LEASE_MS = 10_000
RENEW_S = 2.0
PLACES = "tapeworks.offsets"
# Keys: the lease. Arguments: its holder, and for how many ms. Answers 1 where it holds it.
LEASE = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
return 1
"""


@dataclass
class _Stream:
    """One stream that this worker reads."""

    key: str
    replica: PartitionReplica
    renewed: float
    last: int = -1
    """The newest entry that the server has, by its offset."""


class RedisTopicReader(TopicReader):
    """Reads the streams of a topic that no other worker of the group reads."""

    def __init__(self, address: TopicAddress, context: ReplicaContext) -> None:
        properties = dict(address.properties)
        known = {name: properties.pop(name, "") for name in ("username", "password")}
        if properties:
            raise ConfigError(
                f"--from: {', '.join(sorted(properties))} is no setting: expected group, username "
                "or password"
            )
        database, _, self._topic = address.path.rpartition("/")
        if not (database or "0").isdigit():
            raise ConfigError(f"--from: expected redis://HOST:PORT/DATABASE/TOPIC, got {database}")
        self._prefix = self._topic.removesuffix(NORMALIZED)
        self._group = address.group
        self._context = context
        self._place = f"{address.scheme}://{address.servers}/{database or 0}"
        self._client: Any = redis.from_url(
            self._place,
            username=known["username"] or None,
            password=_secret(known["password"]) or None,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )
        self._holder = f"{os.uname().nodename}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
        self._streams: dict[str, _Stream] = {}
        self._outage = Outage(log, f"Redis at {self._place}")
        self._told: dict[str, str] = {}
        self._looked = 0.0
        self._rebalances = 0

    def poll(self, timeout_s: float) -> int:
        """Reads what the streams have, in one call."""
        try:
            self._look()
            moved = self._read(timeout_s)
        except (RedisError, OSError) as error:
            self._outage.note(str(error))
            time.sleep(max(timeout_s, 0.2))
            return 0
        self._outage.end()
        return moved

    def checkpoint(self) -> None:
        """Notes what is durable; the group's position follows, for those who look at lag."""
        for stream in list(self._streams.values()):
            if not stream.replica.has_news:
                continue
            try:
                stream.replica.checkpoint()
            except (DiskFullError, OSError) as error:
                self._give_up(stream, f"not written: {error}")
                continue
            with contextlib.suppress(RedisError, OSError):
                self._note_group(stream)

    def local_sources(self) -> list[str]:
        """Returns the local sources of the streams that it reads."""
        return [name for one in self._streams.values() for name in one.replica.local_sources()]

    def status(self) -> dict[str, dict[str, int | str]]:
        """Returns what is known of each stream without asking the server."""
        return {
            str(stream.replica.origin.partition): {
                "position": stream.replica.position,
                "lag": max(0, stream.last + 1 - stream.replica.position),
                "unreadable": stream.replica.unreadable,
                "repeated": stream.replica.repeated,
                "rebalances": self._rebalances,
            }
            for stream in self._streams.values()
        }

    @property
    def troubles(self) -> list[str]:
        """What the client said last of the connection, and what is not read."""
        problem = self._outage.problem
        told = [f"Redis at {self._place}: {problem}"] if problem else []
        return [*told, *(f"{key}: {why}" for key, why in self._told.items())]

    def close(self) -> None:
        """Gives all streams back."""
        for stream in list(self._streams.values()):
            self._close(stream)
            with contextlib.suppress(RedisError, OSError):
                self._client.eval(RELEASE, 1, self._lease(stream.key), self._holder)
        with contextlib.suppress(RedisError, OSError):
            self._client.close()

    # Streams.

    def _look(self) -> None:
        """Renews the leases, and looks for streams that nobody reads."""
        now = time.monotonic()
        for stream in list(self._streams.values()):
            if now - stream.renewed < RENEW_S:
                continue
            if not self._hold(stream.key):
                self._give_up(stream, "another worker of the group reads it")
            stream.renewed = now
        if now - self._looked < LOOK_S:
            return
        self._looked = now
        for name in self._client.scan_iter(match=f"{self._topic}:*", _type="stream"):
            key = name.decode()
            if key not in self._streams and self._hold(key):
                self._open(key)
        for stream in list(self._streams.values()):
            self._check(stream)

    def _hold(self, key: str) -> bool:
        return bool(self._client.eval(LEASE, 1, self._lease(key), self._holder, LEASE_MS))

    def _lease(self, key: str) -> str:
        return f"{self._prefix}tapeworks.readers/{self._group}/{key}"

    def _open(self, key: str) -> None:
        source = key.removeprefix(f"{self._topic}:")
        tape = self._tape_of(source)
        if tape is None:
            self._told[key] = f"{self._prefix}{PLACES} does not say yet which tape it is of"
            return
        origin = Origin("redis", self._topic, tape, source)
        replica = PartitionReplica(self._context.data, origin, self._context.tape)
        try:
            position = replica.open()
        except (TapeLockedError, DiskFullError, OSError) as error:
            if key not in self._told:
                log.warning("%s: is read once it can be: %s", key, error)
            self._told[key] = str(error)
            return
        self._told.pop(key, None)
        self._rebalances += 1
        stream = self._streams[key] = _Stream(key, replica, time.monotonic())
        log.info("%s: read from %s", key, position or "the beginning")
        if position:
            self._check_front(stream, None)

    def _tape_of(self, source: str) -> str | None:
        """Returns the id of the tape that the sink says that a stream is made from."""
        ending = f"/{source}/{NORMALIZED}".encode()
        for name, text in self._client.hgetall(f"{self._prefix}{PLACES}").items():
            if name.endswith(ending) and (place := read_place(text)) is not None:
                return place.tape or ""
        return None

    def _check(self, stream: _Stream) -> None:
        """Looks whether the stream is the one that was read, and has what comes next."""
        source = str(stream.replica.origin.partition)
        tape = self._tape_of(source)
        if tape is not None and tape != stream.replica.origin.topic_id:
            raise TapeReplacedError(
                f"{stream.key}: it was made from the tape {stream.replica.origin.topic_id}, now "
                f"from {tape}: to read that one, name another folder with --data"
            )
        newest = self._client.xrevrange(stream.key, count=1)
        stream.last = _offset(newest[0][0]) if newest else -1
        if stream.last + 1 < stream.replica.position:
            # With `appendfsync everysec` a server forgets a second, which the sink sends again.
            self._told[stream.key] = "the server has less than was read from it"
        else:
            self._told.pop(stream.key, None)

    def _check_front(self, stream: _Stream, came: int | None) -> None:
        """Declares what the stream lacks in front of its first entry: trimmed, or never in it.

        `came` is the offset of an entry that was read since.
        """
        oldest = self._client.xrange(stream.key, count=1)
        if not oldest:
            return
        first, position = _offset(oldest[0][0]), stream.replica.position
        first = first if came is None else min(first, came)
        if first <= position:
            return
        what = "were trimmed, unread"
        if self._client.xlen(stream.key) >= self._added(stream.key):
            if position == 0:
                # The whole stream, from which nothing was taken: its tape began before it.
                return
            # It never had what was read of it: another one, of what its tape still had.
            what = "are not in the stream, which was made anew"
        log.error("%s: offsets %d to %d %s", stream.key, position, first - 1, what)
        stream.replica.lose(position, first - 1, RETENTION)

    def _added(self, key: str) -> int:
        """Returns how many entries were ever added; Redis before 7.0 does not say."""
        told: dict[str, Any] = self._client.xinfo_stream(key)
        return int(told.get("entries-added", 1 << 62))

    def _read(self, timeout_s: float) -> int:
        if not self._streams:
            time.sleep(timeout_s)
            return 0
        begins = {key: f"{one.replica.position}-0" for key, one in self._streams.items()}
        # An entry has the id `<offset>-1`: what follows `<position>-0` stands at the position.
        block_ms = max(1, int(timeout_s * 1_000))
        moved = 0
        for name, entries in self._client.xread(begins, count=ENTRIES, block=block_ms) or ():
            stream = self._streams[name.decode()]
            positions = [_offset(entry) for entry, _ in entries]
            if positions[0] > stream.replica.position:
                self._check_front(stream, positions[0])
            values = [fields.get(b"m", b"") for _, fields in entries]
            keys = [str(stream.replica.origin.partition).encode()] * len(entries)
            try:
                stream.replica.append(values, positions, keys)
            except (DiskFullError, OSError) as error:
                self._give_up(stream, f"not written: {error}")
            moved += len(entries)
        return moved

    def _note_group(self, stream: _Stream) -> None:
        """Moves the position of the group on the server behind what is durable here."""
        last = f"{stream.replica.position}-0"
        try:
            self._client.xgroup_setid(stream.key, self._group, last)
        except ResponseError:
            self._client.xgroup_create(stream.key, self._group, last)

    def _give_up(self, stream: _Stream, why: str) -> None:
        log.warning("%s: %s", stream.key, why)
        self._told[stream.key] = why
        self._close(stream)

    def _close(self, stream: _Stream) -> None:
        del self._streams[stream.key]
        self._context.on_close(stream.replica.local_sources())
        stream.replica.close()


def _offset(entry: bytes) -> int:
    return int(entry.partition(b"-")[0])


def _secret(text: str) -> str:
    """Returns the value of the environment variable that `env:NAME` names.

    Raises:
        ConfigError: a password stands in the address itself, or the variable is not set.
    """
    if not text:
        return ""
    name = text.removeprefix(FROM_ENVIRONMENT)
    if name == text:
        raise ConfigError("--from: password is a secret: expected env:NAME")
    if name not in os.environ:
        raise ConfigError(f"--from: password: {name} is not in the environment")
    return os.environ[name]
