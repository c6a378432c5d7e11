"""The simulated Massive: its rules, and the clients of the venue, unchanged, that speak with it."""

import asyncio
import contextlib
import importlib
import json
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import aiohttp
import pytest

from tapeworks.errors import ConfigError
from tapeworks.simulators.base import Simulator, SimulatorError
from tapeworks.simulators.massive.config import parse_arguments

# What the clients warn of in themselves is not ours.
pytestmark = pytest.mark.filterwarnings("default")
SYMBOLS = ("--symbols", "AAPL", "MSFT", "BTC-USD")
HELLO = ("connected", "Connected Successfully")
IN = ("auth_success", "authenticated")


class Line:
    """A connection of a test."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def read(self) -> list[dict[str, Any]]:
        message = await self.socket.receive(10)
        assert message.type is aiohttp.WSMsgType.TEXT, message
        found: list[dict[str, Any]] = json.loads(message.data)
        return found

    async def say(self, action: str, params: str) -> None:
        await self.socket.send_str(json.dumps({"action": action, "params": params}))

    async def ask(self, action: str, params: str) -> list[tuple[str, str]]:
        """Sends, and returns the next statuses; data are passed over."""
        await self.say(action, params)
        return await self.statuses()

    async def statuses(self) -> list[tuple[str, str]]:
        while (events := await self.read())[0]["ev"] != "status":
            pass
        return [(event["status"], event["message"]) for event in events]

    async def end(self) -> aiohttp.WSMsgType:
        """Reads until the connection ends, and returns how."""
        while (message := await self.socket.receive(10)).type is aiohttp.WSMsgType.TEXT:
            pass
        kind: aiohttp.WSMsgType = message.type
        return kind


Connect = Callable[..., Awaitable[Line]]


def talk(simulator: Simulator, conversation: Callable[[Connect], Awaitable[None]]) -> None:
    """Runs a conversation, which opens connections by the name of a market."""

    async def main() -> None:
        async with aiohttp.ClientSession() as session:

            async def connect(market: str = "stocks", key: str = "") -> Line:
                line = Line(await session.ws_connect(f"{simulator.ws_url}/{market}"))
                assert await line.statuses() == [HELLO]
                if key:
                    assert await line.ask("auth", key) == [IN]
                return line

            await conversation(connect)

    asyncio.run(main())


def test_subscriptions_are_accepted_refused_or_passed_over_as_the_venue_does(start):
    # Known names by one status each, unknown symbols as well, a channel beyond the plan once;
    # unknown channels, what is so already, and what comes before the key, not at all.
    simulator = start(*SYMBOLS, "--denied", "NOI", "LULD", venue="massive")

    async def conversation(connect: Connect) -> None:
        line = await connect()
        await line.say("subscribe", "T.AAPL")
        await line.socket.send_str("[]")
        await line.socket.send_str("{")
        await line.socket.send_bytes(b"\x00")
        assert await line.ask("auth", "any") == [IN]
        names = "T.AAPL, Q.*,ZZ.AAPL,T.NOBODY,LULD.AAPL,LULD.MSFT,NOI.*"
        assert await line.ask("subscribe", names) == [
            ("success", "subscribed to: T.AAPL"),
            ("success", "subscribed to: Q.*"),
            ("success", "subscribed to: T.NOBODY"),
            ("error", "not authorized"),
            ("error", "not authorized"),
        ]
        await line.say("subscribe", "T.AAPL")
        assert await line.ask("unsubscribe", "Q.*,Q.MSFT") == [
            ("success", "unsubscribed to: Q.*"),
        ]
        seen: set[tuple[str, str]] = set()
        while len(seen) < 2:
            seen |= {(event["ev"], event["sym"]) for event in await line.read()}
            if seen == {("T", "AAPL")}:
                break
        assert await line.ask("subscribe", "T.*") == [("success", "subscribed to: T.*")]
        while ("T", "MSFT") not in seen:
            seen |= {(event["ev"], event["sym"]) for event in await line.read()}
        assert all("-" not in symbol for _, symbol in seen)

    talk(simulator, conversation)


def test_wrong_keys_and_markets_beyond_the_plan_are_dropped_without_a_word(start):
    simulator = start(
        *SYMBOLS, "--key", "k", "--denied", "options", "--auth-s", 0.4, venue="massive"
    )

    async def conversation(connect: Connect) -> None:
        for market, key, text in (
            ("stocks", "wrong", "authentication failed"),
            ("options", "k", "Your plan doesn't include websocket access."),
        ):
            line = await connect(market)
            assert await line.ask("auth", key) == [("auth_failed", text)]
            assert await line.end() is aiohttp.WSMsgType.CLOSED
        line = await connect()
        assert (await line.statuses())[0][0] == "auth_timeout"
        assert await line.end() is aiohttp.WSMsgType.CLOSE

    talk(simulator, conversation)


def test_a_key_has_one_connection_to_each_market(start):
    # The newest is let in and told when it has subscribed; or the oldest makes room.
    newest = start(*SYMBOLS, venue="massive")
    oldest = start(*SYMBOLS, "--evicted", "oldest", venue="massive")

    async def of_newest(connect: Connect) -> None:
        first, crypto = await connect(key="k"), await connect("crypto", key="k")
        second = await connect(key="k")
        assert (await second.ask("subscribe", "T.*"))[0][0] == "success"
        assert (await second.statuses())[0][0] == "max_connections"
        assert await second.end() is aiohttp.WSMsgType.CLOSE
        for line, name in ((first, "T.AAPL"), (crypto, "XT.BTC-USD")):
            assert (await line.ask("subscribe", name))[0][0] == "success"
        await first.socket.close()
        third = await connect(key="k")
        assert (await third.ask("subscribe", "T.*"))[0][0] == "success"
        assert (await third.read())[0]["ev"] == "T"

    async def of_oldest(connect: Connect) -> None:
        first = await connect(key="k")
        second = await connect(key="k")
        assert (await first.statuses())[0][0] == "max_connections"
        assert (await second.ask("subscribe", "T.*"))[0][0] == "success"

    talk(newest, of_newest)
    talk(oldest, of_oldest)


def test_a_slow_reader_and_a_replaced_connection_are_cut(start):
    simulator = start(*SYMBOLS, "--rate", 20_000, "--buffer-bytes-max", 100_000, venue="massive")

    async def conversation(connect: Connect) -> None:
        line = await connect(key="k")
        await line.ask("subscribe", "T.*,Q.*")
        told = asyncio.to_thread(simulator.fault, "shutdown")
        asked = asyncio.ensure_future(told)
        while (statuses := await line.statuses())[0][0] != "force_disconnect":
            pass
        assert len(statuses) == 1
        assert await line.end() is aiohttp.WSMsgType.CLOSE
        await asked
        line = await connect(key="k")
        await line.say("subscribe", "T.*,Q.*")
        # Nothing is read: what the network holds and the allowed buffer fill up.
        await asyncio.to_thread(simulator.fault, "slow", amount=1000.0, duration_s=60.0)
        until = time.monotonic() + 60
        while simulator.state()["connections"]:
            assert time.monotonic() < until
            await asyncio.sleep(0.1)
        assert simulator.oracle()["connections"][-1]["reason"] == "slow consumer"

    talk(simulator, conversation)


def test_wrong_arguments_are_refused(start):
    assert parse_arguments(["--key", "k", "--symbols", "SPY"], "x").symbols == ("SPY",)
    with pytest.raises(ConfigError, match="markets and channels, got shares"):
        parse_arguments(["--denied", "shares"], "x")
    with pytest.raises(SimulatorError, match="exit status 2"):
        start("--symbols", "A/B", venue="massive")


@pytest.fixture(params=["massive", "polygon"])
def client(request: pytest.FixtureRequest) -> ModuleType:
    """The client of the venue by its present name, and by that of before."""
    return importlib.import_module(request.param)


def sent(full: Path, stream: str) -> list[dict[str, Any]]:
    """What was sent on a stream after its first listener came."""
    lines = [json.loads(line) for line in full.read_text().splitlines() if line.endswith("}")]
    return [
        json.loads(line["payload"]) for line in lines if line["stream"] == stream and line["given"]
    ]


@pytest.mark.parametrize(
    ("market", "names"),
    [
        ("stocks", ("T.AAPL", "Q.AAPL", "A.AAPL")),
        ("crypto", ("XT.BTC-USD", "XQ.BTC-USD", "XAS.BTC-USD", "XL2.BTC-USD")),
    ],
)
def test_official_stream_receives_what_is_sent(
    start, tmp_path: Path, client: ModuleType, market: str, names: tuple[str, ...]
):
    # Trades, quotes, bars and books of twenty simulated seconds: each as it was sent, in order.
    full = tmp_path / "frames.jsonl"
    simulator = start(
        *SYMBOLS, "--rate", 20, "--speed", 20, "--duration", 20, "--wait", "--full", full,
        venue="massive",
    )  # fmt: skip
    got: dict[str, list[Any]] = {name: [] for name in names}

    async def handle(events: list[Any]) -> None:
        for event in events:
            got[f"{event.event_type}.{names[0].partition('.')[2]}"].append(event)

    def is_complete() -> bool:
        return all(len(of) == len(sent(full, name)) for name, of in got.items())

    async def main() -> None:
        stream = client.WebSocketClient(
            api_key="k",
            feed=simulator.ws_url.removeprefix("ws://"),
            market=market,
            secure=False,
            subscriptions=list(names),
        )
        running = asyncio.create_task(stream.connect(handle))
        until = time.monotonic() + 60
        while not (simulator.state()["done"] and is_complete()):
            assert time.monotonic() < until, {name: len(of) for name, of in got.items()}
            await asyncio.sleep(0.1)
        await stream.close()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running

    asyncio.run(main())
    for name, events in got.items():
        told = sent(full, name)
        assert len(told) >= 5, name
        for event, payload in zip(events, told, strict=True):
            symbol = getattr(event, "pair", None) or event.symbol
            assert symbol == name.partition(".")[2]
            time_ms = getattr(event, "timestamp", None) or event.start_timestamp
            assert time_ms == payload.get("t", payload.get("s"))
    trade, payload = got[names[0]][-1], sent(full, names[0])[-1]
    assert (trade.price, trade.size, trade.id) == (payload["p"], payload["s"], payload["i"])
    bar, payload = got[names[2]][-1], sent(full, names[2])[-1]
    assert (bar.open, bar.close, bar.volume) == (payload["o"], payload["c"], payload["v"])


def test_official_stream_is_told_of_a_wrong_key(start, client: ModuleType):
    simulator = start(*SYMBOLS, "--key", "k", venue="massive")
    exceptions = importlib.import_module(f"{client.__name__}.exceptions")

    async def main() -> None:
        feed = simulator.ws_url.removeprefix("ws://")
        stream = client.WebSocketClient(
            api_key="x", feed=feed, market="stocks", secure=False, subscriptions=["T.*"]
        )

        async def ignore(events: Any) -> None:
            raise AssertionError(events)

        with pytest.raises(exceptions.AuthError, match="authentication failed"):
            await stream.connect(ignore)

    asyncio.run(main())


def test_official_requests_are_answered_page_by_page(start, client: ModuleType):
    # Ten simulated minutes at once: trades of pages of 97 in either order, bars, the last quote;
    # a request too many is made again.
    simulator = start(
        *SYMBOLS, "--rate", 20, "--speed", 0, "--duration", 600, "--key", "k", venue="massive"
    )
    begin_ns = simulator.wait_done(60.0)["start_ns"]
    rest = client.RESTClient(api_key="k", base=simulator.rest_url)
    simulator.fault("rest_429", amount=1.0)
    trades = list(rest.list_trades("AAPL", limit=97, order="asc"))
    ids = [int(trade.id) for trade in trades]
    assert len(ids) == len(set(ids)) > 200
    assert ids == sorted(ids)
    times = [trade.sip_timestamp for trade in trades]
    assert times == sorted(times)
    assert begin_ns <= times[0]
    newest = list(rest.list_trades("AAPL", limit=97))
    assert [int(trade.id) for trade in newest] == ids[::-1]
    later = list(rest.list_trades("AAPL", timestamp_gt=times[50], order="asc", limit=50_000))
    assert [int(trade.id) for trade in later] == [
        identity for identity, ts in zip(ids, times, strict=True) if ts > times[50]
    ]
    begin_ms = begin_ns // 10**6
    day = datetime.fromtimestamp(begin_ns / 1e9, UTC).date()
    for ticker, symbol in (("AAPL", "AAPL"), ("X:BTCUSD", "X:BTC-USD")):
        bars = list(rest.list_aggs(ticker, 1, "minute", begin_ms, begin_ms + 900_000, limit=3))
        assert len(bars) >= 9, symbol
        assert len(list(rest.list_trades(symbol, timestamp_gte=str(day)))) > 100
    quote = rest.get_last_quote("MSFT")
    assert quote.bid_price < quote.ask_price
    stories = list(rest.list_ticker_news("AAPL", limit=50, order="asc", sort="published_utc"))
    numbers = [int(story.id, 16) for story in stories]
    assert numbers == sorted(set(numbers))
    assert len(numbers) > 60
    assert all("AAPL" in story.tickers for story in stories)
    requests = simulator.state()["requests"]
    assert requests["/v2/reference/news 200"] > 1
    assert requests["/v3/trades/AAPL 429"] == 1
    exceptions = importlib.import_module(f"{client.__name__}.exceptions")
    wrong = client.RESTClient(api_key="x", base=simulator.rest_url)
    with pytest.raises(exceptions.BadResponse, match="Unknown API Key"):
        next(wrong.list_trades("AAPL"))


@pytest.mark.parametrize(
    ("path", "code", "text"),
    [
        ("v3/trades/NOBODY", 404, "not found"),
        ("v3/trades/AAPL?limit=0", 400, "limit"),
        ("v3/trades/AAPL?timestamp=now", 400, "invalid time"),
        ("v3/trades/AAPL?timestamp=2026-13-01", 400, "invalid date"),
        ("v3/trades/AAPL?cursor=x", 400, "invalid cursor"),
        ("v2/aggs/ticker/AAPL/range/1/year/0/1", 400, "unknown timespan"),
        ("v2/aggs/ticker/AAPL/range/7/minute/0/1", 400, "no bars"),
    ],
)
def test_bad_requests_are_refused(start, path: str, code: int, text: str):
    simulator = start(*SYMBOLS, venue="massive")
    request = urllib.request.Request(
        f"{simulator.rest_url}/{path}", headers={"Authorization": "Bearer k"}
    )
    with pytest.raises(urllib.error.HTTPError) as raised:
        urllib.request.urlopen(request)
    with raised.value as error:
        assert error.code == code
        assert text in json.load(error)["error"]
