"""Gives each frame to whom it is due, through whatever goes wrong on the way.

Where nothing goes wrong, the core makes all bytes of a connection in one call. Where something
does, frames are looked at one by one.
"""

import json
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import IO

from tapeworks._core import Frames
from tapeworks.simulators.connection import Connection
from tapeworks.simulators.faults import Hit
from tapeworks.simulators.oracle import Oracle

UNHEARD = "unheard"
"""Cause of a loss: no connection listened to the stream."""
CUT_BYTES = 7
"""A malformed frame lacks so many bytes at its end."""


@dataclass(frozen=True)
class Item:
    """One frame on its way."""

    stream: int
    name: str
    ts: int
    first: int
    last: int
    payload: bytes


@dataclass
class Held:
    """What a connection is given later: by stream, in order, each with when it may go."""

    late: dict[int, list[tuple[int, Item]]] = field(default_factory=dict)
    swapped: dict[int, Item] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.late or self.swapped)


class Delivery:
    """Writes batches to connections and tells the oracle."""

    def __init__(self, oracle: Oracle, full: IO[str] | None) -> None:
        self.names: list[str] = []
        """Names of the streams, by number."""
        self._oracle = oracle
        self._full = full
        self._held: dict[int, Held] = {}

    def send(
        self, frames: Frames, connections: Iterable[Connection], hits: dict[int, Hit], now_ns: int
    ) -> None:
        """Delivers a batch. `hits` says which frames something happens to."""
        live = [connection for connection in connections if connection.is_open]
        for name, count, first, last in self._summary(frames):
            self._oracle.generate(name, count, first, last)
        if hits or self._full or any(self._held.get(one.number) for one in live):
            self._send_singly(frames, live, hits, now_ns)
        elif len(frames):
            self._send_whole(frames, live)

    def give_alone(self, connection: Connection, name: str, payload: bytes, now_ns: int) -> None:
        """Gives one connection a frame that answers it, and tells the oracle."""
        connection.write(connection.single(name, payload))
        self._oracle.generate(name, 1, 0, 0)
        self._oracle.give(connection.number, name, 1, 0, 0)
        self._oracle.deliver(name, 1, 0, 0, now_ns)

    def forget(self, connection: Connection) -> None:
        """Drops what was held back for a connection whose other side left."""
        self._held.pop(connection.number, None)

    def flush(self, connections: Iterable[Connection]) -> None:
        """Gives everything that is still held back: what is late is not lost."""
        for connection in connections:
            held = self._held.pop(connection.number, None)
            if held:
                late = [item for queue in held.late.values() for _, item in queue]
                items = late + list(held.swapped.values())
                connection.write(b"".join(self._give(connection, item) for item in items))
        if self._full:
            self._full.flush()

    def _summary(self, frames: Frames) -> list[tuple[str, int, int, int]]:
        return [(self.names[at], count, first, last) for at, count, first, last in frames.summary()]

    def _send_whole(self, frames: Frames, live: list[Connection]) -> None:
        made: dict[Hashable, bytes] = {}
        for connection in live:
            key = connection.form
            if key not in made:
                made[key] = connection.encode(frames)
            if made[key]:
                connection.write(made[key])
        times = (frames.frame(0)[1], frames.frame(len(frames) - 1)[1])
        for stream, count, first, last in frames.summary():
            name = self.names[stream]
            listeners = [one for one in live if one.listens(stream)]
            for connection in listeners:
                self._oracle.give(connection.number, name, count, first, last)
            if listeners:
                self._oracle.deliver(name, count, first, last, times[0])
            else:
                self._oracle.lose(name, count, (first, last), times, UNHEARD)

    def _send_singly(
        self, frames: Frames, live: list[Connection], hits: dict[int, Hit], now_ns: int
    ) -> None:
        parts: dict[int, list[bytes]] = {connection.number: [] for connection in live}
        for at in range(len(frames)):
            hit = hits.get(at)
            given = heard = False
            for connection in live:
                stream, ts, first, last, payload = frames.frame(at, connection.other)
                if not connection.listens(stream):
                    continue
                heard = True
                item = Item(stream, self.names[stream], ts, first, last, payload)
                aimed = hit and hit.connection in (None, connection.number)
                sent, whole = self._send_one(connection, item, hit if aimed else None)
                given = given or whole
                parts[connection.number].append(sent)
            stream, ts, first, last, payload = frames.frame(at)
            self._note(self.names[stream], ts, (first, last), given, hit if heard else None)
            if self._full:
                self._write_full(self.names[stream], ts, (first, last), payload, given, hit)
        for connection in live:
            pieces = self._release(connection, now_ns)
            parts[connection.number].extend(pieces)
            if data := b"".join(parts[connection.number]):
                connection.write(data)

    def _note(self, name: str, ts: int, ids: tuple[int, int], given: bool, hit: Hit | None) -> None:
        if given:
            self._oracle.deliver(name, 1, *ids, ts)
        else:
            cause, fault = (hit.kind, hit.fault) if hit else (UNHEARD, None)
            self._oracle.lose(name, 1, ids, (ts, ts), cause, fault)

    def _send_one(self, connection: Connection, item: Item, hit: Hit | None) -> tuple[bytes, bool]:
        """Returns what goes out now for a frame, and whether it goes out whole, now or later."""
        held = self._held.setdefault(connection.number, Held())
        kind = hit.kind if hit else ""
        if kind in ("drop", "mute"):
            return b"", False
        if kind == "malformed":
            self._oracle.give_extra(connection.number, kind)
            return connection.single(item.name, item.payload, CUT_BYTES), False
        if (hit and kind == "delay") or item.stream in held.late:
            self._oracle.give_extra(connection.number, "delay")
            until = hit.until_ns if hit else 0
            held.late.setdefault(item.stream, []).append((until, item))
            return b"", True
        if kind == "reorder" and item.stream not in held.swapped:
            self._oracle.give_extra(connection.number, kind)
            held.swapped[item.stream] = item
            return b"", True
        sent = self._give(connection, item)
        if kind == "duplicate":
            self._oracle.give_extra(connection.number, kind)
            sent += sent
        earlier = held.swapped.pop(item.stream, None)
        return (sent if earlier is None else sent + self._give(connection, earlier)), True

    def _release(self, connection: Connection, now_ns: int) -> list[bytes]:
        held = self._held.get(connection.number)
        pieces: list[bytes] = []
        for stream, queue in list(held.late.items()) if held else ():
            if held and max(until for until, _ in queue) <= now_ns:
                pieces += [self._give(connection, item) for _, item in queue]
                del held.late[stream]
        if not held:
            self._held.pop(connection.number, None)
        return pieces

    def _give(self, connection: Connection, item: Item) -> bytes:
        self._oracle.give(connection.number, item.name, 1, item.first, item.last)
        return connection.single(item.name, item.payload)

    def _write_full(
        self,
        name: str,
        ts: int,
        ids: tuple[int, int],
        payload: bytes,
        given: bool,
        hit: Hit | None,
    ) -> None:
        assert self._full is not None
        line = {
            "stream": name,
            "ts": ts,
            "first": ids[0],
            "last": ids[1],
            "given": given,
            "fault": hit.kind if hit else None,
            "payload": payload.decode(),
        }
        self._full.write(json.dumps(line, separators=(",", ":"), ensure_ascii=False) + "\n")
