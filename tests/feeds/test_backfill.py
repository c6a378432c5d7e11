"""Gaps in trades and quotes that are filled from the venue's history: live, and each event once."""

import asyncio
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conftest import Start, derive

import tapeworks as tw
from tapeworks import _core
from tapeworks.errors import VenueError
from tapeworks.feeds.alpaca import history as alpaca
from tapeworks.feeds.alpaca.config import AlpacaConfig
from tapeworks.feeds.backfill import Backfill
from tapeworks.feeds.base import EndedGap, Request, build
from tapeworks.feeds.binance import history as binance
from tapeworks.feeds.binance.config import BinanceConfig
from tapeworks.feeds.massive import history as massive
from tapeworks.feeds.massive.config import MassiveConfig
from tapeworks.feeds.session import record
from tapeworks.tape import TapeConfig

SECOND = 10**9
START = 1_790_000_000 * SECOND + 123_456_789
END = START + 5 * SECOND - 456_789
"""In whole ms, as some streams tell times."""


def gap(symbol: str = "AAPL", channel: str = "trade", seconds: int = 5) -> EndedGap:
    return EndedGap(symbol, channel, "disconnect", (0, 0), (START, START + seconds * SECOND))


def test_requests_name_the_range_with_both_of_its_ends() -> None:
    # Alpaca tells ns and takes both ends; the streams of Massive tell ms, its history ns. Trades of
    # stocks are asked for from a quarter of an hour before it on, as some were cancelled in it.
    asked = alpaca.request_for("sip", gap("BRK.B"))
    assert asked is not None
    assert asked.path == (
        "/v2/stocks/BRK.B/trades?start=2026-09-21T13%3A58%3A20.123456789Z"
        "&end=2026-09-21T14%3A13%3A25.123456789Z&limit=10000&sort=asc&feed=sip"
        f"#live-before={START}"
    )
    page = alpaca.page_of(asked, b'{"trades":[],"next_page_token":"x"}')
    assert page is not None
    assert page.following is not None
    assert page.following.path.endswith(f"&feed=sip&page_token=x#live-before={START}")
    asked = alpaca.request_for("sip", gap("BRK.B", "quote"))
    assert asked is not None
    assert "?start=2026-09-21T14%3A13%3A20.123456789Z&" in asked.path
    assert asked.path.endswith("&feed=sip")
    asked = alpaca.request_for("crypto", gap("BTC/USD", "quote"))
    assert asked is not None
    assert asked.path.startswith("/v1beta3/crypto/us/quotes?symbols=BTC%2FUSD&start=")
    for product, channel in (("test", "trade"), ("overnight", "trade"), ("opra", "quote")):
        assert alpaca.request_for(product, gap(channel=channel)) is None
    asked = massive.request_for("options", gap("O:SPY251219C00650000", "quote"))
    assert asked is not None
    assert asked.path == (
        "/v3/quotes/O%3ASPY251219C00650000?timestamp.gte=1790000000123000000"
        "&timestamp.lte=1790000005123999999&order=asc&limit=50000"
    )
    # Its history calls pairs otherwise than its stream, and what it has not is not asked for.
    assert massive.request_for("crypto", gap("BTC-USD")) is None
    assert massive.request_for("stocks", gap(channel="mark")) is None


def test_pages_are_followed_within_the_setting_of_where_requests_go() -> None:
    request = Request(5, "/v3/trades/AAPL?limit=1", ts_last=START)
    told = {"results": [{"sip_timestamp": START}], "next_url": "https://x.test/v3/trades/AAPL?c=1"}
    page = massive.page_of(request, json.dumps(told).encode())
    assert page is not None
    assert page.following is not None
    assert (page.reached, page.following.path) == (START - 456_789, "/v3/trades/AAPL?c=1")
    for elsewhere in ("https://x.test/v3/quotes/AAPL?c=1", "file:///etc/passwd"):
        body = json.dumps(told | {"next_url": elsewhere}).encode()
        assert massive.page_of(request, body) is None
    assert massive.page_of(request, b"<html>") is None
    request = Request(5, "/v2/stocks/A/trades?limit=1", ts_last=START)
    text = alpaca.time_text(START)
    for rows in ([{"t": text}], {"A": [{"t": text}], "B": None}):
        body = {"trades": rows, "next_page_token": "QUF8&x"}
        for _ in range(2):
            page = alpaca.page_of(request, json.dumps(body).encode())
            assert page is not None
            assert page.following is not None
            assert page.reached == START
            assert page.following.path == "/v2/stocks/A/trades?limit=1&page_token=QUF8%26x"
            request = page.following
        request = Request(5, "/v2/stocks/A/trades?limit=1", ts_last=START)
    last = alpaca.page_of(request, b'{"trades":null,"next_page_token":null}')
    assert last is not None
    assert (last.reached, last.following) == (-1, None)
    assert alpaca.page_of(request, b"[]") is None


def test_refusals_say_whether_to_ask_again() -> None:
    # A plan without the right is not asked again; the venue's own time counts within an hour.
    for status, headers, wait_ms in (
        (403, {}, 0),
        (404, {}, 0),
        (500, {}, 1000),
        (429, {}, 60_000),
        (429, {"retry-after": "7"}, 7000),
        (429, {"Retry-After": "never"}, 60_000),
        (429, {"Retry-After": "99999"}, 3_600_000),
    ):
        error = massive.refusal(status, headers, b'{"error":"not in plan"}')
        assert (error.status, error.retry_after_ms) == (status, wait_ms)
        assert "not in plan" in str(error)
    for status, reset, wait_ms in (
        (403, "", 0),
        (429, "1030", 30_000),
        (429, "900", 60_000),
        (429, "9" * 11, 60_000),
    ):
        headers = {"X-RateLimit-Reset": reset}
        error = alpaca.refusal(status, headers, b'{"message":"no"}', 1000.0)
        assert error.retry_after_ms == wait_ms


CONFIGS = {"alpaca": AlpacaConfig, "massive": MassiveConfig, "binance": BinanceConfig}


def recorded(venue: str, data: Path, simulator: Any, seconds: float, **settings: Any) -> Any:
    """Records the trades of one symbol, with the history of the simulator; returns the status."""
    config: Any = CONFIGS[venue]
    channel = {"alpaca": "trades", "massive": "T", "binance": "trade"}[venue]
    symbol = "BTCUSDT" if venue == "binance" else "AAPL"
    places = {"ws_url": simulator.ws_url, "rest_url": simulator.rest_url}

    async def run() -> Any:
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(seconds, stop.set)
        made = config(symbols=(symbol,), **{"channels": (channel,), **places, **settings})
        return await record(made, data, stop, tape=TapeConfig("never"))

    return asyncio.run(run())


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MASSIVE_API_KEY", "APCA_API_KEY_ID", "APCA_API_SECRET_KEY"):
        monkeypatch.setenv(name, "any")


def trade_ids(data: Path, source: str) -> Counter[int]:
    return Counter(row["trade_id"] for row in tw.open(data).trades(source=source).to_pylist())


@pytest.mark.slow
@pytest.mark.timeout(90)
@pytest.mark.parametrize(("venue", "fault"), [("alpaca", ""), ("massive", "rest_429")])
def test_what_a_cut_lost_is_fetched_and_nothing_is_stored_twice(
    start: Start, tmp_path: Path, venue: str, fault: str
) -> None:
    # The venue cuts the connection twice, and one says once that it is asked too often. Its ids
    # have no holes, so that each trade from the first to the last must be there, once; the ledger
    # says that the gaps were filled.
    simulator = start("--symbols", "AAPL", "--rate", 80, "--seed", 7, venue=venue)
    for at_s in (1.0, 2.5):
        simulator.fault("cut", at_s=at_s)
    if fault:
        simulator.fault(fault, at_s=1.0, count=1, amount=1.0)
    status = recorded(venue, tmp_path, simulator, 7.5)
    source = status["source"]
    assert status["reconnects"] == 2
    derive(tmp_path, source)
    told = trade_ids(tmp_path, source)
    assert len(told) > 50
    assert set(told) == set(range(min(told), max(told) + 1)), status["trouble"]
    assert set(told.values()) == {1}
    gaps = tw.open(tmp_path).gaps("AAPL").to_pylist()
    assert [(one["cause"], one["state"]) for one in gaps] == [("disconnect", "repaired")] * 2
    found = tw.open(tmp_path).coverage("AAPL", channel="trade")
    assert len(found.ledger) == 2
    assert not len(found.gaps)
    # Corrections that were told in a cut are not known, of a venue that tells any.
    rest = {"not_corrected"} if venue == "alpaca" else set()
    assert {row["finding"] for row in found.to_pylist()} == {"repaired", *rest}, str(found)
    assert (status["gaps_filled"], status["gaps_not_filled"]) == (2, 0)
    rows = tw.open(tmp_path).sql("select count(*) as n from trades where flags & 4 = 4")
    assert rows.to_pylist()[0]["n"] > 0


def numbered(channel: str, first: int, last: int) -> EndedGap:
    return EndedGap("BTCUSDT", channel, "sequence", (first, last), (START, START))


def test_trades_with_ids_are_asked_for_by_these() -> None:
    # With the trade behind the gap; single trades of futures need an account.
    asked = binance.request_for("spot", numbered("trade", 7, 9))
    assert asked is not None
    path = "/api/v3/historicalTrades?symbol=BTCUSDT&fromId=7&limit=4"
    assert (asked.path, asked.weight, asked.last_id) == (path, 25, 10)
    asked = binance.request_for("usdm", numbered("agg_trade", 1, 5_000))
    assert asked is not None
    path = "/fapi/v1/aggTrades?symbol=BTCUSDT&fromId=1&limit=1000"
    assert (asked.path, asked.weight) == (path, 20)
    assert binance.request_for("usdm", numbered("trade", 7, 9)) is None
    for nothing in (numbered("trade", 0, 0), numbered("quote", 7, 9)):
        assert binance.request_for("spot", nothing) is None
    rows = [{"a": number, "T": START // 1_000_000} for number in range(1, 1_001)]
    page = binance.page_of(asked, json.dumps(rows).encode())
    assert page is not None
    assert page.following is not None
    assert page.following.path == path.replace("fromId=1&", "fromId=1001&")
    assert page.reached == START - START % 1_000_000 + 999_999
    # The last page, in microseconds; one with a hole; none at all; what is no answer.
    end = Request(5, "/api/v3/historicalTrades?symbol=X&fromId=8&limit=3", last_id=10)
    rows = [{"id": number, "time": START // 1_000} for number in (8, 9, 10)]
    page = binance.page_of(end, json.dumps(rows).encode())
    assert page is not None
    assert (page.following, page.lacks) == (None, "")
    assert page.reached == START - START % 1_000 + 999
    page = binance.page_of(end, json.dumps(rows[::2]).encode())
    assert page is not None
    assert "ids" in page.lacks
    # One that is shorter than it may be goes on; where nothing follows, the history is behind.
    page = binance.page_of(end, json.dumps(rows[:2]).encode())
    assert page is not None
    assert page.following is not None
    assert page.following.path.endswith("fromId=10&limit=1")
    page = binance.page_of(page.following, b"[]")
    assert page is not None
    assert (page.following, page.is_behind) == (None, True)
    assert binance.page_of(end, b'{"code":-1}') is None


@pytest.mark.slow
@pytest.mark.timeout(90)
def test_trades_that_were_lost_are_fetched_by_their_ids(start: Start, tmp_path: Path) -> None:
    # Three frames that the venue withholds, a cut, and ids that it never gave: these alone stay in
    # the ledger, and all others are there once.
    simulator = start("--symbols", "BTCUSDT", "--rate", 80, "--seed", 7, venue="binance")
    simulator.fault("drop", stream="btcusdt@trade", at_s=1.0, count=3)
    simulator.fault("cut", at_s=1.6)
    simulator.fault("gap", stream="btcusdt@trade", at_s=2.2, count=4)
    status = recorded("binance", tmp_path, simulator, 8.0)
    derive(tmp_path, status["source"])
    told = Counter(
        row["sequence"] for row in tw.open(tmp_path).trades(source=status["source"]).to_pylist()
    )
    assert len(told) > 50
    assert set(told.values()) == {1}
    missing = set(range(min(told), max(told) + 1)) - set(told)
    assert len(missing) == 4, status["trouble"]
    rows = tw.open(tmp_path).gaps("BTCUSDT").to_pylist()
    left = [one for one in rows if one["state"] == "closed"]
    assert [(one["first_missing"], one["last_missing"]) for one in left] == [
        (min(missing), max(missing))
    ]
    assert {one["state"] for one in rows if one not in left} == {"repaired"}
    assert (status["gaps_filled"], status["gaps_not_filled"]) == (2, 1)


@pytest.mark.slow
def test_a_history_that_is_not_there_leaves_the_gap_as_it_was(start: Start, tmp_path: Path) -> None:
    # The host of the history refuses; and without one nothing is asked for.
    simulator = start("--symbols", "AAPL", "--rate", 80, "--seed", 7, venue="alpaca")
    simulator.fault("cut", at_s=1.0)
    status = recorded("alpaca", tmp_path, simulator, 4.5, rest_url="http://127.0.0.1:9")
    assert status["reconnects"] == 1
    assert "/v2/stocks/AAPL/trades" in status["request_trouble"]
    derive(tmp_path, status["source"])
    [one] = tw.open(tmp_path).gaps("AAPL").to_pylist()
    assert (one["cause"], one["state"]) == ("disconnect", "closed")
    assert status["gaps_filled"] == 0
    # The next start has a history: it fills that gap, and the one of the pause before it.
    status = recorded("alpaca", tmp_path, simulator, 5.0)
    derive(tmp_path, status["source"])
    told = trade_ids(tmp_path, status["source"])
    assert set(told) == set(range(min(told), max(told) + 1)), status["trouble"]
    assert set(told.values()) == {1}
    states = [one["state"] for one in tw.open(tmp_path).gaps("AAPL").to_pylist()]
    assert states == ["repaired", "repaired"]


@pytest.mark.parametrize("symbol", ["A", "O:SPY251219C00650000"])
def test_an_answer_about_what_came_live_adds_what_did_not(tmp_path: Path, symbol: str) -> None:
    # Two trades live, in ms as the stream tells them; the history has them in ns, one between, and
    # one of the same ms that was lost. Told again, it adds nothing. Options have no ids, and no
    # numbers in the history.
    text, rest = _core.numbers("blob_kind")["text"], _core.numbers("blob_kind")["rest"]
    ingest = _core.Ingest(tmp_path, "massive", "massive", durability_ms=-1)
    ms = START // 1_000_000
    known: list[dict[str, Any]] = [{} for _ in range(6)]
    if symbol == "A":
        known = [{"i": str(n), "id": str(n), "sequence_number": n} for n in range(6)]
    for n in (1, 4):
        event = {"ev": "T", "sym": symbol, "x": 4, "p": 10, "s": n, "t": ms + n, "q": n, **known[n]}
        ingest.receive(0, text, START + n, json.dumps([event], separators=(",", ":")).encode())
    rows = [
        {"price": 10, "size": n, "sip_timestamp": (ms + min(n, 4)) * 1_000_000 + 7, **known[n]}
        for n in (1, 2, 3, 4, 5)
    ]
    for again in range(2):
        body = json.dumps({"results": rows}).encode()
        path = f"/v3/trades/{symbol}?limit=9".encode()
        ingest.receive(65_535, rest, START + 9 + again, body, path)
    ingest.flush()
    ingest.close()
    reader = _core.TapeReader(tmp_path / "tape" / "massive" / "market-data.normalized")
    batch = reader.read()
    assert batch is not None
    trades = np.frombuffer(batch.numpy("trade"), np.dtype(_core.dtype_descr("trade")))
    unit = 10**8
    assert sorted(int(one["size"]) // unit for one in trades) == [1, 2, 3, 4, 5]
    assert [int(one["size"]) // unit for one in trades if one["flags"] & 4] == [2, 3, 5]


@pytest.mark.parametrize("pages", [False, True])
def test_answers_that_overlap_store_what_has_no_number_once(tmp_path: Path, pages: bool) -> None:
    # Quotes of Alpaca at seconds 0, 3 and 6 came live; both gaps hold that of second 3. The first
    # answer is behind, so that it is asked for again. One quote was said twice, on two pages, too.
    text, rest = _core.numbers("blob_kind")["text"], _core.numbers("blob_kind")["rest"]
    ingest = _core.Ingest(tmp_path, "alpaca", "alpaca", durability_ms=-1)

    def quote(at: int) -> dict[str, Any]:
        time = alpaca.time_text(START + at * SECOND)
        sides = {"ax": "V", "ap": 20 + at, "as": 1, "bx": "V", "bp": 10 + at, "bs": 1}
        return {"t": time, **sides, "c": ["R"], "z": "C"}

    for at in (0, 3, 6):
        frame = json.dumps([{"T": "q", "S": "AAPL", **quote(at)}], separators=(",", ":"))
        ingest.receive(0, text, START + at * SECOND + 1000, frame.encode())
    first, second = (0, 1, 2, 2, 3), (3, 4, 5, 6)
    half = 3 if pages else 5
    answers = [(first[:2], "?a"), (first[:half], "?a"), (first[half:], "?a&page_token=x")]
    for place, (told, query) in enumerate([*answers, (second, "?b"), (second, "?b")]):
        body = json.dumps({"symbol": "AAPL", "quotes": [quote(at) for at in told]}).encode()
        path = f"/v2/stocks/AAPL/quotes{query}".encode()
        ingest.receive(65_535, rest, START + (9 + place) * SECOND, body, path)
    ingest.flush()
    ingest.close()
    reader = _core.TapeReader(tmp_path / "tape" / "alpaca" / "market-data.normalized")
    batch = reader.read()
    assert batch is not None
    quotes = np.frombuffer(batch.numpy("quote"), np.dtype(_core.dtype_descr("quote")))
    told = sorted((int(one["ts_event"]) - START) // SECOND for one in quotes)
    assert told == [0, 1, 2, 2, 3, 4, 5, 6]


class Answers:
    """Stands in for the client of requests and for the ledger: answers at once, notes repairs."""

    def __init__(self, *bodies: bytes, lacks: EndedGap | None = None, holds: bool = True) -> None:
        self.bodies, self.repairs = list(bodies), 0
        self.lacks, self.holds = lacks or gap(), holds
        self.time = 0.0
        self.on_answer: Any = None
        self.on_failure: Any = None

    def push(self, request: Request) -> None:
        self.on_answer(request, self.bodies.pop(0))

    def take_gaps(self) -> list[Any]:
        one = self.lacks
        self.take_gaps = list  # type: ignore[method-assign]
        return [(one.symbol, one.channel, one.cause, *one.ids, *one.times, one.behind)]

    def repaired(self, *told: Any) -> bool:
        self.repairs += self.holds
        return self.holds

    def now(self) -> float:
        return self.time

    def wall_ns(self) -> int:
        return START


def pages_of(venue: str, price: Any) -> list[bytes]:
    """Two pages of trades, the first with `price` in its row; the second reaches the end."""
    rows = [(price, START + SECOND), (10, END)]
    if venue == "massive":
        row = {"id": "1", "size": 1, "sequence_number": 1}
        following = [{"next_url": "https://x.test/v3/trades/AAPL?c=1"}, {}]
        told = [{"results": [row | {"price": p, "sip_timestamp": ts}]} for p, ts in rows]
    else:
        following = [{"next_page_token": "x"}, {"next_page_token": None}]
        row = {"i": 1, "s": 1, "x": "V", "z": "C", "c": ["@"]}
        told = [{"trades": [row | {"p": p, "t": alpaca.time_text(ts)}]} for p, ts in rows]
        told = [page | {"symbol": "AAPL"} for page in told]
    return [json.dumps(a | b).encode() for a, b in zip(told, following, strict=True)]


@pytest.mark.parametrize("venue", ["alpaca", "massive"])
@pytest.mark.parametrize(("price", "filled"), [(10, 1), ("x", 0), (1e30, 0), (None, 0)])
def test_a_gap_is_not_filled_by_rows_that_are_dead_letters(
    venue: str, price: Any, filled: int, caplog: pytest.LogCaptureFixture
) -> None:
    # The times of the rows are good, and reach the end. All pages are asked for all the same.
    config: Any = CONFIGS[venue]
    lacks = EndedGap("AAPL", "trade", "disconnect", (0, 0), (START, END))
    venue_side: Any = Answers(*pages_of(venue, price), lacks=lacks)
    backfill = Backfill(build(config(symbols=("AAPL",))), venue_side, venue_side, venue_side)
    backfill.step(0.0)
    backfill.step(10.0)
    assert not venue_side.bodies
    assert (backfill.filled, backfill.failed, venue_side.repairs) == (filled, 1 - filled, filled)
    assert ("cannot be decoded" in caplog.text) == (not filled)


class SlowAnswers(Answers):
    """Answers when it is told to, as a venue does."""

    asked: list[Request]

    def push(self, request: Request) -> None:
        self.asked.append(request)


def test_pages_of_two_gaps_do_not_alternate() -> None:
    # Events without a number are counted by answer: the pages of one gap come one behind the other.
    def ended(second: int) -> EndedGap:
        times = START + second * SECOND, START + (second + 1) * SECOND
        return EndedGap("AAPL", "trade", "disconnect", (0, 0), times)

    answers: Any = SlowAnswers(*pages_of("alpaca", 10))
    answers.asked, gaps = [], [ended(0), ended(5), ended(9)]
    answers.take_gaps = lambda: [
        (one.symbol, one.channel, one.cause, *one.ids, *one.times, one.behind)
        for one in (gaps.pop(0) for _ in range(len(gaps)))
    ]
    backfill = Backfill(build(AlpacaConfig(symbols=("AAPL",))), answers, answers, answers)
    for now in (0.0, 10.0, 20.0):
        answers.time = now
        backfill.step(now)
    [first] = answers.asked
    answers.on_answer(first, answers.bodies[0])
    [_, page] = answers.asked
    assert "page_token=x" in page.path
    # The second gap is asked for at once when the first one is done with, whatever became of it.
    answers.on_failure(page, VenueError("down"))
    [_, _, second] = answers.asked
    assert "page_token" not in second.path
    assert second.path != first.path
    assert backfill.failed == 1


def backfilled(venue: str, answers: Any) -> tuple[int, int]:
    """Lets time pass until nothing more is asked for; returns how many gaps were filled or not."""
    symbol = "BTCUSDT" if venue == "binance" else "AAPL"
    config: Any = CONFIGS[venue]
    backfill = Backfill(build(config(symbols=(symbol,))), answers, answers, answers)
    while answers.time < 200.0:
        backfill.step(answers.time)
        answers.time += 1.0
    assert not answers.bodies
    return backfill.filled, backfill.failed


def test_a_history_that_ends_within_an_instant_is_asked_again() -> None:
    # Trades of one order have one time. Ids 8 to 12 are missing: the history has two of them at
    # first, then all, and the one behind them. The core has the last word.
    def told(*ids: int) -> bytes:
        rows = [{"id": one, "price": "1", "qty": "1", "time": START // 1000} for one in ids]
        return json.dumps(
            [row | {"quoteQty": "1", "isBuyerMaker": True, "isBestMatch": True} for row in rows]
        ).encode()

    lacks = numbered("trade", 8, 12)
    for holds, counts in ((True, (1, 0)), (False, (0, 1))):
        bodies = told(8, 9), b"[]", told(8, 9, 10, 11), told(12, 13)
        assert backfilled("binance", Answers(*bodies, lacks=lacks, holds=holds)) == counts
    assert backfilled("binance", Answers(*[b"[]"] * 6, lacks=lacks)) == (0, 1)


def test_a_row_of_the_last_ms_proves_nothing_without_the_event_behind_the_gap() -> None:
    # Massive: the stream told ms, and the number of the event behind the gap.
    row = {"id": "1", "size": 1, "price": 10, "sip_timestamp": END + 7}
    rows = [json.dumps({"results": [row | {"sequence_number": n}]}).encode() for n in (6, 7)]
    lacks = EndedGap("AAPL", "trade", "disconnect", (0, 0), (START, END), 7)
    assert backfilled("massive", Answers(*rows, lacks=lacks)) == (1, 0)
    assert backfilled("massive", Answers(*rows[:1] * 6, lacks=lacks)) == (0, 1)
    # Numbers begin anew each day: that of a day before says nothing.
    before = row | {"sip_timestamp": END - 86_400 * SECOND, "sequence_number": 7}
    both = json.dumps({"results": [before, row | {"sequence_number": 6}]}).encode()
    assert backfilled("massive", Answers(*[both] * 6, lacks=lacks)) == (0, 1)


@pytest.mark.parametrize("venue", ["alpaca", "massive"])
def test_a_silence_is_filled_once_the_history_goes_on_behind_it(venue: str) -> None:
    # It ends with the receipt of an event that happened before: that is in the first answer.
    def told(ts: int) -> bytes:
        row: dict[str, Any] = {"id": "1", "size": 1, "price": 1, "sip_timestamp": ts}
        body = {"results": [row]}
        if venue == "alpaca":
            row = {"i": 1, "s": 1, "x": "V", "z": "C", "c": ["@"], "p": 1}
            row["t"] = alpaca.time_text(ts)
            body = {"symbol": "AAPL", "trades": [row], "next_page_token": None}
        return json.dumps(body).encode()

    lacks = EndedGap("AAPL", "trade", "silence", (0, 0), (START, END))
    bodies = told(END - 20_000_000), told(END + SECOND)
    assert backfilled(venue, Answers(*bodies, lacks=lacks)) == (1, 0)


@pytest.mark.parametrize("venue", ["alpaca", "massive"])
def test_rows_of_another_time_prove_nothing(venue: str) -> None:
    later = START + 10**8 * SECOND
    row: dict[str, Any] = {"id": "1", "size": 1, "price": 1, "sip_timestamp": later}
    body = {"results": [row]}
    if venue == "alpaca":
        row = {"i": 1, "s": 1, "x": "V", "z": "C", "c": ["@"], "p": 1, "t": alpaca.time_text(later)}
        body = {"symbol": "AAPL", "trades": [row], "next_page_token": None}
    assert backfilled(venue, Answers(*[json.dumps(body).encode()] * 6)) == (0, 1)


def test_without_a_place_to_ask_no_gap_is_kept() -> None:
    answers = Answers()
    feed = build(BinanceConfig(symbols=("BTCUSDT",), channels=("trade",), rest_url="off"))
    backfill = Backfill(feed, answers, answers, answers)  # type: ignore[arg-type]
    backfill.step(0.0)
    backfill.step(10.0)
    assert (len(backfill._due), len(backfill._asked)) == (0, 0)


class Trades:
    """A core that got `live` ids of Binance; its history has all ids."""

    def __init__(self, data: Path, live: list[int]) -> None:
        self.ingest = _core.Ingest(data, "binance-spot", "binance-spot", durability_ms=-1)
        self.asked: list[str] = []
        self.answers_max = 10**6
        self.on_answer: Any = None
        self.on_failure: Any = None
        text = _core.numbers("blob_kind")["text"]
        for number in live:
            ts = START // 1000 + number
            frame = (
                f'{{"stream":"btcusdt@trade","data":{{"e":"trade","E":{ts},"s":"BTCUSDT",'
                f'"t":{number},"p":"1.0","q":"2.0","T":{ts},"m":true,"M":true}}}}'
            )
            self.ingest.receive(0, text, START + number * 1000, frame.encode())
        self.ingest.flush()
        self.receipt = START + live[-1] * 1000 if live else START

    def push(self, request: Request) -> None:
        if len(self.asked) == self.answers_max:
            self.on_failure(request, VenueError("no answer"))
            return
        first, limit = re.findall(r"fromId=(\d+)&limit=(\d+)", request.path)[0]
        rows = [
            f'{{"id":{number},"price":"1.0","qty":"2.0","quoteQty":"2.0",'
            f'"time":{START // 1000 + number},"isBuyerMaker":true,"isBestMatch":true}}'
            for number in range(int(first), int(first) + int(limit))
        ]
        body = f"[{','.join(rows)}]".encode()
        rest = _core.numbers("blob_kind")["rest"]
        self.asked.append(request.path)
        self.receipt += 1000
        self.ingest.receive(65_535, rest, self.receipt, body, request.path.encode())
        self.ingest.flush()
        self.on_answer(request, body)

    def now(self) -> float:
        return 0.0

    def wall_ns(self) -> int:
        return self.receipt


@pytest.mark.slow
def test_a_gap_of_many_pages_is_gone_on_with_where_it_was_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Five thousand trades are missing. The history fails behind two pages; the next start goes on
    # from there, and the limit of pages is for gaps that have no numbers to count.
    monkeypatch.setattr("tapeworks.feeds.backfill.PAGES_MAX", 1)
    feed = build(BinanceConfig(symbols=("BTCUSDT",), channels=("trade",)))
    first = Trades(tmp_path, [1, 2, *range(5_003, 5_010)])
    first.answers_max = 2
    backfill = Backfill(feed, first.ingest, first, first)  # type: ignore[arg-type]
    backfill.step(0.0)
    backfill.step(10.0)
    assert (len(first.asked), backfill.filled, backfill.failed) == (2, 0, 1)
    first.ingest.close()
    derive(tmp_path, feed.source)
    again = Trades(tmp_path, [])
    backfill = Backfill(feed, again.ingest, again, again)  # type: ignore[arg-type]
    backfill.resume(tmp_path)
    backfill.step(10.0)
    assert "fromId=2003&" in again.asked[0]
    assert (len(again.asked), backfill.filled, backfill.failed) == (4, 1, 0)
    again.ingest.flush()
    again.ingest.close()
    derive(tmp_path, feed.source)
    rows = tw.open(tmp_path).trades(source=feed.source).to_pylist()
    assert sorted(row["sequence"] for row in rows) == list(range(1, 5_010))
    gaps = tw.open(tmp_path).gaps("BTCUSDT").to_pylist()
    assert {row["state"] for row in gaps if row["cause"] == "sequence"} == {"repaired"}
