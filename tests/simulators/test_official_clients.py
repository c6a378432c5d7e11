"""The venue's own clients, unchanged, against the simulator; only the addresses are configured.

Each test compares everything that a client's callbacks were given with the simulator's own file of
every frame that it sent.
"""

# ruff: noqa: ASYNC110 - these wait for a server in another process.

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from binance import AsyncClient, BinanceSocketManager, Client
from binance_common.configuration import ConfigurationRestAPI, ConfigurationWebSocketStreams
from binance_common.errors import RateLimitBanError, TooManyRequestsError
from binance_sdk_derivatives_trading_coin_futures import DerivativesTradingCoinFutures
from binance_sdk_derivatives_trading_usds_futures import DerivativesTradingUsdsFutures
from binance_sdk_spot import Spot

# What the clients warn of in themselves is not ours.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]
MARKET = (
    "--symbols",
    "BTCUSDT",
    "BNBUSDT",
    "--rate",
    200,
    "--speed",
    4,
    "--duration",
    12,
    "--wait",
)
FAST = ("--rate", 500, "--speed", 50)
HISTORY = ("--symbols", "BTCUSDT", "BNBUSDT", *FAST)
COINM = (
    *("--symbols", "BTCUSD_PERP", "ETHUSD_PERP"),
    *("--rate", 200, "--speed", 4, "--duration", 12),
)


def wait_for_history(simulator: Any) -> None:
    """Lets half a simulated minute go by."""
    while (state := simulator.state())["now_ns"] - state["start_ns"] < 30 * 10**9:
        time.sleep(0.05)


def sent(path: Path, stream: str) -> list[dict[str, Any]]:
    """The payloads that the simulator sent on a stream, in order."""
    lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return [
        json.loads(line["payload"]) for line in lines if line["stream"] == stream and line["given"]
    ]


def plain(message: Any) -> Any:
    """What a model of the client holds, under the venue's names."""
    return message.to_dict() if hasattr(message, "to_dict") else message


def covers(wire: Any, got: Any) -> bool:
    """Whether everything that the client says was on the wire, with the same value."""
    if isinstance(wire, dict):
        return isinstance(got, dict) and all(
            key in wire and covers(wire[key], value)
            for key, value in got.items()
            if value is not None
        )
    return wire == (got.root if hasattr(got, "root") else got)


async def until_done(simulator: Any, is_complete: Callable[[], bool]) -> None:
    """Waits until all was sent, and then until all has arrived, a few seconds at most."""
    while not (await asyncio.to_thread(simulator.state))["done"]:
        await asyncio.sleep(0.1)
    for _ in range(50):
        if is_complete():
            return
        await asyncio.sleep(0.1)


def is_complete(full: Path, got: Mapping[str, list[Any]]) -> bool:
    """Whether all that was sent of each stream has arrived."""
    return all(len(messages) >= len(sent(full, name)) for name, messages in got.items())


def check_received(full: Path, got: Mapping[str, list[Any]]) -> None:
    """Compares what a client made of each stream with what was sent."""
    for name, messages in got.items():
        payloads = sent(full, name)
        assert len(messages) == len(payloads) > 5, name
        for payload, message in zip(payloads, messages, strict=True):
            assert covers(payload, plain(message)), (name, payload, message)


def test_spot_sdk_receives_what_is_sent(start, tmp_path: Path):
    # Four kinds of streams at once over one connection of the SDK.
    full = tmp_path / "frames.jsonl"
    simulator = start("--product", "spot", *MARKET, "--settle", 1.5, "--full", full)
    got: dict[str, list[Any]] = {}

    async def run() -> None:
        configuration = ConfigurationWebSocketStreams(stream_url=simulator.ws_url)
        client = Spot(config_ws_streams=configuration)
        connection = await client.websocket_streams.create_connection()
        try:
            for name, opening in {
                "bnbusdt@trade": connection.trade(symbol="bnbusdt"),
                "btcusdt@aggTrade": connection.agg_trade(symbol="btcusdt"),
                "btcusdt@bookTicker": connection.book_ticker(symbol="btcusdt"),
                "btcusdt@kline_1s": connection.kline(symbol="btcusdt", interval="1s"),
                "btcusdt@depth@100ms": connection.diff_book_depth(
                    symbol="btcusdt", update_speed="100ms"
                ),
            }.items():
                stream = await opening
                stream.on("message", got.setdefault(name, []).append)
            listed = await connection.list_subscribe()
            assert sorted(listed["result"]) == sorted(got)

            await until_done(simulator, lambda: is_complete(full, got))
        finally:
            await connection.close_connection(close_session=True)

    asyncio.run(run())
    check_received(full, got)


def test_spot_sdk_reads_every_answer(start):
    # Each REST method for market data, in microseconds as well, and what the SDK makes of refusals.
    simulator = start("--product", "spot", *HISTORY)
    wait_for_history(simulator)
    configuration = ConfigurationRestAPI(base_path=simulator.rest_url, retries=0)
    api = Spot(config_rest_api=configuration).rest_api
    assert api.ping().status == 200
    assert api.time().data().server_time > 10**12
    info = api.exchange_info().data()
    assert [entry.symbol for entry in info.symbols] == ["BTCUSDT", "BNBUSDT"]
    assert [entry.symbol for entry in api.exchange_info(symbol="BNBUSDT").data().symbols] == [
        "BNBUSDT"
    ]
    depth = api.depth(symbol="BTCUSDT", limit=1000).data()
    assert len(depth.bids) > 100
    assert float(depth.bids[0][0]) < float(depth.asks[0][0])
    trades = api.get_trades(symbol="BTCUSDT", limit=10).data()
    assert len(trades) == 10
    older = api.historical_trades(symbol="BTCUSDT", limit=5, from_id=trades[0].id).data()
    assert [trade.id for trade in older] == [trade.id for trade in trades[:5]]
    aggregates = api.agg_trades(symbol="BTCUSDT", limit=10).data()
    assert len({aggregate.a for aggregate in aggregates}) == 10
    klines = api.klines(symbol="BTCUSDT", interval="1s", limit=5).data()
    assert len(klines) == 5
    used = api.klines(symbol="BTCUSDT", interval="1s").rate_limits
    assert used[0].count > 100
    with pytest.raises(Exception, match="Invalid symbol"):
        api.depth(symbol="NOTHING")
    simulator.fault("rest_429", amount=7)
    with pytest.raises(TooManyRequestsError) as refused:
        api.ping()
    assert refused.value.retry_after == 7
    simulator.fault("rest_418")
    with pytest.raises(RateLimitBanError):
        api.ping()


def test_futures_sdk_receives_what_is_sent(start, tmp_path: Path):
    # The SDK opens three sockets, one for each routed path, and spreads the streams over them.
    full = tmp_path / "frames.jsonl"
    simulator = start("--product", "usdm", *MARKET, "--settle", 1.5, "--full", full)
    got: dict[str, list[Any]] = {}

    async def run() -> None:
        configuration = ConfigurationWebSocketStreams(stream_url=simulator.ws_url)
        client = DerivativesTradingUsdsFutures(config_ws_streams=configuration)
        connection = await client.websocket_streams.create_connection()
        try:
            for name, opening in {
                "bnbusdt@aggTrade": connection.aggregate_trade_streams(symbol="bnbusdt"),
                "btcusdt@bookTicker": connection.individual_symbol_book_ticker_streams(
                    symbol="btcusdt"
                ),
                "btcusdt@depth@100ms": connection.diff_book_depth_streams(
                    symbol="btcusdt", update_speed="100ms"
                ),
                "btcusdt@markPrice@1s": connection.mark_price_stream(
                    symbol="btcusdt", update_speed="1s"
                ),
                "btcusdt@kline_1m": connection.kline_candlestick_streams(
                    symbol="btcusdt", interval="1m"
                ),
            }.items():
                stream = await opening
                stream.on("message", got.setdefault(name, []).append)

            await until_done(simulator, lambda: is_complete(full, got))
        finally:
            await connection.close_connection(close_session=True)

    asyncio.run(run())
    check_received(full, got)


def test_futures_sdk_reads_every_answer(start):
    simulator = start("--product", "usdm", *HISTORY)
    wait_for_history(simulator)
    configuration = ConfigurationRestAPI(base_path=simulator.rest_url, retries=0)
    api = DerivativesTradingUsdsFutures(config_rest_api=configuration).rest_api
    info = api.exchange_information().data()
    assert [entry.symbol for entry in info.symbols] == ["BTCUSDT", "BNBUSDT"]
    depth = api.order_book(symbol="BTCUSDT", limit=100).data()
    assert len(depth.bids) == 100
    assert depth.E is not None
    assert len(api.recent_trades_list(symbol="BTCUSDT", limit=10).data()) == 10
    assert len(api.compressed_aggregate_trades_list(symbol="BTCUSDT", limit=10).data()) == 10
    assert api.kline_candlestick_data(symbol="BTCUSDT", interval="1m", limit=5).data()


def test_coin_futures_sdk_receives_what_is_sent(start, tmp_path: Path):
    # One socket for all streams; sizes are numbers of contracts.
    full = tmp_path / "frames.jsonl"
    simulator = start("--product", "coinm", *COINM, "--wait", "--settle", 1.5, "--full", full)
    got: dict[str, list[Any]] = {}

    async def run() -> None:
        configuration = ConfigurationWebSocketStreams(stream_url=simulator.ws_url)
        client = DerivativesTradingCoinFutures(config_ws_streams=configuration)
        connection = await client.websocket_streams.create_connection()
        try:
            for name, opening in {
                "ethusd_perp@aggTrade": connection.aggregate_trade_streams(symbol="ethusd_perp"),
                "btcusd_perp@bookTicker": connection.individual_symbol_book_ticker_streams(
                    symbol="btcusd_perp"
                ),
                "btcusd_perp@depth@100ms": connection.diff_book_depth_streams(
                    symbol="btcusd_perp", update_speed="100ms"
                ),
                "btcusd_perp@kline_1m": connection.kline_candlestick_streams(
                    symbol="btcusd_perp", interval="1m"
                ),
            }.items():
                stream = await opening
                stream.on("message", got.setdefault(name, []).append)

            await until_done(simulator, lambda: is_complete(full, got))
        finally:
            await connection.close_connection(close_session=True)

    asyncio.run(run())
    check_received(full, got)


def test_coin_futures_sdk_reads_every_answer(start):
    simulator = start("--product", "coinm", "--symbols", "BTCUSD_PERP", *FAST)
    wait_for_history(simulator)
    configuration = ConfigurationRestAPI(base_path=simulator.rest_url, retries=0)
    api = DerivativesTradingCoinFutures(config_rest_api=configuration).rest_api
    [listed] = api.exchange_information().data().symbols
    assert (listed.symbol, listed.pair, listed.contract_size) == ("BTCUSD_PERP", "BTCUSD", 100)
    depth = api.order_book(symbol="BTCUSD_PERP", limit=100).data()
    assert (len(depth.bids), depth.pair) == (100, "BTCUSD")
    assert len(api.recent_trades_list(symbol="BTCUSD_PERP", limit=10).data()) == 10
    assert len(api.compressed_aggregate_trades_list(symbol="BTCUSD_PERP", limit=10).data()) == 10
    assert api.kline_candlestick_data(symbol="BTCUSD_PERP", interval="1m", limit=5).data()


@pytest.mark.parametrize("product", ["spot", "usdm"])
def test_python_binance_receives_what_is_sent(start, tmp_path: Path, product: str):
    # Streams in the URL, combined, over its socket manager.
    full = tmp_path / "frames.jsonl"
    simulator = start("--product", product, *MARKET, "--settle", 0.8, "--full", full)
    streams = ["bnbusdt@aggTrade", "btcusdt@kline_1m"]
    if product == "spot":
        streams = ["bnbusdt@trade", "btcusdt@bookTicker", "btcusdt@depth@100ms"]
    got: dict[str, list[Any]] = {name: [] for name in streams}

    async def run() -> None:
        client = AsyncClient()
        try:
            sockets = BinanceSocketManager(client)
            sockets.STREAM_URL = f"{simulator.ws_url}/"
            sockets.FSTREAM_URL = f"{simulator.ws_url}/"
            make = sockets.multiplex_socket
            if product == "usdm":
                make = sockets.futures_multiplex_socket
            async with make(streams) as socket:

                async def read() -> None:
                    while True:
                        frame = await socket.recv()
                        assert "stream" in frame, frame
                        got[frame["stream"]].append(frame["data"])

                reading = asyncio.create_task(read())

                def is_complete() -> bool:
                    return all(len(got[name]) >= len(sent(full, name)) for name in got)

                await until_done(simulator, is_complete)
                reading.cancel()
        finally:
            await client.close_connection()

    asyncio.run(run())
    for name, messages in got.items():
        assert messages == sent(full, name), name
        assert len(messages) > 5


def test_python_binance_reads_every_answer(start):
    simulator = start("--product", "spot", *HISTORY)
    wait_for_history(simulator)

    class Local(Client):
        """The client with another address: it has no setting for it."""

        API_URL = f"{simulator.rest_url}/api"

    # The client would make an event loop that nobody closes.
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    client = Local()
    try:
        assert client.get_exchange_info()["symbols"][0]["symbol"] == "BTCUSDT"
        assert client.get_order_book(symbol="BTCUSDT", limit=100)["lastUpdateId"] > 0
        assert len(client.get_recent_trades(symbol="BTCUSDT", limit=10)) == 10
        assert len(client.get_aggregate_trades(symbol="BTCUSDT", limit=10)) == 10
        assert client.get_klines(symbol="BTCUSDT", interval="1m")
        assert client.get_orderbook_ticker(symbol="BTCUSDT")["symbol"] == "BTCUSDT"
    finally:
        client.close_connection()
        asyncio.set_event_loop(None)
        loop.close()
