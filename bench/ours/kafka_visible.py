"""From the tape to a reader of Kafka: how soon a record can be acted upon elsewhere.

Argument 1: how long, as a multiple of 20 s; 2: the sink's `delivery`. The broker is a real one on
this machine, the sink is `tape worker sink kafka`, the reader the client library alone.

Sketch: the sink wakes within 50 us, encodes a record in 1 us, the client waits 1 ms for more of its
partition, the broker writes and answers in 1 ms, and its reader, who waits, is answered in 1 ms.

Open loop: record N is written at N / rate, whether or not those before were seen, with the time in
it. All processes read the same clock.
"""

import ctypes
import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
from confluent_kafka import Consumer

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]

import market  # noqa: E402
from tests.services import SERVICES  # noqa: E402

from tapeworks import _core  # noqa: E402

RATE = 10_000
SECONDS = 20.0
WARM_S = 3.0
PR_SET_TIMERSLACK = 29
START = "from tapeworks.cli import main; main()"


def write(tape: Path, count: int, begin: Event, done: Event) -> None:
    """Writes `count` trades at the rate, each with the time at which it was due."""
    ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)
    rows = market.trades(count, seed=7)
    rows["trade_id"] = np.arange(count)
    with _core.TapeWriter(tape) as writer:
        writer.append(market.definitions().tobytes())
        writer.sync()
        begin.wait()
        start, due = time.time_ns(), np.arange(count) * (1_000_000_000 // RATE)
        rows["ts_recv"] = start + due
        content, width = rows.tobytes(), rows.dtype.itemsize
        for number in range(count):
            early = (start + int(due[number]) - time.time_ns()) / 1e9
            if early > 0:
                time.sleep(early)
            writer.append(content[number * width : (number + 1) * width])
        done.wait()


def read(servers: str, topic: str, count: int, begin: Event, seconds: float) -> list[float]:
    """Returns, in ms, how long after it was due each trade was seen, in their order."""
    settings = {"bootstrap.servers": servers, "group.id": "bench", "fetch.wait.max.ms": 100}
    consumer = Consumer(settings | {"auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    seen: list[tuple[int, bytes]] = []
    deadline = time.monotonic() + 60
    while not seen and time.monotonic() < deadline:
        # The definitions say that it reads.
        if (message := consumer.poll(0.1)) is not None and message.error() is None:
            seen.append((time.time_ns(), message.value()))
    begin.set()
    deadline = time.monotonic() + seconds + 120
    while len(seen) < count + len(market.definitions()) and time.monotonic() < deadline:
        message = consumer.poll(0.1)
        if message is not None and message.error() is None:
            seen.append((time.time_ns(), message.value()))
    consumer.close()
    times = []
    for at, value in seen:
        records, _, _ = _core.decode_messages([value])
        rows = np.frombuffer(records.numpy("trade"), _core.dtype_descr("trade"))
        times += [(at - int(ts)) / 1e6 for ts in rows["ts_recv"]]
    return times


def main() -> None:
    """Prints the percentiles, without the first seconds."""
    seconds, delivery = max(2.0, SECONDS * float(sys.argv[1])), sys.argv[2]
    warm = int(min(WARM_S, seconds / 4) * RATE)
    count = warm + int(seconds * RATE)
    context = multiprocessing.get_context("spawn")
    begin, done = context.Event(), context.Event()
    with tempfile.TemporaryDirectory() as name, SERVICES["kafka"]() as server:
        folder = Path(name)
        tape = folder / "data" / "tape" / market.SOURCE / market.TOPIC
        tape.mkdir(parents=True)
        servers = f"127.0.0.1:{server.port}"
        (folder / "tapeworks.toml").write_text(
            f'[feeds.{market.SOURCE}]\nsymbols = ["BTCUSDT"]\n'
            f'[sinks.kafka]\nservers = "{servers}"\nlinger_ms = 0.5\n'
            f'topics = ["{market.TOPIC}"]\ndelivery = "{delivery}"\nflush_seconds = 1.0\n'
        )
        writer = context.Process(target=write, args=(tape, count, begin, done), daemon=True)
        writer.start()
        words = [sys.executable, "-c", START, "worker", "sink", "kafka"]
        with (folder / "log").open("wb") as log:
            sink = subprocess.Popen(words, cwd=folder, stdout=log, stderr=log)
        try:
            times = read(servers, market.TOPIC, count, begin, seconds)
        finally:
            done.set()
            sink.terminate()
            sink.wait(30)
            writer.join(10)
    late = np.sort(np.array(times[warm:]))
    lost = count - len(times)
    figures = {f"p{part}_ms": round(float(np.percentile(late, part)), 2) for part in (50, 99)}
    print(json.dumps(figures | {"lost": lost}))
    sys.exit(1 if lost > 0 else 0)


if __name__ == "__main__":
    main()
