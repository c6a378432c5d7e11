"""Requests to a venue, of which one goes wrong: it fails with a word, and the others are made."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tapeworks._core import Ingest
from tapeworks.errors import VenueError
from tapeworks.feeds.base import Clock, Request
from tapeworks.feeds.binance import BinanceConfig, BinanceFeed
from tapeworks.feeds.opening import open_feed
from tapeworks.feeds.rest import PATH_BYTES_MAX, Requests

Asked = Callable[[Requests, Any], Any]


async def until(holds: Callable[[], bool]) -> None:
    for _ in range(400):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError


def ask(tmp_path: Path, act: Asked) -> Requests:
    """Runs `act` beside the queue of a venue that answers all but `/down` with `{}`."""

    async def answer(request: web.Request) -> web.Response:
        return web.json_response({}, status=503 if request.path == "/down" else 200)

    async def run() -> Requests:
        app = web.Application()
        app.router.add_get("/{any:.*}", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        [address] = runner.addresses
        url = f"http://127.0.0.1:{address[1]}"
        feed = BinanceFeed(BinanceConfig(symbols=("BTCUSDT",), rest_url=url))
        ingest = Ingest(tmp_path, "binance-spot", feed.native)
        requests = Requests(feed, ingest, lambda: None, Clock(), None)
        try:
            async with asyncio.timeout(5), asyncio.TaskGroup() as group:
                tasks = [group.create_task(requests.work()) for _ in range(2)]
                await act(requests, feed)
                for task in tasks:
                    task.cancel()
        finally:
            await requests.close()
            ingest.close()
            await runner.cleanup()
        return requests

    return asyncio.run(run())


def test_a_request_that_goes_wrong_ends_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # What is captured of the log goes to another process, which takes no half of a character.
    caplog.set_level(logging.CRITICAL, "tapeworks")
    # Its answer cannot be taken in, nor a refusal be read, nor the failure be told; its path is one
    # that no tape holds, as a venue may name it as that of the next page, or none at all.
    answered: list[str] = []
    failed: dict[str, str] = {}

    def on_answer(request: Request, body: bytes) -> None:
        if request.path == "/odd":
            raise ValueError("expected a known symbol")
        answered.append(request.path)

    def on_failure(request: Request, error: VenueError) -> None:
        failed[request.path[:9]] = str(error)
        raise KeyError(request.path)

    async def act(requests: Requests, feed: Any) -> None:
        def refused(*_: Any) -> VenueError:
            raise TypeError("a bug in the rules of a feed")

        feed.refused = refused
        requests.on_answer, requests.on_failure = on_answer, on_failure
        longest = "/" + "a" * (PATH_BYTES_MAX - 1)
        for path in ("/odd", "/down", "/\ud800", longest + "a", "/good"):
            requests.push(Request(0, path))
        await until(lambda: bool(answered) and len(failed) == 4)
        requests.push(Request(0, "/odd"))

    requests = ask(tmp_path, act)
    assert answered == ["/good"]
    assert failed["/odd"].endswith("cannot be taken in: ValueError: expected a known symbol")
    assert "a bug in the rules of a feed" in failed["/down"]
    assert failed["/aaaaaaaa"] == f"its path has over {PATH_BYTES_MAX:,} bytes"
    assert requests.failed == 4
    assert requests.waiting("/odd"), "one that failed may be asked for again"


def test_an_opening_answer_that_cannot_be_taken_in_ends_nothing(tmp_path: Path) -> None:
    # It is queued as one that failed is, and recording begins.
    async def act(requests: Requests, feed: Any) -> None:
        def answered(*_: Any) -> None:
            raise RuntimeError("odd")

        feed.answered = answered
        assert await open_feed(feed, requests) == []
        [request] = feed.opening_requests()
        assert requests.waiting(request.path)
        await until(lambda: requests.failed > 0)

    assert "RuntimeError: odd" in ask(tmp_path, act).last_failure
