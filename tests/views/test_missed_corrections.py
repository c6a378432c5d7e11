"""Corrections that were told while a connection was down: found where that can be, or told."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.conftest import derive

import tapeworks as tw
from tapeworks import _core
from tapeworks.feeds.alpaca.config import AlpacaConfig
from tapeworks.feeds.alpaca.history import time_of, time_text
from tapeworks.feeds.alpaca.session import AlpacaFeed
from tapeworks.feeds.backfill import Backfill

S = 1_000_000_000
START = 1_795_000_000 * S // (60 * S) * (60 * S)
"""When the first trade happened: 6 h before midnight in New York."""
STEP = 60
"""A trade a minute: the line is cut from no. 30 on, for ten of them; no. 20 and 5 are cancelled
then, no. 25 is corrected."""
DOWN = range(30, 40)
VOID, REPLACED, FOUND_NO_MORE = 20, 25, 5


class Venue:
    """A clock that stands where the venue is, and its history of one symbol."""

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.now_ns = START
        self.asked: list[Any] = []

    def now(self) -> float:
        return self.now_ns / 1e9

    def wall_ns(self) -> int:
        return self.now_ns

    def push(self, request: Any) -> None:
        self.asked.append(request)

    def answer(self, path: str) -> bytes:
        query = parse_qs(urlsplit(path).query)
        first, last = (time_of(query[name][0]) for name in ("start", "end"))
        rows = []
        for at in range(min(self.now_ns - START, last - START) // (STEP * S) + 1):
            row = {**trade(at), "t": time_text(START + at * STEP * S)}
            if at in (VOID, FOUND_NO_MORE, REPLACED):
                row["u"] = "incorrect" if at == REPLACED else "canceled"
            rows.append(row)
            if at == REPLACED:
                rows.append({**row, "i": 1000, "p": 101, "u": "corrected"})
        rows = [row for row in rows if first <= time_of(row["t"]) <= last]
        told: Any = {self.symbol: rows} if "/" in self.symbol else rows
        return json.dumps({"trades": told, "symbol": self.symbol}).encode()


def trade(at: int) -> dict[str, Any]:
    price = 500 if at in (VOID, FOUND_NO_MORE, REPLACED) else 100
    return {"i": at + 1, "p": price, "s": 1, "x": "V", "z": "C", "c": ["@"]}


def record(data: Path, symbol: str, *, is_filled: bool = True) -> Any:
    """Records a source with a cut in which trades of before are cancelled, and fills the cut."""
    kinds = _core.numbers("blob_kind")
    product = "crypto" if "/" in symbol else "iex"
    urls = {"ws_url": "ws://127.0.0.1:1", "rest_url": "http://127.0.0.1:1"}
    feed = AlpacaFeed(
        AlpacaConfig(symbols=(symbol,), product=product, channels=("trades",), **urls)
    )
    venue: Any = Venue(symbol)
    ingest = _core.Ingest(data, feed.source, "alpaca", durability_ms=-1, ts_first=START)
    backfill = Backfill(feed, ingest, venue, venue)
    ingest.connected(0, 0, START)
    ingest.begin_subscriptions(START)
    ingest.watch(0, f"trades.{symbol}", symbol, "trade")
    ingest.subscribed(0, [], START)
    for at in range(61):
        venue.now_ns = START + at * STEP * S + 1000
        if at == DOWN.start:
            ingest.disconnected(0, venue.now_ns)
        if at == DOWN.stop:
            ingest.connected(0, 0, venue.now_ns)
            ingest.subscribed(0, [], venue.now_ns)
        if at not in DOWN:
            event = {"T": "t", "S": symbol, **trade(at), "t": time_text(venue.now_ns - 1000)}
            ingest.receive(0, kinds["text"], venue.now_ns, json.dumps([event]).encode())
        ingest.flush()
        if not is_filled:
            continue
        backfill.step(venue.now())
        while venue.asked:
            request = venue.asked.pop()
            body = venue.answer(request.path)
            context = request.path.encode()
            ingest.receive(65_535, kinds["rest"], venue.now_ns, body, context)
            ingest.flush()
            backfill._answered(request, body)
    ingest.disconnected(0, venue.now_ns + 1, True)
    ingest.end_session(venue.now_ns + 1)
    ingest.flush()
    ingest.close()
    derive(data, feed.source)
    return tw.open(data)


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("APCA_API_KEY_ID", "APCA_API_SECRET_KEY"):
        monkeypatch.setenv(name, "any")


def minutes(first: int, last: int) -> tuple[int, int]:
    return START + first * 60 * S, START + last * 60 * S


def findings(found: Any) -> set[str]:
    coverage = found if isinstance(found, tw.Coverage) else found.coverage()
    return {row["finding"] for row in coverage.to_pylist()}


def test_what_was_corrected_in_a_gap_is_asked_for_and_the_rest_is_told(tmp_path: Path) -> None:
    lake = record(tmp_path, "AAPL")
    assert [row["state"] for row in lake.gaps().to_pylist()] == ["repaired"]
    # What the history still says of the quarter of an hour before the cut amends trades, no trade
    # is there twice; what was cancelled of those before is not known.
    rows = lake.trades("AAPL").to_pylist()
    ids = sorted(set(range(1, 62)) - {VOID + 1, REPLACED + 1} | {1000})
    assert sorted(row["trade_id"] for row in rows) == ids
    assert [row["trade_id"] for row in rows if row["price"] == 500] == [FOUND_NO_MORE + 1]
    assert sorted(row["action"] for row in lake.sql("select action from corrections").to_pylist())
    # So the range before the cut is not complete: of trades, and of bars that are made of them.
    for found in (
        lake.trades("AAPL", *minutes(0, 10)),
        lake.bars("AAPL", *minutes(0, 10), interval="2m"),
        lake.coverage("AAPL", *minutes(0, 10)),
    ):
        assert findings(found) == {"not_corrected"}
        [notice] = found.notices()
        assert notice.startswith(
            "corrections told from 2026-11-18T11:35:00Z to 2026-11-18T11:46:00"
        )
        assert notice.endswith(" were not received: AAPL trade (alpaca-iex)")
    assert not lake.trades("AAPL", *minutes(0, 10)).coverage().is_complete
    assert not any(row["partial"] for row in lake.bars("AAPL", *minutes(0, 10)).to_pylist())
    [notice] = lake.sql(
        "select * from trades where symbol = 'AAPL' and ts_event < '2026-11-18 11:10:00+00'"
    ).notices()
    assert "were not received" in notice
    # Behind it, and in it, all is known; quotes are not corrected.
    assert lake.trades("AAPL", *minutes(30, 60)).coverage().is_complete
    assert "not_corrected" not in findings(lake.quotes("AAPL", *minutes(0, 10)))


def test_a_gap_of_another_day_took_no_corrections(tmp_path: Path) -> None:
    # In New York it is the day before until 5:00 UTC: those trades are not corrected by then.
    lake = record(tmp_path, "AAPL")
    day = START - START % (86_400 * S)
    five = day + 5 * 3600 * S
    for last, expected in ((five, set()), (five + S, {"not_corrected"})):
        found = findings(lake.trades("AAPL", START - 86_400 * S, last))
        assert found - {"not_recorded", "not_subscribed"} == expected


def test_a_gap_that_is_not_filled_is_told_once(tmp_path: Path) -> None:
    lake = record(tmp_path, "AAPL", is_filled=False)
    assert findings(lake.trades("AAPL", *minutes(0, 10))) == {"not_corrected"}
    assert findings(lake.trades("AAPL", *minutes(0, 60))) == {"gap", "not_recorded"}


def test_what_no_venue_corrects_is_complete(tmp_path: Path) -> None:
    lake = record(tmp_path, "BTC/USD")
    assert [row["state"] for row in lake.gaps().to_pylist()] == ["repaired"]
    assert lake.trades("BTC/USD", *minutes(0, 60)).coverage().is_complete


@pytest.mark.parametrize(
    ("feed", "symbol", "when_filled", "when_not"),
    [
        ("alpaca", "AAPL", True, True),
        ("alpaca", "", True, True),
        ("alpaca", "BTC/USD", False, False),
        ("alpaca", "AAPL240308C00172500", False, False),
        ("itch", "AAPL", False, True),
        ("massive", "AAPL", False, False),
        ("binance-spot", "BTCUSDT", False, False),
        ("foreign", "X", False, False),
    ],
)
def test_feeds_say_how_they_tell_corrections(
    feed: str, symbol: str, when_filled: bool, when_not: bool
) -> None:
    number = _core.numbers("feed")[feed]
    assert _core.loses_corrections(number, symbol, True) is when_filled
    assert _core.loses_corrections(number, symbol, False) is when_not
