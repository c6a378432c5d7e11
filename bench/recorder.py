"""One recorder process on a real loopback WebSocket: how fast, how soon, and is all there.

Sketch: a message of the mix has 334 bytes, so 200 k/s are 67 MB/s: far below loopback (1 to 3 GB/s)
and below the disk (0.7 to 1.6 GB/s, written twice over as raw frames and records). At 5 us a
message for everything, one core is full; the decoder takes a fifth of a us of that.

The source is another process, with frames encoded before it starts: as fast as the recorder reads
(throughput), or one by one at a rate (latency). The bare echo beside it tells what the machine
itself does to a message: eight bytes there and back over loopback, at the same rate.
"""

import argparse
import asyncio
import base64
import hashlib
import json
import multiprocessing
import random
import resource
import shutil
import socket
import struct
import sys
import tempfile
import threading
import time
from multiprocessing.connection import Connection as Pipe
from typing import Any

from tapeworks.feeds.binance import BinanceConfig
from tapeworks.feeds.session import record

COINS = ("BTC", "ETH", "SOL", "BNB", "XRP", "DOGE", "ADA", "AVAX", "LINK", "DOT")
SYMBOLS = tuple(f"{coin}USDT" for coin in COINS)
CHANNELS = ("bookTicker", "aggTrade", "trade", "depth")
_ACCEPT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_BOOK = (
    b'{"stream":"%b@bookTicker","data":{"u":%d,"s":"%b","b":"67000.01000000","B":"1.23456000",'
    b'"a":"67000.02000000","A":"2.34567000"}}'
)
_AGG = (
    b'{"stream":"%b@aggTrade","data":{"e":"aggTrade","E":%d,"s":"%b","a":%d,"p":"67000.01000000",'
    b'"q":"0.01230000","f":%d,"l":%d,"T":%d,"m":true,"M":true}}'
)
_TRADE = (
    b'{"stream":"%b@trade","data":{"e":"trade","E":%d,"s":"%b","t":%d,"p":"67000.01000000",'
    b'"q":"0.01230000","T":%d,"m":false,"M":true}}'
)
_DEPTH = (
    b'{"stream":"%b@depth@100ms","data":{"e":"depthUpdate","E":%d,"s":"%b","U":%d,"u":%d,'
    b'"b":[%b],"a":[%b]}}'
)


def frame(payload: bytes) -> bytes:
    """Returns `payload` as one unmasked text frame."""
    if len(payload) < 126:
        return struct.pack("!BB", 0x81, len(payload)) + payload
    return struct.pack("!BBH", 0x81, 126, len(payload)) + payload


def messages(count: int, seed: int = 7) -> list[bytes]:
    """Returns frames of the mix: 55 % bookTicker, 15 % aggTrade, 10 % trade, 20 % depthUpdate."""
    chance = random.Random(seed)
    levels = [
        b",".join(
            b'["%d.%02d","1.%03d"]'
            % (67000 + chance.randrange(99), chance.randrange(100), chance.randrange(999))
            for _ in range(chance.randrange(8, 43))
        )
        for _ in range(64)
    ]
    ids = {symbol: [1, 1, 1000, 1000] for symbol in SYMBOLS}
    made = []
    for number in range(count):
        symbol = SYMBOLS[min(int(chance.expovariate(0.5)), len(SYMBOLS) - 1)]
        low, up, at = symbol.lower().encode(), symbol.encode(), ids[symbol]
        ts = 1_717_761_600_000_000 + number * 5
        kind = chance.random()
        if kind < 0.55:
            at[3] += 1
            payload = _BOOK % (low, at[3], up)
        elif kind < 0.70:
            at[1] += 1
            payload = _AGG % (low, ts, up, at[1], at[1], at[1], ts)
        elif kind < 0.80:
            at[0] += 1
            payload = _TRADE % (low, ts, up, at[0], ts)
        else:
            first, at[2] = at[2] + 1, at[2] + 7
            bids, asks = chance.choice(levels), chance.choice(levels)
            payload = _DEPTH % (low, ts, up, first, at[2], bids, asks)
        made.append(frame(payload))
    return made


def read_exactly(sock: socket.socket, count: int) -> bytes:
    """Returns `count` bytes."""
    data = b""
    while len(data) < count:
        part = sock.recv(count - len(data))
        if not part:
            raise ConnectionError("the recorder left")
        data += part
    return data


def read_frame(sock: socket.socket) -> bytes:
    """Returns the payload of the next masked frame."""
    length = read_exactly(sock, 2)[1] & 127
    if length == 126:
        length = struct.unpack("!H", read_exactly(sock, 2))[0]
    mask = read_exactly(sock, 4)
    return bytes(byte ^ mask[i & 3] for i, byte in enumerate(read_exactly(sock, length)))


def handshake(sock: socket.socket) -> None:
    """Upgrades to WebSocket, and answers subscriptions until they were verified."""
    head = b""
    while b"\r\n\r\n" not in head:
        head += sock.recv(4096)
    lines = head.split(b"\r\n")
    keys = [line for line in lines if line.lower().startswith(b"sec-websocket-key:")]
    key = keys[0].split(b":", 1)[1].strip()
    accept = base64.b64encode(hashlib.sha1(key + _ACCEPT).digest())
    sock.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
    streams: list[str] = []
    while True:
        request = json.loads(read_frame(sock))
        listing = request["method"] == "LIST_SUBSCRIPTIONS"
        streams += request.get("params", [])
        answer = {"result": streams if listing else None, "id": request["id"]}
        sock.sendall(frame(json.dumps(answer).encode()))
        if listing:
            return


def drain(sock: socket.socket) -> None:
    """Reads what the recorder sends, and forgets it."""
    try:
        while sock.recv(65536):
            pass
    except OSError:
        return


def source(pipe: Pipe, count: int, rate: float) -> None:
    """Serves one recorder: all messages at once, or one by one at `rate` a second."""
    made = messages(count)
    server = socket.create_server(("127.0.0.1", 0))
    pipe.send((server.getsockname()[1], sum(map(len, made)) / count))
    sock, _ = server.accept()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    handshake(sock)
    threading.Thread(target=drain, args=(sock,), daemon=True).start()
    time.sleep(0.3)
    start = time.perf_counter()
    if rate:
        for number, message in enumerate(made):
            while time.perf_counter() < start + number / rate:
                pass
            sock.sendall(message)
    else:
        for at in range(0, count, 400):
            sock.sendall(b"".join(made[at : at + 400]))
    pipe.send(time.perf_counter() - start)
    pipe.recv()
    sock.close()


async def record_all(url: str, folder: str, pipe: Pipe) -> dict[str, Any]:
    """Records until the source has sent everything; returns the last status."""
    stop = asyncio.Event()
    config = BinanceConfig(
        symbols=SYMBOLS, channels=CHANNELS, ws_url=url, rest_url="off", idle_timeout_s=600.0
    )
    task = asyncio.create_task(record(config, folder, stop))
    sent_s = await asyncio.to_thread(pipe.recv)
    # What left the source is in the socket's buffers, and read within moments.
    await asyncio.sleep(0.5)
    stop.set()
    return {**await task, "sent_s": sent_s}


def run(count: int, rate: float) -> dict[str, Any]:
    """Records `count` messages from a source in a process of its own."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=source, args=(theirs, count, rate), daemon=True)
    child.start()
    port, mean = ours.recv()
    folder = tempfile.mkdtemp(prefix="bench-recorder-")
    before = resource.getrusage(resource.RUSAGE_SELF)
    try:
        status = asyncio.run(record_all(f"ws://127.0.0.1:{port}", folder, ours))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    ours.send("done")
    child.join(5)
    # Beside the messages, the recorder receives the answers to its two subscription requests.
    lost = count + 2 - status["frames"] + status["shed"] + status["dead_letters"]
    return {**status, "cpu_s": cpu_s, "mean_bytes": mean, "lost": lost}


def anonymous_mib() -> float:
    """Returns the memory of this process that is its own: without the tapes, which are files."""
    with open("/proc/self/status") as file:
        sizes = dict(line.split(":", 1) for line in file)
    return int(sizes["RssAnon"].split()[0]) / 1024


def echo_server(pipe: Pipe) -> None:
    """Sends back every byte."""
    server = socket.create_server(("127.0.0.1", 0))
    pipe.send(server.getsockname()[1])
    sock, _ = server.accept()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while data := sock.recv(4096):
        sock.sendall(data)


def echo(count: int, rate: float) -> list[float]:
    """Returns the times in us of `count` stamps, there and back, sent at `rate` a second.

    The next is sent on time whether or not the last came back, as a venue does: when the machine
    stops the other side for a while, all that was sent meanwhile is late, here as there.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=echo_server, args=(theirs,), daemon=True)
    child.start()
    times: list[float] = []
    data = b""
    with socket.create_connection(("127.0.0.1", ours.recv())) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        start = time.perf_counter()
        sent = 0
        while len(times) < count:
            if sent < count and time.perf_counter() >= start + sent / rate:
                sock.sendall(struct.pack("d", time.perf_counter()))
                sent += 1
            try:
                data += sock.recv(4096, socket.MSG_DONTWAIT)
            except BlockingIOError:
                continue
            whole = len(data) // 8 * 8
            now = time.perf_counter()
            times += [(now - stamp) * 1e6 for (stamp,) in struct.iter_unpack("d", data[:whole])]
            data = data[whole:]
    child.join(5)
    return sorted(times)


def main() -> int:
    """Prints the figures; fails if a message is missing."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--rate", type=float, default=20_000)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--scale", type=float, default=1, help="of messages and seconds")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    options.messages = max(5_000, int(options.messages * options.scale))
    options.seconds = max(0.2, options.seconds * options.scale)
    before = anonymous_mib()
    fast = run(options.messages, 0)
    grown = anonymous_mib() - before
    slow = run(int(options.rate * options.seconds), options.rate)
    times = echo(int(options.rate * options.seconds), options.rate)
    p99_us, echo_p99_us = slow["latency_ns"]["p99"] / 1000, times[len(times) * 99 // 100]
    figures = {
        "recorder_messages_per_s": round(options.messages / fast["sent_s"]),
        "recorder_messages_per_cpu_s": round(options.messages / fast["cpu_s"]),
        "recorder_lost": fast["lost"] + slow["lost"],
        "recorder_anonymous_mib": round(grown, 1),
        "recorder_gaps": fast["gaps"] + slow["gaps"],
        "recorder_records": fast["records"],
        "recorder_mean_bytes": round(fast["mean_bytes"]),
        "read_to_published_p50_us": slow["latency_ns"]["p50"] / 1000,
        "read_to_published_p99_us": p99_us,
        "echo_p50_us": round(times[len(times) // 2], 1),
        "echo_p99_us": round(echo_p99_us, 1),
        "p99_over_echo": round(p99_us / echo_p99_us, 2),
    }
    if options.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:30} {value}")
    return 1 if figures["recorder_lost"] else 0


if __name__ == "__main__":
    sys.exit(main())
