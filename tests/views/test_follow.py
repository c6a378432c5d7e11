"""Following: what comes, after what was, each record once, whoever writes and reads it."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import tapeworks as tw
from conftest import ROOT, START, Command
from tapeworks import _core
from tapeworks.errors import QueryError, TapeReplacedError
from tapeworks.views import follow as following

SECOND = 10**9
SOURCE = "binance-spot"
NORMALIZED, BARS = "market-data.normalized", "market-data.bars"


def ids(batch):
    return batch["trades"]["trade_id"].to_pylist()


def take(follow, count):
    """Returns the ids of the next trades, `count` of them."""
    found = []
    while len(found) < count:
        found += ids(next(follow))
    return found


@pytest.fixture
def recorded(spine, maker):
    """A hundred trades."""
    spine.append(maker.definitions())
    spine.append(maker.trades(100))
    return spine


def test_from_now_on_only_what_comes(recorded, maker):
    # What is there when it is called is not given, whenever the first batch is asked for.
    lake = tw.open(recorded.path)
    follow = lake.follow(kinds="trades")
    recorded.append(maker.trades(10, 100))
    assert take(follow, 10) == list(range(100, 110))
    symbol = lake.follow("BTCUSDT", kinds="trades")
    rows = maker.trades(50, 110)
    recorded.append(rows)
    assert take(symbol, 1) == rows["trade_id"][rows["instrument"] == 1].tolist()
    assert take(follow, 50) == list(range(110, 160))


def test_the_past_goes_over_into_what_comes(recorded, maker):
    # By time and by offset; what comes while the past is read is behind it, once.
    lake = tw.open(recorded.path)
    middle = START + 50 * SECOND // 10
    for given, first in (({"start": middle}, 50), ({"offset": 0}, 0), ({"offset": 53}, 50)):
        count = recorded.append(maker.trades(0)) - 3
        follow = lake.follow(kinds="trades", **given)
        recorded.append(maker.trades(20, count))
        found = take(follow, count + 20 - first)
        assert found == list(range(first, count + 20)), given


def test_all_that_another_process_writes(recorded):
    # It closes segments of 64 KiB, a thousand records each, while they are read.
    recorded.close()
    script = (
        "import sys\n"
        "from tests.conftest import RecordMaker\n"
        "from tapeworks import _core\n"
        "maker = RecordMaker()\n"
        "with _core.TapeWriter(sys.argv[1], segment_bytes=1 << 16) as tape:\n"
        "    for first in range(100, 20_100, 500):\n"
        "        tape.append(maker.trades(500, first).tobytes())\n"
    )
    follow = tw.open(recorded.path).follow(kinds="trades", offset=0)
    writer = subprocess.Popen([sys.executable, "-c", script, recorded.tape()], cwd=ROOT)
    try:
        assert take(follow, 20_100) == list(range(20_100))
    finally:
        assert writer.wait(60) == 0
    assert len(list(recorded.tape().glob("*.seg"))) > 10


def test_what_retention_took_comes_from_the_lake(spine, maker):
    # From a time of which the tape has nothing any more; and from an offset, while it is read.
    definitions, trades = maker.definitions(), maker.trades(6_000)
    with _core.TapeWriter(spine.tape(), segment_bytes=1 << 16) as tape:
        tape.append(definitions.tobytes())
        for part in np.split(trades, 60):
            tape.append(part.tobytes())
    spine.drain()
    lake = tw.open(spine.path)
    before = lake.follow("BTCUSDT", kinds="trades", offset=0)
    for path in sorted(spine.tape().glob("*.seg"))[:3]:
        path.unlink()
    first = _core.TapeReader(spine.tape()).first
    assert 1_000 < first < 5_000
    wanted = trades["trade_id"][trades["instrument"] == 1].tolist()
    assert take(before, len(wanted)) == wanted
    after = lake.follow("BTCUSDT", START, kinds="trades")
    assert take(after, len(wanted)) == wanted
    assert before.position == after.position
    more = maker.trades(500, 6_000)
    spine.append(more)
    wanted = more["trade_id"][more["instrument"] == 1].tolist()
    assert take(before, len(wanted)) == take(after, len(wanted)) == wanted
    with pytest.raises(QueryError, match=r"depth of binance-spot .* is held from"):
        lake.follow(kinds="depth", start=START)


def test_tapes_are_merged_as_replay_merges_them(recorded, maker):
    # The past of two tapes; then what comes on either, also on one that was not there before.
    bars = maker.rows("bar", 10, instrument=1, closed=1, interval_ms=1_000)
    bars["ts_event"] = START + np.arange(10) * SECOND
    bars["ts_recv"] = bars["ts_event"] + SECOND
    recorded.append(bars, BARS)
    lake = tw.open(recorded.path)
    kinds = ["trades", "bars", "ticks"]
    follow = lake.follow(start=START, kinds=kinds)
    found = b""
    replayed = b"".join(bytes(batch) for batch in lake.replay(kinds=["trades", "bars"]))
    while len(found) < len(replayed):
        found += bytes(next(follow))
    assert found == replayed
    more = maker.trades(5, 100)
    recorded.append(more)
    assert bytes(next(follow)) == more.tobytes()
    ticks = maker.rows("tick", 3, instrument=1, ts_event=START, ts_recv=START)
    recorded.append(ticks, "market-data.ticks")
    assert bytes(next(follow)) == ticks.tobytes()
    assert [place["offset"] for place in follow.position.values()] == [108, 10, 3]


def test_a_place_is_kept_and_gone_on_from(recorded, maker):
    # As JSON, in another process if need be; a tape that was replaced is noticed.
    lake = tw.open(recorded.path)
    follow = lake.follow(kinds="trades", offset=0)
    assert take(follow, 100) == list(range(100))
    kept = json.loads(json.dumps(follow.position))
    recorded.append(maker.trades(10, 100))
    again = tw.open(recorded.path).follow(kinds="trades", offset=kept)
    assert take(again, 10) == list(range(100, 110))
    kept[f"{SOURCE}/{NORMALIZED}"]["tape"] = "0" * 31 + "1"
    with pytest.raises(TapeReplacedError):
        lake.follow(kinds="trades", offset=kept)
    for wrong, told in (
        ({"offset": 10_000}, "up to 113, got 10000"),
        ({"offset": -1}, "0 or more, got -1"),
        ({"offset": 0, "kinds": ["trades", "bars"]}, "an offset is of one tape"),
        ({"offset": kept, "kinds": "bars"}, "expected an offset of each of"),
        ({"offset": 0, "start": START}, "a start or an offset, got both"),
        ({"kinds": "trade"}, "did you mean 'trades'"),
        ({"symbols": "BTCUSD"}, "never recorded; near it are"),
    ):
        with pytest.raises(QueryError, match=told):
            lake.follow(**{"kinds": "trades", **wrong})


def test_a_tape_that_is_replaced_is_noticed(recorded, maker):
    # A new recording under the old name is another one, which the reader of the old never sees.
    follow = tw.open(recorded.path).follow(kinds="trades", offset=0)
    assert len(take(follow, 100)) == 100
    recorded.close()
    shutil.rmtree(recorded.tape())
    with _core.TapeWriter(recorded.tape()) as tape:
        tape.append(maker.definitions().tobytes())
    with pytest.raises(TapeReplacedError, match="replaced or removed while it was followed"):
        next(follow)
    assert list(follow) == []


def bars_of(maker, count):
    return maker.rows(
        "bar", count, instrument=1, closed=1, interval_ms=1_000, ts_event=START, ts_recv=START
    )


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_the_position_is_before_what_was_not_given(recorded, maker, monkeypatch, error):
    # The trades were read when the bars failed: who goes on from the position gets them.
    lake = tw.open(recorded.path)
    follow = lake.follow(kinds=["trades", "bars"])
    before = follow.position
    recorded.append(maker.trades(50, 100))

    def fail():
        raise error

    monkeypatch.setattr(follow._tapes[1], "read", fail)
    with pytest.raises(error):
        next(follow)
    assert follow.position == before
    assert list(follow) == []
    again = lake.follow(kinds=["trades", "bars"], offset=before)
    assert take(again, 50) == list(range(100, 150))


def test_tapes_are_looked_at_while_another_is_busy(recorded, maker, monkeypatch):
    # Each step brings trades. A tape that is new is given, one that is replaced is noticed.
    monkeypatch.setattr("tapeworks.views.follow.LOOK_S", 0)
    follow = tw.open(recorded.path).follow(kinds=["trades", "bars"])
    recorded.append(bars_of(maker, 3), BARS)
    counts = []
    for first in (100, 110):
        recorded.append(maker.trades(10, first))
        counts.append(next(follow).counts())
    assert [count["trades"] for count in counts] == [10, 10]
    assert counts[-1]["bars"] == 3
    shutil.rmtree(recorded.tape(BARS))
    with _core.TapeWriter(recorded.tape(BARS)) as tape:
        tape.append(bars_of(maker, 1).tobytes())
    recorded.append(maker.trades(10, 120))
    with pytest.raises(TapeReplacedError, match="replaced or removed while it was followed"):
        next(follow)
    assert [place["offset"] for place in follow.position.values()] == [123, 3]


def test_an_instrument_that_is_defined_later(recorded, maker):
    # The venue lists a symbol anew: its records have another instrument, and are wanted.
    follow = tw.open(recorded.path).follow("BTCUSDT", kinds="trades")
    again = maker.definitions(("BTCUSDT",))
    again["instrument"] = 9
    recorded.append(again)
    rows = maker.trades(3, 100)
    rows["instrument"] = 9
    recorded.append(rows)
    assert take(follow, 3) == [100, 101, 102]


def test_it_ends_where_it_is_told_to(recorded, maker):
    # At a time of receipt: on the tape, or passed while nothing comes; or when it is closed.
    lake = tw.open(recorded.path)
    end = START + 5 * SECOND
    for start in (START, None):
        with lake.follow(start=start, end=end, kinds="trades") as follow:
            found = [number for batch in follow for number in ids(batch)]
        assert found == ([] if start is None else list(range(50)))
    assert list(follow) == []
    follow = lake.follow(kinds="trades")
    closing = threading.Timer(0.05, follow.close)
    closing.start()
    assert list(follow) == []
    closing.join()


def test_the_end_waits_for_a_derivation_that_lags(recorded, maker):
    # It notes how many records it has yet to take; one that notes nothing any more has ended.
    notes = recorded.path / "state" / SOURCE / "derive.json"
    notes.parent.mkdir(parents=True, exist_ok=True)
    bars = maker.rows("bar", 2, instrument=1, interval_ms=1_000, ts_event=START, ts_recv=START)
    recorded.append(bars, BARS, covers=51)
    notes.write_text(json.dumps({BARS: 50}))
    lake = tw.open(recorded.path)

    def derive():
        recorded.append(bars, BARS, covers=101)
        notes.write_text(json.dumps({BARS: 0}))

    later = threading.Timer(1, derive)
    later.start()
    end = START + 8 * SECOND
    found = sum(len(batch) for batch in lake.follow(start=START, end=end, kinds="bars"))
    later.join()
    assert found == 4
    notes.write_text(json.dumps({BARS: 50}))
    os.utime(notes, (time.time() - 120,) * 2)
    assert sum(map(len, lake.follow(start=START, end=end, kinds="bars"))) == 4


def test_async_gives_the_same_and_cancelling_loses_nothing(recorded, maker):
    # Each wait is cut off after a moment, as `asyncio.wait_for` does; others run meanwhile.
    follow = tw.open(recorded.path).follow(kinds="trades", offset=0)

    async def read():
        found, written = [], 100
        while len(found) < 300:
            try:
                found += ids(await asyncio.wait_for(anext(follow), 0.005))
            except TimeoutError:
                recorded.append(maker.trades(50, written))
                written += 50
        return found

    assert asyncio.run(read())[:300] == list(range(300))

    async def close_from_beside():
        asyncio.get_running_loop().call_later(0.05, follow.close)
        return [batch async for batch in follow]

    assert asyncio.run(close_from_beside()) == []


def test_waiting_costs_no_processor(recorded):
    # A second of silence, of one tape and of two, is slept through.
    for kinds in ("trades", ["trades", "bars"]):
        follow = tw.open(recorded.path).follow(kinds=kinds)
        closing = threading.Timer(0.6, follow.close)
        closing.start()
        began = time.process_time()
        assert list(follow) == []
        assert time.process_time() - began < 0.2, kinds
        closing.join()


def test_the_command_line_follows_until_ctrl_c(recorded, maker):
    # The past from a time on, then what comes, a line each at once; Ctrl-C ends it in order.
    tape = Command(recorded.path.parent)
    began = "2023-11-17T23:00:09.5"
    process = tape.start("replay", "--follow", "--kinds", "trades", "--from", began)
    lines = [json.loads(process.stdout.readline()) for _ in range(5)]
    recorded.append(maker.trades(3, 100))
    lines += [json.loads(process.stdout.readline()) for _ in range(3)]
    assert [line["trade_id"] for line in lines] == list(range(95, 103))
    shown, told = tape.interrupt(process)
    assert (process.returncode, shown) == (0, "")
    assert told == "8 records\n"
    told = tape.refuse("replay", "--follow", "--speed", "2", code=2)
    assert "--speed is for the past" in told
    tape.close()


def test_what_is_derived_right_before_the_end_is_not_missed(recorded, maker, monkeypatch):
    # The derivation takes the rest between the last look at the tape and the one at its notes.
    bars = maker.rows("bar", 2, instrument=1, interval_ms=1_000, ts_event=START, ts_recv=START)
    recorded.append(bars, BARS, covers=51)
    asked, really = [], following.is_yet_derived

    def derive_then_ask(*told):
        if not asked:
            recorded.append(bars, BARS, covers=101)
        asked.append(really(*told))
        return asked[-1]

    monkeypatch.setattr(following, "is_yet_derived", derive_then_ask)
    batches = tw.open(recorded.path).follow(start=START, end=START + 8 * SECOND, kinds="bars")
    assert sum(map(len, batches)) == 4
    assert asked == [False, False]
