"""Recordings served over a real WebSocket: every byte again, in order, at any speed."""

# ruff: noqa: ASYNC110 - these wait for a server in another process.

import asyncio
import gzip
import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from picows import WSListener, ws_connect


class Reader(WSListener):
    """Keeps every frame."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def on_ws_frame(self, transport: Any, frame: Any) -> None:
        self.frames.append(frame.get_payload_as_bytes())


def ask(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return json.load(answer)


async def play(simulator: Any, path: str, book: str | None = None) -> tuple[list[bytes], Any]:
    """Listens on `path` until all was played; asks for the book with the first frame."""
    reader = Reader()
    transport, _ = await ws_connect(lambda: reader, simulator.ws_url + path)
    answer = None
    if book:
        while not reader.frames:
            await asyncio.sleep(0.01)
        answer = await asyncio.to_thread(ask, simulator.rest_url + book)
    while True:
        state = await asyncio.to_thread(simulator.state)
        if state["done"] and not state["unread_bytes"]:
            break
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.2)
    transport.disconnect()
    await transport.wait_disconnected()
    return reader.frames, answer


def write_recording(path: Path, count: int = 300) -> list[str]:
    """A recording in the form of the real ones: depth, a book after the third event, trades."""
    start, lines, frames = 1_723_161_254_000_000_000, [], []
    for number in range(count):
        first = 1000 + number * 5
        data: dict[str, Any] = {
            "e": "depthUpdate", "E": start // 10**6, "s": "BTCUSDT", "U": first, "u": first + 4,
            "b": [["100.10", str(number + 1)]], "a": [["100.20", "0"], ["100.30", "2.5"]],
        }  # fmt: skip
        stream = "btcusdt@depth@100ms"
        if number % 3 == 1:
            data = {"e": "trade", "s": "BTCUSDT", "t": number, "p": "100.1", "q": "1"}
            stream = "btcusdt@trade"
        frame = json.dumps({"stream": stream, "data": data}, separators=(",", ":"))
        lines.append(f"{start + number * 10_000_000} {frame}")
        frames.append(frame)
        if number == 3:
            book = {"lastUpdateId": first + 2, "bids": [["100.10", "9"]], "asks": [["100.20", "1"]]}
            lines.append(f"{start + number * 10_000_000 + 1} {json.dumps(book)}")
    with gzip.open(path, "wt") as file:
        file.write("\n".join(lines) + "\n")
    return frames


@pytest.mark.parametrize("speed", ["0", "5"])
def test_every_recorded_frame_is_sent_again(start, tmp_path: Path, speed: str):
    # Flat out and at five times: the same bytes in the same order; the book bridges the stream.
    path = tmp_path / "spot.gz"
    frames = write_recording(path)
    simulator = start("--speed", speed, playback=[path])
    url = "/stream?streams=btcusdt@depth@100ms/btcusdt@trade"
    book = "/api/v3/depth?symbol=BTCUSDT&limit=5000"
    got, answer = asyncio.run(play(simulator, url, book))
    assert [frame.decode() for frame in got] == frames
    assert answer["lastUpdateId"] == 1017
    # Later, the venue answers with the book as the stream has left it.
    later = ask(simulator.rest_url + book)
    assert later["lastUpdateId"] == 1000 + 299 * 5 + 4
    assert later["bids"] == [["100.10", "300"]]
    assert later["asks"] == [["100.30", "2.5"]]
    info = ask(simulator.rest_url + "/api/v3/exchangeInfo?symbol=BTCUSDT")
    assert info["symbols"][0]["baseAsset"] == "BTC"


def test_speed_is_kept(start, tmp_path: Path):
    # Three seconds of recording at six times take half a second and not much more.
    path = tmp_path / "spot.gz"
    write_recording(path)
    simulator = start("--speed", "6", playback=[path])

    async def run() -> float:
        loop = asyncio.get_running_loop()
        reader = Reader()
        transport, _ = await ws_connect(lambda: reader, simulator.ws_url + "/ws/btcusdt@trade")
        while not reader.frames:
            await asyncio.sleep(0.001)
        begin = loop.time()
        while len(reader.frames) < 100:
            await asyncio.sleep(0.001)
        took_s = loop.time() - begin
        transport.disconnect()
        await transport.wait_disconnected()
        return took_s

    assert 0.4 < asyncio.run(run()) < 1.5


def test_a_file_that_is_no_recording_is_refused(start, tmp_path: Path):
    path = tmp_path / "other.txt"
    path.write_text("hello\n")
    with pytest.raises(Exception, match="did not start: exit status 2"):
        start(playback=[path])


REAL = {
    "spot": (["spot_btcusdt_20240808.gz", "spot_btcusdt_20240809.gz"], "/stream", 99_573),
    "usdm": (["usdm_btcusdt_20240808.gz"], "/public/stream", 72_640),
}


@pytest.mark.parametrize("product", sorted(REAL))
def test_real_recording_is_sent_whole(start, real_data: Path, product: str):
    # The public recordings, flat out: what arrives equals the lines of the files byte for byte.
    names, url, count = REAL[product]
    paths = [real_data / "binance" / "hftbacktest" / name for name in names]
    simulator = start("--product", product, "--speed", "0", playback=paths)
    streams = ["btcusdt@depth@100ms", "btcusdt@trade", "btcusdt@bookTicker"]
    book = "/api/v3/depth?symbol=BTCUSDT&limit=5000"
    if product == "usdm":
        streams = ["btcusdt@depth@0ms", "btcusdt@bookTicker"]
        book = "/fapi/v1/depth?symbol=BTCUSDT&limit=1000"
    got, answer = asyncio.run(play(simulator, f"{url}?streams={'/'.join(streams)}", book))
    wanted = [
        line.split(b" ", 1)[1].strip()
        for path in paths
        for line in gzip.decompress(path.read_bytes()).splitlines()
        if any(b'{"stream":"%b"' % name.encode() in line[:60] for name in streams)
    ]
    assert len(got) == len(wanted) == count
    assert got == wanted
    assert answer["lastUpdateId"] in (50093239218, 5123107852948)


def test_captures_with_their_own_answers(start, real_data: Path):
    # The other form: streams, books and exchangeInfo in three files, four symbols.
    folder = real_data / "binance" / "cryptofeed"
    paths = [folder / name for name in ("BINANCE.ws.1.0.gz", "BINANCE.http.0.0.gz", "BINANCE.0.gz")]
    simulator = start("--speed", "0", playback=paths)
    symbols = ["nknusdt", "blzeth", "lrcbtc", "runeeur"]
    names = [f"{s}@{kind}" for s in symbols for kind in ("aggTrade", "bookTicker", "kline_1m")]
    got, _ = asyncio.run(play(simulator, f"/stream?streams={'/'.join(names)}"))
    assert len(got) == 84 + 2 + 2
    for symbol in symbols:
        book = ask(f"{simulator.rest_url}/api/v3/depth?symbol={symbol.upper()}&limit=1000")
        assert book["lastUpdateId"] > 0
    info = ask(simulator.rest_url + "/api/v3/exchangeInfo?symbol=LRCBTC")
    assert info["symbols"][0]["filters"]
