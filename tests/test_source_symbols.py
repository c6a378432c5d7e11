"""What is kept of the instruments of a source, so that nobody has to read its whole tape."""

import hashlib
import time

import pytest
from tests.test_layout import ROOT

from conftest import RecordMaker, SpineFolder
from tapeworks._core import Records
from tapeworks.errors import CorruptTapeError
from tapeworks.registry import load_member
from tapeworks.sinks.base import FlushPolicy, SinkContext
from tapeworks.sinks.feeder import Feeder
from tapeworks.source_symbols import KeptDefinitions, SourceSymbols, kept_symbols
from tapeworks.tape import TapeReader, TapeWriter
from tapeworks.topics import TICKS


def test_what_is_kept_of_instruments_is_not_read_from_the_tape(spine, maker):
    # What the tape begins with is damaged, so that it cannot be read again: what is kept says how
    # far it reaches, and what was defined since is behind that. What says so is not believed where
    # the file has less, as one that was restored, or where the tape is another one.
    folder = spine.tape()
    folder.mkdir(parents=True)
    with TapeWriter(folder, "records", durability="never", segment_bytes=1 << 16) as tape:
        first = maker.definitions(("BTCUSDT", "ETHUSDT")).tobytes()
        tape.append(first)
        for at in range(0, 3_000, 500):
            tape.append(maker.trades(500, at).tobytes())
        tape.sync()
        kept = KeptDefinitions(spine.path, spine.source)
        kept.keep(Records.from_bytes(first))
        kept.cover()
        assert kept.covered() == tape.end
        tape.append(maker.definitions().tobytes())
        tape.sync()
    oldest = min(folder.glob("*.seg"))
    with oldest.open("r+b") as file:
        file.seek(oldest.stat().st_size // 2)
        file.write(b"\xff" * 1_000)
    names = {1: "BTCUSDT", 2: "ETHUSDT", 3: "SOLUSDT"}
    assert SourceSymbols(spine.path, spine.source).names() == names
    told = kept.path.with_name("definitions.json")
    noted = told.read_text()
    for wrong in ('"offset": 1, "x": "', '"tape": "' + "0" * 32 + '", "x": "', "{"):
        told.write_text(noted.replace('"tape": "', wrong))
        assert kept.covered() == 0
    told.write_text(noted)
    KeptDefinitions(spine.path, spine.source).keep(Records.from_bytes(first[: len(first) // 2]))
    assert kept.covered() == 0
    with pytest.raises(CorruptTapeError):
        SourceSymbols(spine.path, spine.source).names()


@pytest.mark.parametrize("is_running", [False, True])
def test_numbers_of_a_tape_that_was_replaced_name_nothing(spine, maker, is_running):
    # Numbers 1 and 2 of the tape that was there are of other instruments on the one that is there
    # now, whether whoever reads symbols had read the old ones or not.
    spine.append(maker.definitions(("BTCUSDT", "ETHUSDT")))
    before = SourceSymbols(spine.path, spine.source)
    assert before.names() == {1: "BTCUSDT", 2: "ETHUSDT"}
    kept = KeptDefinitions(spine.path, spine.source)
    kept.keep(before.read().records())
    kept.cover()
    names = before if is_running else SourceSymbols(spine.path, spine.source)
    again = replaced(spine, maker)
    assert names.names() == {}
    assert kept_symbols(spine.path, spine.source).ids() == []
    kept.keep(Records.from_bytes(maker.definitions(("SOLUSDT", "ETHUSDT")).tobytes()))
    assert names.names() == {1: "SOLUSDT", 2: "ETHUSDT"}
    assert len(kept_symbols(spine.path, spine.source).ids()) == 2
    again.close()


def test_lake_of_a_tape_that_was_replaced_names_nothing(spine, maker):
    # A stage that is begun anew has what is kept beside the new tape.
    spine.append(maker.definitions(("BTCUSDT", "ETHUSDT")))
    spine.drain()
    assert len(kept_symbols(spine.path, spine.source).ids()) == 2
    again = replaced(spine, maker)
    assert kept_symbols(spine.path, spine.source).ids() == []
    again.close()


def test_definitions_that_name_no_tape_are_those_of_a_tape_whose_front_is_gone(spine, maker):
    # They are of a version before. A whole tape defines all that is on it.
    spine.tape().mkdir(parents=True)
    with TapeWriter(spine.tape(), segment_bytes=1 << 16, retention_bytes=1 << 17) as tape:
        kept = KeptDefinitions(spine.path, spine.source)
        body = maker.definitions().tobytes()
        kept.path.parent.mkdir(parents=True)
        kept.path.write_bytes(b"TWSYMB02" + hashlib.sha256(body).digest() + body)
        assert kept.load() is None
        deadline = time.monotonic() + 10
        while not TapeReader(spine.tape()).first and time.monotonic() < deadline:
            tape.append(maker.trades(500).tobytes())
        assert bytes(kept.load()) == body


def test_sink_of_a_derived_tape_waits_for_the_definitions_of_its_tape(spine, maker, monkeypatch):
    # The recorder has defined nothing yet on the tape that replaces another one: nothing is stored
    # under the names of that one.
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    kept = KeptDefinitions(spine.path, spine.source)
    spine.append(maker.definitions(("BTCUSDT", "ETHUSDT", "LTCUSDT")))
    kept.keep(Records.from_bytes(maker.definitions(("BTCUSDT", "ETHUSDT", "LTCUSDT")).tobytes()))
    again = replaced(spine, maker)
    again.append(maker.trades(100), TICKS)
    kind = load_member("sink", "own_sink:Ledger")
    settings = kind.Config("own_sink:Ledger", path=spine.path / "trades.db")
    sink = kind(settings, SinkContext("own", spine.path))
    tape = again.tape(TICKS)
    feeder = Feeder(sink.partition(spine.source, TICKS), tape, FlushPolicy(seconds=0.0))
    feeder.step()
    assert "has no definition" in feeder.refusal
    kept.keep(Records.from_bytes(maker.definitions(("SOLUSDT", "ETHUSDT", "BTCUSDT")).tobytes()))
    assert feeder.drain(10)
    found = sink.database.execute("select symbol, count(*) from trades group by 1").fetchall()
    feeder.close()
    numbers = maker.trades(100)["instrument"].tolist()
    wanted = {1: "SOLUSDT", 2: "ETHUSDT", 3: "BTCUSDT"}
    assert dict(found) == {name: numbers.count(one) for one, name in wanted.items()}
    again.close()


def replaced(spine: SpineFolder, maker: RecordMaker) -> SpineFolder:
    """Begins the normalized tape anew, without definitions."""
    spine.close()
    spine.tape().rename(spine.path / "old")
    again = SpineFolder(spine.path, spine.source)
    again.append(maker.rows("marker", 1, code=1))
    return again
