"""A line that lags for a while, or brings a back-log at once: what it lost is where it happened."""

import json
from collections.abc import Iterator
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
"""When the first event happened."""
EVENTS = 400
TEXT, REST = (_core.numbers("blob_kind")[name] for name in ("text", "rest"))


def receipts(how: str, lag: int) -> Iterator[tuple[int, int]]:
    """Yields the number of each event, one a second, and when it is received."""
    received = 0
    for at in range(EVENTS):
        late = 0.0
        if how == "stall" and 200 <= at < 200 + lag:
            late = 200 + lag - at + (at - 200) / 1000
        elif how == "step" and 200 <= at < 300:
            late = lag
        elif how == "grow" and 100 <= at < 260:
            late = min(lag, (at - 100) * lag / 100)
        received = max(received + 1, START + at * S + int(late * S) + 20_000_000)
        yield at, received


class Recording:
    """Trades of AAPL over one connection."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ingest = _core.Ingest(folder, "alpaca", "alpaca", durability_ms=-1, ts_first=START)
        self.ingest.connected(0, 0, START)
        self.ingest.begin_subscriptions(START)
        self.ingest.watch(0, "trades.AAPL", "AAPL", "trade")
        self.ingest.subscribed(0, [], START)
        self.received = START

    def receive(self, at: int, ts_recv: int, loss: str = "") -> None:
        trade = self.row(at)
        if loss == "number":
            trade["p"] = "x"
        if loss == "time":
            trade["t"] = time_text(START - 3 * 86_400 * S)
        body = json.dumps([{"T": "t", "S": "AAPL", **trade}]).encode()
        self.ingest.receive(0, TEXT, ts_recv, body[:-9] if loss == "cut" else body)
        self.ingest.flush()
        self.received = ts_recv

    def row(self, at: int) -> dict[str, Any]:
        trade = {"i": at + 1, "p": 100, "s": 1, "x": "V", "z": "C", "c": ["@"]}
        return trade | {"t": time_text(START + at * S)}

    def answer(self, first: int, last: int, ts_recv: int) -> None:
        """The venue's history tells those events."""
        rows = [self.row(at) for at in range(first, last)]
        body = json.dumps({"trades": rows, "symbol": "AAPL", "next_page_token": None}).encode()
        self.ingest.receive(65_535, REST, ts_recv, body, b"/v2/stocks/AAPL/trades?start=x")
        self.ingest.flush()

    def end(self) -> tw.Lake:
        over = self.received + 200 * S
        self.ingest.disconnected(0, over, True)
        self.ingest.end_session(over)
        self.ingest.flush()
        self.ingest.close()
        derive(self.folder, "alpaca")
        return tw.open(self.folder)


def is_whole(lake: tw.Lake, first: int, last: int) -> bool:
    """Whether the events from `first` to before `last` are complete; what is called so is."""
    found = lake.trades("AAPL", START + first * S, START + last * S)
    # What is corrected of its trades in a gap behind it is lost as well.
    findings = {row["finding"] for row in found.coverage().to_pylist()}
    whole = findings <= {"repaired", "not_corrected"}
    assert not whole or len(found) == last - first, (first, last)
    return whole


@pytest.mark.parametrize("how", ["stall", "step", "grow"])
@pytest.mark.parametrize("loss", ["cut", "number", "time"])
def test_what_a_line_that_lags_lost_is_where_it_happened(tmp_path: Path, how: str, loss: str):
    for lag in (0, 3, 10, 50, 150):
        # The first of a back-log, or one amid it.
        for lost in (200, 215):
            recording = Recording(tmp_path / f"{lag}-{lost}")
            for at, ts_recv in receipts(how, lag):
                recording.receive(at, ts_recv, loss if at == lost else "")
            lake = recording.end()
            told = (how, lag, lost, lake.gaps().to_pylist())
            assert not is_whole(lake, lost - 2, lost + 3), told
            assert not is_whole(lake, lost, lost + 1), told
            assert is_whole(lake, 10, 100), told
            # A while after all is as before, nothing is doubted any more.
            assert is_whole(lake, 390, 399), told
            lake.close()


@pytest.mark.parametrize("of", ["stream", "connection"])
@pytest.mark.parametrize("lag", [0, 10, 30, 50, 150])
def test_a_silence_of_a_line_that_lags_is_where_it_happened(tmp_path: Path, of: str, lag: int):
    recording = Recording(tmp_path / "data")
    for at, ts_recv in receipts("step", lag):
        if not 215 <= at < 255:
            recording.receive(at, ts_recv)
        elif at == 254 and of == "stream":
            recording.ingest.silent_stream(0, "trades.AAPL", ts_recv, recording.received)
        elif at == 254:
            recording.ingest.silent_connection(0, recording.received, ts_recv)
    lake = recording.end()
    for first, last in ((215, 216), (216, 225), (225, 240), (240, 255), (254, 255), (200, 260)):
        assert not is_whole(lake, first, last), (first, lake.gaps().to_pylist())
    assert is_whole(lake, 10, 190)


def test_what_the_history_told_before_it_came_live_is_stored_once(tmp_path: Path):
    # A silence is filled while the line lags: the history knows what comes live only later.
    recording = Recording(tmp_path / "data")
    for at, ts_recv in receipts("step", 50):
        if 215 <= at < 255:
            continue
        recording.receive(at, ts_recv)
        if at == 257:
            recording.ingest.silent_stream(0, "trades.AAPL", ts_recv, START + 264 * S)
            recording.answer(210, 290, ts_recv)
        if at == 280:
            # Again, as for another gap.
            recording.answer(240, 320, ts_recv)
    found = recording.end().trades("AAPL").to_arrow()
    assert found["trade_id"].to_pylist() == list(range(1, EVENTS + 1))
