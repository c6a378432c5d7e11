"""A feed whose events come a quarter of an hour late: what of the venue's time is recorded."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import derive

import tapeworks as tw
from tapeworks import _core
from tapeworks.feeds.alpaca.history import time_text

pytestmark = pytest.mark.slow

S = 1_000_000_000
START = 1_795_000_000 * S // (60 * S) * (60 * S)
"""When the first event happened: a whole minute."""
LATE = 900 * S
EVENTS = 400


def record(folder: Path, late: int, *, is_over: bool) -> Any:
    """Records a trade a second: no. 200 cannot be decoded, of no. 250 to 309 there is silence."""
    text = _core.numbers("blob_kind")["text"]
    begin = START + late
    ingest = _core.Ingest(folder, "alpaca", "alpaca", durability_ms=-1, ts_first=begin)
    ingest.connected(0, 0, begin)
    ingest.begin_subscriptions(begin)
    ingest.watch(0, "trades.AAPL", "AAPL", "trade")
    ingest.subscribed(0, [], begin)
    for at in range(EVENTS):
        ts_recv = begin + at * S
        if 250 <= at < 310:
            if at == 300:
                ingest.silent_stream(0, "trades.AAPL", ts_recv, begin)
            continue
        trade = {"T": "t", "S": "AAPL", "i": at + 1, "p": 100, "s": 1, "x": "V", "z": "C"}
        body = json.dumps([{**trade, "c": ["@"], "t": time_text(START + at * S)}]).encode()
        ingest.receive(0, text, ts_recv, body[:-9] if at == 200 else body)
        ingest.flush()
    if is_over:
        ingest.disconnected(0, begin + EVENTS * S, True)
        ingest.end_session(begin + EVENTS * S)
    ingest.flush()
    ingest.close()
    derive(folder, "alpaca")
    return tw.open(folder)


@pytest.mark.parametrize("late", [0, LATE])
def test_what_a_late_feed_lost_is_where_it_happened(tmp_path: Path, late: int):
    # Whether it is late or not: the same ranges are whole, and the same are not.
    lake = record(tmp_path, late, is_over=True)

    def is_whole(first: int, last: int) -> bool:
        found = lake.trades("AAPL", START + first * S, START + last * S)
        # What is corrected of its trades in a gap behind it is lost as well.
        findings = {row["finding"] for row in found.coverage().to_pylist()}
        whole = findings <= {"not_corrected"}
        # What is called whole is.
        assert not whole or len(found) == last - first
        return whole

    assert is_whole(30, 180)
    assert not is_whole(195, 205)
    assert is_whole(210, 240)
    assert not is_whole(255, 305)
    assert is_whole(320, 390)
    assert not is_whole(380, 420)
    assert not is_whole(405, 500)
    states = [row["state"] for row in lake.gaps().to_pylist()]
    assert states == ["closed", "closed"]
    # The recording ended 40 s into the last minute.
    bars = lake.sql("select volume, closed from bars where interval_ms = 60000 order by ts_event")
    assert bars.to_pylist()[-1] == {"volume": 40.0, "closed": 0}
    assert bars.to_pylist()[1] == {"volume": 60.0, "closed": 1}


def test_what_a_late_feed_has_yet_to_tell_is_not_known(tmp_path: Path):
    # The recorder runs: the newest quarter of an hour is not known yet.
    lake = record(tmp_path, LATE, is_over=False)
    newest = START + EVENTS * S
    assert lake.trades("AAPL", START + 320 * S, newest - 10 * S).coverage().is_complete
    for first, last in ((newest + 60 * S, newest + LATE - S), (newest - 60 * S, newest + LATE)):
        coverage = lake.trades("AAPL", first, last).coverage()
        assert {row["finding"] for row in coverage.to_pylist()} == {"not_yet_known"}
