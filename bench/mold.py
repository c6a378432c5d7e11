"""One recorder process on two loopback lines of MoldUDP64 that lose packets: is all there?

Sketch: a message of the simulated day has 29 bytes, 44 of them fill a packet of 1,472 bytes; at
500 k/s two lines are 23,000 packets and 33 MB a second, all of it written as it came, beside 500 k
records of 128 bytes. At 2 us a message for everything, one core is full.

The source is another process, with packets made before it starts: at a rate, since a line of UDP
waits for nobody. It answers requests for what both lines lost. Every order that is open at the end
is compared with those of the market that sent them.
"""

import argparse
import asyncio
import json
import multiprocessing
import resource
import select
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection as Pipe
from typing import Any

import tapeworks as tw
from tapeworks._core import Ingest, ItchMarket, mold_packets
from tapeworks.feeds.itch.config import ItchConfig
from tapeworks.feeds.itch.connection import dropped_by_system
from tapeworks.feeds.itch.session import ItchFeed
from tapeworks.feeds.session import Session
from tapeworks.new_york import day_at, midnight_of
from tapeworks.simulators.itch.config import LineFaults
from tapeworks.simulators.itch.market import oracle_of, stock_names
from tapeworks.simulators.itch.requests import SentPackets
from tapeworks.simulators.itch.sender import Lines, SendingLine

SESSION, STOCKS, PACKET_BYTES = "SIM0000001", 8, 1472
HEAL_S = 20.0


def source(pipe: Pipe, count: int, rate: float, drop: float, both: float) -> None:
    """Sends a day on two lines: of one `drop` of the packets is lost, of the other `both`."""
    market = ItchMarket(stock_names(STOCKS), 7, count)
    midnight, packets = midnight_of(day_at(time.time_ns())), list[tuple[int, int, bytes]]()
    while not market.is_over:
        first = market.sent + 1
        blocks, _ = market.take(5_000, time.time_ns() - midnight)
        packets += mold_packets(blocks, SESSION.encode(), first, PACKET_BYTES)
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))
    server.setblocking(False)
    pipe.send((server.getsockname()[1], oracle_of(market)["orders"]))
    ports = pipe.recv()
    faults = (LineFaults(drop), LineFaults(both))
    lines = Lines(
        SESSION,
        [
            SendingLine(("127.0.0.1", port), one, f"bench/{number}")
            for number, (port, one) in enumerate(zip(ports, faults, strict=True))
        ],
    )
    kept = SentPackets(SESSION.encode(), count + 1)
    kept.add(packets)
    start = time.perf_counter()
    for at, packet in enumerate(packets):
        while time.perf_counter() < start + packet[0] / rate:
            time.sleep(0)
        lines.send([packet])
        if not at % 16:
            answer_requests(server, kept)
    sent_s = time.perf_counter() - start
    for _ in range(20):
        lines.heartbeat()
    pipe.send((sent_s, [line.report() for line in lines.lines]))
    while not pipe.poll():
        select.select([server], [], [], 0.01)
        answer_requests(server, kept)


def answer_requests(server: socket.socket, kept: SentPackets) -> None:
    """Answers what waits."""
    while True:
        try:
            request, address = server.recvfrom(2048)
        except BlockingIOError:
            return
        if (answer := kept.answer(request, PACKET_BYTES)) is not None:
            server.sendto(answer, address)


def free_port() -> int:
    """Returns a port that nobody has."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


async def until(is_so: Callable[[], bool], seconds: float) -> None:
    """Waits until something is so, or for so long."""
    ends = time.perf_counter() + seconds
    for _ in iter(lambda: not is_so() and time.perf_counter() < ends, False):
        await asyncio.sleep(0.005)


async def record_all(folder: str, pipe: Pipe, server: int, count: int) -> dict[str, Any]:
    """Records until nothing is missing any more; returns the last status."""
    ports = [free_port(), free_port()]
    config = ItchConfig(
        lines=tuple(f"127.0.0.1:{port}" for port in ports),
        requests=(f"127.0.0.1:{server}",),
        hold_ms=60_000,
    )
    feed, stop = ItchFeed(config), asyncio.Event()
    ingest = Ingest(folder, config.name, feed.native)
    session = Session(feed, ingest)
    task = asyncio.create_task(session.run(stop))
    await until(lambda: len(session.status()["connections"]) == 3, HEAL_S)
    pipe.send(ports)
    started = time.perf_counter()
    sent_s, lines = await asyncio.to_thread(pipe.recv)
    await until(lambda: feed.holes.state()[1:3] == (count + 1, 0), HEAL_S)
    _, end, missing, _, _ = feed.holes.state()
    took_s = time.perf_counter() - started
    dropped = sum(dropped_by_system(one._socket) for one in session._connections.values())
    stop.set()
    await task
    status = session.status()
    ingest.close()
    return {
        **status, "sent_s": sent_s, "took_s": took_s, "dropped": dropped, "lines": lines,
        "end": end, "missing": missing,
    }  # fmt: skip


def orders_that_differ(folder: str, expected: dict[str, list[list[Any]]]) -> int:
    """Returns how many orders are open in one of market and books alone, or differ."""
    lake, wrong = tw.open(folder), 0
    for symbol, orders in expected.items():
        book = lake.book(symbol, depth="orders")
        found = {
            (one.order_id, side, int(one.price * 10_000), int(one.size))
            for side in ("bid", "ask")
            for one in book.orders(side)
        }
        wrong += len(found ^ {tuple(one) for one in orders})
    return wrong


def run(count: int, rate: float) -> dict[str, Any]:
    """Records a day of `count` messages from a source in a process of its own."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=source, args=(theirs, count, rate, 0.01, 0.0005), daemon=True)
    child.start()
    server, expected = ours.recv()
    folder = tempfile.mkdtemp(prefix="bench-mold-")
    before = resource.getrusage(resource.RUSAGE_SELF)
    try:
        status = asyncio.run(record_all(folder, ours, server, count))
        after = resource.getrusage(resource.RUSAGE_SELF)
        wrong = orders_that_differ(folder, expected)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    ours.send("done")
    child.join(5)
    return {**status, "cpu_s": cpu_s, "wrong": wrong}


def main() -> int:
    """Prints the figures; fails if a message is missing."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--messages", type=int, default=3_000_000)
    parser.add_argument("--rate", type=float, default=520_000)
    parser.add_argument("--scale", type=float, default=1, help="of messages")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    count = max(20_000, int(options.messages * options.scale))
    found = run(count, options.rate)
    lost = count + 1 - found["end"] + found["missing"] + found["gaps"] + found["wrong"]
    figures = {
        "mold_messages_per_s": round(count / found["took_s"]),
        "mold_lost": lost + found["shed"] + found["dead_letters"],
        "mold_messages_per_cpu_s": round(count / found["cpu_s"]),
        "mold_packets_dropped": sum(line["dropped"] for line in found["lines"]),
        "mold_packets_dropped_by_system": found["dropped"],
        "mold_frames": found["frames"],
    }
    if options.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:30} {value}")
    return 1 if figures["mold_lost"] else 0


if __name__ == "__main__":
    sys.exit(main())
