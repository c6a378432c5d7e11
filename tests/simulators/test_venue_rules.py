"""The rules of the venue that the simulator keeps: paths, control messages, limits, weights."""

# ruff: noqa: ASYNC110 - these wait for a server in another process.

import asyncio
import json
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import Any

import pytest
from picows import WSListener, WSMsgType, ws_connect

from tapeworks.simulators.binance.config import parse_arguments


class Talker(WSListener):
    """A connection that a test talks over; it answers pings only if told to."""

    def __init__(self) -> None:
        self.texts: list[Any] = []
        self.pings: list[bytes] = []
        self.closed: tuple[int, bytes] | None = None
        self.pong = True

    def on_ws_frame(self, transport: Any, frame: Any) -> None:
        match frame.msg_type:
            case WSMsgType.TEXT:
                self.texts.append(json.loads(frame.get_payload_as_bytes()))
            case WSMsgType.PING:
                self.pings.append(frame.get_payload_as_bytes())
                if self.pong:
                    transport.send_pong(frame.get_payload_as_bytes())
            case WSMsgType.CLOSE:
                self.closed = (frame.get_close_code(), frame.get_close_message() or b"")
                transport.disconnect()


class Line:
    """An open connection."""

    def __init__(self, transport: Any, talker: Talker) -> None:
        self.transport = transport
        self.talker = talker

    def send(self, message: Any) -> None:
        text = message if isinstance(message, str) else json.dumps(message)
        self.transport.send(WSMsgType.TEXT, text.encode())

    async def ask(self, message: Any) -> Any:
        """Sends and returns the next reply; data frames are passed over."""
        self.send(message)
        for _ in range(300):
            for at, text in enumerate(self.talker.texts):
                if "id" in text:
                    del self.talker.texts[at]
                    return text
            await asyncio.sleep(0.01)
        raise AssertionError("no reply")

    async def data(self, count: int = 1, timeout_s: float = 3.0) -> list[Any]:
        until = time.monotonic() + timeout_s
        while time.monotonic() < until and len(self.talker.texts) < count:
            await asyncio.sleep(0.01)
        return self.talker.texts

    async def until_closed(self, timeout_s: float = 5.0) -> None:
        async with asyncio.timeout(timeout_s):
            await self.transport.wait_disconnected()


async def connect(simulator: Any, path: str, *, pong: bool = True) -> Line:
    talker = Talker()
    talker.pong = pong
    transport, _ = await ws_connect(lambda: talker, simulator.ws_url + path, enable_auto_pong=False)
    return Line(transport, talker)


async def leave(*lines: Line) -> None:
    for line in lines:
        line.transport.disconnect()
        await line.transport.wait_disconnected()


def test_each_form_of_address_speaks_as_it_should(start):
    # Combined paths give envelopes, raw ones bare payloads; several raw streams share a path.
    simulator = start("--symbols", "BTCUSDT", "ETHUSDT", "--rate", 300)

    async def run() -> None:
        for path, is_combined in {
            "/ws/btcusdt@bookTicker": False,
            "/ws/btcusdt@bookTicker/ethusdt@bookTicker": False,
            "/stream?streams=btcusdt@bookTicker/ethusdt@bookTicker": True,
            "/market/ws/btcusdt@bookTicker": False,
            "/stream?streams=btcusdt%40bookTicker": True,
        }.items():
            line = await connect(simulator, path)
            frames = await line.data(20)
            assert all(("stream" in frame) == is_combined for frame in frames), path
            symbols = {(frame["data"] if is_combined else frame)["s"] for frame in frames}
            assert symbols == ({"BTCUSDT", "ETHUSDT"} if "/ethusdt" in path else {"BTCUSDT"})
            await leave(line)

    asyncio.run(run())


def test_microseconds_are_given_where_asked_for(start):
    simulator = start("--symbols", "BTCUSDT", "--rate", 500)

    async def run() -> None:
        for unit, digits in (("timeUnit=MICROSECOND", 16), ("timeUnit=microsecond", 16), ("", 13)):
            line = await connect(simulator, f"/stream?{unit}")
            await line.ask({"method": "SUBSCRIBE", "params": ["btcusdt@trade"], "id": 1})
            frames = await line.data(3)
            assert {len(str(frame["data"]["T"])) for frame in frames} == {digits}
            await leave(line)

    asyncio.run(run())
    request = urllib.request.Request(
        f"{simulator.rest_url}/api/v3/time", headers={"X-MBX-TIME-UNIT": "MICROSECOND"}
    )
    with urllib.request.urlopen(request) as answer:
        assert len(str(json.load(answer)["serverTime"])) == 16


CONTROL: list[tuple[Any, Any]] = [
    ({"method": "SUBSCRIBE", "params": ["btcusdt@trade"], "id": 1}, {"result": None, "id": 1}),
    ({"method": "SUBSCRIBE", "params": ["btcusdt@x"], "id": "a-b"}, {"result": None, "id": "a-b"}),
    (
        {"method": "LIST_SUBSCRIPTIONS", "id": None},
        {"result": ["btcusdt@trade", "btcusdt@x"], "id": None},
    ),
    ({"method": "UNSUBSCRIBE", "params": ["btcusdt@trade"], "id": 2}, {"result": None, "id": 2}),
    ({"method": "LIST_SUBSCRIPTIONS", "id": 3}, {"result": ["btcusdt@x"], "id": 3}),
    ({"method": "GET_PROPERTY", "params": ["combined"], "id": 4}, {"result": True, "id": 4}),
    (
        {"method": "SET_PROPERTY", "params": ["combined", False], "id": 5},
        {"result": None, "id": 5},
    ),
    ({"method": "GET_PROPERTY", "params": ["combined"], "id": 6}, {"result": False, "id": 6}),
    ({"method": "GET_PROPERTY", "params": ["other"], "id": 7}, (0, 7)),
    ({"method": "SET_PROPERTY", "params": ["combined", "yes"], "id": 8}, (1, 8)),
    ({"method": "NOTHING", "id": 9}, (2, 9)),
    ({"params": ["btcusdt@trade"], "id": 10}, (2, 10)),
    ({"method": "SUBSCRIBE", "params": ["btcusdt"], "id": 11}, (2, 11)),
    ({"method": "SUBSCRIBE", "params": [], "id": 12}, (2, 12)),
    ({"method": "SUBSCRIBE", "params": ["btcusdt@trade"], "id": 1.5}, (2, None)),
    ({"method": "SUBSCRIBE", "params": ["btcusdt@trade"], "id": "x" * 37}, (2, None)),
    ("[1,2]", (2, None)),
    ("{not json", (3, None)),
]


def test_control_messages_are_answered_as_documented(start):
    # One conversation; errors in the nested form, with the id where it could be read.
    simulator = start("--symbols", "BTCUSDT", "--messages-per-s", 1000)

    async def run() -> None:
        line = await connect(simulator, "/stream")
        for message, wanted in CONTROL:
            reply = await line.ask(message)
            if isinstance(wanted, tuple):
                assert (reply["error"]["code"], reply["id"]) == wanted, message
            else:
                assert reply == wanted, message
        await leave(line)

    asyncio.run(run())


def test_too_many_streams_and_messages_are_refused(start):
    simulator = start("--symbols", "BTCUSDT", "--streams-max", 3)

    async def run() -> None:
        line = await connect(simulator, "/ws")
        names = [f"s{number}@trade" for number in range(4)]
        reply = await line.ask({"method": "SUBSCRIBE", "params": names, "id": 1})
        assert reply["error"]["code"] == 2
        for _ in range(6):
            line.send({"method": "LIST_SUBSCRIPTIONS", "id": 2})
        await line.until_closed()
        assert line.talker.closed == (1008, b"Too many requests")

    asyncio.run(run())


def test_pings_must_be_answered_and_age_ends_a_connection(start):
    # One connection answers and lives until its age; the other is silent and is dropped before.
    simulator = start("--symbols", "BTCUSDT", "--ping-s", 0.3, "--pong-s", 0.4, "--age-s", 2)

    async def run() -> None:
        begin = time.monotonic()
        live = await connect(simulator, "/ws")
        dead = await connect(simulator, "/ws", pong=False)
        await dead.until_closed()
        assert time.monotonic() - begin < 1.8
        assert dead.talker.closed == (1008, b"Pong timeout")
        await live.until_closed()
        assert time.monotonic() - begin > 1.9
        assert len(live.talker.pings) >= 4
        assert live.talker.pings[0].isdigit()

    asyncio.run(run())


def test_wrong_path_of_futures_is_silence(start):
    # The venue accepts the subscription, lists it, and sends nothing.
    simulator = start("--product", "usdm", "--symbols", "BTCUSDT", "--rate", 300)

    async def run() -> None:
        for path, name, speaks in (
            ("/public", "btcusdt@bookTicker", True),
            ("/public", "btcusdt@depth@100ms", True),
            ("/public", "btcusdt@aggTrade", False),
            ("/market", "btcusdt@aggTrade", True),
            ("/market", "btcusdt@bookTicker", False),
            ("/private", "btcusdt@bookTicker", False),
            ("", "btcusdt@bookTicker", False),
        ):
            line = await connect(simulator, f"{path}/stream")
            await line.ask({"method": "SUBSCRIBE", "params": [name], "id": 1})
            frames = await line.data(1, 3.0 if speaks else 0.5)
            assert bool(frames) == speaks, (path, name)
            await leave(line)

    asyncio.run(run())


def get(url: str) -> tuple[int, dict[str, str], Any]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, dict(answer.headers), json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), json.load(error)


@pytest.mark.parametrize(
    ("product", "path", "weight"),
    [
        ("spot", "/api/v3/ping", 1),
        ("spot", "/api/v3/exchangeInfo", 20),
        ("spot", "/api/v3/depth?symbol=BTCUSDT", 5),
        ("spot", "/api/v3/depth?symbol=BTCUSDT&limit=5000", 250),
        ("spot", "/api/v3/depth?symbol=BTCUSDT&limit=9999", 250),
        ("spot", "/api/v3/aggTrades?symbol=BTCUSDT", 4),
        ("usdm", "/fapi/v1/depth?symbol=BTCUSDT&limit=1000", 20),
        ("usdm", "/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=1500", 10),
        ("usdm", "/fapi/v1/ticker/bookTicker?symbol=BTCUSDT", 2),
        ("coinm", "/dapi/v1/depth?symbol=BTCUSD_PERP&limit=1000", 20),
    ],
)
def test_requests_have_their_weights(start, product: str, path: str, weight: int):
    symbol = "BTCUSD_PERP" if product == "coinm" else "BTCUSDT"
    simulator = start("--product", product, "--symbols", symbol)
    status, headers, _ = get(simulator.rest_url + path)
    assert (status, int(headers["X-MBX-USED-WEIGHT-1M"])) == (200, weight)


def test_bad_requests_are_refused_with_the_venues_codes(start):
    simulator = start("--symbols", "BTCUSDT")
    for path, code in {
        "depth?symbol=NOTHING": -1121,
        "depth": -1102,
        "depth?symbol=BTCUSDT&limit=x": -1100,
        "klines?symbol=BTCUSDT&interval=7m": -1120,
        "exchangeInfo?symbol=NOTHING": -1121,
        "exchangeInfo?symbols=BTCUSDT": -1101,
    }.items():
        status, _, body = get(f"{simulator.rest_url}/api/v3/{path}")
        assert (status, body["code"]) == (400, code), path


def test_too_much_weight_is_429_and_then_418(start):
    # The budget is spent; the sixth refused request turns the wait into a ban.
    simulator = start("--symbols", "BTCUSDT", "--weight-per-minute", 100, "--ban-s", 33)
    answers = [get(f"{simulator.rest_url}/api/v3/exchangeInfo") for _ in range(14)]
    statuses = [status for status, _, _ in answers]
    # A new minute may begin amid the test, and then the budget is there once more.
    assert statuses[:5] == [200] * 5
    assert statuses[-1] == 418
    assert 429 in statuses
    assert answers[-1][1]["Retry-After"] in ("33", "32")
    assert answers[-1][2]["code"] == -1003
    first = statuses.index(429)
    assert 1 <= int(answers[first][1]["Retry-After"]) <= 60


def test_history_pages_by_id_and_time(start):
    # Trades by id; aggregates in a window of time; bars that equal what the trades come to.
    simulator = start("--symbols", "BTCUSDT", "--rate", 500, "--speed", 20)
    time.sleep(1.5)
    url = f"{simulator.rest_url}/api/v3"
    last = get(f"{url}/trades?symbol=BTCUSDT&limit=100")[2]
    ids = [trade["id"] for trade in last]
    assert ids == list(range(ids[0], ids[0] + 100))
    page = get(f"{url}/historicalTrades?symbol=BTCUSDT&limit=10&fromId={ids[5]}")[2]
    assert [trade["id"] for trade in page] == ids[5:15]
    assert page == last[5:15]
    begin, end = last[0]["time"], last[50]["time"]
    found = get(f"{url}/aggTrades?symbol=BTCUSDT&startTime={begin}&endTime={end}")[2]
    assert found
    assert all(begin <= trade["T"] <= end for trade in found)
    bars = get(f"{url}/klines?symbol=BTCUSDT&interval=1s&limit=10")[2]
    assert [bar[0] for bar in bars] == [bars[0][0] + 1000 * number for number in range(10)]


def test_help_explains_every_option(capsys, monkeypatch):
    # What stands for the value, and then what it means, also of the options that a market has not.
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit):
        parse_arguments(["--help"], "tape simulate binance")
    _, *groups = capsys.readouterr().out.split("\n\n")
    text = "\n".join(groups)
    options = re.findall(r"^  (?:-h, )?--([a-z-]+)(.*(?:\n {20,}.*)*)", text, flags=re.MULTILINE)
    assert len(options) > 24
    mute = [name for name, told in options if len(re.findall(r"[a-z]{2,}", told)) < 3]
    assert mute == []
    assert "20 spot, 180 usdm" in text
    assert "simulated second" in text


def test_port_in_use_is_one_line():
    # Another program has it: which port, and what to do; no traceback.
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        shown = subprocess.run(
            [sys.executable, "-m", "tapeworks.simulators.binance", "--port", str(port)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert shown.returncode == 1
    told = f"127.0.0.1:{port} is in use: name another --port, or 0 for a free one\n"
    assert shown.stderr == f"python -m tapeworks.simulators.binance: {told}"


def test_no_event_is_ahead_of_the_clock(start):
    # A pause lets every depth stream tell all, at the next tenth of a second: when that is over.
    simulator = start("--symbols", "BTCUSDT")
    for _ in range(4):
        told_ns = simulator.ask("pause", {"paused": True})["now_ns"]
        assert told_ns % 100_000_000 == 0
        assert told_ns <= time.time_ns()
        simulator.ask("pause", {"paused": False})
        time.sleep(0.013)
