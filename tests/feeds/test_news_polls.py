"""News that a venue tells by requests alone: asked for while it is recorded, each story once."""

import asyncio
import json
from collections import Counter
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Start, derive

import tapeworks as tw
from tapeworks import _core
from tapeworks._core import Ingest
from tapeworks.errors import ConfigError
from tapeworks.feeds.base import Request
from tapeworks.feeds.massive.config import MassiveConfig
from tapeworks.feeds.massive.news import FIRST_S, OVERLAP_S, PAGES_MAX, NewsPolls
from tapeworks.feeds.session import record
from tapeworks.tape import TapeConfig

SECOND = 10**9
START = 1_790_000_000 * SECOND


def since(path: str) -> str:
    return path.partition("published_utc.gte=")[2].partition("&")[0]


def date(ns: int) -> dict[str, str]:
    return {"Date": formatdate(ns / 1e9, usegmt=True)}


def tell(polls: NewsPolls, request: Request, ns: int, body: bytes = b'{"results":[]}') -> None:
    """Has `request` answered at a time at which the clocks of host and venue agree."""
    polls.answered(request, date(ns), body, ns / 1e9)


def test_polls_reach_back_to_the_last_that_was_answered() -> None:
    # A day at first; what fails is asked for again from there, however long that takes.
    polls = NewsPolls(("AAPL", "BRK.B"), 60.0)
    first, second = polls.due(0.0, START)
    assert first.path == (
        "/v2/reference/news?ticker=AAPL&published_utc.gte=2026-09-20T14:13:20Z"
        "&order=asc&sort=published_utc&limit=1000"
    )
    assert polls.due(59.0, START + 59 * SECOND) == []
    following = {"results": [], "next_url": "https://x.test/v2/reference/news?cursor=a"}
    tell(polls, first, START, json.dumps(following).encode())
    [page] = polls.due(59.5, START + 59 * SECOND)
    assert (page.path, page.symbol) == ("/v2/reference/news?cursor=a", "AAPL")
    tell(polls, page, START + 59 * SECOND)
    # One has answered to its end, the other not at all.
    told, failed = polls.due(7_200.0, START + 7_200 * SECOND)
    assert since(told.path) == "2026-09-21T13:58:20Z"
    assert failed == second
    assert (OVERLAP_S, FIRST_S) == (900.0, 86_400.0)
    # Elsewhere nothing is asked for, and what is no answer about news says nothing.
    elsewhere = json.dumps({"next_url": "https://x.test/v3/trades/A?c=1"}).encode()
    tell(polls, told, START + 7_200 * SECOND, elsewhere)
    tell(polls, failed, START, b"<html>")
    tell(polls, failed, START, b"[]")
    assert polls.due(7_201.0, START) == []
    assert [one.symbol for one in NewsPolls(("*",), 9.0).due(0.0, START)] == [""]
    many = tuple(f"S{number}" for number in range(21))
    assert [one.symbol for one in NewsPolls(many, 9.0).due(0.0, START)] == [""]
    assert NewsPolls(("AAPL",), 0.0).due(0.0, START) == []


@pytest.mark.parametrize("has_date", [True, False])
@pytest.mark.parametrize("ahead_s", [0, 3_600, 30 * 3_600, -3_600])
def test_a_clock_that_is_wrong_for_hours_leaves_no_story_out(ahead_s: int, has_date: bool) -> None:
    # Six hours wrong and then set right, with a story every minute: each is in an answer.
    polls = NewsPolls(("AAPL",), 60.0)
    told: set[int] = set()
    for now in range(0, 8 * 3_600, 60):
        wall = START + (now + (ahead_s if now < 6 * 3_600 else 0)) * SECOND
        for request in polls.due(float(now), wall):
            low = datetime.fromisoformat(since(request.path)).timestamp() - START / SECOND
            stories = [at for at in range(0, now + 1, 60) if at >= low]
            rows = [
                {"published_utc": datetime.fromtimestamp(START // SECOND + at, UTC).isoformat()}
                for at in stories
            ]
            told.update(stories)
            headers = date(START + now * SECOND) if has_date else {}
            polls.answered(request, headers, json.dumps({"results": rows}).encode(), wall / SECOND)
            is_bounded = len(stories) <= (OVERLAP_S + 120 + abs(ahead_s)) // 60
            assert is_bounded, "an answer has what is new, and a little before it"
    # No venue without a date, and no clock that is a day ahead, is known.
    assert (ahead_s > FIRST_S and not has_date) or told == set(range(0, 8 * 3_600, 60))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["down", "pages", "1970"])
def test_a_venue_that_does_not_answer_has_a_request_of_each_ticker(how: str) -> None:
    # For an hour from the start; or its pages have no end, of which some fail; or its clock is odd.
    polls = NewsPolls(tuple(f"S{number}" for number in range(20)), 1.0)
    asked: set[str] = set()
    for now in range(3_600):
        for request in polls.due(float(now), START + now * SECOND):
            asked.add(request.path)
            page = {"next_url": f"https://x.test/v2/reference/news?cursor={request.symbol}{now}"}
            if how == "pages" and now % 3 == 0:
                tell(polls, request, START + now * SECOND, json.dumps(page).encode())
            elif how == "1970":
                polls.answered(request, date(0), b"{}", START / SECOND)
    assert len(asked) <= {"down": 20, "1970": 40, "pages": 20 + 20 * 1_200}[how]
    assert len({request.symbol for request in polls.due(3_600.0, START)}) == 20


def test_pages_that_a_poll_does_not_reach_are_asked_for_by_the_next() -> None:
    # More than 100 pages: it goes on where they ended. A page that fails is asked for once more.
    polls = NewsPolls(("AAPL",), 60.0)
    [request] = polls.due(0.0, START)
    for page in range(PAGES_MAX + 1):
        published = datetime.fromtimestamp(START // SECOND - 50_000 + page, UTC).isoformat()
        following = f"https://x.test/v2/reference/news?cursor={page}"
        told = {"results": [{"published_utc": published}], "next_url": following}
        tell(polls, request, START, json.dumps(told).encode())
        if page < PAGES_MAX:
            [request] = polls.due(1.0, START)
    assert polls.due(1.0, START) == []
    [request] = polls.due(60.0, START + 60 * SECOND)
    assert since(request.path) == "2026-09-21T00:21:40Z"
    tell(polls, request, START, json.dumps({"next_url": following}).encode())
    [page_asked] = polls.due(61.0, START)
    asked = [polls.due(60.0 * (2 + again), START)[0].path for again in range(2)]
    assert asked == [page_asked.path, request.path]


def test_pairs_are_asked_for_as_rest_calls_them() -> None:
    def asked(product: str, *symbols: str) -> list[str]:
        made = NewsPolls(symbols, 60.0, product).due(0.0, START)
        return [one.path.partition("ticker=")[2].partition("&")[0] for one in made]

    assert asked("crypto", "BTC-USD", "X:ETHUSD") == ["X%3ABTCUSD", "X%3AETHUSD"]
    assert asked("forex", "EUR/USD") == ["C%3AEURUSD"]
    assert asked("stocks", "BRK.B") == ["BRK.B"]


def test_news_without_a_place_to_ask_are_a_wrong_setting() -> None:
    with pytest.raises(ConfigError, match="news_poll_s: expected a rest_url"):
        MassiveConfig(symbols=("A",), ws_url="ws://127.0.0.1:1", news_poll_s=60.0)
    with pytest.raises(ConfigError, match="news_poll_s"):
        MassiveConfig(symbols=("A",), news_poll_s=0.5)


def stories(data: Path, source: str, table: str = "news_revisions") -> list[dict[str, Any]]:
    derive(data, source)
    rows: list[dict[str, Any]] = tw.open(data).sql(f"select * from {table}").to_pylist()
    return rows


def test_a_story_that_answers_tell_alike_is_there_once(tmp_path: Path) -> None:
    # Two answers that overlap, before and after a restart; the story that differs is a revision.
    rest = _core.numbers("blob_kind")["rest"]

    def told_at(at: int, *told: str) -> None:
        ingest = Ingest(tmp_path, "massive", "massive", durability_ms=-1)
        rows = [
            f'{{"id":"{title[0]}","title":"{title}","published_utc":"2026-09-21T14:13:20Z"}}'
            for title in told
        ]
        body = f'{{"results":[{",".join(rows)}]}}'.encode()
        for again in range(2):
            ingest.receive(65_535, rest, START + at + again, body, b"/v2/reference/news?limit=9")
        ingest.flush()
        ingest.close()

    told_at(0, "a story", "b story")
    told_at(10, "b story", "c story", "a story, corrected")
    told = [row["headline"] for row in stories(tmp_path, "massive")]
    assert Counter(told) == Counter(["a story", "b story", "c story", "a story, corrected"])
    told = [row["headline"] for row in stories(tmp_path, "massive", "news")]
    assert Counter(told) == Counter(["b story", "c story", "a story, corrected"])
    # Corrected back: what was said last counts.
    told_at(20, "a story", "b story")
    told = [row["headline"] for row in stories(tmp_path, "massive", "news")]
    assert Counter(told) == Counter(["a story", "b story", "c story"])
    assert len(tw.open(tmp_path).sql("select * from news_revisions").to_pylist()) == 5


@pytest.mark.parametrize("stream", ["T.AAPL", "news.*"])
def test_news_are_complete_only_where_a_stream_tells_them(tmp_path: Path, stream: str) -> None:
    # Trades came all the time; whether a poll was answered is noted nowhere.
    trade = (
        f'[{{"ev":"T","sym":"AAPL","i":"1","x":4,"p":1.5,"s":1,"t":{START // 10**6},"q":7}},'
        f'{{"ev":"T","sym":"AAPL","i":"2","x":4,"p":1.5,"s":1,"t":{START // 10**6 + 1},"q":8}}]'
    )
    ingest = Ingest(tmp_path, "massive", "massive", durability_ms=-1)
    ingest.begin_subscriptions(START)
    ingest.connected(0, 1, START)
    ingest.watch(0, stream, "", "none")
    ingest.subscribed(0, [], START)
    for at in range(10):
        ingest.receive(0, 1, START + at * SECOND, trade.encode())
    ingest.end_session(START + 10 * SECOND)
    ingest.flush()
    ingest.close()
    derive(tmp_path, "massive")
    found = tw.open(tmp_path).news("AAPL", START + SECOND, START + 2 * SECOND).coverage()
    causes = {row["cause"] for row in found.to_pylist()}
    assert causes == ({"not_known"} if stream == "T.AAPL" else {"silent"}), found.summary()
    if stream == "T.AAPL":
        assert found.summary()[0].startswith("not known from 2026-09-21")


@pytest.mark.slow
@pytest.mark.timeout(90)
def test_news_grow_while_they_are_recorded(start: Start, tmp_path: Path, monkeypatch: Any) -> None:
    # A story every two seconds, asked for each second: each is there as often as the exchange told
    # something else of it, and what came before a second start as well.
    monkeypatch.setenv("MASSIVE_API_KEY", "any")
    simulator = start("--symbols", "AAPL", "--rate", 20, "--seed", 7, venue="massive")

    async def run(seconds: float) -> dict[str, Any]:
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(seconds, stop.set)
        places = {"ws_url": simulator.ws_url, "rest_url": simulator.rest_url}
        config = MassiveConfig(symbols=("*",), channels=("T",), news_poll_s=1.0, **places)
        return await record(config, tmp_path, stop, tape=TapeConfig("never"))

    status = asyncio.run(run(4.5))
    before = len(stories(tmp_path, status["source"], "news"))
    status = asyncio.run(run(4.5))
    rows = stories(tmp_path, status["source"])
    assert status["requests_failed"] == 0, status["request_trouble"]
    assert before >= 1
    told = Counter((row["id"], row["headline"]) for row in rows)
    assert set(told.values()) == {1}
    numbers = sorted({int(row["id"], 16) for row in rows})
    assert numbers == list(range(1, max(numbers) + 1))
    assert max(numbers) > before
