"""A source of which one channel comes a quarter of an hour later than the others."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import derive

import tapeworks as tw
from tapeworks import _core
from tapeworks.feeds.alpaca.history import time_text

S = 1_000_000_000
START = 1_795_000_000 * S // (60 * S) * (60 * S)
LATE, STEP, END = 900, 10, 2400
"""In seconds: how late trades are, how often both come, and how long it is recorded."""
SYMBOL = "AAPL270115C00200000"


def record(data: Path, *, is_over: bool, is_known: bool = True) -> Any:
    """Records quotes as they happen and trades a quarter of an hour later."""
    text = _core.numbers("blob_kind")["text"]
    ingest = _core.Ingest(data, "options", "alpaca", durability_ms=-1, ts_first=START)
    ingest.connected(0, 0, START)
    ingest.begin_subscriptions(START, [("trade", float(LATE))] if is_known else [])
    for channel in ("trade", "quote"):
        ingest.watch(0, f"{channel}s.{SYMBOL}", SYMBOL, channel)
    ingest.subscribed(0, [], START)
    for at in range(STEP, END, STEP):
        ts_recv = START + at * S
        quote = {"T": "q", "S": SYMBOL, "bx": "V", "bp": 10, "bs": 1, "ax": "V", "ap": 11}
        events = [quote | {"as": at, "c": "A", "t": time_text(ts_recv - 1000)}]
        trade = {"T": "t", "S": SYMBOL, "p": 10, "s": at, "x": "V", "c": "I"}
        events.append(trade | {"t": time_text(ts_recv - LATE * S)})
        ingest.receive(0, text, ts_recv, json.dumps(events).encode())
        for event, channel in zip(events, ("quote", "trade"), strict=True):
            ingest.heard(0, f"{channel}s.{event['S']}", ts_recv)
        ingest.flush()
    if is_over:
        ingest.disconnected(0, START + END * S, True)
        ingest.end_session(START + END * S)
    ingest.flush()
    ingest.close()
    derive(data, "options")
    return tw.open(data)


def findings(lake: Any, channel: str, first: int, last: int) -> set[str]:
    found = lake.coverage(SYMBOL, START + first * S, START + last * S, channel=channel)
    return {row["finding"] for row in found.to_pylist()}


@pytest.mark.parametrize("is_over", [True, False])
def test_what_comes_late_is_not_known_until_it_has_come(tmp_path: Path, is_over: bool) -> None:
    # Trades of the last quarter of an hour had not come when the recording ended, quotes had.
    lake = record(tmp_path, is_over=is_over)
    told = END - LATE
    missing = {"not_recorded" if is_over else "not_yet_known"}
    assert findings(lake, "trade", 60, told - 20) == set()
    assert findings(lake, "quote", 60, END - 20) == set()
    for first, last in ((60, END - 20), (told + 20, END - 20), (told - 20, told + 20)):
        assert findings(lake, "trade", first, last) == missing
    trades = lake.trades(SYMBOL, START + 1600 * S, START + 2300 * S)
    assert not len(trades)
    [notice] = trades.notices()
    assert notice.startswith("not recorded: " if is_over else "not yet known after ")
    # What is complete is there.
    whole = lake.trades(SYMBOL, START + 100 * S, START + 1400 * S)
    assert (whole.coverage().is_complete, len(whole)) == (True, 130)


def test_a_feed_that_is_not_known_to_be_late_is_as_ever(tmp_path: Path) -> None:
    lake = record(tmp_path, is_over=True, is_known=False)
    assert findings(lake, "trade", 60, END - 20) == set()
