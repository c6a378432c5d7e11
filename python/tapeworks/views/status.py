"""The state of the pipeline, read from the tapes, so that any terminal can show it.

Nothing is asked of the running processes: ends and lags are in the tapes' heads, gaps and book
states on their tapes, connections and lags in small files that are replaced every second. Each
call of `Status.sample` reads only what is new since the last one.
"""

import contextlib
import json
import os
import shutil
import struct
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tapeworks import _core
from tapeworks._core import TapeReader
from tapeworks.errors import TapeError, TapeRangeError
from tapeworks.views.tail import SourceTail

RAW, NORMALIZED, BOOK = "market-data.raw", "market-data.normalized", "market-data.book"
GAPS = "market-data.gaps"
# Where the input of a derived tape is; all others read the normalized tape.
INPUTS = {NORMALIZED: RAW}

CODES = _core.numbers("marker_code")
GAP_CODE, BOOK_STATE_CODE = CODES["gap"], CODES["book_state"]
CAUSES = {number: name for name, number in _core.numbers("gap_cause").items()}
GAP_STATES = {number: name for name, number in _core.numbers("gap_state").items()}
BOOK_STATES = {number: name for name, number in _core.numbers("book_state").items()}

# A book tape may hold a day: states are read from its last records on.
BOOK_TAIL_RECORDS = 200_000
BATCH_RECORDS = 65_536
MARKER = np.dtype(_core.dtype_descr("marker"))
LEVEL = np.dtype(_core.dtype_descr("level"))
# A recorder's file that is older than this says nothing about now.
STALE_S = 5.0
# Receive time of any record, at byte 16.
TS_RECV = struct.Struct("<q")


@dataclass
class TapeState:
    """One tape: how far it is written, and how far behind its input."""

    topic: str
    items: int = 0
    durable: int = 0
    bytes: int = 0
    per_s: float = 0.0
    first: int = 0
    """The first item that is kept: what is before was removed."""
    bytes_per_s: float = 0.0
    lag: int | None = None
    """Input items that are published and not yet covered; none for a raw tape."""


@dataclass
class SourceState:
    """One source: its tapes, its connections, what it lost, how its books are."""

    name: str
    tapes: list[TapeState] = field(default_factory=list)
    gaps: dict[str, int] = field(default_factory=dict)
    """Gaps by cause and state, such as `sequence closed`."""
    books: dict[str, str] = field(default_factory=dict)
    """State of the book by symbol."""
    losses: int = 0
    """Losses by retention that are not in the ledger yet."""
    recorder: dict[str, Any] | None = None
    """What the recorder says of itself; none if it does not run."""


@dataclass
class PipelineState:
    """Everything on one screen."""

    data: Path
    sources: list[SourceState] = field(default_factory=list)
    lake: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Files and bytes of each table."""
    disk_bytes: int = 0
    free_bytes: int = 0
    """What the disk of the data folder has left."""
    bytes_per_s: float = 0.0
    """How fast tapes and lake grow, were nothing removed."""
    full_in_s: float | None = None
    """When the disk is full at this rate; none if nothing grows."""
    elapsed_s: float = 0.0
    """Time over which rates were taken; 0 in the first sample."""


class Status:
    """Looks at a data folder again and again."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self._sources: dict[str, _Source] = {}
        self._last = 0.0

    def sample(self) -> PipelineState:
        """Returns the state now; rates are since the last call."""
        now = time.monotonic()
        elapsed = now - self._last if self._last else 0.0
        self._last = now
        state = PipelineState(self.data, elapsed_s=elapsed)
        root = self.data / "tape"
        for folder in sorted(root.iterdir()) if root.is_dir() else []:
            source = self._sources.setdefault(folder.name, _Source(self.data, folder))
            state.sources.append(source.sample(elapsed))
        state.lake = lake_files(self.data / "lake")
        state.disk_bytes = folder_bytes(self.data)
        state.free_bytes = shutil.disk_usage(self.data).free
        stored = sum(size for _, size in state.lake.values())
        state.bytes_per_s = sum(
            tape.bytes_per_s * (1 + stored * (tape.topic == NORMALIZED) / max(1, tape.bytes))
            for source in state.sources
            for tape in source.tapes
        )
        if state.bytes_per_s:
            state.full_in_s = state.free_bytes / state.bytes_per_s
        return state


class _Source:
    """What was seen of one source so far."""

    def __init__(self, data: Path, folder: Path) -> None:
        self._folder = folder
        self._state = data / "state" / folder.name
        self._readers: dict[str, TapeReader] = {}
        self._ends: dict[str, int] = {}
        self._gaps: dict[tuple[int, ...], tuple[int, int]] = {}
        self._books: dict[int, int] = {}
        self._lags: dict[str, int] = {}
        self._tail = SourceTail(data, folder.name)

    def sample(self, elapsed_s: float) -> SourceState:
        state = SourceState(self._folder.name, recorder=self._told("recorder"))
        self._lags = self._told("derive") or {}
        state.losses = sum(1 for _ in (self._state / "losses").glob("*.json"))
        topics = {path.name for path in self._folder.iterdir() if path.is_dir()}
        self._open(topics)
        for topic in sorted(self._readers, key=_flow_order):
            state.tapes.append(self._tape(topic, elapsed_s))
        self._read_gaps()
        self._read_books()
        counted = Counter(
            f"{CAUSES.get(cause, cause)} {GAP_STATES.get(final, final)}"
            for cause, final in self._gaps.values()
        )
        state.gaps = dict(sorted(counted.items()))
        symbols = {number: symbol for symbol, number in self._tail.symbols().ids()}
        state.books = {
            symbols.get(instrument, str(instrument)): BOOK_STATES.get(book, str(book))
            for instrument, book in sorted(self._books.items())
        }
        return state

    def _open(self, topics: set[str]) -> None:
        for topic in topics - self._readers.keys():
            try:
                reader = TapeReader(self._folder / topic)
                if topic == BOOK:
                    reader.seek(max(reader.first, reader.end - BOOK_TAIL_RECORDS))
            except (OSError, TapeError):
                # Its writer is just making it, folder first; the next sample sees it.
                continue
            self._readers[topic] = reader

    def _tape(self, topic: str, elapsed_s: float) -> TapeState:
        reader = self._readers[topic]
        end = reader.end
        tape = TapeState(topic, items=end, durable=reader.durable)
        tape.bytes, tape.first = folder_bytes(self._folder / topic), reader.first
        if elapsed_s and topic in self._ends:
            tape.per_s = (end - self._ends[topic]) / elapsed_s
            tape.bytes_per_s = tape.per_s * tape.bytes / max(1, end - tape.first)
        self._ends[topic] = end
        input_reader = self._readers.get(INPUTS.get(topic, NORMALIZED))
        if topic in self._lags:
            tape.lag = self._lags[topic]
        elif topic != RAW and input_reader is not None:
            # First what is covered, then the end: the other way round lags could be negative.
            covered = reader.covered or 0
            tape.lag = max(0, input_reader.end - covered)
        return tape

    def _told(self, who: str) -> dict[str, Any] | None:
        """Returns what a process of the source said of itself within the last seconds."""
        path = self._state / f"{who}.json"
        try:
            if time.time() - path.stat().st_mtime > STALE_S:
                return None
            state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return None if state.get("ended") else state

    def _read_gaps(self) -> None:
        for marker in self._markers(GAPS, GAP_CODE):
            # A gap is told again when its state changes: the last word counts.
            key = tuple(int(marker[name]) for name in ("instrument", "channel", "cause", "first"))
            start = int(marker["ts_start"])
            self._gaps[(*key, start)] = (int(marker["cause"]), int(marker["state"]))

    def _read_books(self) -> None:
        for marker in self._markers(BOOK, BOOK_STATE_CODE):
            self._books[int(marker["instrument"])] = int(marker["state"])

    def _markers(self, topic: str, code: int) -> list[Any]:
        reader = self._readers.get(topic)
        found: list[Any] = []
        while reader is not None:
            try:
                records = reader.read(BATCH_RECORDS)
            except TapeRangeError as error:
                # Retention took what this screen has not looked at.
                reader.seek(error.first)
                continue
            if records is None:
                break
            markers = np.frombuffer(records.numpy("marker"), MARKER)
            found.extend(markers[markers["code"] == code])
            if topic == BOOK:
                # A level on the book tape proves its book: nothing else is ever written there.
                levels = np.frombuffer(records.numpy("level"), LEVEL)
                for instrument in np.unique(levels["instrument"]):
                    self._books.setdefault(int(instrument), 3)
        return found


def _flow_order(topic: str) -> tuple[int, str]:
    return ([RAW, NORMALIZED, BOOK].index(topic) if topic in (RAW, NORMALIZED, BOOK) else 9, topic)


def lake_files(lake: Path) -> dict[str, tuple[int, int]]:
    """Returns number of files and bytes of each table of the lake."""
    tables: dict[str, tuple[int, int]] = {}
    for table in sorted(lake.iterdir()) if lake.is_dir() else []:
        sizes = [found.st_size for name, found in _files(table) if name.endswith(".parquet")]
        tables[table.name] = (len(sizes), sum(sizes))
    return tables


def folder_bytes(folder: Path) -> int:
    """Returns the bytes on the disk below `folder`; mapped files may be longer than they are."""
    return sum(found.st_blocks * 512 for _, found in _files(folder))


def recorded_s(tape: Path) -> float:
    """Returns the seconds between the first and the last item that `tape` keeps; 0 if unknown."""
    try:
        reader = TapeReader(tape)
        times = []
        for offset in (reader.first, reader.end - 1):
            reader.seek(max(reader.first, offset))
            if reader.kind == "blobs":
                blobs = reader.read_blobs(1)
                times.append(blobs[0].ts_recv if blobs else 0)
            else:
                records = reader.read(1)
                times.append(0 if records is None else TS_RECV.unpack_from(records, 16)[0])
    except (TapeError, OSError):
        return 0.0
    return max(0.0, (times[1] - times[0]) / 1e9)


def _files(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yields name and state of all files below `folder`.

    Retention, compaction and renames take files and folders while we look: those are left out.
    """
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                yield name, os.stat(os.path.join(parent, name))
