"""Options, indices, price bands and fair values: by the venues' own clients, and into the lake."""

import asyncio
import contextlib
import importlib
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from alpaca.data.historical import OptionHistoricalDataClient, StockHistoricalDataClient
from alpaca.data.live import OptionDataStream
from alpaca.data.requests import OptionTradesRequest, StockQuotesRequest
from tests.conftest import Start, derive
from tests.simulators.test_alpaca_simulator import moment, sent, stream_until_done

import tapeworks as tw
from tapeworks.feeds.alpaca.config import AlpacaConfig
from tapeworks.feeds.massive.config import MassiveConfig
from tapeworks.feeds.session import record
from tapeworks.tape import TapeConfig

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(120),
    # What the clients warn of in themselves is not ours.
    pytest.mark.filterwarnings("default"),
]
OPTION, CONTRACT = "O:SPY251219C00650000", "AAPL240308C00172500"
MASSIVE = ("--symbols", "AAPL", OPTION, "I:SPX", "--rate", 40)
ALPACA = ("--symbols", "AAPL", CONTRACT, "--rate", 40)


@pytest.mark.parametrize(
    ("market", "names"),
    [
        ("stocks", ("LULD.AAPL", "FMV.AAPL")),
        ("options", (f"T.{OPTION}", f"Q.{OPTION}", f"FMV.{OPTION}")),
        ("indices", ("V.I:SPX",)),
    ],
)
def test_massive_streams_reach_its_client_as_they_were_sent(
    start: Start, tmp_path: Path, market: str, names: tuple[str, ...]
) -> None:
    # Ten simulated seconds: each event once, in order, with its value.
    full, got = tmp_path / "frames.jsonl", {name: list[Any]() for name in names}
    words = ("--speed", 10, "--duration", 10, "--wait", "--full", full)
    simulator = start(*MASSIVE, *words, venue="massive")
    client = importlib.import_module("massive")
    symbol = names[0].partition(".")[2]

    async def handle(events: list[Any]) -> None:
        for event in events:
            got[f"{event.event_type}.{symbol}"].append(event)

    def is_complete() -> bool:
        return all(len(of) == len(sent(full, name)) for name, of in got.items())

    async def main() -> None:
        feed = simulator.ws_url.removeprefix("ws://")
        stream = client.WebSocketClient(
            api_key="k", feed=feed, market=market, secure=False, subscriptions=list(names)
        )
        running = asyncio.create_task(stream.connect(handle))
        until = time.monotonic() + 90
        while not (simulator.state()["done"] and is_complete()):
            assert time.monotonic() < until, {name: len(of) for name, of in got.items()}
            await asyncio.sleep(0.1)
        await stream.close()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running

    asyncio.run(main())
    values = {"LULD": ("high_price", "h"), "FMV": ("fmv", "fmv"), "V": ("value", "val")}
    values |= {"T": ("price", "p"), "Q": ("bid_price", "bp")}
    for name, events in got.items():
        told = sent(full, name)
        assert len(events) == len(told) >= 5, name
        held, key = values[name.partition(".")[0]]
        assert [getattr(event, held) for event in events] == [one[key] for one in told], name


def test_options_of_alpaca_reach_its_client_as_they_were_sent(start: Start, tmp_path: Path) -> None:
    # By msgpack alone, as the venue has it; trades have no id.
    full, got = tmp_path / "frames.jsonl", {"trades": list[Any](), "quotes": list[Any]()}
    words = ("--speed", 10, "--duration", 10, "--wait", "--full", full)
    simulator = start(*ALPACA, *words, venue="alpaca")

    def keep(channel: str) -> Callable[[Any], Awaitable[None]]:
        async def handler(event: Any) -> None:
            got[channel].append(event)

        return handler

    stream = OptionDataStream("a", "b", url_override=f"{simulator.ws_url}/v1beta1/indicative")
    stream.subscribe_trades(keep("trades"), CONTRACT)
    stream.subscribe_quotes(keep("quotes"), CONTRACT)

    def is_complete() -> bool:
        return all(len(of) == len(sent(full, f"{name}.{CONTRACT}")) for name, of in got.items())

    asyncio.run(stream_until_done(simulator, stream, is_complete))
    for name, events in got.items():
        told = sent(full, f"{name}.{CONTRACT}")
        assert len(events) == len(told) >= 5, name
        for event, payload in zip(events, told, strict=True):
            assert (event.symbol, event.timestamp) == (CONTRACT, moment(payload["t"]))
    assert got["trades"][-1].price == sent(full, f"trades.{CONTRACT}")[-1]["p"]


def test_quotes_of_the_past_are_those_that_were_streamed(start: Start) -> None:
    # A simulated minute at once, in pages that its clients follow.
    words = ("--speed", 0, "--duration", 60)
    simulator = start(*MASSIVE, *words, venue="massive")
    simulator.wait_done(90.0)
    rest = importlib.import_module("massive").RESTClient(api_key="k", base=simulator.rest_url)
    for ticker in ("AAPL", OPTION):
        quotes = list(rest.list_quotes(ticker, limit=97, order="asc"))
        numbers = [quote.sequence_number for quote in quotes]
        assert len(numbers) > 200
        assert numbers == sorted(set(numbers))
        assert all(quote.bid_price < quote.ask_price for quote in quotes)
        newest = list(rest.list_quotes(ticker, limit=1_000))
        assert [quote.sequence_number for quote in newest] == numbers[::-1]
    simulator = start(*ALPACA, *words, venue="alpaca")
    simulator.wait_done(90.0)
    stocks = StockHistoricalDataClient("a", "b", url_override=simulator.rest_url)
    found = stocks.get_stock_quotes(StockQuotesRequest(symbol_or_symbols="AAPL", limit=1_500))
    times = [quote.timestamp for quote in found["AAPL"]]
    assert len(times) > 200
    assert times == sorted(times)
    options = OptionHistoricalDataClient("a", "b", url_override=simulator.rest_url)
    trades = options.get_option_trades(OptionTradesRequest(symbol_or_symbols=CONTRACT))
    assert len(trades[CONTRACT]) > 100


STREAMED: list[tuple[str, str, str, dict[str, str]]] = [
    ("massive", "stocks", "AAPL", {"LULD": "statuses", "FMV": "marks", "T": "trades"}),
    ("massive", "options", OPTION, {"T": "trades", "Q": "quotes", "FMV": "marks"}),
    ("massive", "indices", "I:SPX", {"V": "marks"}),
    ("alpaca", "iex", "AAPL", {"lulds": "statuses", "quotes": "quotes"}),
    ("alpaca", "options", CONTRACT, {"trades": "trades", "quotes": "quotes"}),
]
"""Venue, product and symbol, and which table each channel fills."""


def test_all_of_them_are_recorded_without_a_loss(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Five sources at once: each event that the exchanges sent is a row of its table.
    for name in ("MASSIVE_API_KEY", "APCA_API_KEY_ID", "APCA_API_SECRET_KEY"):
        monkeypatch.setenv(name, "any")
    simulators = {"massive": start(*MASSIVE, venue="massive")}
    simulators["alpaca"] = start(*ALPACA, venue="alpaca")
    configs = []
    for venue, product, symbol, tables in STREAMED:
        make: Any = MassiveConfig if venue == "massive" else AlpacaConfig
        more = {"encoding": "msgpack"} if (venue, product) == ("alpaca", "options") else {}
        names = {"symbols": (symbol,), "product": product, "channels": tuple(tables)}
        configs.append(make(ws_url=simulators[venue].ws_url, **names, **more))

    async def run() -> dict[str, Any]:
        stop, tape = asyncio.Event(), TapeConfig("never")
        recorders = [asyncio.create_task(record(one, tmp_path, stop, tape=tape)) for one in configs]
        await asyncio.sleep(7.0)
        for simulator in simulators.values():
            await asyncio.to_thread(simulator.ask, "pause", {"paused": True})
        await asyncio.sleep(1.0)
        stop.set()
        await asyncio.gather(*recorders)
        return {venue: simulator.oracle() for venue, simulator in simulators.items()}

    oracles = asyncio.run(run())
    for config, (venue, _, symbol, tables) in zip(configs, STREAMED, strict=True):
        derive(tmp_path, config.name)
        lake = tw.open(tmp_path)
        for channel, table in tables.items():
            sql = f"select count(*) as n from {table} where venue = '{config.name}'"
            told = oracles[venue]["delivered"][f"{channel}.{symbol}"]["count"]
            assert lake.sql(sql).to_pylist()[0]["n"] == told >= 3, (config.name, channel)
        assert lake.gaps(source=config.name).to_pylist() == []
