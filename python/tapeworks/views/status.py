"""The state of the pipeline, read from the tapes, so that any terminal can show it.

Nothing is asked of the running processes: ends and lags are in the tapes' heads, gaps and book
states on their tapes, connections and lags in small files that are replaced every second. Each
call of `Status.sample` reads only what is new since the last one.

A look never fails because of what lies in the folder: strange, damaged or half-written files and
what cannot be read are named as troubles beside all that can.
"""

import contextlib
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tapeworks import _core
from tapeworks._core import TapeReader
from tapeworks.errors import (
    CorruptTapeError,
    TapeError,
    TapeVersionError,
    TapeworksError,
)
from tapeworks.printable import one_line
from tapeworks.register import Supervised, supervisors
from tapeworks.tape import received, taped_sources, tapes_of
from tapeworks.topics import ALERTS, BOOK, GAPS, NORMALIZED, RAW
from tapeworks.views.alert_counts import AlertCount, AlertCounts
from tapeworks.views.reach import Unknown, new_records, unknown_part
from tapeworks.views.tail import SourceTail
from tapeworks.views.transfers import ReplicaState, SinkState, replica_states, sink_states

# Where the input of a derived tape is; all others read the normalized tape.
INPUTS = {NORMALIZED: RAW}

CODES = _core.numbers("marker_code")
GAP_CODE, BOOK_STATE_CODE = CODES["gap"], CODES["book_state"]
CAUSES = {number: name for name, number in _core.numbers("gap_cause").items()}
GAP_STATES = {number: name for name, number in _core.numbers("gap_state").items()}
LOST_ITEMS = _core.numbers("gap_cause")["retention"], _core.numbers("gap_cause")["damage"]
OPEN_OUTAGE = _core.numbers("gap_cause")["disconnect"], _core.numbers("gap_state")["open"]
ENDED_OUTAGE = _core.numbers("gap_cause")["disconnect"], _core.numbers("gap_state")["closed"]
BOOK_STATES = {number: name for name, number in _core.numbers("book_state").items()}

# A book tape may hold a day: states are read from its last records on.
BOOK_TAIL_RECORDS = 200_000
BATCH_RECORDS = 65_536
MARKER = np.dtype(_core.dtype_descr("marker"))
LEVEL = np.dtype(_core.dtype_descr("level"))
VERIFIED = "continuous"
DEPTH = _core.numbers("channel")["depth"]
# Of a book whose line is down: it may have changed since, and nobody knows.
LINE_DOWN = "line down"
# A recorder's file that is older than this says nothing about now.
# Of less time than this nothing is told of a day, and growth is looked at this often.
GROWTH_S_MIN, GROWTH_LOOK_S = 60.0, 60.0
STALE_S = 5.0


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
    new_gaps: int = 0
    """Those that were not in the ledger yet when `Status.mark` was called."""
    unknown: Unknown | None = None
    """What was received and is not in the ledger yet."""
    books: dict[str, str] = field(default_factory=dict)
    """State of the book by symbol."""
    alerts: list[AlertCount] = field(default_factory=list)
    """Alerts of each rule that ever opened one."""
    stopped: dict[str, str] = field(default_factory=dict)
    """Processors and rules of the user's own that stopped while all others go on, and why."""
    losses: int = 0
    """Losses by retention that are not in the ledger yet."""
    recorder: dict[str, Any] | None = None
    """What the recorder says of itself; none if it does not run."""
    sinks: list[SinkState] = field(default_factory=list)
    """How far the sinks that run are."""
    troubles: list[str] = field(default_factory=list)
    """What of it could not be read, and why."""

    @property
    def is_unknown(self) -> bool:
        """Whether gaps may be missing: nobody works on what is unknown, or it lasts for long."""
        if self.unknown is None:
            return False
        recorder = self.recorder or {}
        if not recorder or recorder.get("failure") or self.unknown.after is None:
            return True
        return (self.unknown.until or 0) - self.unknown.after > STALE_S * 1e9


@dataclass
class WorkerState:
    """One worker, as its supervisor sees it."""

    name: str
    state: str
    """`running`, `restarting`, `failing`, `refused`, `damaged` or `misconfigured`."""
    restarts: int = 0
    failures: int = 0
    """How often it failed, one time after the other."""
    last: str = ""
    """Why it failed last."""


@dataclass
class PipelineState:
    """Everything on one screen."""

    data: Path
    sources: list[SourceState] = field(default_factory=list)
    lake: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Files and bytes of each table."""
    is_lake_off: bool = False
    """Whether the pipeline runs on the folder, and the lake is switched off in its settings."""
    disk_bytes: int = 0
    free_bytes: int = 0
    """What the disk of the data folder has left."""
    bytes_per_s: float = 0.0
    """How fast tapes and lake grow, were nothing removed."""
    full_in_s: float | None = None
    """When the disk is full at this rate; none if nothing grows."""
    elapsed_s: float = 0.0
    """Time over which rates were taken; 0 in the first sample."""
    workers: list[WorkerState] = field(default_factory=list)
    """Of all supervisors that run on the folder."""
    replicas: list[ReplicaState] = field(default_factory=list)
    """Partitions of topics that are read into tapes here."""
    troubles: list[str] = field(default_factory=list)
    """What could not be read, and why."""


class Status:
    """Looks at a data folder again and again."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self._sources: dict[str, _Source] = {}
        self._last = 0.0

    def mark(self) -> None:
        """Takes all gaps that are in the ledger now for old ones."""
        self.sample()
        for source in self._sources.values():
            source.mark()

    def sample(self) -> PipelineState:
        """Returns the state now; rates are since the last call."""
        now = time.monotonic()
        elapsed = now - self._last if self._last else 0.0
        self._last = now
        state = PipelineState(self.data, elapsed_s=elapsed)
        with _noting(state.troubles, "workers"):
            running = list(supervisors(self.data))
            state.workers = list(_workers(running))
            state.is_lake_off = _is_lake_off(running)
        with _noting(state.troubles, "tapes"):
            for name in taped_sources(self.data):
                # A source's object holds what was read of it: it is made once.
                if name not in self._sources:
                    self._sources[name] = _Source(self.data, name)
                state.sources.append(self._sources[name].sample(elapsed))
        with _noting(state.troubles, "replicas"):
            state.replicas = list(replica_states(self.data, state.troubles))
        with _noting(state.troubles, "lake"):
            state.lake = lake_files(self.data / "lake")
        with _noting(state.troubles, "disk"):
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

    def __init__(self, data: Path, name: str) -> None:
        self._data, self._name = data, name
        self._folder = data / "tape" / name
        self._state = data / "state" / name
        self._readers: dict[str, TapeReader] = {}
        self._ends: dict[str, int] = {}
        self._gaps: dict[tuple[int, ...], tuple[int, int]] = {}
        self._old: set[tuple[int, ...]] = set()
        self._books: dict[int, int] = {}
        self._alerts = AlertCounts()
        self._lags: dict[str, int] = {}
        self._growths: dict[str, tuple[float, float]] = {}
        self._tail = SourceTail(data, name)

    def mark(self) -> None:
        """Takes all gaps that are in the ledger now for old ones."""
        self._old = set(self._gaps)

    def sample(self, elapsed_s: float) -> SourceState:
        state = SourceState(self._name, recorder=self._read_status("recorder"))
        lags = self._read_status("derive") or {}
        self._lags = {topic: lag for topic, lag in lags.items() if isinstance(lag, int)}
        stopped = lags.get("stopped")
        if isinstance(stopped, dict):
            state.stopped = {str(name): one_line(str(why)) for name, why in stopped.items()}
        with _noting(state.troubles, "losses"):
            state.losses = sum(1 for _ in (self._state / "losses").glob("*.json"))
        with _noting(state.troubles, "sinks"):
            for path in sorted(self._state.glob("sink-*.json")):
                told = self._read_status(path.stem) or {}
                state.sinks += sink_states(path.stem.removeprefix("sink-"), told)
                state.troubles += [
                    f"{path.stem}: {one_line(str(t))}" for t in told.get("troubles", ())
                ]
        with _noting(state.troubles, "tapes"):
            self._open({path.name for path in tapes_of(self._data, self._name)}, state.troubles)
        for topic in sorted(self._readers, key=_flow_order):
            with _noting(state.troubles, topic):
                state.tapes.append(self._tape(topic, elapsed_s, state.recorder is not None))
        with _noting(state.troubles, GAPS):
            self._read_gaps()
            state.unknown = unknown_part(*map(self._readers.get, (RAW, NORMALIZED, GAPS)))
        with _noting(state.troubles, BOOK):
            self._read_books()
        with _noting(state.troubles, ALERTS):
            state.alerts = self._alerts.read(self._readers.get(ALERTS))
        counted = Counter(
            f"{CAUSES.get(cause, cause)} {GAP_STATES.get(final, final)}"
            for cause, final in self._gaps.values()
        )
        state.gaps = dict(sorted(counted.items()))
        state.new_gaps = len(self._gaps.keys() - self._old)
        symbols: dict[int, str] = {}
        with _noting(state.troubles, "symbols"):
            symbols = {number: symbol for symbol, number in self._tail.symbols().ids()}
        state.books = {
            symbols.get(instrument, str(instrument)): BOOK_STATES.get(book, str(book))
            for instrument, book in sorted(self._books.items())
        }
        for (instrument, channel, *_), found in self._gaps.items():
            symbol = symbols.get(instrument, str(instrument))
            if found == OPEN_OUTAGE and channel == DEPTH and state.books.get(symbol) == VERIFIED:
                state.books[symbol] = LINE_DOWN
        return state

    def _open(self, topics: set[str], troubles: list[str]) -> None:
        for topic in topics - self._readers.keys():
            try:
                reader = TapeReader(self._folder / topic)
                if topic == BOOK:
                    reader.seek(max(reader.first, reader.end - BOOK_TAIL_RECORDS))
            except (CorruptTapeError, TapeVersionError) as error:
                troubles.append(f"{topic}: {one_line(str(error))}")
                continue
            except (FileNotFoundError, TapeError):
                # Its writer is just making it, folder first; the next sample sees it.
                continue
            except OSError as error:
                troubles.append(f"{topic}: {one_line(str(error))}")
                continue
            self._readers[topic] = reader

    def _growth(self, topic: str) -> float:
        """Returns the bytes a second by which a tape grows; looked at again once a minute."""
        looked, growth = self._growths.get(topic, (0.0, 0.0))
        now = time.monotonic()
        if topic not in self._growths or now - looked >= GROWTH_LOOK_S:
            growth = growth_per_s(self._folder / topic)
            self._growths[topic] = now, growth
        return growth

    def _tape(self, topic: str, elapsed_s: float, is_recorded: bool) -> TapeState:
        reader = self._readers[topic]
        end = reader.end
        tape = TapeState(topic, items=end, durable=reader.durable)
        tape.bytes, tape.first = folder_bytes(self._folder / topic), reader.first
        if elapsed_s:
            # A tape that was not there at the last look began after it.
            tape.per_s = (end - self._ends.get(topic, reader.first)) / elapsed_s
            tape.bytes_per_s = self._growth(topic) if is_recorded else 0.0
        self._ends[topic] = end
        input_reader = self._readers.get(INPUTS.get(topic, NORMALIZED))
        if topic in self._lags:
            tape.lag = self._lags[topic]
        elif topic != RAW and input_reader is not None:
            # First what is covered, then the end: the other way round lags could be negative.
            covered = reader.covered or 0
            tape.lag = max(0, input_reader.end - covered)
        return tape

    def _read_status(self, who: str) -> dict[str, Any] | None:
        """Returns what a process of the source said of itself within the last seconds."""
        path = self._state / f"{who}.json"
        try:
            # Of a clock that was put back since, it is of no known time either.
            if abs(time.time() - path.stat().st_mtime) > STALE_S:
                return None
            state = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return None if not isinstance(state, dict) or state.get("ended") else state

    def _read_gaps(self) -> None:
        for marker in self._markers(GAPS, GAP_CODE):
            # A gap is told again when its state changes: the last word counts.
            cause, state = int(marker["cause"]), int(marker["state"])
            names = ["instrument", "channel", "cause", "first", "ts_start"]
            if cause in LOST_ITEMS:
                # Of items of a tape: the tape and all of the range belong to it.
                names += ["sequence", "last", "ts_event"]
            key = tuple(int(marker[name]) for name in names)
            if (cause, state) == ENDED_OUTAGE and int(marker["count"]) == 0:
                # Ids that go on without a hole show that it cost nothing.
                self._gaps.pop(key, None)
            else:
                self._gaps[key] = cause, state

    def _read_books(self) -> None:
        for marker in self._markers(BOOK, BOOK_STATE_CODE):
            self._books[int(marker["instrument"])] = int(marker["state"])

    def _markers(self, topic: str, code: int) -> list[Any]:
        found: list[Any] = []
        for records in new_records(self._readers.get(topic), BATCH_RECORDS):
            markers = np.frombuffer(records.numpy("marker"), MARKER)
            found.extend(markers[markers["code"] == code])
            if topic == BOOK:
                # Only levels of verified books are on the book tape.
                levels = np.frombuffer(records.numpy("level"), LEVEL)
                for instrument in np.unique(levels["instrument"]):
                    self._books.setdefault(int(instrument), 3)
        return found


def _flow_order(topic: str) -> tuple[int, str]:
    return ([RAW, NORMALIZED, BOOK].index(topic) if topic in (RAW, NORMALIZED, BOOK) else 9, topic)


@contextlib.contextmanager
def _noting(troubles: list[str], what: str) -> Iterator[None]:
    """Adds what goes wrong inside to `troubles`, and goes on behind."""
    try:
        yield
    except (TapeworksError, OSError) as error:
        troubles.append(f"{what}: {one_line(str(error)) or type(error).__name__}")
    except Exception as error:
        # Whatever it is: who looks at a recording must neither stop it nor see nothing. Words of
        # such an error mean little without its type: a KeyError says a name alone.
        troubles.append(f"{what}: {one_line(f'{type(error).__name__}: {error}')}")


def _folders(parent: Path) -> list[Path]:
    """Returns the folders in `parent` that are ours: not hidden ones, not files."""
    if not parent.is_dir():
        return []
    found = (path for path in parent.iterdir() if not path.name.startswith("."))
    return sorted(path for path in found if path.is_dir())


def _is_lake_off(running: Sequence[Supervised]) -> bool:
    """Whether a whole pipeline runs without the lake, and nobody else stores it."""
    groups = [[str(told.get("name", "")) for told in one.workers] for one in running]
    kinds = [{name.partition("-")[0] for name in names} for names in groups]
    # Workers without a supervisor do one thing alone: the lake may be stored on another machine.
    is_whole = any(found >= {"recorder", "derive"} for found in kinds)
    return is_whole and not any("sink-parquet" in names for names in groups)


def _workers(running: Sequence[Supervised]) -> Iterator[WorkerState]:
    for supervisor in running:
        for told in supervisor.workers:
            yield WorkerState(
                str(told.get("name", "")),
                str(told.get("state", "")),
                int(told.get("restarts", 0)),
                int(told.get("failures", 0)),
                one_line(str(told.get("last", ""))),
            )


def lake_files(lake: Path) -> dict[str, tuple[int, int]]:
    """Returns number of files and bytes of each table of the lake."""
    tables: dict[str, tuple[int, int]] = {}
    for table in _folders(lake):
        sizes = [found.st_size for name, found in _files(table) if name.endswith(".parquet")]
        tables[table.name] = (len(sizes), sum(sizes))
    return tables


def folder_bytes(folder: Path) -> int:
    """Returns the bytes on the disk below `folder`; mapped files may be longer than they are."""
    return sum(found.st_blocks * 512 for _, found in _files(folder))


def growth_per_s(tape: Path) -> float:
    """Returns the bytes a second by which a tape grew over the newest quarter of its items.

    By the time of their receipt. 0 where that is less than a minute: nothing can be told of a day
    by it, and an import takes in a day within a second.
    """
    try:
        reader = TapeReader(tape)
        first, end = reader.first, reader.end
        since = first + (end - first) * 3 // 4
        times = [_received_at(reader, offset) for offset in (since, end - 1)]
    except (TapeError, OSError):
        return 0.0
    span_s = (times[1] - times[0]) / 1e9
    if span_s < GROWTH_S_MIN:
        return 0.0
    return folder_bytes(tape) * (end - since) / max(1, end - first) / span_s


def _received_at(reader: TapeReader, offset: int) -> int:
    reader.seek(max(reader.first, offset))
    if reader.kind == "blobs":
        blobs = reader.read_blobs(1)
        return blobs[0].ts_recv if blobs else 0
    records = reader.read(1)
    return 0 if records is None else received(records)


def _files(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yields name and state of all files below `folder`.

    Retention, compaction and renames take files and folders while we look: those are left out.
    """
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                yield name, os.stat(os.path.join(parent, name))
