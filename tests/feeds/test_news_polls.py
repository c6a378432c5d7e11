"""News that a venue tells by requests alone: asked for while it is recorded, each story once."""

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Start, derive

import tapeworks as tw
from tapeworks import _core
from tapeworks._core import Ingest
from tapeworks.errors import ConfigError
from tapeworks.feeds.massive.config import MassiveConfig
from tapeworks.feeds.massive.news import FIRST_S, OVERLAP_S, NewsPolls
from tapeworks.feeds.session import record
from tapeworks.tape import TapeConfig

SECOND = 10**9
START = 1_790_000_000 * SECOND


def since(path: str) -> str:
    return path.partition("published_utc.gte=")[2].partition("&")[0]


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
    polls.answered(first, json.dumps(following).encode())
    [page] = polls.due(59.5, START + 59 * SECOND)
    assert (page.path, page.symbol) == ("/v2/reference/news?cursor=a", "AAPL")
    polls.answered(page, b'{"results":[]}')
    # One has answered to its end, the other not at all.
    told, failed = polls.due(7_200.0, START + 7_200 * SECOND)
    assert since(told.path) == "2026-09-21T13:58:20Z"
    assert since(failed.path) == "2026-09-20T16:13:20Z"
    assert (OVERLAP_S, FIRST_S) == (900.0, 86_400.0)
    # Elsewhere nothing is asked for, and what is no answer about news says nothing.
    polls.answered(told, json.dumps({"next_url": "https://x.test/v3/trades/A?c=1"}).encode())
    polls.answered(told, b"<html>")
    polls.answered(second, b"[]")
    assert polls.due(7_201.0, START) == []
    assert [one.symbol for one in NewsPolls(("*",), 9.0).due(0.0, START)] == [""]
    many = tuple(f"S{number}" for number in range(21))
    assert [one.symbol for one in NewsPolls(many, 9.0).due(0.0, START)] == [""]
    assert NewsPolls(("AAPL",), 0.0).due(0.0, START) == []


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

    def tell(at: int, *told: str) -> None:
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

    tell(0, "a story", "b story")
    tell(10, "b story", "c story", "a story, corrected")
    told = [row["headline"] for row in stories(tmp_path, "massive")]
    assert Counter(told) == Counter(["a story", "b story", "c story", "a story, corrected"])
    told = [row["headline"] for row in stories(tmp_path, "massive", "news")]
    assert Counter(told) == Counter(["b story", "c story", "a story, corrected"])


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
