"""A sink that has not stored anything yet: the tape waits for it, and what it lost is told."""

import contextlib
import shutil
import sqlite3
import sys
import time

import pytest
from tests.test_layout import ROOT

from conftest import SpineFolder
from tapeworks.errors import SinkError, SinkUnavailable
from tapeworks.registry import load_member
from tapeworks.sinks.base import FlushPolicy, SinkContext
from tapeworks.sinks.begun import read_begun
from tapeworks.sinks.feeder import Feeder
from tapeworks.source_symbols import KeptDefinitions
from tapeworks.tape import TapeReader, TapeWriter, load_offset, noted_losses

TOPIC, NAME = "market-data.normalized", "sink-own"
SECONDS_MAX = 10


@pytest.fixture(autouse=True)
def examples(monkeypatch):
    """Makes the sink of the examples importable."""
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    yield
    sys.modules.pop("own_sink", None)


def feeder_of(spine: SpineFolder, *, is_down: bool = False) -> Feeder:
    """Returns the feeder of a sink of one's own, whose store answers or not."""
    kind = load_member("sink", "own_sink:Ledger")

    class Down(kind):
        def connect(self):
            raise SinkUnavailable("no such server")

    settings = kind.Config("own_sink:Ledger", path=spine.path / "trades.db")
    sink = (Down if is_down else kind)(settings, SinkContext("own", spine.path))
    partition = sink.partition(spine.source, TOPIC)
    return Feeder(partition, spine.tape(), FlushPolicy(rows=10**6, seconds=0.0), name=NAME)


def stored(spine: SpineFolder) -> list[int]:
    """Returns the numbers of the trades that the sink has stored."""
    with contextlib.closing(sqlite3.connect(spine.path / "trades.db")) as database:
        found = database.execute("select trade_id from trades order by rowid").fetchall()
    return [int(row[0]) for row in found]


def append(spine: SpineFolder, maker, first: int, end: int, **limits: int) -> int:
    """Appends trades to a tape of small segments, beside which its instruments are kept.

    With limits, waits until retention has taken something more; returns where the tape begins.
    """
    spine.tape().mkdir(parents=True, exist_ok=True)
    with TapeWriter(spine.tape(), segment_bytes=1 << 16, **limits) as writer:
        if not writer.end:
            writer.append(maker.definitions().tobytes())
            writer.sync()
            KeptDefinitions(spine.path, spine.source).keep(TapeReader(spine.tape()).read())
        before = TapeReader(spine.tape()).first
        for start in range(first, end, 500):
            writer.append(maker.trades(500, start).tobytes())
        deadline = time.monotonic() + SECONDS_MAX
        while limits and TapeReader(spine.tape()).first == before:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    return TapeReader(spine.tape()).first


def losses(spine: SpineFolder) -> list[tuple[int, int]]:
    return [(loss.first, loss.last) for _, loss in noted_losses(spine.path, spine.source)]


def drain(spine: SpineFolder) -> None:
    """Stores all that the tape holds."""
    feeder = feeder_of(spine)
    assert feeder.drain(SECONDS_MAX)
    feeder.close()


def be_killed(spine: SpineFolder) -> None:
    """Has a sink read the tape, and die before it stores any of it."""
    feeder = feeder_of(spine)
    feeder.partition.flush = lambda place=None: None
    assert feeder.step() > 0
    feeder.close()


def test_tape_that_is_replaced_waits_for_a_sink_that_never_connected(spine, maker):
    # The same feeder, whose store never answers, meets two tapes of one name.
    down = feeder_of(spine, is_down=True)
    append(spine, maker, 0, 500)
    assert down.step() == 0
    shutil.rmtree(spine.tape())
    append(spine, maker, 0, 1_000)
    assert load_offset(spine.tape(), NAME) is None
    down._retry_at = 0.0
    assert down.step() == 0
    assert load_offset(spine.tape(), NAME) == 0
    down.close()


def test_sink_begins_where_the_tape_does_and_is_owed_all_from_there(spine, maker):
    # What was gone before it came is no loss, also when it is started once more before it stored
    # anything; what goes from then on is one.
    begun = append(spine, maker, 0, 10_500, retention_bytes=1 << 17)
    assert feeder_of(spine, is_down=True).step() == 0
    for _ in range(2):
        be_killed(spine)
        assert read_begun(spine.tape(), NAME) == begun
    assert losses(spine) == []
    first = append(spine, maker, 10_500, 20_500, retention_bytes=1 << 17)
    drain(spine)
    assert losses(spine) == [(begun, first - 1)]
    assert stored(spine) == list(range(first - 3, 20_500))
    # From here on it had stored something: a store that is emptied is refused.
    (spine.path / "trades.db").unlink()
    with pytest.raises(SinkError, match="and now holds nothing"):
        feeder_of(spine).step()


def test_store_that_is_emptied_is_owed_the_whole_tape(spine, maker):
    # It is filled again from a tape that is whole. Killed before it has stored anything of that, it
    # is told what retention took meanwhile.
    append(spine, maker, 0, 500)
    drain(spine)
    assert load_offset(spine.tape(), NAME) == 503
    (spine.path / "trades.db").unlink()
    be_killed(spine)
    first = append(spine, maker, 500, 10_500, retention_bytes=1 << 17)
    drain(spine)
    assert losses(spine) == [(0, first - 1)]
    assert stored(spine) == list(range(first - 3, 10_500))
