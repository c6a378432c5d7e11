"""The simulated Alpaca: its rules, and the clients of the venue, unchanged, that speak with it."""

# ruff: noqa: ASYNC110 - these wait for a server in another process.

import asyncio
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from alpaca.common.exceptions import APIError
from alpaca.data.historical import (
    CryptoHistoricalDataClient,
    NewsClient,
    StockHistoricalDataClient,
)
from alpaca.data.live import CryptoDataStream, NewsDataStream, StockDataStream
from alpaca.data.requests import (
    CryptoBarsRequest,
    CryptoTradesRequest,
    NewsRequest,
    StockBarsRequest,
    StockLatestQuoteRequest,
    StockTradesRequest,
)
from alpaca.data.timeframe import TimeFrame
from tests.conftest import derive

import tapeworks as tw
from tapeworks.feeds.alpaca.config import AlpacaConfig
from tapeworks.feeds.session import record
from tapeworks.simulators.alpaca.config import parse_arguments
from tapeworks.simulators.base import Simulator, SimulatorError
from tapeworks.tape import TapeConfig

# What the clients warn of in themselves is not ours.
pytestmark = pytest.mark.filterwarnings("default")
SYMBOLS = ("--symbols", "AAPL", "MSFT", "BTC/USD")
HELLO = {"T": "success", "msg": "connected"}
IN = {"T": "success", "msg": "authenticated"}
LOGIN = {"action": "auth", "key": "a", "secret": "b"}


class Line:
    """A connection of a test, in either encoding."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, packed: bool) -> None:
        self.socket, self.packed = socket, packed

    async def read(self) -> list[dict[str, Any]]:
        message = await self.socket.receive(10)
        if message.type is aiohttp.WSMsgType.BINARY:
            assert self.packed
            found: list[dict[str, Any]] = msgspec.msgpack.decode(message.data)
        else:
            assert message.type is aiohttp.WSMsgType.TEXT, message
            assert not self.packed
            found = json.loads(message.data)
        return found

    async def ask(self, told: Any) -> dict[str, Any]:
        """Sends, and returns the next message of the session; data are passed over."""
        if self.packed:
            await self.socket.send_bytes(msgspec.msgpack.encode(told))
        else:
            await self.socket.send_str(json.dumps(told))
        return await self.answer()

    async def answer(self) -> dict[str, Any]:
        while True:
            events = await self.read()
            if events[0]["T"] in ("success", "error", "subscription"):
                assert len(events) == 1
                return events[0]


def talk(
    simulator: Simulator,
    conversation: Callable[[Callable[..., Awaitable[Line]]], Awaitable[None]],
) -> None:
    """Runs a conversation, which opens connections by the path of a feed."""

    async def main() -> None:
        async with aiohttp.ClientSession() as session:

            async def connect(path: str = "/v2/iex", *, packed: bool = False) -> Line:
                form = "application/msgpack" if packed else "application/json"
                socket = await session.ws_connect(
                    simulator.ws_url + path, headers={"Content-Type": form}
                )
                line = Line(socket, packed)
                assert await line.read() == [HELLO]
                return line

            await conversation(connect)

    asyncio.run(main())


def test_every_refusal_has_its_code_and_the_connection_stays(start):
    # The codes of the venue, in both encodings, on one connection each.
    simulator = start(
        *SYMBOLS, "--key", "a", "--secret", "b", "--denied", "sip", "--symbols-max", 2,
        venue="alpaca",
    )  # fmt: skip

    async def conversation(connect: Callable[..., Awaitable[Line]]) -> None:
        for packed in (False, True):
            line = await connect(packed=packed)
            asked = {"action": "subscribe", "trades": ["AAPL"]}
            assert (await line.ask(asked))["code"] == 401
            assert (await line.ask({**LOGIN, "secret": "c"}))["code"] == 402
            assert (await line.ask({"action": 7}))["code"] == 400
            assert (await line.ask([1]))["code"] == 400
            assert await line.ask(LOGIN) == IN
            assert (await line.ask(LOGIN))["code"] == 403
            assert (await line.ask({"action": "subscribe", "orderbooks": ["AAPL"]}))["code"] == 410
            assert (await line.ask({"action": "subscribe", "trades": "AAPL"}))["code"] == 400
            told = await line.ask(asked)
            assert (told["T"], told["trades"], told["quotes"]) == ("subscription", ["AAPL"], [])
            assert told["corrections"] == told["cancelErrors"] == ["AAPL"]
            beyond = {"action": "subscribe", "quotes": ["AAPL", "MSFT"]}
            assert (await line.ask(beyond))["code"] == 405
            told = await line.ask({"action": "unsubscribe", "trades": ["AAPL"]})
            assert told["trades"] == []
            other = await connect(packed=packed)
            assert (await other.ask(LOGIN))["code"] == 406
            await line.socket.close()
            assert (await until_in(other)) == IN
            await other.socket.close()
        line = await connect("/v2/sip")
        assert await line.ask(LOGIN) == IN
        assert (await line.ask(asked))["code"] == 409
        line = await connect("/v1beta1/indicative")
        assert await line.ask(LOGIN) == IN
        assert (await line.ask(asked))["code"] == 412

    talk(simulator, conversation)


async def until_in(line: Line) -> dict[str, Any]:
    """Logs in again until the other session is gone."""
    for _ in range(200):
        told = await line.ask(LOGIN)
        if told.get("code") != 406:
            break
        await asyncio.sleep(0.05)
    return told


def test_who_does_not_log_in_is_cut(start):
    simulator = start(*SYMBOLS, "--auth-s", 0.3, venue="alpaca")

    async def conversation(connect: Callable[..., Awaitable[Line]]) -> None:
        line = await connect()
        assert (await line.answer())["code"] == 404
        assert (await line.socket.receive(10)).type is aiohttp.WSMsgType.CLOSE

    talk(simulator, conversation)


def test_a_book_comes_whole_when_it_is_subscribed_and_a_star_is_every_symbol(start):
    simulator = start("--symbols", "AAPL", "BTC/USD", "ETH/USD", "--levels", 30, venue="alpaca")

    async def conversation(connect: Callable[..., Awaitable[Line]]) -> None:
        line = await connect("/v1beta3/crypto/us")
        await line.ask(LOGIN)
        for symbols in (["BTC/USD"], ["*"]):
            await line.ask({"action": "subscribe", "orderbooks": symbols})
            while not (book := (await line.read())[0]).get("r"):
                assert book["T"] == "o"
            assert len(book["b"]) > 10
            assert book["S"] == ("BTC/USD" if symbols != ["*"] else "ETH/USD")

    talk(simulator, conversation)


def test_wrong_arguments_are_refused(start):
    assert parse_arguments(["--key", "k", "--symbols", "SPY"], "x").symbols == ("SPY",)
    for arguments in (["--symbols", "/USD"], ["--rate", "0"], ["--faults", "/no/such/file"]):
        with pytest.raises(SimulatorError, match="exit status 2"):
            start(*arguments, venue="alpaca")
    simulator = start(*SYMBOLS, venue="alpaca")
    for kind in ("gap", "late_snapshot", "nothing"):
        with pytest.raises(SimulatorError, match="expected a fault of"):
            simulator.fault(kind)


def sent(path: Path, stream: str) -> list[dict[str, Any]]:
    """The events that the simulator sent on a stream, in order."""
    lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return [json.loads(one["payload"]) for one in lines if one["stream"] == stream and one["given"]]


async def stream_until_done(simulator: Simulator, stream: Any, until: Callable[[], bool]) -> None:
    """Runs a client of the venue until all was sent and has arrived."""
    running = asyncio.create_task(stream._run_forever())
    while not (await asyncio.to_thread(simulator.state))["done"]:
        await asyncio.sleep(0.1)
    for _ in range(100):
        if until():
            break
        await asyncio.sleep(0.1)
    # Its own way to stop waits for another message, five seconds long.
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await stream.close()


@pytest.mark.parametrize(
    ("client", "path", "symbol"),
    [(StockDataStream, "/v2/iex", "AAPL"), (CryptoDataStream, "/v1beta3/crypto/us", "BTC/USD")],
)
def test_official_stream_receives_what_is_sent(start, tmp_path: Path, client, path, symbol):
    # Trades, quotes and bars of three simulated minutes: each as it was sent, in order.
    full = tmp_path / "frames.jsonl"
    simulator = start(
        *SYMBOLS, "--rate", 20, "--speed", 40, "--duration", 130, "--wait", "--full", full,
        venue="alpaca",
    )  # fmt: skip
    got: dict[str, list[Any]] = {"trades": [], "quotes": [], "bars": []}

    def keep(channel: str) -> Callable[[Any], Awaitable[None]]:
        async def handler(event: Any) -> None:
            got[channel].append(event)

        return handler

    stream = client("a", "b", url_override=simulator.ws_url + path)
    stream.subscribe_trades(keep("trades"), symbol)
    stream.subscribe_quotes(keep("quotes"), symbol)
    stream.subscribe_bars(keep("bars"), symbol)

    def is_complete() -> bool:
        return all(len(of) == len(sent(full, f"{name}.{symbol}")) for name, of in got.items())

    asyncio.run(stream_until_done(simulator, stream, is_complete))
    for name, events in got.items():
        told = sent(full, f"{name}.{symbol}")
        assert len(events) == len(told) >= 2, name
        for event, payload in zip(events, told, strict=True):
            assert event.symbol == symbol
            assert event.timestamp == moment(payload["t"])
    trade, payload = got["trades"][-1], sent(full, f"trades.{symbol}")[-1]
    assert (trade.price, trade.size, trade.id) == (payload["p"], payload["s"], payload["i"])
    quote, payload = got["quotes"][-1], sent(full, f"quotes.{symbol}")[-1]
    assert (quote.bid_price, quote.ask_size) == (payload["bp"], payload["as"])
    bar, payload = got["bars"][-1], sent(full, f"bars.{symbol}")[-1]
    assert (bar.open, bar.close, bar.volume, bar.trade_count) == tuple(
        payload[key] for key in "ocvn"
    )


def moment(text: str) -> datetime:
    """Returns the time as the client holds it: in microseconds."""
    second, _, fraction = text.rstrip("Z").partition(".")
    micros = int(fraction.ljust(6, "0")[:6])
    return datetime.fromisoformat(second).replace(tzinfo=UTC, microsecond=micros)


def test_official_stream_is_told_of_a_wrong_key(start):
    simulator = start(*SYMBOLS, "--key", "a", "--secret", "b", venue="alpaca")

    async def main() -> None:
        stream = StockDataStream("a", "wrong", url_override=f"{simulator.ws_url}/v2/iex")

        async def ignore(event: Any) -> None:
            raise AssertionError(event)

        stream.subscribe_trades(ignore, "AAPL")
        await stream._connect()
        with pytest.raises(ValueError, match="auth failed"):
            await stream._auth()
        await stream.close()

    asyncio.run(main())


def test_official_requests_are_answered_page_by_page(start):
    # Ten simulated minutes at once: trades and bars in more pages than one, the latest quote.
    simulator = start(
        *SYMBOLS, "--rate", 20, "--speed", 0, "--duration", 600, "--key", "a", "--secret", "b",
        venue="alpaca",
    )  # fmt: skip
    begin = datetime.fromtimestamp(simulator.wait_done(60.0)["start_ns"] / 1e9, UTC)
    stocks = StockHistoricalDataClient("a", "b", url_override=simulator.rest_url)
    symbols = ["AAPL", "MSFT"]
    trades = stocks.get_stock_trades(StockTradesRequest(symbol_or_symbols=symbols, start=begin))
    for symbol in symbols:
        ids = [trade.id for trade in trades[symbol]]
        assert len(ids) == len(set(ids)) > 100
        assert ids == sorted(ids)
    whole = pages(simulator, "trades", symbols="MSFT,AAPL", limit="10000")
    assert {symbol: len(rows) for symbol, rows in whole.items()} == {
        symbol: len(trades[symbol]) for symbol in symbols
    }
    assert pages(simulator, "trades", symbols="MSFT,AAPL", limit="97") == whole
    request = StockBarsRequest(symbol_or_symbols="AAPL", timeframe=TimeFrame.Minute, start=begin)
    assert len(stocks.get_stock_bars(request)["AAPL"]) >= 9
    quote = stocks.get_stock_latest_quote(StockLatestQuoteRequest(symbol_or_symbols="AAPL"))
    assert quote["AAPL"].bid_price < quote["AAPL"].ask_price
    crypto = CryptoHistoricalDataClient(url_override=simulator.rest_url)
    deals = crypto.get_crypto_trades(CryptoTradesRequest(symbol_or_symbols="BTC/USD", start=begin))
    assert len(deals["BTC/USD"]) > 100
    bars = CryptoBarsRequest(symbol_or_symbols="BTC/USD", timeframe=TimeFrame.Minute, start=begin)
    assert len(crypto.get_crypto_bars(bars)["BTC/USD"]) >= 9
    wrong = StockHistoricalDataClient("a", "c", url_override=simulator.rest_url)
    with pytest.raises(APIError, match="forbidden"):
        wrong.get_stock_trades(StockTradesRequest(symbol_or_symbols="AAPL", start=begin))


@pytest.mark.slow
def test_stories_reach_official_clients_and_the_lake(
    start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # Beside the recorder, in JSON, a client of the venue, in msgpack: both are told of each story,
    # and of the correction of the first. Requests give the same stories, page by page.
    monkeypatch.setenv("APCA_API_KEY_ID", "ours")
    monkeypatch.setenv("APCA_API_SECRET_KEY", "x")
    simulator = start(*SYMBOLS, venue="alpaca")
    told: list[tuple[int, str]] = []

    async def main() -> Any:
        stream = NewsDataStream("theirs", "x", url_override=f"{simulator.ws_url}/v1beta1/news")

        async def take(story: Any) -> None:
            told.append((story.id, story.headline))

        stream.subscribe_news(take, "*")
        running = asyncio.create_task(stream._run_forever())
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(6.5, stop.set)
        config = AlpacaConfig(symbols=("*",), product="news", ws_url=simulator.ws_url)
        status = await record(config, tmp_path, stop, tape=TapeConfig("never"))
        await stream.stop_ws()
        running.cancel()
        return status

    status = asyncio.run(main())
    assert (status["outcome"]["spoke"], status["dead_letters"]) == (1, 0)
    derive(tmp_path, "alpaca-news")
    lake = tw.open(tmp_path)
    every = lake.sql("select id, headline, symbols from news_revisions order by tape_offset")
    found = [(int(row["id"]), row["headline"]) for row in every.to_pylist()]
    assert len(found) >= 3
    assert [one for one in told if one in found][: len(found)] == found
    assert (1, f"{dict(reversed(found))[1]} (corrected)") in found
    client = NewsClient("theirs", "x", url_override=simulator.rest_url)
    listed = [str(one.id) for one in client.get_news(NewsRequest(sort="asc")).data["news"]]
    assert {row["id"] for row in lake.news().to_pylist()} <= set(listed)
    token, paged = "", []
    while token is not None:
        asked = f"limit=2&sort=asc&page_token={token}"
        request = urllib.request.Request(
            f"{simulator.rest_url}/v1beta1/news?{asked}",
            headers={"APCA-API-KEY-ID": "a", "APCA-API-SECRET-KEY": "b"},
        )
        page = json.loads(urllib.request.urlopen(request).read())
        paged += [str(one["id"]) for one in page["news"]]
        token = page["next_page_token"]
    assert len(paged) >= len(set(paged)) >= len(listed)


def pages(simulator: Simulator, rows: str, **query: str) -> dict[str, list[Any]]:
    """Returns the rows of all pages of an answer, by symbol."""
    found: dict[str, list[Any]] = {}
    token: str | None = ""
    while token is not None:
        asked = urllib.parse.urlencode(query | ({"page_token": token} if token else {}))
        request = urllib.request.Request(
            f"{simulator.rest_url}/v2/stocks/{rows}?{asked}",
            headers={"APCA-API-KEY-ID": "a", "APCA-API-SECRET-KEY": "b"},
        )
        with urllib.request.urlopen(request) as answer:
            told = json.load(answer)
            assert answer.headers["X-RateLimit-Remaining"]
        for symbol, part in told[rows].items():
            found.setdefault(symbol, []).extend(part)
        assert sum(map(len, told[rows].values())) <= int(query["limit"])
        token = told["next_page_token"]
    return found


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("symbols=AAPL&timeframe=7Years", "invalid timeframe"),
        ("symbols=AAPL&timeframe=1Min&limit=0", "invalid limit"),
        ("symbols=AAPL&timeframe=1Min&start=now", "invalid time"),
        ("symbols=AAPL&timeframe=1Min&page_token=x", "invalid page_token"),
        ("timeframe=1Min", "symbols is required"),
    ],
)
def test_bad_requests_are_refused(start, query: str, text: str):
    simulator = start(*SYMBOLS, venue="alpaca")
    request = urllib.request.Request(
        f"{simulator.rest_url}/v2/stocks/bars?{query}",
        headers={"APCA-API-KEY-ID": "a", "APCA-API-SECRET-KEY": "b"},
    )
    with pytest.raises(urllib.error.HTTPError) as raised:
        urllib.request.urlopen(request)
    with raised.value as error:
        assert error.code == 400
        assert text in json.load(error)["message"]
