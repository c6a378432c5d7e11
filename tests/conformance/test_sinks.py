"""What every sink of the table holds: write, crash, write again; nothing lost, nothing doubled."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
from own_sink import JsonSink, load_stored

from tapeworks import _core
from tapeworks.config import Section, Value
from tapeworks.errors import ConfigError, SinkUnavailable
from tapeworks.registry import MEMBERS as TABLE
from tapeworks.registry import load_member
from tapeworks.settings import Config, resolve_config
from tapeworks.sinks.base import Feeder, FlushPolicy, Sink
from tapeworks.sinks.parquet import ParquetConfig
from tapeworks.sinks.worker import feeders
from tapeworks.source_symbols import SourceSymbols
from tapeworks.tape import Place, load_offset

TOPIC = "market-data.normalized"
# A class that is named in the settings as one of a user's is.
OWN = f"{JsonSink.__module__}:JsonSink"


def parquet_ids(data: Path) -> list[int]:
    files = str(data / "lake" / "trades" / "*" / "*" / "*.parquet")
    if not list((data / "lake").glob("trades/*/*/*.parquet")):
        return []
    found = duckdb.sql(f"select trade_id from '{files}' order by 1").fetchall()
    return [row[0] for row in found]


def own_ids(data: Path) -> list[int]:
    return load_stored(data, "binance-spot", TOPIC).ids


# Name of a sink -> its settings, and what it has stored.
MEMBERS: dict[str, tuple[Any, Callable[[Path], list[int]]]] = {
    "parquet": (ParquetConfig(), parquet_ids),
    OWN: (Sink.Config(OWN), own_ids),
}


def make(name: str, data: Path) -> Sink:
    sink: Sink = load_member("sink", name)(MEMBERS[name][0], data, "binance-spot", TOPIC)
    return sink


def test_every_sink_of_the_table_is_tested_here():
    # A new line in the table fails until its sink is under this suite.
    assert set(TABLE["sink"]) < set(MEMBERS)


def test_unknown_sink_is_named():
    # The message lists what there is.
    with pytest.raises(ConfigError, match="parquet"):
        load_member("sink", "paper")


@pytest.mark.parametrize("name", MEMBERS)
def test_rows_are_stored_once_across_crashes(name, spine, maker):
    # Abandon the sink (no close, no flush) after a different number of batches each time, some
    # after a flush. What is stored in the end is the tape, once.
    spine.append(maker.definitions())
    for first in range(0, 5_000, 500):
        spine.append(maker.trades(500, first))
    for batches, flushes in [(1, False), (3, True), (2, False), (0, True), (4, True), (50, True)]:
        sink = make(name, spine.path)
        reader = _core.TapeReader(spine.tape())
        reader.seek(sink.open())
        for _ in range(batches):
            batch = reader.read(333)
            if batch is not None:
                sink.write(batch)
        if flushes:
            sink.flush()
    assert MEMBERS[name][1](spine.path) == list(range(5_000))


@pytest.mark.parametrize("name", MEMBERS)
def test_nothing_beyond_durable_is_stored(name, spine, maker):
    # The feeder reads to the durable watermark only; a tape that is never synced gives nothing.
    folder = spine.tape()
    folder.mkdir(parents=True)
    with _core.TapeWriter(folder, durability="never") as writer:
        writer.append(maker.definitions().tobytes())
        writer.append(maker.trades(100).tobytes())
        feeder = Feeder(make(name, spine.path), folder, FlushPolicy())
        feeder.drain(seconds_max=5)
        durable = _core.TapeReader(folder).durable
        assert len(MEMBERS[name][1](spine.path)) <= max(0, durable - 3)
        writer.sync()
        feeder.drain(seconds_max=5)
    assert MEMBERS[name][1](spine.path) == list(range(100))


@pytest.mark.parametrize("name", MEMBERS)
def test_flush_comes_at_rows_and_at_time(name, spine, maker):
    # With a limit of 1,000 records, 2,500 leave at most 1,000 in memory without any other call.
    spine.append(maker.definitions())
    spine.append(maker.trades(2_500))
    feeder = Feeder(make(name, spine.path), spine.tape(), FlushPolicy(rows=1_000, seconds=3_600))
    while feeder.step():
        assert feeder.sink.pending[0] <= 1_000
    assert len(MEMBERS[name][1](spine.path)) >= 1_500
    feeder.close()
    soon = Feeder(make(name, spine.path), spine.tape(), FlushPolicy(seconds=0.0))
    while soon.step():
        pass
    assert MEMBERS[name][1](spine.path) == list(range(2_500))


@pytest.mark.parametrize("name", MEMBERS)
def test_drain_tries_again_what_is_not_possible_yet(name, spine, maker, monkeypatch):
    # The first two flushes are refused, as when a derived tape is ahead of its instruments: the
    # drain of a worker that stops must not leave with rows that were only moved.
    spine.append(maker.definitions())
    spine.append(maker.trades(100))
    sink = make(name, spine.path)
    feeder = Feeder(sink, spine.tape(), FlushPolicy(seconds=3_600))
    flush, refused = sink.flush, []

    def flush_later(place: Place | None = None) -> None:
        if len(refused) < 2:
            refused.append(1)
            raise SinkUnavailable("not yet", retry_after_ms=10)
        flush(place)

    monkeypatch.setattr(sink, "flush", flush_later)
    feeder.drain(seconds_max=5)
    assert MEMBERS[name][1](spine.path) == list(range(100))


def test_settings_name_a_sink_of_the_users_own():
    # By `kind`, under any name; its own settings are checked as all are.
    text = {"kind": Value(OWN, "test"), "flush_rows": Value(7, "test")}
    config = resolve_config(Section("", {"sinks": Section("", {"mine": Section("m", text)})}))
    assert config.sinks["mine"].policy.rows == 7
    wrong = {"sinks": Section("", {"mine": Section("m", text | {"rows": Value(7, "test")})})}
    with pytest.raises(ConfigError, match=r"m\.rows is not a setting; did you mean m\.flush_rows"):
        resolve_config(Section("", wrong))


def test_what_instruments_are_called_is_known_behind_retention(spine, maker):
    # A sink is given numbers: their symbols are on the tape, or where retention took that, in the
    # lake; those that are defined later are known later.
    names = SourceSymbols(spine.path, "binance-spot")
    assert names.names() == {}
    spine.append(maker.definitions(("BTCUSDT", "ETHUSDT")))
    assert names.names() == {1: "BTCUSDT", 2: "ETHUSDT"}
    spine.append(maker.definitions())
    assert names.names() == {1: "BTCUSDT", 2: "ETHUSDT", 3: "SOLUSDT"}
    spine.append(maker.trades(100))
    spine.drain()
    spine.close()
    shutil.rmtree(spine.tape())
    assert SourceSymbols(spine.path, "binance-spot").names() == names.names()


def test_a_worker_runs_a_sink_of_the_users_own(spine, maker):
    # The feeders that its worker builds store a whole tape; a second start stores nothing twice.
    spine.append(maker.definitions())
    spine.append(maker.trades(100))
    sinks = {"mine": Sink.Config(OWN)}
    config = Config(spine.path, {"binance-spot": None}, sinks=sinks)
    for _ in range(2):
        for feeder in feeders(config, "mine"):
            feeder.drain(5)
            feeder.close()
    assert own_ids(spine.path) == list(range(100))
    assert (
        load_offset(spine.tape(), "sink-mine")
        == load_stored(spine.path, "binance-spot", TOPIC).place.offset
    )
