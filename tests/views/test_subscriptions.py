"""Which symbol and channel was recorded when: the real recorder, and what coverage says of it."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tapeworks as tw
from conftest import SpineFolder
from tapeworks._core import Stage, TapeReader, dtype_descr, kind_of, numbers
from tapeworks.errors import QueryError
from tapeworks.feeds import session as recorder
from tapeworks.feeds.binance import BinanceConfig
from tapeworks.simulators.base import Simulator, start_simulator
from tapeworks.sinks.feeder import Feeder
from tapeworks.sinks.parquet import ParquetConfig, ParquetPartition
from tapeworks.tape import Loss, note_loss

SOURCE, RAW, NORMALIZED, GAPS = "x", "market-data.raw", "market-data.normalized", "market-data.gaps"
SIMULATED = ("--seed", "5", "--rate", "100")

Done = Callable[[dict[str, Any]], bool]


def config(simulator: Simulator, **fields: Any) -> dict[str, Any]:
    urls = {"ws_url": simulator.ws_url, "rest_url": simulator.rest_url}
    return {"source": SOURCE, "symbols": ("BTCUSDT",), **urls, **fields}


def record(simulator: Simulator, data: Path, done: Done, **fields: Any) -> dict[str, Any]:
    """Records until `done` holds of the status of each second; returns the last one."""

    async def main() -> dict[str, Any]:
        stop = asyncio.Event()

        def report(status: Any) -> None:
            if done(status):
                stop.set()

        feed = BinanceConfig(**config(simulator, **fields))
        async with asyncio.timeout(60):
            return await recorder.record(feed, data, stop, report=report)

    return asyncio.run(main())


def spoke(count: int) -> Done:
    return lambda status: status["outcome"]["spoke"] >= count


def tape(data: Path, topic: str) -> Path:
    return data / "tape" / SOURCE / topic


def store(data: Path) -> None:
    """Brings the lake up to all that is on the normalized tape."""
    settings = ParquetConfig()
    feeder = Feeder(
        ParquetPartition(settings, data, SOURCE, NORMALIZED),
        tape(data, NORMALIZED),
        settings.policy,
    )
    feeder.drain(seconds_max=30)
    feeder.close()


def findings(coverage: Any, *columns: str) -> list[tuple[Any, ...]]:
    columns = columns or ("finding", "cause", "symbol", "channel")
    return [tuple(row[column] for column in columns) for row in coverage.to_pylist()]


def spans(data: Path) -> list[tuple[int, int]]:
    [recorded] = tw.open(data).coverage().recorded
    return recorded.ranges


@pytest.fixture(scope="module")
def simulator():
    with start_simulator("binance", *SIMULATED) as started:
        yield started


@pytest.fixture(scope="module")
def added(simulator, tmp_path_factory):
    """Recorded twice: first BTCUSDT alone, then ETHUSDT without the book, and no BTCUSDT."""
    data = tmp_path_factory.mktemp("added")
    record(simulator, data, spoke(3))
    record(simulator, data, spoke(2), symbols=("ETHUSDT",), channels=("trade", "bookTicker"))
    SpineFolder(data, SOURCE).derive()
    return data


@pytest.mark.parametrize("where", ["tape", "files"])
def test_a_symbol_that_came_later_is_not_covered_before(added, where):
    # What the source recorded before ETHUSDT was in its settings holds nothing of it; what it
    # recorded after BTCUSDT was taken out of them, nothing of that.
    if where == "files":
        store(added)
    first, second = spans(added)
    lake = tw.open(added)
    inside = first[0] + 10**8, first[1] - 10**8
    assert lake.trades("BTCUSDT", *inside).coverage().is_complete
    missing = lake.coverage("ETHUSDT", *inside, channel="trade")
    assert findings(missing) == [("not_subscribed", "not_subscribed", "ETHUSDT", "trade")]
    assert missing.summary()[1].startswith("not subscribed: ETHUSDT trade: ")
    inside = second[0] + 10**8, second[1] - 10**8
    assert lake.trades("ETHUSDT", *inside).coverage().is_complete
    assert lake.coverage("ETHUSDT", *inside).is_complete
    gone = lake.coverage("BTCUSDT", *inside)
    assert findings(gone) == [
        ("not_subscribed", "not_subscribed", "BTCUSDT", channel)
        for channel in ("depth", "quote", "trade")
    ]
    # A channel that was never asked for.
    no_book = lake.coverage("ETHUSDT", *inside, channel="depth")
    assert findings(no_book) == [("not_subscribed", "not_subscribed", "ETHUSDT", "depth")]
    # Of all symbols: each is told of on its own.
    assert {row[2] for row in findings(lake.coverage(None, *inside))} == {"BTCUSDT"}


def test_what_is_asked_without_times_begins_where_the_symbol_does(added):
    # The default range is that of the symbol, not that of its source.
    _, second = spans(added)
    [recorded] = (coverage := tw.open(added).coverage("ETHUSDT")).recorded
    assert {tuple(ranges) for ranges in recorded.carried.values()} == {(second,)}
    assert coverage.is_complete
    assert recorded.unlisted == []


def test_an_unknown_channel_is_refused(added):
    # The message lists those that there are.
    with pytest.raises(QueryError, match=r"agg_trade, depth.*got 'trades'"):
        tw.open(added).coverage("BTCUSDT", channel="trades")


def test_what_the_venue_refuses_or_never_sends_is_not_covered(tmp_path):
    # The venue takes four streams a connection: two are refused. A symbol that it does not know is
    # accepted, and never speaks.
    with start_simulator("binance", *SIMULATED, "--streams-max", "4") as simulator:
        record(
            simulator,
            tmp_path,
            lambda status: len(status["outcome"]["refused"]) == 2,
            symbols=("BTCUSDT", "NOSUCHUSDT", "ETHUSDT"),
            channels=("trade", "bookTicker"),
            rest_url="off",
        )
    SpineFolder(tmp_path, SOURCE).derive()
    [(first, last)] = spans(tmp_path)
    lake = tw.open(tmp_path)
    inside = first, last
    for channel in ("trade", "quote"):
        assert lake.coverage("BTCUSDT", *inside, channel=channel).is_complete
        # It was never defined, so that no other question knows it.
        silent = lake.coverage("NOSUCHUSDT", *inside, channel=channel)
        assert findings(silent) == [("not_subscribed", "silent", "NOSUCHUSDT", channel)]
        refused = lake.coverage("ETHUSDT", *inside, channel=channel)
        assert findings(refused) == [("not_subscribed", "refused", "ETHUSDT", channel)]
    assert lake.coverage("ETHUSDT").summary()[1].startswith("refused by the venue: ETHUSDT quote, ")


def test_a_note_that_is_lost_does_not_make_a_stream_silent(added, tmp_path):
    # Retention took what says that trades came, and some of them. Without a word of a loss there is
    # nothing to doubt; with it, the trades that are there say so: but for the time of the loss it
    # is complete. Quotes, of which all rows are gone, stay silent, as does what never spoke.
    _, second = spans(added)
    spine = SpineFolder(tmp_path, SOURCE)
    kept = []
    for batch in iter(TapeReader(tape(added, NORMALIZED)).read, None):
        content, at = bytes(batch), 0
        while at < len(content):
            one = content[at : at + 8 * content[at]]
            at += len(one)
            if one[1] == kind_of("quote"):
                continue
            if one[1] == kind_of("subscription"):
                [row] = np.frombuffer(one, dtype_descr("subscription"))
                if row["state"] == numbers("subscription_state")["spoke"]:
                    continue
            kept.append(one)
    spine.append(np.frombuffer(b"".join(kept), np.uint8))
    spine.close()
    SpineFolder(tmp_path, SOURCE).derive()
    middle = sum(second) // 2
    for is_told in (False, True):
        if is_told:
            note_loss(tmp_path, SOURCE, Loss(NORMALIZED, "sink", 10, 19, second[0], middle))
        lake = tw.open(tmp_path)
        trades = lake.trades("ETHUSDT", middle + 1, second[1])
        assert len(trades)
        silent = ("not_subscribed", "silent", "ETHUSDT")
        found = findings(trades.coverage())
        assert found == ([] if is_told else [(*silent, "trade")])
        found = findings(lake.coverage("ETHUSDT", middle + 1, second[1]))
        assert found == [(*silent, "quote")] + ([] if is_told else [(*silent, "trade")])
    assert [one[0] for one in findings(lake.trades("ETHUSDT", *second).coverage())] == ["gap"]


def test_a_killed_recorder_covers_up_to_what_it_received_last(simulator, tmp_path):
    # No note of any end: the next recorder's start ends the coverage of every stream.
    code = (
        "import json, sys\n"
        "from tapeworks.feeds.binance import BinanceConfig\n"
        "from tapeworks.feeds.session import run_worker\n"
        "fields = json.loads(sys.argv[2])\n"
        "fields['symbols'] = tuple(fields['symbols'])\n"
        "sys.exit(run_worker(BinanceConfig(**fields), sys.argv[1]))\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path), json.dumps(config(simulator))]
    status = tmp_path / "state" / SOURCE / "recorder.json"
    with subprocess.Popen(words) as worker:
        deadline = time.monotonic() + 30
        try:
            while not (status.exists() and spoke(3)(json.loads(status.read_text()))):
                assert worker.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
        finally:
            worker.kill()
    assert worker.returncode == -signal.SIGKILL
    killed_at = time.time_ns()
    # It may have gone on, for all that can be seen yet.
    [before] = tw.open(tmp_path).coverage("BTCUSDT").recorded
    assert before.is_open
    record(simulator, tmp_path, spoke(3), symbols=("ETHUSDT",))
    SpineFolder(tmp_path, SOURCE).derive()
    first, second = spans(tmp_path)
    assert first[1] <= killed_at
    [recorded] = tw.open(tmp_path).coverage("BTCUSDT").recorded
    assert {tuple(ranges) for ranges in recorded.carried.values()} == {(first,)}
    later = tw.open(tmp_path).coverage("BTCUSDT", *second, channel="trade")
    assert ("not_subscribed", "not_subscribed", "BTCUSDT", "trade") in findings(later)


def test_a_line_that_is_down_carries_nothing(tmp_path):
    # One of two lines is cut while the other records: its streams are not covered meanwhile, and a
    # reconnect with the same answer notes nothing again.
    with start_simulator("binance", *SIMULATED) as simulator:
        cut = []

        def done(status: dict[str, Any]) -> bool:
            if spoke(4)(status) and not cut:
                cut.append(simulator.fault("cut", connection=1))
            return bool(cut) and status["reconnects"] >= 1 and len(status["connections"]) == 2

        record(
            simulator,
            tmp_path,
            done,
            symbols=("BTCUSDT", "ETHUSDT"),
            channels=("trade", "bookTicker"),
            streams_max=2,
        )
    lake = tw.open(tmp_path)
    counts = lake.sql(
        "select state, count(*)::int as n from subscriptions group by all"
    ).to_pylist()
    assert {row["state"]: row["n"] for row in counts} == {"subscribed": 4, "spoke": 4}
    [recorded] = lake.coverage().recorded
    assert len(recorded.ranges) == 1
    ranges = sorted(len(ranges) for ranges in recorded.carried.values())
    assert ranges == [1, 1, 2, 2]


def test_live_equals_replay(added, tmp_path):
    # What a recorder notes is on the raw tape, and normalizing it again gives the same bytes.
    target = tmp_path / "again"
    target.mkdir()
    settings = {"feed": "binance-spot"}
    stage = Stage("normalize", tape(added, RAW), target, tmp_path / "state", settings)
    stage.run_until_idle()
    stage.close()
    live, again = (notes(folder) for folder in (tape(added, NORMALIZED), target))
    assert live == again
    assert len(live) > 0


def notes(folder: Path) -> bytes:
    reader, found = TapeReader(folder), b""
    while (batch := reader.read(100_000)) is not None:
        found += bytes(batch.select([kind_of("subscription")]))
    return found
