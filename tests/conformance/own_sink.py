"""A sink as a user writes one: ids of trades and the place on the tape, in one file of JSON.

The file is written aside and renamed, so that both are stored together or not at all.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from tapeworks._core import Records, dtype_descr
from tapeworks.sinks.base import UNKNOWN, Sink, SinkConfig, WriterLock
from tapeworks.tape import Place


@dataclass
class Stored:
    """What the file holds."""

    ids: list[int] = field(default_factory=list)
    place: Place = field(default_factory=Place)


def load_stored(data: Path, source: str, topic: str) -> Stored:
    """Reads the file of one tape; nothing where there is none."""
    try:
        found = json.loads((data / f"{source}.{topic}.json").read_text())
    except FileNotFoundError:
        return Stored()
    return Stored(found["ids"], Place(**found["place"]))


class JsonSink(Sink):
    """Stores the ids of the trades of a tape."""

    @staticmethod
    def topics(config: SinkConfig) -> tuple[str, ...]:
        """One tape."""
        return ("market-data.normalized",)

    def __init__(
        self,
        config: SinkConfig,
        data: Path,
        source: str,
        topic: str,
        lock: WriterLock | None = None,
    ) -> None:
        self._where = (data, source, topic)
        self._path = data / f"{source}.{topic}.json"
        self._reset()

    def _reset(self) -> None:
        self._stored = load_stored(*self._where)
        self._ids: list[int] = []
        self._rows = 0
        self._next = self._stored.place.offset

    def open(self) -> int:
        """What was not flushed is forgotten."""
        self._reset()
        return self._next

    def write(self, batch: Records) -> None:
        """Trades are kept, all else is passed over."""
        trades = np.frombuffer(batch.numpy("trade"), np.dtype(dtype_descr("trade")))
        self._ids += [int(number) for number in trades["trade_id"]]
        self._rows += len(batch)
        self._next = batch.next_offset

    def flush(self, place: Place | None = None) -> None:
        """Ids and place in one rename."""
        stored = Stored(self._stored.ids + self._ids, place or Place(self._next))
        aside = self._path.with_suffix(".part")
        aside.write_text(json.dumps(asdict(stored)))
        aside.replace(self._path)
        self._stored, self._ids, self._rows = stored, [], 0

    def close(self) -> None:
        """Nothing is held open."""

    @property
    def committed(self) -> Place | None:
        """None before the first flush."""
        return self._stored.place if self._path.exists() else None

    @property
    def resume(self) -> int:
        """The place of the last flush."""
        return self._stored.place.offset

    @property
    def received(self) -> int:
        """Not known: no times are stored."""
        return UNKNOWN

    def skip(self, place: Place) -> None:
        """Stores the place alone."""
        self.flush(place)
        self._next = place.offset

    @property
    def pending(self) -> tuple[int, int]:
        """Rows that were written, and about how large they are."""
        return self._rows, 64 * self._rows
