"""The past after retention: books and replay from the lake equal those that the tape gave.

A simulated exchange with losses and broken frames is recorded by `tape up`. Then the same folder is
asked with all tapes, with the front of each tape taken by retention, and without any tape.
"""

import json
import os
import random
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.arrivals import wait_until_recorded

import tapeworks as tw
from conftest import restate_lake
from tapeworks import commits
from tapeworks.errors import QueryError
from tapeworks.lake import TOPICS
from tapeworks.simulators import start_simulator
from tapeworks.sinks.commit_log import CommitLog
from tapeworks.sinks.compaction import Compaction
from tapeworks.tape import Place, TapeReader, TapeWriter
from tapeworks.views.bars import TRADES
from tapeworks.views.made_bars import are_recorded, make_bars, shape_of, touched_bars
from tapeworks.views.recorded import NOT_RECORDED
from tapeworks.views.times import format_time

pytestmark = pytest.mark.timeout(180)

SYMBOLS = ("BTCUSDT", "ETHUSDT")
SOURCE = "binance-spot"
SEGMENT_BYTES = 1 << 16
KINDS = ("trades", "quotes", "definitions", "book_levels", "bars", "ticks", "gaps")
FAULTS = [
    {"kind": "drop", "at_s": 1.2, "stream": "btcusdt@trade", "count": 5},
    {"kind": "drop", "at_s": 2.0, "stream": "ethusdt@depth*", "count": 2},
    {"kind": "malformed", "at_s": 2.5, "stream": "ethusdt@trade", "count": 3},
    {"kind": "drop", "at_s": 3.0, "stream": "btcusdt@depth*", "count": 1},
    {"kind": "cut", "at_s": 4.0},
]


def record(tape: Any, *more: object) -> Path:
    """Records five seconds, all of which the lake then holds."""
    plan = tape.folder / "faults.json"
    plan.write_text(json.dumps(FAULTS))
    arguments = ["--symbols", *SYMBOLS, "--duration", "5", "--wait", "--settle", "1", "--seed", "5"]
    arguments += ["--rate", "2000", "--levels", "300", "--faults", str(plan), *map(str, more)]
    with start_simulator("binance", *arguments) as simulator:
        (tape.folder / "tapeworks.toml").write_text(
            f'[feeds.{SOURCE}]\nsymbols = ["BTCUSDT", "ETHUSDT"]\nproduct = "spot"\n'
            # So that gaps stay gaps.
            "backfill_s = 0\n"
            f'ws_url = "{simulator.ws_url}"\nrest_url = "{simulator.rest_url}"\n'
            "[sinks.parquet]\nflush_seconds = 0.3\n"
        )
        up = tape.start("up")
        simulator.wait_done(60)
        wait_until_recorded(simulator, tape.folder / "data", SOURCE)
        # The end of the recording is then a batch of its own, whose time the lake knows.
        wait_until_stored(tape.folder / "data")
        _, errors = tape.interrupt(up)
        assert up.returncode == 0, errors
    return tape.folder / "data"


def wait_until_stored(data: Path) -> None:
    """Waits until all that is on the tapes is in the lake."""
    deadline = time.monotonic() + 60
    for topic in TOPICS:
        tape = data / "tape" / SOURCE / topic
        while tape.is_dir() and TapeReader(tape).end > stored(data, topic):
            assert time.monotonic() < deadline, topic
            time.sleep(0.05)


def stored(data: Path, topic: str) -> int:
    commit = commits.read_commit(data / "lake", SOURCE, topic)
    return 0 if commit is None else commit.offset


@pytest.fixture(scope="module")
def folders(
    command: Callable[[Path], Any], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, Path]:
    """One recording with whole tapes, with half of each, and with a compacted lake alone."""
    whole = record(command(tmp_path_factory.mktemp("past")))
    cut, bare = whole.with_name("cut"), whole.with_name("bare")
    shutil.copytree(whole / "lake", cut / "lake")
    for tape in (whole / "tape" / SOURCE).glob("market-data.[!rd]*"):
        rewrite(tape, cut / "tape" / SOURCE / tape.name)
        take_front(cut / "tape" / SOURCE / tape.name)
        if tape.name in TOPICS:
            restate_lake(cut / "lake", SOURCE, tape.name, cut / "tape" / SOURCE / tape.name)
    shutil.copytree(whole / "lake", bare / "lake")
    for topic in TOPICS:
        # Sorted by symbol, in row groups so small that most are ruled out by their statistics.
        log = CommitLog(bare / "lake", SOURCE, topic)
        log.recover()
        compaction = Compaction(log, 500, 1)
        while compaction.step("9999-12-31"):
            pass
    book = TapeReader(cut / "tape" / SOURCE / "market-data.book")
    assert book.end // 4 < book.first < book.end * 9 // 10
    return whole, cut, bare


def rewrite(source: Path, target: Path) -> None:
    """Writes the same tape in segments so small that retention has something to take."""
    reader = TapeReader(source)
    with TapeWriter(target, segment_bytes=SEGMENT_BYTES) as writer:
        while (batch := reader.read(100)) is not None:
            writer.append(batch)


def take_front(tape: Path) -> None:
    """Lets retention take the older half of a tape; of one segment, nothing."""
    sizes = [path.stat().st_size for path in tape.glob("*.seg")]
    deadline = time.monotonic() + 30
    writer = TapeWriter(tape, segment_bytes=SEGMENT_BYTES, retention_bytes=sum(sizes) // 2)
    while len(sizes) > 1 and TapeReader(tape).first == 0:
        assert time.monotonic() < deadline
        assert writer.upkeep_failure is None
        time.sleep(0.01)
    # What was begun is ended first.
    writer.close()


def book_of(lake: tw.Lake, symbol: str, ts: int, clock: str) -> tuple[Any, ...]:
    """Everything that can be known of a book, or why there is none; and where it came from."""
    try:
        found = lake.book(symbol, ts, clock=clock)
    except QueryError as error:
        return "none", str(error)
    native = found.native
    facts = (native.checksum(), native.sequence, native.ts_event, native.ts_recv, native.is_newest)
    return found.origin, facts, native.levels("bid"), native.levels("ask")


def instants(lake: tw.Lake, chance: random.Random, count: int) -> list[int]:
    """Times of updates, one nanosecond beside them, and any."""
    sql = "select epoch_ns(ts_event) + ts_event_ns, epoch_ns(ts_recv) + ts_recv_ns from book_levels"
    table = lake.sql(sql).to_arrow()
    times = np.concatenate([column.to_numpy() for column in table.columns])
    picked = [int(chance.choice(times)) + chance.choice((-1, 0, 0, 1)) for _ in range(count)]
    low, high = int(times.min()) - 10**8, int(times.max()) + 10**8
    return picked + [chance.randrange(low, high) for _ in range(count)]


@pytest.mark.slow
def test_books_from_the_lake_equal_those_from_the_tape(folders: tuple[Path, Path, Path]):
    # Seeded instants by both clocks: levels, checksum, sequence and times, or the same refusal.
    seed = int.from_bytes(os.urandom(4))
    print("seed", seed)
    chance = random.Random(seed)
    whole, cut, bare = map(tw.open, folders)
    origins: dict[str, set[str]] = {"cut": set(), "bare": set()}
    for ts in instants(whole, chance, 100):
        symbol, clock = chance.choice(SYMBOLS), chance.choice(("event", "receipt"))
        expected = book_of(whole, symbol, ts, clock)
        for name, lake in (("cut", cut), ("bare", bare)):
            found = book_of(lake, symbol, ts, clock)
            origins[name].add(found[0])
            if "the recording began" in expected[1]:
                assert "not held" in found[1] or "is empty" in found[1], (seed, ts, found)
            elif "is empty" in expected[1] and "since" not in expected[1]:
                assert "not held" in found[1] or found == expected, (seed, ts, found)
            else:
                assert found[1:] == expected[1:], (seed, ts, symbol, clock, name)
        assert expected[0] in ("tape", "none")
    assert origins["bare"] >= {"lake"}
    assert origins["cut"] >= {"lake", "tape"}, "the recording is too short to be cut"


BAR_COLUMNS = (
    *("venue", "symbol", "ts_event", "ts_event_ns", "open", "high", "low", "close", "volume"),
    *("buy_volume", "turnover", "buy_turnover", "count", "interval_ms", "closed", "channel"),
    *("sequence", "flags", "partial"),
)


@pytest.mark.slow
def test_bars_that_are_made_equal_those_that_were_recorded(folders: tuple[Path, Path, Path]):
    # Of one recording with gaps: every value, and which are whole or lack trades; without tapes,
    # where nothing tells of gaps, the values.
    whole, bare = tw.open(folders[0]), tw.open(folders[2])
    chosen = whole._instruments.choose(None, "*")
    for length in (1_000, 60_000):
        recorded = whole.bars(interval=length, partial=True)
        assert len(recorded)
        assert are_recorded(whole._engine, chosen, length, None, None)
        for lake, columns in ((whole, BAR_COLUMNS), (bare, BAR_COLUMNS[:14])):
            made = make_bars(
                lake._engine,
                chosen,
                None,
                None,
                shape_of(length, None, None, None),
                partial(lake._ledger.coverage, chosen, channels=TRADES),
                partial=True,
            )
            expected = recorded.to_arrow().select(columns).to_pylist()
            found = made.select(columns).to_pylist()
            assert sorted(map(str, found)) == sorted(map(str, expected)), length
    flagged = [row for row in whole.bars(interval="1s") if row["partial"]]
    assert flagged
    assert len(whole.bars(interval="1700ms")) > 2


def test_a_venue_whose_clock_is_behind_makes_no_whole_bar_of_its_first():
    # Recorded from 9.0 on by the recorder's clock, which is six seconds ahead; the longest time in
    # which no bar has trades is not where the recording began.
    seconds = np.array([3, 4, 5]) * 10**9
    made = pa.table(
        {
            "venue": ["v"] * 3,
            "symbol": ["s"] * 3,
            "ns_start": seconds,
            "ns_end": seconds + 10**9 - 1,
            "ns_open": seconds + np.array([500, 1, 1]) * 10**6,
            "ns_close": seconds + np.array([999, 999, 100]) * 10**6,
        }
    )
    begin, end = (datetime.fromtimestamp(second, UTC) for second in (3, 9))
    row = {"venue": "v", "symbol": None, "finding": NOT_RECORDED}
    row |= {"ts_from": begin, "ts_from_ns": 0, "ts_to": end, "ts_to_ns": 0}
    [(places, finding)] = touched_bars(pa.Table.from_pylist([row]), made, True)
    assert (places.tolist(), finding) == ([0], NOT_RECORDED)


def played(lake: tw.Lake, kinds: Sequence[str] = KINDS, **more: Any) -> bytes:
    return b"".join(bytes(batch) for batch in lake.replay(kinds=kinds, **more))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_replay_of_each_kind_is_the_same_bytes(folders: tuple[Path, Path, Path], kind: str):
    # Every record, each once, in the order of the tape, with and without the tapes.
    whole, cut, bare = (played(tw.open(folder), [kind]) for folder in folders)
    assert len(whole) > 0
    assert cut == whole
    assert bare == whole


@pytest.mark.slow
def test_replay_of_a_range_is_the_same_at_any_batch_size(folders: tuple[Path, Path, Path]):
    # Several tapes merged, ranges by seeded bounds, one symbol or all.
    seed = int.from_bytes(os.urandom(4))
    print("seed", seed)
    chance = random.Random(seed)
    lakes = [tw.open(folder) for folder in folders]
    for size in (1_000, 65_536):
        start, end = sorted(instants(lakes[0], chance, 1))
        symbols = chance.choice((None, ["BTCUSDT"], ["ETHUSDT", "BTCUSDT"]))
        more = {"symbols": symbols, "start": start, "end": end, "batch_records": size}
        expected = played(lakes[0], **more)
        for lake in lakes[1:]:
            assert played(lake, **more) == expected, seed


@pytest.mark.slow
def test_batches_from_the_lake_are_bounded(folders: tuple[Path, Path, Path]):
    # The size that was asked for holds for what the lake gives as well.
    for batch in tw.open(folders[2]).replay(kinds=["quotes"], batch_records=100):
        assert 0 < len(batch) <= 100


@pytest.mark.slow
def test_replay_goes_on_when_retention_takes_the_tape_behind_it(
    folders: tuple[Path, Path, Path], tmp_path: Path
):
    # The reader is at the front of the tape when its segments are removed.
    data = tmp_path / "data"
    shutil.copytree(folders[0] / "lake", data / "lake")
    tape = data / "tape" / SOURCE / "market-data.book"
    rewrite(folders[0] / "tape" / SOURCE / tape.name, tape)
    restate_lake(data / "lake", SOURCE, tape.name, tape)
    expected = played(tw.open(data), ["book_levels"])
    batches = tw.open(data).replay(kinds=["book_levels"], batch_records=500)
    first = next(batches)
    take_front(tape)
    assert TapeReader(tape).first > 0
    assert bytes(first) + b"".join(bytes(batch) for batch in batches) == expected


@pytest.mark.slow
def test_what_neither_holds_is_refused_with_what_is(folders: tuple[Path, Path, Path]):
    # Before the first book; depth as it came, which only tapes hold; and a lake that is gone too.
    whole, cut, bare = map(tw.open, folders)
    began = next(iter(whole.replay(kinds=["trades"], batch_records=1)))
    ts = int(began["trades"].to_numpy()["ts_recv"][0].astype(np.int64))
    with pytest.raises(QueryError, match="neither on the tape nor in the lake: the first is that"):
        bare.book("BTCUSDT", "2020-01-01")
    with pytest.raises(QueryError, match="on the tape only; expected from"):
        list(cut.replay(kinds=["depth"], start=format_time(ts)))
    with pytest.raises(QueryError, match="neither the tapes nor the lake"):
        list(bare.replay(kinds=["depth"]))
    assert played(cut, ["depth"])


@pytest.mark.slow
def test_rows_that_neither_lake_nor_tape_hold_are_not_passed_over(
    folders: tuple[Path, Path, Path], tmp_path: Path
):
    # Retention passed the sink: the lake ends before the tape begins. No answer skips the hole.
    data = tmp_path / "data"
    shutil.copytree(folders[1], data)
    commit = commits.read_commit(data / "lake", SOURCE, "market-data.normalized")
    early = replace(commit, place=Place(10))
    path = commits.commit_path(data / "lake", SOURCE, "market-data.normalized")
    path.write_bytes(early.to_json())
    with pytest.raises(QueryError, match="neither in the lake nor on the tape"):
        list(tw.open(data).replay(kinds=["trades"]))
    with pytest.raises(QueryError, match="neither in the lake nor on the tape"):
        tw.open(data).trades()
