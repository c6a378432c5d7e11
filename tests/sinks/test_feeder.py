"""What a feeder does while retention takes from its tape what is not stored."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from tests.conformance.test_sinks import OWN, own_ids, own_settings, parquet_ids

from conftest import RecordMaker, SpineFolder
from tapeworks import _core
from tapeworks._core import Records
from tapeworks.errors import SinkUnavailable
from tapeworks.registry import load_member
from tapeworks.sinks.base import FlushPolicy, SinkContext
from tapeworks.sinks.begun import read_begun
from tapeworks.sinks.feeder import Feeder
from tapeworks.sinks.parquet import ParquetConfig
from tapeworks.source_symbols import KeptDefinitions
from tapeworks.tape import load_offset

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TOPIC = "market-data.normalized"
NAME = "sink-x"
KINDS = OWN, "parquet"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


class Tape:
    """A tape of small segments, of which the oldest are removed by size, or by age."""

    def __init__(self, spine: SpineFolder, maker: RecordMaker, **limits: int) -> None:
        self.maker, self.spine, self.trades = maker, spine, 0
        self.limits = limits
        spine.tape().mkdir(parents=True)
        self.open()
        definitions = maker.definitions().tobytes()
        # What instruments are called outlives the tape.
        KeptDefinitions(spine.path, spine.source).keep(Records.from_bytes(definitions))
        self.writer.append(definitions)

    def open(self) -> None:
        tape, size = self.spine.tape(), 65_536
        self.writer = _core.TapeWriter(tape, durability="never", segment_bytes=size, **self.limits)

    def append(self, count: int) -> None:
        for _ in range(0, count, 100):
            self.writer.append(self.maker.trades(100, self.trades).tobytes())
            self.writer.sync()
            self.trades += 100

    def append_until_gone(self, offset: int) -> None:
        """Appends until what stands at `offset` is removed, which a thread of the writer does."""
        deadline = time.monotonic() + 30
        while self.first <= offset:
            assert time.monotonic() < deadline
            self.append(1_000)

    @property
    def first(self) -> int:
        return int(_core.TapeReader(self.spine.tape()).first)


def make(spine: SpineFolder, kind: str, sink: Any = None) -> Feeder:
    settings = ParquetConfig() if kind == "parquet" else own_settings(spine.path)
    made = (sink or load_member("sink", kind))(settings, SinkContext("x", spine.path))
    partition = made.partition(spine.source, TOPIC)
    policy = FlushPolicy(rows=10**6, seconds=3_600)
    return Feeder(partition, spine.tape(), policy, name=NAME)


def ids(spine: SpineFolder, kind: str) -> list[int]:
    return parquet_ids(spine.path) if kind == "parquet" else own_ids(spine.path)


def lacking(spine: SpineFolder, kind: str, tape: Tape, begun: int = 3) -> list[tuple[int, int]]:
    """Checks that each trade from an offset on was stored once or is told as lost.

    Returns what is, by offsets.
    """
    told = losses(spine)
    gone = {offset - 3 for first, last in told for offset in range(first, last + 1)}
    assert ids(spine, kind) == [one for one in range(begun - 3, tape.trades) if one not in gone]
    return told


def losses(spine: SpineFolder) -> list[tuple[int, int]]:
    found = (spine.path / "state").rglob("losses/*.json")
    told = [json.loads(path.read_text()) for path in found]
    return sorted((one["first"], one["last"]) for one in told)


@pytest.fixture(autouse=True)
def examples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the programs of `examples` importable, as those in the folder of a user are."""
    monkeypatch.syspath_prepend(str(EXAMPLES))


def test_age_waits_for_a_sink_whose_store_was_never_reached(spine, maker):
    # From the first step on, which finds the store down. Another sink has taken everything.
    class Down(load_member("sink", OWN)):
        def connect(self) -> None:
            raise SinkUnavailable("down", retry_after_ms=1)

    tape = Tape(spine, maker, retention_ms=1, wait_ms_max=3_600_000)
    tape.append(100)
    down = make(spine, OWN, Down)
    down.step()
    _core.save_offset(spine.tape(), "sink-other", 10**9)
    tape.append(5_000)
    down.close()
    up = make(spine, OWN)
    assert up.drain(10)
    up.close()
    assert ids(spine, OWN) == list(range(5_100))
    assert load_offset(spine.tape(), NAME) == 5_103
    # What it has stored is waited for no more.
    tape.append_until_gone(3)
    tape.writer.close()


def test_a_damaged_offset_is_replaced_by_what_the_store_says(spine, maker):
    tape = Tape(spine, maker)
    tape.append(100)
    for _ in range(2):
        feeder = make(spine, OWN)
        assert feeder.drain(10)
        feeder.close()
        assert load_offset(spine.tape(), NAME) == 103
        (spine.tape() / "offsets" / NAME).write_text("1o3")
    tape.writer.close()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_taken_before_a_sink_stored_anything_is_told(spine, maker, kind):
    # It was killed before its first flush; then size takes the front, whoever needs it.
    tape = Tape(spine, maker, retention_bytes=131_072)
    tape.append(100)
    feeder = make(spine, kind)
    assert feeder.step()
    feeder.close()
    tape.append_until_gone(103)
    feeder = make(spine, kind)
    assert feeder.drain(10)
    feeder.close()
    first, last = lacking(spine, kind, tape)[0]
    assert (first, last > 103) == (0, True)
    tape.writer.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_sink_that_is_new_begins_with_what_there_is(spine, maker, kind):
    # Nothing is lost to it that was gone before; all that goes from then on is.
    tape = Tape(spine, maker, retention_bytes=131_072)
    tape.append_until_gone(3)
    # Nothing goes while it is closed.
    tape.writer.close()
    feeder = make(spine, kind)
    assert feeder.step()
    feeder.close()
    begun = read_begun(spine.tape(), NAME)
    assert begun is not None
    assert begun > 3
    assert losses(spine) == []
    tape.open()
    tape.append_until_gone(begun)
    feeder = make(spine, kind)
    assert feeder.drain(10)
    feeder.close()
    assert lacking(spine, kind, tape, begun)[0][0] == begun
    tape.writer.close()


@pytest.mark.parametrize("kind", KINDS)
def test_retention_that_goes_on_while_a_loss_is_told_does_not_stop_a_sink(
    spine, maker, kind, monkeypatch
):
    # What is pending is stored first, which takes so long that more is gone.
    tape = Tape(spine, maker, retention_bytes=131_072)
    tape.append(100)
    feeder = make(spine, kind)
    assert feeder.drain(10)
    tape.append(300)
    assert feeder.step()
    tape.append_until_gone(2_000)
    flush, ends = feeder.partition.flush, []

    def flush_slowly(place: Any = None) -> None:
        flush(place)
        if not ends:
            ends.append(tape.trades)
            tape.append_until_gone(tape.trades)

    monkeypatch.setattr(feeder.partition, "flush", flush_slowly)
    assert feeder.drain(20)
    feeder.close()
    assert lacking(spine, kind, tape)[0][1] > ends[0]
    tape.writer.close()
